"""The HCL report of an Azure confidential VM, read from vTPM NV index 0x01400001.

It wraps an SNP report whose REPORT_DATA is the hash of the runtime data (JSON) behind it.  The vTPM's quote, which the
runtime data holds the key of, is another matter and not looked at here.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from ..codec import Reader
from ..errors import MalformedEvidence, UnsupportedEvidence
from .snp import REPORT_SIZE

MAX_SIZE = 1 << 16
"""Largest HCL report in bytes that is read; real ones are 2600."""

_REPORT_TYPE_SNP = 2
_HASHES = {1: "sha256", 2: "sha384", 3: "sha512"}


@dataclass(frozen=True, slots=True, kw_only=True)
class HclReport:
    """An HCL report as received.

    Attributes:
        version: of the HCL header, 1 or 2.
        report: the SNP report, 1184 bytes, not yet parsed.
        hash_name: name of the hash that binds the runtime data, as hashlib knows it.
        runtime_data: the exact bytes that are hashed.
    """

    version: int
    report: bytes
    hash_name: str
    runtime_data: bytes

    def expected_report_data(self) -> bytes:
        """The 64 bytes that REPORT_DATA must be: the hash of the runtime data, then zeros."""
        return hashlib.new(self.hash_name, self.runtime_data).digest().ljust(64, b"\0")


def parse_hcl_report(data: bytes) -> HclReport:
    """Read an HCL report.

    Raises:
        MalformedEvidence: not of that form.
        UnsupportedEvidence: an unknown version, a report that is not SEV-SNP's, or an unknown hash.
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
    if report_type != _REPORT_TYPE_SNP:
        raise UnsupportedEvidence(f"HCL report: report type {report_type} is not SEV-SNP")
    if hash_type not in _HASHES:
        raise UnsupportedEvidence(f"HCL report: hash type {hash_type} is unknown")
    return HclReport(version=version, report=report, hash_name=_HASHES[hash_type], runtime_data=reader.take(length))
