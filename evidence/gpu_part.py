"""The GPUs' part of an evidence bundle: all devices, what the guest says beside them, and what vouches for them.

It also stands by itself, as a simulated machine hands it to its guest: a CMW collection with the same records.
"""

from __future__ import annotations

from dataclasses import dataclass

from . import cmw
from .bundle_records import Parts, check_size, fail, numbered, record
from .cmw import Indicator, Kind
from .gpu_evidence import STATE_MAX, GpuEvidence, GuestState, encode_gpu_evidence, parse_gpu_evidence, parse_guest_state

PROFILE = "urn:dokimos:gpu:v1"
"""Type of a collection that holds this part alone."""
MAX_SIZE = 1 << 20
"""Bytes that such a collection may have."""
MAX_RIMS = 16
"""Reference integrity manifests of one machine."""
MAX_CRLS = 8
"""Revocation lists of one machine."""
MAX_OCSP = 64
"""OCSP responses of one machine."""

_GPU = Kind(cmw.GPU_EVIDENCE, Indicator.EVIDENCE, 512 << 10)
_GPU_STATE = Kind(cmw.GPU_STATE, Indicator.EVIDENCE, STATE_MAX)
_RIM = Kind(cmw.RIM, Indicator.REFERENCE_VALUES, 128 << 10)
_CRL = Kind(cmw.CRL, Indicator.ENDORSEMENTS, 32 << 10)
_OCSP = Kind(cmw.OCSP_RESPONSE, Indicator.ENDORSEMENTS, 8 << 10)
_ENDORSEMENTS = (("rim", _RIM, MAX_RIMS), ("gpu_crl", _CRL, MAX_CRLS), ("ocsp", _OCSP, MAX_OCSP))


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuPart:
    """Evidence of all GPUs and switches of a machine, with what vouches for them.

    Attributes:
        devices: all of them, 1 to 64.
        state: what the guest says beside the reports, or None.
        rims: reference integrity manifests, at most 16.
        crls: revocation lists in DER, at most 8.
        ocsp: stored OCSP responses in DER, at most 64.
    """

    devices: tuple[GpuEvidence, ...]
    state: GuestState | None = None
    rims: tuple[bytes, ...] = ()
    crls: tuple[bytes, ...] = ()
    ocsp: tuple[bytes, ...] = ()


def gpu_records(gpu: GpuPart) -> tuple[Parts, Parts]:
    """The records of evidence and of endorsements.

    Raises:
        MalformedEvidence: more of one kind than may be.
    """
    evidence: Parts = {"gpu": (encode_gpu_evidence(gpu.devices), _GPU)}
    if gpu.state is not None:
        evidence["gpu_state"] = (gpu.state.to_json(), _GPU_STATE)
    endorsements: Parts = {}
    for (label, kind, limit), found in zip(_ENDORSEMENTS, (gpu.rims, gpu.crls, gpu.ocsp), strict=True):
        if len(found) > limit:
            raise fail(f"more than {limit} parts {label}")
        endorsements |= {f"{label}/{n}": (value, kind) for n, value in enumerate(found)}
    return evidence, endorsements


def read_gpu_part(collection: dict[str, object], endorsements: dict[str, object]) -> GpuPart:
    """The GPUs' part; its endorsements are taken out, so that the processor's reader finds only its own.

    Raises:
        MalformedEvidence: a part is missing, too large, or of another form.
        UnsupportedEvidence: a device of an architecture that is not supported.
    """
    found = []
    for label, kind, limit in _ENDORSEMENTS:
        values = numbered(endorsements, label, kind, limit)
        for number in range(len(values)):
            del endorsements[f"{label}/{number}"]
        found.append(values)
    state = record(collection, "gpu_state", _GPU_STATE) if "gpu_state" in collection else None
    return GpuPart(
        devices=parse_gpu_evidence(record(collection, "gpu", _GPU)),
        state=None if state is None else parse_guest_state(state),
        rims=found[0],
        crls=found[1],
        ocsp=found[2],
    )


def encode_gpu_part(part: GpuPart) -> bytes:
    """The part by itself, always the same bytes for the same content.

    Raises:
        MalformedEvidence: a part that :func:`parse_gpu_part` would refuse for its size or number.
    """
    evidence, endorsements = gpu_records(part)
    for name, (value, kind) in (evidence | endorsements).items():
        check_size(value, kind, name)
    collection: dict[str, object] = {cmw.COLLECTION_TYPE: PROFILE}
    collection |= {name: cmw.encode_record(*pair) for name, pair in evidence.items()}
    collection["endorsements"] = {name: cmw.encode_record(*pair) for name, pair in endorsements.items()}
    return cmw.dump_collection(collection)


def parse_gpu_part(data: bytes) -> GpuPart:
    """Read what :func:`encode_gpu_part` wrote.

    Raises:
        MalformedEvidence: larger than 1 MiB, not such a collection, or a part missing, too large or of another type.
        UnsupportedEvidence: a device of an architecture that is not supported.
    """
    collection = cmw.load_collection(data, MAX_SIZE)
    endorsements = collection.get("endorsements")
    labels = {cmw.COLLECTION_TYPE, "gpu", "gpu_state", "endorsements"}
    if collection.get(cmw.COLLECTION_TYPE) != PROFILE or not isinstance(endorsements, dict):
        raise fail(f"not a collection of type {PROFILE}")
    if "gpu" not in collection or collection.keys() - labels:
        raise fail("the GPUs' part has an unknown label, or no devices")
    part = read_gpu_part(collection, endorsements)
    if endorsements:
        raise fail("the GPUs' part has an unknown endorsement, a gap in their numbers, or too many")
    return part
