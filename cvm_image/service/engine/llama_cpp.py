"""The CPU engine: llama.cpp (xllamacpp), a fresh process for every request, the next one started beforehand."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import tempfile
import threading
from importlib.metadata import PackageNotFoundError, version
from typing import Any, BinaryIO, Final

from ....errors import MaterialUnavailable
from . import worker
from .base import Busy, ChatAnswer, ChatRequest, EngineFailed, EngineInfo, Model, TooLarge

CONTEXT: Final = 2048
_LOAD_SECONDS = 60.0


class _Worker:
    """One process, from its start to its one answer."""

    def __init__(self, command: list[str]) -> None:
        # Here and not in the process, which may be killed at any time: a folder that only this user enters.
        self._folder = tempfile.mkdtemp(prefix="dk")
        self._process = subprocess.Popen(
            [*command, self._folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            close_fds=True,
        )
        self.pid = self._process.pid

    def _streams(self) -> tuple[BinaryIO, BinaryIO]:
        if self._process.stdin is None or self._process.stdout is None:
            raise EngineFailed
        return self._process.stdin, self._process.stdout  # type: ignore[return-value]  # binary: no text mode above

    def exchange(self, request: dict[str, Any], seconds: float) -> dict[str, Any]:
        """Send a request and take the next frame; the process dies at the deadline.

        Raises:
            EngineFailed: no frame.
        """
        stdin, stdout = self._streams()
        timer = threading.Timer(seconds, self._process.kill)
        timer.start()
        try:
            worker.write_frame(stdin, request)
            found = worker.read_frame(stdout)
        except (OSError, ValueError):
            found = None
        finally:
            timer.cancel()
        if found is None:
            raise EngineFailed
        return found

    def end(self) -> None:
        """Kill it, if it still runs, reap it, and remove its folder."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        shutil.rmtree(self._folder, ignore_errors=True)


class LlamaCppEngine:
    """Answers with a GGUF model on the CPU.

    Args:
        model: the model's file.
        threads: threads of one process.
        active: requests that are worked on at one time; more are refused as busy.
        seconds: time for one answer.

    Raises:
        MaterialUnavailable: the engine extra is not installed.
    """

    def __init__(self, model: Model, *, threads: int = 1, active: int = 2, seconds: float = 120.0) -> None:
        try:
            installed = version("xllamacpp")
        except PackageNotFoundError as exc:
            raise MaterialUnavailable("the CPU engine is not installed: pip install 'dokimos[engine]'") from exc
        self._info = EngineInfo(
            name="llama.cpp (xllamacpp)",
            version=installed,
            model=model.alias,
            model_sha256=model.sha256,
            max_context=CONTEXT,
            isolation="process",
        )
        self._command = [sys.executable, "-m", worker.__name__, str(model.path), str(CONTEXT), str(threads)]
        self._seconds = seconds
        # With one answer at a time, the next process loads after it, instead of taking its processors away.
        self._overlap = active > 1
        self._slots = threading.BoundedSemaphore(active)
        self._lock = threading.Lock()
        self._running: set[_Worker] = set()
        self._next: _Worker | None = None
        self._closed = False
        self._prepare()

    @property
    def info(self) -> EngineInfo:
        """What it is."""
        return self._info

    @property
    def worker_pids(self) -> tuple[int, ...]:
        """Processes that are there now, for those who watch them."""
        with self._lock:
            return tuple(sorted(process.pid for process in self._running))

    def alive(self) -> bool:
        """Whether it can still answer: a process that dies is followed by another, until it is closed."""
        return not self._closed

    def _start(self) -> _Worker:
        with self._lock:
            if self._closed:
                raise EngineFailed
            process = _Worker(self._command)
            self._running.add(process)
            return process

    def _prepare(self) -> None:
        """Start the process for the request after this one; it loads while nobody waits for it."""
        try:
            process = self._start()
        except (OSError, EngineFailed):
            return
        with self._lock:
            surplus, self._next = self._next, process
        if surplus is not None:
            self._end(surplus)

    def _ready(self) -> _Worker:
        """A process that has loaded the model: the one that waits, or a new one where that has died meanwhile."""
        with self._lock:
            waiting, self._next = self._next, None
        if waiting is not None and self._loaded(waiting):
            return waiting
        try:
            fresh = self._start()
        except OSError:
            raise EngineFailed from None
        if not self._loaded(fresh):
            raise EngineFailed
        return fresh

    def _loaded(self, process: _Worker) -> bool:
        """Wait until a process has loaded the model; one that fails is ended."""
        with contextlib.suppress(EngineFailed):
            process.exchange({"ready": True}, _LOAD_SECONDS)
            return True
        self._end(process)
        return False

    def _end(self, process: _Worker) -> None:
        process.end()
        with self._lock:
            self._running.discard(process)

    def chat(self, request: ChatRequest) -> ChatAnswer:
        """Answer one chat in a process of its own, which then ends.

        Raises:
            Busy: as many requests as allowed are being worked on.
            TooLarge: the chat does not fit into the context.
            EngineFailed: the process died, or took too long.
        """
        if not self._slots.acquire(blocking=False):
            raise Busy
        try:
            return self._chat(request)
        finally:
            self._slots.release()

    def _chat(self, request: ChatRequest) -> ChatAnswer:
        process = self._ready()
        try:
            if self._overlap:
                self._prepare()
            found = process.exchange(_document(request), self._seconds)
        finally:
            self._end(process)
            if not self._overlap:
                self._prepare()
        if found.get("error") == "too-large":
            raise TooLarge
        try:
            return ChatAnswer(
                text=str(found["text"]),
                finish_reason="length" if found["finish_reason"] == "length" else "stop",
                prompt_tokens=int(found["prompt_tokens"]),
                completion_tokens=int(found["completion_tokens"]),
            )
        except (KeyError, TypeError, ValueError):
            raise EngineFailed from None

    def close(self) -> None:
        """End every process."""
        with self._lock:
            self._closed = True
            processes, self._next = list(self._running), None
        for process in processes:
            self._end(process)


def _document(request: ChatRequest) -> dict[str, Any]:
    document: dict[str, Any] = {
        "messages": [{"role": role, "content": content} for role, content in request.messages],
        "max_tokens": request.max_tokens,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "stop": list(request.stop),
        "cache_prompt": False,
    }
    if request.seed is not None:
        document["seed"] = request.seed
    return document
