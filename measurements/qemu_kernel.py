"""The kernel as QEMU hands it to the firmware: older releases write their part of the Linux boot protocol into it.

Source: QEMU, hw/i386/x86-common.c, "x86_load_linux", and hw/i386/pc.c, "acpi_data_size"; Linux,
Documentation/arch/x86/boot.rst, for the fields.  From 10.2 on QEMU leaves the header of a confidential guest's kernel
as it is, and from 10.0 on it also offers the unpatched file as ``etc/boot/kernel``, which newer firmware takes.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final

from ..errors import MalformedEvidence, UsageError
from .td_hob import low_memory

UNPATCHED_FROM: Final = (10, 2)
"""Version of QEMU that no longer patches the kernel of a confidential guest."""
NAMED_FROM: Final = (10, 0)
"""Version of QEMU that offers the kernel as it is under a name of its own."""

_MAGIC, _MAGIC_OFFSET = b"HdrS", 0x202
_PROTOCOL, _LOADER, _FLAGS = 0x206, 0x210, 0x211
_LOADED_HIGH, _CAN_USE_HEAP = 0x01, 0x80
_VIDEO, _RAMDISK, _RAMDISK_SIZE, _HEAP_END, _COMMAND_LINE = 0x1FA, 0x218, 0x21C, 0x224, 0x228
_ADDRESS_MAX, _X_FLAGS, _ABOVE_4G = 0x22C, 0x236, 0x02
_SETUP_SECTORS = 0x1F1
_QEMU: Final = 0xB0
_HIGH_REAL, _HIGH_LINE, _LOW_REAL, _LOW_LINE = 0x10000, 0x20000, 0x90000, 0x9A000
_ACPI_DATA: Final = 0x28000
"""Memory below 4 GiB that QEMU keeps free of the initial RAM disk, 0x20000 + 0x8000."""
_OLD_MAX: Final = 0x37FFFFFF
_NEWEST: Final = 0x202
_MODES = {"normal": 0xFFFF, "ext": 0xFFFE, "ask": 0xFFFD}
_MODE = re.compile(r"vga=(normal|ext|ask|(?:0[xX][0-9a-fA-F]+|[0-9]+)(?= |\Z))")


class KernelForm(StrEnum):
    """What of the kernel is measured: the file as it is, or with what QEMU writes into its header."""

    RAW = "raw"
    PATCHED = "patched"


def patched_kernel(kernel: bytes, *, initrd_size: int | None, memory: int, append: str = "") -> bytes:
    """The kernel with QEMU's part of its header.

    Args:
        kernel: the file.
        initrd_size: bytes of the initial RAM disk, or None without one.
        memory: bytes that the machine has: the RAM disk's place depends on them below 2.75 GiB.
        append: the command line; of it only ``vga=`` is looked at.

    Raises:
        MalformedEvidence: no Linux kernel, or one that is older than protocol 2.02 of 2001.
        UsageError: the RAM disk is too large for this memory, or ``vga=`` is no mode: QEMU would not start.
    """
    if len(kernel) < 0x1000 or kernel[_MAGIC_OFFSET : _MAGIC_OFFSET + 4] != _MAGIC:
        raise MalformedEvidence("kernel: no Linux kernel with a setup header")
    image = bytearray(kernel)
    protocol = _get(image, _PROTOCOL, 2)
    if protocol < _NEWEST:
        raise MalformedEvidence(f"kernel: boot protocol {protocol >> 8}.{protocol & 0xFF:02}, of before 2.02")
    if (1 + (image[_SETUP_SECTORS] or 4)) * 512 > len(image):
        raise MalformedEvidence("kernel: its setup is larger than the file")
    if image[_FLAGS] & _LOADED_HIGH:
        real, line = _HIGH_REAL, _HIGH_LINE
    else:
        real, line = _LOW_REAL, _LOW_LINE - ((len(append.encode()) + 16) & ~15)
    _put(image, _COMMAND_LINE, 4, line)
    mode = _video_mode(append)
    if mode is not None:
        _put(image, _VIDEO, 2, mode)
    image[_LOADER] = _QEMU
    image[_FLAGS] |= _CAN_USE_HEAP
    _put(image, _HEAP_END, 2, line - real - 0x200)
    if initrd_size is not None:
        _put(image, _RAMDISK, 4, _initrd_address(image, protocol, initrd_size, memory))
        _put(image, _RAMDISK_SIZE, 4, initrd_size)
    return bytes(image)


def _initrd_address(image: bytearray, protocol: int, size: int, memory: int) -> int:
    if protocol >= 0x20C and _get(image, _X_FLAGS, 2) & _ABOVE_4G:
        highest = 0xFFFFFFFF
    elif protocol >= 0x203:
        highest = _get(image, _ADDRESS_MAX, 4)
    else:
        highest = _OLD_MAX
    free = low_memory(memory) - _ACPI_DATA
    if highest >= free:
        highest = free - 1
    if free <= 0 or size >= highest:
        raise UsageError(f"an initial RAM disk of {size} bytes does not fit into memory of {memory} bytes")
    return (highest - size) & ~4095


def _video_mode(append: str) -> int | None:
    at = append.find("vga=")
    if at < 0:
        return None
    match = _MODE.match(append, at)
    if match is None:
        raise UsageError("the command line has a vga= that QEMU does not take")
    text = match.group(1)
    if text in _MODES:
        return _MODES[text]
    # C's rule for a number: a leading 0 means octal.
    base = 16 if text[:2].lower() == "0x" else 8 if text[0] == "0" else 10
    try:
        return int(text, base) & 0xFFFF
    except ValueError as exc:
        raise UsageError("the command line has a vga= that QEMU does not take") from exc


def _get(image: bytearray, at: int, size: int) -> int:
    return int.from_bytes(image[at : at + size], "little")


def _put(image: bytearray, at: int, size: int, value: int) -> None:
    image[at : at + size] = value.to_bytes(size, "little")
