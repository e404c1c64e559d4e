"""Expected beside actual: a TD's event log against what its launch should have measured, event by event.

A log is paired with the expected events register by register, by what each event is; whatever is left over on either
side is shown as such.  Digests of a log prove nothing by themselves: only where they replay to the registers of a
quote, and that quote is verified (``dokimos verify tdx``), are they what the TD measured.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from enum import StrEnum
from typing import Final

from ..evidence.ccel import Event, EventKind, EventLog, EventType, describe, kind, replay
from ..evidence.tdx import TdReport
from .explain_tdx_causes import cause
from .firmware_profile import Generation
from .rtmr import ExpectedEvent
from .tdvf import parse_tdvf
from .tdx import REGISTERS, TdxLaunch, TdxMeasurements, boot_profile, launch_events, tdx_measurements

_RUN_TIME: Final = 3
"""RTMR3 is the guest's: no firmware or boot loader extends it."""
_NOTES = (" (data only)", " (whole variable)")


class Verdict(StrEnum):
    """How an expected event stands to the log.

    MISSING: the log has none such in its place.  EXTRA: the log has one that is not expected.  OPEN: there is no
    expected digest.  RUN_TIME: the guest's own, about which a launch says nothing.
    """

    EQUAL = "equal"
    DIFFERENT = "different"
    MISSING = "missing"
    EXTRA = "extra"
    OPEN = "open"
    RUN_TIME = "run-time"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the comparison.

    Attributes:
        register: number of the RTMR.
        verdict: the outcome.
        label: what the event is.
        id: of the expected event; empty where none is.
        expected: digest, or None where it is open or no event is expected.
        actual: digest in the log, or None where the log has no such event.
        number: place in the log, or None likewise.
        cause: what it comes from, as far as this side can tell; else empty.
    """

    register: int
    verdict: Verdict
    label: str
    id: str = ""
    expected: bytes | None = None
    actual: bytes | None = None
    number: int | None = None
    cause: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisterRow:
    """One register.

    Attributes:
        name: "MRTD" or "RTMR0" to "RTMR3".
        verdict: expected beside quote, or beside the log where there is no quote.
        expected: values that are right: two for MRTD, by the order of pages; none where it is open.
        log: what the log replays to; None for MRTD.
        quote: the quote's value, or None without one.
        cause: what it comes from; else empty.
    """

    name: str
    verdict: Verdict
    expected: tuple[bytes, ...]
    log: bytes | None
    quote: bytes | None
    cause: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """A log explained.

    Attributes:
        measurements: what was expected.
        rows: events of RTMR0 to RTMR3, each register's in its order.
        registers: MRTD and RTMR0 to RTMR3.
        causes: what the differences come from, the first first.
    """

    measurements: TdxMeasurements
    rows: tuple[Row, ...]
    registers: tuple[RegisterRow, ...]
    causes: tuple[str, ...]

    @property
    def first(self) -> Row | None:
        """The first event that differs, in the order of the log as far as it is in it; None where none does."""
        return next(iter(_wrong_in_order(self.rows)), None)

    @property
    def verdict(self) -> Verdict:
        """DIFFERENT if anything is, else OPEN if anything is, else EQUAL."""
        found = {row.verdict for row in self.rows} | {row.verdict for row in self.registers}
        if found & _WRONG:
            return Verdict.DIFFERENT
        return Verdict.OPEN if Verdict.OPEN in found else Verdict.EQUAL


_WRONG: Final = frozenset({Verdict.DIFFERENT, Verdict.MISSING, Verdict.EXTRA})


def explain_tdx(launch: TdxLaunch, log: EventLog, report: TdReport | None = None) -> Explanation:
    """Compare a log, and a quote's body where there is one, with a launch.

    Args:
        launch: with a kernel or a unified kernel image.
        log: the event log.
        report: the body of a quote, whose signatures are not looked at here.

    Raises:
        MalformedEvidence: as :func:`dokimos.measurements.tdx.tdx_measurements`.
        UnsupportedEvidence: likewise.
        UsageError: likewise.
    """
    found = tdx_measurements(launch)
    rows: list[Row] = []
    for register in REGISTERS:
        rows += _compare(found.register_events(register), _of(log, register))
    rows = [row if row.verdict not in _WRONG else _explained(launch, row, log) for row in rows]
    rows += [_row(_RUN_TIME, Verdict.RUN_TIME, describe(event), actual=event) for event in _of(log, _RUN_TIME)]
    registers = _registers(found, log, report)
    structure = _generation(launch, log, rows)
    causes = [structure] if structure else []
    causes += [row.cause for row in _wrong_in_order(rows)]
    causes += [row.cause for row in registers if row.cause]
    return Explanation(measurements=found, rows=tuple(rows), registers=registers, causes=tuple(dict.fromkeys(causes)))


def _wrong_in_order(rows: Iterable[Row]) -> list[Row]:
    """What differs, in the order of the log; what is missing stands behind the event that it should have followed."""
    found: list[tuple[int, bool, Row]] = []
    last = dict.fromkeys((*REGISTERS, _RUN_TIME), 0)
    for row in rows:
        if row.number is not None:
            last[row.register] = row.number
        if row.verdict in _WRONG:
            found.append((last[row.register], row.number is None, row))
    return [row for *_, row in sorted(found, key=lambda item: item[:2])]


def _of(log: EventLog, register: int) -> list[Event]:
    return [event for event in log.events if event.mr == register + 1]


def _key(what: EventKind, label: str) -> tuple[EventKind, str]:
    """What an event is, whatever its digest: labels of a log hold more than an expected event can know."""
    for note in _NOTES:
        label = label.removesuffix(note)
    if what in (EventKind.GPT, EventKind.VARIABLE_AUTHORITY):
        label = ""
    elif what is EventKind.BOOT_APPLICATION and label.startswith("boot application"):
        label = "boot application"
    elif what is EventKind.BOOT_VARIABLE:
        label = label[:8]
    return what, label


def _log_key(event: Event) -> tuple[EventKind, str]:
    if event.type == EventType.EV_EFI_HANDOFF_TABLES:
        return EventKind.OTHER, "SMBIOS tables"
    return _key(kind(event), describe(event))


def _pairs(
    expected: Sequence[ExpectedEvent], actual: Sequence[Event]
) -> Iterable[tuple[ExpectedEvent | None, Event | None]]:
    """Events of both sides that are of the same kind, in order; what has no partner stands alone."""
    keys = [_key(event.kind, event.label) for event in expected], [_log_key(event) for event in actual]
    for tag, i, i_end, j, j_end in SequenceMatcher(None, *keys, autojunk=False).get_opcodes():
        if tag == "equal":
            yield from zip(expected[i:i_end], actual[j:j_end], strict=True)
        else:
            yield from ((event, None) for event in expected[i:i_end])
            yield from ((None, event) for event in actual[j:j_end])


def _compare(expected: Sequence[ExpectedEvent], actual: Sequence[Event]) -> list[Row]:
    rows = []
    for wanted, found in _pairs(expected, actual):
        if wanted is None:
            assert found is not None  # noqa: S101 - for the type checker
            rows.append(_row(found.mr - 1, Verdict.EXTRA, describe(found), actual=found))
        elif found is None:
            rows.append(_row(wanted.register, Verdict.MISSING, wanted.label, wanted=wanted))
        else:
            verdict = Verdict.OPEN if wanted.digest is None else Verdict.EQUAL
            if wanted.digest not in (None, found.digest):
                verdict = Verdict.DIFFERENT
            rows.append(_row(wanted.register, verdict, wanted.label, wanted=wanted, actual=found))
    return rows


def _row(
    register: int, verdict: Verdict, label: str, *, wanted: ExpectedEvent | None = None, actual: Event | None = None
) -> Row:
    return Row(
        register=register,
        verdict=verdict,
        label=label,
        id=wanted.id if wanted else "",
        expected=wanted.digest if wanted else None,
        actual=actual.digest if actual else None,
        number=actual.number if actual else None,
    )


def _explained(launch: TdxLaunch, row: Row, log: EventLog) -> Row:
    if row.verdict is Verdict.MISSING:
        return replace(row, cause=f"{row.label}: not in the log")
    if row.verdict is Verdict.EXTRA:
        return replace(row, cause=f"{row.label}: in the log, and not expected of this launch")
    event = next(event for event in log.events if event.number == row.number)
    return replace(row, cause=f"{row.label}: {cause(launch, row.id, event)}")


def _registers(found: TdxMeasurements, log: EventLog, report: TdReport | None) -> tuple[RegisterRow, ...]:
    rows = []
    if report is not None:
        candidates = (found.mrtd_single_pass, found.mrtd_two_pass)
        same = report.mrtd in candidates
        rows.append(
            RegisterRow(
                name="MRTD",
                verdict=Verdict.EQUAL if same else Verdict.DIFFERENT,
                expected=candidates,
                log=None,
                quote=report.mrtd,
                cause="" if same else "MRTD: the TD was started with other firmware",
            )
        )
    replayed = replay(log)
    values = (found.rtmr0, found.rtmr1, found.rtmr2, None)
    for register, (value, logged) in enumerate(zip(values, replayed, strict=True)):
        quoted = report.rtmrs[register] if report else None
        verdict, why = _register_verdict(register, value, logged, quoted)
        rows.append(
            RegisterRow(
                name=f"RTMR{register}",
                verdict=verdict,
                expected=(value,) if value else (),
                log=logged,
                quote=quoted,
                cause=why,
            )
        )
    return tuple(rows)


def _register_verdict(
    register: int, expected: bytes | None, logged: bytes, quoted: bytes | None
) -> tuple[Verdict, str]:
    if quoted not in (None, logged):
        return Verdict.DIFFERENT, f"RTMR{register}: the log does not replay to the quote: it is not the log of this TD"
    if register == _RUN_TIME:
        return Verdict.RUN_TIME, ""
    if expected is None:
        return Verdict.OPEN, ""
    return (Verdict.EQUAL if expected == logged else Verdict.DIFFERENT), ""


def _generation(launch: TdxLaunch, log: EventLog, rows: Iterable[Row]) -> str:
    """Whether the log's events come as another generation of edk2 makes them; empty where they do not."""

    def misplaced(found: Iterable[Row]) -> int:
        return sum(row.verdict in (Verdict.MISSING, Verdict.EXTRA) for row in found)

    least, best = misplaced(rows), ""
    if not least:
        return best
    tdvf = parse_tdvf(launch.firmware)
    for generation in Generation:
        other = replace(launch, generation=generation, digests={})
        events = launch_events(other, tdvf, boot_profile(other))
        found = [
            row
            for register in REGISTERS
            for row in _compare([event for event in events if event.register == register], _of(log, register))
        ]
        if misplaced(found) < least:
            least = misplaced(found)
            best = f"firmware: the log is made as firmware of generation {generation} makes it (--firmware-profile)"
    return best
