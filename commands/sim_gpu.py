"""``dokimos sim gpu``: evidence of simulated NVIDIA devices, with RIMs and revocation."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..codec import unhex
from ..errors import UsageError
from .sim_files import NOTE, STATE, folder
from .write import write_files

if TYPE_CHECKING:
    from ..attest.sim_gpu import SimGpu
    from ..attest.sim_nvidia import SimulatedNvidia


@click.command()
@STATE
@click.option(
    "--arch",
    type=click.Choice(["hopper", "blackwell", "ls10"]),
    help="Architecture; hopper if absent, and with --hgx.",
)
@click.option("--count", type=click.IntRange(1, 64), help="Number of devices; 1 if absent.")
@click.option("--hgx", is_flag=True, help="A machine with 8 GPUs and 4 switches, with protected PCIe.")
@click.option("--nonce", metavar="HEX", help="32 bytes for every report; random if absent.")
@click.option("-o", "--output", metavar="FILE", required=True, help="The evidence, as NVIDIA's nvattest writes it.")
@click.option("--material", metavar="DIR", help="Folder for RIMs, revocation lists and OCSP answers.")
def command(  # noqa: PLR0917 - one parameter per option
    state: str | None,
    arch: str | None,
    count: int | None,
    hgx: bool,
    nonce: str | None,
    output: str,
    material: str | None,
) -> None:
    """Let simulated NVIDIA GPUs and switches attest.

    With RIMs that they match, and with revocation.
    """
    import secrets  # noqa: PLC0415 - help need not pay

    from ..attest.sim_nvidia import SimulatedNvidia  # noqa: PLC0415
    from ..evidence.gpu_evidence import encode_gpu_evidence  # noqa: PLC0415

    if hgx and (count is not None or arch not in {None, "hopper"}):
        raise UsageError("--hgx has 8 Hopper GPUs and 4 switches; neither --count nor another --arch goes with it")
    value = secrets.token_bytes(32) if nonce is None else unhex(nonce, "--nonce", 32)
    platform = SimulatedNvidia(folder(state))
    devices = platform.hgx().devices if hgx else _devices(platform, arch or "hopper", count or 1)
    target = Path(output)
    evidence = encode_gpu_evidence(platform.source(devices).evidence(value))
    write_files(target.parent, {target.name: evidence})
    if material is not None:
        write_files(Path(material), platform.material(devices))
    click.echo(NOTE, err=True)
    click.echo(
        f"nonce {value.hex()}\ndevice root {platform.device_root_sha256.hex()}\n"
        f"RIM root {platform.rim_root_sha256.hex()}"
    )


def _devices(platform: SimulatedNvidia, arch: str, count: int) -> list[SimGpu]:
    from ..attest.sim_gpu import FIRMWARE, MPT  # noqa: PLC0415 - help need not pay
    from ..evidence.gpu_arch import Arch  # noqa: PLC0415

    devices = [platform.gpu(FIRMWARE[Arch(arch.upper())], number) for number in range(count)]
    if count > 1:
        for device in devices:
            device.feature_flag = None if device.feature_flag is None else MPT
    return devices
