"""What diffoscope says of the first thing that differs between two builds: one file where it can be taken out."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Final

from .compare import Comparison

_SECONDS: Final = 300
_LINES: Final = 400
_BYTES: Final = 1 << 20


def missing() -> str:
    """Why diffoscope cannot be asked, or an empty text."""
    return "" if shutil.which("diffoscope") else "diffoscope is not installed"


def look(a: Path, b: Path, comparison: Comparison) -> str:
    """Ask diffoscope about the first difference.

    Args:
        a: folder of the first image; with its archives, single files are compared.
        b: of the second.
        comparison: of both.

    Returns:
        What it says, at most 400 lines, or why it says nothing.
    """
    if reason := missing():
        return reason
    with tempfile.TemporaryDirectory(prefix="dk-deeper-") as folder:
        pair = _pair(a, b, comparison, Path(folder))
        if pair is None:
            return "no file to look at"
        command = ["diffoscope", "--text", "-", "--no-progress", f"--max-text-report-size={_BYTES}", *map(str, pair)]
        try:
            ran = subprocess.run(
                command, capture_output=True, text=True, errors="replace", timeout=_SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            return f"diffoscope did not end within {_SECONDS} seconds"
    lines = (ran.stdout or ran.stderr).replace(folder, "").splitlines()
    return "\n".join(lines[:_LINES])


def _pair(a: Path, b: Path, comparison: Comparison, scratch: Path) -> tuple[Path, Path] | None:
    for found in comparison.differences:
        volume, colon, path = found.path.partition(":")
        sides = (a, b)
        if not colon:
            if all((side / found.path).is_file() for side in sides):
                return a / found.path, b / found.path
        elif found.field == "sha256" and all((side / f"archive.{volume}.tar").is_file() for side in sides):
            copies = []
            for name, side in zip(("first", "second"), sides, strict=True):
                copy = scratch / name / Path(path).name
                copy.parent.mkdir()
                copy.write_bytes(_member(side / f"archive.{volume}.tar", path))
                copies.append(copy)
            return copies[0], copies[1]
    return None


def _member(archive: Path, path: str) -> bytes:
    with tarfile.open(archive) as tar:
        for member in tar:
            if "/" + member.name.lstrip("./") == path:
                file = tar.extractfile(member)
                return file.read() if file else b""
    return b""
