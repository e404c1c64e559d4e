"""The far side of a simulated port: the secure processor, or GPUs, that answer one guest over a UNIX socket.

What the guest sends is hostile input: bounded, read totally, and never more than a closed connection.
"""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from ..attest import sim_port
from ..attest.sim_nvidia import SimGpuSource
from ..attest.sim_tdx import SimulatedTd
from ..attest.simulator import SimulatedGuest
from ..errors import Error, MalformedEvidence, MaterialUnavailable

_START_SECONDS: Final = 10.0


class SecureProcessor:
    """Serves a guest between ``with`` and its end.

    Args:
        source: the launched guest whose reports or quotes it makes, or the GPUs of its machine.
        path: of the UNIX socket to listen on, at most 107 bytes.

    Raises:
        MaterialUnavailable: the socket cannot be made.
    """

    def __init__(self, source: SimulatedGuest | SimulatedTd | SimGpuSource, path: Path) -> None:
        self._source = source
        self._path = path
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._failed: OSError | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.answered = 0

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait(_START_SECONDS)
        if self._failed:
            raise MaterialUnavailable(f"simulated secure processor: {self._path}: {self._failed.strerror}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(_START_SECONDS)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._main())

    async def _main(self) -> None:
        self._stop = asyncio.Event()
        try:
            server = await asyncio.start_unix_server(self._serve, self._path)
        except OSError as exc:
            self._failed = exc
            self._ready.set()
            return
        self._ready.set()
        async with server:
            await self._stop.wait()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                header = sim_port.parse_header(await reader.readexactly(sim_port.HEADER.size))
                body = await reader.readexactly(header.size)
                writer.write(await asyncio.to_thread(self._answer, header, body))
                await writer.drain()
        except (asyncio.IncompleteReadError, MalformedEvidence, ConnectionError):
            pass  # out of step: nothing that follows could be trusted to begin a frame
        finally:
            writer.close()

    def _answer(self, header: sim_port.Header, body: bytes) -> bytes:
        try:
            made = _made(self._source, header, body)
        except Error:
            return sim_port.encode_answer(header.number, None)
        self.answered += 1
        return made


def _made(source: SimulatedGuest | SimulatedTd | SimGpuSource, header: sim_port.Header, body: bytes) -> bytes:
    if isinstance(source, SimGpuSource):
        return _gpus(source, header, body)
    return _quote(source, header, body) if isinstance(source, SimulatedTd) else _report(source, header, body)


def _gpus(source: SimGpuSource, header: sim_port.Header, body: bytes) -> bytes:
    if header.kind != sim_port.GPU_REQUEST:
        raise MalformedEvidence("simulated port: not a request to GPUs")
    return sim_port.encode_gpu_answer(header.number, source.collect(sim_port.parse_gpu_request(body)))


def _report(guest: SimulatedGuest, header: sim_port.Header, body: bytes) -> bytes:
    if header.kind != sim_port.REQUEST:
        raise MalformedEvidence("simulated port: not a request for a report")
    request = sim_port.parse_request(body)
    return sim_port.encode_answer(header.number, guest.report(request.report_data, vmpl=request.vmpl))


def _quote(guest: SimulatedTd, header: sim_port.Header, body: bytes) -> bytes:
    if header.kind != sim_port.TD_REQUEST:
        raise MalformedEvidence("simulated port: not a request for a quote")
    return sim_port.encode_td_answer(header.number, guest.evidence(sim_port.parse_td_request(body)))
