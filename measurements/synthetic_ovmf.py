"""Stand-in firmware for the simulated platform and for tests: the tables of OVMF around filler; nothing that boots.

A real image comes from a distribution; this one exists so that a launch can be measured where there is none.
"""

from __future__ import annotations

import hashlib
import struct
from typing import Final

from ..errors import UsageError
from .ovmf import FOOTER, HASH_TABLE, PAGE, RESET_BLOCK, SEV_METADATA, SectionType

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


def synthetic_ovmf(
    size: int = 2 << 20,
    *,
    tag: bytes = b"",
    sections: tuple[tuple[int, int, int], ...] = SECTIONS,
    hash_table_gpa: int | None = HASH_TABLE_GPA,
    reset_eip: int | None = RESET_EIP,
) -> bytes:
    """Bytes that have the form of a firmware image, always the same for the same arguments.

    Args:
        size: bytes of the image, whole pages.
        tag: makes the filler another one.
        sections: gpa, size and type of every section.
        hash_table_gpa: place of the hash table, or None to leave its entry out.
        reset_eip: start of application processors, or None to leave its entry out.

    Raises:
        UsageError: not whole pages.
    """
    if size < PAGE or size % PAGE:
        raise UsageError(f"firmware is whole pages of {PAGE} bytes")
    metadata = struct.pack("<4sIII", b"ASEV", 16 + 12 * len(sections), 1, len(sections))
    metadata += b"".join(struct.pack("<III", *section) for section in sections)
    entries = [(SEV_METADATA, struct.pack("<I", PAGE // 2 + len(metadata)))]
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
