"""EAR claims: never better than the worst member, a skip never affirms, a simulated platform is never affirmed."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dokimos.errors import Check, CheckResult, Status, VerificationError
from dokimos.evidence.snp import SigningKey
from dokimos.verifier.appraise import RULES, appraise_snp
from dokimos.verifier.ear import FAILED, MEMBERS, Tier, status, to_ear, vector
from dokimos.verifier.ear_gpu import of_gpus
from dokimos.verifier.policy import Policy, load_policy
from dokimos.verifier.result import AttestationResult, rejected

AT = datetime(2026, 7, 1, tzinfo=UTC)
MEMBER_NAMES = {
    "instance-identity",
    "configuration",
    "executables",
    "file-system",
    "hardware",
    "runtime-opaque",
    "storage-opaque",
    "sourced-data",
}
CODE = Policy(schema=1).with_snp(measurements=(b"\x11" * 48,), vmpl=(0,))


def cpu(result) -> Any:
    ear: Any = to_ear(result)
    return ear["submods"]["cpu0"]


def claims(result):
    return {name: value for name, value in vector(result).items() if value}


def test_the_claims_set_has_the_names_of_the_draft(make_verified_snp):
    result = appraise_snp(make_verified_snp(), CODE)
    ear: Any = to_ear(result, nonce=b"\xff\xfe", raw_evidence=("application/cmw+json", b"{}"))
    assert list(ear) == ["eat_profile", "iat", "ear_verifier_id", "eat_nonce", "submods"]
    assert ear["eat_profile"] == "tag:ietf.org,2026:rats/ear#04"
    assert ear["iat"] == int(AT.timestamp())
    assert ear["ear_verifier_id"].keys() == {"developer", "build"}
    assert ear["eat_nonce"] == "__4"
    assert list(ear["submods"]) == ["cpu0"]
    assert set(cpu(result)) == {
        "ear_status",
        "ear_trustworthiness_vector",
        "ear_appraisal_policy_ids",
        "ear_attester_claims",
        "ear_verifier_claims",
    }
    assert ear["submods"]["cpu0"]["ear_raw_evidence"] == ["application/cmw+json", "e30"]
    assert cpu(result)["ear_appraisal_policy_ids"] == [CODE.id()]
    assert cpu(result)["ear_attester_claims"] == result.evidence
    assert set(cpu(result)["ear_trustworthiness_vector"]) == MEMBER_NAMES == set(MEMBERS)
    assert json.loads(json.dumps(ear)) == ear


def test_a_good_report_is_affirmed_and_what_it_says_nothing_of_is_not(make_verified_snp):
    result = appraise_snp(make_verified_snp(), CODE)
    assert claims(result) == {"hardware": 2, "configuration": 2, "executables": 3, "runtime-opaque": 2}
    assert status(result) is Tier.AFFIRMING
    listed = appraise_snp(make_verified_snp(), CODE.with_snp(chip_ids=(bytes(range(64)),)))
    assert claims(listed)["instance-identity"] == 2


def test_authenticity_alone_affirms_hardware_and_nothing_as_a_whole(make_verified_snp):
    result = appraise_snp(make_verified_snp(), CODE, authentic_only=True)
    assert claims(result) == {"hardware": 2}
    assert status(result) is Tier.NONE


def test_a_bit_that_the_policy_leaves_open_is_not_affirmed(make_verified_snp):
    policy = load_policy(f'schema = 1\n[snp]\nmeasurements = ["{"11" * 48}"]\npolicy = {{ debug = "any" }}')
    result = appraise_snp(make_verified_snp(policy=0xB0000), policy)
    assert result.verdict == "accepted"
    assert claims(result) == {"hardware": 2, "executables": 3}
    assert status(result) is Tier.NONE


def test_a_simulated_platform_is_never_affirmed(make_verified_snp):
    verified = make_verified_snp(simulated=True)
    policy = CODE.with_snp(simulated_roots=(verified.root_sha256,), chip_ids=(bytes(range(64)),))
    result = appraise_snp(verified, policy)
    assert result.verdict == "accepted"
    assert claims(result) == {"hardware": 97, "configuration": 2, "executables": 3}
    assert status(result) is Tier.CONTRAINDICATED
    assert cpu(result)["ear_verifier_claims"]["simulated"] is True
    only = appraise_snp(verified, policy, authentic_only=True)
    assert status(only) is Tier.CONTRAINDICATED


@pytest.mark.parametrize(
    ("evidence", "changes", "member", "claim"),
    [
        ({"measurement": b"\xee" * 48}, {}, "executables", 33),
        ({"policy": 0xB0000}, {}, "configuration", 96),
        ({"policy": 0xB0000}, {}, "runtime-opaque", 96),
        ({"vmpl": 2}, {}, "configuration", 96),
        ({}, {"signers": (SigningKey.VLEK,)}, "hardware", 96),
        ({}, {"chip_ids": (b"\xee" * 64,)}, "instance-identity", 97),
        ({}, {"denied_chip_ids": (bytes(range(64)),)}, "instance-identity", 96),
        ({}, {"minimum_build": 255}, "hardware", 32),
        ({"report_data": bytes(64)}, {"report_data": b"\x66" * 64}, "instance-identity", 96),
    ],
)
def test_a_failure_stands_in_its_member(make_verified_snp, evidence, changes, member, claim):
    result = appraise_snp(make_verified_snp(**evidence), CODE.with_snp(**changes))
    assert result.verdict == "rejected"
    assert vector(result)[member] == claim
    assert status(result) is Tier.CONTRAINDICATED


@pytest.mark.parametrize(
    ("check", "expected"),
    [
        (Check.SNP_REPORT_SIGNATURE, dict.fromkeys(MEMBERS, 99)),
        (Check.SNP_CA_PINNED, dict.fromkeys(MEMBERS, 99)),
        (Check.SNP_CRL_FRESH, dict.fromkeys(MEMBERS, 99)),
        (Check.SNP_CRL_REVOKED, {"hardware": 96}),
        (Check.SNP_PRODUCT_SUPPORTED, {"hardware": 97}),
    ],
)
def test_evidence_that_is_not_authentic_affirms_nothing(check, expected):
    signed = CheckResult(Check.SNP_REPORT_SIGNATURE_FORMAT, Status.PASS)
    error = VerificationError(CheckResult(check, Status.FAIL), (signed, CheckResult(check, Status.FAIL)))
    result = rejected(error, at=AT)
    assert claims(result) == expected
    assert status(result) is Tier.CONTRAINDICATED
    assert cpu(result)["ear_appraisal_policy_ids"] == []


def test_every_check_of_appraisal_and_binding_concerns_a_member():
    others = {check for check in Check if of_gpus(check) or check.startswith(("log.", "statement."))}
    authenticity = set(Check) - others - FAILED.keys()
    assert not authenticity & {rule.check for rule in RULES}
    assert not [check for check in authenticity if check.startswith("binding.")]
    assert {".".join(check.split(".")[:2]) for check in authenticity} == {
        *("snp.report", "snp.ca", "snp.vek", "snp.crl", "snp.product"),
        *("tdx.quote", "tdx.qe", "tdx.pck", "tdx.pck_ca", "tdx.pck_crl", "tdx.root", "tdx.root_crl"),
        *("tdx.collateral", "tdx.tcb_info", "tdx.tcb_signer", "tdx.qe_identity", "tdx.module", "tdx.ccel"),
        *("vtpm.hcl", "vtpm.quote"),
    }
    assert Check.SNP_VEK_SIGNATURE in authenticity


@settings(max_examples=200, deadline=None)
@given(
    statuses=st.dictionaries(st.sampled_from(Check), st.sampled_from(Status), max_size=30),
    simulated=st.booleans(),
)
def test_the_status_is_never_better_than_the_worst_member_and_never_affirms_a_rejection(statuses, simulated):
    checks = [CheckResult(check, found) for check, found in statuses.items()]
    result = AttestationResult.of(checks, at=AT, simulated=simulated, evidence={})
    order = [Tier.AFFIRMING, Tier.NONE, Tier.WARNING, Tier.CONTRAINDICATED]
    tiers = [Tier.of(claim) for claim in vector(result).values() if claim]
    assert all(order.index(status(result)) >= order.index(tier) for tier in tiers)
    if result.verdict == "rejected":
        assert status(result) is Tier.CONTRAINDICATED
    if simulated:
        assert status(result) is not Tier.AFFIRMING
        assert vector(result)["hardware"] > 32 or vector(result)["hardware"] == 0
    passed = {check for check, found in statuses.items() if found is Status.PASS}
    if Check.SNP_REPORT_SIGNATURE not in passed:
        assert not any(2 <= claim < 32 for claim in vector(result).values())


@pytest.mark.parametrize(
    ("claim", "tier"),
    [
        (0, "none"),
        (1, "none"),
        (2, "affirming"),
        (31, "affirming"),
        (32, "warning"),
        (95, "warning"),
        (96, "contraindicated"),
    ],
)
def test_the_bands_are_those_of_ar4si(claim, tier):
    assert Tier.of(claim) == tier


def test_the_page_lists_every_member(checkout):
    page = (checkout / "docs/result.md").read_text()
    assert set(re.findall(r"`([a-z-]+)`", page)) >= MEMBER_NAMES
