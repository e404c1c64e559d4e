"""The service's ASGI application: gateway and attestation, assembled; nothing else is reachable."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from .gateway import Gateway


def _bare(request: Request, exc: Exception) -> Response:
    """An error's status alone: no text that could quote a path or a method."""
    del request
    return Response(status_code=exc.status_code if isinstance(exc, HTTPException) else 500)


def build_app(gateway: Gateway, attestation_routes: Sequence[Route]) -> Starlette:
    """The application.

    Args:
        gateway: the OHTTP gateway.
        attestation_routes: what :func:`dokimos.attest.service.attestation_routes` gave.
    """
    app = Starlette(
        routes=[*gateway.routes(), *attestation_routes],
        exception_handlers={HTTPException: _bare, 500: _bare},
    )
    app.router.redirect_slashes = False
    return app
