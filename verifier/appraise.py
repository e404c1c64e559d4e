"""Appraisal: does a genuine report say what the policy wants?

Every check of :data:`RULES` appears in the result exactly once, as pass, fail or skip; all failures are collected.
Only a :class:`~.verified.VerifiedSnp` is taken, which only verification makes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from uuid import UUID

from ..errors import Check, CheckResult, UsageError
from ..evidence.snp import Tcb
from .appraise_identity import IDENTITY, SIGNER
from .appraise_platform import FIRMWARE, GUEST, PLATFORM
from .finding import Rules, Subject, skipped
from .policy import Policy
from .result import AttestationResult, snp_evidence
from .verified import VerifiedSnp

RULES: Final[Rules] = IDENTITY + SIGNER + GUEST + PLATFORM + FIRMWARE
"""Every check of appraisal, in the order of the result."""

_ALWAYS: Final = frozenset({Check.SNP_SIMULATED})
_AUTHENTIC_ONLY: Final = skipped("only authenticity was asked for")


def appraise_snp(
    verified: VerifiedSnp,
    policy: Policy,
    *,
    authentic_only: bool = False,
    report_data: bytes | None = None,
    cert_table: Mapping[UUID, bytes] | None = None,
) -> AttestationResult:
    """Appraise a verified report.

    Args:
        verified: what :func:`~.snp.verify_snp` returned.
        policy: what it must be.
        authentic_only: look at nothing but whether a simulated root is named by the policy; every other check is a
            skip, also those of debug and of the reference values.
        report_data: the 64 bytes that REPORT_DATA must be, beside what the policy says; None where the caller has none.
        cert_table: contents of the extended report's certificate table by GUID; None where there is none.

    Returns:
        The checks of verification followed by those of appraisal; accepted if none of them failed.

    Raises:
        UsageError: `report_data` is not 64 bytes.
        TypeError: `verified` is not verified evidence.
    """
    if not isinstance(verified, VerifiedSnp):
        raise TypeError("only verified evidence is appraised")
    if report_data is not None and len(report_data) != 64:
        raise UsageError(f"REPORT_DATA has 64 bytes, not {len(report_data)}")
    report, product = verified.report, verified.product
    subject = Subject(
        verified=verified,
        report=report,
        policy=policy.snp,
        report_data=report_data,
        cert_table=cert_table,
        current=Tcb.from_bytes(report.current_tcb, product),
        reported=Tcb.from_bytes(report.reported_tcb, product),
        committed=Tcb.from_bytes(report.committed_tcb, product),
        launch=Tcb.from_bytes(report.launch_tcb, product),
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
        evidence=snp_evidence(report, verified),
        policy=policy,
    )
