"""Appraisal: each check fails alone where it must, all failures are collected, and nothing absent is ever a pass."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dokimos.errors import Check, Status, UsageError
from dokimos.evidence.snp import Fms, Product, SigningKey
from dokimos.verifier.appraise import RULES, appraise_snp
from dokimos.verifier.floors import TcbMinimum
from dokimos.verifier.policy import Policy, load_policy
from dokimos.verifier.policy_keys import Version
from dokimos.verifier.policy_rules import ReservedRule
from dokimos.verifier.result import Verdict
from dokimos.verifier.snp import verify_snp
from dokimos.verifier.snp_endorsements import SnpEndorsements
from dokimos.verifier.snp_policy import FloorRow, FloorRule
from dokimos.verifier.trust import SnpTrust
from dokimos.verifier.verified import VerifiedSnp

OTHER = b"\xee"
LOWER = bytes.fromhex("0900000000001754")  # bl 9 instead of 10
GUEST_POLICY = 0x0137 | 1 << 16 | 1 << 17 | 1 << 20 | 0xF << 22
PLATFORM_INFO = 0x3C
VLEK: dict[str, Any] = {
    "signer": SigningKey.VLEK,
    "chip_bound": False,
    "vek": {"hwid": None, "csp_id": "CN=cloud.example"},
}
VLEK_POLICY: dict[str, Any] = {
    "signers": (SigningKey.VLEK,),
    "chip_ids": (),
    "denied_chip_ids": (),
    "require_chip_bound": False,
}


class Case(NamedTuple):
    """Evidence and policy that differ from the good ones, so that exactly this check fails."""

    check: Check
    evidence: Mapping[str, Any] = MappingProxyType({})
    policy: Mapping[str, Any] = MappingProxyType({})
    call: Mapping[str, Any] = MappingProxyType({})


def _flipped(check: Check, field: str, value: int, bit: int) -> Case:
    return Case(check, {field: value ^ 1 << bit})


NEGATIVE = [
    Case(
        Check.SNP_REFERENCE_VALUES,
        {},
        {"measurements": (), "id_key_digests": (), "author_key_digests": ()},
    ),
    Case(Check.SNP_MEASUREMENT, {"measurement": OTHER * 48}),
    Case(Check.SNP_MEASUREMENT, {"measurement": b"\x11" * 47 + b"\x10"}),
    Case(Check.SNP_REPORT_DATA, {"report_data": OTHER * 64}),
    Case(Check.SNP_REPORT_DATA, call={"report_data": OTHER * 64}),
    Case(Check.SNP_REPORT_DATA, policy={"report_data": b""}),  # "binding", and the caller gives nothing
    Case(Check.SNP_REPORT_DATA, policy={"report_data": None, "report_data_prefix": b"\x66" * 63}),
    Case(
        Check.SNP_REPORT_DATA,
        {"report_data": b"\x66" * 32 + bytes(31) + b"\x01"},
        {"report_data": None, "report_data_prefix": b"\x66" * 32},
    ),
    Case(Check.SNP_HOST_DATA, {"host_data": OTHER * 32}),
    Case(Check.SNP_FAMILY_ID, {"family_id": OTHER * 16}),
    Case(Check.SNP_IMAGE_ID, {"image_id": OTHER * 16}),
    Case(Check.SNP_REPORT_ID, {"report_id": OTHER * 32}),
    Case(Check.SNP_REPORT_ID_MA, {"report_id_ma": OTHER * 32}),
    Case(Check.SNP_VMPL, {"vmpl": 1}),
    Case(Check.SNP_VMPL, {"vmpl": 0xFFFFFFFF}, {"vmpl": (0, 1, 2, 3)}),
    Case(Check.SNP_GUEST_SVN, {"guest_svn": 65546}),
    Case(Check.SNP_ID_BLOCK_REQUIRED, {"id_key_digest": bytes(48)}, {"id_key_digests": ()}),
    Case(Check.SNP_ID_KEY, {"id_key_digest": OTHER * 48}),
    Case(Check.SNP_ID_KEY, {"id_key_digest": bytes(48)}, {"require_id_block": False}),
    Case(Check.SNP_AUTHOR_KEY_REQUIRED, {"key_info": 0}, {"author_key_digests": ()}),
    Case(Check.SNP_AUTHOR_KEY, {"author_key_digest": OTHER * 48}),
    # The digest is there, but AUTHOR_KEY_EN says that nobody vouches for it.
    Case(Check.SNP_AUTHOR_KEY, {"key_info": 0}, {"require_author_key": False}),
    Case(Check.SNP_SIMULATED, {"simulated": True}),
    Case(Check.SNP_SIMULATED, {"simulated": True}, {"simulated_roots": (OTHER * 32,)}),
    Case(Check.SNP_SIGNER_ALLOWED, policy={"signers": (SigningKey.VLEK,)}),
    Case(Check.SNP_PRODUCT_ALLOWED, policy={"products": (Product.MILAN,)}),
    Case(Check.SNP_PRODUCT_ALLOWED, policy={"denied_products": (Product.GENOA,)}),
    Case(Check.SNP_CHIP_BOUND, {"chip_bound": False}),
    Case(Check.SNP_CHIP_ID_ALLOWED, {"vek": {"hwid": OTHER * 64}}),
    Case(Check.SNP_CHIP_ID_ALLOWED, VLEK, VLEK_POLICY | {"chip_ids": (OTHER * 64,)}),
    Case(Check.SNP_CHIP_ID_DENIED, {"vek": {"hwid": b"\x99" * 64}}, {"chip_ids": ()}),
    Case(Check.SNP_CHIP_ID_DENIED, VLEK, VLEK_POLICY | {"denied_chip_ids": (OTHER * 64,)}),
    Case(Check.SNP_CSP_ID_ALLOWED, VLEK, VLEK_POLICY | {"csp_ids": ("CN=other.example",)}),
    Case(Check.SNP_CSP_ID_ALLOWED, policy={"csp_ids": ("CN=cloud.example",), "chip_ids": ()}),
    Case(Check.SNP_CSP_ID_DENIED, VLEK, VLEK_POLICY | {"denied_csp_ids": ("CN=cloud.example",)}),
    Case(Check.SNP_CSP_ID_DENIED, VLEK | {"vek": {"hwid": None}}, VLEK_POLICY | {"denied_csp_ids": ("CN=x",)}),
    Case(Check.SNP_VEK_AGE, {"vek": {"not_before": datetime(2025, 6, 30, 23, 59, 59, tzinfo=UTC)}}),
    Case(Check.SNP_POLICY_ABI, {"policy": GUEST_POLICY - 1}),
    Case(Check.SNP_POLICY_ABI, {"policy": GUEST_POLICY & ~0xFFFF | 0x00FF}),
    _flipped(Check.SNP_POLICY_SMT, "policy", GUEST_POLICY, 16),
    _flipped(Check.SNP_POLICY_MIGRATE_MA, "policy", GUEST_POLICY, 18),
    _flipped(Check.SNP_POLICY_DEBUG, "policy", GUEST_POLICY, 19),
    _flipped(Check.SNP_POLICY_SINGLE_SOCKET, "policy", GUEST_POLICY, 20),
    _flipped(Check.SNP_POLICY_CXL_ALLOW, "policy", GUEST_POLICY, 21),
    _flipped(Check.SNP_POLICY_MEM_AES_256_XTS, "policy", GUEST_POLICY, 22),
    _flipped(Check.SNP_POLICY_RAPL_DIS, "policy", GUEST_POLICY, 23),
    _flipped(Check.SNP_POLICY_CIPHERTEXT_HIDING_DRAM, "policy", GUEST_POLICY, 24),
    _flipped(Check.SNP_POLICY_PAGE_SWAP_DISABLE, "policy", GUEST_POLICY, 25),
    _flipped(Check.SNP_POLICY_RESERVED, "policy", GUEST_POLICY, 17),
    _flipped(Check.SNP_POLICY_RESERVED, "policy", GUEST_POLICY, 63),
    _flipped(Check.SNP_PLATFORM_SMT_EN, "platform_info", PLATFORM_INFO, 0),
    _flipped(Check.SNP_PLATFORM_TSME_EN, "platform_info", PLATFORM_INFO, 1),
    _flipped(Check.SNP_PLATFORM_ECC_EN, "platform_info", PLATFORM_INFO, 2),
    _flipped(Check.SNP_PLATFORM_RAPL_DIS, "platform_info", PLATFORM_INFO, 3),
    _flipped(Check.SNP_PLATFORM_CIPHERTEXT_HIDING_DRAM_EN, "platform_info", PLATFORM_INFO, 4),
    _flipped(Check.SNP_PLATFORM_ALIAS_CHECK_COMPLETE, "platform_info", PLATFORM_INFO, 5),
    _flipped(Check.SNP_PLATFORM_TIO_EN, "platform_info", PLATFORM_INFO, 7),
    _flipped(Check.SNP_PLATFORM_RESERVED, "platform_info", PLATFORM_INFO, 6),
    Case(Check.SNP_REPORT_RESERVED, {"reserved_208": bytes(151) + b"\x01"}),
    # A lower boot loader now than when the key was derived; all other components are higher.
    Case(
        Check.SNP_TCB_CURRENT,
        {"current_tcb": bytes.fromhex("09ff00000000ffff"), "committed_tcb": bytes.fromhex("09ff00000000ffff")},
    ),
    Case(Check.SNP_TCB_REPORTED_MINIMUM, {"reported_tcb": LOWER}),
    # Nor do higher components make up for the lower one.
    Case(
        Check.SNP_TCB_REPORTED_MINIMUM,
        {name: bytes.fromhex("09ff00000000ffff") for name in ("reported_tcb", "current_tcb", "committed_tcb")},
    ),
    Case(Check.SNP_TCB_REPORTED_MINIMUM, policy={"minimum_tcb": TcbMinimum(fmc=0)}),
    Case(Check.SNP_TCB_LAUNCH_MINIMUM, {"launch_tcb": LOWER}),
    Case(Check.SNP_TCB_FLOOR, {"reported_tcb": bytes.fromhex("0a00000000001753")}),
    Case(Check.SNP_TCB_FLOOR, {"fms": b"\x19\x1f\x00"}),  # no row for this processor
    Case(
        Check.SNP_TCB_FLOOR,
        {"version": 2, "fms": bytes(3), "launch_mit_vector": 0, "current_mit_vector": 0},
        {"launch_mit_vector": None, "current_mit_vector": None},
    ),
    Case(Check.SNP_TCB_FLOOR, policy={"floors": (FloorRow(family=0x19, model=0x11, snp=24),)}),
    Case(
        Check.SNP_TCB_FLOOR,
        policy={"tcb_floor": FloorRule.OFF, "floors": (FloorRow(family=0x19, model=0x10, snp=1),)},
    ),
    Case(Check.SNP_FIRMWARE_PROVISIONAL, {"committed_tcb": LOWER}),
    Case(Check.SNP_FIRMWARE_PROVISIONAL, {"committed_version": b"\x27\x37\x01"}),
    Case(
        Check.SNP_FIRMWARE_PROVISIONAL,
        {"committed_tcb": bytes.fromhex("0b00000000000000")},
        {"permit_provisional_firmware": True},
    ),
    Case(
        Check.SNP_FIRMWARE_PROVISIONAL,
        {"committed_version": b"\x00\x38\x01"},
        {"permit_provisional_firmware": True},
    ),
    Case(Check.SNP_FIRMWARE_BUILD, {"current_version": b"\x27\x37\x01", "committed_version": b"\x27\x37\x01"}),
    Case(Check.SNP_FIRMWARE_VERSION, {"current_version": b"\xff\x36\x01", "committed_version": b"\xff\x36\x01"}),
    Case(Check.SNP_FIRMWARE_VERSION, {"current_version": b"\xff\xff\x00", "committed_version": b"\xff\xff\x00"}),
    Case(Check.SNP_LAUNCH_MIT_VECTOR, {"launch_mit_vector": 0xFFFFFFFFFFFFFFFE}),
    Case(Check.SNP_CURRENT_MIT_VECTOR, {"current_mit_vector": 0x3}),
    Case(
        Check.SNP_CURRENT_MIT_VECTOR,
        {"version": 4, "launch_mit_vector": 0, "current_mit_vector": 0},
        {"launch_mit_vector": None},
    ),
    Case(Check.SNP_CERT_TABLE, call={"cert_table": None}),
    Case(Check.SNP_CERT_TABLE, call={"cert_table": {}}),
]

# Looked at whatever the policy says; what the others are compared with is the policy's alone.
ALWAYS = {
    Check.SNP_REFERENCE_VALUES,
    Check.SNP_VMPL,
    Check.SNP_SIMULATED,
    Check.SNP_SIGNER_ALLOWED,
    Check.SNP_PRODUCT_ALLOWED,
    Check.SNP_POLICY_MIGRATE_MA,
    Check.SNP_POLICY_DEBUG,
    Check.SNP_POLICY_RESERVED,
    Check.SNP_PLATFORM_RESERVED,
    Check.SNP_REPORT_RESERVED,
    Check.SNP_TCB_CURRENT,
    Check.SNP_FIRMWARE_PROVISIONAL,
}


@pytest.fixture(scope="module")
def full(full_policy_text: str) -> Policy:
    return load_policy(full_policy_text)


def found(result, check):
    (one,) = [item for item in result.checks if item.id is check]
    return one


def test_a_policy_that_demands_everything_is_met_without_a_skip(make_verified_snp, full, full_cert_table):
    result = appraise_snp(make_verified_snp(), full, cert_table=full_cert_table, report_data=b"\x66" * 64)
    assert result.failures == ()
    assert result.verdict is Verdict.ACCEPTED
    skips = {item.id for item in result.checks if item.status is Status.SKIP}
    assert skips == {Check.SNP_CSP_ID_ALLOWED, Check.SNP_CSP_ID_DENIED}  # a VCEK has no provider


def test_a_vlek_of_a_listed_provider_is_accepted_where_the_policy_allows_vleks(
    make_verified_snp, full, full_cert_table
):
    policy = full.with_snp(**VLEK_POLICY | {"csp_ids": ("CN=cloud.example",), "denied_csp_ids": ("CN=x",)})
    result = appraise_snp(make_verified_snp(**VLEK), policy, cert_table=full_cert_table)
    assert result.failures == ()
    assert found(result, Check.SNP_CSP_ID_ALLOWED).status is Status.PASS
    assert found(result, Check.SNP_CSP_ID_DENIED).status is Status.PASS


@pytest.mark.parametrize("case", NEGATIVE, ids=lambda case: f"{case.check}-{NEGATIVE.index(case)}")
def test_exactly_the_broken_check_fails(make_verified_snp, full, full_cert_table, case):
    call = {"cert_table": full_cert_table, **case.call}
    result = appraise_snp(make_verified_snp(**case.evidence), full.with_snp(**case.policy), **call)
    assert [item.id for item in result.failures] == [case.check]
    assert result.verdict is Verdict.REJECTED
    (failure,) = result.failures
    assert failure.message
    assert failure.reference


def test_every_check_of_appraisal_has_a_negative_case():
    assert {rule.check for rule in RULES} == {case.check for case in NEGATIVE}


def test_the_rules_are_every_appraisal_check_of_the_enum_once():
    members = list(Check)
    first, last = members.index(Check.SNP_REFERENCE_VALUES), members.index(Check.SNP_SIMULATED)
    wanted = [*members[first : last + 1], Check.SNP_REPORT_RESERVED]
    assert sorted(rule.check for rule in RULES) == sorted(wanted)


@pytest.mark.parametrize("authentic_only", [False, True])
def test_every_check_appears_exactly_once_with_reference_and_reason(make_verified_snp, authentic_only):
    result = appraise_snp(make_verified_snp(), Policy(schema=1), authentic_only=authentic_only)
    assert [item.id for item in result.checks[1:]] == [rule.check for rule in RULES]
    for item in result.checks[1:]:
        assert item.reference
        assert item.message or item.status is Status.PASS


@pytest.mark.parametrize("case", NEGATIVE, ids=lambda case: f"{case.check}-{NEGATIVE.index(case)}")
def test_what_the_policy_does_not_ask_is_a_skip_and_never_a_pass(make_verified_snp, case):
    policy = Policy(schema=1).with_snp(measurements=(b"\x11" * 48, OTHER * 48))
    result = appraise_snp(make_verified_snp(**case.evidence), policy)
    item = found(result, case.check)
    if case.check not in ALWAYS | {Check.SNP_MEASUREMENT}:
        assert item.status is Status.SKIP


def test_all_failures_are_collected(make_verified_snp, full):
    result = appraise_snp(
        make_verified_snp(measurement=OTHER * 48, policy=GUEST_POLICY | 1 << 19, vmpl=2, host_data=bytes(32)), full
    )
    assert {item.id for item in result.failures} == {
        Check.SNP_MEASUREMENT,
        Check.SNP_HOST_DATA,
        Check.SNP_VMPL,
        Check.SNP_POLICY_DEBUG,
        Check.SNP_CERT_TABLE,
    }


def test_without_a_reference_value_the_rejection_says_so(make_verified_snp):
    (failure,) = appraise_snp(make_verified_snp(), Policy(schema=1)).failures
    assert failure.id is Check.SNP_REFERENCE_VALUES
    assert "no reference value" in failure.message


@pytest.mark.parametrize(
    "identity",
    [
        {"measurements": (b"\x11" * 48,)},
        {"id_key_digests": (b"\x22" * 48,)},
        {"id_keys": (b"\x22" * 48,)},
        {"author_key_digests": (b"\x33" * 48,)},
        {"author_keys": (b"\x33" * 48,)},
    ],
)
def test_a_measurement_or_the_key_of_an_id_block_is_a_reference_value(make_verified_snp, identity):
    assert appraise_snp(make_verified_snp(), Policy(schema=1).with_snp(**identity)).verdict is Verdict.ACCEPTED


@pytest.mark.parametrize("other", [{"host_data": b"\x77" * 32}, {"family_id": b"\x44" * 16}])
def test_fields_that_the_host_sets_are_no_reference_value(make_verified_snp, other):
    failures = appraise_snp(make_verified_snp(), Policy(schema=1).with_snp(**other)).failures
    assert [item.id for item in failures] == [Check.SNP_REFERENCE_VALUES]


def test_authentic_only_looks_at_nothing_but_the_simulated_root(make_verified_snp, full):
    bad = make_verified_snp(policy=GUEST_POLICY | 1 << 19, measurement=OTHER * 48)
    result = appraise_snp(bad, full, authentic_only=True)
    assert result.verdict is Verdict.ACCEPTED
    ran = [item.id for item in result.checks[1:] if item.status is not Status.SKIP]
    assert ran == [Check.SNP_SIMULATED]
    refused = appraise_snp(make_verified_snp(simulated=True), full, authentic_only=True)
    assert [item.id for item in refused.failures] == [Check.SNP_SIMULATED]


def test_a_simulated_platform_whose_root_is_named_says_simulated_in_result_and_check(
    make_verified_snp, full, full_cert_table
):
    verified = make_verified_snp(simulated=True)
    policy = full.with_snp(simulated_roots=(verified.root_sha256,))
    result = appraise_snp(verified, policy, cert_table=full_cert_table)
    assert result.verdict is Verdict.ACCEPTED
    assert result.simulated
    assert result.to_json()["simulated"] is True
    assert found(result, Check.SNP_SIMULATED).message.startswith("SIMULATED")


def test_report_data_must_meet_caller_and_policy_both(make_verified_snp, full, full_cert_table):
    binding = full.with_snp(report_data=b"")
    good = {"cert_table": full_cert_table}
    assert not appraise_snp(make_verified_snp(), binding, report_data=b"\x66" * 64, **good).failures
    for policy in (full, binding):
        (failure,) = appraise_snp(make_verified_snp(), policy, report_data=bytes(64), **good).failures
        assert failure.id is Check.SNP_REPORT_DATA
    prefix = Policy(schema=1).with_snp(report_data_prefix=b"\x66" * 64)
    assert found(appraise_snp(make_verified_snp(), prefix), Check.SNP_REPORT_DATA).status is Status.PASS


@pytest.mark.parametrize("size", [0, 32, 63, 65])
def test_an_expected_report_data_of_another_size_is_a_misuse(make_verified_snp, full, size):
    with pytest.raises(UsageError):
        appraise_snp(make_verified_snp(), full, report_data=bytes(size))


def test_only_verified_evidence_is_appraised_and_only_verification_makes_it(make_verified_snp, full):
    verified = make_verified_snp()
    with pytest.raises(TypeError):
        appraise_snp(verified.report, full)
    values = {name: getattr(verified, name) for name in VerifiedSnp.__slots__}
    with pytest.raises(TypeError):
        VerifiedSnp(**values | {"token": object()})


def test_chips_and_providers_listed_together_let_each_kind_of_key_be_judged_by_its_own_list(
    make_verified_snp, full, full_cert_table
):
    both = full.with_snp(
        signers=(SigningKey.VCEK, SigningKey.VLEK), csp_ids=("CN=cloud.example",), require_chip_bound=False
    )
    for evidence in ({}, VLEK):
        result = appraise_snp(make_verified_snp(**evidence), both, cert_table=full_cert_table)
        assert result.failures == ()


def test_a_masked_chip_id_is_still_judged_by_the_chip_of_the_certificate(make_verified_snp, full, full_cert_table):
    masked = make_verified_snp(chip_id=bytes(64), chip_bound=False)
    policy = full.with_snp(require_chip_bound=False)
    assert appraise_snp(masked, policy, cert_table=full_cert_table).failures == ()
    denied = policy.with_snp(chip_ids=(), denied_chip_ids=(bytes(range(64)),))
    result = appraise_snp(masked, denied, cert_table=full_cert_table)
    assert [item.id for item in result.failures] == [Check.SNP_CHIP_ID_DENIED]


def test_a_turin_chip_of_8_bytes_matches_its_own_list_entry(make_verified_snp):
    policy = load_policy(f'schema = 1\n[snp]\nchip_ids = ["{"ab" * 8}"]\nmeasurements = ["{"11" * 48}"]')
    turin: dict[str, Any] = {"product": Product.TURIN, "fms": b"\x1a\x02\x01"}
    assert not appraise_snp(make_verified_snp(vek={"hwid": b"\xab" * 8}, **turin), policy).failures
    assert appraise_snp(make_verified_snp(vek={"hwid": b"\xac" * 8}, **turin), policy).failures


def test_reserved_bits_are_reported_and_fatal_only_by_policy(make_verified_snp):
    policy = Policy(schema=1).with_snp(measurements=(b"\x11" * 48,))
    odd = make_verified_snp(
        platform_info=PLATFORM_INFO | 1 << 6, policy=GUEST_POLICY | 1 << 40, reserved_208=OTHER * 152
    )
    result = appraise_snp(odd, policy)
    assert result.verdict is Verdict.ACCEPTED
    for check in (Check.SNP_PLATFORM_RESERVED, Check.SNP_POLICY_RESERVED, Check.SNP_REPORT_RESERVED):
        assert found(result, check).status is Status.SKIP
        assert found(result, check).actual
    strict = policy.with_snp(reserved_fields=ReservedRule.FAIL)
    assert [item.id for item in appraise_snp(odd, strict).failures] == [Check.SNP_REPORT_RESERVED]


def test_reported_below_committed_is_no_error_by_itself(make_verified_snp):
    policy = Policy(schema=1).with_snp(measurements=(b"\x11" * 48,))
    assert not appraise_snp(make_verified_snp(reported_tcb=LOWER), policy).failures


@settings(max_examples=150, deadline=None)
@given(
    reported=st.binary(min_size=8, max_size=8),
    minimum=st.fixed_dictionaries(
        {}, optional=dict.fromkeys(("bl", "tee", "snp", "ucode", "fmc"), st.integers(0, 255))
    ),
    product=st.sampled_from(list(Product)),
)
def test_a_minimum_tcb_is_met_only_if_every_component_is(make_verified_snp, reported, minimum, product):
    policy = Policy(schema=1).with_snp(minimum_tcb=TcbMinimum(**minimum))
    result = appraise_snp(make_verified_snp(product=product, reported_tcb=reported), policy)
    turin = {"fmc": 0, "bl": 1, "tee": 2, "snp": 3, "ucode": 7}
    places = turin if product is Product.TURIN else {"bl": 0, "tee": 1, "snp": 6, "ucode": 7}
    met = all(name in places and reported[places[name]] >= level for name, level in minimum.items())
    expected = Status.SKIP if not minimum else Status.PASS if met else Status.FAIL
    assert found(result, Check.SNP_TCB_REPORTED_MINIMUM).status is expected


@settings(max_examples=100, deadline=None)
@given(wanted=st.integers(0, 2**64 - 1), actual=st.integers(0, 2**64 - 1))
def test_a_mitigation_vector_must_contain_every_demanded_bit(make_verified_snp, wanted, actual):
    policy = Policy(schema=1).with_snp(current_mit_vector=wanted)
    result = appraise_snp(make_verified_snp(current_mit_vector=actual), policy)
    expected = Status.SKIP if not wanted else Status.PASS if wanted & actual == wanted else Status.FAIL
    assert found(result, Check.SNP_CURRENT_MIT_VECTOR).status is expected


@pytest.mark.parametrize(("lowest", "holds"), [((1, 55), True), ((1, 56), False), ((0, 255), True), ((2, 0), False)])
def test_versions_are_ordered_by_major_then_minor(make_verified_snp, lowest, holds):
    policy = Policy(schema=1).with_snp(minimum_version=Version(*lowest), minimum_policy_abi=Version(*lowest))
    result = appraise_snp(make_verified_snp(), policy)
    for check in (Check.SNP_FIRMWARE_VERSION, Check.SNP_POLICY_ABI):
        assert found(result, check).status is (Status.PASS if holds else Status.FAIL)


def test_floors_of_the_policy_and_the_shipped_ones_must_all_be_reached(make_verified_snp, full, full_cert_table):
    own = full.with_snp(floors=(FloorRow(family=0x19, model=0x11, ucode=0x10),))
    low = make_verified_snp(reported_tcb=bytes.fromhex("0a00000000001720"))
    result = appraise_snp(low, own, cert_table=full_cert_table)
    assert [item.id for item in result.failures] == [Check.SNP_TCB_FLOOR]
    assert low.report.fms == Fms(0x19, 0x11, 1)
    assert "AMD-SB-3019" in result.failures[0].message


@pytest.mark.parametrize(
    ("name", "failed"),
    [
        ("ms_genoa", []),
        ("ms_milan", []),
        ("trustee_e2e_v3", []),  # Bergamo: below the floor of Genoa, and on its own
        ("dstack_milan", [Check.SNP_TCB_FLOOR]),
        ("gosev_milan_v2", [Check.SNP_POLICY_DEBUG, Check.SNP_TCB_FLOOR]),
        ("virtee_milan_v2", [Check.SNP_TCB_FLOOR]),  # version 2 names no processor
        ("ars_az_v1", [Check.SNP_TCB_FLOOR, Check.SNP_FIRMWARE_PROVISIONAL]),
    ],
)
def test_real_reports_under_shipped_floors_and_committed_firmware(vectors, name, failed):
    found_set = vectors(f"snp/{name}")
    verified = verify_snp(
        found_set.bytes("report.bin"),
        SnpEndorsements(vek=found_set.bytes("vek.der")),
        trust=SnpTrust(),
        at=datetime(2026, 7, 1, tzinfo=UTC),
    )
    policy = Policy(schema=1).with_snp(
        measurements=(verified.report.measurement,),
        tcb_floor=FloorRule.SHIPPED,
        permit_provisional_firmware=False,
    )
    assert [item.id for item in appraise_snp(verified, policy).failures] == failed
