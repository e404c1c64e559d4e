"""The gateway: opens what was sealed to its keys, lets a chat request through, seals the answer.

Errors before a request is open are visible on the wire and say next to nothing; everything later travels sealed.  No
content, no key, no address is logged: nothing here logs at all.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import Route

from ...errors import Error, MalformedEvidence
from ...ohttp import bhttp, keys, ohttp
from .chat import PATH, BadRequest, ChatLimits, encode_answer, encode_error, parse_request
from .engine.base import Engine, EngineError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request

GATEWAY_PATH: Final = "/.well-known/ohttp-gateway"
"""Where requests go, and where the key configurations are (RFC 9540 2)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayLimits:
    """Bounds of the gateway.

    Attributes:
        request: bytes of a sealed request.
        receive: seconds in which it must have come in full.
        in_flight: sealed requests at one time.
        window: seconds by which a request's Date may differ from now, in both directions; its encapsulated key is
            remembered for as long as its Date could still pass.
        remembered: encapsulated keys that are remembered; more within one window are refused.
        chat: bounds of the chat in it.
    """

    request: int = 128 << 10
    receive: float = 10.0
    in_flight: int = 32
    window: int = 120
    remembered: int = 100_000
    chat: ChatLimits = field(default_factory=ChatLimits)


class _Seen:
    """Encapsulated keys of the requests of one window (RFC 9458 6.5.1); from any thread."""

    def __init__(self, seconds: int, most: int, clock: Callable[[], float]) -> None:
        self._seconds, self._most, self._clock = seconds, most, clock
        self._lock = threading.Lock()
        self._known: set[bytes] = set()
        self._order: deque[tuple[float, bytes]] = deque()

    def first(self, enc: bytes) -> bool:
        """Whether it is new; False also where there is no room to remember it."""
        now = self._clock()
        with self._lock:
            while self._order and self._order[0][0] < now:
                self._known.discard(self._order.popleft()[1])
            if enc in self._known or len(self._order) >= self._most:
                return False
            self._known.add(enc)
            self._order.append((now + self._seconds, enc))
            return True


class _Plain(Error):
    """An answer without encryption: a status, and at most a problem type."""

    def __init__(self, status: int, problem: str | None = None) -> None:
        super().__init__(str(status))
        self.status = status
        self.problem = problem


class Gateway:
    """The OHTTP gateway in front of an engine.

    Args:
        private_keys: its keys; they are made in memory and stay there.
        engine: who answers.
        limits: bounds; None for the defaults.
        clock: gives the time in seconds since 1970.
        permitted: whether requests may be opened at this moment; asked for each, before and after the engine.

    Attributes:
        key_configs: the exact ``application/ohttp-keys`` bytes.
    """

    def __init__(
        self,
        private_keys: Sequence[keys.PrivateKey],
        engine: Engine,
        *,
        limits: GatewayLimits | None = None,
        clock: Callable[[], float] = time.time,
        permitted: Callable[[], bool] = lambda: True,
    ) -> None:
        opener = ohttp.Gateway(private_keys)
        self._opener: ohttp.Gateway | None = opener
        self.key_configs = opener.key_configs
        self._engine = engine
        self.limits = limits or GatewayLimits()
        self._clock = clock
        self._permitted = permitted
        # Twice the window: a Date at its far end passes until the near end.
        self._seen = _Seen(2 * self.limits.window + 1, self.limits.remembered, clock)
        self._in_flight = 0

    def routes(self) -> list[Route]:
        """Routes of an ASGI application."""
        return [
            Route(GATEWAY_PATH, self._keys, methods=["GET"]),
            Route(GATEWAY_PATH, self._post, methods=["POST"]),
        ]

    async def _keys(self, request: Request) -> Response:
        del request
        return Response(self.key_configs, media_type=keys.MEDIA_TYPE)

    async def _post(self, request: Request) -> Response:
        if self._in_flight >= self.limits.in_flight:
            return _refusal(_Plain(503))
        self._in_flight += 1
        try:
            sealed = await self._receive(request)
            answer = await run_in_threadpool(self.answer, sealed)
        except _Plain as plain:
            return _refusal(plain)
        finally:
            self._in_flight -= 1
        return Response(answer, media_type=ohttp.RESPONSE_TYPE)

    async def _receive(self, request: Request) -> bytes:
        """The sealed request, within its bounds of size and time."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != ohttp.REQUEST_TYPE:
            raise _Plain(415)
        declared = request.headers.get("content-length", "0")
        if not declared.isdecimal() or len(declared) > 12 or int(declared) > self.limits.request:
            raise _Plain(413)
        out = bytearray()
        try:
            async with asyncio.timeout(self.limits.receive):
                async for chunk in request.stream():
                    out += chunk
                    if len(out) > self.limits.request:
                        raise _Plain(413)
        except TimeoutError:
            raise _Plain(408) from None
        except ClientDisconnect:
            raise _Plain(400) from None
        return bytes(out)

    def answer(self, sealed: bytes) -> bytes:
        """Open one request, have it answered, seal the answer.

        Raises:
            Error: what cannot be answered under seal; its texts hold nothing of the request.
        """
        opener = self._opener
        if opener is None or not self._permitted():
            raise _Plain(503)
        try:
            opened = opener.open(sealed)
        except ohttp.UnknownKey:
            raise _Plain(401, ohttp.KEY_PROBLEM) from None
        except MalformedEvidence:
            raise _Plain(400) from None
        try:
            inner = bhttp.decode_request(opened.request, max_content=self.limits.chat.content)
        except MalformedEvidence:
            raise _Plain(400) from None
        # A Date of another clock can be put right by the client, so this one is said in the clear (RFC 9458 6.5.2).
        self._in_window(inner)
        if not self._seen.first(opened.enc):
            raise _Plain(400)
        status, content = self._inner(inner)
        if self._opener is None or not self._permitted():
            raise _Plain(503)
        headers = (("content-type", "application/json"), ("cache-control", "no-store"))
        return opened.seal(bhttp.encode_response(bhttp.Response(status=status, headers=headers, content=content)))

    def retire(self) -> None:
        """Forget the keys: nothing opens any more, and what is just being answered is not sealed."""
        self._opener = None

    def _in_window(self, inner: bhttp.Request) -> None:
        dates = [value for name, value in inner.headers if name == "date"]
        try:
            sent = parsedate_to_datetime(dates[0]).timestamp() if len(dates) == 1 else None
        except (ValueError, OverflowError, TypeError):
            sent = None
        if sent is None or abs(sent - self._clock()) > self.limits.window:
            raise _Plain(400, ohttp.DATE_PROBLEM)

    def _inner(self, inner: bhttp.Request) -> tuple[int, bytes]:
        """Status and content of the answer to an open request."""
        try:
            _allowed(inner)
            request = parse_request(inner.content, self._engine.info, self.limits.chat)
            return 200, encode_answer(self._engine.chat(request), self._engine.info)
        except (BadRequest, EngineError) as exc:
            return exc.status, encode_error(exc.text)


def _allowed(inner: bhttp.Request) -> None:
    """Only one method on one path; an engine behind has others, and nobody gets to them."""
    if inner.path != PATH:
        raise BadRequest("no such path", 404)
    if inner.method != "POST":
        raise BadRequest("this path takes POST only", 405)
    if any(name == "expect" for name, _ in inner.headers):
        raise BadRequest("no expectation can be met here", 417)


def _refusal(plain: _Plain) -> Response:
    if plain.problem is None:
        return Response(status_code=plain.status)
    content = json.dumps({"type": plain.problem})
    return Response(content, plain.status, media_type="application/problem+json")
