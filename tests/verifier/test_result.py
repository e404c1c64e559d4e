"""The result: its verdict follows from the checks, its JSON is stable, and every field of the report is in it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dokimos.errors import Check, CheckResult, Status, VerificationError
from dokimos.evidence.snp import REPORT_SIZE, Product, parse_report
from dokimos.verifier.appraise import appraise_snp
from dokimos.verifier.policy import Policy
from dokimos.verifier.result import AttestationResult, Verdict, rejected, snp_evidence

AT = datetime(2026, 7, 1, tzinfo=UTC)
PASS = CheckResult(Check.SNP_VMPL, Status.PASS)
FAIL = CheckResult(Check.SNP_MEASUREMENT, Status.FAIL, b"\x01", b"\x02", "0x090", "wrong")
SKIP = CheckResult(Check.SNP_HOST_DATA, Status.SKIP, message="not asked")

# Names of AMD 56860, table ATTESTATION_REPORT, in the order of the report; written out here on purpose.
ABI_FIELDS = [
    "version",
    "guest_svn",
    "policy",
    "family_id",
    "image_id",
    "vmpl",
    "signature_algo",
    "current_tcb",
    "platform_info",
    "key_info",
    "report_data",
    "measurement",
    "host_data",
    "id_key_digest",
    "author_key_digest",
    "report_id",
    "report_id_ma",
    "reported_tcb",
    "cpuid_fam_id",
    "cpuid_mod_id",
    "cpuid_step",
    "chip_id",
    "committed_tcb",
    "current_build",
    "current_minor",
    "current_major",
    "committed_build",
    "committed_minor",
    "committed_major",
    "launch_tcb",
    "launch_mit_vector",
    "current_mit_vector",
    "signature",
]


def result(*checks: CheckResult) -> AttestationResult:
    return AttestationResult.of(checks, at=AT, simulated=False, evidence={})


@pytest.mark.parametrize(
    ("checks", "verdict"),
    [
        ((PASS,), "accepted"),
        ((PASS, SKIP), "accepted"),
        ((PASS, FAIL), "rejected"),
        ((FAIL,), "rejected"),
        ((), "rejected"),
    ],
)
def test_the_verdict_is_accepted_only_if_there_are_checks_and_none_failed(checks, verdict):
    assert result(*checks).verdict == verdict


@pytest.mark.parametrize("checks", [(), (PASS, FAIL)])
def test_a_verdict_that_the_checks_do_not_bear_out_cannot_be_made(checks):
    with pytest.raises(ValueError, match="verdict"):
        AttestationResult(verdict=Verdict.ACCEPTED, at=AT, simulated=False, evidence={}, checks=checks)


def test_a_time_without_zone_is_refused():
    with pytest.raises(ValueError, match="time zone"):
        AttestationResult.of((PASS,), at=AT.replace(tzinfo=None), simulated=False, evidence={})


def test_raise_for_verdict_names_the_first_failure_and_carries_all_checks():
    result(PASS).raise_for_verdict()
    with pytest.raises(VerificationError) as caught:
        result(PASS, FAIL, SKIP).raise_for_verdict()
    assert caught.value.failed == FAIL
    assert caught.value.checks == (PASS, FAIL, SKIP)
    with pytest.raises(ValueError, match="without any check"):
        result().raise_for_verdict()


def test_more_checks_can_only_make_the_verdict_worse():
    assert result(PASS).extended([SKIP]).verdict == "accepted"
    assert result(PASS).extended([FAIL]).verdict == "rejected"
    assert result(FAIL).extended([PASS]).verdict == "rejected"
    assert result(PASS).extended([FAIL]).failures == (FAIL,)


def test_the_document_has_exactly_its_keys():
    document = AttestationResult.of(
        (FAIL, SKIP), at=datetime(2026, 7, 1, 2, tzinfo=timezone(timedelta(hours=2))), simulated=True, evidence={"a": 1}
    ).to_json()
    assert document == {
        "schema": "dokimos.result/v1",
        "verdict": "rejected",
        "at": "2026-07-01T00:00:00Z",
        "simulated": True,
        "evidence": {"a": 1},
        "checks": [
            {
                "id": "snp.measurement",
                "status": "fail",
                "expected": "01",
                "actual": "02",
                "reference": "0x090",
                "message": "wrong",
            },
            {
                "id": "snp.host_data",
                "status": "skip",
                "expected": None,
                "actual": None,
                "reference": "",
                "message": "not asked",
            },
        ],
    }


def test_the_evidence_has_every_field_of_the_report_by_its_name(make_verified_snp, make_snp_report):
    verified = make_verified_snp()
    found: Any = snp_evidence(verified.report, verified)
    assert list(found) == [*ABI_FIELDS, "reserved", "endorsement"]
    assert found["measurement"] == "11" * 48
    assert found["policy"]["raw"] == "0x0000000003d30137"
    assert (found["policy"]["abi_major"], found["policy"]["abi_minor"]) == (1, 55)
    assert found["policy"]["debug"] is False
    assert found["platform_info"]["alias_check_complete"] is True
    assert found["reported_tcb"] == {"raw": "0a00000000001754", "bl": 10, "tee": 0, "snp": 23, "ucode": 84}
    assert (found["current_major"], found["current_minor"], found["current_build"]) == (1, 55, 40)
    assert (found["cpuid_fam_id"], found["cpuid_mod_id"], found["cpuid_step"]) == (0x19, 0x11, 1)
    assert found["launch_mit_vector"] == "0x000000000000000b"
    assert found["endorsement"]["revocation"] == "not checked"
    assert found["endorsement"]["not_after"] == "2033-01-01T00:00:00Z"


def test_the_tcb_is_decoded_by_the_product(make_verified_snp, make_snp_report):
    raw = bytes.fromhex("0102030400000055")
    turin = make_verified_snp(product=Product.TURIN, fms=b"\x1a\x02\x01", reported_tcb=raw)
    decoded = {"raw": raw.hex(), "fmc": 1, "bl": 2, "tee": 3, "snp": 4, "ucode": 0x55}
    assert snp_evidence(turin.report, turin)["reported_tcb"] == decoded
    assert snp_evidence(turin.report)["reported_tcb"] == decoded
    old = make_snp_report(version=2, fms=bytes(3), launch_mit_vector=0, current_mit_vector=0)
    assert snp_evidence(old)["reported_tcb"] == {"raw": "0a00000000001754"}
    assert snp_evidence(old)["cpuid_fam_id"] is None
    assert snp_evidence(old)["launch_mit_vector"] is None
    venice = make_snp_report(fms=b"\x1a\x50\x00")
    assert snp_evidence(venice)["current_tcb"] == {"raw": "0a00000000001754"}


def test_a_rejection_shows_what_the_report_claims_without_endorsement(make_snp_report):
    report = make_snp_report()
    error = VerificationError(FAIL, (PASS, FAIL))
    made = rejected(error, at=AT, report=report.raw)
    assert made.verdict == "rejected"
    assert made.checks == (PASS, FAIL)
    assert made.evidence["measurement"] == "11" * 48
    assert made.evidence["endorsement"] is None
    assert rejected(error, at=AT).evidence == {}
    assert rejected(error, at=AT, report=report.raw[:-1]).evidence == {}
    assert rejected(error, at=AT, report=b"\x09" + report.raw[1:]).evidence == {}


_VALUES = st.recursive(
    st.none() | st.text(max_size=8) | st.integers(0, 2**64) | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=3).map(tuple),
    max_leaves=5,
)
_CHECKS = st.builds(
    CheckResult,
    st.sampled_from(Check),
    st.sampled_from(Status),
    _VALUES,
    _VALUES,
    st.text(max_size=8),
    st.text(max_size=8),
    st.sampled_from(["", "GPU-0", "SWITCH-3 bios RIM"]),
)
_TYPES = {"schema": str, "verdict": str, "at": str, "simulated": bool, "evidence": dict, "checks": list}


@settings(max_examples=100, deadline=None)
@given(checks=st.lists(_CHECKS, max_size=6), at=st.datetimes(timezones=st.just(UTC)), simulated=st.booleans())
def test_any_result_is_json_of_the_same_shape(checks, at, simulated):
    made = AttestationResult.of(checks, at=at, simulated=simulated, evidence={})
    document: Any = made.to_json()
    assert json.loads(json.dumps(document)) == document
    assert {name: type(value) for name, value in document.items()} == _TYPES
    for check, written in zip(checks, document["checks"], strict=True):
        named = ["subject"] if check.subject else []
        assert list(written) == [*named, "id", "status", "expected", "actual", "reference", "message"]
    assert (document["verdict"] == "accepted") is (
        bool(checks) and not any(check.status is Status.FAIL for check in checks)
    )


@settings(max_examples=100, deadline=None)
@given(st.binary(min_size=REPORT_SIZE, max_size=REPORT_SIZE), st.integers(2, 5))
def test_any_report_has_evidence_of_the_same_shape(data, version):
    report = parse_report(bytes([version, 0, 0, 0]) + data[4:])
    found: Any = snp_evidence(report)
    assert json.loads(json.dumps(found)) == found
    assert list(found) == [*ABI_FIELDS, "reserved", "endorsement"]
    assert found["policy"].keys() >= {"raw", "debug", "abi_major", "reserved"}
    assert found["report_data"] == report.report_data.hex()


@settings(max_examples=60, deadline=None)
@given(
    policy=st.integers(0, 2**64 - 1),
    platform_info=st.integers(0, 2**64 - 1),
    vmpl=st.integers(0, 2**32 - 1),
    tcbs=st.lists(st.binary(min_size=8, max_size=8), min_size=4, max_size=4),
    product=st.sampled_from(list(Product)),
)
def test_any_verified_report_is_appraised_without_error(make_verified_snp, policy, platform_info, vmpl, tcbs, product):
    names = ("current_tcb", "reported_tcb", "committed_tcb", "launch_tcb")
    report = dict(zip(names, tcbs, strict=True))
    verified = make_verified_snp(product=product, policy=policy, platform_info=platform_info, vmpl=vmpl, **report)
    made = appraise_snp(verified, Policy(schema=1).with_snp(measurements=(b"\x11" * 48,)))
    assert json.loads(json.dumps(made.to_json()))["verdict"] == made.verdict
    accepted = made.verdict is Verdict.ACCEPTED
    assert not (accepted and (policy >> 18 & 3 or vmpl > 3))


def test_the_document_page_names_every_key(checkout, make_verified_snp):
    page = (checkout / "docs/result.md").read_text()
    made: Any = appraise_snp(make_verified_snp(), Policy(schema=1))
    names = [*made.to_json(), *made.evidence, *made.evidence["endorsement"], *made.to_json()["checks"][0]]
    assert [name for name in names if f"`{name}`" not in page] == []
