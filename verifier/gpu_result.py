"""What a result says of NVIDIA devices: every field of each report, and how each claim was established."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import suppress
from datetime import datetime
from enum import StrEnum
from typing import Any

from ..endorsements.nvidia_anchors import DEVICE_ROOT_SHA256, NRAS_INTERMEDIATES, RIM_ROOT_SHA256
from ..errors import Check, Error, Status, VerificationError
from ..evidence.gpu_arch import Kind
from ..evidence.gpu_evidence import GpuEvidence, GuestState, subjects
from ..evidence.gpu_report import GpuReport, parse_gpu_report
from .gpu_compare import Comparison
from .gpu_machine import DeviceValues, VerifiedGpus
from .gpu_policy import Mode
from .gpu_revocation import RevocationFinding
from .gpu_rim import VerifiedRim
from .nras import NrasClaims
from .policy_keys import Json
from .result import AttestationResult, timestamp

_PINNED: Mapping[Check, Collection[object]] = {
    Check.GPU_ROOT_PINNED: {DEVICE_ROOT_SHA256},
    Check.GPU_RIM_ROOT_PINNED: {RIM_ROOT_SHA256},
    Check.NRAS_SIGNER_PINNED: NRAS_INTERMEDIATES,
}
"""What NVIDIA's own evidence has for these checks."""


class Established(StrEnum):
    """How a claim came to be known; the three are not worth the same."""

    SIGNED = "signed by the device"
    """It stands in the report or in a certificate below the pinned root."""
    DERIVED = "derived from the comparison with RIMs"
    """No field says it: NVIDIA's golden values are those of production firmware without debugging."""
    ASSERTED = "asserted by the measured guest"
    """No device signs it; it is worth as much as the processor's evidence for the guest."""
    SERVICE = "said by NVIDIA's remote attestation service"
    """The service signs it; what it compared with, nobody else can look at."""


def rejected(error: VerificationError, *, at: datetime, devices: tuple[GpuEvidence, ...] = ()) -> AttestationResult:
    """The result for an error of verification, which ends before there is anything to appraise.

    Args:
        error: the error; its checks are the result's.
        at: the time of verification.
        devices: the evidence as received; what can be read of it is shown, though none of it is verified.
    """
    shown: list[Json] = []
    for evidence, subject in zip(devices, subjects(devices), strict=True):
        fields: dict[str, Json] = {"subject": subject, "arch": str(evidence.arch)}
        with suppress(Error):
            fields |= _report(parse_gpu_report(evidence.report, evidence.arch.kind))
        shown.append(fields)
    said: dict[str, Json] = {"devices": shown} if shown else {}
    return AttestationResult.of(error.checks, at=at, simulated=_simulated(error), evidence=said)


def _simulated(error: VerificationError) -> bool:
    """Whether the policy let a simulated root pass before the failure: what passed with it affirms nothing."""
    passed = (check for check in error.checks if check.status is Status.PASS and check.id in _PINNED)
    return any(check.actual not in _PINNED[check.id] for check in passed)


def gpu_evidence(verified: VerifiedGpus, state: GuestState | None = None) -> dict[str, Json]:
    """Every device with its fields, claims and reference values, and what the guest says.

    Args:
        verified: what verification returned.
        state: what the guest says beside, or None.
    """
    return {
        "devices": [_device(values) for values in verified.devices],
        "guest": None if state is None else _guest(state),
        "nras": None if verified.token_claims is None else _service(verified.token_claims),
    }


def _service(found: NrasClaims) -> dict[str, Json]:
    """What the service says of all devices together, and of each by the service's name for it."""
    return {
        "signer": found.signer,
        "issued": timestamp(found.issued),
        "expires": timestamp(found.expires),
        "overall": _said(found.overall, "x-nvidia-overall-att-result"),
        "devices": [
            {"name": name, **{claim: _said(claims, claim) for claim in ("ueid", "measres")}}
            for name, claims in zip(found.names, found.devices, strict=True)
        ],
    }


def _said(claims: Mapping[str, Any], name: str) -> dict[str, Json]:
    value = claims.get(name)
    return _claim(value if isinstance(value, str | bool) else None, Established.SERVICE)


def _guest(state: GuestState) -> dict[str, Json]:
    values: dict[str, Json] = {
        "cc_feature": state.cc_feature,
        "environment": str(state.environment),
        "devtools": state.devtools,
        "ready": state.ready,
        "driver_version": state.driver_version,
    }
    return {name: _claim(value, Established.ASSERTED) for name, value in values.items()}


def _claim(value: Json, how: Established) -> dict[str, Json]:
    return {"value": value, "established": str(how)}


def _device(values: DeviceValues) -> dict[str, Json]:
    device = values.device
    return {
        "subject": device.subject,
        "arch": str(device.evidence.arch),
        **_report(device.report),
        "claims": _claims(values),
        "endorsement": _endorsement(values),
        "measurements": None if values.comparison is None else _comparison(values.comparison),
    }


def _report(report: GpuReport) -> dict[str, Json]:
    flag = report.feature_flag
    mode = None if flag is None else Mode.of(flag)
    return {
        "kind": str(report.kind),
        "nonce": report.nonce.hex(),
        "driver_version": report.driver_version,
        "vbios_version": report.vbios_version,
        "chip_info": report.chip_info,
        "project": report.project,
        "project_sku": report.project_sku,
        "chip_sku": report.chip_sku,
        "fwid": None if report.fwid is None else report.fwid.hex(),
        "feature_flag": None if flag is None else {"raw": flag, "mode": None if mode is None else str(mode)},
        "nvdec0_status": report.nvdec0,
        "protected_pcie_status": report.protected_pcie,
        "opaque_data_version": report.opaque_version,
        "lock_switch_status": report.lock_switch,
        "switch_pdis": _hexes(report.switch_pdis),
        "device_pdi": None if report.device_pdi is None else report.device_pdi.hex(),
        "gpu_pdis": _hexes(report.gpu_pdis),
        "unknown_opaque": list(report.unknown_types),
    }


def _hexes(found: tuple[bytes, ...] | None) -> Json:
    return None if found is None else [one.hex() for one in found]


def _claims(values: DeviceValues) -> dict[str, Json]:
    """NVIDIA's claims by their names in EAT, as far as the evidence bears them out."""
    device, report = values.device, values.device.report
    claims: dict[str, Json] = {
        "ueid": _claim(device.ueid, Established.SIGNED),
        "hwmodel": _claim(device.hwmodel, Established.SIGNED),
        "eat_nonce": _claim(report.nonce.hex(), Established.SIGNED),
        "vbios_version": _claim(report.vbios_version, Established.SIGNED),
    }
    if report.kind is Kind.GPU:
        claims["driver_version"] = _claim(report.driver_version, Established.SIGNED)
    if values.comparison is not None:
        # Production firmware that started securely and without debugging has these values; no field says it.
        claims["measres"] = _claim("success" if values.comparison.holds else "fail", Established.DERIVED)
        if values.comparison.holds:
            claims["secboot"] = _claim(True, Established.DERIVED)
            claims["dbgstat"] = _claim("disabled", Established.DERIVED)
    return claims


def _endorsement(values: DeviceValues) -> dict[str, Json]:
    device = values.device
    info = device.chain.certificates[0].tcb_info
    return {
        "chip": device.chain.chip,
        "pdi": None if device.chain.pdi is None else device.chain.pdi.hex(),
        "certificates": [certificate.subject_cn for certificate in device.chain.certificates],
        "dice_flags": None if info is None else [*sorted(info.flags)],
        "root_sha256": device.chain.root_sha256.hex(),
        "revocation": _revocation(values.revocation),
        "rims": {source: _rim(rim, values.rim_revocation[source]) for source, rim in values.rims.items()},
    }


def _revocation(found: RevocationFinding) -> dict[str, Json]:
    return {
        "checked": str(found.checked),
        "checked_at": None if found.checked_at is None else timestamp(found.checked_at),
        "valid_until": None if found.valid_until is None else timestamp(found.valid_until),
        "unchecked": list(found.unchecked),
    }


def _rim(found: VerifiedRim, revocation: RevocationFinding) -> dict[str, Json]:
    rim = found.rim
    return {
        "sha256": rim.sha256.hex(),
        "tag_id": rim.tag_id,
        "product": rim.product,
        "version": rim.version,
        "signer": found.chain[0].subject_cn,
        "signer_sha256": found.chain[0].sha256.hex(),
        "not_before": timestamp(max(one.not_before for one in found.chain)),
        "not_after": timestamp(min(one.not_after for one in found.chain)),
        "active": len(rim.active),
        "root_sha256": found.root_sha256.hex(),
        "revocation": _revocation(revocation),
    }


def _comparison(comparison: Comparison) -> dict[str, Json]:
    return {
        "golden": comparison.golden,
        "records": [
            {
                "index": record.index,
                "source": record.source,
                "outcome": str(record.outcome),
                "golden": [value.hex() for value in record.golden],
                "actual": None if record.actual is None else record.actual.hex(),
                "reason": record.reason,
                "hint": record.hint,
            }
            for record in comparison.records
        ],
        "unmeasured": list(comparison.unmeasured),
    }
