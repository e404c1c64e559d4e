"""``dokimos serve``: the service of a confidential machine, or a relay in front of one."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import UsageError
from .model import progress

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..attest.sim_nvidia import SimGpuSource
    from ..cvm_image.service.server import Server


@click.group()
def command() -> None:
    """Run the service of a CVM, or a relay."""


_PRODUCTS = ["Milan", "Genoa", "Bergamo", "Turin"]
_HOST = click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")


def _port(default: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    return click.option(
        "--port", type=click.IntRange(0, 65535), default=default, show_default=True, help="0: any free."
    )


@command.command("cvm")
@click.option("--simulated", is_flag=True, help="On the simulated platform, whose evidence proves nothing.")
@click.option("--tee", type=click.Choice(["snp", "tdx"]), default="snp", show_default=True, help="What is simulated.")
@click.option("--product", type=click.Choice(_PRODUCTS), default="Genoa", show_default=True, help="Of SEV-SNP.")
@click.option("--append", metavar="STR", help="Command line of the simulated launch.")
@click.option("--gpus", type=click.IntRange(0, 8), default=0, show_default=True, help="Simulated GPUs of the machine.")
@click.option("--state", metavar="DIR", help="Keys of the simulated platform; by default in the user's state folder.")
@click.option("--write-policy", metavar="FILE", help="Write a policy that accepts exactly this machine.")
@click.option("--threads", type=click.IntRange(1, 64), default=1, show_default=True, help="Threads of one answer.")
@_HOST
@_port(8443)
def _cvm(  # noqa: PLR0917 - one parameter per option
    simulated: bool,
    tee: str,
    product: str,
    append: str | None,
    gpus: int,
    state: str | None,
    write_policy: str | None,
    threads: int,
    host: str,
    port: int,
) -> None:
    """Serve attested inference: evidence over a nonce, and chat requests sealed to the attested keys.

    Prints its URL once it is ready and runs until it is interrupted.
    """
    if not simulated:
        raise UsageError(
            "only --simulated runs outside of an image; the image that serves on real hardware comes later"
        )
    from ..attest.simulator import default_state_dir  # noqa: PLC0415 - help need not pay
    from ..cvm_image import stand_in  # noqa: PLC0415
    from ..cvm_image.model import fetch_model  # noqa: PLC0415
    from ..cvm_image.service.engine.llama_cpp import LlamaCppEngine  # noqa: PLC0415
    from ..cvm_image.service.server import Server  # noqa: PLC0415
    from ..cvm_image.service.simulated import closing, simulated_cvm, simulated_td  # noqa: PLC0415

    with progress() as told:
        model = fetch_model(progress=told)
    line = append if append is not None else stand_in.COMMAND_LINE
    folder = Path(state) if state else default_state_dir()
    with closing(LlamaCppEngine(model, threads=threads)) as engine:
        devices = _gpus(folder, gpus)
        if tee == "tdx":
            cvm = simulated_td(engine, state_dir=folder, command_line=line, gpus=devices)
        else:
            launch = stand_in.stand_in_launch(line)
            cvm = simulated_cvm(engine, state_dir=folder, product=product, launch=launch, gpus=devices)
        server = Server(cvm.app, host=host, port=port)
        if write_policy:
            _write(write_policy, cvm.policy())
        click.echo(f"SIMULATED: the evidence of this service proves nothing about hardware\n{server.url}")
        _run(server)


def _gpus(folder: Path, count: int) -> SimGpuSource | None:
    """Simulated GPUs, all in the mode for their number."""
    from ..attest.sim_gpu import MPT, SPT  # noqa: PLC0415 - help need not pay
    from ..attest.sim_nvidia import SimulatedNvidia  # noqa: PLC0415

    if not count:
        return None
    platform = SimulatedNvidia(folder)
    devices = [platform.gpu(number=number) for number in range(count)]
    for device in devices:
        device.feature_flag = MPT if count > 1 else SPT
    return platform.source(devices)


@command.command("relay")
@click.option("--gateway", metavar="URL", required=True, help="Service that requests go to, and no other.")
@_HOST
@_port(8444)
def _relay(gateway: str, host: str, port: int) -> None:
    """Serve an OHTTP relay: it sees who asks and not what, passes on nothing else, and keeps and logs nothing."""
    from ..cvm_image.service.gateway import GATEWAY_PATH  # noqa: PLC0415 - help need not pay
    from ..cvm_image.service.server import Server  # noqa: PLC0415
    from ..ohttp.relay import relay_app  # noqa: PLC0415

    origin = gateway.rstrip("/")
    server = Server(relay_app({GATEWAY_PATH: origin + GATEWAY_PATH}, origin=origin), host=host, port=port)
    click.echo(server.url)
    _run(server)


def _write(path: str, text: str) -> None:
    try:
        Path(path).write_text(text)
    except OSError as exc:
        raise UsageError(f"{path}: {exc.strerror}") from exc


def _run(server: Server) -> None:
    """Serve until SIGINT or SIGTERM."""
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    with server:
        while not ended.wait(0.5):
            if server.wait(0):
                break
