"""Any bytes are firmware for a TD with an MRTD, a TD HOB and a profile, or one of our errors."""

from __future__ import annotations

import contextlib

from dokimos.errors import Error
from dokimos.measurements.firmware_profile import detect_profile
from dokimos.measurements.mrtd import PageOrder, mrtd
from dokimos.measurements.ovmf import PAGE
from dokimos.measurements.synthetic_ovmf import synthetic_tdvf, tdvf_sections
from dokimos.measurements.td_hob import td_hob
from dokimos.measurements.tdvf import parse_tdvf
from dokimos.measurements.variable_store import parse_variable_store, secure_boot_variables

_FIRMWARE = synthetic_tdvf(3 * PAGE)
SEEDS: list[bytes] = [
    _FIRMWARE,
    _FIRMWARE[:0x100],
    synthetic_tdvf(2 * PAGE, sections=tdvf_sections(2 * PAGE)[:3], marks=()),
]


def one_input(data: bytes) -> None:
    """Parse it as firmware, at a whole number of pages so that more than the first check is reached, and as a store."""
    for image in (data, data[: len(data) // PAGE * PAGE], data.rjust(PAGE, b"\0")[-2 * PAGE :]):
        with contextlib.suppress(Error):
            tdvf = parse_tdvf(image)
            with contextlib.suppress(Error):
                assert len(td_hob(tdvf, 1 << 30)) > 56
            assert len(mrtd(tdvf, PageOrder.TWO_PASS)) == 48
    with contextlib.suppress(Error):
        assert detect_profile(data).name
    with contextlib.suppress(Error):
        secure_boot_variables(parse_variable_store(data))
