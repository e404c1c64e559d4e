"""Appraisal of a machine's NVIDIA devices: are genuine devices what the policy wants, each and all together?

Every check of :data:`DEVICE_RULES` appears once for each device, with its name as subject, and every check of
:data:`MACHINE_RULES` once; all failures are collected.  Only a :class:`~.gpu_machine.VerifiedGpus` is taken, which only
verification makes.
"""

from __future__ import annotations

from typing import Final

from ..errors import Check, CheckResult, UsageError
from ..evidence.gpu_evidence import GuestState
from .appraise_gpu_device import CLAIMS, VALUES
from .appraise_gpu_machine import GUEST, MACHINE
from .finding import skipped
from .finding_gpu import DeviceRule, DeviceSubject, MachineRule, MachineSubject
from .gpu_machine import VerifiedGpus
from .gpu_result import gpu_evidence
from .policy import Policy
from .result import AttestationResult

DEVICE_RULES: Final[tuple[DeviceRule, ...]] = VALUES + CLAIMS
"""Every check of one device, in the order of the result."""
MACHINE_RULES: Final[tuple[MachineRule, ...]] = MACHINE + GUEST
"""Every check of all devices together, in the order of the result."""

_ALWAYS: Final = frozenset({Check.GPU_SIMULATED, *(rule.check for rule in MACHINE)})
_AUTHENTIC_ONLY: Final = skipped("only authenticity was asked for")
NONCE_SIZE: Final = 32


def appraise_gpus(
    verified: VerifiedGpus,
    policy: Policy,
    *,
    authentic_only: bool = False,
    nonce: bytes | None = None,
    state: GuestState | None = None,
) -> AttestationResult:
    """Appraise verified devices.

    Args:
        verified: what :func:`~.gpu_machine.verify_gpus` returned.
        policy: what they must be.
        authentic_only: look at nothing but whether simulated roots are named by the policy, and whether the devices
            fit together; every other check is a skip, also those of the measurements.  A nonce that is given is
            compared all the same.
        nonce: the 32 bytes that every report must carry, or None.
        state: what the measured guest says beside the reports, or None.

    Returns:
        The checks of verification followed by those of appraisal; accepted if none of them failed.

    Raises:
        UsageError: `nonce` is not 32 bytes.
        TypeError: `verified` is not verified evidence.
    """
    if not isinstance(verified, VerifiedGpus):
        raise TypeError("only verified evidence is appraised")
    if nonce is not None and len(nonce) != NONCE_SIZE:
        raise UsageError(f"the nonce has {NONCE_SIZE} bytes, not {len(nonce)}")
    always = _ALWAYS | ({Check.GPU_NONCE} if nonce is not None else set())
    found: list[CheckResult] = []
    for values in verified.devices:
        subject = DeviceSubject(
            device=values.device,
            report=values.device.report,
            needs=values.needs,
            rims=values.rims,
            comparison=values.comparison,
            token=verified.token_claims is not None and policy.gpu.nras.accept,
            policy=policy.gpu,
            nonce=nonce,
        )
        for rule in DEVICE_RULES:
            run = not authentic_only or rule.check in always
            status, expected, actual, message = rule.find(subject) if run else _AUTHENTIC_ONLY
            name = values.device.subject
            found.append(CheckResult(rule.check, status, expected, actual, rule.reference, message, name))
    machine = MachineSubject(devices=tuple(one.device for one in verified.devices), policy=policy.gpu, state=state)
    for machine_rule in MACHINE_RULES:
        run = not authentic_only or machine_rule.check in always
        status, expected, actual, message = machine_rule.find(machine) if run else _AUTHENTIC_ONLY
        found.append(CheckResult(machine_rule.check, status, expected, actual, machine_rule.reference, message))
    return AttestationResult.of(
        (*verified.checks, *found),
        at=verified.at,
        simulated=verified.simulated,
        evidence=gpu_evidence(verified, state),
        policy=policy,
    )
