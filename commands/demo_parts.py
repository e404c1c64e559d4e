"""What both forms of the demo share: what they show, the relay, and the impostors."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from ..errors import Check, Error, VerificationError

if TYPE_CHECKING:
    from rich.console import Console

    from ..evidence.bundle import Bundle
    from ..verifier.policy import Policy

SHOWN = (
    Check.SNP_CA_PINNED,
    Check.SNP_VEK_SIGNATURE,
    Check.SNP_CRL_REVOKED,
    Check.SNP_VEK_TCB,
    Check.SNP_VEK_HWID,
    Check.SNP_REPORT_SIGNATURE,
    Check.SNP_MEASUREMENT,
    Check.SNP_POLICY_DEBUG,
    Check.SNP_SIMULATED,
    Check.TDX_ROOT_PINNED,
    Check.TDX_PCK_SIGNATURE,
    Check.TDX_PCK_REVOKED,
    Check.TDX_TCB_INFO_SIGNATURE,
    Check.TDX_QE_REPORT_SIGNATURE,
    Check.TDX_QUOTE_SIGNATURE,
    Check.TDX_MRTD,
    Check.TDX_RTMR0,
    Check.TDX_RTMR1,
    Check.TDX_RTMR2,
    Check.TDX_EVENT_LOG_REPLAY,
    Check.TDX_TD_ATTRIBUTES_DEBUG,
    Check.TDX_TCB_STATUS,
    Check.TDX_SIMULATED,
    Check.GPU_ROOT_PINNED,
    Check.GPU_CHAIN_SIGNATURE,
    Check.GPU_REPORT_SIGNATURE,
    Check.GPU_FWID,
    Check.GPU_CRL_REVOKED,
    Check.GPU_OCSP_STATUS,
    Check.GPU_RIM_SIGNATURE,
    Check.GPU_RIM_VERSION,
    Check.GPU_MEASUREMENTS,
    Check.GPU_SIMULATED,
    Check.GPU_NONCE,
    Check.GPU_DEVICES_COUNT,
    Check.GPU_GUEST_CC,
    Check.GPU_GUEST_DEVTOOLS,
    Check.BINDING_REPORT_DATA,
    Check.BINDING_KEY_CONFIG,
    Check.BINDING_GPU,
    Check.BINDING_FRESHNESS,
    Check.BINDING_RUNTIME_CONFIG,
)
"""The checks that the demo's table shows; ``--verbose`` shows all that ran."""


def relay(stack: ExitStack, service: str) -> str:
    """A relay in front of a service, until the stack ends; its URL."""
    from ..cvm_image.service.gateway import GATEWAY_PATH  # noqa: PLC0415 - help need not pay
    from ..cvm_image.service.server import Server  # noqa: PLC0415
    from ..ohttp.relay import relay_app  # noqa: PLC0415

    app = relay_app({GATEWAY_PATH: service + GATEWAY_PATH}, origin=service)
    return stack.enter_context(Server(app)).url


def refusals(out: Console, impostors: Iterator[tuple[str, Check, str]], policy: Policy) -> bool:
    """Meet every impostor, show what refused it; whether each was refused by the check that must."""
    from rich.table import Table  # noqa: PLC0415 - help need not pay

    from ..client.session import Session  # noqa: PLC0415

    table = Table(title="Each of these is met on a live connection", title_justify="left", title_style="bold")
    for column in ("what", "refused by", "because"):
        table.add_column(column, overflow="fold")
    held = True
    for what, wanted, url in impostors:
        try:
            Session.open(url, policy).close()
            refused, why = None, "it was accepted"
        except VerificationError as exc:
            refused, why = exc.failed.id, exc.failed.message
        held = held and refused is wanted
        style = "green" if refused is wanted else "bold red"
        table.add_row(what, f"[{style}]{refused or 'nothing'}[/{style}]", why)
    out.print(table)
    return held


_Message = MutableMapping[str, Any]


class Tampered:
    """Somebody between client and service who changes the evidence on its way: an ASGI application around another."""

    def __init__(self, app: Callable[..., Awaitable[None]], change: Callable[[Bundle], Bundle]) -> None:
        self._app = app
        self._change = change

    async def __call__(
        self, scope: _Message, receive: Callable[[], Awaitable[_Message]], send: Callable[[_Message], Awaitable[None]]
    ) -> None:
        """Answer one request with changed evidence (ASGI)."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start: list[_Message] = []
        body = bytearray()

        async def hold(message: _Message) -> None:
            if message["type"] == "http.response.start":
                start.append(message)
            else:
                body.extend(message.get("body", b""))

        await self._app(scope, receive, hold)
        content = _changed(bytes(body), self._change)
        headers = [(name, value) for name, value in start[0]["headers"] if name != b"content-length"]
        length = (b"content-length", str(len(content)).encode())
        await send({**start[0], "headers": [*headers, length]})
        await send({"type": "http.response.body", "body": content})


def _changed(content: bytes, change: Callable[[Bundle], Bundle]) -> bytes:
    from ..evidence.bundle import encode_bundle, parse_bundle  # noqa: PLC0415 - help need not pay

    try:
        return encode_bundle(change(parse_bundle(content)))
    except Error:
        return content


def recorded_app(content: bytes, media_type: str) -> Callable[..., Awaitable[None]]:
    """An ASGI application that answers everything with what was once recorded."""

    async def app(
        scope: _Message, receive: Callable[[], Awaitable[_Message]], send: Callable[[_Message], Awaitable[None]]
    ) -> None:
        del receive
        if scope["type"] != "http":
            return
        headers = [(b"content-type", media_type.encode()), (b"content-length", str(len(content)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    return app
