"""Stand-in kernels and unified kernel images: the headers that are measured, around filler; nothing that boots.

For the simulated platform and for tests.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from typing import Final

KERNEL_SIZE: Final = 0x3000
STUB_MARKS: Final = (b"LOADED_IMAGE::LoadOptions\0", b"Linux initrd\0")
"""Texts in the EFI stub of a kernel that measures its command line and its initial RAM disk."""

_ALIGNMENT: Final = 0x200


def synthetic_pe(
    sections: Sequence[tuple[bytes, bytes]],
    *,
    start: bytes = bytes(0x40),
    plus: bool = True,
    directories: int = 16,
    tail: bytes = b"",
    certificates: bytes = b"",
) -> bytes:
    """A PE image.

    Args:
        sections: names with contents.
        start: what stands in front of the PE header; its first two bytes and the offset at 0x3c are written here.
        plus: PE32+ instead of PE32.
        directories: number of data directories; the fifth names the certificates.
        tail: bytes between the last section and the certificates.
        certificates: a certificate table.
    """
    fixed = 112 if plus else 96
    optional_size = fixed + 8 * directories
    headers = _aligned(len(start) + 24 + optional_size + 40 * len(sections))
    table, body, address = b"", b"", 0x1000
    for name, content in sections:
        raw = content.ljust(_aligned(len(content)), b"\0")
        place = headers + len(body) if raw else 0
        table += struct.pack("<8sIIIIIIHHI", name, len(content), address, len(raw), place, 0, 0, 0, 0, 0x60000020)
        body, address = body + raw, address + len(raw) + 0x1000
    optional = bytearray(optional_size)
    optional[0:2] = (0x20B if plus else 0x10B).to_bytes(2, "little")
    optional[60:64] = headers.to_bytes(4, "little")
    optional[fixed - 4 : fixed] = directories.to_bytes(4, "little")
    if certificates:
        entry = struct.pack("<II", headers + len(body) + len(tail), len(certificates))
        optional[fixed + 32 : fixed + 40] = entry
    machine = 0x8664 if plus else 0x14C
    coff = b"PE\0\0" + struct.pack("<HHIIIHH", machine, len(sections), 0, 0, 0, optional_size, 0x206)
    front = b"MZ" + start[2:0x3C] + len(start).to_bytes(4, "little") + start[0x40:]
    return (front + coff + bytes(optional) + table).ljust(headers, b"\0") + body + tail + certificates


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT


def synthetic_kernel(
    *, tag: bytes = b"", size: int = KERNEL_SIZE, protocol: int = 0x20F, marks: Sequence[bytes] = STUB_MARKS
) -> bytes:
    """A file with the headers of a bzImage, always the same for the same arguments.

    Args:
        tag: makes the filler another one.
        size: bytes of its only section.
        protocol: version of the boot protocol.
        marks: texts of its EFI stub.
    """
    start = bytearray(0x300)
    start[0x1F1] = 4
    start[0x202:0x208] = b"HdrS" + protocol.to_bytes(2, "little")
    start[0x211] = 1
    start[0x22C:0x230] = (0x7FFFFFFF).to_bytes(4, "little")
    start[0x236:0x238] = (0x7F).to_bytes(2, "little")
    text = b"".join(marks)
    text += hashlib.shake_256(b"dokimos stand-in kernel\0" + tag).digest(size - len(text))
    return synthetic_pe(((b".text", text),), start=bytes(start))


def synthetic_uki(
    *, kernel: bytes, cmdline: str, initrd: bytes = b"", osrel: bytes = b"ID=synthetic\n", uname: bytes = b"6.0"
) -> bytes:
    """A unified kernel image with the sections that systemd's ukify writes."""
    sections = [
        (b".text", b"stub"),
        (b".osrel", osrel),
        (b".cmdline", cmdline.encode()),
        (b".uname", uname),
        (b".initrd", initrd),
        (b".sbat", b"sbat,1,synthetic\n"),
        (b".linux", kernel),
    ]
    return synthetic_pe([section for section in sections if section[1]])
