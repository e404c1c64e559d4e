"""Times in which certificates, lists and vendor documents are valid."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from ..errors import Check, CheckResult
from .checklist import Checklist

_LISTS = frozenset(
    {
        Check.SNP_CRL_FRESH,
        Check.TDX_ROOT_CRL_STALE,
        Check.TDX_PCK_CRL_STALE,
        Check.GPU_CRL_STALE,
        Check.GPU_OCSP_STALE,
    }
)
"""Checks of revocation lists and answers, which grow stale and do not expire."""


class Window(NamedTuple):
    """A time in which something is valid, and the checks that fail before and after it, which may be the same one."""

    early: Check
    late: Check
    what: str
    not_before: datetime
    not_after: datetime
    expected: str
    """Both ends in words, written once: a kept chain is looked at for every report."""

    @classmethod
    def of(
        cls, check: Check, what: str, not_before: datetime, not_after: datetime, *, early: Check | None = None
    ) -> Window:
        """A window between two aware times, both included (RFC 5280 4.1.2.5).

        Args:
            check: the check that fails after the window, and before it too without `early`.
            what: what is valid, for the message.
            not_before: start.
            not_after: end.
            early: the check that fails before the window.
        """
        expected = f"{not_before.isoformat()} to {not_after.isoformat()}"
        return cls(early or check, check, what, not_before, not_after, expected)

    def require(self, checks: Checklist, at: datetime) -> None:
        """Record whether `at` lies inside.

        Raises:
            VerificationError: it does not.
        """
        if at < self.not_before:
            self._fail(checks, self.early, "is not yet valid", at)
        if self.early is not self.late:
            checks.passed(self.early, self.expected, None, "RFC 5280 4.1.2.5")
        if at > self.not_after:
            self._fail(checks, self.late, "is stale" if self.late in _LISTS else "has expired", at)
        checks.passed(self.late, self.expected, None, "RFC 5280 4.1.2.5")

    def _fail(self, checks: Checklist, check: Check, how: str, at: datetime) -> None:
        checks.failed(
            check,
            f"{self.what} {how}",
            expected=self.expected,
            actual=at.isoformat(),
            reference="RFC 5280 4.1.2.5",
        )


class Watch:
    """The checks of one verification at one time, and the windows that it looked at, to be looked at again later.

    Attributes:
        checks: the results so far.
        at: the time of verification, aware.
        windows: the windows so far.
    """

    __slots__ = ("at", "checks", "windows")

    def __init__(self, checks: Checklist, at: datetime) -> None:
        self.checks = checks
        self.at = at
        self.windows: list[Window] = []

    def within(self, what: str, early: Check, late: Check, times: tuple[datetime, datetime]) -> None:
        """Record whether it is between these times.

        Raises:
            VerificationError: it is not.
        """
        window = Window.of(late, what, *times, early=early)
        self.windows.append(window)
        window.require(self.checks, self.at)

    def settled(self, start: int) -> tuple[CheckResult, ...]:
        """The results from this number on that do not depend on the time."""
        dated = {check for window in self.windows for check in (window.early, window.late)}
        return tuple(result for result in self.checks.done()[start:] if result.id not in dated)
