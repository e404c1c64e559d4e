"""The trustworthiness of each NVIDIA device for EAR: a submodule of its own beside the processor's.

A device's submodule rests on its own checks and on those of all devices together, which concern every one of them.
What only the guest asserts affirms nothing here: the processor's submodule speaks for the guest.
"""

from __future__ import annotations

from typing import Final

from ..errors import Check, CheckResult, Status
from .ear_claims import CONFIGURATION, EXECUTABLES, HARDWARE, INSTANCE, MEMBERS, Claim

_CODE = frozenset(
    {
        Check.GPU_RIM_PINNED,
        Check.GPU_RIM_PRODUCT,
        Check.GPU_RIM_VERSION,
        Check.GPU_MEASUREMENTS_GOLDEN,
        Check.GPU_MEASUREMENTS_CONFLICT,
        Check.GPU_MEASUREMENTS_NVDEC0,
        Check.GPU_MEASUREMENTS,
        Check.GPU_MEASUREMENTS_UNMEASURED,
        Check.GPU_DRIVER_MINIMUM,
        Check.GPU_DRIVER_DENIED,
        Check.GPU_VBIOS_MINIMUM,
        Check.NRAS_TOKEN_RESULT,
    }
)
_HARDWARE = {
    Check.GPU_SIMULATED: Claim.UNRECOGNIZED,
    Check.GPU_ARCH_ALLOWED: Claim.CONTRAINDICATED,
    Check.GPU_FWID_REQUIRED: Claim.WARNING,
    Check.GPU_DICE_FLAGS: Claim.CONTRAINDICATED,
    Check.GPU_OPAQUE_VERSION: Claim.WARNING,
    Check.GPU_OPAQUE_UNKNOWN: Claim.WARNING,
    Check.GPU_TOPOLOGY: Claim.CONTRAINDICATED,
    Check.GPU_CRL_REVOKED: Claim.CONTRAINDICATED,
    Check.GPU_OCSP_STATUS: Claim.CONTRAINDICATED,
}
_INSTANCE = {
    Check.GPU_NONCE: Claim.CONTRAINDICATED,
    Check.GPU_SERIAL_ALLOWED: Claim.UNRECOGNIZED,
    Check.GPU_SERIAL_DENIED: Claim.CONTRAINDICATED,
    Check.GPU_DEVICES_COUNT: Claim.CONTRAINDICATED,
    Check.GPU_DEVICES_DISTINCT: Claim.CONTRAINDICATED,
    Check.GPU_DEVICES_NONCE: Claim.CONTRAINDICATED,
}
_CONFIGURATION = (
    Check.GPU_MODE,
    Check.GPU_NVDEC0,
    Check.GPU_PROTECTED_PCIE,
    Check.GPU_LOCK_SWITCH,
    Check.GPU_DEVICES_MODE,
    Check.GPU_GUEST_CC,
    Check.GPU_GUEST_ENVIRONMENT,
    Check.GPU_GUEST_DEVTOOLS,
    Check.GPU_GUEST_READY,
)

FAILED: Final[dict[Check, tuple[str, Claim]]] = {
    **dict.fromkeys(_CODE, (EXECUTABLES, Claim.UNRECOGNIZED_EXECUTABLES)),
    **dict.fromkeys(_CONFIGURATION, (CONFIGURATION, Claim.CONTRAINDICATED)),
    **{check: (HARDWARE, claim) for check, claim in _HARDWARE.items()},
    **{check: (INSTANCE, claim) for check, claim in _INSTANCE.items()},
}
"""The member that a failed check concerns, and what it then says; others are authenticity."""


def of_gpus(check: Check) -> bool:
    """Whether a check is about NVIDIA devices."""
    return check.startswith(("gpu.", "nras."))


def devices_of(checks: tuple[CheckResult, ...]) -> tuple[str, ...]:
    """Names of the devices that checks are about, in order; that of a RIM begins with its device's."""
    return tuple(dict.fromkeys(check.subject.split(" ")[0] for check in checks if check.subject))


def device_checks(checks: tuple[CheckResult, ...], device: str) -> tuple[CheckResult, ...]:
    """The checks of one device, its RIMs, and of all devices together."""
    return tuple(
        check for check in checks if of_gpus(check.id) and (not check.subject or check.subject.split(" ")[0] == device)
    )


def device_vector(checks: tuple[CheckResult, ...], *, simulated: bool) -> dict[str, int]:
    """The trustworthiness vector of one device.

    Args:
        checks: what :func:`device_checks` returned.
        simulated: the evidence is of a simulated platform.
    """
    claims = {member: int(Claim.NONE) for member in MEMBERS}
    failed = [check.id for check in checks if check.status is Status.FAIL]
    if any(check not in FAILED for check in failed):
        return {member: int(Claim.CRYPTO_FAILED) for member in MEMBERS}
    passed = {check.id for check in checks if check.status is Status.PASS}
    if Check.GPU_REPORT_SIGNATURE in passed and not simulated:
        claims[HARDWARE] = Claim.AFFIRMING
    if simulated:
        claims[HARDWARE] = Claim.UNRECOGNIZED
    if {Check.GPU_MEASUREMENTS_GOLDEN, Check.GPU_MEASUREMENTS} <= passed or Check.NRAS_TOKEN_RESULT in passed:
        claims[EXECUTABLES] = Claim.BOOT_APPROVED
    # Production firmware with the reference values, in one mode; that CC is on, no device says.
    if Check.GPU_DEVICES_MODE in passed and claims[EXECUTABLES] == Claim.BOOT_APPROVED:
        claims[CONFIGURATION] = Claim.AFFIRMING
    if Check.GPU_SERIAL_ALLOWED in passed and not simulated:
        claims[INSTANCE] = Claim.AFFIRMING
    for check in failed:
        member, claim = FAILED[check]
        claims[member] = max(int(claim), claims[member])
    return claims
