"""``dokimos explain``: expected beside actual, and what moved a measurement."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ..errors import ExitCode, UsageError
from .measure_tdx import document
from .render import console, print_json, read_file
from .tdx_launch import LaunchOptions, launch_options, read_launch

if TYPE_CHECKING:
    from typing import Unpack

    from rich.console import Console

    from ..measurements.explain_tdx import Explanation, RegisterRow, Row

_LOG = 16 << 20
_QUOTE = 1 << 20
_STYLES = {
    "equal": "[green]equal[/]",
    "open": "[yellow]open[/]",
    "run-time": "[dim]run-time[/]",
    "different": "[bold red]different[/]",
    "missing": "[bold red]missing[/]",
    "extra": "[bold red]extra[/]",
}


@click.group()
def command() -> None:
    """Explain measured events: expected beside actual, and what moved them."""


@command.command("tdx")
@click.option("--event-log", metavar="FILE", required=True, help="The TD's event log (CCEL data).")
@click.option("--quote", metavar="FILE", help="A quote, for its registers; its signatures are not looked at here.")
@launch_options
@click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")
def _tdx(event_log: str, quote: str | None, as_json: bool, **options: Unpack[LaunchOptions]) -> None:
    """Compare a TD's event log with its launch, event by event, and name what differs.

    Ends with 0 where all is equal, with 10 where something differs, and with 40 where something is open: an event whose
    expected digest nobody gave.
    """
    from ..evidence.ccel import parse_ccel  # noqa: PLC0415 - help need not pay
    from ..evidence.tdx import parse_quote  # noqa: PLC0415
    from ..measurements.explain_tdx import Verdict, explain_tdx  # noqa: PLC0415

    if options["kernel"] is None and options["uki"] is None:
        raise UsageError("--kernel or --uki is needed: an event log is one of a boot")
    log = parse_ccel(read_file(event_log, "event log", _LOG))
    report = parse_quote(read_file(quote, "quote", _QUOTE)).body if quote else None
    launch, _ = read_launch(options)
    found = explain_tdx(launch, log, report)
    if as_json:
        print_json({"schema": "dokimos.explain.tdx/v1", **_document(found)})
    else:
        _show(found, quoted=report is not None)
    code = {Verdict.EQUAL: ExitCode.ACCEPTED, Verdict.OPEN: ExitCode.UNAVAILABLE}
    raise click.exceptions.Exit(code.get(found.verdict, ExitCode.REJECTED))


def _document(found: Explanation) -> dict[str, object]:
    first = found.first
    return {
        "verdict": str(found.verdict),
        "causes": list(found.causes),
        "first": _row(first) if first else None,
        "registers": [_register(row) for row in found.registers],
        "events": [_row(row) for row in found.rows],
        "expected": document(found.measurements),
    }


def _hex(value: bytes | None) -> str | None:
    return None if value is None else value.hex()


def _row(row: Row) -> dict[str, object]:
    return {
        "register": f"RTMR{row.register}",
        "number": row.number,
        "id": row.id or None,
        "label": row.label,
        "verdict": str(row.verdict),
        "expected": _hex(row.expected),
        "actual": _hex(row.actual),
        "cause": row.cause,
    }


def _register(row: RegisterRow) -> dict[str, object]:
    return {
        "name": row.name,
        "verdict": str(row.verdict),
        "expected": [value.hex() for value in row.expected],
        "log": _hex(row.log),
        "quote": _hex(row.quote),
        "cause": row.cause,
    }


def _show(found: Explanation, *, quoted: bool) -> None:
    out = console()
    _show_events(out, found)
    _show_registers(out, found, quoted=quoted)
    for number, cause in enumerate(found.causes):
        out.print(f"[bold red]{'first' if number == 0 else 'then'}[/] {_plain(cause)}", soft_wrap=True)
    out.print(
        {"equal": "[bold green]EQUAL[/]", "open": "[bold yellow]OPEN[/]"}.get(found.verdict, "[bold red]DIFFERENT[/]")
    )
    if quoted:
        out.print("[dim]the quote was read, not verified: `dokimos verify tdx` does that[/]")


def _plain(text: str) -> str:
    """Text of a log, which must not be taken for markup."""
    return text.replace("[", "\\[")


def _short(value: bytes | None) -> str:
    return "-" if value is None else value.hex()[:12]


def _show_events(out: Console, found: Explanation) -> None:
    from rich.table import Table  # noqa: PLC0415 - 50 ms that --json need not pay

    table = Table(title="Events", title_justify="left", title_style="bold")
    for column in ("#", "register", "event", "expected", "log", ""):
        table.add_column(column, overflow="fold", justify="right" if column == "#" else "left")
    for row in found.rows:
        expected, actual = _short(row.expected), _short(row.actual)
        number = "" if row.number is None else str(row.number)
        table.add_row(number, f"RTMR{row.register}", _plain(row.label), expected, actual, _STYLES[str(row.verdict)])
    out.print(table)


def _show_registers(out: Console, found: Explanation, *, quoted: bool) -> None:
    from rich.table import Table  # noqa: PLC0415 - as above

    table = Table(title="Registers", title_justify="left", title_style="bold")
    for column in ("register", "expected", "log", *(("quote",) if quoted else ()), ""):
        table.add_column(column, overflow="fold")
    for row in found.registers:
        expected = " or ".join(_short(value) for value in row.expected) or "-"
        quote = (_short(row.quote),) if quoted else ()
        table.add_row(row.name, expected, _short(row.log), *quote, _STYLES[str(row.verdict)])
    out.print(table)
