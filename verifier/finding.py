"""What an appraisal check looks at, and what it says: the vocabulary of the ``appraise`` modules."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeAlias, TypeVar
from uuid import UUID

from ..errors import Check, Status, Value
from ..evidence.snp import SnpReport, Tcb
from .policy_rules import BitRule, ReservedRule
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


S = TypeVar("S")


class RuleOf(NamedTuple, Generic[S]):
    """One check of appraisal of one kind of evidence."""

    check: Check
    reference: str
    find: Callable[[S], Finding]


Rule: TypeAlias = RuleOf[Subject]
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


def one_bit(rule: BitRule, bit: bool, name: str) -> Finding:
    """A bit and what the policy says of it."""
    if rule is BitRule.ANY:
        return skipped("the policy accepts both values", actual=int(bit))
    return held(rule.allows(bit), f"{name} is {int(bit)}", expected=str(rule), actual=int(bit))


def one_of(accepted: tuple[bytes, ...], actual: bytes | None, name: str) -> Finding:
    """A field that must have one of these values, where the policy names some."""
    if not accepted:
        return not_asked(actual)
    return held(actual in accepted, f"{name} is none of the accepted", expected=accepted, actual=actual)


def not_one_of(denied: tuple[bytes, ...], actual: bytes | None, name: str) -> Finding:
    """A field that must have none of these values, where the policy names some; a missing one cannot be ruled out."""
    if not denied:
        return not_asked(actual)
    if actual is None:
        return Finding(Status.FAIL, None, None, f"there is no {name}, so none can be ruled out")
    return held(actual not in denied, f"{name} is denied", actual=actual)


def reported(rule: ReservedRule, message: str, actual: Value) -> Finding:
    """`message` is empty where all is as the ABI says."""
    if not message:
        return Finding(Status.PASS, "as the ABI says", actual)
    if rule is ReservedRule.REPORT:
        return skipped(f"{message}; the policy lets that be reported only", actual=actual)
    return Finding(Status.FAIL, "as the ABI says", actual, message)


class ReportData(NamedTuple):
    """What the policy and the caller expect of the 64 bytes that a report carries for its caller."""

    value: bytes | None
    prefix: bytes | None
    binding: bool
    given: bytes | None

    def find(self, actual: bytes, name: str) -> Finding:
        """Whether all of them hold."""
        if self.binding and self.given is None:
            message = "the policy demands the binding, and the caller gave no expected value"
            return Finding(Status.FAIL, None, actual, message)
        wanted = [self.given] if self.given is not None else []
        if self.value:
            wanted.append(self.value)
        if self.prefix is not None:
            wanted.append(self.prefix.ljust(64, b"\0"))
        if not wanted:
            return skipped("neither the policy nor the caller expects a value", actual=actual)
        expected = wanted[0] if len(set(wanted)) == 1 else tuple(wanted)
        return held(set(wanted) == {actual}, f"{name} is not the expected", expected=expected, actual=actual)


def exact(wanted: bytes | None, actual: bytes, name: str) -> Finding:
    """A field that must have one value, where the policy gives one."""
    if wanted is None:
        return not_asked(actual)
    return held(actual == wanted, f"{name} is not the expected", expected=wanted, actual=actual)
