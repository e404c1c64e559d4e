"""``dokimos demo``: the whole path on one machine, and what is refused on it."""

from __future__ import annotations

import time
from contextlib import ExitStack

import click

from ..errors import ExitCode
from .render import console


@click.command()
@click.option("--quick", is_flag=True, help="Without a virtual machine: the service on loopback, in half a minute.")
@click.option("--tee", type=click.Choice(["snp", "tdx"]), default="snp", show_default=True, help="What is simulated.")
@click.option("--profile", default="cpu", show_default=True, help="Image to build and boot.")
@click.option("--mirror", metavar="URL", multiple=True, help="A Debian mirror; by default the apt settings'.")
@click.option("-v", "--verbose", is_flag=True, help="Show every check that ran, and the guest's console.")
def command(quick: bool, tee: str, profile: str, mirror: tuple[str, ...], verbose: bool) -> None:
    """Run the whole path on this machine, with a simulated platform.

    Fetches what the lock names, builds the image, measures and boots it, verifies the service inside over a fresh
    nonce, sends it a request through a relay under HPKE, shows the answer, and then what is refused.  The machine is
    emulated in software, which is what is slow.  Ends with 0 only if all of it held.
    """
    from . import demo_quick, demo_vm  # noqa: PLC0415 - help need not pay

    out = console()
    started = time.monotonic()
    with ExitStack() as stack:
        if quick:
            held = demo_quick.run(out, stack, tee, verbose=verbose)
        else:
            held = demo_vm.run(out, stack, profile, tee, mirrors=mirror, verbose=verbose)
    out.print(f"[dim]{time.monotonic() - started:.0f} s; everything that was started has ended[/dim]")
    if not held:
        out.print("[bold red]Not all of it held.[/bold red]")
        raise click.exceptions.Exit(ExitCode.REJECTED)
    out.print("[bold green]All of it held.[/bold green]")
