"""``dokimos measure tdx``: what a TD must report for given files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from .render import console, print_json
from .tdx_launch import LaunchOptions, launch_options, read_launch

if TYPE_CHECKING:
    from typing import Unpack

    from rich.console import Console

    from ..measurements.rtmr import ExpectedEvent
    from ..measurements.tdx import TdxLaunch, TdxMeasurements

MRTD_BASIS = {
    "single-pass": "computed; hosts with upstream KVM and QEMU, and Google's",
    "two-pass": "computed; out-of-tree QEMU 8. Another program that computes it so has met a real quote",
}


@click.command("tdx")
@launch_options
@click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")
def tdx(as_json: bool, **options: Unpack[LaunchOptions]) -> None:
    """MRTD and RTMR0 to RTMR2 of a TD.

    Firmware alone gives MRTD.  With a kernel or a unified kernel image the other registers are computed event by event;
    where an event is open its register is, and nothing is guessed.  ACPI tables are open unless --qemu or --acpi gives
    them; behind "--" stand QEMU's arguments for the TD's devices.
    """
    from ..measurements.tdx import tdx_measurements  # noqa: PLC0415 - help need not pay

    launch, hashes = read_launch(options)
    found = tdx_measurements(launch)
    if as_json:
        print_json({"schema": "dokimos.measure.tdx/v1", "inputs": _inputs(launch, hashes), **document(found)})
    else:
        _show(found)


def _inputs(launch: TdxLaunch, hashes: dict[str, str]) -> dict[str, object]:
    boots = launch.kernel is not None or launch.uki is not None
    return {
        **hashes,
        "append": launch.append,
        "memory": launch.memory if boots else None,
        "vcpus": launch.vcpus,
        "qemu_version": ".".join(map(str, launch.qemu)) if launch.qemu else None,
    }


def document(found: TdxMeasurements) -> dict[str, object]:
    """The measurements as JSON."""
    profile = found.profile
    return {
        "mrtd": {
            "single_pass": found.mrtd_single_pass.hex(),
            "two_pass": found.mrtd_two_pass.hex(),
            "page_order": str(found.order),
        },
        "firmware_profile": None
        if profile is None
        else {
            "generation": str(profile.name),
            "version": profile.version,
            "late_separator": f"RTMR{profile.late_separator}",
            "initrd_option": str(profile.initrd_option),
            "measures_fw_cfg": profile.fw_cfg,
            "measures_smbios": profile.smbios,
            "secure_boot": profile.secure_boot,
        },
        "rtmr": {} if profile is None else {f"rtmr{register}": _register(found, register) for register in (0, 1, 2)},
        "events": [event_document(event) for event in found.events],
    }


def _register(found: TdxMeasurements, register: int) -> dict[str, object]:
    value = (found.rtmr0, found.rtmr1, found.rtmr2)[register]
    return {
        "value": value.hex() if value else None,
        "basis": str(found.basis(register)),
        "open": [event.id for event in found.register_events(register) if event.digest is None],
    }


def event_document(event: ExpectedEvent) -> dict[str, object]:
    """One event as JSON."""
    return {
        "id": event.id,
        "register": f"RTMR{event.register}",
        "label": event.label,
        "digest": event.digest.hex() if event.digest else None,
        "basis": str(event.basis),
        "note": event.note,
    }


def _show(found: TdxMeasurements) -> None:
    from rich.table import Table  # noqa: PLC0415 - 50 ms that --json need not pay

    out = console()
    table = Table(title="Measurements of the TD", title_justify="left", title_style="bold")
    table.add_column("register", no_wrap=True)
    table.add_column("value", overflow="fold")
    table.add_column("basis")
    for order, mrtd in (("single-pass", found.mrtd_single_pass), ("two-pass", found.mrtd_two_pass)):
        mark = "" if order == str(found.order) else "[dim]"
        table.add_row(f"{mark}MRTD, {order}", f"{mark}{mrtd.hex()}", f"{mark}{MRTD_BASIS[order]}")
    if found.profile:
        for register, value in enumerate((found.rtmr0, found.rtmr1, found.rtmr2)):
            text = value.hex() if value else "[yellow]event-level only[/]"
            table.add_row(f"RTMR{register}", text, str(found.basis(register)))
        table.add_row("RTMR3", "0" * 96, "unless the guest extends it")
    out.print(table)
    if found.profile is None:
        out.print("[dim]RTMR0 to RTMR2 need --kernel or --uki, and --memory[/]")
        return
    _show_profile(out, found)
    _show_events(out, found)


def _show_profile(out: Console, found: TdxMeasurements) -> None:
    profile = found.profile
    assert profile is not None  # noqa: S101 - for the type checker
    said = f", it says {profile.version}" if profile.version else ""
    out.print(f"firmware measures as edk2 of generation [bold]{profile.name}[/]{said}")


def _show_events(out: Console, found: TdxMeasurements) -> None:
    from rich.table import Table  # noqa: PLC0415 - as above

    table = Table(title="Events", title_justify="left", title_style="bold")
    for column in ("register", "event", "id", "digest", "basis"):
        table.add_column(column, overflow="fold")
    for event in found.events:
        digest = event.digest.hex()[:16] if event.digest else "[yellow]open[/]"
        basis = str(event.basis) + (f"; {event.note}" if event.note else "")
        table.add_row(f"RTMR{event.register}", event.label, event.id, digest, basis)
    out.print(table)
