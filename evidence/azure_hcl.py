"""The HCL report of an Azure confidential VM, read from vTPM NV index 0x01400001.

It wraps an SNP report, or the TDREPORT of a TD, whose report data is the hash of the runtime data (JSON) behind it.
The runtime data holds the key of the vTPM's quotes: :mod:`.tpm_quote`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from ..codec import Reader
from ..errors import MalformedEvidence, UnsupportedEvidence
from .snp import REPORT_SIZE

MAX_SIZE = 1 << 16
"""Largest HCL report in bytes that is read; real ones are 2600."""

_AK = "HCLAkPub"
_HASHES = {1: "sha256", 2: "sha384", 3: "sha512"}


class HclReportType(IntEnum):
    """Which hardware report an HCL report wraps."""

    SNP = 2
    TDX = 4


class RsaKey(NamedTuple):
    """An RSA key: its modulus and its public exponent."""

    n: int
    e: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HclReport:
    """An HCL report as received.

    Attributes:
        version: of the HCL header, 1 or 2.
        type: which hardware report it wraps.
        report: that report, not yet parsed: an SNP report of 1184 bytes, or a TDREPORT with zeros behind it.  A
            TDREPORT is signed by nobody; the quote made of it carries the same report data.
        hash_name: name of the hash that binds the runtime data, as hashlib knows it.
        runtime_data: the exact bytes that are hashed.
    """

    version: int
    type: HclReportType
    report: bytes
    hash_name: str
    runtime_data: bytes

    def expected_report_data(self) -> bytes:
        """The 64 bytes that REPORT_DATA must be: the hash of the runtime data, then zeros."""
        return hashlib.new(self.hash_name, self.runtime_data).digest().ljust(64, b"\0")

    def attestation_key(self) -> RsaKey:
        """The vTPM's attestation key, as the runtime data names it.

        Raises:
            MalformedEvidence: it names none, or several.
        """
        try:
            document = json.loads(self.runtime_data)
            keys = [key for key in document["keys"] if key["kid"] == _AK and key["kty"] == "RSA"]
            if len(keys) != 1:
                raise MalformedEvidence(f"HCL runtime data: {len(keys)} keys {_AK}, 1 is wanted")
            return RsaKey(_number(keys[0]["n"]), _number(keys[0]["e"]))
        except (ValueError, TypeError, KeyError, RecursionError, binascii.Error) as exc:
            raise MalformedEvidence(f"HCL runtime data: no key {_AK}") from exc


def _number(text: str) -> int:
    """An unsigned integer in base64url (RFC 7518 2)."""
    return int.from_bytes(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)), "big")


def parse_hcl_report(data: bytes) -> HclReport:
    """Read an HCL report.

    Raises:
        MalformedEvidence: not of that form.
        UnsupportedEvidence: an unknown version, a report that is neither SEV-SNP's nor a TD's, or an unknown hash.
    """
    if len(data) > MAX_SIZE:
        raise MalformedEvidence(f"HCL report: larger than {MAX_SIZE} bytes")
    reader = Reader(data, "HCL report")
    if reader.take(4) != b"HCLA":
        raise reader.fail("the signature HCLA is missing")
    version = reader.u32()
    if version not in (1, 2):
        raise UnsupportedEvidence(f"HCL report version {version}; 1 and 2 are supported")
    size = reader.u32()
    if reader.u32() != 2:
        raise UnsupportedEvidence("HCL report: not of request type 2")
    reader.take(16)  # reserved
    if size > len(data) or size < REPORT_SIZE:
        raise reader.fail(f"a report size of {size} bytes")
    report = reader.take(REPORT_SIZE)
    reader.take(4)  # size of what follows; the variable length below is the one that is hashed
    reader.take(4)  # its version
    report_type, hash_type, length = reader.u32(), reader.u32(), reader.u32()
    if report_type not in set(HclReportType):
        raise UnsupportedEvidence(f"HCL report: report type {report_type} is neither SEV-SNP (2) nor TDX (4)")
    if hash_type not in _HASHES:
        raise UnsupportedEvidence(f"HCL report: hash type {hash_type} is unknown")
    return HclReport(
        version=version,
        type=HclReportType(report_type),
        report=report,
        hash_name=_HASHES[hash_type],
        runtime_data=reader.take(length),
    )
