"""Runs an ASGI application without a word: no access log, no server or forwarded fields, no signal handlers."""

from __future__ import annotations

import socket
import threading
from types import TracebackType
from typing import TYPE_CHECKING, Self

import uvicorn

from ...errors import MaterialUnavailable

if TYPE_CHECKING:
    from starlette.types import ASGIApp

_BACKLOG = 128
_CONNECTIONS = 256


class Server:
    """An application on a socket, served from a background thread between ``with`` and its end.

    Args:
        app: the application.
        host: address to listen on.
        port: TCP port; 0 for any that is free.
        listening: a socket that listens already, in place of both.

    Attributes:
        url: where it listens, known at once.

    Raises:
        MaterialUnavailable: the address cannot be used.
    """

    def __init__(
        self, app: ASGIApp, *, host: str = "127.0.0.1", port: int = 0, listening: socket.socket | None = None
    ) -> None:
        try:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            made = listening or socket.create_server((host, port), family=family, backlog=_BACKLOG)
            self._socket = made
        except OSError as exc:
            raise MaterialUnavailable(f"cannot listen on {host} port {port}: {exc.strerror}") from exc
        bound = self._socket.getsockname()
        self.url = f"http://[{bound[0]}]:{bound[1]}" if ":" in host else f"http://{bound[0]}:{bound[1]}"
        config = uvicorn.Config(
            app,
            log_config=None,
            log_level="critical",  # an error's traceback could quote what it failed on
            access_log=False,
            server_header=False,
            date_header=False,
            proxy_headers=False,
            h11_max_incomplete_event_size=16 << 10,
            limit_concurrency=_CONNECTIONS,
            timeout_keep_alive=5,
            timeout_graceful_shutdown=2,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        self._server.run(sockets=[self._socket])

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until the server has ended, or for so long; True once it has."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.should_exit = True
        self._thread.join(10)
        self._socket.close()
