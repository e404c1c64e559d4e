"""EAR of NVIDIA devices: each a submodule of its own beside the processor's, and none is better than its checks."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dokimos.attest.sim_gpu import HOPPER_OLD, LS10
from dokimos.errors import Check, CheckResult, Status, VerificationError
from dokimos.verifier.appraise import appraise_snp
from dokimos.verifier.appraise_gpu import DEVICE_RULES, MACHINE_RULES, appraise_gpus
from dokimos.verifier.ear import FAILED as PROCESSOR
from dokimos.verifier.ear import status, to_ear, vector
from dokimos.verifier.ear_claims import EXECUTABLES, HARDWARE, INSTANCE, MEMBERS, Tier
from dokimos.verifier.ear_gpu import FAILED, device_checks, device_vector, devices_of, of_gpus
from dokimos.verifier.gpu_result import rejected
from dokimos.verifier.policy import Policy
from dokimos.verifier.result import AttestationResult
from dokimos.verifier.result import rejected as rejected_processor
from tests.generate import gpu_faults as faults
from tests.generate.gpu_machines import (
    AT,
    EVERY,
    NONCE,
    OTHER,
    SIMULATED,
    STATE,
    Revoked,
    appraise,
    demanding,
    device,
    hgx,
    machine,
    revocation,
    verify,
)

CODE = Policy(schema=1).with_snp(measurements=(b"\x11" * 48,), vmpl=(0,))
NAMES = [*(f"gpu{n}" for n in range(8)), *(f"switch{n}" for n in range(4))]


def submods(result) -> Any:
    ear: Any = to_ear(result)
    assert json.loads(json.dumps(ear)) == ear
    return ear["submods"]


def claims(submod):
    return {name: value for name, value in submod["ear_trustworthiness_vector"].items() if value}


def genuine(result):
    """The same as if NVIDIA's own roots stood above it."""
    return replace(result, simulated=False)


def failed(made, policy=SIMULATED, **call):
    return genuine(appraise(made, policy, **call))


def test_every_device_is_a_submodule_and_without_a_processor_there_is_none_for_one():
    found = submods(appraise(hgx()))
    assert list(found) == NAMES
    for name, submod in found.items():
        assert submod["ear_attester_claims"]["subject"].replace("-", "").lower() == name
        assert set(submod["ear_trustworthiness_vector"]) == set(MEMBERS)
        checks = submod["ear_verifier_claims"]["checks"]
        named = {check["subject"].split(" ")[0] for check in checks if "subject" in check}
        assert named == {submod["ear_attester_claims"]["subject"]}
        assert [check["id"] for check in checks if "subject" not in check] == [rule.check for rule in MACHINE_RULES]


def test_devices_stand_beside_the_processor_which_they_neither_raise_nor_lower(make_verified_snp):
    processor = appraise_snp(make_verified_snp(), CODE)
    for made in (machine(), machine(measurements={9: OTHER * 48})):
        devices = genuine(appraise(made))
        both = processor.joined(devices, "gpu")
        found = submods(both)
        assert list(found) == ["cpu0", "gpu0"]
        assert found["cpu0"]["ear_trustworthiness_vector"] == vector(processor) == vector(both)
        assert found["cpu0"]["ear_attester_claims"] == processor.evidence
        assert found["gpu0"]["ear_attester_claims"] == devices.evidence["devices"][0]
        ids = {check["id"] for check in found["cpu0"]["ear_verifier_claims"]["checks"]}
        assert not any(of_gpus(Check(check)) for check in ids)
        assert claims(found["gpu0"]) == claims(submods(devices)["gpu0"])
        # A rejection is one of the whole machine.
        tier = Tier.AFFIRMING if devices.verdict == "accepted" else Tier.CONTRAINDICATED
        assert {submod["ear_status"] for submod in found.values()} == {str(tier)}


def test_a_machine_whose_processor_fails_affirms_no_device(make_verified_snp):
    check = CheckResult(Check.SNP_REPORT_SIGNATURE, Status.FAIL)
    processor = rejected_processor(VerificationError(check, (check,)), at=AT)
    found = submods(processor.joined(genuine(appraise(machine())), "gpu"))
    assert claims(found["cpu0"]) == dict.fromkeys(MEMBERS, 99)
    assert {submod["ear_status"] for submod in found.values()} == {"contraindicated"}


def test_a_good_device_is_affirmed_and_what_no_check_says_is_not():
    assert claims(submods(failed(machine()))["gpu0"]) == {HARDWARE: 2, "configuration": 2, EXECUTABLES: 3}
    listed = failed(machine(), demanding(machine()))
    assert claims(submods(listed)["gpu0"])[INSTANCE] == 2
    only = genuine(appraise_gpus(verify(machine()), SIMULATED, authentic_only=True))
    assert claims(submods(only)["gpu0"]) == {HARDWARE: 2}
    assert submods(only)["gpu0"]["ear_status"] == "none"


@pytest.mark.parametrize("firmware", [HOPPER_OLD, LS10], ids=["old", "switch"])
def test_a_device_that_names_no_mode_has_no_affirmed_configuration(firmware):
    submod = next(iter(submods(failed(machine(device(firmware)))).values()))
    assert claims(submod) == {HARDWARE: 2, EXECUTABLES: 3}
    assert submod["ear_status"] == "none"


def test_a_simulated_device_is_never_affirmed():
    result = appraise(machine(), demanding(machine()))
    submod = submods(result)["gpu0"]
    assert claims(submod) == {HARDWARE: 97, "configuration": 2, EXECUTABLES: 3}
    assert submod["ear_status"] == "contraindicated"
    assert submod["ear_verifier_claims"]["simulated"] is True


def test_a_rejection_affirms_no_simulated_device_either_the_ones_beside_it_included():
    made = machine(device(), device(EVERY, 1))
    crls, answers = revocation(made, Revoked(device=(1,)))
    with pytest.raises(VerificationError) as caught:
        verify(made, files=crls | answers)
    result = rejected(caught.value, at=AT, devices=made.evidence)
    assert result.simulated
    assert [claims(submod) for submod in submods(result).values()] == [{HARDWARE: 97}, {HARDWARE: 97}]
    assert all(submod["ear_attester_claims"]["nonce"] == NONCE.hex() for submod in submods(result).values())


@pytest.mark.parametrize(
    ("result", "member", "claim", "device"),
    [
        (lambda: failed(machine(measurements={9: OTHER * 48})), EXECUTABLES, 33, 0),
        (lambda: failed(machine(), nonce=OTHER * 32), INSTANCE, 96, 0),
        (lambda: failed(machine(), SIMULATED.with_gpu(serials=(1,))), INSTANCE, 97, 0),
        (lambda: failed(machine(device(nvdec0=0xAA))), "configuration", 96, 0),
        (lambda: failed(machine(), state=replace(STATE, devtools=True)), "configuration", 96, 0),
        (lambda: failed(machine(tlvs={20: None}), demanding(machine(), serials=())), HARDWARE, 32, 0),
        (lambda: failed(hgx(faults.drop_link)), HARDWARE, 96, 5),
        (lambda: failed(hgx(faults.one_unlocked)), "configuration", 96, 8),
        (lambda: failed(faults.same_report()), INSTANCE, 96, 1),
    ],
)
def test_a_failure_stands_in_its_member_of_its_device(result, member, claim, device):
    found = result()
    assert found.verdict == "rejected"
    listed = list(submods(found).values())
    assert listed[device]["ear_trustworthiness_vector"][member] == claim
    assert {submod["ear_status"] for submod in listed} == {"contraindicated"}


def test_what_one_device_fails_is_not_said_of_another():
    found = submods(failed(hgx(lambda made: made.gpus[3].measure(21, b"unknown"))))
    wrong = [name for name, submod in found.items() if claims(submod)[EXECUTABLES] != 3]
    assert wrong == ["gpu3"]


def test_a_device_that_is_not_genuine_affirms_nothing_and_neither_does_a_rim_that_is_not():
    made = machine(device(), device(EVERY, 1))
    good, bad = made.evidence
    flipped = replace(bad, report=bad.report[:-1] + bytes((bad.report[-1] ^ 1,)))
    with pytest.raises(VerificationError) as caught:
        verify(made._replace(evidence=(good, flipped)))
    found = submods(rejected(caught.value, at=AT, devices=(good, flipped)))
    assert claims(found["gpu1"]) == dict.fromkeys(MEMBERS, 99)
    name = next(iter(made.rims))
    with pytest.raises(VerificationError) as caught:
        verify(made._replace(rims=made.rims | {name: made.rims[name].replace(b"r1", b"r2")}))
    assert caught.value.failed.subject.startswith("GPU-0 ")
    found = submods(rejected(caught.value, at=AT, devices=made.evidence))
    assert claims(found["gpu0"]) == dict.fromkeys(MEMBERS, 99)


def test_every_check_of_devices_is_authenticity_or_concerns_a_member():
    ours = {check for check in Check if of_gpus(check)}
    assert not ours & PROCESSOR.keys()
    assert FAILED.keys() <= ours
    assert {rule.check for rule in (*DEVICE_RULES, *MACHINE_RULES)} <= FAILED.keys()
    authenticity = ours - FAILED.keys()
    assert {".".join(check.split(".")[:2]) for check in authenticity} == {
        *("gpu.report", "gpu.evidence", "gpu.chain", "gpu.root", "gpu.fwid", "gpu.rim", "gpu.crl", "gpu.ocsp"),
        *("nras.token", "nras.signer"),
    }
    assert {member for member, _ in FAILED.values()} == {HARDWARE, INSTANCE, EXECUTABLES, "configuration"}
    for check in authenticity:
        found = device_vector((CheckResult(check, Status.FAIL),), simulated=False)
        assert set(found.values()) == {99}


@settings(max_examples=150, deadline=None)
@given(
    found=st.lists(
        st.tuples(
            st.sampled_from([check for check in Check if of_gpus(check)]),
            st.sampled_from(Status),
            st.sampled_from(["", "GPU-0", "GPU-0 driver RIM", "SWITCH-0"]),
        ),
        max_size=40,
    ),
    simulated=st.booleans(),
)
def test_no_device_is_better_than_its_checks(found, simulated):
    checks = tuple(CheckResult(check, state, subject=subject) for check, state, subject in found)
    result = AttestationResult.of(checks, at=AT, simulated=simulated, evidence={})
    order = [Tier.AFFIRMING, Tier.NONE, Tier.WARNING, Tier.CONTRAINDICATED]
    devices = devices_of(checks)
    assert set(devices) <= {"GPU-0", "SWITCH-0"}
    for device_name in devices:
        own = device_checks(checks, device_name)
        members = device_vector(own, simulated=simulated)
        passed = {check.id for check in own if check.status is Status.PASS}
        assert (members[HARDWARE] == 2) <= (Check.GPU_REPORT_SIGNATURE in passed and not simulated)
        assert (members[EXECUTABLES] == 3) <= bool(passed & {Check.GPU_MEASUREMENTS, Check.NRAS_TOKEN_RESULT})
        assert any(check.status is Status.FAIL for check in own) <= any(value >= 32 for value in members.values())
    for submod in submods(result).values():
        tier = Tier(submod["ear_status"])
        tiers = [Tier.of(value) for value in claims(submod).values()]
        assert all(order.index(tier) >= order.index(one) for one in tiers)
        assert tier is not Tier.AFFIRMING or (result.verdict == "accepted" and not simulated)
    if not devices:
        assert status(result) is not Tier.AFFIRMING
