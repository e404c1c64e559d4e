"""The command line: finds a command, runs it, maps errors to exit codes.  No logic lives here.

Commands load lazily, so that ``dokimos --help`` and one command pay only for what they use.
"""

from __future__ import annotations

import importlib
import signal
import sys

import click

from . import __version__
from .errors import Error, ExitCode

COMMANDS = {
    "demo": "Run the whole path on this machine, with a simulated platform.",
    "endorsements": "Fetch and look at vendors' certificates and collateral.",
    "explain": "Explain measured events: expected beside actual, and what moved them.",
    "image": "Lock, build, check, compare and boot the image of a confidential machine.",
    "measure": "Compute the measurement that a platform must report.",
    "model": "Fetch the demo's language model, checked by hash.",
    "policy": "Write, show and check appraisal policies.",
    "request": "Verify an endpoint, pin it, send it one encrypted request.",
    "serve": "Run the service of a CVM, or a relay.",
    "sim": "The simulated platform: keys, launch and reports.",
    "verify": "Verify evidence from a file or a live endpoint.",
}
"""Every command with its one-line help, so that listing them imports none of them."""


class _LazyGroup(click.Group):
    """A group whose commands are modules under ``dokimos.commands``, imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in COMMANDS:
            return None
        command = importlib.import_module(f".commands.{cmd_name}", __package__).command
        if not isinstance(command, click.Command):
            raise TypeError(f"commands.{cmd_name}.command is not a click command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl(sorted(COMMANDS.items()))


@click.command(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="dokimos")
def root() -> None:
    """Verify, measure and talk to confidential inference services.

    Exit codes: 0 accepted, 10 rejected, 20 unsupported, 30 malformed input, 40 needed material not available, 2 usage,
    1 a bug.
    """


def _ended(number: int, _: object) -> None:
    """Leave through every ``finally``: what a command started, a virtual machine for example, must end with it."""
    sys.exit(128 + number)


def main() -> None:
    """Entry point of the console script and of ``python -m dokimos``."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:  # nohup's choice stays
            signal.signal(number, _ended)
    try:
        # Without standalone mode, click returns the code with which a command ended itself.
        code = root.main(standalone_mode=False, prog_name="dokimos")
    except click.Abort:
        click.echo("interrupted", err=True)
        sys.exit(130)
    except click.ClickException as exc:
        exc.show()
        sys.exit(exc.exit_code)
    except Error as exc:
        click.echo(f"error: {exc}", err=True)
        sys.exit(exc.exit_code)
    sys.exit(code if isinstance(code, int) else ExitCode.ACCEPTED)
