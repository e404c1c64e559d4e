"""Appraisal of TDX quotes: each check fails alone where it must, all failures are collected, absence is no pass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest

from dokimos.attest.sim_ccel import write_ccel
from dokimos.endorsements.collateral import TcbStatus
from dokimos.endorsements.pck import PckCa
from dokimos.errors import Check, Status, UsageError
from dokimos.evidence.tdx import BodyType
from dokimos.verifier.appraise_tdx import RULES, appraise_tdx
from dokimos.verifier.module_versions import BY_NAME
from dokimos.verifier.policy import Policy, load_policy
from dokimos.verifier.policy_rules import BitRule
from dokimos.verifier.result import Verdict
from dokimos.verifier.tdx_policy import AdvisoryRule, Grace, SgxType, TcbRules, TdAttributeRules, XfamRules
from dokimos.verifier.tdx_tcb import Advisory, Part, TraceEntry

OTHER = b"\xee"
ATTRIBUTES = 1 << 28 | 1 << 30
XFAM = 0x602E7
BITS = {
    "debug": 0,
    "hgs_plus_prof": 4,
    "perf_prof": 5,
    "pmt_prof": 6,
    "icssd": 16,
    "servtd_ext": 17,
    "lass": 27,
    "sept_ve_disable": 28,
    "migratable": 29,
    "pks": 30,
    "kl": 31,
    "tpa": 62,
    "perfmon": 63,
}
NO_MASKS = {"fixed0": None, "fixed1": None}
PROCESSOR = {
    "ca": PckCa.PROCESSOR,
    "platform_instance_id": None,
    "dynamic_platform": None,
    "cached_keys": None,
    "smt": None,
}


class Case(NamedTuple):
    """Evidence, policy and log that differ from the good ones, so that exactly this check fails."""

    check: Check
    evidence: Mapping[str, Any] = MappingProxyType({})
    policy: Mapping[str, Any] = MappingProxyType({})
    call: Mapping[str, Any] = MappingProxyType({})
    table: str = ""
    """Name of the table within [tdx] that `policy` changes; empty for [tdx] itself."""


def _body(check, name, value, policy=MappingProxyType({})):
    return Case(check, {"body": {name: value}}, policy)


def _late(status):
    return {"verdict": {"converged": status, "platform": status}}


NEGATIVE = [
    Case(Check.TDX_REFERENCE_VALUES, policy={"mrtd": ()}),
    _body(Check.TDX_MRTD, "mrtd", OTHER * 48),
    _body(Check.TDX_MRTD, "mrtd", b"\x11" * 47 + b"\x10"),
    *(
        Case(Check(f"tdx.rtmr{n}"), policy={f"rtmr{n}": (OTHER * 48, bytes(48) if n < 3 else OTHER * 48)})
        for n in range(4)
    ),
    Case(Check.TDX_REPORT_DATA, call={"report_data": OTHER * 64}),
    Case(Check.TDX_REPORT_DATA, policy={"report_data": b""}),  # "binding", and the caller gives nothing
    Case(Check.TDX_REPORT_DATA, policy={"report_data": None, "report_data_prefix": b"\x66" * 63}),
    _body(Check.TDX_REPORT_DATA, "report_data", OTHER * 64),
    *(_body(Check(f"tdx.{name}"), name, OTHER * 48) for name in ("mrconfigid", "mrowner", "mrownerconfig")),
    *(_body(Check(f"tdx.{name}"), name, bytes(48)) for name in ("mrconfigid", "mrowner", "mrownerconfig")),
    *(Case(Check(f"tdx.{name}"), policy={name: ()}) for name in ("mrconfigid", "mrowner", "mrownerconfig")),
    _body(Check.TDX_MR_SERVICETD, "mr_servicetd", OTHER * 48),
    _body(Check.TDX_MR_SERVICETD, "mr_servicetd", None),
    Case(Check.TDX_MR_SERVICETD, policy={"mr_servicetd": ()}),
    Case(Check.TDX_SIMULATED, {"simulated": True}),
    Case(Check.TDX_SIMULATED, {"simulated": True}, {"simulated_roots": (OTHER * 32,)}),
    Case(Check.TDX_BODY_TYPE_ALLOWED, {"body_type": BodyType.TD10}),
    Case(Check.TDX_FMSPC_ALLOWED, {"pck": {"fmspc": OTHER * 6}}),
    Case(Check.TDX_FMSPC_DENIED, {"pck": {"fmspc": b"\xff" * 6}}, {"fmspcs": ()}),
    Case(Check.TDX_PPID_ALLOWED, {"pck": {"ppid": OTHER * 16}}),
    Case(Check.TDX_PPID_DENIED, {"pck": {"ppid": b"\xff" * 16}}, {"ppids": ()}),
    Case(Check.TDX_PLATFORM_INSTANCE_ALLOWED, {"pck": {"platform_instance_id": OTHER * 16}}),
    Case(
        Check.TDX_PLATFORM_INSTANCE_ALLOWED,
        {"pck": {"platform_instance_id": None}},
        {"denied_platform_instance_ids": ()},
    ),
    Case(
        Check.TDX_PLATFORM_INSTANCE_DENIED,
        {"pck": {"platform_instance_id": b"\xff" * 16}},
        {"platform_instance_ids": ()},
    ),
    Case(Check.TDX_PLATFORM_INSTANCE_DENIED, {"pck": {"platform_instance_id": None}}, {"platform_instance_ids": ()}),
    Case(Check.TDX_PCK_CA_ALLOWED, {"pck": {"ca": PckCa.PROCESSOR}}),
    Case(Check.TDX_SGX_TYPE_ALLOWED, {"pck": {"sgx_type": 2}}),
    Case(Check.TDX_SGX_TYPE_ALLOWED, policy={"sgx_types": (SgxType.STANDARD,)}),
    *(
        Case(Check(f"tdx.{name}"), {"pck": {name: value}})
        for name, good in (("dynamic_platform", True), ("cached_keys", False), ("smt", True))
        for value in (not good, None)
    ),
    Case(Check.TDX_PCK_AGE, {"pck": {"not_before": datetime(2023, 1, 1, tzinfo=UTC)}}),
    *(
        Case(
            Check(f"tdx.td_attributes.{name}"),
            {"body": {"td_attributes": ATTRIBUTES ^ 1 << place}},
            NO_MASKS,
            table="td_attributes",
        )
        for name, place in BITS.items()
    ),
    Case(Check.TDX_TD_ATTRIBUTES_FIXED0, policy={"fixed0": 1 << 28, "fixed1": None}, table="td_attributes"),
    Case(Check.TDX_TD_ATTRIBUTES_FIXED1, policy={"fixed0": None, "fixed1": 1 << 62 | 1 << 28}, table="td_attributes"),
    *(
        Case(
            Check.TDX_TD_ATTRIBUTES_UNKNOWN,
            {"body": {"td_attributes": ATTRIBUTES | 1 << place}},
            NO_MASKS,
            table="td_attributes",
        )
        for place in (1, 7, 15, 24, 32)
    ),
    _body(Check.TDX_XFAM_FIXED0, "xfam", XFAM | 1 << 8),
    Case(Check.TDX_XFAM_FIXED1, {"body": {"xfam": XFAM & ~2}}),
    Case(
        Check.TDX_XFAM_UNKNOWN,
        {"body": {"xfam": XFAM | 1 << 40}},
        {"fixed0": (1 << 64) - 1},
        table="xfam",
    ),
    _body(Check.TDX_MRSEAM, "mrseam", OTHER * 48),
    _body(Check.TDX_MRSEAM, "mrseam", BY_NAME["1.5.28"].mrseam),
    *(
        _body(Check.TDX_TEE_TCB_SVN_MINIMUM, "tee_tcb_svn", bytes(svn) + bytes(13))
        for svn in ((4, 255, 255), (255, 0, 255), (255, 255, 5))
    ),
    *(
        Case(
            Check.TDX_TCB_STATUS,
            {"verdict": {"converged": status}},
        )
        for status in TcbStatus
        if status is not TcbStatus.UP_TO_DATE
    ),
    Case(Check.TDX_TCB_PLATFORM, {"verdict": {"platform": TcbStatus.SW_HARDENING_NEEDED}}),
    Case(Check.TDX_TCB_MODULE, {"verdict": {"module": TcbStatus.OUT_OF_DATE}}),
    Case(Check.TDX_TCB_QE, {"verdict": {"qe": TcbStatus.OUT_OF_DATE}}),
    Case(Check.TDX_TCB_ADVISORIES, {"verdict": {"advisories": (Advisory("INTEL-SA-00003", (Part.QE,)),)}}),
    Case(
        Check.TDX_TCB_ADVISORIES,
        {"verdict": {"advisories": (Advisory("INTEL-SA-00002", (Part.PLATFORM,)),)}},
        {"advisories": None},
        table="tcb",
    ),
    # Allowed from the module, and it came from the platform as well.
    Case(
        Check.TDX_TCB_ADVISORIES,
        {"verdict": {"advisories": (Advisory("INTEL-SA-00001", (Part.PLATFORM, Part.MODULE)),)}},
        {"advisories": (AdvisoryRule("INTEL-SA-00001", Part.MODULE),)},
        table="tcb",
    ),
    Case(Check.TDX_COLLATERAL_EVALUATION_NUMBER, {"tcb_info": {"evaluation_data_number": 16}}),
    Case(Check.TDX_COLLATERAL_AGE, {"at": datetime(2026, 4, 1, tzinfo=UTC)}),
    Case(Check.TDX_COLLATERAL_AGE, {"tcb_info": {"issue_date": datetime(2026, 1, 1, tzinfo=UTC)}}),
]

# Looked at whatever the policy says; what the others are compared with is the policy's alone.
ALWAYS = {
    Check.TDX_REFERENCE_VALUES,
    Check.TDX_MRTD,
    Check.TDX_RTMR3,
    Check.TDX_MRCONFIGID,
    Check.TDX_MROWNER,
    Check.TDX_MROWNERCONFIG,
    Check.TDX_MR_SERVICETD,
    Check.TDX_SIMULATED,
    Check.TDX_BODY_TYPE_ALLOWED,
    Check.TDX_PCK_CA_ALLOWED,
    Check.TDX_SGX_TYPE_ALLOWED,
    Check.TDX_TD_ATTRIBUTES_DEBUG,
    Check.TDX_TD_ATTRIBUTES_HGS_PLUS_PROF,
    Check.TDX_TD_ATTRIBUTES_PERF_PROF,
    Check.TDX_TD_ATTRIBUTES_PMT_PROF,
    Check.TDX_TD_ATTRIBUTES_SEPT_VE_DISABLE,
    Check.TDX_TD_ATTRIBUTES_MIGRATABLE,
    Check.TDX_TD_ATTRIBUTES_UNKNOWN,
    Check.TDX_XFAM_FIXED0,
    Check.TDX_XFAM_FIXED1,
    Check.TDX_XFAM_UNKNOWN,
    Check.TDX_TCB_STATUS,
    Check.TDX_EVENT_LOG_REPLAY,
    Check.TDX_EVENT_LOG_DATA,
}


@pytest.fixture(scope="module")
def full(full_tdx_policy_text) -> Policy:
    return load_policy(full_tdx_policy_text)


@pytest.fixture(scope="module")
def log(tdx_events) -> bytes:
    return write_ccel(tdx_events)


def changed(policy, case):
    if not case.table:
        return policy.with_tdx(**case.policy)
    return policy.with_tdx(**{case.table: replace(getattr(policy.tdx, case.table), **case.policy)})


def found(result, check):
    (one,) = [item for item in result.checks if item.id is check]
    return one


def failures(result):
    return [item.id for item in result.failures]


def _id(case):
    return f"{case.check}-{NEGATIVE.index(case)}"


def test_a_policy_that_demands_everything_is_met_without_a_skip(make_verified_tdx, full, log):
    result = appraise_tdx(make_verified_tdx(), full, event_log=log, report_data=b"\x66" * 64)
    assert failures(result) == []
    assert result.verdict is Verdict.ACCEPTED
    skips = {item.id for item in result.checks if item.status is Status.SKIP}
    assert skips == {Check.TDX_RTMR0, Check.TDX_RTMR1, Check.TDX_RTMR2}  # they stand there by their events


@pytest.mark.parametrize("case", NEGATIVE, ids=_id)
def test_exactly_the_broken_check_fails(make_verified_tdx, full, log, case):
    call = {"event_log": log, **case.call}
    result = appraise_tdx(make_verified_tdx(**case.evidence), changed(full, case), **call)
    assert failures(result) == [case.check]
    assert result.verdict is Verdict.REJECTED
    (failure,) = result.failures
    assert failure.message
    assert failure.reference


def test_every_check_of_appraisal_has_a_negative_case_here_or_among_the_events():
    events = {rule.check for rule in RULES if rule.check.startswith(("tdx.event_log.", "tdx.events."))}
    assert {rule.check for rule in RULES} - events == {case.check for case in NEGATIVE}


def test_the_rules_are_every_appraisal_check_of_the_enum_once_and_in_order():
    members = list(Check)
    first, last = members.index(Check.TDX_REFERENCE_VALUES), members.index(Check.TDX_COLLATERAL_AGE)
    assert [rule.check for rule in RULES] == members[first : last + 1]


@pytest.mark.parametrize("authentic_only", [False, True])
def test_every_check_appears_exactly_once_with_reference_and_reason(make_verified_tdx, log, authentic_only):
    result = appraise_tdx(make_verified_tdx(), Policy(schema=1), authentic_only=authentic_only, event_log=log)
    assert [item.id for item in result.checks[1:]] == [rule.check for rule in RULES]
    for item in result.checks[1:]:
        assert item.reference
        assert item.message or item.status is Status.PASS


@pytest.mark.parametrize("case", NEGATIVE, ids=_id)
def test_what_the_policy_does_not_ask_is_a_skip_and_never_a_pass(make_verified_tdx, case):
    result = appraise_tdx(make_verified_tdx(**case.evidence), Policy(schema=1).with_tdx(mrtd=(b"\x11" * 48,)))
    if case.check not in ALWAYS:
        assert found(result, case.check).status is Status.SKIP


def test_the_default_policy_accepts_nothing_and_says_why(make_verified_tdx):
    good = {name: bytes(48) for name in ("mrconfigid", "mrowner", "mrownerconfig", "mr_servicetd")}
    verified = make_verified_tdx(body=good)
    (failure,) = appraise_tdx(verified, Policy(schema=1)).failures
    assert failure.id is Check.TDX_REFERENCE_VALUES
    assert "no reference value" in failure.message
    assert appraise_tdx(verified, Policy(schema=1).with_tdx(mrtd=(b"\x11" * 48,))).verdict is Verdict.ACCEPTED


def test_registers_and_events_without_mrtd_are_no_reference_value(make_verified_tdx, full, log):
    result = appraise_tdx(make_verified_tdx(), full.with_tdx(mrtd=()), event_log=log)
    assert failures(result) == [Check.TDX_REFERENCE_VALUES]
    assert "the firmware wrote" in result.failures[0].message


@pytest.mark.parametrize("status", TcbStatus)
def test_authentic_only_looks_at_nothing_but_the_root_and_whether_intel_vouches_at_all(make_verified_tdx, full, status):
    bad = make_verified_tdx(
        body={"td_attributes": ATTRIBUTES | 1, "mrtd": OTHER * 48}, verdict={"converged": status, "platform": status}
    )
    result = appraise_tdx(bad, full, authentic_only=True)
    lost = status in (TcbStatus.REVOKED, TcbStatus.NOT_SUPPORTED)
    assert failures(result) == ([Check.TDX_TCB_STATUS] if lost else [])
    ran = {item.id for item in result.checks[1:] if item.status is not Status.SKIP}
    assert ran - {Check.TDX_TCB_STATUS} == {Check.TDX_SIMULATED}
    refused = appraise_tdx(make_verified_tdx(simulated=True), full, authentic_only=True)
    assert failures(refused) == [Check.TDX_SIMULATED]


def test_a_simulated_platform_whose_root_is_named_says_simulated_in_result_and_check(make_verified_tdx, full, log):
    verified = make_verified_tdx(simulated=True)
    result = appraise_tdx(verified, full.with_tdx(simulated_roots=(verified.root_sha256,)), event_log=log)
    assert result.verdict is Verdict.ACCEPTED
    assert result.simulated
    assert "SIMULATED" in found(result, Check.TDX_SIMULATED).message


def test_all_failures_are_collected(make_verified_tdx, full, log):
    verified = make_verified_tdx(body={"mrtd": OTHER * 48, "mrowner": OTHER * 48}, pck={"smt": False})
    result = appraise_tdx(verified, full, event_log=log)
    assert set(failures(result)) == {Check.TDX_MRTD, Check.TDX_MROWNER, Check.TDX_SMT}


def test_only_verified_quotes_are_taken_and_report_data_has_64_bytes(make_verified_tdx, full):
    with pytest.raises(TypeError):
        appraise_tdx(make_verified_tdx().quote, full)
    with pytest.raises(UsageError):
        appraise_tdx(make_verified_tdx(), full, report_data=bytes(63))


def test_a_td_report_of_version_1_0_has_no_service_tds(make_verified_tdx, full, log):
    verified = make_verified_tdx(body={"mr_servicetd": None, "tee_tcb_svn2": None}, body_type=BodyType.TD10)
    policy = full.with_tdx(mr_servicetd=(), body_types=(BodyType.TD10,))
    result = appraise_tdx(verified, policy, event_log=log)
    assert failures(result) == []
    assert found(result, Check.TDX_MR_SERVICETD).status is Status.SKIP


def test_flags_that_the_processor_ca_does_not_write_are_a_skip_where_nobody_asks(make_verified_tdx):
    result = appraise_tdx(make_verified_tdx(pck=PROCESSOR), Policy(schema=1))
    for check in (Check.TDX_DYNAMIC_PLATFORM, Check.TDX_CACHED_KEYS, Check.TDX_SMT):
        assert found(result, check).status is Status.SKIP


def test_the_unnamed_bits_that_only_add_security_are_reported_even_where_others_are_fatal(make_verified_tdx, full, log):
    policy = full.with_tdx(td_attributes=replace(full.tdx.td_attributes, **NO_MASKS))
    verified = make_verified_tdx(body={"td_attributes": ATTRIBUTES | 1 << 20})
    result = appraise_tdx(verified, policy, event_log=log)
    assert failures(result) == []
    assert "only add security" in found(result, Check.TDX_TD_ATTRIBUTES_UNKNOWN).message


def test_lass_and_migratable_are_bits_with_names_and_no_reserved_ones(make_verified_tdx, full, log):
    rules = TdAttributeRules(lass=BitRule.ANY, migratable=BitRule.ANY)
    verified = make_verified_tdx(body={"td_attributes": ATTRIBUTES | 1 << 27 | 1 << 29})
    assert failures(appraise_tdx(verified, full.with_tdx(td_attributes=rules), event_log=log)) == []


@pytest.mark.parametrize("xfam", [0x602E7, 0x642E7, 0x600E7, 0x618E7, 0x61AE7, 0x207])
def test_the_xfam_of_every_real_quote_is_allowed_by_default(make_verified_tdx, full, log, xfam):
    policy = full.with_tdx(xfam=XfamRules())
    assert failures(appraise_tdx(make_verified_tdx(body={"xfam": xfam}), policy, event_log=log)) == []


LATE = TcbStatus.OUT_OF_DATE
DATED = {
    "converged": LATE,
    "platform": LATE,
    "platform_date": datetime(2025, 12, 1, tzinfo=UTC),  # 90 days before
    "advisories": (Advisory("A", (Part.PLATFORM,)), Advisory("B", (Part.PLATFORM, Part.QE))),
}
GOOD = (AdvisoryRule("A", None), AdvisoryRule("B", Part.QE), AdvisoryRule("B", Part.PLATFORM))


@pytest.mark.parametrize(
    ("grace", "why"),
    [
        ([Grace(status=LATE, advisories=GOOD, maximum_age_days=90)], ""),
        (
            [
                Grace(status=LATE, advisories=(), maximum_age_days=90),
                Grace(status=LATE, advisories=GOOD, maximum_age_days=90),
            ],
            "",
        ),
        ([Grace(status=LATE, advisories=GOOD, maximum_age_days=89)], "grace ended 89 days after tcbDate 2025-12-01"),
        ([Grace(status=LATE, advisories=GOOD[:2], maximum_age_days=90)], "grace does not name B (platform, qe)"),
        ([Grace(status=LATE, advisories=(), maximum_age_days=90)], "grace does not name A (platform), B"),
        ([Grace(status=TcbStatus.REVOKED, advisories=GOOD, maximum_age_days=90)], "the TCB is OutOfDate"),
        ([], "the TCB is OutOfDate"),
    ],
)
def test_grace_is_for_a_status_its_advisories_and_a_time_and_never_for_a_status_alone(make_verified_tdx, grace, why):
    policy = Policy(schema=1).with_tdx(tcb=TcbRules(grace=tuple(grace)))
    item = found(appraise_tdx(make_verified_tdx(verdict=DATED), policy), Check.TDX_TCB_STATUS)
    assert item.status is (Status.FAIL if why else Status.PASS)
    assert why in item.message


def test_no_grace_helps_where_no_level_fits(make_verified_tdx):
    grace = Grace(status=TcbStatus.OUT_OF_DATE, advisories=(), maximum_age_days=3650)
    policy = Policy(schema=1).with_tdx(tcb=TcbRules(grace=(grace,)))
    verified = make_verified_tdx(verdict={"converged": TcbStatus.NOT_SUPPORTED})
    assert Check.TDX_TCB_STATUS in failures(appraise_tdx(verified, policy))


def test_a_status_that_is_not_accepted_says_which_component_was_too_low(make_verified_tdx):
    trace = (TraceEntry(Part.PLATFORM, 1, TcbStatus.UP_TO_DATE, "sgx[7]", 5, 3, ()),)
    verified = make_verified_tdx(verdict={"converged": LATE, "trace": trace})
    item = found(appraise_tdx(verified, Policy(schema=1)), Check.TDX_TCB_STATUS)
    assert "platform level 1 (UpToDate): sgx[7] is 3, 5 needed" in item.message


def test_a_module_without_a_status_of_its_own_is_no_pass(make_verified_tdx, full, log):
    verified = make_verified_tdx(verdict={"module": None, "module_date": None})
    assert found(appraise_tdx(verified, full, event_log=log), Check.TDX_TCB_MODULE).status is Status.SKIP


# The event log
