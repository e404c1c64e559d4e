"""Appraisal of a TDX quote: does a genuine quote say what the policy wants?

Every check of :data:`RULES` appears in the result exactly once, as pass, fail or skip; all failures are collected.
Only a :class:`~.verified_tdx.VerifiedTdx` is taken, which only verification makes.
"""

from __future__ import annotations

from typing import Final

from ..errors import Check, CheckResult, UsageError
from ..evidence.ccel import parse_ccel, replay
from .appraise_tdx_events import event_findings
from .appraise_tdx_identity import CLAIMS, CODE, SIGNER
from .appraise_tdx_platform import LAUNCH, TCB
from .finding import skipped
from .finding_tdx import Rules, Subject
from .policy import Policy
from .result import AttestationResult
from .tdx_result import tdx_evidence
from .verified_tdx import VerifiedTdx

RULES: Final[Rules] = CODE + CLAIMS + SIGNER + LAUNCH + TCB
"""Every check of appraisal, in the order of the result."""

_ALWAYS: Final = frozenset({Check.TDX_SIMULATED, Check.TDX_TCB_STATUS})
_AUTHENTIC_ONLY: Final = skipped("only authenticity was asked for")


def appraise_tdx(
    verified: VerifiedTdx,
    policy: Policy,
    *,
    authentic_only: bool = False,
    report_data: bytes | None = None,
    event_log: bytes | None = None,
) -> AttestationResult:
    """Appraise a verified quote.

    Args:
        verified: what :func:`~.tdx.verify_tdx` returned.
        policy: what it must be.
        authentic_only: look at nothing but whether a simulated root is named by the policy, and whether Intel vouches
            for the platform at all: a TCB that is revoked or not supported is refused.  Every other check is a skip,
            also those of debug and of the reference values.
        report_data: the 64 bytes that REPORTDATA must be, beside what the policy says; None where the caller has none.
        event_log: the event log (data of the ACPI table CCEL); None where there is none.

    Returns:
        The checks of verification followed by those of appraisal; accepted if none of them failed.

    Raises:
        UsageError: `report_data` is not 64 bytes.
        MalformedEvidence: the event log cannot be read.
        UnsupportedEvidence: the event log is of a kind that is not supported.
        TypeError: `verified` is not verified evidence.
    """
    if not isinstance(verified, VerifiedTdx):
        raise TypeError("only verified evidence is appraised")
    if report_data is not None and len(report_data) != 64:
        raise UsageError(f"REPORTDATA has 64 bytes, not {len(report_data)}")
    report = verified.quote.body
    log = None if event_log is None else parse_ccel(event_log)
    replayed = None if log is None else replay(log)
    subject = Subject(
        verified=verified,
        report=report,
        policy=policy.tdx,
        report_data=report_data,
        log=log,
        replayed=replayed,
        events=event_findings(log, policy.tdx, believed=replayed == report.rtmrs),
        genuine_only=authentic_only,
    )
    found = []
    for rule in RULES:
        run = not authentic_only or rule.check in _ALWAYS
        status, expected, actual, message = rule.find(subject) if run else _AUTHENTIC_ONLY
        found.append(CheckResult(rule.check, status, expected, actual, rule.reference, message))
    return AttestationResult.of(
        (*verified.checks, *found),
        at=verified.at,
        simulated=verified.simulated,
        evidence=tdx_evidence(verified.quote, verified, log),
        policy=policy,
    )
