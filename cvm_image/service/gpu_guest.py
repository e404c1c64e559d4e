"""The service of a guest with GPUs: nothing of it is reachable but while the GPU gate is open.

Each pass of the gate makes another gateway, with other keys, in front of another engine.  Between passes every request
is answered with 503, and with nothing else.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Protocol

from starlette.applications import Starlette
from starlette.responses import Response

from ...attest.attester import Attester, GpuSource
from ...attest.nvml import GpuSystem, Nvml, NvmlSource, display_devices
from ...attest.provider import EvidenceSource
from ...attest.service import attestation_routes
from ...errors import MaterialUnavailable
from ...evidence.statement import PROFILE_OHTTP, ROLE_GATEWAY, Statement
from ...ohttp import keys
from .app import build_app
from .config import runtime_config_sha256
from .engine.base import Engine
from .gateway import Gateway, GatewayLimits
from .gpu_gate import GpuGate, GpuPass, Verify
from .gpu_verify import on_root
from .server import Server

if TYPE_CHECKING:
    import socket

    from starlette.types import ASGIApp, Receive, Scope, Send

    from .guest import ServiceConfig

_LIFETIME = 600
_RETRY = {"retry-after": "5"}


class WatchedEngine(Engine, Protocol):
    """An engine of which one can tell whether it still answers."""

    def alive(self) -> bool:
        """Whether it can still answer."""


class GatedApp:
    """An ASGI application in whose place another one stands for as long as a pass holds."""

    def __init__(self) -> None:
        self._shown: tuple[ASGIApp, GpuPass] | None = None
        self._nothing = Starlette()

    def show(self, app: ASGIApp, key_configs: bytes, granted: GpuPass) -> None:
        """Show an application, and with it its keys.

        Args:
            app: the application.
            key_configs: the keys that it publishes.
            granted: the pass; it is used up.

        Raises:
            TypeError: something else than a pass.
            UsageError: the pass was used, does not hold, or is for other keys.
        """
        if type(granted) is not GpuPass:
            raise TypeError("only a GpuPass publishes keys")
        granted.spend(key_configs)
        self._shown = (app, granted)

    def hide(self) -> None:
        """Show nothing."""
        self._shown = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request: as the application shown, or with 503."""
        shown = self._shown
        if scope["type"] != "http":
            await self._nothing(scope, receive, send)
        elif shown is not None and shown[1].holds:
            await shown[0](scope, receive, send)
        else:
            await Response(status_code=503, headers=_RETRY)(scope, receive, send)


class GpuService:
    """What stands behind the gate (:class:`~.gpu_gate.Service`): keys, gateway, attester and engine.

    Args:
        source: of the processor's evidence.
        gpus: of the GPUs' evidence, for clients.
        count: how many GPUs the configuration says.
        make_engine: starts the engine.
        limits: bounds of the gateway.
        image_sha256: digest of the image in the statement.
        clock: gives the time in seconds since 1970.

    Attributes:
        app: the ASGI application.
    """

    def __init__(
        self,
        *,
        source: EvidenceSource,
        gpus: GpuSource,
        count: int,
        make_engine: Callable[[], WatchedEngine],
        limits: GatewayLimits,
        image_sha256: bytes,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._source, self._gpus, self._count = source, gpus, count
        self._make_engine, self._limits, self._image, self._clock = make_engine, limits, image_sha256, clock
        self._keys: Sequence[keys.PrivateKey] | None = None
        self._engine: WatchedEngine | None = None
        self._gateway: Gateway | None = None
        self.app = GatedApp()

    def prepare(self) -> Statement:
        """See :class:`~.gpu_gate.Service`.

        Nobody sees this statement: its digest is the nonce of the GPUs, so that their evidence is of this pass and of
        these keys.  The engine is not there yet, and its configuration not in it.
        """
        self._keys = keys.generate_keys()
        now = int(self._clock())
        return Statement(
            profile=PROFILE_OHTTP,
            role=ROLE_GATEWAY,
            key_configs_sha256=sha256(keys.encode_key_configs([key.config for key in self._keys])).digest(),
            tls_spki_sha256=None,
            nonce=secrets.token_bytes(32),
            epoch=None,
            not_before=now,
            expiry=now + _LIFETIME,
            gpu_digest=None,
            runtime_config_sha256=bytes(32),
            image_sha256=self._image,
        )

    def start(self) -> None:
        """See :class:`~.gpu_gate.Service`."""
        self._engine = self._make_engine()

    def alive(self) -> bool:
        """See :class:`~.gpu_gate.Service`."""
        return self._engine is not None and self._engine.alive()

    def publish(self, granted: GpuPass) -> None:
        """See :class:`~.gpu_gate.Service`."""
        if self._keys is None or self._engine is None:
            raise MaterialUnavailable("no keys are prepared, or no engine is there")
        gateway = Gateway(
            self._keys, self._engine, limits=self._limits, clock=self._clock, permitted=lambda: granted.holds
        )
        attester = Attester(
            self._source,
            key_configs=gateway.key_configs,
            runtime_config_sha256=runtime_config_sha256(self._engine.info, self._limits, gpus=self._count),
            image_sha256=self._image,
            gpus=self._gpus,
            clock=self._clock,
        )
        self._gateway, self._keys = gateway, None
        self.app.show(build_app(gateway, attestation_routes(attester)), gateway.key_configs, granted)

    def drop(self) -> None:
        """See :class:`~.gpu_gate.Service`."""
        self.app.hide()
        if self._gateway is not None:
            self._gateway.retire()
        self._gateway = self._keys = None

    def stop(self) -> None:
        """See :class:`~.gpu_gate.Service`."""
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpus:
    """GPUs to wait for.

    Attributes:
        system: the GPUs.
        display: gives the PCI addresses of the display devices.
        verify: our verifier.
        source: of their evidence, for clients.
    """

    system: GpuSystem
    display: Callable[[], tuple[str, ...]]
    verify: Verify
    source: GpuSource


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What a guest serves with.

    Attributes:
        config: how the service behaves.
        source: of the processor's evidence.
        image_sha256: digest of the image in the statement.
        start_engine: starts the engine.
        listening: the socket.
    """

    config: ServiceConfig
    source: EvidenceSource
    image_sha256: bytes
    start_engine: Callable[[], WatchedEngine]
    listening: socket.socket


def serve_behind_gate(
    machine: Machine, gpus: Gpus, *, ended: Callable[[float], bool], opened: Callable[[], None]
) -> None:
    """Serve while the GPU gate is open, until the end.

    Args:
        machine: what to serve with.
        gpus: the GPUs to wait for.
        ended: waits for so many seconds, and says whether it is the end.
        opened: called once the keys are public.

    Raises:
        GateClosed: a condition does not hold, or one was lost; the service manager may start the program again, and
            that is a whole new pass.
        MaterialUnavailable: the server has ended.
    """
    service = GpuService(
        source=machine.source,
        gpus=gpus.source,
        count=machine.config.gpus,
        make_engine=machine.start_engine,
        limits=machine.config.limits(),
        image_sha256=machine.image_sha256,
    )
    gate = GpuGate(
        system=gpus.system, display=gpus.display, service=service, verify=gpus.verify, gpus=machine.config.gpus
    )
    with Server(service.app, listening=machine.listening) as server:
        gate.keep(lambda seconds: ended(seconds) or _gone(server), opened)


def serve_with_nvml(machine: Machine, *, ended: Callable[[float], bool], opened: Callable[[], None]) -> None:
    """The same with the GPUs of this machine, and with the policy and the reference values on its verified root.

    Raises:
        Error: as :func:`serve_behind_gate`; or the GPUs or the policy cannot be used at all.
    """
    root = on_root()
    with Nvml() as system:
        source = NvmlSource(system, rims=root.rims, crls=root.crls, ocsp=root.ocsp)
        gpus = Gpus(system=system, display=display_devices, verify=root.verify, source=source)
        serve_behind_gate(machine, gpus, ended=ended, opened=opened)


def _gone(server: Server) -> bool:
    if server.wait(0):
        raise MaterialUnavailable("the server has ended")
    return False
