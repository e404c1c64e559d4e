"""HTTP as the client speaks it: a fixed set of fields, no redirects, no proxies, no cookies, bounded answers.

Whatever tells one client from another (User-Agent, cookies, validators) is not sent, and nothing that a server says can
send the client elsewhere.
"""

from __future__ import annotations

import time
from http.cookiejar import DefaultCookiePolicy
from typing import NamedTuple
from urllib.parse import urlsplit

import requests
from urllib3.exceptions import HTTPError
from urllib3.util import SKIP_HEADER

from ..errors import MaterialUnavailable, UsageError

_CHUNK = 1 << 16
_NO_DEFAULTS = {"User-Agent": SKIP_HEADER, "Accept-Encoding": SKIP_HEADER}


class Reply(NamedTuple):
    """What came back: status, media type without parameters, and content."""

    status: int
    media_type: str
    content: bytes


def check_origin(url: str) -> str:
    """Scheme, host and port of a service or relay, without a slash at the end.

    Raises:
        UsageError: not an http or https URL, or one with user, path, query or fragment.
    """
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or parts.username is not None or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise UsageError(f"not the http or https URL of a service: {url!r}")
    return url.rstrip("/")


class Transport:
    """Sends to one origin.

    Args:
        origin: scheme, host and port.
        timeout: seconds in which an answer must have come in full.

    Raises:
        UsageError: not such an origin.
    """

    def __init__(self, origin: str, *, timeout: float = 120.0) -> None:
        self.origin = check_origin(origin)
        self._timeout = timeout
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.headers.clear()
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))

    def post(self, path: str, content: bytes, media_type: str, *, limit: int) -> Reply:
        """Send content and return the reply, whatever its status.

        Args:
            path: path on the origin.
            content: what is sent.
            media_type: its Content-Type.
            limit: bytes that the reply may have.

        Raises:
            MaterialUnavailable: no reply, one that is too long or too late.
        """
        headers = _NO_DEFAULTS | {"Content-Type": media_type}
        deadline = time.monotonic() + self._timeout
        try:
            with self._session.post(
                self.origin + path,
                data=content,
                headers=headers,
                timeout=(min(10.0, self._timeout), self._timeout),
                allow_redirects=False,
                stream=True,
            ) as response:
                out = bytearray()
                while chunk := response.raw.read1(_CHUNK, decode_content=False):
                    out += chunk
                    if len(out) > limit:
                        raise MaterialUnavailable(f"{self.origin}: an answer of more than {limit} bytes")
                    if time.monotonic() > deadline:
                        raise MaterialUnavailable(f"{self.origin}: no whole answer within {self._timeout:g} s")
                declared = response.headers.get("Content-Length")
                if declared is not None and declared != str(len(out)):
                    raise MaterialUnavailable(f"{self.origin}: the answer was cut off")
                kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
                return Reply(response.status_code, kind, bytes(out))
        except (requests.RequestException, HTTPError, OSError) as exc:
            raise MaterialUnavailable(f"{self.origin}: {_reason(exc)}") from exc

    def close(self) -> None:
        """Close all connections."""
        self._session.close()


def _reason(exc: BaseException) -> str:
    """Why a request failed, in words that hold neither path nor content."""
    if isinstance(exc, requests.Timeout | TimeoutError):
        return "no answer in time"
    if isinstance(exc, requests.exceptions.SSLError):
        return "TLS failed"
    if isinstance(exc, requests.ConnectionError):
        return "no connection, or it broke off"
    return "no usable answer"
