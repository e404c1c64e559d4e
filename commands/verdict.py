"""What the verifying commands share: options, the policy, and how a result is printed and becomes an exit code."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from ..errors import Error, ExitCode, UsageError
from .render import console, parse_time, print_json, read_file

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

    from ..verifier.policy import Policy
    from ..verifier.result import AttestationResult

POLICY = click.option("--policy", "policy_file", metavar="FILE", help="Appraisal policy, TOML.")
AT = click.option("--at", metavar="TIME", help="Time of verification, ISO 8601; now if absent.")
JSON = click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")
EAR = click.option("--ear", "as_ear", is_flag=True, help="The result as EAR claims (draft-ietf-rats-ear-04), JSON.")
VERBOSE = click.option("-v", "--verbose", is_flag=True, help="Show the checks that did not run as well.")


def moment(at: str | None) -> datetime:
    """The time of verification.

    Raises:
        UsageError: not a time.
    """
    return parse_time(at) if at else datetime.now(UTC)


def policy(path: str | None) -> Policy:
    """The file's policy, or the strict default without one.

    Raises:
        MaterialUnavailable: it cannot be read.
        UsageError: it is no policy.
    """
    from ..verifier.policy import Policy, load_policy  # noqa: PLC0415 - help need not pay

    if not path:
        return Policy(schema=1)
    try:
        return load_policy(read_file(path, "policy").decode())
    except UnicodeDecodeError as exc:
        raise UsageError(f"policy: {path}: not UTF-8") from exc


def finish(
    run: Callable[[], AttestationResult],
    *,
    title: str,
    as_json: bool,
    as_ear: bool,
    verbose: bool,
    more: Callable[[Console, AttestationResult], None] | None = None,
) -> None:
    """Render a result, or an error as JSON where JSON was asked for, and exit by it.

    Args:
        run: makes the result.
        title: of the table of checks.
        as_json: print the result's document.
        as_ear: print EAR claims.
        verbose: show the checks that did not run.
        more: prints what a terminal shows between the checks and the verdict.
    """
    if as_json and as_ear:
        raise click.UsageError("--json and --ear exclude each other")
    try:
        result = run()
    except Error as exc:
        if as_json or as_ear:
            check = getattr(exc, "check", None)
            print_json(
                {
                    "schema": "dokimos.error/v1",
                    "error": ExitCode(exc.exit_code).name.lower(),
                    "check": check and str(check),
                    "message": str(exc),
                }
            )
        raise
    if as_json:
        print_json(result.to_json())
    elif as_ear:
        from ..verifier.ear import to_ear  # noqa: PLC0415

        print_json(to_ear(result))
    else:
        from .show import show_result  # noqa: PLC0415 - rich costs 50 ms

        show_result(console(), result, title=title, skips=verbose, more=more)
    if result.verdict != "accepted":
        raise click.exceptions.Exit(ExitCode.REJECTED)
