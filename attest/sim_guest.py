"""Reports from the simulated secure processor, inside of a booted guest.

Taken only where no real interface is there.  A host gains nothing by that: the reports are signed under the simulated
root, which a policy has to name.
"""

from __future__ import annotations

import os
import secrets
import select
import threading
import time
from pathlib import Path
from typing import Final

from ..errors import MalformedEvidence, MaterialUnavailable, UsageError
from . import sim_port
from .provider import REPORT_DATA_SIZE, VMPLS, Quote

DEFAULT_PORTS: Final = Path("/sys/class/virtio-ports")
"""Where the kernel lists the ports of virtio-serial."""
_DEVICES: Final = Path("/dev")
_SECONDS: Final = 30.0
_CHUNK: Final = 1 << 16


def find_port(ports: Path = DEFAULT_PORTS, devices: Path = _DEVICES) -> Path | None:
    """The port of the simulated secure processor, found by its name, or None."""
    for entry in sorted(ports.glob("*/name")):
        try:
            if entry.read_text().strip() == sim_port.PORT_NAME:
                return devices / entry.parent.name
        except (OSError, UnicodeDecodeError):
            continue
    return None


class SimPortProvider:
    """A :class:`~dokimos.attest.provider.Provider` on a virtio-serial port; from any thread.

    Args:
        port: the device.
        seconds: time for one report.
    """

    name = "SIMULATED port"
    simulated = True

    def __init__(self, port: Path, *, seconds: float = _SECONDS) -> None:
        self._port = port
        self._seconds = seconds
        self._lock = threading.Lock()

    def report(self, report_data: bytes, *, vmpl: int = 0) -> Quote:
        """A fresh report; see :class:`~dokimos.attest.provider.Provider`.

        Raises:
            UsageError: not 64 bytes, or a level other than 0 to 3.
            MaterialUnavailable: no answer in time, a garbled one, or a refusal.
        """
        if len(report_data) != REPORT_DATA_SIZE or vmpl not in VMPLS:
            raise UsageError(f"a report takes {REPORT_DATA_SIZE} bytes of report_data and a VMPL of 0 to 3")
        number = secrets.randbits(64)
        with self._lock:
            try:
                # Opened anew each time: what an earlier answer may have left unread is gone with the old descriptor.
                port = os.open(self._port, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
            except OSError as exc:
                raise MaterialUnavailable(f"{self.name}: {exc.strerror} ({self._port})") from exc
            try:
                return self._exchange(port, number, sim_port.encode_request(number, report_data, vmpl))
            except (OSError, MalformedEvidence) as exc:
                raise MaterialUnavailable(f"{self.name}: {exc}") from exc
            finally:
                os.close(port)

    def _exchange(self, port: int, number: int, request: bytes) -> Quote:
        deadline = time.monotonic() + self._seconds
        _write(port, request, deadline)
        while True:
            header = sim_port.parse_header(_read(port, sim_port.HEADER.size, deadline))
            body = _read(port, header.size, deadline)
            if header.number == number:
                break  # an answer to an earlier request, whose asker gave up, is passed over
        if header.kind != sim_port.ANSWER:
            raise MaterialUnavailable(f"{self.name}: the secure processor refused")
        return sim_port.parse_answer(body)


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
