"""The event log of a TD (CCEL): what the firmware and the boot loader measured, in the order of their extensions.

Sources: ACPI 6.5, section "Confidential Computing Event Log"; TCG PC Client Platform Firmware Profile, sections on
TCG_PCR_EVENT and TCG_PCR_EVENT2.  A log is not evidence by itself: its digests are believed once :func:`replay` gives
the registers of a verified quote.  Type and data of an event are never extended: where the digest is not the hash of
the data (:func:`check_data`), they are what the writer of the log says, and relabelling an event changes no register.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from hashlib import sha384

from ..codec import Reader
from ..errors import Check, MalformedEvidence, UnsupportedEvidence
from .ccel_events import REGISTERS, DataCheck, Event, EventKind, EventType, check_data, describe, kind

__all__ = [
    "CC_TYPE_TDX",
    "DATA_MAX",
    "EVENTS_MAX",
    "LOG_MAX",
    "REGISTERS",
    "SHA384",
    "CcelTable",
    "DataCheck",
    "Event",
    "EventKind",
    "EventLog",
    "EventType",
    "check_data",
    "describe",
    "kind",
    "parse_ccel",
    "parse_ccel_table",
    "replay",
]

LOG_MAX = 4 << 20
EVENTS_MAX = 4096
DATA_MAX = 1 << 20
SHA384 = 0x000C
CC_TYPE_TDX = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class EventLog:
    """A log as received.

    Attributes:
        events: what extended a register, in order; EV_NO_ACTION records are left out.
        no_action: number of EV_NO_ACTION records left out, the first record of the log not among them.
        algorithms: TCG ids of the digests that each record carries.
        size: bytes used, without the tail.
    """

    events: tuple[Event, ...]
    no_action: int
    algorithms: tuple[int, ...]
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CcelTable:
    """The ACPI table that points to the log.

    Attributes:
        cc_type: kind of confidential computing; 2 is TDX.
        log_size: LAML, the size of the log's area.
        log_address: LASA, its guest physical address.
    """

    cc_type: int
    cc_subtype: int
    log_size: int
    log_address: int


_TABLE = struct.Struct("<4s I B B 6s 8s I 4s I B B H Q Q")
_FIRST = struct.Struct("<I I 20s I")
_RECORD = struct.Struct("<I I I")
_SHA384_RECORD = struct.Struct("<I I I H 48s I")
_SIGNATURE = b"Spec ID Event03\0"
_ALGORITHMS_MAX = 8
_DIGEST_MAX = 128
_END = 0xFFFFFFFF
# TCG algorithm registry: names and sizes of the digests.
_HASHES = {0x0004: ("SHA-1", 20), 0x000B: ("SHA-256", 32), SHA384: ("SHA-384", 48), 0x000D: ("SHA-512", 64)}
_HASHES[0x0012] = ("SM3", 32)


def _malformed(message: str) -> MalformedEvidence:
    return MalformedEvidence(f"event log: {message}", check=Check.TDX_CCEL_FORMAT)


def parse_ccel_table(data: bytes) -> CcelTable:
    """Read the ACPI table CCEL.

    Raises:
        MalformedEvidence: another form, or a wrong checksum (``tdx.ccel.format``).
        UnsupportedEvidence: not the table of a TD.
    """
    if len(data) != _TABLE.size:
        raise _malformed(f"ACPI table CCEL: {_TABLE.size} bytes wanted, {len(data)} given")
    signature, length, _, _, _, _, _, _, _, cc_type, cc_subtype, _, log_size, log_address = _TABLE.unpack(data)
    if signature != b"CCEL" or length != _TABLE.size or sum(data) & 0xFF:
        raise _malformed("no ACPI table CCEL: signature, length or checksum is wrong")
    if cc_type != CC_TYPE_TDX:
        raise UnsupportedEvidence(
            f"the event log is of confidential computing type {cc_type}, not of a TD (2)", check=Check.TDX_CCEL_FORMAT
        )
    return CcelTable(cc_type=cc_type, cc_subtype=cc_subtype, log_size=log_size, log_address=log_address)


def parse_ccel(data: bytes) -> EventLog:
    """Read an event log as the firmware left it, with or without its unused tail.

    Raises:
        MalformedEvidence: another form (``tdx.ccel.format``).
        UnsupportedEvidence: no SHA-384 digests.
    """
    if len(data) > LOG_MAX:
        raise _malformed(f"{len(data)} bytes, more than {LOG_MAX}")
    raw = bytes(data)
    sizes, position = _read_first(raw)
    simple = list(sizes) == [SHA384]
    events: list[Event] = []
    seen: dict[tuple[int, int, bytes], int] = {}
    number = 0
    while not _at_end(raw, position):
        if number == EVENTS_MAX:
            raise _malformed(f"more than {EVENTS_MAX} records")
        number += 1
        mr, event_type, digest, size, position = (_read_simple if simple else _read_record)(raw, position, sizes)
        if mr >= len(REGISTERS):
            raise _malformed(f"record {number}: register {mr}; 0 (MRTD) to 4 (RTMR3) are there")
        if size > DATA_MAX or size > len(raw) - position:
            raise _malformed(f"record {number}: {size} bytes of data announced, {len(raw) - position} there")
        event_data = raw[position : position + size]
        position += size
        if event_type != EventType.EV_NO_ACTION:
            key = (mr, event_type, event_data)
            repeat = seen[key] = seen.get(key, -1) + 1
            events.append(Event(number=number, mr=mr, type=event_type, digest=digest, data=event_data, repeat=repeat))
    return EventLog(events=tuple(events), no_action=number - len(events), algorithms=tuple(sizes), size=position)


def _read_first(raw: bytes) -> tuple[dict[int, int], int]:
    """The first record: size of each digest by its algorithm, and where the next record starts."""
    if len(raw) < _FIRST.size:
        raise _malformed(f"{_FIRST.size} bytes of the first record wanted, {len(raw)} there")
    register, event_type, digest, size = _FIRST.unpack_from(raw)
    if event_type != EventType.EV_NO_ACTION or register >= len(REGISTERS) or any(digest):
        raise _malformed("the first record is not the one that names the specification")
    end = _FIRST.size + size
    if end > len(raw):
        raise _malformed(f"{size} bytes of the first record announced, {len(raw) - _FIRST.size} there")
    r = Reader(raw[_FIRST.size : end], "event log, first record")
    try:
        sizes = _read_algorithms(r)
    except MalformedEvidence as exc:
        raise MalformedEvidence(str(exc), check=Check.TDX_CCEL_FORMAT) from exc
    if SHA384 not in sizes:
        names = ", ".join(_HASHES[a][0] if a in _HASHES else f"{a:#06x}" for a in sizes)
        raise UnsupportedEvidence(
            f"the event log has digests of {names}; the registers of a TD are SHA-384", check=Check.TDX_CCEL_FORMAT
        )
    return sizes, end


def _read_algorithms(r: Reader) -> dict[int, int]:
    if r.take(16) != _SIGNATURE:
        raise r.fail("the log is not of the form 'Spec ID Event03'")
    r.take(8)  # platform class, version, errata, size of UINTN
    count = r.u32()
    if not 1 <= count <= _ALGORITHMS_MAX:
        raise r.fail(f"{count} digest algorithms")
    sizes: dict[int, int] = {}
    for _ in range(count):
        algorithm, size = r.u16(), r.u16()
        _, right = _HASHES.get(algorithm, ("", size))
        if algorithm in sizes or size != right or not 1 <= size <= _DIGEST_MAX:
            raise r.fail(f"algorithm {algorithm:#06x} twice, or with digests of {size} bytes")
        sizes[algorithm] = size
    r.take(r.u8())  # what the vendor says
    r.end()
    return sizes


def _at_end(raw: bytes, position: int) -> bool:
    """Whether only the unused tail follows: the firmware fills it with 0xFF, others with zeros."""
    left = len(raw) - position
    if left >= 4 and raw.startswith(b"\xff\xff\xff\xff", position):
        return True
    if left < _RECORD.size:
        return left == 0 or raw[position:] in {b"\xff" * left, bytes(left)}
    if not raw.startswith(b"\0\0\0\0\0\0\0\0\0\0\0\0", position):
        return False
    if raw.count(0, position) != left:
        raise _malformed(f"bytes follow where the log ends in zeros (offset {position})")
    return True


def _read_simple(raw: bytes, position: int, sizes: dict[int, int]) -> tuple[int, int, bytes, int, int]:
    """A record with one digest, SHA-384: register, type, digest, size and start of the data."""
    if len(raw) - position < _SHA384_RECORD.size:
        raise _malformed(f"cut off in a record (offset {position})")
    mr, event_type, count, algorithm, digest, size = _SHA384_RECORD.unpack_from(raw, position)
    if count != 1 or algorithm not in sizes:
        raise _malformed(f"a record without exactly one SHA-384 digest (offset {position})")
    return mr, event_type, digest, size, position + _SHA384_RECORD.size


def _read_record(raw: bytes, position: int, sizes: dict[int, int]) -> tuple[int, int, bytes, int, int]:
    """A record with the digests that the first record announced, in any order."""
    end = position + _RECORD.size + sum(2 + size for size in sizes.values()) + 4
    if end > len(raw):
        raise _malformed(f"cut off in a record (offset {position})")
    mr, event_type, count = _RECORD.unpack_from(raw, position)
    if count != len(sizes):
        raise _malformed(f"a record with {count} digests, {len(sizes)} are announced (offset {position})")
    position += _RECORD.size
    digests: dict[int, bytes] = {}
    for _ in range(count):
        algorithm = int.from_bytes(raw[position : position + 2], "little")
        if algorithm not in sizes or algorithm in digests:
            raise _malformed(f"a digest of algorithm {algorithm:#06x}, twice or not announced (offset {position})")
        position += 2 + sizes[algorithm]
        digests[algorithm] = raw[position - sizes[algorithm] : position]
    return mr, event_type, digests[SHA384], int.from_bytes(raw[position:end], "little"), end


def replay(log: EventLog) -> tuple[bytes, bytes, bytes, bytes]:
    """RTMR0 to RTMR3 as the events of the log extend them from zero."""
    registers = [bytes(48)] * len(REGISTERS)
    for event in log.events:
        registers[event.mr] = sha384(registers[event.mr] + event.digest).digest()
    return registers[1], registers[2], registers[3], registers[4]
