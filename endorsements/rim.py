"""Reference integrity manifests (RIMs): NVIDIA's signed lists of the measurements that a device must have.

Sources: TCG, "Reference Integrity Manifest (RIM) Information Model" 1.01; ISO/IEC 19770-2:2015 (SWID tags); names and
values as in every RIM that NVIDIA published (reference, 1.4 and 2.3).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property, lru_cache
from hashlib import sha256, sha384
from typing import NamedTuple

from ..errors import Check, MalformedEvidence, UnsupportedEvidence
from ..evidence.gpu_arch import Kind
from ..evidence.gpu_report import GpuReport
from .rim_xml import read_document

MAX_INDEX = 63
"""Largest index: NVIDIA keeps 0 to 63 for the hashed measurement blocks of a report."""
HASH_SIZE = 48

_WHAT = "RIM"
_TCG = "{https://trustedcomputinggroup.org/resource/tcg-reference-integrity-manifest-rim-information-model/}"
_HASH = "{http://www.w3.org/2001/04/xmlenc#sha384}Hash"
_ATTRIBUTES = frozenset({"type", "index", "active", "alternatives", "name", "size"})
_OPAQUE = "{https://docs.nvidia.com/attestation/specs/"
"""Namespaces in which a record is about a number of the opaque data (from CUDA 13.5 on), and not about a hash."""
_ACTIVE = {"True": True, "False": False}
_NUMBER = re.compile(r"0|[1-9][0-9]{0,2}")
_DIGEST = re.compile(r"[0-9a-f]{96}")
_TOKEN = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,127}")
_LABEL = re.compile(r"[ -~]{0,127}")
# Parts of an id come from a report and end up in names of files and in addresses.
_PART = re.compile(r"[0-9A-Za-z]+(?:\.[0-9A-Za-z]+)*")


class Golden(NamedTuple):
    """Reference values for one index.

    Attributes:
        index: which measurement; a plain number, as in reports.
        active: whether the measurement is to be compared.
        alternatives: the values that are right, 48 bytes each.
        name: NVIDIA's name of the measurement.
    """

    index: int  # type: ignore[assignment] # hides tuple.index, as in reports
    active: bool
    alternatives: tuple[bytes, ...]
    name: str


@dataclass(frozen=True, kw_only=True)
class Rim:
    """What a RIM says.

    Attributes:
        sha256: SHA-256 of the file as received.
        tag_id: the tag's id; issues of one RIM share it, so it names no file.
        name: the tag's name.
        product: the chip, such as "GH100".
        version: version of the driver or of the VBIOS (colloquialVersion).
        edition: "GPU" or "SWITCH".
        revision: NVIDIA's revision of the file's format.
        oemid: FirmwareManufacturerId, such as "5703".
        measurements: every Resource, in the order of the file.
    """

    sha256: bytes
    tag_id: str
    name: str
    product: str
    version: str
    edition: str
    revision: str
    oemid: str
    measurements: tuple[Golden, ...]

    @cached_property
    def active(self) -> dict[int, tuple[bytes, ...]]:
        """The right values of each index that is to be compared."""
        return {golden.index: golden.alternatives for golden in self.measurements if golden.active}


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedRim:
    """A RIM with its signature; nothing of it is verified here.

    Attributes:
        rim: what it says.
        signed_info: canonical SignedInfo: what the signature is over.
        signature: r and s, 96 bytes.
        digest: SHA-384 of the document as its signature states it.
        actual_digest: SHA-384 of the canonical document without its signature.
        certificates: DER, in the order of the file; the signer's comes first.
    """

    rim: Rim
    signed_info: bytes
    signature: bytes
    digest: bytes
    actual_digest: bytes
    certificates: tuple[bytes, ...]


def parse_rim(data: bytes) -> SignedRim:
    """Read a RIM.

    Raises:
        MalformedEvidence: no SWID tag of this profile (``gpu.rim.format``), or another form of signature than the one
            that NVIDIA uses (``gpu.rim.signature_form``).
        UnsupportedEvidence: it has reference values for something else than measurements (``gpu.rim.format``).
    """
    return _parse(bytes(data))


@lru_cache(maxsize=32)  # a store that finds RIMs by what they say reads each, and its verification reads it again
def _parse(data: bytes) -> SignedRim:
    document = read_document(data)
    root, meta = document.root, document.meta
    for flag in ("corpus", "patch", "supplemental"):
        if root.get(flag, "false") != "false":
            raise _bad(f"it is a {flag} tag, not one that stands by itself")
    if meta.get("PayloadType") != "direct":
        raise _bad("the reference values are not in the file: PayloadType is not direct")
    rim = Rim(
        sha256=sha256(data).digest(),
        tag_id=_token(root, "tagId"),
        name=_token(root, "name"),
        product=_token(meta, "product"),
        version=_token(meta, "colloquialVersion"),
        edition=_token(meta, "edition"),
        revision=_token(meta, "revision"),
        oemid=_token(meta, f"{_TCG}FirmwareManufacturerId"),
        measurements=tuple([_golden(resource) for resource in document.resources]),
    )
    if len({golden.index for golden in rim.measurements}) != len(rim.measurements):
        raise _bad("an index twice")
    return SignedRim(
        rim=rim,
        signed_info=document.signed_info,
        signature=document.signature,
        digest=document.digest,
        actual_digest=sha384(document.canonical).digest(),
        certificates=document.certificates,
    )


def _bad(message: str) -> MalformedEvidence:
    return MalformedEvidence(f"{_WHAT}: {message}", check=Check.GPU_RIM_FORMAT)


def _token(attributes: dict[str, str], name: str) -> str:
    value = attributes.get(name, "")
    if not _TOKEN.fullmatch(value):
        raise _bad(f"{name.rpartition('}')[2]} is missing or not one word: {value[:80]!r}")
    return value


def _number(attributes: dict[str, str], name: str, largest: int) -> int:
    value = attributes[name]
    if not _NUMBER.fullmatch(value) or int(value) > largest:
        raise _bad(f"{name} is {value[:80]!r}, not a number up to {largest}")
    return int(value)


def _golden(attributes: dict[str, str]) -> Golden:
    others = attributes.keys() - _ATTRIBUTES
    if any(name.startswith(_OPAQUE) for name in others):
        raise UnsupportedEvidence(
            f"{_WHAT}: it has reference values for opaque data, which are not supported", check=Check.GPU_RIM_FORMAT
        )
    if len(attributes) - len(others) < len(_ATTRIBUTES):
        raise _bad(f"a Resource without {', '.join(sorted(_ATTRIBUTES - attributes.keys()))}")
    index = _number(attributes, "index", MAX_INDEX)
    alternatives = _number(attributes, "alternatives", len(attributes))
    hashes = [f"{_HASH}{number}" for number in range(alternatives)]
    # An attribute that nobody knows could say anything of a measurement, so none is passed over.
    if not hashes or others != set(hashes):
        raise _bad(f"index {index}: it does not have exactly the {alternatives} hashes that alternatives announces")
    if attributes["active"] not in _ACTIVE:
        raise _bad(f"index {index}: active is {attributes['active'][:80]!r}, neither True nor False")
    if attributes["type"] != "Measurement" or attributes["size"] != str(HASH_SIZE):
        raise _bad(f"index {index}: not a Measurement of {HASH_SIZE} bytes")
    if not all(_DIGEST.fullmatch(attributes[name]) for name in hashes):
        raise _bad(f"index {index}: a hash that is not 96 digits of lower-case hex")
    if not _LABEL.fullmatch(attributes["name"]):
        raise _bad(f"index {index}: a name that is too long or not printable")
    values = tuple([bytes.fromhex(attributes[name]) for name in hashes])
    return Golden(index, _ACTIVE[attributes["active"]], values, attributes["name"])


DRIVER = "driver"
VBIOS = "vbios"
BIOS = "bios"
"""The RIMs by their source: a GPU has the first two, a switch has the last."""


class RimNeed(NamedTuple):
    """A RIM that a device needs.

    Attributes:
        source: which of the device's RIMs: driver, vbios or bios.
        id: the id under which NVIDIA's service has it.
        products: the chips of which it may be; the first one is that of the device's certificate.
        version: the version that the report names.
    """

    source: str
    id: str
    products: tuple[str, ...]
    version: str


def sources(kind: Kind) -> tuple[str, ...]:
    """The RIMs that a device of this kind needs."""
    return (BIOS,) if kind is Kind.SWITCH else (DRIVER, VBIOS)


def rim_id_driver(chip: str, version: str) -> str:
    """Id of a driver's RIM; from Blackwell on it is that of the driver for confidential computing.

    Raises:
        MalformedEvidence: a part that no id has.
    """
    kind = "NV_GPU_DRIVER" if chip.startswith("GH") else "NV_GPU_CC_DRIVER"
    return _id(kind, chip, version)


def rim_id_vbios(project: str, project_sku: str, chip_sku: str, version: str) -> str:
    """Id of a VBIOS's RIM.

    Raises:
        MalformedEvidence: a part that no id has.
    """
    return _id("NV_GPU_VBIOS", project, project_sku, chip_sku, version, dots=False).upper()


def rim_id_switch(version: str) -> str:
    """Id of the RIM of an NVSwitch's BIOS; its project and SKUs are constants, which no report names.

    Raises:
        MalformedEvidence: a part that no id has.
    """
    return _id("NV_SWITCH_BIOS_5612_0002_890", version, dots=False).upper()


def _id(kind: str, *parts: str, dots: bool = True) -> str:
    if not all(_PART.fullmatch(part) and len(part) <= 64 for part in parts):
        raise MalformedEvidence(f"the report names {parts!r}, of which no RIM id can be made", check=_FOUND_BY)
    return "_".join((kind, *parts[:-1], parts[-1] if dots else parts[-1].replace(".", "")))


_FOUND_BY = Check.GPU_REPORT_FORMAT


def rim_ids(report: GpuReport, chip: str) -> tuple[RimNeed, ...]:
    """The RIMs that a device needs, by what its report says.

    Args:
        report: the report.
        chip: the chip by the device's certificate, such as "GH100", "GB100" or "LS10".

    Raises:
        MalformedEvidence: the report lacks a part of an id.
    """
    bios = _said(report.vbios_version, "VBIOS version")
    if report.kind is Kind.SWITCH:
        return (RimNeed(BIOS, rim_id_switch(bios), (chip,), bios),)
    driver = _said(report.driver_version, "driver version")
    # Firmware before opaque data of version 1 does not say which Blackwell it is; NVIDIA takes GB100 then.
    named = chip if chip.startswith("GH") else report.chip_info or "GB100"
    board = (
        _said(report.project, "project"),
        _said(report.project_sku, "project SKU"),
        _said(report.chip_sku, "chip SKU"),
    )
    products = tuple(dict.fromkeys((chip, named)))
    return (
        RimNeed(DRIVER, rim_id_driver(named, driver), products, driver),
        RimNeed(VBIOS, rim_id_vbios(*board, bios), products, bios),
    )


def _said(value: str | None, what: str) -> str:
    if not value:
        raise MalformedEvidence(f"the report names no {what}, so its RIMs cannot be looked for", check=_FOUND_BY)
    return value
