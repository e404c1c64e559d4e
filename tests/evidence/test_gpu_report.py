"""The report parser: every real report to the byte, each malformed form by name, totality."""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dokimos.errors import Check, MalformedEvidence
from dokimos.evidence.gpu_arch import Arch, Kind
from dokimos.evidence.gpu_evidence import parse_gpu_evidence
from dokimos.evidence.gpu_report import (
    NAMES,
    REPORT_MAX,
    Measurement,
    Opaque,
    encode_signed,
    parse_gpu_report,
    serialize_gpu_report,
)
from tests.generate import gpu
from tests.generate.gpu import OPAQUE, block, blocks_of, opaque, signed_bytes

SIGNATURE = bytes(range(96))
HOPPER, SWITCH = blocks_of(Arch.HOPPER), blocks_of(Arch.LS10)
SETS = (
    "hopper-545.00-full-positive",
    "hopper-550.90.07-vs-wrong-rims",
    "hopper-535.86.09",
    "hopper-580.95.05-trailing-byte",
    "blackwell-575.32",
    "nvswitch-ls10-full-positive",
)


def made(blocks=None, entries=None, **announced):
    """A report of right form but for what is given, with any signature."""
    blocks = HOPPER if blocks is None else blocks
    entries = OPAQUE[Arch.HOPPER] if entries is None else entries
    raw = entries if isinstance(entries, bytes) else opaque(entries)
    return signed_bytes(blocks, raw, **announced) + SIGNATURE


def refuse(data, text, kind=None, **options):
    """The data is malformed, with the format's check id and this text."""
    with pytest.raises(MalformedEvidence, match=text) as caught:
        parse_gpu_report(data, kind, **options)
    assert caught.value.check is Check.GPU_REPORT_FORMAT


def real_reports(vectors):
    """Every real report as received, without the one stray byte."""
    for name in SETS:
        data = bytes.fromhex(vectors(f"nvidia/{name}").bytes("report.hex").decode())
        yield data[:-1] if "trailing" in name else data
    found = vectors("nvidia/ppcie-hgx-8gpu-4switch")
    for name in ("gpu_evidence.json", "switch_evidence.json"):
        yield from (device.report for device in parse_gpu_evidence(found.bytes(name)))


def test_every_real_report_is_written_back_to_the_same_bytes(vectors):
    reports = list(real_reports(vectors))
    assert len(reports) == 18
    for data in reports:
        report = parse_gpu_report(data)
        assert serialize_gpu_report(report) == report.raw == data == report.signed + report.signature
        assert len(report.signature) == 96
        assert parse_gpu_report(data, report.kind) == report
        assert [block.index for block in report.measurements] == list(range(31 if report.kind is Kind.SWITCH else 64))
        assert report.unknown_types == ()
        offsets = {block.index: 45 + 55 * block.index + 7 for block in report.measurements}
        assert all(report.value(n) == data[at : at + 48] for n, at in offsets.items())


def test_a_real_report_cut_anywhere_is_malformed_and_nothing_else(vectors):
    for data in (next(real_reports(vectors)), list(real_reports(vectors))[-1]):
        for size in range(len(data)):
            with pytest.raises(MalformedEvidence) as caught:
                parse_gpu_report(data[:size], zero_padding=True)
            assert caught.value.check is Check.GPU_REPORT_FORMAT


def test_the_fields_of_a_hopper_gpu():
    report = parse_gpu_report(made())
    assert report.kind is Kind.GPU
    assert (report.nonce, report.responder_nonce, report.slot) == (gpu.NONCE, bytes(range(200, 232)), 0)
    assert (report.driver_version, report.vbios_version) == ("580.95.05", "96.00.9F.00.01")
    assert (report.project, report.project_sku, report.chip_sku, report.chip_info) == ("1010", "0200", "882", None)
    assert (report.fwid, report.nvdec0, report.feature_flag) == (gpu.FWID, 0x55, 0)
    assert (report.protected_pcie, report.opaque_version) == (0x55, 1)
    assert report.switch_pdis == tuple(bytes(range(n, n + 8)) for n in range(1, 145, 8))
    assert (report.device_pdi, report.gpu_pdis, report.lock_switch) == (None, None, None)
    assert report.value(0) == b"\x01" * 48
    assert report.value(63) == b"\x40" * 48
    assert (report.value(64), report.value(-1)) == (None, None)


def test_the_fields_of_a_blackwell_gpu():
    report = parse_gpu_report(made(entries=OPAQUE[Arch.BLACKWELL]))
    assert (report.chip_info, report.vbios_version, report.feature_flag) == ("GB110", "97.00.88.00.0F", 1)
    assert (report.protected_pcie, report.switch_pdis) == (None, None)


def test_the_fields_of_a_switch():
    report = parse_gpu_report(made(SWITCH, OPAQUE[Arch.LS10]))
    assert report.kind is Kind.SWITCH
    assert (report.driver_version, report.vbios_version) == (None, "96.10.55.00.01")
    assert (report.device_pdi, report.lock_switch) == (bytes(range(8)), 1)
    assert report.gpu_pdis == tuple(bytes(range(n, n + 8)) for n in range(0, 64, 8))
    assert (report.switch_pdis, report.fwid, report.nvdec0, report.project) == (None, None, None, None)


def test_unknown_entries_are_kept_and_named():
    report = parse_gpu_report(made(entries=[*OPAQUE[Arch.HOPPER], (37, b"new"), (255, b""), (26, bytes(3))]))
    assert report.unknown_types == (37, 255, 26)
    assert report.entry(37) == b"new"
    assert serialize_gpu_report(report) == report.raw


def test_the_two_tables_differ_where_the_kinds_do():
    names = {kind: {n: NAMES[kind].get(n) for n in range(22, 28)} for kind in Kind}
    assert names[Kind.GPU][22] == "SWITCH_PDI"
    assert names[Kind.SWITCH][22] == "DEVICE_PDI"
    assert (names[Kind.GPU][26], names[Kind.SWITCH][26]) == (None, "SWITCH_GPU_PDIS")


def test_blocks_may_have_gaps_and_another_order():
    report = parse_gpu_report(made([block(9), block(3), block(254)]))
    assert [block.index for block in report.measurements] == [8, 2, 253]
    assert (report.value(2), report.value(0)) == (b"\x03" * 48, None)
    assert serialize_gpu_report(report) == report.raw


def test_zeros_behind_the_report_are_refused_unless_they_are_asked_for():
    data = made()
    assert parse_gpu_report(data + bytes(17), zero_padding=True).raw == data
    assert parse_gpu_report(data.ljust(REPORT_MAX, b"\0"), zero_padding=True) == parse_gpu_report(data)
    refuse(data + bytes(17), f"17 bytes too many behind the report of {len(data)} bytes, all zero")
    refuse(data + b"\0\0\x01\0", f"4 bytes too many behind the report of {len(data)} bytes, not all zero")
    refuse(data + b"\0\0\x01\0", f"4 bytes too many behind the report of {len(data)}", zero_padding=True)
    refuse(data.ljust(REPORT_MAX + 1, b"\0"), "8193 bytes, more than 8192", zero_padding=True)


@pytest.mark.parametrize("request_", ["12e001ff", "11e101ff", "11e000ff", "11e00101"])
def test_another_request_is_refused(request_):
    refuse(made(request=bytes.fromhex(request_)), f"begins with {request_}, not with a request for all measurements")


@pytest.mark.parametrize("response", ["126000", "116100", "117f00", "116001"])
def test_another_response_is_refused(response):
    refuse(made(response=bytes.fromhex(response)), f"{response} behind the request, not a response with measurements")


def test_the_answer_is_for_the_slot_that_was_asked_for():
    assert parse_gpu_report(made(slots=b"\3\3")).slot == 3
    refuse(made(slots=b"\0\1"), "slot 0 was asked for, and the answer is for slot 1")
    refuse(made(slots=b"\x08\x08"), "slot 8")


@pytest.mark.parametrize(
    ("blocks", "announced", "text"),
    [
        ([], {}, "0 blocks"),
        (HOPPER, {"counted": 63}, "63 blocks of 55 bytes, and 3520 bytes announced"),
        (HOPPER, {"counted": 65}, "65 blocks"),
        (HOPPER, {"length": 3519}, "3519 bytes announced"),
        (HOPPER, {"counted": 255, "length": 255 * 55}, "14025 bytes of measurements announced"),
        (HOPPER, {"length": 0xFFFFFF}, "16777215 bytes announced"),
        ([block(1, spec=2)], {}, "not one DMTF measurement"),
        ([block(1), block(2, size=50)], {}, "not one DMTF measurement"),
        ([block(1, size=51 + 256)], {}, "not one DMTF measurement"),
        ([block(1, value_size=32)], {}, "not one DMTF measurement"),
        ([block(1, value_size=48 + 256)], {}, "not one DMTF measurement"),
        ([block(1, b"v" * 32)], {}, "1 blocks of 55 bytes, and 39 bytes"),
        ([block(1, b"v" * 64), block(2, b"v" * 32)], {}, "not one DMTF measurement"),
        ([block(1), block(2, type=0x81)], {}, "no digest"),
        ([block(1), block(2), block(1)], {}, "two blocks of the same index"),
        ([block(0)], {}, "index 0 or 255"),
        ([block(255)], {}, "index 0 or 255"),
    ],
)
def test_blocks_of_a_wrong_form_are_refused(blocks, announced, text):
    refuse(made(blocks, **announced), text)


RIGHT = list(OPAQUE[Arch.HOPPER])


@pytest.mark.parametrize(
    ("entries", "announced", "text"),
    [
        ([*RIGHT, (3, b"1\0")], {}, "opaque entry 3 twice"),
        ([*RIGHT, (99, b""), (99, b"")], {}, "opaque entry 99 twice"),
        (opaque(RIGHT) + b"\x63\0", {}, "ends within an entry"),
        (opaque(RIGHT) + b"\x63\0\x02\0a", {}, "opaque entry 99: 2 bytes announced, 1 there"),
        (opaque(RIGHT), {"opaque_length": len(opaque(RIGHT)) - 1}, "1 bytes too many behind the report"),
        (opaque(RIGHT), {"opaque_length": len(opaque(RIGHT)) + 1}, "its lengths make"),
        (opaque(RIGHT), {"opaque_length": 0xFFFF}, "its lengths make"),
        ([], {}, "neither of a GPU"),
        ([(22, bytes(16))], {}, "neither of a GPU"),
        ([(25, b"\x01\0"), (26, bytes(128))], {}, "neither of a GPU"),
    ],
)
def test_opaque_data_of_a_wrong_form_is_refused(entries, announced, text):
    refuse(made(entries=entries, **announced), text)


@pytest.mark.parametrize(
    ("number", "wrong"),
    [
        (3, [b"", b"\0", b"590\0.12", b"590.12\n", b"590/12", b"\xff", b".590", b"1" * 65]),
        (6, [b"", bytes(7), bytes(9), b"96.00.A5.00.01"]),
        (11, [b"", b"\x55\0"]),
        (15, [b"88 2", b"\xff"]),
        (17, [b"../x\0", b"G\0G"]),
        (18, [b"\x01"]),
        (20, [b"", bytes(47), bytes(49)]),
        (21, [b"", bytes(2)]),
        (22, [b"", bytes(7), bytes(143)]),
        (34, [b"", b"\x01", bytes(4)]),
        (35, [b"GB 100\0", b"gb\x00x"]),
        (36, [b"", b"\x01", bytes(4)]),
    ],
)
def test_an_entry_that_a_gpu_is_judged_by_has_its_one_form(number, wrong):
    kept = [entry for entry in RIGHT if entry[0] != number]
    for data in wrong:
        refuse(made(entries=[*kept, (number, data)]), f"{NAMES[Kind.GPU][number]} has another form")


@pytest.mark.parametrize(
    ("number", "wrong"),
    [
        (6, [b"", bytes(8), b"96.10\0.55"]),
        (20, [b"", bytes(47)]),
        (25, [b"", b"\x01", bytes(4)]),
        (26, [b"", bytes(127), bytes(64)]),
    ],
)
def test_an_entry_that_a_switch_is_judged_by_has_its_one_form(number, wrong):
    kept = [entry for entry in OPAQUE[Arch.LS10] if entry[0] != number]
    for data in wrong:
        refuse(made(SWITCH, [*kept, (number, data)]), f"{NAMES[Kind.SWITCH][number]} has another form")


def test_an_empty_text_that_only_names_a_rim_is_kept_as_such():
    kept = [entry for entry in RIGHT if entry[0] not in (15, 17, 18)]
    report = parse_gpu_report(made(entries=[*kept, (15, b""), (17, b"\0\0"), (35, b"\0")]))
    assert (report.chip_sku, report.project, report.project_sku, report.chip_info) == ("", "", None, "")


def test_another_kind_than_the_one_that_is_wanted_is_refused():
    refuse(made(), "the report is of a gpu, not of a switch", Kind.SWITCH)
    refuse(made(SWITCH, OPAQUE[Arch.LS10]), "the report is of a switch, not of a gpu", Kind.GPU)


@example(b"")
@given(st.binary(max_size=300))
def test_any_bytes_are_a_report_or_malformed(data):
    with contextlib.suppress(MalformedEvidence):
        parse_gpu_report(data, zero_padding=True)


@given(
    st.lists(st.tuples(st.integers(1, 254), st.binary(min_size=48, max_size=48)), min_size=1, unique_by=lambda b: b[0]),
    st.lists(st.tuples(st.integers(37, 0xFFFF), st.binary(max_size=40)), max_size=20, unique_by=lambda e: e[0]),
    st.binary(min_size=32, max_size=32),
)
def test_what_is_written_by_hand_is_read_and_written_back(blocks, entries, nonce):
    data = made([block(n, value) for n, value in blocks], [(3, b"1.2\0"), *entries], nonce=nonce)
    if len(data) > REPORT_MAX:
        return
    report = parse_gpu_report(data)
    assert [(found.index + 1, found.value) for found in report.measurements] == blocks
    assert [tuple(found) for found in report.opaque] == [(3, b"1.2\0"), *entries]
    assert report.nonce == nonce
    assert serialize_gpu_report(report) == data


@given(st.integers(0, 5000), st.integers(0, 0xFF))
def test_a_changed_byte_is_read_as_it_stands_or_refused(at, byte):
    data = bytearray(made())
    data[at % len(data)] = byte
    with contextlib.suppress(MalformedEvidence):
        assert serialize_gpu_report(parse_gpu_report(bytes(data))) == bytes(data)


def test_a_report_is_written_from_its_fields_and_not_from_its_bytes():
    report = parse_gpu_report(made())
    changed = replace(report, nonce=b"N" * 32, opaque=(*report.opaque, Opaque(99, b"x")), raw=b"", signed=b"")
    again = parse_gpu_report(serialize_gpu_report(changed))
    assert (again.nonce, again.entry(99)) == (b"N" * 32, b"x")


def test_what_has_no_place_in_a_report_is_not_written():
    right = {"nonce": bytes(32), "responder_nonce": bytes(32), "opaque": [], "measurements": []}
    one = Measurement(index=0, spec=1, value_type=1, value=bytes(47))
    for wrong in ({"nonce": bytes(31)}, {"responder_nonce": b""}, {"measurements": [one]}):
        with pytest.raises(ValueError, match="bytes wanted"):
            encode_signed(**(right | wrong))


def test_reading_a_report_takes_far_less_than_verifying_it():
    # The goal is 10,000 a second; a busy machine may do with a fifth of it, and an idle one does 40,000.
    data = made()
    best = min(_seconds(data) for _ in range(5))
    assert best / 200 < 0.0005, f"{200 / best:.0f} a second"


def _seconds(data):
    start = time.perf_counter()
    for _ in range(200):
        parse_gpu_report(data)
    return time.perf_counter() - start
