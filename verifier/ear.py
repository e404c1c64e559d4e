"""EAT Attestation Result, draft-ietf-rats-ear-04: the result as claims that any relying party can read.

Claims only; signing them as a JWT or CWT is the caller's.  The trustworthiness vector is AR4SI's.  What a check that
did not run would say is not claimed, and a simulated platform is never affirmed.
"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from enum import IntEnum, StrEnum
from typing import Final

from .. import __version__
from ..endorsements.collateral import TcbStatus
from ..errors import Check, Status
from .policy_keys import Json
from .result import AttestationResult, Verdict, check_json

PROFILE: Final = "tag:ietf.org,2026:rats/ear#04"
DEVELOPER: Final = "dokimos"
SUBMOD: Final = "cpu0"


class Claim(IntEnum):
    """Values of a trustworthiness claim (AR4SI, "Trustworthiness Claims"); one number has one meaning per claim."""

    NONE = 0
    AFFIRMING = 2
    BOOT_APPROVED = 3
    """Executables: what booted is approved; what ran later is not measured."""
    WARNING = 32
    UNRECOGNIZED_EXECUTABLES = 33
    CONTRAINDICATED = 96
    UNRECOGNIZED = 97
    """Hardware or instance: not one that is known."""
    CRYPTO_FAILED = 99


class Tier(StrEnum):
    """``ear_status``: the band that a claim's number lies in."""

    NONE = "none"
    AFFIRMING = "affirming"
    WARNING = "warning"
    CONTRAINDICATED = "contraindicated"

    @classmethod
    def of(cls, claim: int) -> Tier:
        """The band of a number: 2 to 31 affirming, 32 to 95 warning, 96 to 127 contraindicated."""
        if claim >= Claim.CONTRAINDICATED:
            return cls.CONTRAINDICATED
        if claim >= Claim.WARNING:
            return cls.WARNING
        return cls.AFFIRMING if claim >= Claim.AFFIRMING else cls.NONE


_HARDWARE = "hardware"
_CONFIGURATION = "configuration"
_EXECUTABLES = "executables"
_INSTANCE = "instance-identity"
_RUNTIME = "runtime-opaque"
MEMBERS: Final = (
    _INSTANCE,
    _CONFIGURATION,
    _EXECUTABLES,
    "file-system",
    _HARDWARE,
    _RUNTIME,
    "storage-opaque",
    "sourced-data",
)
"""Members of the vector.  Of file system, storage and sourced data neither a report nor a quote says anything."""

_NEEDED = (_HARDWARE, _CONFIGURATION, _EXECUTABLES)
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
        return _EXECUTABLES, Claim.UNRECOGNIZED_EXECUTABLES
    if check.startswith(("snp.policy.", "tdx.td_attributes.", "tdx.xfam.")):
        return _CONFIGURATION, Claim.CONTRAINDICATED
    if check.startswith("snp.platform_info."):
        return _HARDWARE, Claim.WARNING
    if check.startswith("binding."):
        return _INSTANCE, Claim.CONTRAINDICATED
    return None


FAILED: Final[dict[Check, tuple[str, Claim]]] = {
    **{check: found for check in Check if (found := _failed(check))},
    **dict.fromkeys(_CODE_CHECKS, (_EXECUTABLES, Claim.UNRECOGNIZED_EXECUTABLES)),
    **dict.fromkeys(_CONFIGURATION_CHECKS, (_CONFIGURATION, Claim.CONTRAINDICATED)),
    **{check: (_INSTANCE, claim) for check, claim in _IDENTITY_CHECKS.items()},
    **{check: (_HARDWARE, claim) for check, claim in _HARDWARE_CHECKS.items()},
}
"""The member that a failed check of appraisal or binding concerns, and what it then says; others are authenticity."""


def vector(result: AttestationResult) -> dict[str, int]:
    """The trustworthiness vector of a result."""
    claims = {member: int(Claim.NONE) for member in MEMBERS}
    failed = [check.id for check in result.failures]
    authenticity = [check for check in failed if check not in FAILED]
    if authenticity:
        if set(authenticity) <= _REVOKED:
            claims[_HARDWARE] = Claim.CONTRAINDICATED
        elif set(authenticity) <= _UNKNOWN:
            claims[_HARDWARE] = Claim.UNRECOGNIZED
        else:
            claims = {member: int(Claim.CRYPTO_FAILED) for member in MEMBERS}
        return claims
    passed = {check.id for check in result.checks if check.status is Status.PASS}
    if Check.SNP_REPORT_SIGNATURE in passed:
        _affirm(claims, passed)
    if {Check.TDX_QUOTE_SIGNATURE, Check.TDX_TCB_STATUS} <= passed:
        _affirm_tdx(claims, passed)
    if result.simulated:
        claims |= {_HARDWARE: int(Claim.UNRECOGNIZED), _INSTANCE: int(Claim.NONE), _RUNTIME: int(Claim.NONE)}
    if {Check.SNP_POLICY_DEBUG, Check.TDX_TD_ATTRIBUTES_DEBUG} & set(failed):
        claims[_RUNTIME] = Claim.CONTRAINDICATED
    if Check.TDX_TCB_STATUS in failed and _lost(result):
        claims[_HARDWARE] = Claim.CONTRAINDICATED
    for check in failed:
        member, claim = FAILED[check]
        claims[member] = max(int(claim), claims[member])
    return claims


def _affirm(claims: dict[str, int], passed: set[Check]) -> None:
    """What the passed checks of a genuine report affirm; each claim rests on a check that ran."""
    claims[_HARDWARE] = Claim.AFFIRMING
    if {Check.SNP_POLICY_DEBUG, Check.SNP_POLICY_MIGRATE_MA, Check.SNP_VMPL} <= passed:
        claims[_CONFIGURATION] = Claim.AFFIRMING
    if Check.SNP_REFERENCE_VALUES in passed and passed & {
        Check.SNP_MEASUREMENT,
        Check.SNP_ID_KEY,
        Check.SNP_AUTHOR_KEY,
    }:
        claims[_EXECUTABLES] = Claim.BOOT_APPROVED
    if passed & {Check.SNP_CHIP_ID_ALLOWED, Check.SNP_CSP_ID_ALLOWED}:
        claims[_INSTANCE] = Claim.AFFIRMING
    if Check.SNP_POLICY_DEBUG in passed:
        claims[_RUNTIME] = Claim.AFFIRMING


def _affirm_tdx(claims: dict[str, int], passed: set[Check]) -> None:
    """What the passed checks of a genuine quote affirm, of a TCB that was accepted."""
    claims[_HARDWARE] = Claim.AFFIRMING
    if {
        Check.TDX_TD_ATTRIBUTES_DEBUG,
        Check.TDX_TD_ATTRIBUTES_MIGRATABLE,
        Check.TDX_TD_ATTRIBUTES_SEPT_VE_DISABLE,
    } <= passed:
        claims[_CONFIGURATION] = Claim.AFFIRMING
    # MRTD is the firmware; what it started stands in RTMR1 and RTMR2, by value or by events.
    kernel = passed & {Check.TDX_RTMR1, Check.TDX_EVENTS_KERNEL}
    rest = Check.TDX_RTMR2 in passed or {Check.TDX_EVENTS_COMMAND_LINE, Check.TDX_EVENTS_INITRD} <= passed
    if {Check.TDX_REFERENCE_VALUES, Check.TDX_MRTD} <= passed and kernel and rest:
        claims[_EXECUTABLES] = Claim.BOOT_APPROVED
    if passed & {Check.TDX_PPID_ALLOWED, Check.TDX_PLATFORM_INSTANCE_ALLOWED}:
        claims[_INSTANCE] = Claim.AFFIRMING
    if Check.TDX_TD_ATTRIBUTES_DEBUG in passed:
        claims[_RUNTIME] = Claim.AFFIRMING


def _lost(result: AttestationResult) -> bool:
    """Whether Intel vouches for nothing that the platform signs."""
    tcb = result.evidence.get("tcb")
    return isinstance(tcb, dict) and tcb.get("status") in (TcbStatus.REVOKED, TcbStatus.NOT_SUPPORTED)


def status(result: AttestationResult) -> Tier:
    """``ear_status``: never better than the worst member, and a rejection is contraindicated whatever the vector says.

    A member that nothing is claimed of does not count, unless it is hardware, configuration or executables.
    """
    if result.verdict is not Verdict.ACCEPTED:
        return Tier.CONTRAINDICATED
    claims = vector(result)
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
    members: dict[str, Json] = {member: int(claim) for member, claim in vector(result).items()}
    submod: dict[str, Json] = {
        "ear_status": str(status(result)),
        "ear_trustworthiness_vector": members,
        "ear_appraisal_policy_ids": [] if result.policy is None else [result.policy.id()],
        "ear_attester_claims": result.evidence,
        "ear_verifier_claims": {
            "verdict": str(result.verdict),
            "simulated": result.simulated,
            "checks": [check_json(check) for check in result.checks],
        },
    }
    if raw_evidence is not None:
        submod["ear_raw_evidence"] = [raw_evidence[0], _base64url(raw_evidence[1])]
    claims["submods"] = {SUBMOD: submod}
    return claims


def _base64url(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()
