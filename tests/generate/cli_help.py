"""Write the output of every ``$ dokimos ... --help`` block of the documents, and docs/cli.md as a whole.

Run from the repository's root: ``python3 tests/generate/cli_help.py``.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
from collections.abc import Iterator
from pathlib import Path

import click

BLOCK = re.compile(r"^```console\n\$ dokimos((?: [a-z-]+)*) --help\n.*?^```$", re.MULTILINE | re.DOTALL)
PAGE = "docs/cli.md"
INTRODUCTION = """# Command line

Every command with its options, as the program prints them; a test compares. Exit codes: see [README.md](README.md).
"""


def help_of(arguments: list[str]) -> str:
    """What ``dokimos <arguments> --help`` prints on a terminal of 80 columns."""
    from dokimos.cli import root  # noqa: PLC0415 - so that reading this file needs no installation

    out = io.StringIO()
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "80"
    try:
        with contextlib.redirect_stdout(out):
            root.main([*arguments, "--help"], prog_name="dokimos", standalone_mode=False)
    finally:
        if before is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = before
    return out.getvalue()


def commands() -> Iterator[list[str]]:
    """The arguments of every command, groups before their members."""
    from dokimos.cli import root  # noqa: PLC0415 - as above

    def walk(command: click.Command, path: list[str]) -> Iterator[list[str]]:
        yield path
        if isinstance(command, click.Group):
            context = click.Context(command)
            for name in command.list_commands(context):
                inner = command.get_command(context, name)
                if inner is not None and not inner.hidden:
                    yield from walk(inner, [*path, name])

    yield from walk(root, [])


def page() -> str:
    """The text of docs/cli.md."""
    parts = [INTRODUCTION]
    for path in commands():
        command = " ".join(["dokimos", *path])
        parts.append(f"\n## {command}\n\n```console\n$ {command} --help\n{help_of(path)}```\n")
    return "".join(parts)


def filled(text: str) -> str:
    """A document with the output of its help blocks."""

    def block(found: re.Match[str]) -> str:
        return f"```console\n$ dokimos{found[1]} --help\n{help_of(found[1].split())}```"

    return BLOCK.sub(block, text)


def main() -> None:
    """Rewrite the documents in place."""
    readme = Path("README.md")
    readme.write_text(filled(readme.read_text()))
    Path(PAGE).write_text(page())


if __name__ == "__main__":
    main()
