"""``dokimos image check``."""

from __future__ import annotations

import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import ExitCode, MaterialUnavailable
from .model import progress
from .render import console, print_json

if TYPE_CHECKING:
    from ..cvm_image.audit.check import Report


@click.command()
@click.argument("profile")
@click.option("--lock", metavar="FILE", help="The lock; by default the one beside the profile.")
@click.option("--store", metavar="DIR", help="Where the locked files lie; by default the user's cache.")
@click.option("--bisect", is_flag=True, help="On a difference, turn the conditions off one by one.")
@click.option("--only", metavar="NAME", multiple=True, help="Vary only this.")
@click.option("--skip", metavar="NAME", multiple=True, help="Do not vary this.")
@click.option("--require", metavar="NAME", multiple=True, help="Fail where this cannot be varied; all for everything.")
@click.option("--html", metavar="FILE", help="Write the report as a page, too.")
@click.option("--diffoscope/--no-diffoscope", default=True, help="On a difference, ask diffoscope where installed.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")
def check(  # noqa: PLR0917 - one parameter per option
    profile: str,
    lock: str | None,
    store: str | None,
    bisect: bool,
    only: tuple[str, ...],
    skip: tuple[str, ...],
    require: tuple[str, ...],
    html: str | None,
    diffoscope: bool,
    as_json: bool,
) -> None:
    """Build PROFILE twice under different conditions and compare the images stage by stage.

    Ends with 0 where every byte is the same, and with 10 where one is not; the first stage and file that differ are
    named with the likely cause.
    """
    from ..cvm_image.audit.check import check as check_image  # noqa: PLC0415 - help need not pay
    from ..cvm_image.audit.check import choose, copy_inputs  # noqa: PLC0415
    from ..cvm_image.audit.compare import document  # noqa: PLC0415
    from ..cvm_image.audit.page import page  # noqa: PLC0415
    from ..cvm_image.profile import find_profile, load_profile, lock_path  # noqa: PLC0415
    from ..cvm_image.store import Store  # noqa: PLC0415

    place = (Path(lock) if lock else lock_path(profile)).resolve()
    chosen, left = choose(only, skip, require)
    with progress() as told, tempfile.TemporaryDirectory(prefix="dk-store-") as folder:
        # Copies that everybody may read, since one of the conditions is another user.
        files = copy_inputs(find_profile(profile), place, Store(Path(store) if store else None), Path(folder))
        command = [sys.executable, "-B", "-m", "dokimos", "image", "build", str(files[0]), "--lock", str(files[1])]
        command += ["--quiet", "--keep-archives", "--store", folder, "--output"]
        report = check_image(
            command, perturbations=chosen, not_varied=left, bisect=bisect, deeper=diffoscope, told=told
        )
    if html:
        _write_page(html, page(report, load_profile(profile).name))
    if as_json:
        extra = {"varied": report.varied, "not_varied": dict(report.not_varied), "guilty": report.guilty}
        extra["diffoscope"] = report.deeper
        print_json({**document(report.comparison), **extra})
    else:
        _show(report)
    if not report.comparison.identical:
        raise click.exceptions.Exit(ExitCode.REJECTED)


def _write_page(path: str, text: str) -> None:
    try:
        Path(path).write_text(text, encoding="utf-8")
    except OSError as exc:
        raise MaterialUnavailable(f"the report: {path}: {exc.strerror}") from exc


def _show(report: Report) -> None:
    from rich.markup import escape  # noqa: PLC0415 - help need not pay
    from rich.table import Table  # noqa: PLC0415

    out = console()
    comparison = report.comparison
    table = Table(title="Two builds, stage by stage", title_justify="left", title_style="bold")
    for column in ("stage", "", "first build", "second build"):
        table.add_column(column, overflow="fold")
    for name, a, b in comparison.stages:
        same = a == b
        mark = "[green]same[/]" if same else "[bold red]differs[/]"
        table.add_row(name, mark, a[:16], "" if same else b[:16])
    out.print(table)
    out.print(f"varied      {', '.join(report.varied)}")
    for name, reason in report.not_varied:
        out.print(f"[yellow]not varied  {name}: {reason}[/]")
    for found in comparison.differences[:10]:
        row = {name: escape(value) for name, value in asdict(found).items()}
        out.print("[bold]{path}[/] {field}: {a:.40} / {b:.40}\n  likely {cause}; cure: {cure}".format(**row))
    if report.guilty:
        out.print(f"[bold]without {' or '.join(report.guilty)} both builds are the same[/]")
    if report.deeper:
        out.print(escape(f"diffoscope, of the first difference:\n{report.deeper}"), soft_wrap=True)
    word = "[bold green]IDENTICAL[/]" if comparison.identical else f"[bold red]DIFFERENT[/] from {comparison.first} on"
    out.print(word)
