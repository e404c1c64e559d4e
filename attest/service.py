"""The attester's two endpoints: evidence over a nonce, and the bundle for all clients."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import Route

from ..errors import Error
from ..evidence.bundle import MEDIA_TYPE
from .attester import EPOCH_SECONDS, NONCE_SIZE, Attester

if TYPE_CHECKING:
    from starlette.requests import Request

CHALLENGE_PATH: Final = "/dokimos/v1/challenge"
"""POST 32 bytes (``application/octet-stream``), get a bundle over them."""
BUNDLE_PATH: Final = "/dokimos/v1/bundle"
"""GET the bundle for all clients; 404 where no log is configured."""
NONCE_TYPE: Final = "application/octet-stream"

_IN_FLIGHT = 8
_RECEIVE_SECONDS = 5.0
_MAX_AGE = EPOCH_SECONDS // 4


class _Endpoints:
    def __init__(self, attester: Attester) -> None:
        self._attester = attester
        self._in_flight = 0

    async def challenge(self, request: Request) -> Response:
        """Evidence over the nonce in the content."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != NONCE_TYPE:
            return Response(status_code=415)
        nonce, refusal = await _nonce(request)
        if refusal:
            return Response(status_code=refusal)
        # Counted from here on, so that clients who send slowly keep no place from others.  A report takes the secure
        # processor some milliseconds, one after the other.
        if self._in_flight >= _IN_FLIGHT:
            return _busy()
        self._in_flight += 1
        try:
            made = await run_in_threadpool(self._attester.challenge, nonce)
        except Error:
            return _busy()
        finally:
            self._in_flight -= 1
        return Response(made, media_type=MEDIA_TYPE, headers={"cache-control": "no-store"})

    async def bundle(self, request: Request) -> Response:
        """The bundle for all clients."""
        del request
        if not self._attester.has_epoch:
            return Response(status_code=404)
        try:
            made = await run_in_threadpool(self._attester.epoch_bundle)
        except Error:
            return _busy()
        # At least half of its life is left when it is handed out.  No tag: a client could be known again by it.
        return Response(made, media_type=MEDIA_TYPE, headers={"cache-control": f"public, max-age={_MAX_AGE}"})


def _busy() -> Response:
    """Come again: too many at once, or no report just now."""
    return Response(status_code=503, headers={"retry-after": "1"})


async def _nonce(request: Request) -> tuple[bytes, int]:
    """The content and 0 if it is a nonce by its size and comes in time, else the status; nothing longer is read."""
    out = bytearray()
    try:
        async with asyncio.timeout(_RECEIVE_SECONDS):
            async for chunk in request.stream():
                out += chunk
                if len(out) > NONCE_SIZE:
                    return b"", 413
    except TimeoutError:
        return b"", 408
    except ClientDisconnect:
        return b"", 400
    return (bytes(out), 0) if len(out) == NONCE_SIZE else (b"", 400)


def attestation_routes(attester: Attester) -> list[Route]:
    """Routes of an ASGI application."""
    endpoints = _Endpoints(attester)
    return [
        Route(CHALLENGE_PATH, endpoints.challenge, methods=["POST"]),
        Route(BUNDLE_PATH, endpoints.bundle, methods=["GET"]),
    ]
