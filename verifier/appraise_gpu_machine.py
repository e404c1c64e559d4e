"""Appraisal of all NVIDIA devices of a machine together, and of what the guest says beside them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable
from typing import Final

from ..errors import Check, Status
from ..evidence.gpu_arch import Kind
from .appraise_gpu_device import ENABLED
from .finding import Finding, held, not_asked, skipped
from .finding_gpu import MachineRule, MachineSubject
from .gpu_policy import Mode, Topology
from .gpu_topology import HGX_SWITCHES, Node, topology_fault

_NVML = "NVML, nvmlSystemGetConfComputeState, {}"
PRODUCTION: Final = "production"


def _modes(subject: MachineSubject) -> tuple[Mode | None, ...]:
    flags = [device.report.feature_flag for device in subject.devices if device.report.kind is Kind.GPU]
    return tuple(None if flag is None else Mode.of(flag) for flag in flags)


def _protected(subject: MachineSubject) -> bool:
    """Whether a GPU is behind protected PCIe: by its mode, or, of firmware that names none, by what it says of PCIe."""
    reports = [device.report for device in subject.devices if device.report.kind is Kind.GPU]
    return Mode.PPCIE in _modes(subject) or any(
        report.feature_flag is None and report.protected_pcie == ENABLED for report in reports
    )


def _count(subject: MachineSubject) -> Finding:
    kinds = Counter(device.report.kind for device in subject.devices)
    actual = f"{kinds[Kind.GPU]} GPUs, {kinds[Kind.SWITCH]} switches"
    policy = subject.policy
    switches = policy.switches
    if switches is None and _protected(subject):
        switches = HGX_SWITCHES
    if policy.gpus is None and switches is None:
        return not_asked(actual)
    faults = [
        f"{found} {name}, {wanted} wanted"
        for name, found, wanted in (
            ("GPUs", kinds[Kind.GPU], policy.gpus),
            ("switches", kinds[Kind.SWITCH], switches),
        )
        if wanted not in {None, found}
    ]
    shown = [
        f"{number} {name}" for name, number in (("GPUs", policy.gpus), ("switches", switches)) if number is not None
    ]
    return held(not faults, "; ".join(faults), expected=", ".join(shown), actual=actual)


def _twice(values: Iterable[Hashable]) -> bool:
    counted = Counter(value for value in values if value is not None)
    return any(number > 1 for number in counted.values())


def _distinct(subject: MachineSubject) -> Finding:
    """Counting devices means nothing if one may stand there twice; it happens in the wild."""
    devices = subject.devices
    if len({device.evidence.report for device in devices}) != len(devices):
        return Finding(Status.FAIL, None, None, "the same report stands there twice")
    if _twice(device.ueid for device in devices):
        return Finding(
            Status.FAIL, None, None, "two reports are of one device, by the serial number of its certificate"
        )
    if _twice((device.report.kind, device.chain.pdi) for device in devices if device.chain.pdi is not None):
        return Finding(Status.FAIL, None, None, "two reports are of one device, by its PDI")
    return Finding(Status.PASS, len(devices), len(devices))


def _one_nonce(subject: MachineSubject) -> Finding:
    nonces = tuple(dict.fromkeys(device.report.nonce for device in subject.devices))
    return held(len(nonces) == 1, "the reports carry different nonces", actual=nonces)


def _one_mode(subject: MachineSubject) -> Finding:
    gpus = [device for device in subject.devices if device.report.kind is Kind.GPU]
    arches = {device.evidence.arch for device in gpus}
    flags = dict.fromkeys(device.report.feature_flag for device in gpus)
    if not gpus:
        return skipped("there is no GPU")
    if len(arches) > 1:
        return Finding(Status.FAIL, None, tuple(sorted(map(str, arches))), "GPUs of different architectures")
    if set(flags) == {None}:
        return skipped("no report names a mode")
    actual = tuple("not named" if flag is None else f"{Mode.of(flag) or 'unknown'} ({flag})" for flag in flags)
    return held(len(flags) == 1, "the GPUs are in different modes", actual=actual)


def _topology(subject: MachineSubject) -> Finding:
    """Demanded as soon as one device says that it belongs to such a machine: a switch, or a GPU behind one."""
    has_switch = any(device.report.kind is Kind.SWITCH for device in subject.devices)
    if not _protected(subject) and subject.policy.topology is not Topology.REQUIRE:
        if not has_switch:
            return skipped("no device says that it is behind protected PCIe")
        if all(device.report.kind is Kind.SWITCH for device in subject.devices):
            return skipped("there are switches only; which GPUs they connect is not looked at")
    fault = topology_fault(
        tuple(Node(subject=one.subject, report=one.report, pdi=one.chain.pdi) for one in subject.devices)
    )
    return held(not fault, fault, expected="every list is that of the certificates")


def _asserted(subject: MachineSubject) -> Finding | None:
    """A skip or a failure where the guest says nothing."""
    if subject.state is not None:
        return None
    if subject.policy.require_guest_state:
        return Finding(Status.FAIL, None, None, "the policy demands what the guest says, and it says nothing")
    return skipped("no device signs it, and no guest says it")


def _cc(subject: MachineSubject) -> Finding:
    if (missing := _asserted(subject)) is not None or (state := subject.state) is None:
        return missing or not_asked()
    return held(state.cc_feature, "confidential computing is off", expected="on", actual=_switch(state.cc_feature))


def _environment(subject: MachineSubject) -> Finding:
    if (missing := _asserted(subject)) is not None or (state := subject.state) is None:
        return missing or not_asked()
    found = str(state.environment)
    return held(found == PRODUCTION, "the environment is not production", expected=PRODUCTION, actual=found)


def _devtools(subject: MachineSubject) -> Finding:
    if (missing := _asserted(subject)) is not None or (state := subject.state) is None:
        return missing or not_asked()
    actual = _switch(state.devtools)
    if state.devtools and subject.policy.allow_devtools:
        return skipped("DevTools mode is on, and the policy accepts that", actual=actual)
    return held(not state.devtools, "DevTools mode is on", expected="off", actual=actual)


def _ready(subject: MachineSubject) -> Finding:
    if (missing := _asserted(subject)) is not None or (state := subject.state) is None:
        return missing or not_asked()
    return held(
        state.ready, "the GPUs are not set ready", expected="ready", actual="ready" if state.ready else "not ready"
    )


def _switch(on: bool) -> str:
    return "on" if on else "off"


MACHINE: Final[tuple[MachineRule, ...]] = (
    MachineRule(Check.GPU_DEVICES_COUNT, "policy, gpu.gpus and gpu.switches", _count),
    MachineRule(Check.GPU_DEVICES_DISTINCT, "NVIDIA claim ueid; SPDM opaque data, TLV 22", _distinct),
    MachineRule(Check.GPU_DEVICES_NONCE, "report, 4", _one_nonce),
    MachineRule(Check.GPU_DEVICES_MODE, "SPDM opaque data, TLV 36", _one_mode),
    MachineRule(Check.GPU_TOPOLOGY, "SPDM opaque data, TLV 22 and 26", _topology),
)
"""What all devices together must be; looked at also where only authenticity is asked for."""

GUEST: Final[tuple[MachineRule, ...]] = (
    MachineRule(Check.GPU_GUEST_CC, _NVML.format("ccFeature"), _cc),
    MachineRule(Check.GPU_GUEST_ENVIRONMENT, _NVML.format("environment"), _environment),
    MachineRule(Check.GPU_GUEST_DEVTOOLS, _NVML.format("devToolsMode"), _devtools),
    MachineRule(Check.GPU_GUEST_READY, "NVML, nvmlSystemGetConfComputeGpusReadyState", _ready),
)
"""What the measured guest says, and no device signs."""
