"""``dokimos image boot``."""

from __future__ import annotations

import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..attest.sim_port import Tee
from ..errors import MaterialUnavailable, UsageError
from .model import progress

if TYPE_CHECKING:
    from ..cvm_image.boot.emulated import EmulatedGuest

_POLL_SECONDS = 0.5


@click.command()
@click.argument("folder", metavar="DIR")
@click.option("--simulated", is_flag=True, help="Emulate the machine in software, with a simulated secure processor.")
@click.option("--tee", type=click.Choice(["snp", "tdx"]), help="What is simulated; snp unless said.")
@click.option("--snp", is_flag=True, help="On this host's SEV-SNP; not confirmed on hardware.")
@click.option("--tdx", is_flag=True, help="On this host's TDX; not confirmed on hardware.")
@click.option("--print", "show", is_flag=True, help="Print QEMU's command line and start nothing.")
@click.option("--store", metavar="DIR", help="Where the locked files lie; by default the user's cache.")
@click.option("--state", metavar="DIR", help="Keys of the simulated platform; by default in the user's state folder.")
@click.option("--write-policy", metavar="FILE", help="Write a policy that accepts exactly this launch.")
@click.option("--timeout", type=click.FloatRange(1, 3600), default=180.0, show_default=True, help="Seconds to boot.")
@click.option("--exit", "leave", is_flag=True, help="End once the endpoint is verified, instead of serving on.")
@click.option("--console", is_flag=True, help="Show every line of the guest's console.")
def boot(  # noqa: PLR0917 - one parameter per option
    folder: str,
    simulated: bool,
    tee: str | None,
    snp: bool,
    tdx: bool,
    show: bool,
    store: str | None,
    state: str | None,
    write_policy: str | None,
    timeout: float,
    leave: bool,
    console: bool,
) -> None:
    """Boot the image in DIR, verify the endpoint inside of it, and serve until interrupted.

    Under --simulated or --tee, evidence comes from a simulated secure processor, which measures the very files that
    QEMU is given; it proves nothing about hardware.
    """
    emulated = simulated or tee is not None
    if [emulated, snp, tdx].count(True) != 1:
        raise UsageError("one of --simulated (or --tee), --snp and --tdx is needed")
    kind = Tee.TDX if tdx else Tee(tee or "snp")
    if show or not emulated:
        _on_host(Path(folder), kind, show=show, emulated=emulated)
        return
    from ..attest.simulator import default_state_dir  # noqa: PLC0415 - help need not pay
    from ..cvm_image.boot.emulated import EmulatedGuest  # noqa: PLC0415
    from ..cvm_image.store import Store  # noqa: PLC0415

    with progress() as told:
        guest = EmulatedGuest(
            Path(folder),
            Store(Path(store) if store else None),
            state_dir=Path(state) if state else default_state_dir(),
            tee=kind,
            told=told,
            console=(lambda line: click.echo(f"| {line}", err=True)) if console else None,
        )
    if write_policy:
        try:
            Path(write_policy).write_text(guest.policy())
        except OSError as exc:
            raise UsageError(f"{write_policy}: {exc.strerror}") from exc
    click.echo("SIMULATED: emulated in software")
    for name, value in guest.launch.measured.items():
        click.echo(f"{name} {value}")
    with guest:
        _serve(guest, timeout, leave=leave)


def _serve(guest: EmulatedGuest, timeout: float, *, leave: bool) -> None:
    from ..client.session import Session  # noqa: PLC0415 - help need not pay
    from ..verifier.policy import load_policy  # noqa: PLC0415

    guest.wait_serving(timeout, lambda stage, seconds: click.echo(f"{seconds:5.1f} s  {stage}", err=True))
    with Session.open(guest.url, load_policy(guest.policy())):
        click.echo(f"{time.monotonic() - guest.machine.started:5.1f} s  endpoint verified", err=True)
    click.echo(guest.url)
    sys.stdout.flush()
    while not leave:
        if guest.machine.wait_end(_POLL_SECONDS):
            raise MaterialUnavailable("the guest has ended by itself")


_DEVICES = {Tee.SNP: Path("/dev/sev"), Tee.TDX: Path("/sys/module/kvm_intel/parameters/tdx")}
"""What a host has that can start such a machine."""


def _on_host(folder: Path, tee: Tee, *, show: bool, emulated: bool) -> None:
    """Show QEMU's command line, or become it, on a host whose processor does what the simulated one plays."""
    from ..cvm_image import layout  # noqa: PLC0415 - help need not pay
    from ..cvm_image.boot.arguments import qemu_arguments  # noqa: PLC0415
    from ..cvm_image.boot.machine import Machine, qemu_command  # noqa: PLC0415

    manifest = layout.read_manifest(folder)
    if tee is Tee.TDX:
        manifest.artifact(layout.FIRMWARE_TDX)  # says so where the image has none
    place = Path("SOCKET") if emulated else None
    arguments = qemu_arguments(folder, manifest, port=manifest.boot.port, secure_processor=place, tee=tee)
    if show:
        click.echo(shlex.join([*qemu_command(None), *arguments]))
        return
    if not _DEVICES[tee].exists():
        raise MaterialUnavailable(f"this host has no {_DEVICES[tee]}: it cannot start a confidential machine")
    with Machine(None, arguments, told=click.echo) as machine:
        while not machine.wait_end(_POLL_SECONDS):
            pass
