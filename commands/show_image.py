"""What a terminal shows of an image's measurements."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .render import print_digests

if TYPE_CHECKING:
    from rich.console import Console

    from ..measurements.image import Measurements
    from ..measurements.image_tdx import TdxImage


def print_measurements(out: Console, found: Measurements, note: str = "") -> None:
    """Launch digests for SEV-SNP, and registers for TDX where the image has firmware for it."""
    rows = ((row.vcpus, row.vcpu_type, row.launch_digest) for row in found.snp.digests)
    print_digests(out, f"SEV-SNP launch digests{note}", rows)
    if found.tdx:
        _print_td(out, found.tdx, note)


def _print_td(out: Console, tdx: TdxImage, note: str) -> None:
    """Each register on one line, to be copied; one that is the same on every machine is shown once."""
    lines = [("MRTD", "any machine", tdx.mrtd, tdx.basis.mrtd)]
    for name in ("rtmr0", "rtmr1", "rtmr2"):
        values = {f"{row.vcpus} x, {row.memory} MiB": getattr(row, name) for row in tdx.machines}
        if len(set(values.values())) == 1:
            values = {"any machine": next(iter(values.values()))}
        for machine, value in values.items():
            lines.append((name.upper(), machine, value or "event-level only", getattr(tdx.basis, name)))
    width = max(len(machine) for _, machine, _, _ in lines)
    out.print(f"[bold]TDX registers{note}[/]")
    for name, machine, value, basis in lines:
        out.print(f"{name:5}  {machine:{width}}  {value}  ({basis})", soft_wrap=True)
