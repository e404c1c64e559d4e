"""The evidence bundle: all that a client needs to verify a service, in one document and without a call to the vendor.

It is a CMW collection in JSON (RFC 9999)::

    {"__cmwc_t": "urn:dokimos:bundle:v1", "cpu": [...], "statement": [...], "key_configs": [...],
     "endorsements": {"vek": [...], "ca/0": [...], "crl/0": [...]}}
"""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import MalformedEvidence
from . import cmw
from .cmw import Indicator, Kind
from .snp import REPORT_SIZE
from .statement import MAX_SIZE as MAX_STATEMENT

PROFILE = "urn:dokimos:bundle:v1"
"""Type of the collection."""
MEDIA_TYPE = cmw.MEDIA_TYPE
"""Media type under which a bundle travels."""
MAX_SIZE = 512 << 10
"""Bytes that a bundle may have."""
MAX_CAS = 4
"""CA certificates that a bundle may carry."""
MAX_CRLS = 4
"""Revocation lists that a bundle may carry."""

_CPU = Kind(cmw.SNP_REPORT, Indicator.EVIDENCE, REPORT_SIZE)
_STATEMENT = Kind(cmw.STATEMENT, Indicator.EVIDENCE, MAX_STATEMENT)
_KEY_CONFIGS = Kind(cmw.KEY_CONFIGS, Indicator.EVIDENCE, 32 << 10)
_VEK = Kind(cmw.CERTIFICATE, Indicator.ENDORSEMENTS, 8 << 10)
_CA = Kind(cmw.CERTIFICATE, Indicator.ENDORSEMENTS, 8 << 10)
_CRL = Kind(cmw.CRL, Indicator.ENDORSEMENTS, 32 << 10)
_LABELS = {cmw.COLLECTION_TYPE, "cpu", "statement", "key_configs", "endorsements"}


def _fail(message: str) -> MalformedEvidence:
    return MalformedEvidence(f"evidence bundle: {message}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """What a service hands out about itself; nothing in it is verified.

    Attributes:
        snp_report: the report, 1184 bytes.
        vek: the VCEK or VLEK certificate in DER.
        cas: CA certificates in DER, at most 4; they may be empty, since the verifier has its own anchors.
        crls: revocation lists in DER, at most 4.
        statement: the binding statement's exact bytes.
        key_configs: the exact ``application/ohttp-keys`` bytes.
    """

    snp_report: bytes
    vek: bytes
    cas: tuple[bytes, ...]
    crls: tuple[bytes, ...]
    statement: bytes
    key_configs: bytes


def _check(value: bytes, kind: Kind, name: str) -> None:
    if not 0 < len(value) <= kind.limit:
        raise _fail(f"{name} has {len(value)} bytes; 1 to {kind.limit} are allowed")


def encode_bundle(bundle: Bundle) -> bytes:
    """The bundle as ``application/cmw+json``, always the same bytes for the same content.

    Raises:
        MalformedEvidence: a part that :func:`parse_bundle` would refuse for its size or number.
    """
    if len(bundle.cas) > MAX_CAS or len(bundle.crls) > MAX_CRLS:
        raise _fail(f"more than {MAX_CAS} CA certificates or {MAX_CRLS} revocation lists")
    endorsements: dict[str, tuple[bytes, Kind]] = {"vek": (bundle.vek, _VEK)}
    endorsements |= {f"ca/{n}": (ca, _CA) for n, ca in enumerate(bundle.cas)}
    endorsements |= {f"crl/{n}": (crl, _CRL) for n, crl in enumerate(bundle.crls)}
    evidence = {
        "cpu": (bundle.snp_report, _CPU),
        "statement": (bundle.statement, _STATEMENT),
        "key_configs": (bundle.key_configs, _KEY_CONFIGS),
    }
    for name, (value, kind) in (evidence | endorsements).items():
        _check(value, kind, name)
    collection: dict[str, object] = {cmw.COLLECTION_TYPE: PROFILE}
    collection |= {name: cmw.encode_record(*pair) for name, pair in evidence.items()}
    collection["endorsements"] = {name: cmw.encode_record(*pair) for name, pair in endorsements.items()}
    return cmw.dump_collection(collection)


def _record(collection: dict[str, object], label: str, kind: Kind) -> bytes:
    if label not in collection:
        raise _fail(f"{label} is missing")
    value = cmw.decode_record(collection[label], kind, label)
    _check(value, kind, label)
    return value


def _numbered(collection: dict[str, object], prefix: str, kind: Kind, limit: int) -> tuple[bytes, ...]:
    """The records prefix/0, prefix/1, ... without a gap; others stay unread and are found by the caller's count."""
    found: list[bytes] = []
    while len(found) < limit and f"{prefix}/{len(found)}" in collection:
        found.append(_record(collection, f"{prefix}/{len(found)}", kind))
    return tuple(found)


def parse_bundle(data: bytes) -> Bundle:
    """Read a bundle; unknown labels are refused, since nobody would have looked at what they hold.

    Raises:
        MalformedEvidence: larger than 512 KiB, not such a collection, or a part missing, too large or of another type.
    """
    collection = cmw.load_collection(data, MAX_SIZE)
    if collection.get(cmw.COLLECTION_TYPE) != PROFILE:
        raise _fail(f"not a collection of type {PROFILE}")
    if collection.keys() != _LABELS:
        raise _fail(f"labels {', '.join(sorted(_LABELS))} wanted, others or not all of them found")
    endorsements = collection["endorsements"]
    if not isinstance(endorsements, dict):
        raise _fail("endorsements are not a collection")
    vek = _record(endorsements, "vek", _VEK)
    cas = _numbered(endorsements, "ca", _CA, MAX_CAS)
    crls = _numbered(endorsements, "crl", _CRL, MAX_CRLS)
    if len(endorsements) != 1 + len(cas) + len(crls):
        raise _fail("endorsements have an unknown label, a gap in their numbers, or too many parts")
    return Bundle(
        snp_report=_record(collection, "cpu", _CPU),
        vek=vek,
        cas=cas,
        crls=crls,
        statement=_record(collection, "statement", _STATEMENT),
        key_configs=_record(collection, "key_configs", _KEY_CONFIGS),
    )
