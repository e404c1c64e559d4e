"""How the TCB verdict of a TDX quote looks on a terminal: its parts, advisories, the trace of levels, and events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from rich.console import Console

    from ..verifier.result import AttestationResult

_GOOD = "UpToDate"


def show_tdx(console: Console, result: AttestationResult, *, events: bool) -> None:
    """Verdict and trace of a genuine quote, and the events of its log if asked for."""
    evidence: dict[str, Any] = result.evidence
    tcb = evidence.get("tcb")
    if tcb:
        console.print(_parts(tcb, evidence["endorsement"]))
        _advisories(console, tcb)
        console.print(_trace(tcb))
    log = evidence.get("event_log")
    if log and events:
        console.print(_events(log))


def _status(status: str | None) -> Text:
    if status is None:
        return Text("none of its own (version 1.0)")
    return Text(status, "green" if status == _GOOD else "yellow")


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", expand=False, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _parts(tcb: dict[str, Any], endorsement: dict[str, Any]) -> Table:
    info, identity = endorsement["tcb_info"], endorsement["qe_identity"]
    numbers = (info["evaluation_data_number"], identity["evaluation_data_number"])
    table = _table("TCB, by Intel", "part", "status", "tcbDate")
    for name, status, date in (
        ("platform", tcb["platform"], tcb["platform_date"]),
        ("TDX module", tcb["module"], tcb["module_date"]),
        ("quoting enclave", tcb["qe"], tcb["qe_date"]),
        ("converged", tcb["status"], tcb["date"]),
    ):
        table.add_row(name, _status(status), (date or "")[:10])
    table.caption = f"evaluation data numbers {numbers[0]} and {numbers[1]}, collateral valid until " + str(
        endorsement["valid_until"]
    )
    table.caption_justify = "left"
    return table


def _advisories(console: Console, tcb: dict[str, Any]) -> None:
    if not tcb["advisories"]:
        console.print(Text("no advisories"))
        return
    table = _table("Advisories", "id", "from")
    for advisory in tcb["advisories"]:
        table.add_row(advisory["id"], ", ".join(advisory["parts"]))
    console.print(table)


def _trace(tcb: dict[str, Any]) -> Table:
    table = _table("Levels that were looked at", "part", "level", "status", "found")
    for entry in tcb["trace"]:
        found = f"taken as {' and '.join(entry['chosen'])}" if entry["chosen"] else ""
        if entry["failed"]:
            missed = f"{entry['failed']} is {entry['actual']}, {entry['required']} needed"
            found = "; ".join(filter(None, (found, missed)))
        table.add_row(entry["part"], str(entry["level"]), entry["status"], found)
    return table


def _events(log: dict[str, Any]) -> Table:
    table = _table("Event log", "no.", "register", "event", "digest", "data")
    for event in log["events"]:
        label = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in event["label"])
        table.add_row(str(event["number"]), event["register"], Text(label), f"{event['digest'][:16]}…", event["data"])
    return table
