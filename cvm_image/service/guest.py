"""The service's program inside of the guest: ``python3 -m dokimos.cvm_image.service.guest``.

One file decides how it behaves, ``/etc/dokimos/service.toml`` on the verified root; no argument, no variable of the
environment, nothing that a host could add.  Its listening socket comes from the service manager, so that the program
itself lives in a network of its own with nobody in it.  Keys are made in memory and die with it.
"""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import sys
import threading
import tomllib
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final

from ...attest import sim_guest
from ...attest.attester import NONCE_SIZE, Attester, GpuSource
from ...attest.host import detect
from ...attest.provider import REPORT_DATA_SIZE, Platform
from ...attest.service import attestation_routes
from ...errors import Error, MalformedEvidence, MaterialUnavailable
from ...ohttp import keys
from .app import build_app
from .chat import ChatLimits
from .config import runtime_config_sha256
from .engine.base import Engine, Model
from .gateway import Gateway, GatewayLimits
from .server import Server

CONFIG: Final = Path("/etc/dokimos/service.toml")
COMMAND_LINE: Final = Path("/proc/cmdline")
_BY_FIRMWARE: Final = b" initrd=initrd"
"""What OVMF writes behind the command line for its own RAM disk: the image is the same on each platform."""
_MAX_CONFIG: Final = 64 << 10
_MOST_GPUS: Final = 64
_FIRST_INHERITED: Final = 3  # sd_listen_fds(3)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceConfig:
    """How the service behaves.

    Attributes:
        model: path of the weights, on a volume whose root hash stands on the measured command line.
        alias: name under which the model is offered.
        model_sha256: of the weights.  Believed, not computed: dm-verity checks every block that is read
            against a root hash, and this file lies on a volume of the same kind.
        threads: of the engine, for one answer.
        active: answers at one time.
        seconds: for one answer.
        window: seconds by which a request's Date may differ.
        max_tokens: most tokens of an answer.
        gpus: how many GPUs must be there and be attested before any key is public; 0 for a machine without.
    """

    model: str
    alias: str
    model_sha256: str
    threads: int = 1
    active: int = 1
    seconds: int = 300
    window: int = 120
    max_tokens: int = 512
    gpus: int = 0

    def limits(self) -> GatewayLimits:
        """Bounds of the gateway."""
        return GatewayLimits(window=self.window, chat=ChatLimits(max_tokens=self.max_tokens))


def parse_config(text: str) -> ServiceConfig:
    """Read the configuration.

    Raises:
        MalformedEvidence: not TOML, an unknown or missing key, or a value of another type.
    """
    try:
        data = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as exc:
        raise MalformedEvidence(f"service configuration: {exc}") from exc
    known = {item.name: item for item in fields(ServiceConfig)}
    for name, value in data.items():
        if name not in known:
            raise MalformedEvidence(f"service configuration: unknown key {name!r}")
        if type(value) is not (int if known[name].type == "int" else str):
            raise MalformedEvidence(f"service configuration: {name} is not of type {known[name].type}")
    missing = [name for name in ("model", "alias", "model_sha256") if name not in data]
    if missing:
        raise MalformedEvidence(f"service configuration: {missing[0]} is missing")
    if not 0 <= data.get("gpus", 0) <= _MOST_GPUS:
        raise MalformedEvidence(f"service configuration: gpus is 0 to {_MOST_GPUS}")
    return ServiceConfig(**data)


def image_digest(command_line: bytes) -> bytes:
    """SHA-256 of the image's command line, which names every volume by its root hash.

    Args:
        command_line: as the kernel shows it, perhaps with the firmware's word behind it.
    """
    return hashlib.sha256(command_line.removesuffix(_BY_FIRMWARE)).digest()


@dataclass(slots=True, kw_only=True)
class Guest:
    """The service, assembled.

    Attributes:
        config: how it behaves.
        platform: who makes its evidence.
        engine: who answers.
        command_line: of the kernel, which is measured and names every volume.
        gpus: who makes the evidence of its GPUs, or None where it has none.
    """

    config: ServiceConfig
    platform: Platform
    engine: Engine
    command_line: bytes
    gpus: GpuSource | None = None
    app: Any = field(init=False)

    def __post_init__(self) -> None:
        gateway = Gateway(keys.generate_keys(), self.engine, limits=self.config.limits())
        attester = Attester(
            self.platform,
            key_configs=gateway.key_configs,
            runtime_config_sha256=runtime_config_sha256(self.engine.info, gateway.limits),
            image_sha256=image_digest(self.command_line),
            gpus=self.gpus,
        )
        self.app = build_app(gateway, attestation_routes(attester))
        # A platform that gives no evidence is found out now, not by the first client.
        self.platform.evidence(bytes(REPORT_DATA_SIZE))
        if self.gpus:
            self.gpus.collect(bytes(NONCE_SIZE))


def listening_socket(environment: dict[str, str]) -> socket.socket:
    """The socket that the service manager listens on for us (sd_listen_fds(3)).

    Raises:
        MaterialUnavailable: it handed over none, or several.
    """
    ours = environment.get("LISTEN_PID") == str(os.getpid())
    if not ours or environment.get("LISTEN_FDS") != "1":
        raise MaterialUnavailable("the service manager handed over no socket, or not one")
    os.set_inheritable(_FIRST_INHERITED, False)
    try:
        return socket.socket(fileno=_FIRST_INHERITED)
    except OSError as exc:
        raise MaterialUnavailable(f"what the service manager handed over is no socket: {exc.strerror}") from exc


def tell_manager(environment: dict[str, str], state: bytes) -> None:
    """Tell the service manager how far we are, if it wants to know (sd_notify(3))."""
    address = environment.get("NOTIFY_SOCKET", "")
    if address.startswith(("/", "@")):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as manager:
            manager.connect(("\0" + address[1:]) if address.startswith("@") else address)
            manager.sendall(state)


def _read(path: Path, limit: int) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as exc:
        raise MaterialUnavailable(f"{path}: {exc.strerror}") from exc
    if len(data) > limit:
        raise MalformedEvidence(f"{path}: longer than {limit} bytes")
    return data


def _run(listening: socket.socket, environment: dict[str, str]) -> None:
    from .engine.llama_cpp import LlamaCppEngine  # noqa: PLC0415 - after the cheap refusals

    config = parse_config(_read(CONFIG, _MAX_CONFIG).decode("utf-8", "replace"))
    if not Path(config.model).is_file():
        raise MaterialUnavailable(f"{config.model}: not there")
    platform = detect()
    model = Model(path=Path(config.model), alias=config.alias, sha256=config.model_sha256)

    def start_engine() -> LlamaCppEngine:
        return LlamaCppEngine(model, threads=config.threads, active=config.active, seconds=float(config.seconds))

    command_line = _read(COMMAND_LINE, _MAX_CONFIG).removesuffix(b"\n")
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())

    def serving() -> None:
        tell_manager(environment, b"READY=1")
        print("dokimos: serving", flush=True)

    if config.gpus:
        from . import gpu_guest  # noqa: PLC0415 - an image without GPUs has it not

        platform.evidence(bytes(REPORT_DATA_SIZE))
        machine = gpu_guest.Machine(
            config=config,
            source=platform,
            image_sha256=image_digest(command_line),
            start_engine=start_engine,
            listening=listening,
        )
        gpu_guest.serve_with_nvml(machine, ended=ended.wait, opened=serving)
        return
    engine = start_engine()
    try:
        guest = Guest(
            config=config, platform=platform, engine=engine, command_line=command_line, gpus=sim_guest.find_gpus()
        )
        with Server(guest.app, listening=listening) as server:
            serving()
            while not ended.wait(0.5):
                if server.wait(0):
                    raise MaterialUnavailable("the server has ended")
    finally:
        engine.close()


def main() -> None:
    """Serve until the service manager ends it; whatever is missing ends it at once, with one line on the console."""
    environment = dict(os.environ)
    os.environ.clear()  # nothing below may be steered by it
    try:
        _run(listening_socket(environment), environment)
    except Error as exc:
        print(f"dokimos: refused: {exc}", flush=True)
        sys.exit(int(exc.exit_code))


if __name__ == "__main__":
    main()
