"""Reports and quotes from the simulated secure processor, inside of a booted guest.

Taken only where no real interface is there.  A host gains nothing by that: the reports are signed under the simulated
root, which a policy has to name.
"""

from __future__ import annotations

import os
import secrets
import select
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from ..errors import MalformedEvidence, MaterialUnavailable, UsageError
from ..evidence.bundle import TdxEvidence
from ..evidence.gpu_part import GpuPart, parse_gpu_part
from . import sim_port
from .provider import REPORT_DATA_SIZE, VMPLS, Quote
from .sim_port import Tee

DEFAULT_PORTS: Final = Path("/sys/class/virtio-ports")
"""Where the kernel lists the ports of virtio-serial."""
_DEVICES: Final = Path("/dev")
_SECONDS: Final = 30.0
_CHUNK: Final = 1 << 16
_T = TypeVar("_T")


def find_port(tee: Tee, ports: Path = DEFAULT_PORTS, devices: Path = _DEVICES) -> Path | None:
    """The port of the simulated secure processor of this kind, found by its name, or None."""
    return _named(sim_port.PORT_NAMES[tee], ports, devices)


def find_gpus(ports: Path = DEFAULT_PORTS, devices: Path = _DEVICES) -> SimPortGpus | None:
    """The simulated GPUs of this machine, or None where it has none."""
    port = _named(sim_port.GPU_PORT_NAME, ports, devices)
    return None if port is None else SimPortGpus(port)


def _named(name: str, ports: Path, devices: Path) -> Path | None:
    for entry in sorted(ports.glob("*/name")):
        try:
            if entry.read_text().strip() == name:
                return devices / entry.parent.name
        except (OSError, UnicodeDecodeError):
            continue
    return None


class _SimPort:
    """Requests over a virtio-serial port; from any thread.

    Args:
        port: the device.
        seconds: time for one answer.
    """

    name = "SIMULATED port"
    simulated = True

    def __init__(self, port: Path, *, seconds: float = _SECONDS) -> None:
        self._port = port
        self._seconds = seconds
        self._lock = threading.Lock()

    def _ask(self, number: int, request: bytes, wanted: int, parse: Callable[[bytes], _T]) -> _T:
        """Send a request and read the answer of the wanted kind.

        Raises:
            MaterialUnavailable: no answer in time, a garbled one, or a refusal.
        """
        with self._lock:
            try:
                # Opened anew each time: what an earlier answer may have left unread is gone with the old descriptor.
                port = os.open(self._port, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
            except OSError as exc:
                raise MaterialUnavailable(f"{self.name}: {exc.strerror} ({self._port})") from exc
            try:
                return parse(self._exchange(port, number, request, wanted))
            except (OSError, MalformedEvidence) as exc:
                raise MaterialUnavailable(f"{self.name}: {exc}") from exc
            finally:
                os.close(port)

    def _exchange(self, port: int, number: int, request: bytes, wanted: int) -> bytes:
        deadline = time.monotonic() + self._seconds
        _write(port, request, deadline)
        while True:
            header = sim_port.parse_header(_read(port, sim_port.HEADER.size, deadline))
            body = _read(port, header.size, deadline)
            if header.number == number:
                break  # an answer to an earlier request, whose asker gave up, is passed over
        if header.kind != wanted:
            raise MaterialUnavailable(f"{self.name}: the secure processor refused")
        return body


class SimPortProvider(_SimPort):
    """A :class:`~dokimos.attest.provider.Provider` on a virtio-serial port; arguments as :class:`_SimPort`."""

    def report(self, report_data: bytes, *, vmpl: int = 0) -> Quote:
        """A fresh report; see :class:`~dokimos.attest.provider.Provider`.

        Raises:
            UsageError: not 64 bytes, or a level other than 0 to 3.
            MaterialUnavailable: no answer in time, a garbled one, or a refusal.
        """
        if len(report_data) != REPORT_DATA_SIZE or vmpl not in VMPLS:
            raise UsageError(f"a report takes {REPORT_DATA_SIZE} bytes of report_data and a VMPL of 0 to 3")
        number = secrets.randbits(64)
        request = sim_port.encode_request(number, report_data, vmpl)
        return self._ask(number, request, sim_port.ANSWER, sim_port.parse_answer)


class SimPortTd(_SimPort):
    """A :class:`~dokimos.attest.provider.Platform` in a simulated TD; arguments as :class:`_SimPort`.

    The simulated secure processor gives the event log too: on hardware it lies in the guest's own memory.
    """

    def evidence(self, report_data: bytes) -> TdxEvidence:
        """A fresh quote with what vouches for it; see :class:`~dokimos.attest.provider.EvidenceSource`.

        Raises:
            UsageError: not 64 bytes.
            MaterialUnavailable: no answer in time, a garbled one, or a refusal.
        """
        if len(report_data) != REPORT_DATA_SIZE:
            raise UsageError(f"a quote takes {REPORT_DATA_SIZE} bytes of report_data")
        number = secrets.randbits(64)
        request = sim_port.encode_td_request(number, report_data)
        return self._ask(number, request, sim_port.TD_ANSWER, sim_port.parse_td_answer)


class SimPortGpus(_SimPort):
    """A :class:`~dokimos.attest.attester.GpuSource` of simulated GPUs; arguments as :class:`_SimPort`.

    On hardware the guest's driver gives all this, and the gate decides before; nothing here is confirmed by a guest.
    """

    def collect(self, nonce: bytes) -> GpuPart:
        """Evidence of all devices over a nonce; see :class:`~dokimos.attest.attester.GpuSource`.

        Raises:
            UsageError: not 32 bytes.
            MaterialUnavailable: no answer in time, a garbled one, or a refusal.
        """
        if len(nonce) != sim_port.GPU_NONCE_SIZE:
            raise UsageError(f"GPUs take a nonce of {sim_port.GPU_NONCE_SIZE} bytes")
        number = secrets.randbits(64)
        request = sim_port.encode_gpu_request(number, nonce)
        return self._ask(number, request, sim_port.GPU_ANSWER, parse_gpu_part)


def _wait(port: int, deadline: float, *, write: bool) -> None:
    left = deadline - time.monotonic()
    ready = left > 0 and any(select.select([] if write else [port], [port] if write else [], [], left))
    if not ready:
        raise MaterialUnavailable("simulated port: no answer in time")


def _write(port: int, data: bytes, deadline: float) -> None:
    while data:
        _wait(port, deadline, write=True)
        data = data[os.write(port, data) :]


def _read(port: int, size: int, deadline: float) -> bytes:
    out = bytearray()
    while len(out) < size:
        _wait(port, deadline, write=False)
        try:
            chunk = os.read(port, min(size - len(out), _CHUNK))
        except BlockingIOError:
            continue
        if not chunk:
            raise MaterialUnavailable("simulated port: nobody is behind it")
        out += chunk
    return bytes(out)
