"""Conceptual message wrappers in JSON (RFC 9999): records, collections, and the type strings that dokimos uses.

A record is ``[type, base64url(value), indicator]``, a collection an object of labels and wrappers.  The reader is
stricter than the standard where a second way to say the same would only serve to confuse: base64url must be canonical,
a label must not occur twice, the indicator must be there.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from enum import IntFlag
from typing import NamedTuple, NoReturn

from ..errors import MalformedEvidence

MEDIA_TYPE = "application/cmw+json"
"""Media type of a collection in JSON."""
COLLECTION_TYPE = "__cmwc_t"
"""The reserved label that holds a collection's own type."""

# Type strings; none is registered for a raw SNP report or TDX quote, so ours are in the vendor tree.
SNP_REPORT = "application/vnd.dokimos.snp-report"
"""An SNP attestation report, 1184 bytes."""
TDX_QUOTE = "application/vnd.dokimos.tdx-quote"
"""A TDX quote of version 4 or 5."""
TDX_COLLATERAL = "application/vnd.dokimos.tdx-collateral+json"
"""Collateral of a TDX quote (``dokimos.tdx-collateral/v1``)."""
EVENT_LOG = "application/vnd.dokimos.ccel"
"""Data of the ACPI table CCEL, without its unused tail."""
GPU_EVIDENCE = "application/vnd.dokimos.gpu-evidence+json"
"""Evidence of NVIDIA devices in the form of nvattest: a JSON list."""
GPU_STATE = "application/vnd.dokimos.gpu-state+json"
"""What the guest says of its GPUs beside their reports."""
RIM = "application/vnd.dokimos.nvidia-rim+xml"
"""A reference integrity manifest of NVIDIA's: a signed SWID tag."""
OCSP_RESPONSE = "application/ocsp-response"
"""An OCSP response in DER (RFC 6960 appendix C.2)."""
STATEMENT = "application/vnd.dokimos.statement+cbor"
"""A binding statement."""
KEY_CONFIGS = "application/ohttp-keys"
"""Key configurations of an OHTTP gateway (RFC 9458 3.2)."""
CERTIFICATE = "application/pkix-cert"
"""One certificate in DER (RFC 2585)."""
CRL = "application/pkix-crl"
"""One certificate revocation list in DER (RFC 2585)."""

_BASE64URL = re.compile(r"[A-Za-z0-9_-]*")


class Indicator(IntFlag):
    """What a wrapped value is in the sense of RFC 9334 (RFC 9999, "ind")."""

    REFERENCE_VALUES = 1
    ENDORSEMENTS = 2
    EVIDENCE = 4
    ATTESTATION_RESULTS = 8
    POLICY = 16


class Kind(NamedTuple):
    """Which record may stand at a label: its type, its indicator, and how many bytes its value may have."""

    type: str
    indicator: Indicator
    limit: int


def encode_record(value: bytes, kind: Kind) -> list[object]:
    """The record of a value, ready for :func:`json.dumps`."""
    text = base64.urlsafe_b64encode(value).rstrip(b"=").decode()
    return [kind.type, text, int(kind.indicator)]


def decode_record(item: object, kind: Kind, label: str) -> bytes:
    """The value of a record, which must be of this kind.

    Raises:
        MalformedEvidence: not a record, another type or indicator, too large, or base64url that is not canonical.
    """
    if not isinstance(item, list) or len(item) != 3:
        raise MalformedEvidence(f"CMW {label}: not a record of type, value and indicator")
    media_type, text, indicator = item
    if media_type != kind.type:
        raise MalformedEvidence(f"CMW {label}: type {kind.type} wanted, {str(media_type)[:80]!r} found")
    if type(indicator) is not int or indicator != kind.indicator:
        raise MalformedEvidence(f"CMW {label}: indicator {int(kind.indicator)} wanted")
    # 4 characters for 3 bytes: bounded before anything is decoded.
    if not isinstance(text, str) or len(text) > (kind.limit * 4 + 2) // 3:
        raise MalformedEvidence(f"CMW {label}: not a string, or larger than {kind.limit} bytes")
    if not _BASE64URL.fullmatch(text) or len(text) % 4 == 1:
        raise MalformedEvidence(f"CMW {label}: not base64url without padding")
    try:
        value = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error as exc:  # not reached by what the pattern lets through
        raise MalformedEvidence(f"CMW {label}: broken base64url") from exc
    if base64.urlsafe_b64encode(value).rstrip(b"=").decode() != text:
        raise MalformedEvidence(f"CMW {label}: base64url whose unused bits are not zero")
    return value


def _no_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise MalformedEvidence("CMW: a label stands twice in one collection")
    return found


def _no_number(text: str) -> NoReturn:
    raise MalformedEvidence(f"CMW: {text[:32]} is a number that no wrapper holds")


def _indicator(text: str) -> int:
    # Bounded here: turning a number of many digits into an integer takes quadratic time.
    if len(text) > 10:
        _no_number(text)
    return int(text)


def load_collection(data: bytes, limit: int) -> dict[str, object]:
    """The labels of a JSON collection.

    Args:
        data: the document, UTF-8.
        limit: bytes that it may have.

    Raises:
        MalformedEvidence: too large, not JSON, not an object, or a label twice anywhere.
    """
    if len(data) > limit:
        raise MalformedEvidence(f"CMW: larger than {limit} bytes")
    try:
        found = json.loads(
            bytes(data).decode(),
            object_pairs_hook=_no_duplicates,
            parse_float=_no_number,
            parse_int=_indicator,
            parse_constant=_no_number,
        )
    except (ValueError, RecursionError) as exc:
        raise MalformedEvidence("CMW: not a JSON document in UTF-8, or nested too deeply") from exc
    if not isinstance(found, dict):
        raise MalformedEvidence("CMW: not a collection")
    return found


def dump_collection(collection: dict[str, object]) -> bytes:
    """The JSON document of a collection, always the same bytes for the same order of labels."""
    return json.dumps(collection, separators=(",", ":")).encode()
