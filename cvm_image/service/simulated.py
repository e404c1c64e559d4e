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
from ...attest.simulator import SimulatedPlatform
from ...evidence.snp import Product
from ...measurements.snp import SnpLaunch, launch_digest
from ...ohttp import keys
from ..stand_in import code_manifest, stand_in_launch
from .app import build_app
from .config import runtime_config_sha256
from .engine.base import Engine
from .gateway import Gateway, GatewayLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedCvm:
    """A simulated confidential machine, ready to be served.

    Attributes:
        app: the service's ASGI application.
        measurement: launch digest that its reports carry.
        root_sha256: hash of the simulated root, which a policy must name.
        runtime_config_sha256: digest of the configuration in its statement.
        image_sha256: digest of the image in its statement.
        key_configs: public keys of its gateway.
        product: processor that is played.
    """

    app: Starlette
    measurement: bytes
    root_sha256: bytes
    runtime_config_sha256: bytes
    image_sha256: bytes
    key_configs: bytes
    product: Product

    def policy(self) -> str:
        """A policy that accepts exactly this machine, TOML."""
        return (
            "# Accepts one simulated machine; it proves nothing about hardware.\n"
            "schema = 1\n"
            'name = "SIMULATED platform, for development only"\n\n'
            "[snp]\n"
            f'measurements = ["{self.measurement.hex()}"]\n'
            f'simulated_roots = ["{self.root_sha256.hex()}"]\n'
            f'products = ["{self.product}"]\n'
            "require_chip_bound = true\n"
            'revocation = "require"\n'
            "vmpl = [0]\n\n"
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
) -> SimulatedCvm:
    """Launch the service on the simulated platform.

    Args:
        engine: who answers; it stays the caller's.
        state_dir: keys of the simulated manufacturer.
        product: processor to play: "Milan", "Genoa", "Bergamo" or "Turin".
        launch: what is measured; None for the stand-in with its default command line.
        limits: bounds of the gateway; None for the defaults.
        epoch: marker of a log's checkpoint; None without a log.

    Raises:
        Error: the platform's state cannot be used, or the launch cannot be measured.
    """
    limits = limits or GatewayLimits()
    launch = launch or stand_in_launch()
    platform = SimulatedPlatform(state_dir, product=product)
    guest = platform.launch(launch_digest(launch))
    gateway = Gateway(keys.generate_keys(), engine, limits=limits)
    config = runtime_config_sha256(engine.info, limits)
    image = sha256(code_manifest()).digest()
    attester = Attester(
        SnpSource(guest, guest),
        key_configs=gateway.key_configs,
        runtime_config_sha256=config,
        image_sha256=image,
        epoch=epoch,
    )
    return SimulatedCvm(
        app=build_app(gateway, attestation_routes(attester)),
        measurement=guest.fields.measurement,
        root_sha256=platform.root_sha256,
        runtime_config_sha256=config,
        image_sha256=image,
        key_configs=gateway.key_configs,
        product=platform.machine.product,
    )


@contextlib.contextmanager
def closing(engine: Engine) -> Iterator[Engine]:
    """An engine that is closed at the end."""
    try:
        yield engine
    finally:
        engine.close()
