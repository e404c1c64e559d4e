"""The event log of a TD: every real log, its replay, each malformed form by name, totality."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dokimos.errors import Check, MalformedEvidence, UnsupportedEvidence
from dokimos.evidence.ccel import (
    DATA_MAX,
    EVENTS_MAX,
    LOG_MAX,
    REGISTERS,
    SHA384,
    DataCheck,
    EventType,
    check_data,
    parse_ccel,
    parse_ccel_table,
    replay,
)
from dokimos.evidence.tdx import parse_quote

SIZES = {0x0004: 20, 0x000B: 32, SHA384: 48, 0x000D: 64, 0x0012: 32}
FF = b"\xff" * 64


def first(
    algorithms: tuple[int, ...] = (SHA384,),
    *,
    signature: bytes = b"Spec ID Event03\0",
    vendor: bytes = b"",
    register: int = 1,
    event_type: int = EventType.EV_NO_ACTION,
    sizes: dict[int, int] = SIZES,
    count: int | None = None,
    behind: bytes = b"",
) -> bytes:
    """The first record."""
    content = signature + bytes(5) + b"\2\0\2" + struct.pack("<I", len(algorithms) if count is None else count)
    content += b"".join(struct.pack("<HH", a, sizes[a]) for a in algorithms)
    content += bytes((len(vendor),)) + vendor + behind
    return struct.pack("<II20sI", register, event_type, b"", len(content)) + content


def record(data: bytes = b"data", mr: int = 1, event_type: int = 6, digests: dict[int, bytes] | None = None) -> bytes:
    """One record; its digest is the hash of the data, or what is given by algorithm."""
    digests = {SHA384: hashlib.sha384(data).digest()} if digests is None else digests
    written = b"".join(struct.pack("<H", a) + digest for a, digest in digests.items())
    return struct.pack("<III", mr, event_type, len(digests)) + written + struct.pack("<I", len(data)) + data


def refuse(data: bytes, text: str) -> None:
    """The data is malformed, with the format's check id and this text."""
    with pytest.raises(MalformedEvidence, match=text) as caught:
        parse_ccel(data)
    assert caught.value.check is Check.TDX_CCEL_FORMAT


def parse_only(vectors):
    """Every real log without a quote: its bytes, what its manifest says, and its JSON or None."""
    found = vectors("tdx/ccel_parse_only")
    for case in found.manifest["expected"]["cases"]:
        told = case["files"].get("expected_json")
        listed = json.loads(found.bytes(told))["uefi_event_logs"] if told else None
        yield case, found.bytes(case["files"]["ccel"]), listed


def test_every_real_log_parses_and_replays_as_its_manifest_says(vectors):
    seen = 0
    for case, data, _ in parse_only(vectors):
        if case["digest_algorithms"] != ["SHA-384"]:
            continue
        log = parse_ccel(data)
        assert len(log.events) + log.no_action == case["events"], case["id"]
        assert log.size == case["used_bytes"]
        assert log.algorithms == (SHA384,)
        counted: dict[str, int] = {"mrtd": log.no_action} if log.no_action else {}
        for event in log.events:
            name = REGISTERS[event.mr].lower()
            counted[name] = counted.get(name, 0) + 1
        assert counted == case["events_per_register"]
        registers = replay(log)
        for number in range(4):
            assert registers[number].hex() == case["rtmr"].get(str(number), "00" * 48), (case["id"], number)
        seen += 1
    assert seen == 6


def test_every_event_of_every_real_log_is_what_another_reader_made_of_it(vectors):
    seen = 0
    for case, data, listed in parse_only(vectors):
        if listed is None or case["digest_algorithms"] != ["SHA-384"]:
            continue
        log = parse_ccel(data)
        assert len(listed) == case["events"]
        for event in log.events:
            told = listed[event.number - 1]
            assert event.mr == told["index"]
            assert event.type_name == told["type_name"]
            assert [("SHA-384", event.digest.hex())] == [(d["alg"], d["digest"]) for d in told["digests"]]
            assert event.data == base64.b64decode(told["event"])
            if told["digest_matches_event"]:
                assert check_data(event) is DataCheck.MATCHES
            seen += 1
        left_out = {number for number, told in enumerate(listed, 1) if told["type_name"] == "EV_NO_ACTION"}
        assert left_out == set(range(1, len(listed) + 1)) - {event.number for event in log.events}
    assert seen == 87 + 5 + 37 + 33 + 20


def test_a_real_log_with_sm3_digests_is_unsupported_by_name(vectors):
    data = vectors("tdx/ccel_parse_only").bytes("CCEL_data_csv")
    with pytest.raises(UnsupportedEvidence, match="digests of SM3; the registers of a TD are SHA-384") as caught:
        parse_ccel(data)
    assert caught.value.check is Check.TDX_CCEL_FORMAT


def test_the_log_of_a_boot_gives_the_registers_of_its_quote_and_that_of_another_boot_does_not(vectors):
    found = vectors("tdx/ccel_direct_boot_live2")
    expected = found.manifest["expected"]
    log, other = parse_ccel(found.bytes("ccel.bin")), parse_ccel(found.bytes("ccel_other_boot.bin"))
    quoted = parse_quote(found.bytes("quote.bin")).body.rtmrs
    assert (len(log.events), log.size) == (expected["events"], expected["used_bytes"])
    assert replay(log) == quoted
    assert [n for n in range(4) if replay(other)[n] != quoted[n]] == [2]
    # TDREPORT: REPORTMACSTRUCT 256, TEE_TCB_INFO 256, then TDINFO with the registers at 208.
    info = found.bytes("tdreport_other_boot.bin")[512:]
    assert replay(other) == tuple(info[208 + 48 * n : 256 + 48 * n] for n in range(4))


def test_no_event_of_a_real_log_differs_from_its_data(vectors):
    found = vectors("tdx/ccel_direct_boot_live2")
    logs = [found.bytes("ccel.bin"), found.bytes("ccel_other_boot.bin")]
    logs += [data for case, data, _ in parse_only(vectors) if case["digest_algorithms"] == ["SHA-384"]]
    for data in logs:
        assert [event for event in parse_ccel(data).events if check_data(event) is DataCheck.DIFFERS] == []


def test_each_truncation_of_a_real_log_is_malformed_or_ends_between_records(vectors):
    data = vectors("tdx/ccel_direct_boot_live2").bytes("ccel.bin")
    whole = parse_ccel(data)
    ends = set()
    for length in range(whole.size + 1):
        try:
            log = parse_ccel(data[:length])
        except MalformedEvidence:
            continue
        assert log.size == length
        assert log.events == whole.events[: len(log.events)]
        ends.add(length)
    assert len(ends) == len(whole.events) + 1


def test_no_bit_flip_of_a_real_log_escapes_the_registers_or_the_data(vectors):
    data = vectors("tdx/ccel_direct_boot_live2").bytes("ccel.bin")
    whole = parse_ccel(data)
    changed = bytearray(data[: whole.size])
    for bit in range(8 * whole.size):
        changed[bit // 8] ^= 1 << bit % 8
        with contextlib.suppress(MalformedEvidence, UnsupportedEvidence):
            # Only what the first record says about platform and versions is in no event.
            assert parse_ccel(bytes(changed)).events != whole.events or bit // 8 < 60
        changed[bit // 8] ^= 1 << bit % 8


@pytest.mark.parametrize("tail", [b"", b"\0", b"\xff", bytes(11), bytes(4096), FF, b"\xff" * 3, b"\xff" * 4 + b"junk"])
def test_a_log_may_end_in_any_unused_tail(tail):
    log = parse_ccel(first() + record() + tail)
    assert (len(log.events), log.size) == (1, len(first() + record()))


@pytest.mark.parametrize("tail", [b"\1", b"\xff\0", b"\xff\xff\xff\0", bytes(10) + b"\1", b"\0\xff" * 5])
def test_a_tail_that_is_neither_record_nor_filling_is_malformed(tail):
    refuse(first() + record() + tail, "cut off in a record")


def test_a_record_hidden_behind_zeros_is_malformed():
    refuse(first() + record() + bytes(100) + record(), "bytes follow where the log ends in zeros")


def test_records_that_extend_nothing_are_counted_and_left_out():
    zero = record(b"SP800-155 Event3", mr=0, event_type=3, digests={SHA384: bytes(48)})
    log = parse_ccel(first() + zero + record() + zero + record(b"other"))
    assert [event.number for event in log.events] == [2, 4]
    assert log.no_action == 2
    assert replay(log)[0] != bytes(48)
    assert replay(parse_ccel(first() + zero)) == (bytes(48),) * 4


def test_registers_are_extended_in_order_and_each_by_its_own_events():
    data = [(b"a", 1), (b"b", 2), (b"c", 1), (b"d", 3), (b"e", 4), (b"f", 0)]
    registers = replay(parse_ccel(first() + b"".join(record(text, mr) for text, mr in data)))
    for number in range(4):
        value = bytes(48)
        for text, mr in data:
            if mr == number + 1:
                value = hashlib.sha384(value + hashlib.sha384(text).digest()).digest()
        assert registers[number] == value


def test_equal_events_are_counted_within_their_register():
    log = parse_ccel(first() + record() + record(mr=2) + record() + record(event_type=7) + record())
    assert [event.repeat for event in log.events] == [0, 0, 1, 0, 2]


def test_of_several_digests_the_sha384_one_is_kept_in_any_order():
    algorithms = (0x000B, SHA384, 0x0004)
    right = hashlib.sha384(b"data").digest()
    digests = {0x000B: b"b" * 32, SHA384: right, 0x0004: b"a" * 20}
    turned = dict(reversed(digests.items()))
    log = parse_ccel(first(algorithms) + record(digests=digests) + record(digests=turned) + FF)
    assert log.algorithms == algorithms
    assert [event.digest for event in log.events] == [right, right]


@pytest.mark.parametrize(
    ("digests", "text"),
    [
        ({SHA384: bytes(48)}, "a record with 1 digests, 2 are announced"),
        ({SHA384: bytes(48), 0x000B: bytes(32), 0x0004: bytes(20)}, "a record with 3 digests, 2 are announced"),
        ({SHA384: bytes(48), 0x000D: bytes(64)}, "a digest of algorithm 0x000d, twice or not announced"),
        ({SHA384: bytes(48) + b"\x0c\0" + bytes(32)}, "a record with 1 digests"),
    ],
)
def test_digests_other_than_announced_are_malformed(digests, text):
    refuse(first((SHA384, 0x000B)) + record(digests=digests) + bytes(200), text)


def test_a_digest_given_twice_is_malformed():
    twice = struct.pack("<IIIH48sH48s", 1, 6, 2, SHA384, b"", SHA384, b"") + struct.pack("<I", 0)
    refuse(first((SHA384, 0x000B)) + twice + bytes(200), "a digest of algorithm 0x000c, twice")


@pytest.mark.parametrize(
    "digests", [{}, {0x000B: bytes(32)}, {0x000B: bytes(48)}, {SHA384: bytes(48), 0x000B: bytes(32)}]
)
def test_a_record_without_exactly_one_sha384_digest_is_malformed(digests):
    refuse(first() + record(digests=digests) + bytes(200), "without exactly one SHA-384 digest")


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "32 bytes of the first record wanted"),
        (first()[:31], "32 bytes of the first record wanted, 31 there"),
        (first()[:-1], "33 bytes of the first record announced, 32 there"),
        (first(event_type=4), "not the one that names the specification"),
        (first(register=5), "not the one that names the specification"),
        (first().replace(bytes(20), b"x" * 20, 1), "not the one that names the specification"),
        (first(signature=b"Spec ID Event02\0"), "not of the form 'Spec ID Event03'"),
        (first(count=0), "0 digest algorithms"),
        (first(count=9), "9 digest algorithms"),
        (first(count=2), "bytes wanted"),
        (first(sizes={SHA384: 32}), "algorithm 0x000c twice, or with digests of 32 bytes"),
        (first((SHA384, SHA384)), "algorithm 0x000c twice"),
        (first((SHA384, 0x0027), sizes={SHA384: 48, 0x0027: 0}), "algorithm 0x0027 twice, or with digests of 0"),
        (first((SHA384, 0x0027), sizes={SHA384: 48, 0x0027: 129}), "algorithm 0x0027 twice, or with digests of 129"),
        (first(behind=b"\0"), "1 bytes too many"),
        (first(vendor=b"td-shim")[:-1], "bytes of the first record announced"),
    ],
)
def test_a_broken_first_record_is_malformed(data, text):
    refuse(data, text)


def test_the_first_record_may_carry_what_a_vendor_says():
    assert parse_ccel(first(vendor=b"td-shim", register=0) + record()).events


@pytest.mark.parametrize(
    ("algorithms", "names"), [((0x0004,), "SHA-1"), ((0x000B, 0x0012), "SHA-256, SM3"), ((0x0027,), "0x0027")]
)
def test_a_log_without_sha384_digests_is_unsupported_by_name(algorithms, names):
    with pytest.raises(UnsupportedEvidence, match=f"digests of {names};") as caught:
        parse_ccel(first(algorithms, sizes={**SIZES, 0x0027: 32}))
    assert caught.value.check is Check.TDX_CCEL_FORMAT


@pytest.mark.parametrize("mr", [5, 16, 0xFFFFFFFE])
def test_an_event_of_a_register_that_a_td_does_not_have_is_malformed(mr):
    refuse(first() + record(mr=mr), f"register {mr}; 0 .MRTD. to 4 .RTMR3. are there")


def test_more_data_than_there_is_or_than_may_be_is_malformed():
    cut = record(b"x" * 100)[:-1]
    refuse(first() + cut, "record 1: 100 bytes of data announced, 99 there")
    assert len(parse_ccel(first() + record(bytes(DATA_MAX))).events) == 1
    refuse(first() + record(bytes(DATA_MAX + 1)), "bytes of data announced")
    refuse(
        first() + record() + struct.pack("<IIIH48sI", 1, 6, 1, SHA384, b"", 0xFFFFFFFF), "record 2: 4294967295 bytes"
    )


def test_more_records_or_bytes_than_may_be_are_malformed():
    assert len(parse_ccel(first() + record(b"") * EVENTS_MAX + FF).events) == EVENTS_MAX
    refuse(first() + record(b"") * (EVENTS_MAX + 1), f"more than {EVENTS_MAX} records")
    assert parse_ccel((first() + record()).ljust(LOG_MAX, b"\0")).events
    refuse((first() + record()).ljust(LOG_MAX + 1, b"\0"), f"more than {LOG_MAX}")


def test_a_type_without_a_name_is_shown_as_its_number():
    (event,) = parse_ccel(first() + record(event_type=0x08000001)).events
    assert event.type_name == "0x08000001"


def table(cc_type: int = 2, length: int = 56, signature: bytes = b"CCEL", checksum: int | None = None) -> bytes:
    """An ACPI table whose bytes add up to zero."""
    rest = struct.pack("<BBHQQ", cc_type, 0, 0, 0x10000, 0x7BE10000)
    raw = bytearray(struct.pack("<4sIBB6s8sI4sI", signature, length, 1, 0, b"BOCHS ", b"BXPC", 1, b"BXPC", 1) + rest)
    raw[9] = -sum(raw) & 0xFF if checksum is None else checksum
    return bytes(raw)


def test_the_acpi_table_says_where_the_log_is():
    found = parse_ccel_table(table())
    assert (found.cc_type, found.cc_subtype, found.log_size, found.log_address) == (2, 0, 0x10000, 0x7BE10000)


@pytest.mark.parametrize(
    "data", [b"", table()[:-1], table() + b"\0", table(length=57), table(signature=b"APIC"), table(checksum=0)]
)
def test_a_broken_acpi_table_is_malformed(data):
    with pytest.raises(MalformedEvidence) as caught:
        parse_ccel_table(data)
    assert caught.value.check is Check.TDX_CCEL_FORMAT


@pytest.mark.parametrize("cc_type", [0, 1, 3])
def test_an_acpi_table_of_another_technology_is_unsupported(cc_type):
    with pytest.raises(UnsupportedEvidence, match=f"type {cc_type}, not of a TD"):
        parse_ccel_table(table(cc_type))


@given(st.binary(max_size=600))
def test_any_bytes_are_a_log_or_one_of_our_errors(data):
    for front in (b"", first(), first((SHA384, 0x000B)), first() + record()):
        with contextlib.suppress(MalformedEvidence, UnsupportedEvidence):
            log = parse_ccel(front + data)
            assert log.size <= len(front + data)
            assert len(replay(log)) == 4
    with contextlib.suppress(MalformedEvidence, UnsupportedEvidence):
        parse_ccel_table(data[:56])


@given(
    st.lists(st.tuples(st.binary(max_size=40), st.integers(0, 4), st.integers(0, 2**32 - 1)), max_size=20),
    st.sampled_from([b"", FF, bytes(64)]),
)
def test_what_is_written_is_read_back(events, tail):
    # A record that is zero from register to digest count cannot be: it has a digest.
    log = parse_ccel(first() + b"".join(record(data, mr, number) for data, mr, number in events) + tail)
    kept = [(data, mr, number) for data, mr, number in events if number != EventType.EV_NO_ACTION]
    assert [(event.data, event.mr, event.type) for event in log.events] == kept
    assert log.no_action == len(events) - len(kept)
