"""Writes event logs of TDs (CCEL) byte for byte, and that of a direct boot on the simulated platform.

Sources: as :mod:`dokimos.evidence.ccel`, whose reader these writers do not share.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from hashlib import sha384
from typing import NamedTuple

from ..evidence.ccel import EventType

_SPEC_ID = struct.Struct("<16s I B B B B I H H B")
_DEVICE_PATH_KERNEL = bytes.fromhex("0403140072f728144ab61e44b8c39ebdd7f893c7") + b"\x04\x04\x12\0"
_SEPARATOR = bytes(4)


class LogEvent(NamedTuple):
    """One event: index of the register (1 to 4 are RTMR0 to RTMR3), type, SHA-384 that extends it, data beside it."""

    mr: int
    type: EventType
    digest: bytes
    data: bytes


def hashed(mr: int, kind: EventType, data: bytes) -> LogEvent:
    """An event whose digest is that of its data."""
    return LogEvent(mr, kind, sha384(data).digest(), data)


def write_ccel(events: Iterable[LogEvent]) -> bytes:
    """A log: the record that names the specification, one record for each event, and the end mark."""
    spec = _SPEC_ID.pack(b"Spec ID Event03\0", 0, 0, 2, 0, 2, 1, 0x000C, 48, 0)
    out = struct.pack("<I I 20x I", 1, EventType.EV_NO_ACTION, len(spec)) + spec
    for event in events:
        out += struct.pack("<I I I H", event.mr, event.type, 1, 0x000C) + event.digest
        out += struct.pack("<I", len(event.data)) + event.data
    return out + b"\xff" * 4


def ccel_table(size: int, address: int) -> bytes:
    """The ACPI table that points to a log of this size at this address."""
    head = struct.pack("<4s I B B 6s 8s I 4s I", b"CCEL", 56, 1, 0, b"SIMUL ", b"DOKIMOS ", 1, b"DOKI", 1)
    table = head + struct.pack("<B B H Q Q", 2, 0, 0, size, address)
    return table[:9] + bytes((-sum(table) & 0xFF,)) + table[10:]


def direct_boot(kernel: bytes, command_line: str, initrd: bytes) -> list[LogEvent]:
    """What a direct boot extends RTMR0 to RTMR2 with: no machine, no firmware, only what was booted.

    Args:
        kernel: digest of the kernel as the firmware measures it, 48 bytes.
        command_line: of the kernel.
        initrd: the initial RAM disk.
    """
    path = _DEVICE_PATH_KERNEL + "kernel\0".encode("utf-16-le") + b"\x7f\xff\x04\0"
    image = struct.pack("<Q Q Q Q", 0, 0, 0, len(path)) + path
    options = f"{command_line} initrd=initrd".encode("utf-16-le") + b"\0\0"
    return [
        hashed(1, EventType.EV_SEPARATOR, _SEPARATOR),
        LogEvent(2, EventType.EV_EFI_BOOT_SERVICES_APPLICATION, kernel, image),
        hashed(2, EventType.EV_EFI_ACTION, b"Calling EFI Application from Boot Option"),
        hashed(2, EventType.EV_SEPARATOR, _SEPARATOR),
        _tagged(0x8F3B22ED, b"LOADED_IMAGE::LoadOptions\0", options),
        _tagged(0x8F3B22EC, b"Linux initrd\0", initrd),
        hashed(2, EventType.EV_EFI_ACTION, b"Exit Boot Services Invocation"),
        hashed(2, EventType.EV_EFI_ACTION, b"Exit Boot Services Returned with Success"),
    ]


def _tagged(tag: int, name: bytes, content: bytes) -> LogEvent:
    data = struct.pack("<I I", tag, len(name)) + name
    return LogEvent(3, EventType.EV_EVENT_TAG, sha384(content).digest(), data)


def registers(events: Iterable[LogEvent]) -> tuple[bytes, bytes, bytes, bytes]:
    """RTMR0 to RTMR3 as these events extend them."""
    found = [bytes(48)] * 5
    for event in events:
        found[event.mr] = sha384(found[event.mr] + event.digest).digest()
    return found[1], found[2], found[3], found[4]
