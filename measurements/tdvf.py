"""Firmware for a TD: the TDVF metadata of an OVMF image, read totally.

Source: Intel TDX Virtual Firmware Design Guide, chapter "TDVF Binary Image" (descriptor and section entries); the entry
of the footer table is TianoCore EDK II's, OvmfPkg/ResetVector ("OVMF TDX Metadata Offset").
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from itertools import pairwise
from typing import Final, NamedTuple
from uuid import UUID

from ..errors import MalformedEvidence, UnsupportedEvidence
from .ovmf import FOUR_GIB, MAX_SECTIONS, PAGE, footer_table

TDX_METADATA: Final = UUID("e47a6535-984a-4798-865e-4685a7bf8ec2")
MAX_MEMORY: Final = 128 << 20
"""Most bytes of guest memory in all sections together: the host adds them page by page, and MRTD follows it."""
MAX_MEASURED: Final = 64 << 20
"""Most bytes of all measured sections together, whatever part of the image they take their content from."""

_DESCRIPTOR = struct.Struct("<4sIII")
_SECTION = struct.Struct("<IIQQII")
_MAX_GPA: Final = 1 << 52


class TdvfType(IntEnum):
    """Kind of a section.

    BFV holds the firmware's code, CFV its variable store, TD_HOB what the host says of the memory; TEMP_MEM is memory
    that the firmware uses before it has accepted any.
    """

    BFV = 0
    CFV = 1
    TD_HOB = 2
    TEMP_MEM = 3
    PERM_MEM = 4
    PAYLOAD = 5
    PAYLOAD_PARAM = 6


class TdvfAttribute(IntFlag):
    """MR_EXTEND: the content goes into MRTD.  PAGE_AUG: the pages are added later, so that nothing does."""

    MR_EXTEND = 1
    PAGE_AUG = 2


class TdvfSection(NamedTuple):
    """A section: where its content lies in the image, and which guest memory it becomes, whole pages."""

    offset: int
    raw_size: int
    gpa: int
    size: int
    kind: TdvfType
    attributes: TdvfAttribute

    @property
    def measured(self) -> bool:
        """Whether the content goes into MRTD."""
        return TdvfAttribute.MR_EXTEND in self.attributes

    @property
    def end(self) -> int:
        """The first address behind it."""
        return self.gpa + self.size


@dataclass(frozen=True, slots=True, kw_only=True)
class Tdvf:
    """A firmware image with TDVF metadata.

    Attributes:
        data: the image.
        sections: in the order of the metadata, which is the order of building the TD.
    """

    data: bytes
    sections: tuple[TdvfSection, ...]

    def content(self, section: TdvfSection) -> memoryview:
        """What the image holds for a section."""
        return memoryview(self.data)[section.offset : section.offset + section.raw_size]

    def only(self, kind: TdvfType) -> TdvfSection:
        """The one section of a kind.

        Raises:
            UnsupportedEvidence: none, or several: what a host would measure for it is not known.
        """
        found = [section for section in self.sections if section.kind is kind]
        if len(found) != 1:
            raise UnsupportedEvidence(f"firmware: {len(found)} sections of type {kind.name}; one is expected")
        return found[0]


def _fail(message: str) -> MalformedEvidence:
    return MalformedEvidence(f"firmware: {message}")


def parse_tdvf(data: bytes) -> Tdvf:
    """Read a firmware image.

    Raises:
        MalformedEvidence: no image, no TDVF metadata, or metadata that is out of bounds.
        UnsupportedEvidence: the code half of a split image, an unknown type of section, or another version.
    """
    table = footer_table(data)
    if TDX_METADATA not in table:
        raise _fail("no TDVF metadata: it was not built for TDX, and no host can start a TD with it")
    raw = _entries(data, table[TDX_METADATA])
    _refuse_half(data, raw)
    return Tdvf(data=bytes(data), sections=_checked(len(data), raw))


def _entries(data: bytes, entry: bytes) -> list[tuple[int, int, int, int, int, int]]:
    if len(entry) < 4:
        raise _fail("an entry for TDVF metadata that is too short")
    start = len(data) - int.from_bytes(entry[:4], "little")
    if not 0 <= start <= len(data) - _DESCRIPTOR.size:
        raise _fail("TDVF metadata outside of the image")
    signature, size, version, count = _DESCRIPTOR.unpack_from(data, start)
    if signature != b"TDVF":
        raise _fail("no descriptor where its TDVF metadata should be")
    if version != 1:
        raise UnsupportedEvidence(f"firmware: TDVF metadata of version {version}; only 1 is known")
    if count > MAX_SECTIONS or size != _DESCRIPTOR.size + count * _SECTION.size or start + size > len(data):
        raise _fail("TDVF metadata of an impossible size")
    return [_SECTION.unpack_from(data, start + _DESCRIPTOR.size + n * _SECTION.size) for n in range(count)]


def _refuse_half(data: bytes, raw: list[tuple[int, int, int, int, int, int]]) -> None:
    """Distributions split an image into variables and code; the code half keeps the table of the whole.

    Its offsets then point to other bytes than the host would copy, and a value computed from them is no TD's.
    """
    volumes = [(offset, gpa) for offset, _, gpa, _, kind, _ in raw if kind in (TdvfType.BFV, TdvfType.CFV)]
    if not volumes:
        return
    whole = FOUR_GIB - min(gpa for _, gpa in volumes)
    missing = whole - len(data)
    if 0 < missing <= len(data) and all(offset == gpa - (FOUR_GIB - whole) for offset, gpa in volumes):
        raise UnsupportedEvidence(
            f"firmware: this is the code half of a split image of {whole} bytes: the first {missing} bytes, the "
            "variable store, are missing. Put them in front (cat OVMF_VARS.fd OVMF_CODE.fd > OVMF.fd) or take the "
            "joined image; a TD is started with -bios and the joined image anyway"
        )


def _checked(length: int, raw: list[tuple[int, int, int, int, int, int]]) -> tuple[TdvfSection, ...]:
    if len(raw) < 2:
        raise _fail(f"TDVF metadata with {len(raw)} sections")
    sections = []
    for offset, raw_size, gpa, size, kind, attributes in raw:
        if kind not in frozenset(TdvfType):
            raise UnsupportedEvidence(
                f"firmware: a section of unknown type {kind}: what the host does for it is unknown"
            )
        if attributes & ~3:
            raise UnsupportedEvidence(f"firmware: a section with unknown attributes {attributes:#x}")
        if gpa % PAGE or size % PAGE or not 0 < size <= MAX_MEMORY or gpa + size > _MAX_GPA:
            raise _fail(f"section at {gpa:#x} of {size:#x} bytes is no range of whole pages")
        if raw_size > size or offset + raw_size > length:
            raise _fail(
                f"the content of the section at {gpa:#x} lies outside of the image, or is larger than its memory"
            )
        sections.append(TdvfSection(offset, raw_size, gpa, size, TdvfType(kind), TdvfAttribute(attributes)))
    ordered = sorted(sections, key=lambda section: section.gpa)
    if any(low.end > high.gpa for low, high in pairwise(ordered)):
        raise _fail("sections overlap")
    if sum(section.size for section in sections) > MAX_MEMORY:
        raise _fail(f"sections of more than {MAX_MEMORY} bytes")
    if sum(section.size for section in sections if section.measured) > MAX_MEASURED:
        raise _fail(f"measured sections of more than {MAX_MEASURED} bytes")
    return tuple(sections)
