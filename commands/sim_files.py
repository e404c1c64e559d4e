"""What the commands of ``dokimos sim`` have in common: where keys are kept, and the warning."""

from __future__ import annotations

from pathlib import Path

import click

NOTE = "SIMULATED: evidence of this platform proves nothing about hardware"
STATE = click.option("--state", metavar="DIR", help="Folder of its keys; by default in the user's state folder.")


def folder(state: str | None) -> Path:
    """Folder of the simulated platforms' keys: the option's, or the user's."""
    from ..attest.simulator import default_state_dir  # noqa: PLC0415 - help need not pay

    return Path(state) if state else default_state_dir()
