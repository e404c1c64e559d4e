"""The service in a simulated confidential machine: the same code, keys in memory, evidence that says SIMULATED."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from starlette.applications import Starlette

from ...attest.attester import Attester, SnpSource
from ...attest.service import attestation_routes
from ...attest.sim_nvidia import SimGpuSource
from ...attest.sim_tdx import SimulatedTdx
from ...attest.simulator import SimulatedGuest, SimulatedPlatform
from ...measurements.snp import SnpLaunch
from ...ohttp import keys
from ..simulated_launch import SimulatedLaunch, gpu_rules, launch_snp, launch_tdx
from ..stand_in import COMMAND_LINE, code_manifest, stand_in_launch, stand_in_td
from .app import build_app
from .config import runtime_config_sha256
from .engine.base import Engine
from .gateway import Gateway, GatewayLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedCvm:
    """A simulated confidential machine, ready to be served.

    Attributes:
        app: the service's ASGI application.
        measurement: launch digest that its reports carry, or MRTD of its quotes, in hex.
        root_sha256: hash of the simulated root, which a policy must name.
        rules: what a policy says of its evidence: tables of TOML, one for the processor and one for GPUs.
        runtime_config_sha256: digest of the configuration in its statement.
        image_sha256: digest of the image in its statement.
        key_configs: public keys of its gateway.
    """

    app: Starlette
    measurement: str
    root_sha256: bytes
    rules: str
    runtime_config_sha256: bytes
    image_sha256: bytes
    key_configs: bytes

    def policy(self) -> str:
        """A policy that accepts exactly this machine, TOML."""
        return (
            "# Accepts one simulated machine; it proves nothing about hardware.\n"
            "schema = 1\n"
            'name = "SIMULATED platform, for development only"\n\n'
            f"{self.rules}\n"
            "[binding]\n"
            f'image_sha256 = ["{self.image_sha256.hex()}"]\n'
            f'runtime_config_sha256 = ["{self.runtime_config_sha256.hex()}"]\n'
        )


def simulated_cvm(
    engine: Engine,
    *,
    state_dir: Path,
    product: str = "Genoa",
    launch: SnpLaunch | None = None,
    limits: GatewayLimits | None = None,
    epoch: bytes | None = None,
    gpus: SimGpuSource | None = None,
) -> SimulatedCvm:
    """Launch the service on the simulated platform.

    Args:
        engine: who answers; it stays the caller's.
        state_dir: keys of the simulated manufacturer.
        product: processor to play: "Milan", "Genoa", "Bergamo" or "Turin".
        launch: what is measured; None for the stand-in with its default command line.
        limits: bounds of the gateway; None for the defaults.
        epoch: marker of a log's checkpoint; None without a log.
        gpus: simulated GPUs of the machine; None without.

    Raises:
        Error: the platform's state cannot be used, or the launch cannot be measured.
    """
    launched = launch_snp(SimulatedPlatform(state_dir, product=product), launch or stand_in_launch())
    return _assemble(engine, launched, limits or GatewayLimits(), epoch, gpus)


def simulated_td(
    engine: Engine,
    *,
    state_dir: Path,
    command_line: str = COMMAND_LINE,
    limits: GatewayLimits | None = None,
    epoch: bytes | None = None,
    gpus: SimGpuSource | None = None,
) -> SimulatedCvm:
    """Launch the service in a TD on the simulated platform.

    Args:
        engine: who answers; it stays the caller's.
        state_dir: keys of the simulated manufacturer.
        command_line: of the stand-in.
        limits: bounds of the gateway; None for the defaults.
        epoch: marker of a log's checkpoint; None without a log.
        gpus: simulated GPUs of the machine; None without.

    Raises:
        Error: the platform's state cannot be used.
    """
    launched = launch_tdx(SimulatedTdx(state_dir), stand_in_td(command_line))
    return _assemble(engine, launched, limits or GatewayLimits(), epoch, gpus)


def _assemble(
    engine: Engine, launched: SimulatedLaunch, limits: GatewayLimits, epoch: bytes | None, gpus: SimGpuSource | None
) -> SimulatedCvm:
    gateway = Gateway(keys.generate_keys(), engine, limits=limits)
    config = runtime_config_sha256(engine.info, limits)
    image = sha256(code_manifest()).digest()
    guest = launched.guest
    attester = Attester(
        SnpSource(guest, guest) if isinstance(guest, SimulatedGuest) else guest,
        key_configs=gateway.key_configs,
        runtime_config_sha256=config,
        image_sha256=image,
        epoch=epoch,
        gpus=gpus,
    )
    return SimulatedCvm(
        app=build_app(gateway, attestation_routes(attester)),
        measurement=next(iter(launched.measured.values())),
        root_sha256=launched.root_sha256,
        rules=f"{launched.rules}\n{gpu_rules(gpus)}" if gpus else launched.rules,
        runtime_config_sha256=config,
        image_sha256=image,
        key_configs=gateway.key_configs,
    )


@contextlib.contextmanager
def closing(engine: Engine) -> Iterator[Engine]:
    """An engine that is closed at the end."""
    try:
        yield engine
    finally:
        engine.close()
