"""``dokimos image``: lock, build, check, compare and boot the image of a confidential machine."""

from __future__ import annotations

import importlib

import click

SUBCOMMANDS = {
    "boot": ("image_boot", "boot", "Boot an image, on an emulated or a confidential machine."),
    "build": ("image_build", "build", "Build an image from a lock, bit for bit the same anywhere."),
    "bundle": ("image_inputs", "bundle", "Carry all locked files as one file."),
    "check": ("image_check", "check", "Build twice under different conditions and compare."),
    "diff": ("image_diff", "diff", "Tell what changed between two images."),
    "fetch": ("image_inputs", "fetch", "Fetch what a lock names, by hash."),
    "lint": ("image_lint", "lint", "Check a built image against the rules of hardening."),
    "lock": ("image_inputs", "lock", "Resolve a profile's packages to exact files."),
}
"""Every subcommand with its module, its name there and its one-line help; listing them imports none of them."""


class _LazyGroup(click.Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return sorted(SUBCOMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in SUBCOMMANDS:
            return None
        module, name, _ = SUBCOMMANDS[cmd_name]
        found = getattr(importlib.import_module(f".{module}", __package__), name)
        if not isinstance(found, click.Command):
            raise TypeError(f"{module}.{name} is not a click command")
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, SUBCOMMANDS[name][2]) for name in sorted(SUBCOMMANDS)])


@click.command(cls=_LazyGroup)
def command() -> None:
    """Lock, build, check, compare and boot the image of a confidential machine."""
