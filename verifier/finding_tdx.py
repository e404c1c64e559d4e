"""What an appraisal check of a TDX quote looks at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from ..errors import Check
from ..evidence.ccel import EventLog
from ..evidence.tdx import TdReport
from .finding import Finding, RuleOf
from .tdx_policy import TdxPolicy
from .verified_tdx import VerifiedTdx

BODY = "Intel TDX DCAP quote, TD report"
"""The clause of every field of the body; an offset follows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is appraised, and by what.

    Attributes:
        verified: the verified quote.
        report: the TD report in it.
        policy: the policy's part for TDX.
        report_data: the 64 bytes that the caller expects, or None.
        log: the event log, or None where the evidence came without one.
        replayed: RTMR0 to RTMR3 as the log gives them; None without a log.
        events: what the checks of events find.
        genuine_only: nothing but authenticity is asked for.
    """

    verified: VerifiedTdx
    report: TdReport
    policy: TdxPolicy
    report_data: bytes | None
    log: EventLog | None
    replayed: tuple[bytes, ...] | None
    events: Mapping[Check, Finding]
    genuine_only: bool

    def believed(self) -> bool:
        """Whether there is a log, and it gives every RTMR of the quote."""
        return self.replayed == self.report.rtmrs


Rule: TypeAlias = RuleOf[Subject]
Rules: TypeAlias = tuple[Rule, ...]
