"""What an appraisal check looks at, and what it says: the vocabulary of the ``appraise`` modules."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias
from uuid import UUID

from ..errors import Check, Status, Value
from ..evidence.snp import SnpReport, Tcb
from .snp_policy import SnpPolicy
from .verified import VerifiedSnp

ABI = "56860, ATTESTATION_REPORT"
"""The clause of every field of the report; an offset follows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is appraised, and by what.

    Attributes:
        verified: the verified report.
        report: the report in it.
        policy: the policy's part for SNP.
        report_data: the 64 bytes that the caller expects, or None.
        cert_table: contents of the certificate table by GUID, or None where the evidence came without one.
        current: CURRENT_TCB by the product's layout; likewise the other three.
    """

    verified: VerifiedSnp
    report: SnpReport
    policy: SnpPolicy
    report_data: bytes | None
    cert_table: Mapping[UUID, bytes] | None
    current: Tcb
    reported: Tcb
    committed: Tcb
    launch: Tcb


class Finding(NamedTuple):
    """What a check found."""

    status: Status
    expected: Value = None
    actual: Value = None
    message: str = ""


class Rule(NamedTuple):
    """One check of appraisal."""

    check: Check
    reference: str
    find: Callable[[Subject], Finding]


Rules: TypeAlias = tuple[Rule, ...]


def held(holds: bool, message: str, *, expected: Value = None, actual: Value = None) -> Finding:
    """A pass, or a failure with the message."""
    return Finding(Status.PASS, expected, actual) if holds else Finding(Status.FAIL, expected, actual, message)


def skipped(reason: str, *, actual: Value = None) -> Finding:
    """The policy does not ask, or the question does not arise; the reason is shown."""
    return Finding(Status.SKIP, None, actual, reason)


def not_asked(actual: Value = None) -> Finding:
    """The policy says nothing."""
    return skipped("the policy does not ask", actual=actual)


def exact(wanted: bytes | None, actual: bytes, name: str) -> Finding:
    """A field that must have one value, where the policy gives one."""
    if wanted is None:
        return not_asked(actual)
    return held(actual == wanted, f"{name} is not the expected", expected=wanted, actual=actual)
