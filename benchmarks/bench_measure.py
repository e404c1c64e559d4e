"""Figures of measuring a launch, beside sev-snp-measure's own on the same files."""

from __future__ import annotations

import tempfile
import timeit
from pathlib import Path

from sevsnpmeasure import guest
from sevsnpmeasure.sev_mode import SevMode

from benchmarks.figure import Figure
from dokimos.measurements import snp
from dokimos.measurements.synthetic_ovmf import synthetic_ovmf

_SIZE = 4 << 20


def _turns(*works, rounds: int = 12) -> list[float]:
    """Best seconds of each, taken in turns so that all see the same machine."""
    best = [float("inf")] * len(works)
    for _ in range(rounds):
        best = [min(time, timeit.timeit(work, number=1)) for time, work in zip(best, works, strict=True)]
    return best


def figures() -> list[Figure]:
    """All figures of this module."""
    ovmf = synthetic_ovmf(_SIZE)
    launch = snp.SnpLaunch(ovmf=ovmf)
    signature = snp.known_vcpu_types()["EPYC-v4"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "ovmf")
        path.write_bytes(ovmf)

        def peer() -> bytes:
            return guest.calc_launch_digest(SevMode.SEV_SNP, 1, signature, str(path), "", "", "", 1)

        assert peer() == snp.launch_digest(launch)
        one, theirs, many = _turns(
            lambda: snp.launch_digest(launch), peer, lambda: snp.launch_digests(launch, range(1, 513), ["EPYC-v4"])
        )
    return [
        Figure(
            "measure a 4 MiB firmware through the API",
            f"{one * 1e3:.1f} ms",
            f"sev-snp-measure on the same file, {theirs * 1e3:.1f} ms",
            one / theirs,
            "<= 20 ms",
            one <= 0.020,
        ),
        Figure(
            "table of 512 vCPU counts",
            f"{many * 1e3:.1f} ms",
            f"one vCPU, {one * 1e3:.1f} ms",
            many / one,
            "<= 2 x",
            many / one <= 2,
        ),
    ]
