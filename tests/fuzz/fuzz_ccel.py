"""Any bytes are an event log or its ACPI table, or one of our errors; every event has a kind, a label and a check."""

from __future__ import annotations

import contextlib
import struct

from dokimos.errors import Error
from dokimos.evidence.ccel import (
    EVENTS_MAX,
    REGISTERS,
    Event,
    check_data,
    describe,
    kind,
    parse_ccel,
    parse_ccel_table,
    replay,
)

_GLOBAL = bytes.fromhex("61dfe48bca93d211aa0d00e098032b8c")
_FILE = "\\EFI\\a.efi\0".encode("utf-16-le")
_PATH = struct.pack("<BBH", 4, 4, 4 + len(_FILE)) + _FILE + b"\x7f\xff\4\0"
_OPTION = struct.pack("<IH", 1, len(_PATH)) + "UiApp\0".encode("utf-16-le") + _PATH
_EVENTS = [
    (1, 0x8000000B, b"\x09TdxTable\0" + bytes(32)),
    (1, 0x8000000A, b"\x29Fv(XXXXXXXX-XXXX-XXXX-XXXX-XXXXXXXXXXXX)\0" + bytes(16)),
    (1, 0x80000001, _GLOBAL + struct.pack("<QQ", 2, 0) + "PK".encode("utf-16-le")),
    (1, 0x80000002, _GLOBAL + struct.pack("<QQ", 8, len(_OPTION)) + "Boot0000".encode("utf-16-le") + _OPTION),
    (1, 4, bytes(4)),
    (1, 0xA, b"ACPI DATA"),
    (1, 0xA, struct.pack("<16sI", b"td_hob", 3) + b"HOB"),
    (2, 0x80000003, struct.pack("<QQQQ", 1, 2, 3, len(_PATH)) + _PATH),
    (2, 0x80000006, b"EFI PART" + bytes(84) + struct.pack("<Q", 1) + bytes(128)),
    (3, 6, struct.pack("<II", 0x8F3B22ED, 5) + b"Load\0"),
    (3, 0xD, b"grub_cmd: set a=b\0"),
    (3, 0xD, ".linux\0".encode("utf-16-le")),
    (0, 3, b"SP800-155 Event3"),
]


def _first(*algorithms: tuple[int, int]) -> bytes:
    content = b"Spec ID Event03\0" + bytes(8) + struct.pack("<I", len(algorithms))
    content += b"".join(struct.pack("<HH", *algorithm) for algorithm in algorithms) + b"\0"
    return struct.pack("<II20sI", 1, 3, b"", len(content)) + content


def _record(mr: int, event_type: int, data: bytes, *sizes: tuple[int, int]) -> bytes:
    digests = b"".join(struct.pack("<H", algorithm) + bytes(size) for algorithm, size in sizes)
    return struct.pack("<III", mr, event_type, len(sizes)) + digests + struct.pack("<I", len(data)) + data


_ONE = (0x000C, 48)
_TWO = ((0x000B, 32), _ONE)
_TABLE = struct.pack("<4sIBB6s8sI4sIBBHQQ", b"CCEL", 56, 1, 0, b"", b"", 1, b"", 1, 2, 0, 0, 0x10000, 0x7BE10000)

SEEDS: list[bytes] = [
    _first(_ONE) + b"".join(_record(*event, _ONE) for event in _EVENTS) + b"\xff" * 16,
    _first(*_TWO) + b"".join(_record(*event, *_TWO) for event in _EVENTS[:4]) + bytes(16),
    _TABLE[:9] + bytes((-sum(_TABLE) & 0xFF,)) + _TABLE[10:],
]


def _touch(event: Event) -> None:
    kind(event)
    check_data(event)
    if not describe(event).isprintable():
        raise AssertionError("a label is not printable")


def one_input(data: bytes) -> None:
    """Parse, replay and look at each event; the bytes are an event's data too."""
    with contextlib.suppress(Error):
        parse_ccel_table(data)
    with contextlib.suppress(Error):
        log = parse_ccel(data)
        if log.size > len(data) or len(log.events) + log.no_action > EVENTS_MAX:
            raise AssertionError("more than there is")
        if any(len(register) != 48 for register in replay(log)):
            raise AssertionError("a register of another size")
        for event in log.events:
            _touch(event)
    for _, event_type, front in _EVENTS[: len(data) % 4 * 4]:
        for content in (data, front[:20] + data):
            mr = len(data) % len(REGISTERS)
            _touch(Event(number=1, mr=mr, type=event_type, digest=bytes(48), data=content))
