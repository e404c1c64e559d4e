"""The relay of Oblivious HTTP: it knows who asks and not what, and keeps neither.

What goes on to the gateway, and what comes back, is built anew from content type and content; no other field passes in
either direction, no query, no cookie, and nothing of the client's address.  Only addresses that the operator named are
ever asked.  Nothing is stored and nothing is logged; whoever serves the app switches the server's own traces off
(``uvicorn``: ``access_log=False``, ``server_header=False``, ``proxy_headers=False``).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from dataclasses import dataclass
from http.cookiejar import DefaultCookiePolicy
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from urllib3.exceptions import HTTPError, ReadTimeoutError
from urllib3.util import SKIP_HEADER

from ..errors import UsageError
from .keys import MEDIA_TYPE as KEYS_TYPE
from .ohttp import DATE_PROBLEM, KEY_PROBLEM, REQUEST_TYPE, RESPONSE_TYPE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from starlette.requests import Request

_EVIDENCE_TYPE = "application/cmw+json"
_NONCE_TYPE = "application/octet-stream"
_PROBLEM_TYPE = "application/problem+json"
_CHUNK = 1 << 16
# The only problems that a client can act on (RFC 9458, sections 5.3 and 6.5.2); the relay writes its own document.
_PROBLEMS = frozenset((KEY_PROBLEM, DATE_PROBLEM))

# requests and urllib3 would name themselves; the gateway has no use for it.
_NO_DEFAULTS = {"User-Agent": SKIP_HEADER, "Accept-Encoding": SKIP_HEADER}


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayLimits:
    """Bounds of one relay.

    Attributes:
        request: bytes of the longest content of a request.
        response: bytes of the longest content of a response.
        receive: seconds in which a client must have sent its content.
        connect: seconds for a connection to a gateway.
        answer: seconds in which a gateway must have answered in full.
        in_flight: requests at one time; more are refused with 503.
    """

    request: int = 1 << 20
    response: int = 1 << 23
    receive: float = 15.0
    connect: float = 5.0
    answer: float = 300.0
    in_flight: int = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class _Forward:
    """One thing that the relay does: where to, and the content types that may pass (None: no content)."""

    method: str
    url: str
    request_type: str | None
    response_type: str


@dataclass(frozen=True, slots=True)
class _Answer:
    """What comes back, already reduced to what may pass."""

    status: int
    content: bytes
    media_type: str


_FETCHES: Final = (
    ("GET", "/.well-known/ohttp-gateway", None, KEYS_TYPE),
    ("GET", "/dokimos/v1/bundle", None, _EVIDENCE_TYPE),
    ("POST", "/dokimos/v1/challenge", _NONCE_TYPE, _EVIDENCE_TYPE),
)
"""What a client needs besides: method, path, content type of the request and of the response."""

_TEXTS: Final = {
    400: "bad request",
    404: "not found",
    405: "method not allowed",
    408: "the content took too long",
    413: "the content is too large",
    415: "this content type is not relayed",
    502: "the gateway gave no usable answer",
    503: "too many requests at one time",
    504: "the gateway took too long",
}


def _fixed(status: int) -> _Answer:
    text = _TEXTS.get(status, "the gateway refused the request")
    return _Answer(status, f"{text}\n".encode(), "text/plain; charset=utf-8")


def _media_type(value: str | None) -> str:
    return (value or "").partition(";")[0].strip().lower()


class _Refused(Exception):
    """A request that is answered with a fixed text."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class _Upstream:
    """Asks gateways, from worker threads."""

    def __init__(self, limits: RelayLimits, ca_file: str | None) -> None:
        self.limits = limits
        self.session = requests.Session()
        self.session.trust_env = False  # no proxy, no .netrc
        self.session.headers.clear()
        self.session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        self.session.verify = ca_file or True
        for scheme in ("http://", "https://"):  # a pool that overflows writes a warning into the log
            self.session.mount(scheme, HTTPAdapter(pool_maxsize=limits.in_flight))

    def ask(self, forward: _Forward, content: bytes) -> _Answer:
        """Send, read within the limits, and reduce; every failure becomes a fixed answer."""
        headers = dict(_NO_DEFAULTS)
        if forward.request_type is not None:
            headers["Content-Type"] = forward.request_type
        deadline = time.monotonic() + self.limits.answer
        try:
            with self.session.request(
                forward.method,
                forward.url,
                data=content if forward.request_type is not None else None,
                headers=headers,
                timeout=(self.limits.connect, self.limits.answer),
                allow_redirects=False,
                stream=True,
            ) as response:
                return self._reduce(forward, response, deadline)
        except (requests.Timeout, ReadTimeoutError, TimeoutError):
            return _fixed(504)
        except (requests.RequestException, HTTPError, OSError):
            return _fixed(502)

    def _reduce(self, forward: _Forward, response: requests.Response, deadline: float) -> _Answer:
        status, kind = response.status_code, _media_type(response.headers.get("Content-Type"))
        if status == 200:
            # A coding would have to be named to the client, and no field but the type passes.
            if kind != forward.response_type or "Content-Encoding" in response.headers:
                return _fixed(502)
            content = self._read(response, self.limits.response, deadline)
            return _fixed(502) if content is None else _Answer(200, content, kind)
        if not 400 <= status <= 599:
            return _fixed(502)
        if kind == _PROBLEM_TYPE:
            problem = _known_problem(self._read(response, _CHUNK, deadline))
            if problem is not None:
                return _Answer(status, problem, _PROBLEM_TYPE)
        return _fixed(status)

    def _read(self, response: requests.Response, limit: int, deadline: float) -> bytes | None:
        """The content as sent, or None where it is longer than the limit."""
        out = bytearray()
        while chunk := response.raw.read1(_CHUNK, decode_content=False):
            out += chunk
            if len(out) > limit:
                return None
            if time.monotonic() > deadline:
                raise TimeoutError
        declared = response.headers.get("Content-Length")
        return None if declared is not None and declared != str(len(out)) else bytes(out)


def _known_problem(content: bytes | None) -> bytes | None:
    """A problem document of a type that clients act on, written anew; None for all others."""
    try:
        document = json.loads(content or b"")
    except (ValueError, RecursionError):
        return None
    kind = document.get("type") if isinstance(document, dict) else None
    return json.dumps({"type": kind}).encode() if isinstance(kind, str) and kind in _PROBLEMS else None


async def _receive(request: Request, limit: int) -> bytes:
    if request.url.query:
        raise _Refused(400)
    declared = request.headers.get("content-length")
    if declared is not None and (not declared.isdecimal() or len(declared) > 18 or int(declared) > limit):
        raise _Refused(413)
    out = bytearray()
    try:
        async for chunk in request.stream():
            out += chunk
            if len(out) > limit:
                raise _Refused(413)
    except ClientDisconnect:
        raise _Refused(400) from None
    return bytes(out)


class _Relay:
    """The endpoints over one upstream."""

    def __init__(self, limits: RelayLimits, upstream: _Upstream) -> None:
        self.limits = limits
        self.upstream = upstream
        self.in_flight = 0

    def endpoint(self, forward: _Forward) -> Callable[[Request], Awaitable[Response]]:
        """What serves one path."""

        async def serve(request: Request) -> Response:
            if self.in_flight >= self.limits.in_flight:
                answer = _fixed(503)
            else:
                self.in_flight += 1
                try:
                    answer = await self._relay(request, forward)
                finally:
                    self.in_flight -= 1
            return Response(answer.content, answer.status, media_type=answer.media_type)

        return serve

    async def _relay(self, request: Request, forward: _Forward) -> _Answer:
        wanted = forward.request_type
        if wanted is not None and _media_type(request.headers.get("content-type")) != wanted:
            return _fixed(415)
        try:
            async with asyncio.timeout(self.limits.receive):
                content = await _receive(request, self.limits.request if wanted is not None else 0)
        except TimeoutError:
            return _fixed(408)
        except _Refused as refused:
            return _fixed(refused.status)
        return await run_in_threadpool(self.upstream.ask, forward, content)


def _check_url(url: str, *, base: bool) -> str:
    try:
        parts = urlsplit(url)
    except ValueError as exc:
        raise UsageError(f"not a URL: {url!r}") from exc
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
        raise UsageError(f"not a gateway's http or https URL: {url!r}")
    if parts.query or parts.fragment or (base and parts.path not in ("", "/")):
        raise UsageError(f"too much in this URL: {url!r}")
    return url.rstrip("/") if base else url


def relay_app(
    targets: Mapping[str, str],
    *,
    origin: str | None = None,
    limits: RelayLimits | None = None,
    ca_file: str | None = None,
) -> Starlette:
    """The relay as an ASGI app.

    Args:
        targets: path on the relay -> URL of the gateway to which encapsulated requests (POST, ``message/ohttp-req``)
            on this path go, for example ``{"/": "https://gateway.example/gateway"}``.
        origin: scheme, host and port of the attested service whose key configurations, bundle and challenge clients
            may fetch through the relay, by the service's own paths; None: none of this is offered.
        limits: bounds; None: the defaults.
        ca_file: PEM file of the authorities that gateways are checked against; None: the usual ones.

    Returns:
        The app; it owns its connections, which its lifespan closes.

    Raises:
        UsageError: no targets, a path that does not begin with a slash, or a URL that is none.
    """
    limits = limits or RelayLimits()
    if not targets or not all(path.startswith("/") and "{" not in path for path in targets):
        raise UsageError("a relay needs targets, and their paths begin with a slash")
    forwards = [
        (path, _Forward(method="POST", url=url, request_type=REQUEST_TYPE, response_type=RESPONSE_TYPE))
        for path, url in ((path, _check_url(url, base=False)) for path, url in targets.items())
    ]
    if origin is not None:
        base = _check_url(origin, base=True)
        forwards += [
            (path, _Forward(method=method, url=base + path, request_type=sent, response_type=given))
            for method, path, sent, given in _FETCHES
            if path not in targets
        ]
    upstream = _Upstream(limits, ca_file)
    relay = _Relay(limits, upstream)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:  # noqa: ARG001 - starlette passes it
        yield
        upstream.session.close()

    def error(request: Request, exc: Exception) -> Response:  # noqa: ARG001 - starlette passes them
        status = getattr(exc, "status_code", 500)
        return PlainTextResponse(_fixed(status).content, status)

    app = Starlette(
        routes=[Route(path, relay.endpoint(forward), methods=[forward.method]) for path, forward in forwards],
        exception_handlers={404: error, 405: error},
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False  # a redirect would name a path that nobody listed
    return app
