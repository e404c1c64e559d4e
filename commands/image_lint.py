"""``dokimos image lint``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from ..errors import ExitCode
from .render import console, print_json


@click.command()
@click.argument("folder", metavar="DIR")
@click.option("--overlay", metavar="DIR", multiple=True, help="The folder of overlays beside an own profile.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")
def lint(folder: str, overlay: tuple[str, ...], as_json: bool) -> None:
    """Check the image in DIR against the rules of hardening; ends with 10 where one does not hold."""
    from ..cvm_image.audit.lint import lint as lint_image  # noqa: PLC0415 - help need not pay

    results = lint_image(Path(folder), map(Path, overlay))
    if as_json:
        print_json([{**asdict(result), "passed": result.passed} for result in results])
    else:
        from rich.table import Table  # noqa: PLC0415

        table = Table(title="Rules of hardening", title_justify="left", title_style="bold")
        for column in ("rule", "", "found"):
            table.add_column(column, overflow="fold")
        for result in results:
            mark = "[green]pass[/]" if result.passed else "[yellow]skip[/]" if result.skipped else "[bold red]fail[/]"
            table.add_row(str(result.rule), mark, result.skipped or "\n".join(result.findings))
        console().print(table)
    if any(result.findings for result in results):
        raise click.exceptions.Exit(ExitCode.REJECTED)
