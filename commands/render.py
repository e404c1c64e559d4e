"""What the commands share: reading files, times and printing."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import MalformedEvidence, MaterialUnavailable, UsageError

if TYPE_CHECKING:
    from rich.console import Console


def read_file(path: str, what: str, limit: int = 1 << 20) -> bytes:
    """The bytes of a file, or of standard input for ``-``, at most `limit` of them.

    Raises:
        MaterialUnavailable: it cannot be read.
        MalformedEvidence: it is larger than anything this may be.
    """
    try:
        if path == "-":
            data = sys.stdin.buffer.read(limit + 1)
        else:
            with Path(path).open("rb") as file:
                data = file.read(limit + 1)
    except OSError as exc:
        raise MaterialUnavailable(f"{what}: {path}: {exc.strerror}") from exc
    if len(data) > limit:
        raise MalformedEvidence(f"{what}: {path}: larger than {limit} bytes")
    return data


def parse_time(text: str) -> datetime:
    """An ISO 8601 time; without an offset it is UTC.

    Raises:
        UsageError: not a time.
    """
    try:
        at = datetime.fromisoformat(text)
    except ValueError as exc:
        raise UsageError(f"not an ISO 8601 time: {text!r}") from exc
    return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)


def print_json(document: object) -> None:
    """One JSON document on standard output, and nothing else."""
    sys.stdout.write(json.dumps(document, indent=2) + "\n")


def print_digests(out: Console, title: str, rows: Iterable[tuple[int, str, str]]) -> None:
    """Launch digests by number and type of processors, each on one line whatever the terminal's width, to be copied."""
    found = [("vCPUs", "type", "launch digest"), *((str(count), kind, digest) for count, kind, digest in rows)]
    widths = [max(len(row[column]) for row in found) for column in (0, 1)]
    out.print(f"[bold]{title}[/]")
    for count, kind, digest in found:
        out.print(f"{count:>{widths[0]}}  {kind:{widths[1]}}  {digest}", soft_wrap=True)


def console() -> Console:
    """A rich console on standard output."""
    from rich.console import Console  # noqa: PLC0415 - 50 ms that --json need not pay

    return Console(highlight=False)


def err_console() -> Console:
    """A rich console on standard error."""
    from rich.console import Console  # noqa: PLC0415 - as above

    return Console(stderr=True, highlight=False)
