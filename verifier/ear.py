"""EAT Attestation Result, draft-ietf-rats-ear-04: the result as claims that any relying party can read.

Claims only; signing them as a JWT or CWT is the caller's.  The trustworthiness vector is AR4SI's.  What a check that
did not run would say is not claimed, and a simulated platform is never affirmed.
"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from typing import Final

from .. import __version__
from ..endorsements.collateral import TcbStatus
from ..errors import Check, CheckResult, Status
from .ear_claims import CONFIGURATION, EXECUTABLES, HARDWARE, INSTANCE, MEMBERS, RUNTIME, Claim, Tier
from .ear_gpu import device_checks, device_vector, devices_of, of_gpus
from .policy_keys import Json
from .result import AttestationResult, Verdict, check_json

PROFILE: Final = "tag:ietf.org,2026:rats/ear#04"
DEVELOPER: Final = "dokimos"
SUBMOD: Final = "cpu0"


_NEEDED = (HARDWARE, CONFIGURATION, EXECUTABLES)
"""Without these there is nothing to affirm as a whole."""

# What a failure of an authenticity check means, where it is not a failure of cryptography.
_REVOKED = frozenset(
    {Check.SNP_CRL_REVOKED, Check.TDX_PCK_REVOKED, Check.TDX_PCK_CA_REVOKED, Check.TDX_TCB_SIGNER_REVOKED}
)
_UNKNOWN = frozenset({Check.SNP_PRODUCT_SUPPORTED, Check.TDX_MODULE_IDENTITY})

_CODE_CHECKS = {
    Check.SNP_REFERENCE_VALUES,
    Check.SNP_MEASUREMENT,
    Check.SNP_FAMILY_ID,
    Check.SNP_IMAGE_ID,
    Check.SNP_GUEST_SVN,
    Check.SNP_ID_BLOCK_REQUIRED,
    Check.SNP_ID_KEY,
    Check.SNP_AUTHOR_KEY_REQUIRED,
    Check.SNP_AUTHOR_KEY,
    Check.BINDING_IMAGE,
    Check.TDX_REFERENCE_VALUES,
    Check.TDX_MRTD,
    Check.TDX_RTMR0,
    Check.TDX_RTMR1,
    Check.TDX_RTMR2,
    Check.TDX_RTMR3,
}
_IDENTITY_CHECKS = {
    Check.SNP_REPORT_DATA: Claim.CONTRAINDICATED,
    Check.SNP_REPORT_ID: Claim.UNRECOGNIZED,
    Check.SNP_REPORT_ID_MA: Claim.UNRECOGNIZED,
    Check.SNP_CHIP_BOUND: Claim.UNRECOGNIZED,
    Check.SNP_CHIP_ID_ALLOWED: Claim.UNRECOGNIZED,
    Check.SNP_CHIP_ID_DENIED: Claim.CONTRAINDICATED,
    Check.SNP_CSP_ID_ALLOWED: Claim.UNRECOGNIZED,
    Check.SNP_CSP_ID_DENIED: Claim.CONTRAINDICATED,
    Check.TDX_REPORT_DATA: Claim.CONTRAINDICATED,
    Check.TDX_PPID_ALLOWED: Claim.UNRECOGNIZED,
    Check.TDX_PPID_DENIED: Claim.CONTRAINDICATED,
    Check.TDX_PLATFORM_INSTANCE_ALLOWED: Claim.UNRECOGNIZED,
    Check.TDX_PLATFORM_INSTANCE_DENIED: Claim.CONTRAINDICATED,
}
_HARDWARE_CHECKS = {
    Check.SNP_SIMULATED: Claim.UNRECOGNIZED,
    Check.SNP_SIGNER_ALLOWED: Claim.CONTRAINDICATED,
    Check.SNP_PRODUCT_ALLOWED: Claim.CONTRAINDICATED,
    Check.SNP_TCB_CURRENT: Claim.CONTRAINDICATED,
    Check.SNP_VEK_AGE: Claim.WARNING,
    Check.SNP_REPORT_RESERVED: Claim.WARNING,
    Check.SNP_TCB_REPORTED_MINIMUM: Claim.WARNING,
    Check.SNP_TCB_LAUNCH_MINIMUM: Claim.WARNING,
    Check.SNP_TCB_FLOOR: Claim.WARNING,
    Check.SNP_FIRMWARE_PROVISIONAL: Claim.WARNING,
    Check.SNP_FIRMWARE_BUILD: Claim.WARNING,
    Check.SNP_FIRMWARE_VERSION: Claim.WARNING,
    Check.SNP_LAUNCH_MIT_VECTOR: Claim.WARNING,
    Check.SNP_CURRENT_MIT_VECTOR: Claim.WARNING,
    Check.SNP_CERT_TABLE: Claim.WARNING,
    Check.TDX_SIMULATED: Claim.UNRECOGNIZED,
    Check.TDX_BODY_TYPE_ALLOWED: Claim.CONTRAINDICATED,
    Check.TDX_FMSPC_ALLOWED: Claim.CONTRAINDICATED,
    Check.TDX_FMSPC_DENIED: Claim.CONTRAINDICATED,
    Check.TDX_PCK_CA_ALLOWED: Claim.CONTRAINDICATED,
    Check.TDX_SGX_TYPE_ALLOWED: Claim.CONTRAINDICATED,
    Check.TDX_MRSEAM: Claim.CONTRAINDICATED,
    Check.TDX_DYNAMIC_PLATFORM: Claim.WARNING,
    Check.TDX_CACHED_KEYS: Claim.WARNING,
    Check.TDX_SMT: Claim.WARNING,
    Check.TDX_PCK_AGE: Claim.WARNING,
    Check.TDX_TEE_TCB_SVN_MINIMUM: Claim.WARNING,
    Check.TDX_TCB_STATUS: Claim.WARNING,
    Check.TDX_TCB_PLATFORM: Claim.WARNING,
    Check.TDX_TCB_MODULE: Claim.WARNING,
    Check.TDX_TCB_QE: Claim.WARNING,
    Check.TDX_TCB_ADVISORIES: Claim.WARNING,
    Check.TDX_COLLATERAL_EVALUATION_NUMBER: Claim.WARNING,
    Check.TDX_COLLATERAL_AGE: Claim.WARNING,
}
_CONFIGURATION_CHECKS = {
    Check.SNP_VMPL,
    Check.SNP_HOST_DATA,
    Check.BINDING_RUNTIME_CONFIG,
    Check.TDX_MRCONFIGID,
    Check.TDX_MROWNER,
    Check.TDX_MROWNERCONFIG,
    Check.TDX_MR_SERVICETD,
}


def _failed(check: Check) -> tuple[str, Claim] | None:
    if check.startswith(("tdx.event_log.", "tdx.events.")):
        return EXECUTABLES, Claim.UNRECOGNIZED_EXECUTABLES
    if check.startswith(("snp.policy.", "tdx.td_attributes.", "tdx.xfam.")):
        return CONFIGURATION, Claim.CONTRAINDICATED
    if check.startswith("snp.platform_info."):
        return HARDWARE, Claim.WARNING
    if check.startswith("binding."):
        return INSTANCE, Claim.CONTRAINDICATED
    return None


FAILED: Final[dict[Check, tuple[str, Claim]]] = {
    **{check: found for check in Check if (found := _failed(check))},
    **dict.fromkeys(_CODE_CHECKS, (EXECUTABLES, Claim.UNRECOGNIZED_EXECUTABLES)),
    **dict.fromkeys(_CONFIGURATION_CHECKS, (CONFIGURATION, Claim.CONTRAINDICATED)),
    **{check: (INSTANCE, claim) for check, claim in _IDENTITY_CHECKS.items()},
    **{check: (HARDWARE, claim) for check, claim in _HARDWARE_CHECKS.items()},
}
"""The member that a failed check of appraisal or binding concerns, and what it then says; others are authenticity."""


def processor_checks(result: AttestationResult) -> tuple[CheckResult, ...]:
    """The checks that are not about NVIDIA devices; those have submodules of their own."""
    return tuple(check for check in result.checks if not of_gpus(check.id))


def vector(result: AttestationResult) -> dict[str, int]:
    """The trustworthiness vector of the processor's part of a result."""
    claims = {member: int(Claim.NONE) for member in MEMBERS}
    checks = processor_checks(result)
    failed = [check.id for check in checks if check.status is Status.FAIL]
    authenticity = [check for check in failed if check not in FAILED]
    if authenticity:
        if set(authenticity) <= _REVOKED:
            claims[HARDWARE] = Claim.CONTRAINDICATED
        elif set(authenticity) <= _UNKNOWN:
            claims[HARDWARE] = Claim.UNRECOGNIZED
        else:
            claims = {member: int(Claim.CRYPTO_FAILED) for member in MEMBERS}
        return claims
    passed = {check.id for check in checks if check.status is Status.PASS}
    if Check.SNP_REPORT_SIGNATURE in passed:
        _affirm(claims, passed)
    if {Check.TDX_QUOTE_SIGNATURE, Check.TDX_TCB_STATUS} <= passed:
        _affirm_tdx(claims, passed)
    if result.simulated:
        claims |= {HARDWARE: int(Claim.UNRECOGNIZED), INSTANCE: int(Claim.NONE), RUNTIME: int(Claim.NONE)}
    if {Check.SNP_POLICY_DEBUG, Check.TDX_TD_ATTRIBUTES_DEBUG} & set(failed):
        claims[RUNTIME] = Claim.CONTRAINDICATED
    if Check.TDX_TCB_STATUS in failed and _lost(result):
        claims[HARDWARE] = Claim.CONTRAINDICATED
    for check in failed:
        member, claim = FAILED[check]
        claims[member] = max(int(claim), claims[member])
    return claims


def _affirm(claims: dict[str, int], passed: set[Check]) -> None:
    """What the passed checks of a genuine report affirm; each claim rests on a check that ran."""
    claims[HARDWARE] = Claim.AFFIRMING
    if {Check.SNP_POLICY_DEBUG, Check.SNP_POLICY_MIGRATE_MA, Check.SNP_VMPL} <= passed:
        claims[CONFIGURATION] = Claim.AFFIRMING
    if Check.SNP_REFERENCE_VALUES in passed and passed & {
        Check.SNP_MEASUREMENT,
        Check.SNP_ID_KEY,
        Check.SNP_AUTHOR_KEY,
    }:
        claims[EXECUTABLES] = Claim.BOOT_APPROVED
    if passed & {Check.SNP_CHIP_ID_ALLOWED, Check.SNP_CSP_ID_ALLOWED}:
        claims[INSTANCE] = Claim.AFFIRMING
    if Check.SNP_POLICY_DEBUG in passed:
        claims[RUNTIME] = Claim.AFFIRMING


def _affirm_tdx(claims: dict[str, int], passed: set[Check]) -> None:
    """What the passed checks of a genuine quote affirm, of a TCB that was accepted."""
    claims[HARDWARE] = Claim.AFFIRMING
    if {
        Check.TDX_TD_ATTRIBUTES_DEBUG,
        Check.TDX_TD_ATTRIBUTES_MIGRATABLE,
        Check.TDX_TD_ATTRIBUTES_SEPT_VE_DISABLE,
    } <= passed:
        claims[CONFIGURATION] = Claim.AFFIRMING
    # MRTD is the firmware; what it started stands in RTMR1 and RTMR2, by value or by events.
    kernel = passed & {Check.TDX_RTMR1, Check.TDX_EVENTS_KERNEL}
    rest = Check.TDX_RTMR2 in passed or {Check.TDX_EVENTS_COMMAND_LINE, Check.TDX_EVENTS_INITRD} <= passed
    if {Check.TDX_REFERENCE_VALUES, Check.TDX_MRTD} <= passed and kernel and rest:
        claims[EXECUTABLES] = Claim.BOOT_APPROVED
    if passed & {Check.TDX_PPID_ALLOWED, Check.TDX_PLATFORM_INSTANCE_ALLOWED}:
        claims[INSTANCE] = Claim.AFFIRMING
    if Check.TDX_TD_ATTRIBUTES_DEBUG in passed:
        claims[RUNTIME] = Claim.AFFIRMING


def _lost(result: AttestationResult) -> bool:
    """Whether Intel vouches for nothing that the platform signs."""
    tcb = result.evidence.get("tcb")
    return isinstance(tcb, dict) and tcb.get("status") in (TcbStatus.REVOKED, TcbStatus.NOT_SUPPORTED)


def status(result: AttestationResult) -> Tier:
    """``ear_status``: never better than the worst member, and a rejection is contraindicated whatever the vector says.

    A member that nothing is claimed of does not count, unless it is hardware, configuration or executables.
    """
    return _status(result, vector(result))


def _status(result: AttestationResult, claims: dict[str, int]) -> Tier:
    if result.verdict is not Verdict.ACCEPTED:
        return Tier.CONTRAINDICATED
    tiers = {Tier.of(claim) for claim in claims.values()}
    for tier in (Tier.CONTRAINDICATED, Tier.WARNING):
        if tier in tiers:
            return tier
    return Tier.AFFIRMING if all(Tier.of(claims[name]) is Tier.AFFIRMING for name in _NEEDED) else Tier.NONE


def to_ear(
    result: AttestationResult, *, nonce: bytes | None = None, raw_evidence: tuple[str, bytes] | None = None
) -> dict[str, Json]:
    """The claims set of a result.

    Args:
        result: the result, accepted or rejected.
        nonce: the relying party's nonce, or None where there was none.
        raw_evidence: media type and bytes of the evidence, to be carried along as a CMW record; None to leave it out.
    """
    claims: dict[str, Json] = {
        "eat_profile": PROFILE,
        "iat": int(result.at.timestamp()),
        "ear_verifier_id": {"developer": DEVELOPER, "build": __version__},
    }
    if nonce is not None:
        claims["eat_nonce"] = _base64url(nonce)
    devices = devices_of(result.checks)
    submods: dict[str, Json] = {}
    own = processor_checks(result)
    if own or not devices:
        evidence: dict[str, Json] = {name: found for name, found in result.evidence.items() if name != "gpu"}
        submod = _submod(result, vector(result), evidence, own)
        if raw_evidence is not None:
            submod["ear_raw_evidence"] = [raw_evidence[0], _base64url(raw_evidence[1])]
        submods[SUBMOD] = submod
    for device in devices:
        checks = device_checks(result.checks, device)
        members = device_vector(checks, simulated=result.simulated)
        submods[device.lower().replace("-", "")] = _submod(result, members, _device(result, device), checks)
    claims["submods"] = submods
    return claims


def _submod(
    result: AttestationResult, members: dict[str, int], evidence: dict[str, Json], checks: tuple[CheckResult, ...]
) -> dict[str, Json]:
    """One submodule; a rejection is one of the whole machine."""
    return {
        "ear_status": str(_status(result, members)),
        "ear_trustworthiness_vector": {member: int(claim) for member, claim in members.items()},
        "ear_appraisal_policy_ids": [] if result.policy is None else [result.policy.id()],
        "ear_attester_claims": evidence,
        "ear_verifier_claims": {
            "verdict": str(result.verdict),
            "simulated": result.simulated,
            "checks": [check_json(check) for check in checks],
        },
    }


def _device(result: AttestationResult, name: str) -> dict[str, Json]:
    """What the evidence says of one device."""
    found = result.evidence.get("gpu") or result.evidence
    devices = found.get("devices") if isinstance(found, dict) else None
    for device in devices if isinstance(devices, list) else []:
        if isinstance(device, dict) and device.get("subject") == name:
            return device
    return {}


def _base64url(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()
