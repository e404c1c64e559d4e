"""One way to ask a service over HTTP, for everything that is fetched here.

Answers are bounded in size and time, tried again where that helps, and never taken from another server than was asked:
what comes is signed, but who asks for what is private.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple
from urllib.parse import urljoin, urlsplit

import requests
from urllib3.exceptions import HTTPError

from ..errors import MaterialUnavailable, UsageError

OK: Final = requests.codes.ok
MAX_BODY: Final = 1 << 20
"""Largest answer in bytes, unless a caller takes more."""

_CHUNK: Final = 1 << 14
_TRIES: Final = 3
_MAX_REDIRECTS: Final = 3
_LONGEST_PAUSE: Final = 5.0
_BUSY: Final = frozenset((429, 500, 502, 503, 504))


class Reply(NamedTuple):
    """What a service answered, whatever its status.

    Attributes:
        status: of HTTP.
        body: as received, in full.
        headers: without regard to upper and lower case.
    """

    status: int
    body: bytes
    headers: Mapping[str, str]


class Transport:
    """Asks services over HTTP.

    Args:
        timeout: seconds in which an answer must have come in full.
        pause: waits some seconds between two tries.
    """

    def __init__(self, *, timeout: float = 30.0, pause: Callable[[float], None] = time.sleep) -> None:
        self._timeout = timeout
        self._pause = pause
        self._session = requests.Session()
        self._session.headers = {"Accept-Encoding": "identity"}
        self._session.auth = _no_credentials

    def ask(
        self,
        url: str,
        *,
        post: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        limit: int = MAX_BODY,
    ) -> Reply:
        """Ask once, and again where the service is busy or the connection broke off.

        Args:
            url: address.
            post: what is sent with POST, or None for GET.
            headers: to be sent.
            limit: largest answer in bytes.

        Raises:
            MaterialUnavailable: no answer, or one that is too long, too late, cut off, encoded, or elsewhere.
        """
        for tried in range(_TRIES - 1):
            pause = 0.5 * 2**tried
            try:
                reply = self._request(url, post, headers or {}, limit)
            except requests.Timeout as exc:
                raise MaterialUnavailable(f"{url}: no answer in time") from exc
            except (requests.RequestException, HTTPError, OSError):
                self._pause(pause)
                continue
            if reply.status not in _BUSY:
                return reply
            self._pause(_retry_after(reply.headers, pause))
        try:
            return self._request(url, post, headers or {}, limit)
        except (requests.RequestException, HTTPError, OSError) as exc:
            raise MaterialUnavailable(f"{url}: {_reason(exc)}") from exc

    def _request(self, url: str, post: bytes | None, headers: Mapping[str, str], limit: int) -> Reply:
        deadline = time.monotonic() + self._timeout
        target = url
        for _ in range(_MAX_REDIRECTS + 1):
            with self._session.request(
                "GET" if post is None else "POST",
                target,
                data=post,
                headers=dict(headers),
                stream=True,
                allow_redirects=False,
                timeout=self._timeout,
            ) as answer:
                if answer.is_redirect:
                    target = _same_host(target, answer.headers["Location"])
                    continue
                return Reply(answer.status_code, _read(answer, url, deadline, limit), answer.headers)
        raise MaterialUnavailable(f"{url}: more than {_MAX_REDIRECTS} redirects")


def base_url(url: str, what: str) -> tuple[str, str, str]:
    """Scheme, host with port, and path without a slash at its end, of a service's address.

    Args:
        url: as the user gave it.
        what: what kind of service it should be, for the message.

    Raises:
        UsageError: not an address of http or https, or one with more than these parts.
    """
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or parts.username is not None or parts.query or parts.fragment:
        raise UsageError(f"not the http or https URL of {what}: {url!r}")
    return parts.scheme, parts.netloc, parts.path.rstrip("/")


def _no_credentials(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Whoever needs credentials sends a header; without this, `requests` would look for some in ~/.netrc."""
    return request


def _same_host(url: str, location: str) -> str:
    """Where a redirect leads, if that is the same server."""
    target = urljoin(url, location)
    if urlsplit(target)[:2] != urlsplit(url)[:2]:
        raise MaterialUnavailable(f"{url}: sends elsewhere, to {target[:200]!r}")
    return target


def _reason(exc: Exception) -> str:
    if isinstance(exc, requests.Timeout | TimeoutError):
        return "no answer in time"
    if isinstance(exc, requests.exceptions.SSLError):
        return "TLS failed"
    if isinstance(exc, requests.ConnectionError):
        return f"no connection, or it broke off, {_TRIES} times"
    return f"no usable answer, {_TRIES} times"


def _read(answer: requests.Response, url: str, deadline: float, limit: int) -> bytes:
    """The body, at most as much as may be, at most until the deadline, and all that was announced."""
    if answer.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise MaterialUnavailable(f"{url}: answers in an encoding that was not asked for")
    body = bytearray()
    while chunk := answer.raw.read1(_CHUNK, decode_content=False):
        body += chunk
        if len(body) > limit:
            raise MaterialUnavailable(f"{url}: answers with more than {limit} bytes")
        if time.monotonic() > deadline:
            raise requests.Timeout("no whole answer in time")
    announced = answer.headers.get("Content-Length")
    if announced is not None and announced != str(len(body)):
        raise requests.ConnectionError("the answer is cut off")
    return bytes(body)


def _retry_after(headers: Mapping[str, str], default: float) -> float:
    wanted = headers.get("Retry-After", "")
    return min(float(wanted), _LONGEST_PAUSE) if wanted.isascii() and wanted.isdigit() else default
