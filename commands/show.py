"""How results look on a terminal: one table of checks, one line of verdict."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from ..errors import Check, CheckResult, Status, Value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console

    from ..verifier.result import AttestationResult

_STYLES = {Status.PASS: "green", Status.FAIL: "bold red", Status.SKIP: "yellow"}
_WIDTH = 36


def value_text(value: Value, width: int = _WIDTH) -> str:
    """A value of a check in at most `width` characters, the middle left out; bytes in hex."""
    if value is None:
        return ""
    if isinstance(value, tuple):
        text = ", ".join(value_text(part, width) for part in value)
    else:
        text = value.hex() if isinstance(value, bytes) else str(value)
    if len(text) <= width:
        return text
    return f"{text[: width // 2]}…{text[-(width // 2 - 1) :]}"


def check_table(checks: tuple[CheckResult, ...], *, title: str, skips: bool = False) -> Table:
    """One row per check; checks that did not run only with `skips`.

    Of several devices, those that pass a check share one row, unless `skips` asks for everything.
    """
    table = Table(title=title, title_justify="left", title_style="bold", expand=False, pad_edge=False)
    table.add_column("check", no_wrap=True)
    of_devices = any(check.subject for check in checks)
    if of_devices:
        table.add_column("of")
    table.add_column("status")
    table.add_column("found", overflow="fold")
    for check, number in _rows(checks, apart=skips):
        if check.status is Status.SKIP and not skips:
            continue
        found = value_text(check.actual) if number == 1 else ""
        if check.status is Status.FAIL:
            wanted = value_text(check.expected)
            found = "; ".join(filter(None, (check.message, wanted and f"wanted {wanted}", found and f"found {found}")))
        elif check.status is Status.SKIP:
            found = check.message
        subject = [f"{check.subject} and {number - 1} more" if number > 1 else check.subject] if of_devices else []
        table.add_row(str(check.id), *subject, Text(str(check.status), _STYLES[check.status]), found)
    return table


def _rows(checks: tuple[CheckResult, ...], *, apart: bool) -> Iterator[tuple[CheckResult, int]]:
    """Each check with how many devices it stands for; passes of one check stand where the first of them stands."""
    devices = {(check.id, check.subject) for check in checks if check.subject and check.status is Status.PASS}
    passed = Counter(name for name, _ in devices)
    shown: set[Check] = set()
    for check in checks:
        if apart or not check.subject or check.status is not Status.PASS:
            yield check, 1
        elif check.id not in shown:
            shown.add(check.id)
            yield check, passed[check.id]


def verdict_line(result: AttestationResult) -> Text:
    """The verdict, what ran, what is known of revocation, and SIMULATED where nothing is proven about hardware."""
    accepted = result.verdict == "accepted"
    line = Text(result.verdict.upper(), "bold green" if accepted else "bold red")
    counts = {status: sum(check.status is status for check in result.checks) for status in Status}
    line.append(
        f"  {counts[Status.PASS]} checks passed, {counts[Status.FAIL]} failed, {counts[Status.SKIP]} did not run;"
        f" revocation {result.revocation}",
        "none",
    )
    if result.simulated:
        line.append("\nSIMULATED: this evidence proves nothing about hardware", "bold yellow")
    return line


def show_result(
    console: Console,
    result: AttestationResult,
    *,
    title: str,
    skips: bool = False,
    more: Callable[[Console, AttestationResult], None] | None = None,
) -> None:
    """Table, what belongs to this kind of evidence alone, and verdict."""
    console.print(check_table(result.checks, title=title, skips=skips))
    if more is not None:
        more(console, result)
    console.print(verdict_line(result))
