"""``dokimos image diff``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from ..errors import ExitCode
from .render import console, print_json


@click.command()
@click.argument("old")
@click.argument("new")
@click.option("--exit-code", is_flag=True, help="End with 10 where something changed.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")
def diff(old: str, new: str, exit_code: bool, as_json: bool) -> None:
    """Tell what changed from the image in OLD to the one in NEW: packages, files, options, root hashes and digests."""
    from ..cvm_image.audit.diff import diff as diff_images  # noqa: PLC0415 - help need not pay

    found = diff_images(Path(old), Path(new))
    if as_json:
        print_json({**asdict(found), "identical": found.identical})
    else:
        out = console()
        for change in (*found.packages, *found.measured):
            out.print(
                f"[bold]{change.what}[/]: {change.old or 'not there'} -> {change.new or 'not there'}", soft_wrap=True
            )
        for item in found.files:
            was, is_ = item.a[:20] or "not there", item.b[:20] or "not there"
            out.print(f"{item.path}  {item.field}: {was} -> {is_}", soft_wrap=True)
        out.print("[bold green]nothing changed[/]" if found.identical else f"{len(found.files)} changes of files")
    if exit_code and not found.identical:
        raise click.exceptions.Exit(ExitCode.REJECTED)
