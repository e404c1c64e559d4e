"""The attester's two endpoints: evidence over a nonce, and the bundle for all clients."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import Route

from ..errors import Error, MaterialUnavailable
from ..evidence.bundle import MEDIA_TYPE
from .attester import NONCE_SIZE, Attester

if TYPE_CHECKING:
    from starlette.requests import Request

CHALLENGE_PATH: Final = "/dokimos/v1/challenge"
"""POST 32 bytes (``application/octet-stream``), get a bundle over them."""
BUNDLE_PATH: Final = "/dokimos/v1/bundle"
"""GET the bundle for all clients; 404 where no log is configured."""
NONCE_TYPE: Final = "application/octet-stream"

_IN_FLIGHT = 8
_RECEIVE_SECONDS = 5.0


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
        try:
            made = await run_in_threadpool(self._attester.epoch_bundle)
        except MaterialUnavailable:
            return Response(status_code=404)
        return Response(made, media_type=MEDIA_TYPE)


async def _nonce(request: Request) -> tuple[bytes, int]:
    """The content and 0, or the status with which it is refused; nothing longer than a nonce is read."""
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
    return bytes(out), 0 if len(out) == NONCE_SIZE else 400


def _busy() -> Response:
    return Response(status_code=503)


def attestation_routes(attester: Attester) -> list[Route]:
    """Routes of an ASGI application."""
    endpoints = _Endpoints(attester)
    return [
        Route(CHALLENGE_PATH, endpoints.challenge, methods=["POST"]),
        Route(BUNDLE_PATH, endpoints.bundle, methods=["GET"]),
    ]
