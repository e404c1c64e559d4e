"""``dokimos demo``: the whole path on one machine, and what is refused on it."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import Check, Error, ExitCode, VerificationError
from .model import progress
from .render import console
from .show import check_table, verdict_line

if TYPE_CHECKING:
    from rich.console import Console

    from ..client.session import Session
    from ..cvm_image.service.engine.base import Engine
    from ..cvm_image.service.simulated import SimulatedCvm
    from ..evidence.bundle import Bundle
    from ..verifier.policy import Policy

CHAT = """Ana: the party starts at 8 on Friday.
Ben: I bring the cake. Who has the keys of the hall?
Ana: I have them. Please come at 7 to help.
Ben: Fine, at 7."""
_QUESTION = f"Summarise this chat in one sentence:\n\n{CHAT}"
_SHOWN = (
    Check.SNP_CA_PINNED,
    Check.SNP_VEK_SIGNATURE,
    Check.SNP_CRL_REVOKED,
    Check.SNP_VEK_TCB,
    Check.SNP_VEK_HWID,
    Check.SNP_REPORT_SIGNATURE,
    Check.SNP_MEASUREMENT,
    Check.SNP_POLICY_DEBUG,
    Check.SNP_SIMULATED,
    Check.BINDING_REPORT_DATA,
    Check.BINDING_KEY_CONFIG,
    Check.BINDING_FRESHNESS,
    Check.BINDING_RUNTIME_CONFIG,
)
"""The checks that the demo's table shows; ``--verbose`` shows all that ran."""


@click.command()
@click.option("--quick", is_flag=True, help="On the simulated platform, without booting an image; today's only form.")
@click.option("-v", "--verbose", is_flag=True, help="Show every check that ran.")
def command(quick: bool, verbose: bool) -> None:
    """Run the whole path on this machine, with a simulated platform.

    Starts an attested service with a real small language model, and a relay; verifies the service over a fresh nonce,
    sends it a chat through the relay under HPKE, shows the answer, and then what is refused.  Ends with 0 only if all
    of it held.
    """
    del quick
    out = console()
    started = time.monotonic()
    with ExitStack() as stack:
        held = _run(out, stack, verbose=verbose)
    out.print(f"[dim]{time.monotonic() - started:.0f} s; everything that was started has ended[/dim]")
    if not held:
        out.print("[bold red]Not all of it held.[/bold red]")
        raise click.exceptions.Exit(ExitCode.REJECTED)
    out.print("[bold green]All of it held.[/bold green]")


def _run(out: Console, stack: ExitStack, *, verbose: bool) -> bool:
    from ..client.session import Session  # noqa: PLC0415 - help need not pay
    from ..cvm_image.model import fetch_model  # noqa: PLC0415
    from ..cvm_image.service.engine.llama_cpp import LlamaCppEngine  # noqa: PLC0415
    from ..cvm_image.service.simulated import closing  # noqa: PLC0415
    from ..verifier.policy import load_policy  # noqa: PLC0415

    out.rule("[bold]1  A simulated confidential machine, its service, a relay", align="left")
    with progress() as told:
        model = fetch_model(progress=told)
    out.print(
        f"model   {model.alias}, by SHA-256 {model.sha256[:16]}…  (exercises the path; do not trust its summaries)"
    )
    engine = stack.enter_context(closing(LlamaCppEngine(model)))
    state = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dokimos-demo-")))
    cvm, service = _serve(stack, engine, state)
    relay = _relay(stack, service)
    out.print(f"service {service}   SIMULATED platform, root {cvm.root_sha256.hex()[:16]}…")
    out.print(f"relay   {relay}   sees who asks, not what")
    out.print(f"policy  accepts measurement {cvm.measurement.hex()[:16]}… under that root, and nothing else\n")

    out.rule("[bold]2  Verify it over a fresh nonce, through the relay, before anything is sent", align="left")
    policy = load_policy(cvm.policy())
    session = stack.enter_context(Session.open(service, policy, relay=relay))
    result = session.result
    rows = result.checks if verbose else tuple(check for check in result.checks if check.id in _SHOWN)
    out.print(check_table(rows, title="Evidence of the live endpoint"))
    out.print(verdict_line(result))

    out.print()
    out.rule("[bold]3  One request under HPKE to the attested key", align="left")
    held = _ask(out, session)

    out.print()
    out.rule("[bold]4  What is refused", align="left")
    impostors = _impostors(stack, engine, state, cvm)
    return _refusals(out, impostors, policy) and held and result.verdict == "accepted"


def _serve(stack: ExitStack, engine: Engine, state: Path, append: str | None = None) -> tuple[SimulatedCvm, str]:
    from ..cvm_image import stand_in  # noqa: PLC0415 - help need not pay
    from ..cvm_image.service.server import Server  # noqa: PLC0415
    from ..cvm_image.service.simulated import simulated_cvm  # noqa: PLC0415

    launch = stand_in.stand_in_launch(append or stand_in.COMMAND_LINE)
    cvm = simulated_cvm(engine, state_dir=state, launch=launch)
    return cvm, stack.enter_context(Server(cvm.app)).url


def _relay(stack: ExitStack, service: str) -> str:
    from ..cvm_image.service.gateway import GATEWAY_PATH  # noqa: PLC0415 - help need not pay
    from ..cvm_image.service.server import Server  # noqa: PLC0415
    from ..ohttp.relay import relay_app  # noqa: PLC0415

    app = relay_app({GATEWAY_PATH: service + GATEWAY_PATH}, origin=service)
    return stack.enter_context(Server(app)).url


def _ask(out: Console, session: Session) -> bool:
    from rich.text import Text  # noqa: PLC0415 - help need not pay

    from ..client.chat import Message  # noqa: PLC0415

    out.print("[dim]" + CHAT + "[/dim]\n")
    answer = session.chat([Message(role="user", content=_QUESTION)], max_tokens=80, temperature=0.0)
    out.print(Text.assemble((f"{answer.model}: ", "bold"), answer.text.strip()))
    out.print(f"[dim]{answer.prompt_tokens} tokens read, {answer.completion_tokens} written[/dim]")
    return bool(answer.text.strip())


def _refusals(out: Console, impostors: Iterator[tuple[str, Check, str]], policy: Policy) -> bool:
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


def _impostors(stack: ExitStack, engine: Engine, state: Path, cvm: SimulatedCvm) -> Iterator[tuple[str, Check, str]]:
    """What is wrong, the check that must refuse it, and where it is met."""
    from ..cvm_image.service.server import Server  # noqa: PLC0415 - help need not pay
    from ..cvm_image.stand_in import COMMAND_LINE  # noqa: PLC0415
    from ..ohttp import keys  # noqa: PLC0415

    def flip(bundle: Bundle) -> Bundle:
        report = bytearray(bundle.snp_report)
        report[0x0C0] ^= 1  # one bit of HOST_DATA
        return replace(bundle, snp_report=bytes(report))

    own = keys.encode_key_configs([key.config for key in keys.generate_keys()])
    flipped = stack.enter_context(Server(_Tampered(cvm.app, flip)))
    yield "one flipped bit in the report", Check.SNP_REPORT_SIGNATURE, flipped.url
    _, other = _serve(stack, engine, state, f"{COMMAND_LINE} debug")
    yield "the same code with another command line", Check.SNP_MEASUREMENT, other
    swapped = stack.enter_context(Server(_Tampered(cvm.app, lambda bundle: replace(bundle, key_configs=own))))
    yield "somebody between, with keys of their own", Check.BINDING_KEY_CONFIG, swapped.url


_Message = MutableMapping[str, Any]


class _Tampered:
    """Somebody between client and service who changes the evidence on its way: an ASGI application around another."""

    def __init__(self, app: Callable[..., Awaitable[None]], change: Callable[[Bundle], Bundle]) -> None:
        self._app = app
        self._change = change

    async def __call__(
        self, scope: _Message, receive: Callable[[], Awaitable[_Message]], send: Callable[[_Message], Awaitable[None]]
    ) -> None:
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
