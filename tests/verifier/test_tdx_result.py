"""The result document of a TDX quote, and its EAR claims."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dokimos.attest.sim_ccel import write_ccel
from dokimos.endorsements.collateral import TcbStatus
from dokimos.errors import Check, CheckResult, Status, VerificationError
from dokimos.evidence.tdx import BodyType
from dokimos.verifier.appraise_tdx import RULES, appraise_tdx
from dokimos.verifier.ear import FAILED, MEMBERS, Tier, status, to_ear, vector
from dokimos.verifier.policy import Policy, load_policy
from dokimos.verifier.tdx_policy import TdAttributeRules
from dokimos.verifier.tdx_result import rejected, tdx_evidence
from dokimos.verifier.trust import RevocationState

MRTD = b"\x11" * 48
PINNED = ("mrconfigid", "mrowner", "mrownerconfig", "mr_servicetd")


@pytest.fixture(scope="module")
def log(tdx_events):
    return write_ccel(tdx_events)


@pytest.fixture(scope="module")
def full(full_tdx_policy_text):
    return load_policy(full_tdx_policy_text)


def test_the_evidence_has_every_field_under_its_name_and_is_json(make_verified_tdx, full, log):
    found: Any = appraise_tdx(make_verified_tdx(), full, event_log=log).evidence
    assert json.loads(json.dumps(found)) == found
    assert (found["version"], found["body_type"], found["mrtd"]) == (5, "TD15", MRTD.hex())
    assert found["td_attributes"]["raw"] == "0x0000000050000000"
    assert (found["td_attributes"]["sept_ve_disable"], found["td_attributes"]["debug"]) == (True, False)
    assert found["xfam"]["unknown"] == "0x0"
    assert found["tdx_module"] is None
    assert found["tcb"]["status"] == found["tcb"]["platform"] == found["tcb"]["module"] == "UpToDate"
    assert [entry["chosen"] for entry in found["tcb"]["trace"]] == [["sgx", "platform"], ["module"], ["qe"]]
    assert found["endorsement"]["fmspc"] == "d0c100000000"
    assert found["endorsement"]["revocation"] == "checked"
    assert found["endorsement"]["valid_until"] == found["endorsement"]["tcb_info"]["next_update"]
    assert found["event_log"]["replays"] == [True] * 4
    assert found["event_log"]["events"][13] == {
        "number": 14,
        "register": "rtmr1",
        "type": "EV_EFI_BOOT_SERVICES_APPLICATION",
        "label": "kernel (direct boot)",
        "digest": full.tdx.events.kernel[0].hex(),
        "data": "digest-only",
    }


def test_a_td_report_of_version_1_0_has_nulls(make_verified_tdx):
    verified = make_verified_tdx(body={"tee_tcb_svn2": None, "mr_servicetd": None}, body_type=BodyType.TD10)
    found = tdx_evidence(verified.quote)
    assert (found["tee_tcb_svn2"], found["mr_servicetd"], found["tcb"], found["endorsement"]) == (None,) * 4


def test_a_rejection_shows_what_the_quote_claims_and_nothing_that_was_verified(make_verified_tdx):
    verified = make_verified_tdx()
    error = VerificationError(CheckResult(Check.TDX_QUOTE_SIGNATURE, Status.FAIL))
    made = rejected(error, at=verified.at, quote=verified.quote.raw)
    assert (made.verdict, made.evidence["mrtd"], made.evidence["endorsement"]) == ("rejected", MRTD.hex(), None)
    assert made.revocation is RevocationState.NOT_CHECKED
    assert rejected(error, at=verified.at, quote=b"\4").evidence == {}
    assert rejected(error, at=verified.at).evidence == {}
    for check in (Check.TDX_ROOT_CRL_STALE, Check.TDX_PCK_CRL_STALE):
        stale = VerificationError(CheckResult(check, Status.FAIL))
        made = rejected(stale, at=verified.at, quote=verified.quote.raw)
        assert made.revocation is RevocationState.STALE
        assert made.evidence["endorsement"] == {"revocation": "stale"}


def test_the_document_page_names_every_key(checkout, make_verified_tdx, log):
    page = (checkout / "docs/result.md").read_text()
    evidence: Any = appraise_tdx(make_verified_tdx(), Policy(schema=1), event_log=log).evidence
    names = [*evidence, *evidence["qe_report"], *evidence["tcb"], *evidence["endorsement"], *evidence["event_log"]]
    names += [*evidence["event_log"]["events"][0], *evidence["tcb"]["trace"][0]]
    names += [*evidence["endorsement"]["tcb_info"], *evidence["endorsement"]["root_crl"]]
    assert [name for name in names if f"`{name}`" not in page] == []


@settings(max_examples=60, deadline=None)
@given(
    attributes=st.integers(0, 2**64 - 1),
    xfam=st.integers(0, 2**64 - 1),
    svn=st.binary(min_size=16, max_size=16),
    register=st.binary(min_size=48, max_size=48),
)
def test_any_verified_quote_is_appraised_without_error(make_verified_tdx, attributes, xfam, svn, register):
    body = {"td_attributes": attributes, "xfam": xfam, "tee_tcb_svn": svn, "rtmrs": (register,) * 4}
    made = appraise_tdx(make_verified_tdx(body=body), Policy(schema=1).with_tdx(mrtd=(MRTD,)))
    assert json.loads(json.dumps(made.to_json()))["verdict"] == made.verdict
    watched = attributes & 0xFFFF
    assert not (made.verdict == "accepted" and (watched or not attributes >> 28 & 1))


# EAR


def claims(result):
    return {name: value for name, value in vector(result).items() if value}


def test_a_good_quote_is_affirmed_in_what_its_checks_say(make_verified_tdx, full, log):
    result = appraise_tdx(make_verified_tdx(), full, event_log=log)
    affirmed = {"hardware": 2, "configuration": 2, "executables": 3, "instance-identity": 2, "runtime-opaque": 2}
    assert claims(result) == affirmed
    assert status(result) is Tier.AFFIRMING
    ear: Any = to_ear(result)
    assert ear["submods"]["cpu0"]["ear_attester_claims"] == result.evidence


def test_firmware_alone_is_no_approved_boot(make_verified_tdx):
    verified = make_verified_tdx(body=dict.fromkeys(PINNED, bytes(48)))
    policy = Policy(schema=1).with_tdx(mrtd=(MRTD,))
    result = appraise_tdx(verified, policy)
    assert result.verdict == "accepted"
    assert claims(result) == {"hardware": 2, "configuration": 2, "runtime-opaque": 2}
    assert status(result) is Tier.NONE
    rtmrs = verified.quote.body.rtmrs
    by_value = appraise_tdx(verified, policy.with_tdx(rtmr1=(rtmrs[1],), rtmr2=(rtmrs[2],)))
    assert claims(by_value)["executables"] == 3


def test_authenticity_alone_affirms_hardware_only_of_a_current_tcb(make_verified_tdx, full):
    assert claims(appraise_tdx(make_verified_tdx(), full, authentic_only=True)) == {"hardware": 2}
    late = make_verified_tdx(verdict={"converged": TcbStatus.OUT_OF_DATE})
    result = appraise_tdx(late, full, authentic_only=True)
    assert (result.verdict, claims(result), status(result)) == ("accepted", {}, Tier.NONE)


def test_a_simulated_td_is_never_affirmed(make_verified_tdx, full, log):
    verified = make_verified_tdx(simulated=True)
    result = appraise_tdx(verified, full.with_tdx(simulated_roots=(verified.root_sha256,)), event_log=log)
    assert result.verdict == "accepted"
    assert claims(result) == {"hardware": 97, "configuration": 2, "executables": 3}
    assert status(result) is Tier.CONTRAINDICATED


@pytest.mark.parametrize(
    ("evidence", "member", "claim"),
    [
        ({"body": {"mrtd": b"\xee" * 48}}, "executables", 33),
        ({"body": {"td_attributes": 0x50000001}}, "configuration", 96),
        ({"body": {"td_attributes": 0x50000001}}, "runtime-opaque", 96),
        ({"body": {"mrowner": bytes(48)}}, "configuration", 96),
        ({"body": {"report_data": bytes(64)}}, "instance-identity", 96),
        ({"body": {"mrseam": bytes(48)}}, "hardware", 96),
        ({"pck": {"ppid": b"\xee" * 16}}, "instance-identity", 97),
        ({"pck": {"fmspc": b"\xee" * 6}}, "hardware", 96),
        ({"pck": {"smt": False}}, "hardware", 32),
        ({"verdict": {"converged": TcbStatus.OUT_OF_DATE}}, "hardware", 32),
        ({"verdict": {"converged": TcbStatus.REVOKED}}, "hardware", 96),
        ({"verdict": {"converged": TcbStatus.NOT_SUPPORTED}}, "hardware", 96),
    ],
)
def test_a_failure_stands_in_its_member(make_verified_tdx, full, log, evidence, member, claim):
    result = appraise_tdx(make_verified_tdx(**evidence), full, event_log=log)
    assert result.verdict == "rejected"
    assert vector(result)[member] == claim
    assert status(result) is Tier.CONTRAINDICATED


@pytest.mark.parametrize(
    ("check", "expected"),
    [
        (Check.TDX_QUOTE_SIGNATURE, dict.fromkeys(MEMBERS, 99)),
        (Check.TDX_TCB_INFO_EXPIRED, dict.fromkeys(MEMBERS, 99)),
        (Check.TDX_PCK_REVOKED, {"hardware": 96}),
        (Check.TDX_PCK_CA_REVOKED, {"hardware": 96}),
        (Check.TDX_MODULE_IDENTITY, {"hardware": 97}),
    ],
)
def test_a_quote_that_is_not_authentic_affirms_nothing(make_verified_tdx, check, expected):
    error = VerificationError(CheckResult(check, Status.FAIL))
    assert claims(rejected(error, at=make_verified_tdx().at)) == expected


def test_debug_that_the_policy_leaves_open_is_not_affirmed(make_verified_tdx):
    from dokimos.verifier.policy_rules import BitRule  # noqa: PLC0415

    body = {"td_attributes": 0x10000001, **dict.fromkeys(PINNED, bytes(48))}
    policy = Policy(schema=1).with_tdx(mrtd=(MRTD,), td_attributes=TdAttributeRules(debug=BitRule.ANY))
    result = appraise_tdx(make_verified_tdx(body=body), policy)
    assert result.verdict == "accepted"
    assert claims(result) == {"hardware": 2}


def test_every_check_of_a_tdx_appraisal_concerns_a_member():
    assert {rule.check for rule in RULES} <= FAILED.keys()
