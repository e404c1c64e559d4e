"""A live endpoint's evidence: a genuine report, the right code, and keys that the report vouches for.

Authenticity ends at the first failure; appraisal and binding collect all of theirs, so that one look shows everything
that is wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256

from ..endorsements.collateral_bundle import parse_collateral
from ..errors import Check, CheckResult, Status, Value
from ..evidence.bundle import Bundle, TdxEvidence, parse_bundle
from ..evidence.statement import PROFILE_OHTTP, Statement, parse_statement, report_data
from .appraise import appraise_snp
from .appraise_tdx import appraise_tdx
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
        statement: the statement that came with it.
        key_configs: the exact ``application/ohttp-keys`` bytes.
    """

    result: AttestationResult
    verified: VerifiedSnp | VerifiedTdx
    statement: Statement
    key_configs: bytes


def verify_bundle(data: bytes, policy: Policy, *, at: datetime, nonce: bytes | None) -> VerifiedBundle:
    """Verify and appraise an evidence bundle.

    Args:
        data: the bundle as received, ``application/cmw+json``.
        policy: what the endpoint must be.
        at: the time of verification, aware.
        nonce: the 32 bytes that this client sent, or None if it sent none.

    Returns:
        The result, accepted or rejected, with the keys that it speaks of.

    Raises:
        VerificationError: the report is not genuine.
        MalformedEvidence: the bundle or a part of it cannot be read.
        UnsupportedEvidence: the report is of a kind that is not supported.
    """
    bundle = parse_bundle(data)
    statement = parse_statement(bundle.statement)
    appraised, verified = _appraised(bundle, policy, at)
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
    )


def _appraised(bundle: Bundle, policy: Policy, at: datetime) -> tuple[AttestationResult, VerifiedSnp | VerifiedTdx]:
    """The processor's evidence; a policy that names nothing for its TEE has no reference value, and so refuses it."""
    cpu, expected = bundle.cpu, report_data(bundle.statement)
    if isinstance(cpu, TdxEvidence):
        quote = verify_tdx(cpu.quote, parse_collateral(cpu.collateral), trust=policy.tdx_trust(), at=at)
        return appraise_tdx(quote, policy, report_data=expected, event_log=cpu.event_log), quote
    endorsements = SnpEndorsements(vek=cpu.vek, cas=cpu.cas, crls=cpu.crls)
    report = verify_snp(cpu.report, endorsements, trust=policy.trust(), at=at)
    return appraise_snp(report, policy, report_data=expected), report


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
        None,
        statement.gpu_digest,
        "the statement names GPU evidence, which this version does not verify",
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
