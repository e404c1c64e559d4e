"""The report parser: every field of every real report, totality, and the type of the TCB."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dokimos.errors import Check, MalformedEvidence, UnsupportedEvidence
from dokimos.evidence.snp import (
    REPORT_SIZE,
    Fms,
    GuestPolicy,
    PlatformInfo,
    Product,
    SigningKey,
    Tcb,
    parse_report,
    product_of,
)

_POLICY_BITS = ("smt", "migrate_ma", "debug", "single_socket")


def test_every_field_of_every_real_report_is_what_its_manifest_says(vectors, snp_set):
    found = vectors(f"snp/{snp_set}")
    expected = found.manifest["expected"]
    if "report.bin" not in found.names:
        assert "measurement" not in expected, "a set with report fields, but without a report"
        return
    report = parse_report(found.bytes("report.bin"))
    product = Product(expected["product"])
    assert report.version == expected["report_version"]
    assert SigningKey(report.signing_key).name == expected["signing_key"]
    assert report.fms == (expected["family_model_stepping"] and tuple(expected["family_model_stepping"]))
    assert report.vmpl == expected["vmpl"]
    assert report.guest_svn == expected["guest_svn"]
    assert hex(report.policy) == expected["policy"]
    assert f"{report.policy.abi_major}.{report.policy.abi_minor}" == expected["policy_bits"]["abi"]
    for bit in _POLICY_BITS:
        assert getattr(report.policy, bit) is expected["policy_bits"][bit]
    assert report.policy.reserved_1
    assert hex(report.platform_info) == expected["platform_info"]
    for name in ("measurement", "report_data", "host_data", "id_key_digest", "author_key_digest", "chip_id"):
        if name in expected:
            # The manifests cut the author key digest to the length of the ID key digest's hex.
            assert getattr(report, name).hex().startswith(expected[name])
    assert report.author_key_en is expected["author_key_en"]
    for name in ("current", "reported", "committed", "launch"):
        tcb = Tcb.from_bytes(getattr(report, f"{name}_tcb"), product)
        assert tcb.components() == expected["tcb"][name]
        assert tcb.to_bytes() == getattr(report, f"{name}_tcb")
    assert str(report.current_version) == expected["firmware"]["current"]
    assert str(report.committed_version) == expected["firmware"]["committed"]
    assert report.reserved == ()
    if report.fms:
        assert product_of(report.fms) is product


@given(st.binary(max_size=1300))
def test_any_bytes_of_another_size_are_malformed(data):
    if len(data) != REPORT_SIZE:
        with pytest.raises(MalformedEvidence) as caught:
            parse_report(data)
        assert caught.value.check is Check.SNP_REPORT_SIZE


@given(st.binary(min_size=REPORT_SIZE - 4, max_size=REPORT_SIZE - 4), st.integers(2, 5))
def test_any_1184_bytes_of_a_known_version_parse_and_keep_their_bytes(data, version):
    raw = struct.pack("<I", version) + data
    report = parse_report(raw)
    assert report.raw == raw
    assert (report.fms is None) == (version == 2)
    assert (report.launch_mit_vector is None) == (version < 5)


def test_truncation_at_each_length_is_malformed():
    raw = struct.pack("<I", 3) + bytes(REPORT_SIZE - 4)
    for length in range(REPORT_SIZE):
        with pytest.raises(MalformedEvidence):
            parse_report(raw[:length])


@pytest.mark.parametrize("version", [0, 1, 6, 0xFFFFFFFF])
def test_another_version_is_unsupported_and_not_read_as_a_known_one(version):
    with pytest.raises(UnsupportedEvidence) as caught:
        parse_report(struct.pack("<I", version) + bytes(REPORT_SIZE - 4))
    assert caught.value.check is Check.SNP_REPORT_VERSION


@pytest.mark.parametrize(
    ("version", "offset", "name"),
    [
        (3, 0x048 + 3, "0x048"),
        (3, 0x04C, "0x04c"),
        (2, 0x188, "0x188"),
        (3, 0x18B, "0x18b"),
        (3, 0x1EB, "0x1eb"),
        (3, 0x1EF, "0x1ef"),
        (4, 0x1F8, "0x1f8"),
        (5, 0x208, "0x208"),
        (3, 0x330, "0x330"),
        (5, REPORT_SIZE - 1, "0x330"),
    ],
)
def test_a_reserved_region_that_is_not_zero_is_reported_and_not_lost(version, offset, name):
    raw = bytearray(struct.pack("<I", version) + bytes(REPORT_SIZE - 4))
    raw[offset] = 0x80
    assert parse_report(bytes(raw)).reserved == (name,)


@pytest.mark.parametrize(
    ("fms", "product", "code_name"),
    [
        (Fms(0x19, 0x01, 1), Product.MILAN, "Milan"),
        (Fms(0x19, 0x0F, 0), Product.MILAN, "Milan"),
        (Fms(0x19, 0x10, 0), Product.GENOA, "Genoa"),
        (Fms(0x19, 0x1F, 0), Product.GENOA, "Genoa"),
        (Fms(0x19, 0xA0, 2), Product.GENOA, "Bergamo/Siena"),
        (Fms(0x19, 0xAF, 0), Product.GENOA, "Bergamo/Siena"),
        (Fms(0x1A, 0x02, 1), Product.TURIN, "Turin"),
        (Fms(0x1A, 0x11, 0), Product.TURIN, "Turin dense"),
    ],
)
def test_products_by_model_range_lose_no_model(fms, product, code_name):
    assert product_of(fms) is product
    assert fms.code_name == code_name


@pytest.mark.parametrize("fms", [Fms(0x1A, 0x50, 0), Fms(0x1A, 0x90, 0), Fms(0x1A, 0xAF, 0), Fms(0x1A, 0xC7, 0)])
def test_venice_is_unsupported_by_name(fms):
    with pytest.raises(UnsupportedEvidence, match="Venice") as caught:
        product_of(fms)
    assert caught.value.check is Check.SNP_PRODUCT_SUPPORTED


@pytest.mark.parametrize("fms", [Fms(0x17, 0x31, 0), Fms(0x19, 0x20, 0), Fms(0x1A, 0x20, 0), Fms(0, 0, 0)])
def test_an_unknown_processor_is_unsupported(fms):
    assert fms.code_name == "unknown"
    with pytest.raises(UnsupportedEvidence):
        product_of(fms)


def test_the_tcb_has_no_order():
    low = Tcb(bl=1, tee=0, snp=9, ucode=1)
    high = Tcb(bl=2, tee=0, snp=1, ucode=1)
    with pytest.raises(TypeError):
        low < high  # type: ignore[operator]  # noqa: B015
    assert low.below(high) == ("bl",)
    assert high.below(low) == ("snp",)
    assert low.below(low) == ()


def test_a_tcb_component_that_one_side_lacks_counts_as_lower():
    milan = Tcb(bl=4, tee=0, snp=24, ucode=219)
    turin = Tcb(fmc=0, bl=0, tee=0, snp=0, ucode=0, reserved=bytes(3))
    assert "fmc" in milan.below(turin)
    assert "fmc" in turin.below(milan)


def test_the_turin_layout_is_not_read_as_the_milan_one():
    raw = bytes.fromhex("0102030400000055")
    turin = Tcb.from_bytes(raw, Product.TURIN)
    assert turin.components() == {"fmc": 1, "bl": 2, "tee": 3, "snp": 4, "ucode": 0x55}
    assert Tcb.from_bytes(bytes.fromhex("04000000000018db"), Product.MILAN).components() == {
        "bl": 4,
        "tee": 0,
        "snp": 24,
        "ucode": 219,
    }
    with pytest.raises(MalformedEvidence):
        Tcb.from_bytes(raw[:7], Product.MILAN)


@given(st.binary(min_size=8, max_size=8), st.sampled_from(Product))
def test_tcb_round_trips_in_both_layouts(raw, product):
    assert Tcb.from_bytes(raw, product).to_bytes() == raw


@given(st.integers(0, 2**64 - 1))
def test_bits_of_policy_and_platform_info_are_all_accounted_for(value):
    policy = GuestPolicy(value)
    named = (
        policy.abi_minor
        | policy.abi_major << 8
        | policy.smt << 16
        | policy.reserved_1 << 17
        | policy.migrate_ma << 18
        | policy.debug << 19
        | policy.single_socket << 20
        | policy.cxl_allow << 21
        | policy.mem_aes_256_xts << 22
        | policy.rapl_dis << 23
        | policy.ciphertext_hiding_dram << 24
        | policy.page_swap_disable << 25
        | policy.reserved
    )
    assert named == value
    info = PlatformInfo(value)
    named = (
        info.smt_en
        | info.tsme_en << 1
        | info.ecc_en << 2
        | info.rapl_dis << 3
        | info.ciphertext_hiding_dram_en << 4
        | info.alias_check_complete << 5
        | info.tio_en << 7
        | info.reserved
    )
    assert named == value
    assert PlatformInfo(0x40).reserved == 0x40
