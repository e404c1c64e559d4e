"""A live endpoint's evidence: a genuine report, the right code, and keys that the report vouches for.

Authenticity ends at the first failure; appraisal and binding collect all of theirs, so that one look shows everything
that is wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256

from ..endorsements.collateral_bundle import TdxCollateral, parse_collateral
from ..endorsements.rim_store import RimStore
from ..errors import Check, CheckResult, Status, Value, VerificationError
from ..evidence.bundle import Bundle, TdxEvidence, parse_bundle
from ..evidence.gpu_evidence import gpu_digest
from ..evidence.gpu_part import GpuPart
from ..evidence.statement import PROFILE_OHTTP, Statement, gpu_nonce, parse_statement, report_data
from .appraise import appraise_snp
from .appraise_gpu import appraise_gpus
from .appraise_tdx import appraise_tdx
from .gpu_machine import GpuMaterial, VerifiedGpus, verify_gpus
from .gpu_revocation import RevocationMaterial
from .policy import BindingPolicy, Policy
from .result import AttestationResult
from .snp import verify_snp
from .snp_endorsements import SnpEndorsements
from .tdx import verify_tdx
from .verified import VerifiedSnp
from .verified_tdx import VerifiedTdx

_REFERENCE = "binding statement, key {}"


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedBundle:
    """What a bundle turned out to be; its keys may be used only if the result accepts.

    Attributes:
        result: verdict and all checks.
        verified: the genuine report or quote.
        gpus: the genuine GPUs and switches, or None where the machine shows none.
        statement: the statement that came with it.
        key_configs: the exact ``application/ohttp-keys`` bytes.
    """

    result: AttestationResult
    verified: VerifiedSnp | VerifiedTdx
    statement: Statement
    key_configs: bytes
    gpus: VerifiedGpus | None


def verify_bundle(
    data: bytes,
    policy: Policy,
    *,
    at: datetime,
    nonce: bytes | None,
    more_rims: tuple[bytes, ...] = (),
    collateral: TdxCollateral | None = None,
) -> VerifiedBundle:
    """Verify and appraise an evidence bundle.

    Args:
        data: the bundle as received, ``application/cmw+json``.
        policy: what the endpoint must be.
        at: the time of verification, aware.
        nonce: the 32 bytes that this client sent, or None if it sent none.
        more_rims: reference integrity manifests that this client has, beside those of the bundle.
        collateral: of a TD's platform, that this client has; it is taken in place of the bundle's.

    Returns:
        The result, accepted or rejected, with the keys that it speaks of.

    Raises:
        VerificationError: the report is not genuine, or that of a GPU is not.
        MalformedEvidence: the bundle or a part of it cannot be read.
        UnsupportedEvidence: the report is of a kind that is not supported.
        MaterialUnavailable: no RIM for a GPU of the machine, or no collateral for a TD's platform.
    """
    bundle = parse_bundle(data)
    statement = parse_statement(bundle.statement)
    appraised, verified = _appraised(bundle, policy, at, collateral)
    gpus = None
    if bundle.gpu is None:
        appraised = appraised.extended(_no_gpu(policy))
    else:
        try:
            gpus, of_gpus = _gpus(bundle.gpu, statement, policy, at, more_rims)
        except VerificationError as exc:
            raise VerificationError(exc.failed, (*appraised.checks, *exc.checks)) from exc
        appraised = appraised.joined(of_gpus, "gpu")
    found = _Binding()
    found.results.append(_covers(bundle.statement, verified))
    _binding(found, bundle, statement, policy.binding)
    _freshness(found, statement, policy.binding, nonce)
    _validity(found, statement, policy.binding, at)
    return VerifiedBundle(
        result=appraised.extended(found.results),
        verified=verified,
        statement=statement,
        key_configs=bundle.key_configs,
        gpus=gpus,
    )


def _appraised(
    bundle: Bundle, policy: Policy, at: datetime, collateral: TdxCollateral | None
) -> tuple[AttestationResult, VerifiedSnp | VerifiedTdx]:
    """The processor's evidence; a policy that names nothing for its TEE has no reference value, and so refuses it."""
    cpu, expected = bundle.cpu, report_data(bundle.statement)
    if isinstance(cpu, TdxEvidence):
        if collateral is None and cpu.collateral is not None:
            collateral = parse_collateral(cpu.collateral)
        quote = verify_tdx(cpu.quote, collateral, trust=policy.tdx_trust(), at=at)
        return appraise_tdx(quote, policy, report_data=expected, event_log=cpu.event_log), quote
    endorsements = SnpEndorsements(vek=cpu.vek, cas=cpu.cas, crls=cpu.crls)
    report = verify_snp(cpu.report, endorsements, trust=policy.trust(), at=at)
    return appraise_snp(report, policy, report_data=expected), report


def _gpus(
    part: GpuPart, statement: Statement, policy: Policy, at: datetime, more_rims: tuple[bytes, ...]
) -> tuple[VerifiedGpus, AttestationResult]:
    """The GPUs' evidence, over the nonce that follows from the statement: evidence for another one is another's."""
    material = GpuMaterial(
        rims=RimStore.of({f"rim {n}": data for n, data in enumerate((*part.rims, *more_rims))}),
        revocation=RevocationMaterial(crls=part.crls, ocsp=part.ocsp),
    )
    verified = verify_gpus(part.devices, material, trust=policy.gpu_trust(), at=at)
    return verified, appraise_gpus(verified, policy, nonce=gpu_nonce(statement), state=part.state)


def _no_gpu(policy: Policy) -> tuple[CheckResult, ...]:
    """What a policy that demands GPUs says to a machine that shows none."""
    wanted = policy.gpu.gpus
    status, message = Status.SKIP, "the machine shows no GPU, and the policy demands none"
    if wanted or policy.gpu.switches:
        status, message = Status.FAIL, "the machine shows no GPU"
    return (CheckResult(Check.GPU_DEVICES_COUNT, status, wanted, 0, "policy, gpu.gpus and gpu.switches", message),)


class _Binding:
    """Collects every result, failures too."""

    def __init__(self) -> None:
        self.results: list[CheckResult] = []

    def compare(self, check: Check, key: int, expected: Value, actual: Value, fault: str) -> None:
        """A pass if both are equal, else a failure for this fault."""
        self.judge(check, key, expected, actual, "" if expected == actual else fault)

    def judge(self, check: Check, key: int, expected: Value, actual: Value, fault: str) -> None:
        """A pass without a fault, else a failure for it."""
        status = Status.FAIL if fault else Status.PASS
        self.results.append(CheckResult(check, status, expected, actual, _REFERENCE.format(key), fault))

    def skip(self, check: Check, key: int, reason: str) -> None:
        self.results.append(CheckResult(check, Status.SKIP, None, None, _REFERENCE.format(key), reason))


def _binding(found: _Binding, bundle: Bundle, statement: Statement, policy: BindingPolicy) -> None:
    """What the statement says of machine and keys."""
    found.compare(Check.BINDING_PROFILE, 1, PROFILE_OHTTP, statement.profile, "the statement is for another protocol")
    found.compare(Check.BINDING_ROLE, 2, policy.role, statement.role, "the machine has another role")
    found.compare(
        Check.BINDING_KEY_CONFIG,
        3,
        statement.key_configs_sha256,
        sha256(bundle.key_configs).digest(),
        "the key configurations are not those that the statement names",
    )
    if statement.tls_spki_sha256 is None:
        found.skip(Check.BINDING_TLS_SPKI, 4, "no TLS ends inside of the machine")
    else:
        found.skip(Check.BINDING_TLS_SPKI, 4, "requests are sealed to HPKE keys; the TLS key that is named is not used")
    found.compare(
        Check.BINDING_GPU,
        9,
        statement.gpu_digest,
        None if bundle.gpu is None else gpu_digest(bundle.gpu.devices, bundle.gpu.state),
        "the GPU evidence is not that which the statement names: a device was swapped, added or left out",
    )
    for check, key, accepted, actual, what in (
        (
            Check.BINDING_RUNTIME_CONFIG,
            10,
            policy.runtime_config_sha256,
            statement.runtime_config_sha256,
            "run-time configuration",
        ),
        (Check.BINDING_IMAGE, 11, policy.image_sha256, statement.image_sha256, "image"),
    ):
        if accepted:
            fault = "" if actual in accepted else f"another {what} than the policy accepts"
            found.judge(check, key, accepted, actual, fault)
        else:
            found.skip(check, key, f"the policy names no {what}")


def _covers(statement: bytes, verified: VerifiedSnp | VerifiedTdx) -> CheckResult:
    """The arrow from the hardware's signature to every value in the statement."""
    if isinstance(verified, VerifiedTdx):
        actual, reference = verified.quote.body.report_data, "Intel TDX DCAP quote, TD report, 520"
    else:
        actual, reference = verified.report.report_data, "56860, ATTESTATION_REPORT, 0x050"
    expected = report_data(statement)
    holds = expected == actual
    return CheckResult(
        Check.BINDING_REPORT_DATA,
        Status.PASS if holds else Status.FAIL,
        expected,
        actual,
        reference,
        "" if holds else "the hardware signed another statement",
    )


def _freshness(found: _Binding, statement: Statement, policy: BindingPolicy, nonce: bytes | None) -> None:
    if nonce is not None:
        message = "the statement does not carry the nonce that was sent: the evidence may be old or somebody else's"
        found.compare(Check.BINDING_FRESHNESS, 5, nonce, statement.nonce, message)
        return
    message = "no nonce was sent, and nothing else shows when the evidence was made: no log is checked for its epoch"
    if policy.require_nonce:
        message = "the policy demands a nonce of this client, and none was sent"
    found.judge(Check.BINDING_FRESHNESS, 6, None, statement.epoch, message)


def _validity(found: _Binding, statement: Statement, policy: BindingPolicy, at: datetime) -> None:
    now, skew = at.timestamp(), policy.clock_skew_seconds
    lifetime = statement.expiry - statement.not_before
    message = ""
    if now < statement.not_before - skew:
        message = "the statement does not hold yet"
    elif now > statement.expiry + skew:
        message = "the statement has expired"
    elif lifetime > policy.maximum_lifetime_seconds:
        message = f"the statement holds for {lifetime} s, longer than the policy allows"
    window = f"{statement.not_before} to {statement.expiry}"
    found.judge(Check.BINDING_VALIDITY, 7, window, int(now), message)
