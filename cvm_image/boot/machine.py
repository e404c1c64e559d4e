"""A running guest: QEMU out of the lock, its console read line by line, ended for certain."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Final, Self

from ...errors import MaterialUnavailable
from ..assemble.toolbox import Toolbox

QEMU: Final = "usr/bin/qemu-system-x86_64"
_DATA: Final = ("usr/share/qemu", "usr/share/seabios")
_LINES: Final = 2000
_LINE_BYTES: Final = 4096
_STOP_SECONDS: Final = 5.0
_TUNING: Final = {"GLIBC_TUNABLES": "glibc.cpu.hwcaps=-FMA,-FMA4"}
"""For emulation: translated code leaves the upper halves of vector registers in use, after which one fused
multiply-add in QEMU's C library costs ten times what the library's own arithmetic for it does; both round alike."""


class Machine:
    """QEMU with an image, between ``with`` and its end.

    Args:
        tools: QEMU and what it needs, unpacked; None for the host's own program.
        arguments: as :func:`dokimos.cvm_image.boot.arguments.qemu_arguments` gives them.
        told: gets each line of the console as it comes, from another thread.

    Raises:
        MaterialUnavailable: QEMU does not start.
    """

    def __init__(
        self, tools: Toolbox | None, arguments: Sequence[str], *, told: Callable[[str], None] | None = None
    ) -> None:
        self._command = [*qemu_command(tools), *arguments]
        self._environment = {**os.environ, **_TUNING} if tools else None
        self._told = told
        self._lines: deque[str] = deque(maxlen=_LINES)
        self._news = threading.Condition()
        self._ended = False
        self.started = 0.0

    def __enter__(self) -> Self:
        self.started = time.monotonic()
        try:
            # An input that never comes: at the end of one, QEMU's main loop would spin and hold back its processors.
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=self._environment,
            )
        except OSError as exc:
            raise MaterialUnavailable(f"QEMU does not start: {exc.strerror}") from exc
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._reader.join(_STOP_SECONDS)
        if self._process.stdin:
            self._process.stdin.close()

    def _read(self) -> None:
        assert self._process.stdout  # noqa: S101 - for the type checker
        with self._process.stdout as console:
            while raw := console.readline(_LINE_BYTES):
                line = "".join(c for c in raw.decode("utf-8", "replace").strip() if c.isprintable())
                with self._news:
                    self._lines.append(line)
                    self._news.notify_all()
                if self._told:
                    self._told(line)
        with self._news:
            self._ended = True
            self._news.notify_all()

    @property
    def console(self) -> list[str]:
        """The last lines of the console."""
        with self._news:
            return list(self._lines)

    def wait_for(self, text: str, seconds: float) -> bool:
        """Wait until a line of the console holds a text.

        Args:
            text: what to wait for.
            seconds: how long from now.

        Returns:
            False if the machine ended, or the time did, before it came.
        """
        until = time.monotonic() + seconds
        with self._news:
            while not any(text in line for line in self._lines):
                left = until - time.monotonic()
                if self._ended or left <= 0:
                    return False
                self._news.wait(left)
        return True

    def wait_end(self, seconds: float) -> bool:
        """Wait until the machine has ended by itself; False if it runs on."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        self._reader.join(_STOP_SECONDS)
        return True


def qemu_command(tools: Toolbox | None) -> list[str]:
    """How QEMU is called, without the arguments of an image."""
    if tools is None:
        return ["qemu-system-x86_64"]
    data = [part for folder in _DATA for part in ("-L", str(tools.folder / folder))]
    return [*tools.command(QEMU), *data]


def free_port() -> int:
    """A TCP port on loopback that nobody listens on right now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])
