"""The comparison with reference values: real devices as their manifests say, and nothing that is passed over."""

from __future__ import annotations

import base64
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dokimos.endorsements.rim import BIOS, DRIVER, VBIOS, Golden, Rim, parse_rim
from dokimos.evidence.gpu_arch import Kind
from dokimos.evidence.gpu_report import DRIVER_VERSION, NVDEC0_STATUS, GpuReport, Measurement, Opaque, parse_gpu_report
from dokimos.verifier.gpu_compare import HBM3_ADVISORY, Comparison, Outcome, compare

DRIVER_TEXT = "550.127.05"
WRONG = {Outcome.MISMATCHED, Outcome.MISSING}


def value(index, issue=0):
    return bytes([index, issue]) * 24


def report(indexes=range(64), nvdec0=0x55, driver=DRIVER_TEXT, kind=Kind.GPU, issue=0):
    """A report without bytes: what a comparison looks at."""
    opaque = [Opaque(DRIVER_VERSION, driver.encode() + b"\0")] if kind is Kind.GPU else []
    opaque += [] if nvdec0 is None else [Opaque(NVDEC0_STATUS, bytes([nvdec0]))]
    return GpuReport(
        raw=b"",
        signed=b"",
        signature=b"",
        nonce=b"",
        responder_nonce=b"",
        slot=0,
        kind=kind,
        measurements=tuple(Measurement(index, 1, 1, value(index, issue)) for index in indexes),
        opaque=tuple(opaque),
    )


def rim(active, version=DRIVER_TEXT, issue=0, inactive=()):
    golden = [Golden(index, True, (value(index, issue), bytes([0xEE]) * 48), f"m{index}") for index in active]
    golden += [Golden(index, False, (bytes(48),), f"m{index}") for index in inactive]
    return Rim(
        sha256=bytes(32),
        tag_id="x",
        name="GH100",
        product="GH100",
        version=version,
        edition="GPU",
        revision="r1",
        oemid="5703",
        measurements=tuple(golden),
    )


DRIVER_RIM, VBIOS_RIM = rim((7, 21, 35, 40)), rim((0, 1, 9), "any")
RIMS = {DRIVER: DRIVER_RIM, VBIOS: VBIOS_RIM}


def wrong(found: Comparison):
    return tuple(record.index for record in found.records if record.outcome in WRONG)


def test_a_device_with_all_values_matches_and_says_what_was_not_measured():
    found = compare(report(), RIMS)
    assert found.holds
    assert found.golden == 7
    assert found.indexes(Outcome.MATCHED) == (0, 1, 7, 9, 21, 40)
    assert [(record.index, record.source) for record in found.records][:4] == [
        (0, VBIOS),
        (1, VBIOS),
        (7, DRIVER),
        (9, VBIOS),
    ]
    assert found.unmeasured == tuple(sorted(set(range(64)) - {0, 1, 7, 9, 21, 35, 40}))
    assert (found.conflicts, found.lacking, found.nvdec0_fault) == ((), (), "")
    assert not any(record.hint for record in found.records)


@given(st.sets(st.integers(0, 63), min_size=1))
def test_no_wrong_value_is_passed_over(indexes):
    own = report()
    changed = tuple(
        block._replace(value=bytes([block.value[0] ^ 1]) + block.value[1:]) if block.index in indexes else block
        for block in own.measurements
    )
    found = compare(replace(own, measurements=changed), RIMS)
    assert wrong(found) == tuple(sorted(indexes & {0, 1, 7, 9, 21, 40}))
    assert found.holds is not bool(wrong(found))


def test_any_of_the_alternatives_is_right():
    own = report()
    second = tuple(block._replace(value=b"\xee" * 48) if block.index == 7 else block for block in own.measurements)
    assert compare(replace(own, measurements=second), RIMS).holds


def test_an_inactive_value_is_neither_compared_nor_measured():
    found = compare(report(), {**RIMS, VBIOS: rim((0, 1, 9), "any", inactive=(2, 3))})
    assert found.holds
    assert {2, 3} <= set(found.unmeasured)


def test_a_missing_measurement_counts_like_a_wrong_one():
    found = compare(report(indexes=[index for index in range(64) if index != 21]), RIMS)
    assert found.indexes(Outcome.MISSING) == (21,)
    assert not found.holds
    record = next(record for record in found.records if record.index == 21)
    assert (record.actual, record.golden) == (None, (value(21), b"\xee" * 48))
    assert "no measurement" in record.reason


def test_an_index_in_both_rims_is_a_conflict_even_if_both_match():
    found = compare(report(), {**RIMS, VBIOS: rim((0, 1, 9, 21), "any")})
    assert found.conflicts == (21,)
    assert [record.source for record in found.records if record.index == 21] == [DRIVER, VBIOS]
    assert not found.holds
    assert wrong(found) == (21, 21)


@pytest.mark.parametrize(
    "rims", [{}, {DRIVER: DRIVER_RIM}, {VBIOS: VBIOS_RIM}, {**RIMS, VBIOS: rim((), inactive=(1,))}]
)
def test_a_rim_that_is_not_there_or_demands_nothing_is_never_a_match(rims):
    found = compare(report(), rims)
    assert not found.holds
    assert found.lacking == tuple(source for source in (DRIVER, VBIOS) if source not in rims or not rims[source].active)
    assert wrong(found) == ()


def test_a_rim_of_a_source_that_the_device_does_not_have_is_refused():
    with pytest.raises(ValueError, match="bios only"):
        compare(report(), {**RIMS, BIOS: DRIVER_RIM})
    with pytest.raises(ValueError, match="bios only"):
        compare(report(kind=Kind.SWITCH), RIMS)


def test_index_35_alone_is_no_match():
    found = compare(report(), {DRIVER: rim((35,)), VBIOS: rim((35,), "any")})
    assert not found.holds
    only = compare(report(), {DRIVER: rim((35,)), VBIOS: VBIOS_RIM})
    assert only.holds
    assert only.indexes(Outcome.MATCHED) == (0, 1, 9)


@pytest.mark.parametrize("issue", [0, 1])
def test_index_35_is_skipped_where_the_decoder_is_disabled(issue):
    found = compare(report(), {**RIMS, DRIVER: replace(DRIVER_RIM, measurements=rim((35,), issue=issue).measurements)})
    assert found.indexes(Outcome.SKIPPED) == (35,)
    assert "0x55" in found.records[-1].reason
    assert found.holds


def test_index_35_is_demanded_where_the_decoder_is_enabled():
    assert compare(report(nvdec0=0xAA), RIMS).indexes(Outcome.MATCHED) == (0, 1, 7, 9, 21, 35, 40)
    found = compare(report(nvdec0=0xAA), {**RIMS, DRIVER: rim((35,), issue=1)})
    assert wrong(found) == (35,)
    absent = compare(report(nvdec0=0xAA, indexes=range(35)), {**RIMS, DRIVER: rim((7, 35))})
    assert absent.indexes(Outcome.MISSING) == (35,)


@pytest.mark.parametrize("state", [None, 0x00, 0x56, 0xFF])
def test_any_other_state_of_the_decoder_is_a_fault(state):
    found = compare(report(nvdec0=state), RIMS)
    assert found.nvdec0_fault
    assert not found.holds
    assert wrong(found) == (35,)
    assert not compare(report(nvdec0=state), {**RIMS, DRIVER: rim((7,))}).holds


def test_a_switch_has_no_rule_of_the_decoder():
    found = compare(report(nvdec0=None, kind=Kind.SWITCH), {BIOS: rim((0, 35))})
    assert found.holds
    assert found.indexes(Outcome.MATCHED) == (0, 35)
    assert wrong(compare(report(nvdec0=0x55, kind=Kind.SWITCH, issue=1), {BIOS: rim((0, 35))})) == (0, 35)


def hints(own, rims):
    return {record.index: record.hint for record in compare(own, rims).records if record.outcome in WRONG}


def test_index_9_alone_hints_at_another_issue_of_the_vbios_rim():
    name = "".join(("vb", "ios"))  # equal to the constant, and not the same object
    found = hints(report(), {DRIVER: DRIVER_RIM, name: rim((9,), "any", issue=1)})
    assert "other issue" in found[9]
    both = hints(report(), {DRIVER: DRIVER_RIM, VBIOS: rim((1, 9), "any", issue=1)})
    assert not any(both.values())
    assert not any(hints(report(), {DRIVER: rim((9,), issue=1), VBIOS: rim((0,), "any")}).values())


@pytest.mark.parametrize("driver", sorted(HBM3_ADVISORY))
def test_a_driver_of_the_advisory_is_named(driver):
    found = hints(report(driver=driver), {**RIMS, DRIVER: rim((21, 22), driver, issue=1)})
    assert all("HBM3" in hint and "550.127.05" in hint for hint in found.values())


def test_index_52_hints_at_a_switch_of_the_mode():
    assert "switched over" in hints(report(), {**RIMS, DRIVER: rim((52, 53), issue=1)})[52]


def test_a_rim_of_another_version_is_the_first_thing_to_say():
    found = hints(report(driver="550.90.07"), {**RIMS, DRIVER: rim((21,), "545.00", issue=1)})
    assert "545.00" in found[21]
    assert "550.90.07" in found[21]


def real(vectors, name, files):
    found = vectors(f"nvidia/{name}")
    own = parse_gpu_report(bytes.fromhex(found.bytes("report.hex").decode()), zero_padding=True)
    return compare(own, {source: parse_rim(found.bytes(file)).rim for source, file in files.items()})


BOTH = {DRIVER: "driver_rim.xml", VBIOS: "vbios_rim.xml"}


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("hopper-545.00-full-positive", BOTH),
        ("hopper-550.90.07-vs-wrong-rims", BOTH),
        ("nvswitch-ls10-full-positive", {BIOS: "bios_rim.xml"}),
    ],
)
def test_real_devices_compare_as_their_manifest_says(vectors, name, files):
    expected = vectors(f"nvidia/{name}").manifest["expected"]["measurements"]
    found = real(vectors, name, files)
    assert found.golden == expected["active"]
    assert list(wrong(found)) == expected["mismatched"]
    assert list(found.indexes(Outcome.SKIPPED)) == expected["skipped"]
    assert found.holds is (not expected["mismatched"])
    for source in files:
        active = expected.get(f"active_{source}")
        assert active in {None, sum(record.source == source for record in found.records)}
    if "wrong" in name:
        assert all("545.00" in record.hint or "96.00.5E" in record.hint for record in found.records if record.hint)
        assert len([record for record in found.records if record.hint]) == 20


def test_the_real_tampered_driver_rim_would_not_match(vectors):
    cases = vectors("nvidia/hopper-535.86.09").manifest["expected"]["cases"]
    expected = next(case for case in cases if case["id"] == "tampered-driver-rim")["mismatched_if_signature_ignored"]
    assert list(wrong(real(vectors, "hopper-535.86.09", {DRIVER: "driver_rim_tampered.xml"}))) == expected


@pytest.mark.parametrize(
    ("name", "case", "file"),
    [
        ("hopper-535.86.09", "vbios-rim-original", "vbios_rim_original_2023-06.xml"),
        ("hopper-535.86.09", "vbios-rim-reissued", "vbios_rim_reissued_2023-12.xml"),
        (
            "hopper-580.95.05-trailing-byte",
            "vbios-rim-of-the-collection",
            "../rim-vbios-hopper-24/1010_0200_882_960074001A_PROD.swidtag",
        ),
    ],
)
def test_real_issues_of_one_vbios_rim_differ_in_index_9(vectors, name, case, file):
    cases = {entry["id"]: entry for entry in vectors(f"nvidia/{name}").manifest["expected"]["cases"]}
    expected = cases[case]["measurements"]
    found = real(vectors, name, {VBIOS: file})
    assert found.golden == expected["active"]
    assert list(wrong(found)) == expected["mismatched"]
    assert ["other issue" in record.hint for record in found.records if record.hint] == [True] * len(
        expected["mismatched"]
    )


def test_the_other_issue_of_a_real_vbios_rim_does_not_change_what_a_report_says(vectors):
    data = base64.b64decode(vectors("nvidia/rim-vbios-trustee").bytes("test-rim.b64"))
    older = vectors("nvidia/rim-vbios-hopper-24").bytes("1010_0200_882_960074001C_PROD.swidtag")
    assert parse_rim(data).rim.tag_id == parse_rim(older).rim.tag_id
    differ = [
        one.index
        for one, other in zip(parse_rim(data).rim.measurements, parse_rim(older).rim.measurements, strict=True)
        if one != other
    ]
    assert differ in ([], [9])
