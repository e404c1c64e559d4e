"""Authenticity of all NVIDIA devices of a machine: reports, certificates, RIMs and revocation.

Every device must be genuine, each with its own checks; there is no subset that counts.  Which reference values a device
needs, its own report says; they are looked for among what the caller has, and a RIM that is missing is named by the id
under which NVIDIA serves it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import product

from ..endorsements.rim import RimNeed, rim_ids
from ..endorsements.rim_store import RimStore
from ..errors import CheckResult, Error, MalformedEvidence, MaterialUnavailable, UsageError, VerificationError
from ..evidence.gpu_evidence import GpuEvidence, subjects
from .checklist import Checklist
from .gpu import VerifiedDevice, verify_gpu_report
from .gpu_compare import Comparison, Outcome, compare
from .gpu_revocation import (
    DEVICE_INDEXES,
    RIM_INDEXES,
    RevocationFinding,
    RevocationMaterial,
    check_revocation,
)
from .gpu_rim import VerifiedRim, verify_rim
from .nras import NrasClaims, verify_nras
from .trust import GpuTrust

MOST_ISSUES = 8
"""Most issues of one RIM that are tried; NVIDIA is known to have issued two."""

_TOKEN = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuMaterial:
    """What a verifier needs beside the devices' evidence.

    Attributes:
        rims: reference integrity manifests.
        revocation: revocation lists and stored answers.
        nras: answer of NVIDIA's remote attestation service, in place of RIMs; None where there is none.
        nras_keys: that service's key set (JWKS), or None.
    """

    rims: RimStore = field(default_factory=RimStore)
    revocation: RevocationMaterial = field(default_factory=RevocationMaterial)
    nras: bytes | None = None
    nras_keys: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceValues:
    """A genuine device with the reference values that it needs.

    Attributes:
        device: the device.
        needs: which RIMs it needs, by its report; empty where none were asked for.
        rims: those that it was compared with, by source.
        comparison: with these RIMs; None where none were asked for.
        revocation: what was found out about the device's certificates.
        rim_revocation: and about those of the RIMs' signers, by source.
    """

    device: VerifiedDevice
    needs: tuple[RimNeed, ...]
    rims: Mapping[str, VerifiedRim]
    comparison: Comparison | None
    revocation: RevocationFinding
    rim_revocation: Mapping[str, RevocationFinding]


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedGpus:
    """Genuine devices; only :func:`verify_gpus` makes one.

    Attributes:
        devices: in the order of the evidence.
        token_claims: what NVIDIA's remote attestation service says of them in place of RIMs, or None.
        checks: every check that ran, in order.
        at: the time of verification.
    """

    devices: tuple[DeviceValues, ...]
    token_claims: NrasClaims | None
    checks: tuple[CheckResult, ...]
    at: datetime
    token: object

    def __post_init__(self) -> None:
        if self.token is not _TOKEN:
            raise TypeError("only verify_gpus() makes a VerifiedGpus")

    @property
    def simulated(self) -> bool:
        """Whether any root is a simulated one, or the attestation service is."""
        return (self.token_claims is not None and self.token_claims.simulated) or any(
            values.device.chain.simulated or any(rim.simulated for rim in values.rims.values())
            for values in self.devices
        )


def verify_gpus(
    devices: tuple[GpuEvidence, ...],
    material: GpuMaterial,
    *,
    trust: GpuTrust,
    at: datetime,
    reference_values: bool = True,
    zero_padding: bool = False,
) -> VerifiedGpus:
    """Verify that devices are genuine, and find the reference values that NVIDIA signed for them.

    Args:
        devices: all devices of the machine, at least one.
        material: RIMs and revocation.
        trust: simulated roots, and what is demanded of revocation.
        at: the time of verification, aware.
        reference_values: look for RIMs; without them only authenticity can be judged.
        zero_padding: zeros behind a report are tolerated, as a buffer of fixed size leaves them.

    Raises:
        VerificationError: a check failed.
        MaterialUnavailable: a RIM is missing; the message has the ids of all that are.
        MalformedEvidence: a report, a certificate or a RIM cannot be read.
        UnsupportedEvidence: a device of a kind that is not supported.
        UsageError: no device.
        ValueError: `at` has no time zone.
    """
    if at.tzinfo is None:
        raise ValueError("the time of verification needs a time zone")
    if not devices:
        raise UsageError("no device: there is nothing to verify")
    checks = Checklist()
    verified = []
    for evidence, subject in zip(devices, subjects(devices), strict=True):
        try:
            device = verify_gpu_report(evidence, trust=trust, at=at, subject=subject, zero_padding=zero_padding)
        except VerificationError as exc:
            raise VerificationError(exc.failed, (*checks.done(), *exc.checks)) from exc
        checks.extend(device.checks)
        verified.append(device)
    wanted = reference_values and material.nras is None
    needs = [_needs(device) if wanted else () for device in verified]
    material.rims.require(need for wanted_by_one in needs for need in wanted_by_one)
    values = tuple(
        _values(device, need, material, trust=trust, at=at, checks=checks)
        for device, need in zip(verified, needs, strict=True)
    )
    return VerifiedGpus(
        devices=values,
        token_claims=_token_claims(verified, material, trust=trust, at=at, checks=checks),
        checks=checks.done(),
        at=at,
        token=_TOKEN,
    )


def _needs(device: VerifiedDevice) -> tuple[RimNeed, ...]:
    """The RIMs that a device needs, by its report."""
    try:
        return rim_ids(device.report, device.chain.chip)
    except MalformedEvidence as exc:
        raise MalformedEvidence(f"{device.subject}: {exc}", check=exc.check) from exc


def _token_claims(
    devices: list[VerifiedDevice], material: GpuMaterial, *, trust: GpuTrust, at: datetime, checks: Checklist
) -> NrasClaims | None:
    """What the remote attestation service says of exactly these devices, where the policy lets it."""
    if material.nras is None:
        return None
    if not trust.nras:
        raise UsageError(
            "a token of the remote attestation service is accepted only where policy gpu.nras.accept is true"
        )
    if material.nras_keys is None:
        raise MaterialUnavailable("no key set of the remote attestation service, so nothing says who signed its token")
    nonces = {device.report.nonce for device in devices}
    if len(nonces) != 1:
        raise UsageError("the service speaks of one nonce, and the reports carry different ones")
    return verify_nras(
        material.nras,
        material.nras_keys,
        nonce=nonces.pop(),
        ueids=tuple(device.ueid for device in devices),
        pins=trust.nras_signers,
        at=at,
        checks=checks,
    )


def _values(
    device: VerifiedDevice,
    needs: tuple[RimNeed, ...],
    material: GpuMaterial,
    *,
    trust: GpuTrust,
    at: datetime,
    checks: Checklist,
) -> DeviceValues:
    own = Checklist(checks.done(), subject=device.subject)
    before = len(checks.done())
    finding = check_revocation(
        device.chain.certificates, DEVICE_INDEXES, material.revocation, trust=trust, hold=False, at=at, checks=own
    )
    checks.extend(own.done()[before:])
    issues = [(need.source, _issues(device, need, material, trust=trust, at=at, checks=checks)) for need in needs]
    chosen, comparison = _best(device, needs, issues, trust)
    for issue in chosen.values():
        checks.extend(issue.checks)
    return DeviceValues(
        device=device,
        needs=needs,
        rims={source: issue.rim for source, issue in chosen.items()},
        comparison=comparison,
        revocation=finding,
        rim_revocation={source: issue.revocation for source, issue in chosen.items()},
    )


@dataclass(frozen=True, slots=True)
class _Issue:
    """One verified issue of a RIM."""

    rim: VerifiedRim
    revocation: RevocationFinding
    checks: tuple[CheckResult, ...]


def _issues(
    device: VerifiedDevice,
    need: RimNeed,
    material: GpuMaterial,
    *,
    trust: GpuTrust,
    at: datetime,
    checks: Checklist,
) -> tuple[_Issue, ...]:
    """Every genuine issue of a RIM: one that is not genuine does no harm to another that is.

    Raises:
        Error: the first error, if none is genuine.
    """
    found: list[_Issue] = []
    first: Error | None = None
    stored_issues = sorted(material.rims.find(need), key=lambda stored: stored.sha256 not in trust.rims)
    for stored in stored_issues[:MOST_ISSUES]:
        own = Checklist(subject=f"{device.subject} {need.source} RIM")
        try:
            rim = verify_rim(stored.data, trust=trust, at=at, checks=own, what=f"the {need.source} RIM")
            finding = check_revocation(
                rim.chain, RIM_INDEXES, material.revocation, trust=trust, hold=trust.allow_hold, at=at, checks=own
            )
        except VerificationError as exc:
            first = first or VerificationError(exc.failed, (*checks.done(), *exc.checks))
        except Error as exc:
            first = first or exc
        else:
            found.append(_Issue(rim, finding, own.done()))
    if first is not None and not found:
        raise first
    return tuple(found)


def _best(
    device: VerifiedDevice,
    needs: tuple[RimNeed, ...],
    issues: list[tuple[str, tuple[_Issue, ...]]],
    trust: GpuTrust,
) -> tuple[dict[str, _Issue], Comparison | None]:
    """The issues that the device matches; if it matches none, those that differ least, so that the reason is shown.

    NVIDIA re-issues a RIM under the same id with another value, and vouches for both.  A RIM that lies under the id of
    another one, or that the policy does not accept, stands behind one that would do.
    """
    if not issues:
        return {}, None
    best: tuple[tuple[int, bool, int], dict[str, _Issue], Comparison] | None = None
    sources = [source for source, _ in issues]
    for combination in product(*(found for _, found in issues)):
        chosen = dict(zip(sources, combination, strict=True))
        comparison = compare(device.report, {source: issue.rim.rim for source, issue in chosen.items()})
        unfit = sum(not _fits(need, chosen[need.source].rim, trust) for need in needs)
        wrong = len(comparison.indexes(Outcome.MISMATCHED) + comparison.indexes(Outcome.MISSING))
        rank = (unfit, not comparison.holds, wrong)
        if best is None or rank < best[0]:
            best = (rank, chosen, comparison)
        if not any(rank):
            break
    return ({}, None) if best is None else (best[1], best[2])


def _fits(need: RimNeed, found: VerifiedRim, trust: GpuTrust) -> bool:
    """Whether appraisal would take this issue for what it is, whatever its values."""
    return (
        found.rim.product in need.products
        and found.rim.version.upper() == need.version.upper()
        and (not trust.rims or found.rim.sha256 in trust.rims)
        and (not trust.rim_signers or found.chain[0].sha256 in trust.rim_signers)
    )
