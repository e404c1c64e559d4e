"""The evidence bundle: all that a client needs to verify a service, in one document and without a call to the vendor.

It is a CMW collection in JSON (RFC 9999).  The type of the record "cpu" says which TEE it is; nothing is guessed::

    {"__cmwc_t": "urn:dokimos:bundle:v1", "cpu": [...], "statement": [...], "key_configs": [...],
     "endorsements": {"vek": [...], "ca/0": [...], "crl/0": [...]}}           an SNP report
     "endorsements": {"collateral": [...]}, "event_log": [...]}               a TDX quote, with or without its event log

A machine with GPUs has "gpu" and "gpu_state" beside these, and "rim/0", "gpu_crl/0", "ocsp/0", ... among the
endorsements.
"""

from __future__ import annotations

from dataclasses import dataclass

from . import cmw
from .bundle_records import Parts, check_size, fail, numbered, record
from .cmw import Indicator, Kind
from .gpu_part import GpuPart, gpu_records, read_gpu_part
from .snp import REPORT_SIZE
from .statement import MAX_SIZE as MAX_STATEMENT
from .tdx import QUOTE_MAX

PROFILE = "urn:dokimos:bundle:v1"
"""Type of the collection."""
MEDIA_TYPE = cmw.MEDIA_TYPE
"""Media type under which a bundle travels."""
MAX_SIZE = 1 << 20
"""Bytes that a bundle may have."""
MAX_CAS = 4
"""CA certificates that a bundle may carry."""
MAX_CRLS = 4
"""Revocation lists that a bundle may carry."""
MAX_EVENT_LOG = 128 << 10
"""Bytes that the event log of a TD may have."""
MAX_COLLATERAL = 256 << 10
"""Bytes that the collateral of a TD may have."""

_SNP = Kind(cmw.SNP_REPORT, Indicator.EVIDENCE, REPORT_SIZE)
_TDX = Kind(cmw.TDX_QUOTE, Indicator.EVIDENCE, QUOTE_MAX)
_EVENT_LOG = Kind(cmw.EVENT_LOG, Indicator.EVIDENCE, MAX_EVENT_LOG)
_STATEMENT = Kind(cmw.STATEMENT, Indicator.EVIDENCE, MAX_STATEMENT)
_KEY_CONFIGS = Kind(cmw.KEY_CONFIGS, Indicator.EVIDENCE, 32 << 10)
_VEK = Kind(cmw.CERTIFICATE, Indicator.ENDORSEMENTS, 8 << 10)
_CA = Kind(cmw.CERTIFICATE, Indicator.ENDORSEMENTS, 8 << 10)
_CRL = Kind(cmw.CRL, Indicator.ENDORSEMENTS, 32 << 10)
_COLLATERAL = Kind(cmw.TDX_COLLATERAL, Indicator.ENDORSEMENTS, MAX_COLLATERAL)
_LABELS = {cmw.COLLECTION_TYPE, "cpu", "statement", "key_configs", "endorsements"}


@dataclass(frozen=True, slots=True, kw_only=True)
class SnpEvidence:
    """An SNP report with what vouches for its key.

    Attributes:
        report: the report, 1184 bytes.
        vek: the VCEK or VLEK certificate in DER.
        cas: CA certificates in DER, at most 4; they may be empty, since the verifier has its own anchors.
        crls: revocation lists in DER, at most 4.
    """

    report: bytes
    vek: bytes
    cas: tuple[bytes, ...] = ()
    crls: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TdxEvidence:
    """A TDX quote with what vouches for its platform.

    Attributes:
        quote: the quote.
        collateral: its collateral, as :mod:`dokimos.endorsements.collateral_bundle` writes it; None where the machine
            has none to hand out, as a TD that reaches nobody, and the client has to have its own.
        event_log: the event log that explains its RTMRs, or None.
    """

    quote: bytes
    collateral: bytes | None
    event_log: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """What a service hands out about itself; nothing in it is verified.

    Attributes:
        cpu: evidence of the processor.
        gpu: evidence of the GPUs, or None where the machine shows none.
        statement: the binding statement's exact bytes.
        key_configs: the exact ``application/ohttp-keys`` bytes.
    """

    cpu: SnpEvidence | TdxEvidence
    statement: bytes
    key_configs: bytes
    gpu: GpuPart | None = None


def _snp_parts(cpu: SnpEvidence) -> tuple[Parts, Parts]:
    if len(cpu.cas) > MAX_CAS or len(cpu.crls) > MAX_CRLS:
        raise fail(f"more than {MAX_CAS} CA certificates or {MAX_CRLS} revocation lists")
    endorsements: Parts = {"vek": (cpu.vek, _VEK)}
    endorsements |= {f"ca/{n}": (ca, _CA) for n, ca in enumerate(cpu.cas)}
    endorsements |= {f"crl/{n}": (crl, _CRL) for n, crl in enumerate(cpu.crls)}
    return {"cpu": (cpu.report, _SNP)}, endorsements


def _tdx_parts(cpu: TdxEvidence) -> tuple[Parts, Parts]:
    evidence: Parts = {"cpu": (cpu.quote, _TDX)}
    if cpu.event_log is not None:
        evidence["event_log"] = (cpu.event_log, _EVENT_LOG)
    return evidence, {} if cpu.collateral is None else {"collateral": (cpu.collateral, _COLLATERAL)}


def encode_bundle(bundle: Bundle) -> bytes:
    """The bundle as ``application/cmw+json``, always the same bytes for the same content.

    Raises:
        MalformedEvidence: a part that :func:`parse_bundle` would refuse for its size or number.
    """
    cpu = bundle.cpu
    parts, endorsements = _snp_parts(cpu) if isinstance(cpu, SnpEvidence) else _tdx_parts(cpu)
    evidence = {"cpu": parts.pop("cpu"), "statement": (bundle.statement, _STATEMENT)}
    evidence |= {"key_configs": (bundle.key_configs, _KEY_CONFIGS), **parts}
    if bundle.gpu is not None:
        of_gpu = gpu_records(bundle.gpu)
        evidence |= of_gpu[0]
        endorsements |= of_gpu[1]
    for name, (value, kind) in (evidence | endorsements).items():
        check_size(value, kind, name)
    collection: dict[str, object] = {cmw.COLLECTION_TYPE: PROFILE}
    collection |= {name: cmw.encode_record(*pair) for name, pair in evidence.items()}
    collection["endorsements"] = {name: cmw.encode_record(*pair) for name, pair in endorsements.items()}
    return cmw.dump_collection(collection)


def parse_bundle(data: bytes) -> Bundle:
    """Read a bundle; unknown labels are refused, since nobody would have looked at what they hold.

    Raises:
        MalformedEvidence: larger than 1 MiB, not such a collection, or a part missing, too large or of another type.
    """
    collection = cmw.load_collection(data, MAX_SIZE)
    if collection.get(cmw.COLLECTION_TYPE) != PROFILE:
        raise fail(f"not a collection of type {PROFILE}")
    endorsements = collection.get("endorsements")
    if not isinstance(endorsements, dict):
        raise fail("endorsements are missing, or not a collection")
    tdx = _type_of(collection.get("cpu")) == _TDX.type
    optional = {"event_log"} if tdx else set()
    if "gpu" in collection:
        optional |= {"gpu", "gpu_state"}
    if collection.keys() != _LABELS | (optional & collection.keys()):
        raise fail(f"labels {', '.join(sorted(_LABELS))} wanted, others or not all of them found")
    gpu = read_gpu_part(collection, endorsements) if "gpu" in collection else None
    return Bundle(
        cpu=_tdx_evidence(collection, endorsements) if tdx else _snp_evidence(collection, endorsements),
        statement=record(collection, "statement", _STATEMENT),
        key_configs=record(collection, "key_configs", _KEY_CONFIGS),
        gpu=gpu,
    )


def _type_of(record: object) -> object:
    return record[0] if isinstance(record, list) and record else None


def _snp_evidence(collection: dict[str, object], endorsements: dict[str, object]) -> SnpEvidence:
    vek = record(endorsements, "vek", _VEK)
    cas = numbered(endorsements, "ca", _CA, MAX_CAS)
    crls = numbered(endorsements, "crl", _CRL, MAX_CRLS)
    if len(endorsements) != 1 + len(cas) + len(crls):
        raise fail("endorsements have an unknown label, a gap in their numbers, or too many parts")
    return SnpEvidence(report=record(collection, "cpu", _SNP), vek=vek, cas=cas, crls=crls)


def _tdx_evidence(collection: dict[str, object], endorsements: dict[str, object]) -> TdxEvidence:
    if endorsements.keys() - {"collateral"}:
        raise fail("endorsements of a TDX quote are its collateral, or none")
    return TdxEvidence(
        quote=record(collection, "cpu", _TDX),
        collateral=record(endorsements, "collateral", _COLLATERAL) if endorsements else None,
        event_log=record(collection, "event_log", _EVENT_LOG) if "event_log" in collection else None,
    )
