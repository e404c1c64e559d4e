"""``dokimos request``: verify an endpoint, pin it, send it one encrypted request."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from ..errors import UsageError
from .own_material import OwnOptions, own_material, own_options
from .render import print_json, read_file

if TYPE_CHECKING:
    from typing import Unpack

_MAX_TEXT = 48 << 10


@click.command()
@click.argument("url")
@click.argument("text")
@click.option("--policy", "policy_file", metavar="FILE", required=True, help="What the endpoint must be, TOML.")
@click.option("--relay", metavar="URL", help="Send everything through this relay.")
@click.option("--system", metavar="TEXT", help="A system message before the text.")
@click.option(
    "--max-tokens", type=click.IntRange(1, 4096), default=160, show_default=True, help="Length of the answer."
)
@click.option("--temperature", type=click.FloatRange(0, 2), default=0.0, show_default=True, help="0: likeliest words.")
@click.option("--timeout", type=click.FloatRange(1, 3600), default=120.0, show_default=True, help="Seconds to wait.")
@own_options
@click.option("--json", "as_json", is_flag=True, help="Answer and verdict as one JSON document.")
def command(  # noqa: PLR0917 - one parameter per option
    url: str,
    text: str,
    policy_file: str,
    relay: str | None,
    system: str | None,
    max_tokens: int,
    temperature: float,
    timeout: float,
    as_json: bool,
    **options: Unpack[OwnOptions],
) -> None:
    """Verify the endpoint at URL, pin its keys, send TEXT to it under HPKE, and print the answer.

    TEXT "-" is read from standard input.  Nothing but a random nonce is sent before every check has passed.
    """
    from ..client.chat import Message  # noqa: PLC0415 - help need not pay
    from ..client.session import Session  # noqa: PLC0415
    from ..verifier.policy import load_policy  # noqa: PLC0415

    try:
        policy = load_policy(read_file(policy_file, "policy").decode())
        asked = read_file("-", "text", _MAX_TEXT).decode() if text == "-" else text
    except UnicodeDecodeError as exc:
        raise UsageError("policy and text must be UTF-8") from exc
    messages = [Message(role="system", content=system)] if system else []
    messages.append(Message(role="user", content=asked))
    with Session.open(url, policy, relay=relay, timeout=timeout, own=own_material(options)) as session:
        answer = session.chat(messages, max_tokens=max_tokens, temperature=temperature)
        result = session.result
    if as_json:
        print_json(
            {
                "schema": "dokimos.request/v1",
                "answer": answer.text,
                "model": answer.model,
                "finish_reason": answer.finish_reason,
                "result": result.to_json(),
            }
        )
        return
    if sys.stderr.isatty():
        from .render import err_console  # noqa: PLC0415 - rich costs 50 ms
        from .show import verdict_line  # noqa: PLC0415

        err_console().print(verdict_line(result))
    elif result.simulated:
        click.echo("SIMULATED: this evidence proves nothing about hardware", err=True)
    click.echo(answer.text)
