"""Stand-in firmware for the simulated platform and for tests: the tables of OVMF around filler; nothing that boots.

A real image comes from a distribution; this one exists so that a launch can be measured where there is none.
"""

from __future__ import annotations

import hashlib
import struct
from typing import Final
from uuid import UUID

from ..errors import UsageError
from .firmware_profile import LZMA_SECTION, MEASURED_BOOT
from .ovmf import FOOTER, FOUR_GIB, HASH_TABLE, PAGE, RESET_BLOCK, SEV_METADATA, SectionType
from .tdvf import TDX_METADATA, TdvfType
from .variable_store import VARIABLE_STORE, VARIABLE_VOLUME

SECTIONS: Final = (
    (0x800000, 0x9000, SectionType.SEC_MEM),
    (0x80A000, 0x3000, SectionType.SEC_MEM),
    (0x80D000, PAGE, SectionType.SECRETS),
    (0x80E000, PAGE, SectionType.CPUID),
    (0x811000, 0xF000, SectionType.SEC_MEM),
    (0x810000, PAGE, SectionType.KERNEL_HASHES),
)
"""Sections of the stand-in, laid out like those of OVMF's AmdSev build."""
HASH_TABLE_GPA: Final = 0x810C00
RESET_EIP: Final = 0x80B004
TDX_MARKS: Final = (MEASURED_BOOT.bytes_le, b"etc/boot/", b" initrd=initrd")
"""Marks of edk2-stable202502 in the compressed volume, by which its profile is told."""

_VARIABLES_4M = 0x84000
_WORK_SPACE = UUID("9e58292b-7c68-497d-a0ce-6500fd9f1b95")

TdxSections = tuple[tuple[int, int, int, int, int, int], ...]


def tdvf_sections(size: int, variables: int = PAGE) -> TdxSections:
    """Sections as OVMF of 2025.02 has them: code, variables, stack and heap, and the TD HOB.

    Args:
        size: bytes of the image.
        variables: bytes of the variable store at its start.
    """
    base = FOUR_GIB - size
    return (
        (variables, size - variables, base + variables, size - variables, TdvfType.BFV, 1),
        (0, variables, base, variables, TdvfType.CFV, 0),
        (0, 0, 0x811000, 0xF000, TdvfType.TEMP_MEM, 0),
        (0, 0, 0x80B000, 0x2000, TdvfType.TEMP_MEM, 0),
        (0, 0, 0x809000, 0x2000, TdvfType.TD_HOB, 0),
        (0, 0, 0x800000, 0x6000, TdvfType.TEMP_MEM, 0),
    )


def synthetic_tdvf(
    size: int = 2 << 20,
    *,
    tag: bytes = b"",
    variables: int = PAGE,
    sections: TdxSections | None = None,
    marks: tuple[bytes, ...] = TDX_MARKS,
) -> bytes:
    """The same for a TD: TDVF metadata, and a compressed volume with the marks of a generation of edk2.

    Args:
        size: bytes of the image, whole pages; at least two and the variables.
        tag: makes the filler another one.
        variables: bytes of the variable store.
        sections: other sections than :func:`tdvf_sections` gives.
        marks: what the volume holds; empty for no volume.

    Raises:
        UsageError: not whole pages, or no room for the volume.
    """
    import lzma  # noqa: PLC0415 - only who makes such firmware pays

    image = bytearray(
        synthetic_ovmf(size, tag=tag, tdx_sections=tdvf_sections(size, variables) if sections is None else sections)
    )
    image[:variables] = _empty_store(variables)
    if marks:
        packed = lzma.compress(b"\0".join((*marks, b"")), format=lzma.FORMAT_ALONE)
        section = (24 + len(packed)).to_bytes(3, "little") + b"\x02" + LZMA_SECTION.bytes_le + b"\x18\0\x01\0" + packed
        if variables + len(section) > size - PAGE:
            raise UsageError("no room for a volume")
        image[variables : variables + len(section)] = section
    return bytes(image)


def _empty_store(size: int) -> bytes:
    """A firmware volume for variables that holds none; with 0x84000 bytes the one of every OVMF of 4 MiB."""
    header = bytearray(bytes(16) + VARIABLE_VOLUME.bytes_le)
    header += struct.pack("<Q4sIHHHBBIIQ", size, b"_FVH", 0x4FEFF, 0x48, 0, 0, 0, 2, size // PAGE, PAGE, 0)
    checksum = -sum(struct.unpack("<36H", header)) & 0xFFFF
    header[0x32:0x34] = checksum.to_bytes(2, "little")
    room = 0x40000 if size == _VARIABLES_4M else size
    store = VARIABLE_STORE.bytes_le + struct.pack("<IBB6x", room - len(header), 0x5A, 0xFE)
    volume = bytearray((header + store).ljust(size, b"\xff"))
    if size == _VARIABLES_4M:  # what a write that was cut off would be finished with
        volume[0x41000:0x41020] = _WORK_SPACE.bytes_le + struct.pack("<IIQ", 0x642CAF2C, 0xFFFFFFFE, 0xFE0)
    return bytes(volume)


def synthetic_ovmf(
    size: int = 2 << 20,
    *,
    tag: bytes = b"",
    sections: tuple[tuple[int, int, int], ...] = SECTIONS,
    hash_table_gpa: int | None = HASH_TABLE_GPA,
    reset_eip: int | None = RESET_EIP,
    tdx_sections: TdxSections | None = None,
) -> bytes:
    """Bytes that have the form of a firmware image, always the same for the same arguments.

    Args:
        size: bytes of the image, whole pages.
        tag: makes the filler another one.
        sections: gpa, size and type of every section.
        hash_table_gpa: place of the hash table, or None to leave its entry out.
        reset_eip: start of application processors, or None to leave its entry out.
        tdx_sections: sections of the TDVF metadata, or None to leave its entry out.

    Raises:
        UsageError: not whole pages.
    """
    if size < PAGE or size % PAGE:
        raise UsageError(f"firmware is whole pages of {PAGE} bytes")
    metadata = struct.pack("<4sIII", b"ASEV", 16 + 12 * len(sections), 1, len(sections))
    metadata += b"".join(struct.pack("<III", *section) for section in sections)
    entries = [(SEV_METADATA, struct.pack("<I", PAGE // 2 + len(metadata)))]
    if tdx_sections is not None:
        tdvf = struct.pack("<4sIII", b"TDVF", 16 + 32 * len(tdx_sections), 1, len(tdx_sections))
        metadata = tdvf + b"".join(struct.pack("<IIQQII", *section) for section in tdx_sections) + metadata
        entries.append((TDX_METADATA, struct.pack("<I", PAGE // 2 + len(metadata))))
    if hash_table_gpa is not None:
        entries.append((HASH_TABLE, struct.pack("<II", hash_table_gpa, 0x400)))
    if reset_eip is not None:
        entries.append((RESET_BLOCK, struct.pack("<I", reset_eip)))
    table = b"".join(data + struct.pack("<H16s", len(data) + 18, guid.bytes_le) for guid, data in entries)
    table += struct.pack("<H16s", len(table) + 18, FOOTER.bytes_le)
    tail = metadata + table.rjust(PAGE // 2 - 32, b"\0") + bytes(32)
    return _filler(size - len(tail), tag) + tail


def _filler(size: int, tag: bytes) -> bytes:
    return hashlib.shake_256(b"dokimos stand-in firmware\0" + tag).digest(size)
