"""``dokimos verify tdx``: a TDX quote, with collateral from a bundle, a folder or the provisioning service."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import click

from ..codec import unhex
from ..errors import MaterialUnavailable, UsageError, VerificationError
from . import verdict
from .endorsements import read_collateral
from .render import read_file

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

    from ..endorsements.collateral_bundle import TdxCollateral
    from ..verifier.policy import Policy
    from ..verifier.result import AttestationResult

_HEX = re.compile(rb"\s*(?:0[xX])?((?:[0-9a-fA-F]{2})+)\s*")
_REGISTER = re.compile(r"([0-3])=(.*)", re.DOTALL)


@click.command()
@click.argument("quote", metavar="QUOTE")
@click.option("--collateral", metavar="BUNDLE|DIR", help="Collateral: a bundle, or a folder of its files.")
@click.option("--fetch", is_flag=True, help="Fetch the collateral from Intel's provisioning service.")
@click.option("--pccs", metavar="URL", help="Fetch it from this cache (PCCS) instead.")
@click.option("--event-log", metavar="FILE", help="Event log, the data of the ACPI table CCEL.")
@click.option("--hcl", metavar="FILE", help="Azure HCL report, whose runtime data the quote must bind.")
@verdict.AT
@verdict.POLICY
@click.option("--mrtd", "mrtds", metavar="HEX", multiple=True, help="Accepted MRTD.")
@click.option("--rtmr", "rtmrs", metavar="N=HEX", multiple=True, help="Accepted value of RTMR N, 0 to 3.")
@click.option("--report-data", metavar="HEX", help="The 64 bytes that REPORTDATA must be.")
@click.option("--authentic-only", is_flag=True, help="Only whether it is genuine, not what it says.")
@verdict.JSON
@verdict.EAR
@verdict.VERBOSE
def command(  # noqa: PLR0917 - one parameter per option
    quote: str,
    collateral: str | None,
    fetch: bool,
    pccs: str | None,
    event_log: str | None,
    hcl: str | None,
    at: str | None,
    policy_file: str | None,
    mrtds: tuple[str, ...],
    rtmrs: tuple[str, ...],
    report_data: str | None,
    authentic_only: bool,
    as_json: bool,
    as_ear: bool,
    verbose: bool,
) -> None:
    """Verify an Intel TDX quote, offline unless told to fetch.

    QUOTE is the raw quote, or its hex digits; "-" reads it from standard input.  Without collateral nothing is
    verified: `dokimos endorsements fetch tdx` gets it.
    """
    from ..evidence.ccel import LOG_MAX  # noqa: PLC0415 - help need not pay
    from ..verifier import appraise_tdx, tdx, tdx_result  # noqa: PLC0415

    if collateral is not None and (fetch or pccs is not None):
        raise click.UsageError("--collateral and --fetch exclude each other")

    def run() -> AttestationResult:
        policy = _policy(policy_file, mrtds, rtmrs)
        wanted = _report_data(report_data, hcl)
        raw = read_quote(quote)
        log = read_file(event_log, "event log", limit=LOG_MAX) if event_log else None
        given = _fetched(raw, pccs) if fetch or pccs is not None else _collateral(collateral)
        # After fetching: collateral of this moment is not yet valid a moment before it was asked for.
        moment = verdict.moment(at)
        try:
            verified = tdx.verify_tdx(raw, given, trust=policy.tdx_trust(), at=moment)
        except VerificationError as exc:
            return tdx_result.rejected(exc, at=moment, quote=raw)
        return appraise_tdx.appraise_tdx(
            verified, policy, authentic_only=authentic_only, report_data=wanted, event_log=log
        )

    verdict.finish(
        run,
        title=f"TDX quote {quote}",
        as_json=as_json,
        as_ear=as_ear,
        verbose=verbose,
        more=show_more(events=verbose),
    )


def show_more(*, events: bool) -> Callable[[Console, AttestationResult], None]:
    """What a terminal shows of a quote beside its checks, with the events of its log if asked for."""

    def show(console: Console, result: AttestationResult) -> None:
        from .show_tdx import show_tdx  # noqa: PLC0415 - rich costs 50 ms

        show_tdx(console, result, events=events)

    return show


def read_quote(path: str) -> bytes:
    """The quote of a file, raw or in hex, with or without 0x.

    Raises:
        MaterialUnavailable: it cannot be read.
        MalformedEvidence: it is larger than any quote.
    """
    from ..evidence.tdx import QUOTE_MAX  # noqa: PLC0415 - as above

    data = read_file(path, "quote", limit=2 * QUOTE_MAX + 16)
    text = _HEX.fullmatch(data)
    return bytes.fromhex(text.group(1).decode()) if text else data


def _collateral(path: str | None) -> TdxCollateral:
    if path is None:
        raise MaterialUnavailable(
            "no collateral: give it with --collateral, or --fetch it; without it nothing can be verified"
        )
    return read_collateral(path)


def _fetched(quote: bytes, pccs: str | None) -> TdxCollateral:
    from ..endorsements.fetch import INTEL_PCS, PcsFetcher, fetch_collateral  # noqa: PLC0415 - only for this
    from ..evidence.tdx import parse_quote  # noqa: PLC0415 - as above

    return fetch_collateral(parse_quote(quote), PcsFetcher(pccs or INTEL_PCS))


def _report_data(given: str | None, hcl: str | None) -> bytes | None:
    """What REPORTDATA must be by the options; an HCL report's binding is one of them."""
    wanted = unhex(given, "--report-data", 64) if given is not None else None
    if hcl is None:
        return wanted
    from ..evidence.azure_hcl import MAX_SIZE, parse_hcl_report  # noqa: PLC0415 - only for this

    bound = parse_hcl_report(read_file(hcl, "HCL report", limit=MAX_SIZE)).expected_report_data()
    if wanted not in (None, bound):
        raise UsageError("--report-data differs from the hash of the HCL report's runtime data")
    return bound


def _policy(path: str | None, mrtds: tuple[str, ...], rtmrs: tuple[str, ...]) -> Policy:
    """The file's policy, or the strict default, with what the command line adds."""
    policy = verdict.policy(path)
    changes: dict[str, Any] = {}
    if mrtds:
        changes["mrtd"] = (*policy.tdx.mrtd, *(unhex(text, "--mrtd", 48) for text in mrtds))
    for text in rtmrs:
        match = _REGISTER.fullmatch(text)
        if match is None:
            raise UsageError(f"--rtmr {text!r}: a number from 0 to 3, an equals sign and 96 hex digits are wanted")
        name = f"rtmr{match.group(1)}"
        before: tuple[bytes, ...] = changes.get(name, getattr(policy.tdx, name))
        changes[name] = (*before, unhex(match.group(2), f"--rtmr {match.group(1)}", 48))
    return policy.with_tdx(**changes)
