"""Collects the results of checks in order; the first failure ends authenticity."""

from __future__ import annotations

from typing import NoReturn

from ..errors import Check, CheckResult, Status, Value, VerificationError


class Checklist:
    """Results of the checks that ran so far.

    Args:
        before: results of earlier steps, which come first.
        subject: name of the device where the evidence is of several; it stands in every result that is recorded here.
    """

    __slots__ = ("_results", "_subject")

    def __init__(self, before: tuple[CheckResult, ...] = (), *, subject: str = "") -> None:
        self._results = list(before)
        self._subject = subject

    def done(self) -> tuple[CheckResult, ...]:
        """Every result, in order."""
        return tuple(self._results)

    def extend(self, results: tuple[CheckResult, ...]) -> None:
        """Record results of an earlier verification."""
        self._results.extend(results)

    def passed(self, check: Check, expected: Value = None, actual: Value = None, reference: str = "") -> None:
        """Record a pass."""
        self._results.append(CheckResult(check, Status.PASS, expected, actual, reference, "", self._subject))

    def skipped(self, check: Check, reason: str, reference: str = "") -> None:
        """Record that a check did not run, and why."""
        self._results.append(CheckResult(check, Status.SKIP, None, None, reference, reason, self._subject))

    def failed(
        self, check: Check, message: str, *, expected: Value = None, actual: Value = None, reference: str = ""
    ) -> NoReturn:
        """Record a failure and end.

        Raises:
            VerificationError: always.
        """
        result = CheckResult(check, Status.FAIL, expected, actual, reference, message, self._subject)
        raise VerificationError(result, (*self._results, result))

    def require(
        self,
        holds: bool,
        check: Check,
        message: str,
        *,
        expected: Value = None,
        actual: Value = None,
        reference: str = "",
    ) -> None:
        """Record a pass if the condition holds, else fail with the message.

        Raises:
            VerificationError: it does not hold.
        """
        if not holds:
            self.failed(check, message, expected=expected, actual=actual, reference=reference)
        self.passed(check, expected, actual, reference)
