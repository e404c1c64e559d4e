"""Any bytes are firmware for SEV-SNP, or one of our errors."""

from __future__ import annotations

import contextlib

from dokimos.errors import Error
from dokimos.measurements.ovmf import PAGE, parse_ovmf
from dokimos.measurements.synthetic_ovmf import synthetic_ovmf

SEEDS: list[bytes] = [
    synthetic_ovmf(PAGE),
    synthetic_ovmf(PAGE, hash_table_gpa=None),
    synthetic_ovmf(PAGE, reset_eip=0),
]


def one_input(data: bytes) -> None:
    """Parse it, at a whole number of pages so that more than the first check is reached."""
    for image in (data, data[: len(data) // PAGE * PAGE], data.rjust(PAGE, b"\0")[-PAGE:]):
        with contextlib.suppress(Error):
            assert parse_ovmf(image).sections
