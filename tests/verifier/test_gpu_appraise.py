"""Appraisal of NVIDIA devices: each check fails alone where it must, all failures are collected, absence is no pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest

from dokimos.attest.sim_gpu import (
    DRIVER,
    ENABLED,
    HOPPER_OLD,
    LS10,
    MPT,
    VBIOS,
)
from dokimos.attest.sim_hgx import SimHgx
from dokimos.attest.sim_rim import SimRim
from dokimos.errors import Check, Status, UsageError
from dokimos.evidence.gpu_arch import Arch
from dokimos.verifier.appraise_gpu import DEVICE_RULES, MACHINE_RULES, appraise_gpus
from dokimos.verifier.gpu_policy import DriverVersion, Mode, Nvdec0, VbiosVersion
from dokimos.verifier.policy import Policy
from dokimos.verifier.policy_rules import ReservedRule
from dokimos.verifier.result import Verdict
from tests.generate import gpu_faults as faults
from tests.generate.gpu_faults import pair
from tests.generate.gpu_machines import (
    EVERY,
    EVERY_BLACKWELL,
    EVERY_HGX,
    NONCE,
    OTHER,
    PKI,
    ROOTS,
    SIMULATED,
    STATE,
    Machine,
    activated,
    appraise,
    changed,
    demanding,
    device,
    hgx,
    machine,
    verify,
)

NOTHING: Mapping[str, Any] = MappingProxyType({})
INCOMPLETE = frozenset({Check.GPU_MEASUREMENTS})
"""What cannot hold either where there is nothing to compare with."""


class Case(NamedTuple):
    """A machine, a policy and a call that differ from the good ones, so that exactly this check fails."""

    check: Check
    build: Callable[[], Machine] = machine
    policy: Mapping[str, Any] = NOTHING
    call: Mapping[str, Any] = NOTHING
    also: frozenset[Check] = frozenset()


def drivers(*versions: str) -> Any:
    return tuple(DriverVersion.parse(version) for version in versions)


def vbioses(*versions: str) -> Any:
    return tuple(VbiosVersion.parse(version) for version in versions)


def one(**settings):
    return lambda: machine(device(**settings))


def with_rim(made, **options):
    return lambda: machine(rims=made, **options)


def opaque(tlvs, firmware=EVERY):
    return lambda: machine(device(firmware), tlvs=tlvs)


def measured_elsewhere():
    made = device()
    made.measure(21, b"what no RIM knows")
    return machine(made)


def shorter():
    made = device()
    made.measurements.pop()
    return machine(made)


def flagged(flag):
    return lambda: machine(device(EVERY_BLACKWELL, flags=flag))


def odd_version(**changes):
    return lambda: machine(device(replace(EVERY, **changes)))


def broken(change: Callable[[SimHgx], object]) -> Callable[[], Machine]:
    return lambda: hgx(change)


NEGATIVE = [
    Case(Check.GPU_RIM_PINNED, policy={"rim_sha256": (OTHER * 32,)}),
    Case(Check.GPU_RIM_PINNED, policy={"rim_signer_sha256": (OTHER * 32,)}),
    Case(Check.GPU_RIM_PINNED, policy={"rim_sha256": (OTHER * 32,), "rim_signer_sha256": ()}),
    Case(Check.GPU_RIM_PRODUCT, with_rim(changed(DRIVER, product="GH200"))),
    Case(Check.GPU_RIM_PRODUCT, with_rim(changed(VBIOS, product="GB100"))),
    Case(Check.GPU_RIM_VERSION, with_rim(changed(DRIVER, version="580.95.06"))),
    Case(Check.GPU_RIM_VERSION, with_rim(changed(VBIOS, version="96.00.74.00.1B"))),
    Case(
        Check.GPU_MEASUREMENTS_GOLDEN,
        with_rim(changed(DRIVER, references=SimRim.of(EVERY, VBIOS).references[63:])),
        {"unmeasured": ReservedRule.REPORT},
        also=INCOMPLETE,
    ),
    Case(Check.GPU_MEASUREMENTS_CONFLICT, with_rim(activated(DRIVER, 3, active=True)), also=INCOMPLETE),
    Case(Check.GPU_MEASUREMENTS_NVDEC0, one(nvdec0=0), {"nvdec0": Nvdec0.ANY}, also=INCOMPLETE),
    Case(Check.GPU_MEASUREMENTS_NVDEC0, opaque({11: None}), {"nvdec0": Nvdec0.ANY}, also=INCOMPLETE),
    Case(Check.GPU_MEASUREMENTS, measured_elsewhere),
    Case(Check.GPU_MEASUREMENTS, shorter),
    Case(Check.GPU_MEASUREMENTS, lambda: machine(measurements={9: bytes(48)})),
    Case(
        Check.GPU_MEASUREMENTS,
        lambda: machine(device(nvdec0=ENABLED), measurements={35: OTHER * 48}),
        {"nvdec0": Nvdec0.ENABLED},
    ),
    Case(Check.GPU_MEASUREMENTS_UNMEASURED, with_rim(activated(DRIVER, 63, active=False))),
    Case(Check.GPU_SIMULATED, policy={"simulated_roots": ()}),
    *(Case(Check.GPU_SIMULATED, policy={"simulated_roots": (root,)}) for root in ROOTS),
    Case(Check.GPU_NONCE, call={"nonce": OTHER * 32}),
    Case(Check.GPU_NONCE, call={"nonce": None}),
    Case(Check.GPU_ARCH_ALLOWED, policy={"architectures": (Arch.BLACKWELL, Arch.LS10)}),
    Case(Check.GPU_SERIAL_ALLOWED, policy={"serials": (1, 2)}),
    Case(
        Check.GPU_SERIAL_DENIED,
        policy={"serials": (), "denied_serials": (1, device().entities[0].certificate.serial_number)},
    ),
    Case(Check.GPU_FWID_REQUIRED, opaque({20: None})),
    *(Case(Check.GPU_DICE_FLAGS, flagged(flag)) for flag in (1 << 31, 1 << 30, 1 << 29, 1 << 28, 0xF << 28)),
    Case(Check.GPU_DRIVER_MINIMUM, policy={"driver_minimum": drivers("580.95.06")[0]}),
    Case(Check.GPU_DRIVER_MINIMUM, policy={"driver_minimum": drivers("600.1")[0]}),
    Case(
        Check.GPU_DRIVER_MINIMUM,
        odd_version(driver="r580"),
        {"driver_minimum": drivers("100.1")[0], "denied_drivers": ()},
    ),
    Case(Check.GPU_DRIVER_DENIED, policy={"denied_drivers": drivers("550.54.14", "580.95.05")}),
    Case(Check.GPU_DRIVER_DENIED, policy={"denied_drivers": drivers("580.095.5")}),
    Case(Check.GPU_DRIVER_DENIED, odd_version(driver="r580"), {"driver_minimum": None}),
    Case(Check.GPU_VBIOS_MINIMUM, policy={"vbios_minimum": vbioses("96.00.74.00.1B")}),
    Case(Check.GPU_VBIOS_MINIMUM, policy={"vbios_minimum": vbioses("97.00.00.00.00")}),
    Case(Check.GPU_VBIOS_MINIMUM, policy={"vbios_minimum": vbioses("96.10.00.00.00")}),
    Case(Check.GPU_MODE, policy={"modes": (Mode.MPT, Mode.PPCIE)}),
    Case(Check.GPU_MODE, one(feature_flag=None)),
    Case(Check.GPU_MODE, one(feature_flag=3)),
    Case(Check.GPU_MODE, one(feature_flag=0xFFFF), {"modes": tuple(Mode)}),
    Case(Check.GPU_NVDEC0, one(nvdec0=ENABLED)),
    Case(Check.GPU_NVDEC0, policy={"nvdec0": Nvdec0.ENABLED}),
    Case(Check.GPU_PROTECTED_PCIE, one(protected_pcie=ENABLED)),
    Case(Check.GPU_PROTECTED_PCIE, one(protected_pcie=0)),
    Case(Check.GPU_PROTECTED_PCIE, broken(faults.not_protected)),
    Case(Check.GPU_PROTECTED_PCIE, broken(faults.protection_not_told)),
    Case(Check.GPU_LOCK_SWITCH, broken(faults.one_unlocked)),
    Case(Check.GPU_LOCK_SWITCH, opaque({25: None}, LS10)),
    Case(Check.GPU_OPAQUE_VERSION, opaque({34: b"\2\0"})),
    Case(Check.GPU_OPAQUE_UNKNOWN, opaque({200: b"new"})),
    Case(Check.GPU_DEVICES_COUNT, policy={"gpus": 2}),
    Case(Check.GPU_DEVICES_COUNT, policy={"gpus": 0}),
    Case(Check.GPU_DEVICES_COUNT, policy={"gpus": None, "switches": 1}),
    Case(Check.GPU_DEVICES_COUNT, lambda: machine(device(LS10)), {"switches": 4}),
    Case(
        Check.GPU_DEVICES_COUNT,
        lambda: machine(device(feature_flag=None, protected_pcie=ENABLED)),
        {"modes": tuple(Mode), "gpus": None, "switches": None},
        also=frozenset({Check.GPU_TOPOLOGY}),
    ),
    Case(
        Check.GPU_DEVICES_COUNT,
        broken(faults.without_two_switches),
        {"gpus": None, "switches": None},
        also=frozenset({Check.GPU_TOPOLOGY}),
    ),
    Case(Check.GPU_DEVICES_DISTINCT, faults.same_report, {"modes": tuple(Mode)}),
    Case(Check.GPU_DEVICES_DISTINCT, lambda: pair(1, 1, numbers=(0, 0))),
    Case(Check.GPU_DEVICES_DISTINCT, faults.two_firmwares_of_one_device, {"modes": tuple(Mode), "require_fwid": False}),
    Case(Check.GPU_DEVICES_DISTINCT, broken(faults.duplicate_switch), also=frozenset({Check.GPU_TOPOLOGY})),
    Case(
        Check.GPU_DEVICES_NONCE,
        lambda: pair(1, 1, nonces=(NONCE, OTHER * 32)),
        {"require_nonce": False},
        {"nonce": None},
    ),
    Case(Check.GPU_DEVICES_MODE, lambda: pair(0, 1), {"modes": tuple(Mode)}),
    Case(Check.GPU_DEVICES_MODE, lambda: pair(0, None), {"modes": tuple(Mode)}),
    Case(
        Check.GPU_DEVICES_MODE,
        lambda: pair(1, 1, other=EVERY_BLACKWELL),
    ),
    Case(
        Check.GPU_DEVICES_MODE,
        broken(faults.one_gpu_in_another_mode),
        {"modes": tuple(Mode)},
    ),
    *(Case(Check.GPU_TOPOLOGY, broken(change)) for change in faults.TOPOLOGY),
    Case(
        Check.GPU_TOPOLOGY,
        lambda: machine(*SimHgx(PKI, gpu=EVERY_HGX).gpus),
        {"switches": 0, "modes": (Mode.PPCIE,)},
    ),
    Case(
        Check.GPU_TOPOLOGY,
        lambda: machine(device(feature_flag=None, protected_pcie=ENABLED)),
        {"modes": tuple(Mode), "switches": 0},
    ),
    Case(
        Check.GPU_TOPOLOGY,
        lambda: machine(device(), device(LS10)),
        {"modes": tuple(Mode)},
    ),
    Case(Check.GPU_GUEST_CC, call={"state": replace(STATE, cc_feature=False)}),
    Case(Check.GPU_GUEST_ENVIRONMENT, call={"state": replace(STATE, environment="simulation")}),
    Case(Check.GPU_GUEST_ENVIRONMENT, call={"state": replace(STATE, environment="unavailable")}),
    Case(Check.GPU_GUEST_DEVTOOLS, call={"state": replace(STATE, devtools=True)}),
    Case(Check.GPU_GUEST_READY, call={"state": replace(STATE, ready=False)}),
]

# Looked at whatever the policy says; what the others are compared with is the policy's alone.
ALWAYS = {
    Check.GPU_RIM_PRODUCT,
    Check.GPU_RIM_VERSION,
    Check.GPU_MEASUREMENTS_GOLDEN,
    Check.GPU_MEASUREMENTS_CONFLICT,
    Check.GPU_MEASUREMENTS_NVDEC0,
    Check.GPU_MEASUREMENTS,
    Check.GPU_SIMULATED,
    Check.GPU_NONCE,
    Check.GPU_ARCH_ALLOWED,
    Check.GPU_DICE_FLAGS,
    Check.GPU_MODE,
    Check.GPU_NVDEC0,
    Check.GPU_PROTECTED_PCIE,
    Check.GPU_LOCK_SWITCH,
    Check.GPU_DEVICES_COUNT,
    Check.GPU_DEVICES_DISTINCT,
    Check.GPU_DEVICES_NONCE,
    Check.GPU_DEVICES_MODE,
    Check.GPU_TOPOLOGY,
    Check.GPU_GUEST_CC,
    Check.GPU_GUEST_ENVIRONMENT,
    Check.GPU_GUEST_DEVTOOLS,
    Check.GPU_GUEST_READY,
}


def _id(case):
    return f"{case.check}-{NEGATIVE.index(case)}"


def failures(result):
    return {item.id for item in result.failures}


def found(result, check):
    return [item for item in result.checks if item.id is check]


GOOD = {
    "hopper": machine,
    "blackwell": lambda: machine(device(EVERY_BLACKWELL)),
    "switch": lambda: machine(device(LS10)),
    "four": lambda: machine(*(device(EVERY, n, feature_flag=MPT) for n in range(4))),
    "hgx": hgx,
}


@pytest.mark.parametrize("name", GOOD)
def test_a_machine_that_meets_every_demand_is_accepted_and_each_skip_says_why(name):
    made = GOOD[name]()
    result = appraise(made, demanding(made))
    assert failures(result) == set()
    assert result.verdict is Verdict.ACCEPTED
    assert all(item.message for item in result.checks if item.status is Status.SKIP)


def test_every_check_of_appraisal_passes_somewhere():
    made = [build() for build in GOOD.values()]
    results = [appraise(one, demanding(one)) for one in made]
    passed = {item.id for result in results for item in result.checks if item.status is Status.PASS}
    assert {rule.check for rule in (*DEVICE_RULES, *MACHINE_RULES)} <= passed


@pytest.mark.parametrize("case", NEGATIVE, ids=_id)
def test_exactly_the_broken_check_fails(case):
    made = case.build()
    result = appraise(made, demanding(made, **case.policy), **case.call)
    assert failures(result) == {case.check, *case.also}
    assert result.verdict is Verdict.REJECTED
    for failure in result.failures:
        assert failure.message
        assert failure.reference


def test_every_check_of_appraisal_has_a_negative_case():
    assert {rule.check for rule in (*DEVICE_RULES, *MACHINE_RULES)} == {case.check for case in NEGATIVE}


def test_the_rules_are_every_appraisal_check_of_the_enum_once_and_in_order():
    members = list(Check)
    first, last = members.index(Check.GPU_RIM_PINNED), members.index(Check.GPU_GUEST_READY)
    assert [rule.check for rule in (*DEVICE_RULES, *MACHINE_RULES)] == members[first : last + 1]


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize("authentic_only", [False, True])
def test_every_check_appears_once_for_each_device_or_once_with_reference_and_reason(name, authentic_only):
    made = GOOD[name]()
    verified = verify(made)
    result = appraise_gpus(verified, Policy(schema=1), authentic_only=authentic_only)
    rest = result.checks[len(verified.checks) :]
    names = [values.device.subject for values in verified.devices]
    expected = [(rule.check, subject) for subject in names for rule in DEVICE_RULES]
    expected += [(rule.check, "") for rule in MACHINE_RULES]
    assert [(item.id, item.subject) for item in rest] == expected
    for item in rest:
        assert item.reference
        assert item.message or item.status is Status.PASS


@pytest.mark.parametrize("case", NEGATIVE, ids=_id)
def test_what_the_policy_does_not_ask_is_a_skip_and_never_a_pass(case):
    result = appraise(case.build(), SIMULATED, **{"state": None, **case.call})
    if case.check not in ALWAYS:
        assert {item.status for item in found(result, case.check)} == {Status.SKIP}


def test_without_a_nonce_the_default_policy_accepts_nothing_and_says_why():
    (failure,) = appraise(machine(), nonce=None).failures
    assert (failure.id, failure.subject) == (Check.GPU_NONCE, "GPU-0")
    assert "the caller gave none" in failure.message


def test_every_check_of_the_guest_fails_where_the_policy_demands_its_word_and_there_is_none():
    result = appraise(machine(), SIMULATED.with_gpu(require_guest_state=True), state=None)
    assert failures(result) == {check for check in Check if check.startswith("gpu.guest.")}
    assert appraise(machine(), state=None).verdict is Verdict.ACCEPTED


def test_devtools_are_a_skip_only_where_the_policy_accepts_them():
    state = replace(STATE, devtools=True)
    result = appraise(machine(), SIMULATED.with_gpu(allow_devtools=True), state=state)
    (item,) = found(result, Check.GPU_GUEST_DEVTOOLS)
    assert (item.status, item.actual, result.verdict) == (Status.SKIP, "on", Verdict.ACCEPTED)


def test_a_simulated_machine_says_simulated_in_result_and_check():
    result = appraise(machine())
    assert result.simulated
    (item,) = found(result, Check.GPU_SIMULATED)
    assert (item.status, "SIMULATED" in item.message) == (Status.PASS, True)
    (item,) = found(appraise(machine(), Policy(schema=1)), Check.GPU_SIMULATED)
    assert (item.status, "SIMULATED" in item.message) == (Status.FAIL, True)


def test_all_failures_of_all_devices_are_collected():
    def change(it: SimHgx) -> None:
        faults.one_unlocked(it)
        faults.not_protected(it)
        it.gpus[1].measure(21, b"")

    made = hgx(change)
    result = appraise(made, demanding(made), nonce=OTHER * 32)
    assert {(item.id, item.subject) for item in result.failures} == {
        (Check.GPU_LOCK_SWITCH, "SWITCH-0"),
        (Check.GPU_PROTECTED_PCIE, "GPU-6"),
        (Check.GPU_MEASUREMENTS, "GPU-1"),
        *((Check.GPU_NONCE, f"GPU-{n}") for n in range(8)),
        *((Check.GPU_NONCE, f"SWITCH-{n}") for n in range(4)),
    }


def test_a_mismatch_names_indexes_values_and_the_known_cause():
    (failure,) = appraise(machine(measurements={9: OTHER * 48})).failures
    assert "9" in failure.message
    assert "issue" in failure.message
    assert failure.actual == (OTHER * 48,)
    assert failure.expected == ((EVERY.golden(9)),)
    (failure,) = appraise(machine(measurements={9: OTHER * 48, 12: EVERY.golden(12)[3], 40: OTHER * 48})).failures
    assert "indexes 9, 40 do not" in failure.message


def test_only_verified_devices_are_taken_and_a_nonce_has_32_bytes():
    verified = verify(machine())
    with pytest.raises(TypeError):
        appraise_gpus(verified.devices, SIMULATED)
    with pytest.raises(UsageError):
        appraise_gpus(verified, SIMULATED, nonce=bytes(31))


def test_nothing_passes_without_reference_values_unless_only_authenticity_is_asked_for():
    made = machine()
    verified = verify(made, reference_values=False)
    result = appraise_gpus(verified, demanding(made), nonce=NONCE, state=STATE)
    compared = {Check.GPU_RIM_PINNED, *(check for check in Check if check.startswith("gpu.measurements"))}
    compared |= {Check.GPU_RIM_PRODUCT, Check.GPU_RIM_VERSION}
    assert failures(result) == compared
    assert appraise_gpus(verified, SIMULATED, authentic_only=True).verdict is Verdict.ACCEPTED


def test_it_is_said_how_two_devices_are_known_to_be_one():
    for made, said in (
        (faults.same_report(), "the same report"),
        (pair(1, 1, numbers=(0, 0)), "by the serial number"),
        (faults.two_firmwares_of_one_device(), "by its PDI"),
    ):
        (item,) = found(appraise(made), Check.GPU_DEVICES_DISTINCT)
        assert said in item.message


def test_a_gpu_that_names_no_mode_is_not_said_to_be_in_one():
    result = appraise(machine(device(HOPPER_OLD)))
    assert result.verdict is Verdict.ACCEPTED
    for check in (Check.GPU_MODE, Check.GPU_DEVICES_MODE, Check.GPU_PROTECTED_PCIE, Check.GPU_FWID_REQUIRED):
        (item,) = found(result, check)
        assert (item.status, bool(item.message)) == (Status.SKIP, True)
