"""Verification of a whole machine: which issue of a RIM counts, what is missing, what cannot be made by hand."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import pytest

from dokimos.attest.sim_gpu import BIOS, DRIVER, LS10, VBIOS, SimGpu
from dokimos.attest.sim_gpu_certificate import Window
from dokimos.attest.sim_gpu_pki import NvidiaPki
from dokimos.attest.sim_rim import SimRim
from dokimos.endorsements.rim_store import RimStore
from dokimos.errors import Check, MalformedEvidence, MaterialUnavailable, Status, UsageError, VerificationError
from dokimos.verifier.appraise_gpu import DEVICE_RULES, appraise_gpus
from dokimos.verifier.gpu import VerifiedDevice
from dokimos.verifier.gpu_compare import Outcome
from dokimos.verifier.gpu_machine import MOST_ISSUES, GpuMaterial, VerifiedGpus, verify_gpus
from dokimos.verifier.gpu_revocation import Checked
from dokimos.verifier.gpu_rim import VerifiedRim
from dokimos.verifier.gpu_topology import Node, topology_fault
from dokimos.verifier.policy import Policy
from dokimos.verifier.result import RevocationState, Verdict
from dokimos.verifier.trust import GpuRevocation
from tests.generate import gpu_faults as faults
from tests.generate.gpu_faults import pair
from tests.generate.gpu_machines import (
    AT,
    EVERY,
    EVERY_BLACKWELL,
    NONCE,
    OTHER,
    PKI,
    SIMULATED,
    STATE,
    TRUST,
    Machine,
    Revoked,
    appraise,
    demanding,
    device,
    evidence_of,
    file,
    hgx,
    machine,
    revocation,
    verify,
)

RIGHT = SimRim.of(EVERY, VBIOS)
NAME = f"{RIGHT.id}.xml"
STRANGER = NvidiaPki(bytes(32))
EXPIRED = replace(RIGHT, issue=7, window=Window(datetime(2024, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)))
FUTURE = replace(RIGHT, issue=8, window=Window(datetime(2026, 8, 1, tzinfo=UTC), datetime(2028, 1, 1, tzinfo=UTC)))


def forged():
    """The right one with a value of it changed, under its old signature."""
    (data,) = file(RIGHT).values()
    old = EVERY.golden(9)[0].hex().encode()
    assert data.count(old) == 1
    return data.replace(old, b"ee" * 48)


def emptied():
    """A genuine one in which nothing counts: it differs in nothing from any device."""
    return sign(replace(RIGHT, references=tuple(replace(one, active=False) for one in RIGHT.references)))


def sign(rim, pki=None):
    (data,) = file(rim).values() if pki is None else (rim.sign(pki),)
    return data


HARMLESS = {
    "another issue": sign(RIGHT.reissue(9)),
    "expired": sign(EXPIRED),
    "of the future": sign(FUTURE),
    "forged": forged(),
    "of a stranger": sign(RIGHT, STRANGER),
    "of another version": sign(replace(RIGHT, version="96.00.74.00.1B")),
    "of another chip": sign(replace(RIGHT, product="GH200")),
    "with nothing that counts": emptied(),
    "cut off": sign(RIGHT)[:-500],
    "no XML": b"<",
}
BAD = {
    "expired": Check.GPU_RIM_EXPIRED,
    "of the future": Check.GPU_RIM_NOT_YET_VALID,
    "forged": Check.GPU_RIM_DIGEST,
    "of a stranger": Check.GPU_RIM_ROOT_PINNED,
    "cut off": Check.GPU_RIM_FORMAT,
    "no XML": Check.GPU_RIM_FORMAT,
}


def failures(result):
    return [item.id for item in result.failures]


def failed(result):
    return set(failures(result))


@pytest.mark.parametrize("place", ["0", "z"])
@pytest.mark.parametrize("other", HARMLESS)
def test_another_file_under_the_same_id_does_no_harm_to_the_right_one(other, place):
    made = machine(rims={f"{place}/{NAME}": HARMLESS[other]})
    verified = verify(made)
    (values,) = verified.devices
    assert values.rims[VBIOS].rim.sha256 == sha256(made.rims[NAME]).digest()
    assert values.comparison.holds
    assert failures(appraise(made)) == []


def test_a_device_that_has_the_values_of_the_other_issue_matches_that():
    again = RIGHT.reissue(9)
    (value,) = [one.values[0] for one in again.references if one.index == 9]
    made = machine(rims={f"new/{NAME}": sign(again)}, measurements={9: value})
    (values,) = verify(made).devices
    assert values.rims[VBIOS].rim.sha256 == sha256(sign(again)).digest()
    assert failures(appraise(made)) == []
    only = machine(rims={NAME: sign(again)})
    result = appraise(only)
    assert failures(result) == [Check.GPU_MEASUREMENTS]
    assert "index 9 alone differs between issues" in result.failures[0].message


def test_of_issues_that_all_differ_the_one_is_shown_that_differs_least():
    worse = RIGHT.reissue(9).reissue(3)
    made = machine(rims={NAME: sign(worse), f"z/{NAME}": sign(RIGHT.reissue(9))})
    (values,) = verify(made).devices
    assert values.comparison.indexes(Outcome.MISMATCHED) == (9,)


@pytest.mark.parametrize("first", [1, 2])
def test_of_issues_with_the_same_values_the_one_that_the_policy_accepts_is_taken(first):
    issues = [replace(RIGHT, issue=number) for number in (1, 2)]
    made = machine(rims={NAME: sign(issues[first - 1]), f"z/{NAME}": sign(issues[2 - first])})
    driver = made.rims[f"{EVERY.rim_ids[DRIVER]}.xml"]
    for taken in issues:
        policy = SIMULATED.with_gpu(rim_sha256=(sha256(driver).digest(), sha256(sign(taken)).digest()))
        result = appraise_gpus(verify(made, trust=policy.gpu_trust()), policy, nonce=NONCE)
        assert failures(result) == []
        signers = tuple(sha256(rim.signers(PKI)[0].der).digest() for rim in (taken, SimRim.of(EVERY, DRIVER)))
        policy = SIMULATED.with_gpu(rim_signer_sha256=signers)
        assert failures(appraise_gpus(verify(made, trust=policy.gpu_trust()), policy, nonce=NONCE)) == []


@pytest.mark.parametrize("bad", BAD)
def test_where_no_issue_is_genuine_the_error_is_that_of_the_first(bad):
    others = {name: data for name, data in HARMLESS.items() if name in BAD and name != bad}
    made = machine(rims={NAME: HARMLESS[bad], **{f"z{n}/{NAME}": data for n, data in enumerate(others.values())}})
    with pytest.raises((VerificationError, MalformedEvidence)) as caught:
        verify(made)
    if isinstance(caught.value, MalformedEvidence):
        assert caught.value.check is BAD[bad]
        return
    assert (caught.value.failed.id, caught.value.failed.subject) == (BAD[bad], "GPU-0 vbios RIM")
    assert Check.GPU_REPORT_SIGNATURE in {item.id for item in caught.value.checks}


def test_of_very_many_issues_only_some_are_tried_but_always_the_one_that_the_policy_names():
    files = {f"{n:02}/{NAME}": sign(RIGHT, NvidiaPki(bytes((n,)) * 32)) for n in range(1, MOST_ISSUES + 1)}
    made = machine(rims=files)
    with pytest.raises(VerificationError):
        verify(made)
    policy = demanding(made, rim_sha256=tuple(sha256(made.rims[name]).digest() for name in sorted(made.rims)[-2:]))
    assert failures(appraise_gpus(verify(made, trust=policy.gpu_trust()), policy, nonce=NONCE, state=STATE)) == []


def test_every_rim_that_is_missing_is_named_by_its_id():
    made = machine(device(), device(EVERY_BLACKWELL), device(LS10))
    ids = {*EVERY.rim_ids.values(), *EVERY_BLACKWELL.rim_ids.values(), *LS10.rim_ids.values()}
    with pytest.raises(MaterialUnavailable) as caught:
        verify(Machine(made.devices, made.evidence, {}))
    assert all(rim_id in str(caught.value) for rim_id in ids)
    one = next(iter(made.rims))
    with pytest.raises(MaterialUnavailable) as caught:
        verify(Machine(made.devices, made.evidence, {one: made.rims[one]}))
    assert {rim_id for rim_id in ids if rim_id in str(caught.value)} == ids - {one.removesuffix(".xml")}
    assert verify(Machine(made.devices, made.evidence, {}), reference_values=False).devices[0].comparison is None


def test_a_device_whose_report_names_no_version_is_named():
    made = machine(device())
    silent = evidence_of(device(EVERY, 1), tlvs={6: None})
    with pytest.raises(MalformedEvidence, match=r"^GPU-1: the report names no VBIOS version"):
        verify(made._replace(evidence=(*made.evidence, silent)))


def test_a_device_without_pdi_is_no_part_of_a_machine_whose_devices_know_each_other_by_theirs():
    nodes = [
        Node(subject=values.device.subject, report=values.device.report, pdi=values.device.chain.pdi)
        for values in verify(hgx(), reference_values=False).devices
    ]
    assert topology_fault(tuple(nodes)) == ""
    for place in (0, 11):
        without = [node if n != place else replace(node, pdi=None) for n, node in enumerate(nodes)]
        assert topology_fault(tuple(without)) == f"{nodes[place].subject}: its boot ROM certificate names no PDI"


def test_a_rim_of_another_driver_is_no_rim_for_this_one():
    made = machine()
    other = file(SimRim.of(replace(EVERY, driver="580.95.06"), DRIVER))
    rims = {name: data for name, data in made.rims.items() if "VBIOS" in name}
    with pytest.raises(MaterialUnavailable, match=r"no RIM for NV_GPU_DRIVER_GH100_580\.95\.05: "):
        verify(Machine(made.devices, made.evidence, rims | other))


def test_a_rim_of_any_name_is_found_by_what_it_says():
    made = machine()
    files = {f"{n}.swidtag": data for n, data in enumerate(made.rims.values())}
    assert failures(appraise(Machine(made.devices, made.evidence, files))) == []


def test_nobody_makes_verified_devices_by_hand():
    verified = verify(machine())
    (values,) = verified.devices
    fields = {name: getattr(verified, name) for name in ("devices", "token_claims", "checks", "at")}
    with pytest.raises(TypeError, match=r"only verify_gpus\(\) makes"):
        VerifiedGpus(**fields, token=object())
    names = ("report", "chain", "evidence", "checks", "at", "subject")
    with pytest.raises(TypeError, match=r"only verify_gpu_report\(\) makes"):
        VerifiedDevice(**{name: getattr(values.device, name) for name in names}, token=None)
    rim = values.rims[DRIVER]
    parts = ("rim", "chain", "windows", "simulated", "root_sha256")
    with pytest.raises(TypeError, match=r"only verify_rim\(\) makes"):
        VerifiedRim(**{name: getattr(rim, name) for name in parts}, token=None)


def test_a_machine_is_simulated_if_a_root_of_any_device_or_of_any_rim_is():
    verified = verify(machine())
    (values,) = verified.devices
    genuine = replace(values.device, chain=replace(values.device.chain, simulated=False))
    rims = {source: replace(rim, simulated=False) for source, rim in values.rims.items()}
    assert replace(verified, devices=(replace(values, device=genuine),)).simulated
    assert replace(verified, devices=(replace(values, rims=rims),)).simulated
    assert not replace(verified, devices=(replace(values, device=genuine, rims=rims),)).simulated


def test_no_device_no_time_zone_and_one_bad_device_among_good_ones():
    made = machine(device(), device(EVERY, 1))
    material = GpuMaterial(rims=RimStore.of(made.rims))
    with pytest.raises(UsageError):
        verify_gpus((), material, trust=TRUST, at=AT)
    with pytest.raises(ValueError, match="time zone"):
        verify_gpus(made.evidence, material, trust=TRUST, at=datetime(2026, 7, 1))
    good, bad = made.evidence
    flipped = replace(bad, report=bad.report[:-1] + bytes((bad.report[-1] ^ 1,)))
    with pytest.raises(VerificationError) as caught:
        verify_gpus((good, flipped), material, trust=TRUST, at=AT)
    assert (caught.value.failed.id, caught.value.failed.subject) == (Check.GPU_REPORT_SIGNATURE, "GPU-1")
    assert [item.subject for item in caught.value.checks if item.id is Check.GPU_FWID] == ["GPU-0"]
    with pytest.raises(MalformedEvidence, match="GPU-1") as malformed:
        verify_gpus((good, replace(bad, report=bad.report + b"\0")), material, trust=TRUST, at=AT)
    assert malformed.value.check is Check.GPU_REPORT_FORMAT
    padded = (good, replace(bad, report=bad.report + bytes(9)))
    assert len(verify_gpus(padded, material, trust=TRUST, at=AT, zero_padding=True).devices) == 2


def test_a_stranger_s_device_is_refused_even_beside_good_ones():
    made = machine()
    other = SimGpu(STRANGER, EVERY, bytes(range(8)))
    with pytest.raises(VerificationError) as caught:
        verify(Machine(made.devices, (*made.evidence, evidence_of(other)), made.rims))
    assert (caught.value.failed.id, caught.value.failed.subject) == (Check.GPU_ROOT_PINNED, "GPU-1")


@pytest.mark.parametrize(
    ("revoked", "check", "subject"),
    [
        (Revoked(device=(2,)), Check.GPU_CRL_REVOKED, "GPU-0"),
        (Revoked(device=(1,)), Check.GPU_OCSP_STATUS, "GPU-0"),
        (Revoked(device=(2,), hold=True), Check.GPU_CRL_REVOKED, "GPU-0"),
        (Revoked(rim=(0,)), Check.GPU_OCSP_STATUS, "GPU-0 driver RIM"),
        (Revoked(rim=(2,)), Check.GPU_CRL_REVOKED, "GPU-0 driver RIM"),
    ],
)
def test_what_is_revoked_is_refused_whatever_the_policy_demands(revoked, check, subject):
    made = machine()
    crls, answers = revocation(made, revoked)
    with pytest.raises(VerificationError) as caught:
        verify(made, files=crls | answers)
    assert (caught.value.failed.id, caught.value.failed.subject) == (check, subject)
    assert verify(made)


def test_a_certificate_on_hold_is_accepted_in_the_chain_of_a_rim_only():
    made = machine()
    trust = replace(TRUST, allow_hold=True)
    crls, answers = revocation(made, Revoked(rim=(0,), hold=True))
    assert verify(made, trust=trust, files=crls | answers)
    with pytest.raises(VerificationError):
        verify(made, files=crls | answers)
    crls, answers = revocation(made, Revoked(device=(1,), hold=True))
    with pytest.raises(VerificationError) as caught:
        verify(made, trust=trust, files=crls | answers)
    assert caught.value.failed.id is Check.GPU_OCSP_STATUS


@pytest.mark.parametrize("mode", GpuRevocation)
def test_the_result_says_what_is_known_of_revocation_and_the_policy_what_must_be(mode):
    made = hgx()
    crls, answers = revocation(made)
    trust = replace(TRUST, revocation=mode)
    for files, gives in ((crls | answers, "both"), (crls, "crl"), (answers, "ocsp"), ({}, "none")):
        enough = mode in {GpuRevocation.NONE, gives} or gives == "both"
        if not enough:
            with pytest.raises(VerificationError) as caught:
                verify(made, trust=trust, files=files)
            assert caught.value.failed.id in {Check.GPU_CRL_REQUIRED, Check.GPU_OCSP_REQUIRED}
            continue
        verified = verify(made, trust=trust, files=files)
        result = appraise_gpus(verified, SIMULATED, nonce=NONCE)
        known = Checked.NOT if gives == "none" else Checked(gives)
        devices: Any = result.evidence["devices"]
        for device_json in devices:
            endorsement = device_json["endorsement"]
            found = [endorsement["revocation"], *(rim["revocation"] for rim in endorsement["rims"].values())]
            assert {one["checked"] for one in found} == {str(known)}
        state = RevocationState.NOT_CHECKED if gives == "none" else RevocationState.CHECKED
        assert result.revocation is state


def test_one_rim_that_was_not_looked_up_is_not_said_to_be():
    made = machine()
    _, answers = revocation(made)
    signer = SimRim.of(EVERY, DRIVER).signers(PKI)[0].der
    del answers[f"{sha256(signer).hexdigest()}.ocsp"]
    result = appraise_gpus(verify(made, files=answers), SIMULATED, nonce=NONCE)
    assert result.revocation is RevocationState.NOT_CHECKED


def test_every_check_of_verification_is_recorded_for_each_device_and_each_rim():
    made = hgx()
    crls, answers = revocation(made)
    checks = verify(made, trust=replace(TRUST, revocation=GpuRevocation.BOTH), files=crls | answers).checks
    subjects = {item.subject for item in checks}
    names = [*(f"GPU-{n}" for n in range(8)), *(f"SWITCH-{n}" for n in range(4))]
    rims = [f"GPU-{n} {source} RIM" for n in range(8) for source in (DRIVER, VBIOS)]
    rims += [f"SWITCH-{n} {BIOS} RIM" for n in range(4)]
    assert subjects == {*names, *rims}
    for name, check in ((names, Check.GPU_REPORT_SIGNATURE), (rims, Check.GPU_RIM_SIGNATURE)):
        passed = [item.subject for item in checks if item.id is check and item.status is Status.PASS]
        assert passed == name or sorted(passed) == sorted(name)


def test_a_machine_with_faults_is_genuine_and_its_appraisal_says_what_is_wrong():
    for change in faults.TOPOLOGY:
        assert verify(hgx(change), reference_values=False)
    result = appraise(pair(0, 1))
    assert (failures(result), result.verdict) == ([Check.GPU_DEVICES_MODE], Verdict.REJECTED)


@pytest.mark.parametrize("change", [faults.duplicate_switch, *faults.TOPOLOGY], ids=lambda change: change.__name__)
def test_authentic_only_still_looks_at_how_the_devices_fit_together(change):
    result = appraise_gpus(verify(hgx(change), reference_values=False), SIMULATED, authentic_only=True)
    assert failed(result) - {Check.GPU_DEVICES_DISTINCT} == {Check.GPU_TOPOLOGY}
    ran = {item.id for item in result.checks[len(verify(hgx(change), reference_values=False).checks) :]}
    assert Check.GPU_TOPOLOGY in ran


def test_authentic_only_finds_one_device_shown_twice_and_mixed_nonces_and_modes():
    for made, check in (
        (faults.same_report(), Check.GPU_DEVICES_DISTINCT),
        (pair(1, 1, numbers=(0, 0)), Check.GPU_DEVICES_DISTINCT),
        (pair(1, 1, nonces=(NONCE, OTHER * 32)), Check.GPU_DEVICES_NONCE),
        (pair(0, 1), Check.GPU_DEVICES_MODE),
        (pair(3, 4), Check.GPU_DEVICES_MODE),
    ):
        verified = verify(made, reference_values=False)
        assert failed(appraise_gpus(verified, SIMULATED, authentic_only=True)) == {check}


def test_authentic_only_looks_at_nothing_else_but_a_nonce_that_is_given():
    made = machine(measurements={9: OTHER * 48}, tlvs={11: b"\0", 36: b"\7\0", 200: b"new"})
    result = appraise_gpus(verify(made, reference_values=False), demanding(made, serials=(1,)), authentic_only=True)
    assert failed(result) == set()
    ran = {item.id for item in result.checks if item.status is not Status.SKIP}
    assert ran & {rule.check for rule in DEVICE_RULES} == {Check.GPU_SIMULATED}
    wrong = appraise_gpus(verify(made), demanding(made), authentic_only=True, nonce=OTHER * 32)
    assert failed(wrong) == {Check.GPU_NONCE}
    assert failed(appraise_gpus(verify(machine()), Policy(schema=1), authentic_only=True)) == {Check.GPU_SIMULATED}
