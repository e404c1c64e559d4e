"""``dokimos sim``: the simulated platforms' keys, reports, quotes and GPUs."""

from __future__ import annotations

from pathlib import Path

import click

from ..codec import unhex
from ..errors import UsageError
from . import sim_gpu
from .render import read_file
from .sim_files import NOTE, STATE, folder
from .write import write_files

_PRODUCT = click.option(
    "--product", type=click.Choice(["Milan", "Genoa", "Bergamo", "Turin"]), default="Milan", show_default=True
)


@click.group()
def command() -> None:
    """The simulated platform: keys, launch and reports.

    It writes byte-exact evidence under a root of its own, which a policy has to name by hash.
    """


@command.command("init")
@STATE
@_PRODUCT
def _init(state: str | None, product: str) -> None:
    """Make the platform's keys, if they are not there, and print the root's SHA-256."""
    from ..attest.simulator import SimulatedPlatform  # noqa: PLC0415 - help need not pay

    platform = SimulatedPlatform(folder(state), product=product)
    click.echo(NOTE, err=True)
    click.echo(platform.root_sha256.hex())


@command.command("report")
@STATE
@_PRODUCT
@click.option("--version", "report_version", type=click.IntRange(2, 5), default=5, show_default=True)
@click.option("--vlek", is_flag=True, help="Sign with a VLEK.")
@click.option("--measurement", metavar="HEX", help="Launch digest; instead of the files.")
@click.option("--ovmf", metavar="FILE", help="Firmware to launch.")
@click.option("--kernel", metavar="FILE", help="Kernel beside it.")
@click.option("--initrd", metavar="FILE", help="Initial RAM disk beside the kernel.")
@click.option("--append", metavar="STR", help="Command line of the kernel.")
@click.option("--vcpus", type=click.IntRange(1, 4096), default=1, show_default=True)
@click.option("--vcpu-type", default="EPYC-v4", show_default=True)
@click.option("--report-data", metavar="HEX", default="00" * 64, help="64 bytes; zeros if absent.")
@click.option("-o", "--output", metavar="DIR", required=True, help="Folder for report.bin and the certificates.")
def _report(  # noqa: PLR0917 - one parameter per option
    state: str | None,
    product: str,
    report_version: int,
    vlek: bool,
    measurement: str | None,
    ovmf: str | None,
    kernel: str | None,
    initrd: str | None,
    append: str | None,
    vcpus: int,
    vcpu_type: str,
    report_data: str,
    output: str,
) -> None:
    """Launch a guest and write one report of it, with its certificates and a revocation list."""
    from ..attest.simulator import SimulatedPlatform  # noqa: PLC0415 - help need not pay
    from ..evidence.snp import SigningKey  # noqa: PLC0415
    from ..measurements.snp import SnpLaunch, launch_digest  # noqa: PLC0415

    if (measurement is None) == (ovmf is None):
        raise UsageError("either --measurement, or --ovmf with what is launched beside it")
    if ovmf is not None:
        launch = SnpLaunch(
            ovmf=read_file(ovmf, "firmware", 64 << 20),
            kernel=read_file(kernel, "kernel", 256 << 20) if kernel else None,
            initrd=read_file(initrd, "initrd", 4 << 30) if initrd else None,
            append=append,
            vcpus=vcpus,
            vcpu_type=vcpu_type,
        )
        digest = launch_digest(launch)
    else:
        digest = unhex(measurement or "", "--measurement", 48)
    platform = SimulatedPlatform(
        folder(state),
        product=product,
        version=report_version,
        signing_key=SigningKey.VLEK if vlek else SigningKey.VCEK,
    )
    guest = platform.launch(digest)
    vek, (issuer, root), (crl,) = guest.endorsements()
    files = {
        "report.bin": guest.report(unhex(report_data, "--report-data", 64)).report,
        "vek.der": vek,
        ("asvk.der" if vlek else "ask.der"): issuer,
        "ark.der": root,
        "crl.der": crl,
    }
    write_files(Path(output), files)
    click.echo(NOTE, err=True)
    click.echo(f"measurement {digest.hex()}\nroot {platform.root_sha256.hex()}")


def _registers(values: tuple[str, ...]) -> tuple[bytes, bytes, bytes, bytes]:
    found = [bytes(48)] * 4
    for value in values:
        number, equals, digits = value.partition("=")
        if not equals or number not in ("0", "1", "2", "3"):
            raise UsageError(f"--rtmr {value}: a number from 0 to 3, an equals sign and 96 hex digits are wanted")
        found[int(number)] = unhex(digits, f"--rtmr {number}", 48)
    return found[0], found[1], found[2], found[3]


@command.command("tdx")
@STATE
@click.option("--mrtd", metavar="HEX", default="00" * 48, help="48 bytes; zeros if absent.")
@click.option("--rtmr", metavar="N=HEX", multiple=True, help="A run-time register; zero if absent.")
@click.option("--td15", is_flag=True, help="A TD report of version 1.5, in a quote of version 5.")
@click.option("--debug", is_flag=True, help="A TD whose memory the host may read.")
@click.option("--report-data", metavar="HEX", default="00" * 64, help="64 bytes; zeros if absent.")
@click.option("-o", "--output", metavar="DIR", required=True, help="Folder for quote.bin and collateral.json.")
def _tdx(  # noqa: PLR0917 - one parameter per option
    state: str | None, mrtd: str, rtmr: tuple[str, ...], td15: bool, debug: bool, report_data: str, output: str
) -> None:
    """Launch a TD and write one quote of it, with collateral by which the platform is up to date."""
    from dataclasses import replace  # noqa: PLC0415 - help need not pay

    from ..attest.sim_tdx import SimulatedTdx  # noqa: PLC0415
    from ..endorsements.collateral_bundle import encode_collateral  # noqa: PLC0415

    platform = SimulatedTdx(folder(state))
    td = platform.launch(unhex(mrtd, "--mrtd", 48), _registers(rtmr))
    if td15:
        td.fields = replace(td.fields, tee_tcb_svn2=td.fields.tee_tcb_svn)
    if debug:
        td.fields = replace(td.fields, td_attributes=td.fields.td_attributes | 1)
    quote = td.quote(unhex(report_data, "--report-data", 64))
    write_files(Path(output), {"quote.bin": quote, "collateral.json": encode_collateral(td.collateral())})
    click.echo(NOTE, err=True)
    click.echo(f"mrtd {mrtd.lower()}\nroot {platform.root_sha256.hex()}")


command.add_command(sim_gpu.command, "gpu")
