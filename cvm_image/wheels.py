"""Wheels for the guest's Python, through pip and whatever index the user has set; accepted by hash alone."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from ..errors import MaterialUnavailable
from .lock import Wheel

_SECONDS: Final = 900
_PLATFORMS: Final = ("manylinux_2_34_x86_64", "manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")


def download(
    requirements: Sequence[str], python: str, folder: Path, *, hashes: Sequence[Wheel] = ()
) -> tuple[Path, ...]:
    """Download wheels, with all that they need unless hashes are given.

    Args:
        requirements: as pip reads them; ignored with `hashes`.
        python: version of the guest's Python, for example "3.13".
        folder: where to.
        hashes: exactly these wheels, by hash.

    Returns:
        The files, sorted by name.

    Raises:
        MaterialUnavailable: pip is not there, or could not.
    """
    if importlib.util.find_spec("pip") is None:
        raise MaterialUnavailable("pip is needed to fetch wheels")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-cache-dir"]
    command += ["--only-binary", ":all:", "--implementation", "cp", "--python-version", python, "--dest", str(folder)]
    for abi in (f"cp{python.replace('.', '')}", "abi3", "none"):
        command += ["--abi", abi]
    for platform in _PLATFORMS:
        command += ["--platform", platform]
    if hashes:
        listed = folder / "requirements.txt"
        listed.write_text("".join(f"{row.name}=={row.version} --hash=sha256:{row.sha256}\n" for row in hashes))
        command += ["--require-hashes", "--no-deps", "-r", str(listed)]
    else:
        command += list(requirements)
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except subprocess.TimeoutExpired as exc:
        raise MaterialUnavailable(f"wheels: pip did not end within {_SECONDS} s") from exc
    if ran.returncode:
        reason = (ran.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise MaterialUnavailable(f"wheels: pip: {reason[:300]}")
    return tuple(sorted(folder.glob("*.whl")))
