"""One measured figure beside its yardstick."""

from __future__ import annotations

from typing import NamedTuple


class Figure(NamedTuple):
    """One line of the table in ``benchmarks/README.md``.

    Attributes:
        what: what was measured.
        measured: the value with its unit.
        yardstick: what stands beside it, from the same run.
        ratio: of both; None where they cannot be divided.
        goal: what it should be, or "none".
        met: whether it is.
    """

    what: str
    measured: str
    yardstick: str
    ratio: float | None
    goal: str
    met: bool
