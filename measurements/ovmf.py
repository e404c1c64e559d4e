"""Firmware images: the footer table of OVMF and its SEV metadata, read totally.

Source: TianoCore EDK II, OvmfPkg/ResetVector (footer table and "OvmfSevMetadata").  The table ends 32 bytes before the
end of the image and is read backwards; GUIDs in it are little-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from itertools import pairwise
from typing import Final, NamedTuple
from uuid import UUID

from ..errors import MalformedEvidence

PAGE: Final = 4096
MAX_SIZE: Final = 64 << 20
"""Largest image in bytes that is read; real ones have 2 to 16 MiB."""
MAX_SECTIONS: Final = 64
MAX_SECTION_SIZE: Final = 64 << 20
"""Largest section in bytes: a launch digest takes time in proportion."""
FOUR_GIB: Final = 1 << 32

FOOTER: Final = UUID("96b582de-1fb2-45f7-baea-a366c55a082d")
HASH_TABLE: Final = UUID("7255371f-3a3b-4b04-927b-1da6efa8d454")
RESET_BLOCK: Final = UUID("00f771de-1a7e-4fcb-890e-68c77e2fb44e")
SEV_METADATA: Final = UUID("dc886566-984a-4798-a75e-5585a7bf67cc")

_TAIL = 32
_ENTRY = struct.Struct("<H16s")
_HEADER = struct.Struct("<4sIII")
_SECTION = struct.Struct("<III")
_MAX_TABLE = 1 << 14


class SectionType(IntEnum):
    """Kind of a section of guest memory that the firmware wants prepared."""

    SEC_MEM = 1
    SECRETS = 2
    CPUID = 3
    SVSM_CAA = 4
    KERNEL_HASHES = 0x10


class Section(NamedTuple):
    """A section: guest physical address and size in bytes, both whole pages."""

    gpa: int
    size: int
    kind: SectionType


@dataclass(frozen=True, slots=True, kw_only=True)
class Ovmf:
    """A firmware image with SEV metadata.

    Attributes:
        data: the image.
        sections: in the order of the metadata, which is the order of measuring.
        hash_table_gpa: where the hash table of kernel, initrd and command line goes, or None if it has no place.
        reset_eip: where application processors start, or None if the image does not say.
    """

    data: bytes
    sections: tuple[Section, ...]
    hash_table_gpa: int | None
    reset_eip: int | None

    @property
    def gpa(self) -> int:
        """Where the image lies: it ends at 4 GiB."""
        return FOUR_GIB - len(self.data)


def _fail(message: str) -> MalformedEvidence:
    return MalformedEvidence(f"firmware: {message}")


def parse_ovmf(data: bytes) -> Ovmf:
    """Read a firmware image.

    Raises:
        MalformedEvidence: not whole pages, too large, no footer table, no SEV metadata, or one that is out of bounds.
    """
    table = footer_table(data)
    if SEV_METADATA not in table:
        raise _fail("no SEV metadata: it was not built for SEV-SNP, and no processor can launch it as such")
    return Ovmf(
        data=bytes(data),
        sections=check_sections(_sections(data, table[SEV_METADATA])),
        hash_table_gpa=_u32(table, HASH_TABLE) or None,
        reset_eip=_u32(table, RESET_BLOCK) or None,
    )


def _u32(table: dict[UUID, bytes], guid: UUID) -> int:
    """First four bytes of an entry, or 0 where there is none."""
    entry = table.get(guid)
    if entry is None:
        return 0
    if len(entry) < 4:
        raise _fail(f"table entry {guid} is too short")
    return int.from_bytes(entry[:4], "little")


def footer_table(data: bytes) -> dict[UUID, bytes]:
    """Entries of the footer table by GUID, those that nobody knows among them.

    Raises:
        MalformedEvidence: not whole pages, too large, no table, one that is out of bounds, or an entry twice.
    """
    if not data or len(data) % PAGE or len(data) > MAX_SIZE:
        raise _fail(f"{len(data)} bytes; whole pages of {PAGE} up to {MAX_SIZE} bytes wanted")
    end = len(data) - _TAIL - _ENTRY.size
    size, guid = _ENTRY.unpack_from(data, end)
    if UUID(bytes_le=guid) != FOOTER:
        raise _fail("no footer table: it is not an OVMF image")
    start = end + _ENTRY.size - size
    if not _ENTRY.size <= size <= _MAX_TABLE or start < 0:
        raise _fail("a footer table of an impossible size")
    found: dict[UUID, bytes] = {}
    while end > start:
        if end - start < _ENTRY.size:
            raise _fail("a footer table with a cut-off entry")
        size, guid = _ENTRY.unpack_from(data, end - _ENTRY.size)
        if not _ENTRY.size <= size <= end - start:
            raise _fail("a footer table entry of an impossible size")
        uuid = UUID(bytes_le=guid)
        if uuid in found:
            raise _fail(f"table entry {uuid} twice")
        found[uuid] = data[end - size : end - _ENTRY.size]
        end -= size
    return found


def _sections(data: bytes, entry: bytes) -> list[tuple[int, int, int]]:
    if len(entry) < 4:
        raise _fail("a metadata entry that is too short")
    start = len(data) - int.from_bytes(entry[:4], "little")
    if not 0 <= start <= len(data) - _HEADER.size:
        raise _fail("SEV metadata outside of the image")
    signature, size, version, count = _HEADER.unpack_from(data, start)
    if signature != b"ASEV" or version != 1:
        raise _fail("SEV metadata of an unknown kind")
    if count > MAX_SECTIONS or size != _HEADER.size + count * _SECTION.size or start + size > len(data):
        raise _fail("SEV metadata of an impossible size")
    return [_SECTION.unpack_from(data, start + _HEADER.size + n * _SECTION.size) for n in range(count)]


def check_sections(raw: Iterable[tuple[int, int, int]]) -> tuple[Section, ...]:
    """Sections of (gpa, size, type), checked for what makes sense of a launch.

    Raises:
        MalformedEvidence: none, an unknown type, not whole pages, beyond 4 GiB, overlapping, or too large.
    """
    sections = []
    for gpa, size, kind in raw:
        if kind not in frozenset(SectionType):
            raise _fail(f"a section of unknown type {kind:#x}: what the host would measure for it is not known")
        if gpa % PAGE or size % PAGE or not 0 < size <= MAX_SECTION_SIZE or gpa + size > FOUR_GIB:
            raise _fail(f"section {kind:#x} at {gpa:#x} of {size:#x} bytes is no range of whole pages below 4 GiB")
        single = kind not in (SectionType.SEC_MEM, SectionType.SVSM_CAA)
        if single and size != PAGE:
            raise _fail(f"section {kind:#x} of {size:#x} bytes; it is one page")
        sections.append(Section(gpa, size, SectionType(kind)))
    if not sections:
        raise _fail("SEV metadata without sections")
    ordered = sorted(sections)
    if any(low.gpa + low.size > high.gpa for low, high in pairwise(ordered)):
        raise _fail("sections overlap")
    return tuple(sections)
