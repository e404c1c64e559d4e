"""Every set of real devices gets exactly the verdict, the reason and the measurements that its manifest has for it."""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from dokimos.endorsements.rim import rim_ids
from dokimos.endorsements.rim_store import RimStore
from dokimos.errors import Check, ExitCode, MalformedEvidence, MaterialUnavailable, Status, VerificationError
from dokimos.evidence.gpu_arch import Arch, Kind
from dokimos.evidence.gpu_evidence import GpuEvidence, parse_gpu_evidence
from dokimos.verifier.appraise_gpu import appraise_gpus
from dokimos.verifier.checklist import Checklist
from dokimos.verifier.gpu import verify_gpu_report
from dokimos.verifier.gpu_compare import Outcome, compare
from dokimos.verifier.gpu_machine import GpuMaterial, verify_gpus
from dokimos.verifier.gpu_result import rejected
from dokimos.verifier.gpu_rim import verify_rim
from dokimos.verifier.policy import Policy
from dokimos.verifier.result import AttestationResult, RevocationState, Verdict
from dokimos.verifier.trust import GpuTrust

POLICY, TRUST = Policy(schema=1), GpuTrust()
HGX = "ppcie-hgx-8gpu-4switch"
SETS = (
    "hopper-545.00-full-positive",
    "hopper-550.90.07-vs-wrong-rims",
    "hopper-535.86.09",
    "hopper-580.95.05-trailing-byte",
    "blackwell-575.32",
    "nvswitch-ls10-full-positive",
    HGX,
)
KINDS = {"nvidia-gpu-report", "nvidia-switch-report", "nvidia-multi-device"}
REASONS = {
    "ok": None,
    "rim-signer-expired": Check.GPU_RIM_EXPIRED,
    "rim-signer-not-yet-valid": Check.GPU_RIM_NOT_YET_VALID,
    "rim-digest-mismatch": Check.GPU_RIM_DIGEST,
    "rim-version-mismatch": Check.GPU_RIM_VERSION,
    "measurement-mismatch": Check.GPU_MEASUREMENTS,
    "nonce-mismatch": Check.GPU_NONCE,
    "topology-mismatch": Check.GPU_TOPOLOGY,
    "trailing-bytes": Check.GPU_REPORT_FORMAT,
    "rim-missing": "unavailable",
}
# A switch less is a topology that is not whole, and a number of switches that protected PCIe does not have.
FOLLOWS = {
    "rim-version-mismatch": {Check.GPU_MEASUREMENTS},
    "switch-removed": {Check.GPU_DEVICES_COUNT},
}
ONE_RIM = {"vbios-rim-original", "vbios-rim-reissued", "vbios-rim-of-the-collection"}
"""Cases about the values of one RIM alone, where the other one that the device needs is not there."""


class Case(NamedTuple):
    """One case of a manifest."""

    name: str
    given: dict[str, Any]

    @property
    def id(self) -> str:
        return self.given.get("id", "main")

    @property
    def at(self) -> datetime:
        return datetime.fromisoformat(self.given["at"])

    @property
    def full(self) -> bool:
        """Appraisal of measurements too, not only of what is genuine."""
        return "report" not in self.given["scope"] or "single RIMs" in self.given["scope"]


def devices(found):
    """The evidence of a set."""
    expected = found.manifest["expected"]
    if "gpus" in expected:
        files = ("gpu_evidence.json", "switch_evidence.json")
        return tuple(one for name in files for one in parse_gpu_evidence(found.bytes(name)))
    made = GpuEvidence(
        arch=Arch(expected["architecture"]),
        nonce=bytes.fromhex(expected["nonce"]),
        report=bytes.fromhex(found.bytes("report.hex").decode()),
        chain=found.bytes("chain.pem"),
    )
    return (made,)


def cases(found):
    """The case of the manifest itself, if it has a verdict, and those that it lists."""
    expected = found.manifest["expected"]
    main = {key: expected.get(key) for key in ("verdict", "reason", "at", "scope", "measurements")}
    if main["verdict"] != "per-case":
        yield Case(found.folder.name, {key: value for key, value in main.items() if value is not None})
    for case in expected.get("cases", []):
        yield Case(found.folder.name, {"scope": expected["scope"], **case})


def rims(found, case):
    """RIMs of a case, under the ids that the device asks for: whoever fetches them by id gets them so."""
    ids = found.manifest["expected"].get("rim_ids", {})
    given = {source: f"{source}_rim.xml" for source in ids if f"{source}_rim.xml" in found.names}
    for source in ids:
        if f"{source}_rim" in case.given.get("files", {}):
            given[source] = case.given["files"][f"{source}_rim"]
    if case.id == "tampered-driver-rim":
        given["vbios"] = "vbios_rim_original_2023-06.xml"
    return {f"{ids[source]}.xml": found.bytes(name) for source, name in given.items()}


def judge(evidence, files, case) -> AttestationResult:
    """What verification and appraisal make of a case."""
    options = case.given.get("options", {})
    nonce = bytes.fromhex(options["nonce"]) if "nonce" in options else evidence[0].nonce
    material = GpuMaterial(rims=RimStore.of(files))
    try:
        verified = verify_gpus(
            evidence,
            material,
            trust=TRUST,
            at=case.at,
            reference_values=case.full,
            zero_padding=options.get("allow_zero_padding", False),
        )
    except VerificationError as exc:
        return rejected(exc, at=case.at, devices=evidence)
    return appraise_gpus(verified, POLICY, authentic_only=not case.full, nonce=nonce)


def evidence_of(result) -> list[Any]:
    """What a result says of each device."""
    devices: Any = result.evidence["devices"]
    return list(devices)


def outcomes(result):
    """Compared, mismatched and skipped indexes of the first device."""
    records = evidence_of(result)[0]["measurements"]["records"]
    found = {kind: [one["index"] for one in records if one["outcome"] == kind] for kind in Outcome}
    return records, found


def agree(result, case, expected):
    """Whether a result is what the manifest demands."""
    reason, failures = REASONS[case.given["reason"]], {item.id for item in result.failures}
    assert result.verdict is Verdict(f"{case.given['verdict']}ed")
    assert not result.simulated
    assert result.revocation is RevocationState.NOT_CHECKED
    if reason is None:
        assert failures == set()
    else:
        assert reason in failures
        assert failures - {reason} == FOLLOWS.get(case.id, FOLLOWS.get(case.given["reason"], set()))
    wanted = case.given.get("measurements")
    if wanted is None:
        return
    records, found = outcomes(result)
    sources = Counter(one["source"] for one in records)
    assert len(records) == wanted["active"] == evidence_of(result)[0]["measurements"]["golden"]
    assert found["mismatched"] == wanted["mismatched"]
    assert found["skipped"] == wanted["skipped"]
    assert found["missing"] == []
    assert len(found["matched"]) == wanted["active"] - len(wanted["mismatched"]) - len(wanted["skipped"])
    for source in ("driver", "vbios"):
        assert sources[source] == wanted.get(f"active_{source}", sources[source])
    (skip,) = [one["reason"] for one in records if one["outcome"] == "skipped"] or [None]
    assert skip == wanted.get("skip_reason", skip)
    if expected["checks"].get("fwid") == "absent":
        assert evidence_of(result)[0]["fwid"] is None


def one_rim(found, case):
    """A case about one RIM: it is genuine, and has exactly these values."""
    (evidence,) = devices(found)
    device = verify_gpu_report(evidence, trust=TRUST, at=case.at, zero_padding="trailing" in found.folder.name)
    data = found.bytes(case.given["files"]["vbios_rim"])
    rim = verify_rim(data, trust=TRUST, at=case.at, checks=Checklist()).rim
    comparison = compare(device.report, {"vbios": rim})
    assert comparison.lacking == ("driver",)
    assert not comparison.holds
    wanted = case.given["measurements"]
    assert len(comparison.records) == comparison.golden == wanted["active"]
    assert list(comparison.indexes(Outcome.MISMATCHED)) == wanted["mismatched"]
    assert len(comparison.indexes(Outcome.MATCHED)) == wanted["active"] - len(wanted["mismatched"])
    assert (case.given["reason"] == "ok") == (not wanted["mismatched"])


@pytest.mark.parametrize("name", SETS)
def test_every_case_of_a_set_ends_as_its_manifest_says(vectors, name):
    found = vectors(f"nvidia/{name}")
    expected, made = found.manifest["expected"], devices(found)
    ran = set()
    for case in cases(found):
        ran.add(case.id)
        if case.id in {"gpu-removed", "switch-removed"}:
            kind = Kind.GPU if case.id == "gpu-removed" else Kind.SWITCH
            for gone in (device for device in made if device.arch.kind is kind):
                agree(judge(tuple(one for one in made if one is not gone), {}, case), case, expected)
        elif case.id in ONE_RIM:
            one_rim(found, case)
        elif case.given["reason"] == "rim-missing":
            with pytest.raises(MaterialUnavailable) as missing:
                judge(made, rims(found, case), case)
            assert missing.value.exit_code == ExitCode.UNAVAILABLE
            ids = expected.get("rim_ids") or _ids(made, case)
            assert ids
            assert all(f" {rim_id}" in str(missing.value) for rim_id in ids.values())
        elif case.given["reason"] == "trailing-bytes":
            with pytest.raises(MalformedEvidence) as malformed:
                judge(made, {}, case)
            assert malformed.value.check is REASONS["trailing-bytes"]
        else:
            agree(judge(made, rims(found, case), case), case, expected)
    assert ran


def _ids(made, case):
    verified = [verify_gpu_report(one, trust=TRUST, at=case.at) for one in made]
    needs = [need for device in verified for need in rim_ids(device.report, device.chain.chip)]
    assert {need.id for need in needs} == {
        "NV_GPU_DRIVER_GH100_590.12",
        "NV_GPU_VBIOS_G520_0200_885_9600A50001",
        "NV_SWITCH_BIOS_5612_0002_890_9610730001",
    }
    return {need.source: need.id for need in needs}


def test_every_set_with_devices_is_among_these_and_every_reason_is_known(vectors):
    vectors(f"nvidia/{HGX}")
    manifests = {
        path.parent.name: json.loads(path.read_bytes())
        for path in Path(os.environ["DOKIMOS_VECTORS"], "nvidia").glob("*/manifest.json")
    }
    assert {name for name, manifest in manifests.items() if manifest["kind"] in KINDS} == set(SETS)
    named = {case.given["reason"] for name in SETS for case in cases(vectors(f"nvidia/{name}"))}
    assert named == set(REASONS)


@pytest.mark.parametrize("name", ["hopper-545.00-full-positive", "nvswitch-ls10-full-positive"])
def test_a_complete_set_is_accepted_throughout_its_window_and_at_no_other_time(vectors, name):
    found = vectors(f"nvidia/{name}")
    expected, made = found.manifest["expected"], devices(found)
    window = {key: datetime.fromisoformat(value) for key, value in expected["valid_window"].items()}
    (main,) = [case for case in cases(found) if case.id == "main"]
    for at, checks in (
        (window["not_before"], set()),
        (window["not_after"], set()),
        (window["not_before"].replace(year=window["not_before"].year - 1), {Check.GPU_RIM_NOT_YET_VALID}),
        (window["not_after"].replace(year=window["not_after"].year + 1), {Check.GPU_RIM_EXPIRED}),
    ):
        case = Case(name, main.given | {"at": at.isoformat()})
        assert {item.id for item in judge(made, rims(found, case), case).failures} == checks


def test_the_claims_of_a_real_gpu_say_how_each_is_known(vectors):
    found = vectors("nvidia/hopper-545.00-full-positive")
    expected = found.manifest["expected"]
    (main,) = [case for case in cases(found) if case.id == "main"]
    (device,) = evidence_of(judge(devices(found), rims(found, main), main))
    claims = {name: (claim["value"], claim["established"]) for name, claim in device["claims"].items()}
    signed, derived = "signed by the device", "derived from the comparison with RIMs"
    assert claims == {
        "ueid": (expected["device_serial"], signed),
        "hwmodel": (expected["hwmodel_cn"], signed),
        "eat_nonce": (expected["nonce"], signed),
        "vbios_version": (expected["vbios_version"], signed),
        "driver_version": (expected["driver_version"], signed),
        "measres": ("success", derived),
        "secboot": (True, derived),
        "dbgstat": ("disabled", derived),
    }
    assert device["endorsement"]["root_sha256"] == expected["device_root_sha256"]
    for source, rim in device["endorsement"]["rims"].items():
        wanted = expected["rims"][f"{source}_rim.xml"]
        assert (rim["tag_id"], rim["active"]) == (wanted["tag_id"], wanted["active_measurements"])
        assert (rim["not_before"], rim["not_after"]) == tuple(wanted["valid_window"].values())
        assert rim["root_sha256"] == expected["rim_root_sha256"]


def test_real_rims_of_another_version_are_missing_unless_they_lie_under_the_id_and_the_hint_says_why(vectors):
    found = vectors("nvidia/hopper-550.90.07-vs-wrong-rims")
    (main,) = [case for case in cases(found) if case.id == "main"]
    files = {f"{n}.xml": data for n, data in enumerate(rims(found, main).values())}
    with pytest.raises(MaterialUnavailable) as missing:
        judge(devices(found), files, main)
    assert all(rim_id in str(missing.value) for rim_id in found.manifest["expected"]["rim_ids"].values())
    records, _ = outcomes(judge(devices(found), rims(found, main), main))
    hints = {one["hint"] for one in records if one["outcome"] == "mismatched"}
    assert hints == {
        "the driver RIM is for version 545.00, and the device runs 550.90.07: use the RIM of that",
        "the vbios RIM is for version 96.00.5E.00.01, and the device runs 96.00.9F.00.01: use the RIM of that",
    }


def test_two_real_issues_of_one_rim_may_lie_side_by_side(vectors):
    found, old = vectors("nvidia/hopper-535.86.09"), vectors("nvidia/hopper-545.00-full-positive")
    (main,) = [case for case in cases(old) if case.id == "main"]
    (name,) = [f"{rim_id}.xml" for source, rim_id in old.manifest["expected"]["rim_ids"].items() if source == "vbios"]
    again = found.bytes("vbios_rim_reissued_2023-12.xml")
    for place in ("0", "z"):
        result = judge(devices(old), rims(old, main) | {f"{place}/{name}": again}, main)
        assert result.verdict is Verdict.ACCEPTED
    only = judge(devices(old), rims(old, main) | {name: again}, main)
    assert [item.id for item in only.failures] == [Check.GPU_MEASUREMENTS]
    assert outcomes(only)[1]["mismatched"] == [1, 2, 3, 9]


@pytest.mark.parametrize("place", range(12))
def test_another_real_device_in_the_place_of_any_of_twelve_is_found(vectors, place):
    found = vectors(f"nvidia/{HGX}")
    made = list(devices(found))
    switch = made[place].arch.kind is Kind.SWITCH
    name = "nvswitch-ls10-full-positive" if switch else "hopper-550.90.07-vs-wrong-rims"
    made[place] = devices(vectors(f"nvidia/{name}"))[0]
    (main,) = [case for case in cases(found) if case.id == "main"]
    failures = {item.id for item in judge(tuple(made), {}, main).failures}
    assert {Check.GPU_TOPOLOGY, Check.GPU_DEVICES_NONCE} <= failures
    assert (Check.GPU_DEVICES_MODE in failures) is not switch


def test_a_real_device_shown_twice_is_found_also_among_devices_that_are_all_there(vectors):
    found = vectors(f"nvidia/{HGX}")
    made = devices(found)
    (main,) = [case for case in cases(found) if case.id == "main"]
    for twice in (made[0], made[-1]):
        failures = {item.id for item in judge((*made, twice), {}, main).failures}
        assert {Check.GPU_DEVICES_DISTINCT, Check.GPU_TOPOLOGY} <= failures
    padded = replace(made[0], report=made[0].report + b"\0")
    tolerant = Case(HGX, main.given | {"options": {"allow_zero_padding": True}})
    failures = {item.id for item in judge((*made, padded), {}, tolerant).failures}
    assert Check.GPU_DEVICES_DISTINCT in failures


def test_the_order_of_twelve_real_devices_does_not_matter(vectors):
    found = vectors(f"nvidia/{HGX}")
    (main,) = [case for case in cases(found) if case.id == "main"]
    result = judge(devices(found)[::-1], {}, main)
    assert result.verdict is Verdict.ACCEPTED
    (topology,) = [item for item in result.checks if item.id is Check.GPU_TOPOLOGY]
    assert topology.status is Status.PASS
