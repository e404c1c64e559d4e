"""``dokimos endorsements``: fetch what vendors say of their platforms, and look at it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from ..errors import ExitCode
from . import gpu_fetch
from .render import console, parse_time, print_json, read_file
from .write import replace_file

if TYPE_CHECKING:
    from rich.text import Text

    from ..endorsements.collateral_bundle import TdxCollateral
    from ..endorsements.collateral_report import ItemReport

_STYLES = {"current": "green", "not yet valid": "yellow", "expired": "bold red", "unreadable": "bold red"}
_TITLES = {
    "tcb_info": "TCB info",
    "qe_identity": "QE identity",
    "pck_crl": "PCK CRL",
    "root_crl": "root CRL",
    "pck_chain": "PCK chain",
}


def read_collateral(path: str) -> TdxCollateral:
    """The collateral of a bundle file or of a folder; ``-`` is a bundle on standard input.

    Raises:
        MaterialUnavailable: it cannot be read, or the folder lacks an item.
        MalformedEvidence: it is none.
    """
    from ..endorsements import collateral_bundle  # noqa: PLC0415 - help need not pay

    if path != "-" and Path(path).is_dir():
        files = {}
        for name in sorted(collateral_bundle.FILE_NAMES):
            if Path(path, name).is_file():
                files[name] = read_file(str(Path(path, name)), "collateral", limit=collateral_bundle.MAX_BUNDLE)
        return collateral_bundle.collateral_from_files(files)
    return collateral_bundle.parse_collateral(read_file(path, "collateral", limit=collateral_bundle.MAX_BUNDLE))


@click.group()
def command() -> None:
    """Fetch and look at vendors' certificates and collateral."""


@command.group()
def fetch() -> None:
    """Fetch what a verifier needs beside the evidence."""


fetch.add_command(gpu_fetch.command)


@fetch.command("tdx")
@click.argument("quote", metavar="QUOTE")
@click.option("-o", "--output", metavar="BUNDLE", required=True, help="File to write; an old one is replaced.")
@click.option("--pccs", metavar="URL", help="Ask this cache (PCCS) instead of Intel.")
@click.option(
    "--update", type=click.Choice(["early", "standard"]), help="Collateral of which recovery; standard is the default."
)
@click.option(
    "--evaluation-data-number",
    "number",
    type=click.IntRange(0, 0xFFFFFFFF),
    metavar="N",
    help="Collateral of exactly this recovery.",
)
@click.option("--pck-chain", metavar="FILE", help="PEM of PCK certificate, CA and root, if the quote has none.")
@click.option("--cache", metavar="DIR", help="Keep answers here, a day at most, and ask again only after.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")
def _tdx(  # noqa: PLR0917 - one parameter per option
    quote: str,
    output: str,
    pccs: str | None,
    update: Literal["early", "standard"] | None,
    number: int | None,
    pck_chain: str | None,
    cache: str | None,
    as_json: bool,
) -> None:
    """Fetch the collateral of the platform that signed QUOTE, a TDX quote, into one file.

    Nothing is verified when it is fetched; `dokimos verify tdx` does that.
    """
    from ..endorsements.collateral_bundle import MAX_CHAIN, encode_collateral  # noqa: PLC0415 - help need not pay
    from ..endorsements.fetch import INTEL_PCS, PcsFetcher, fetch_collateral  # noqa: PLC0415
    from ..evidence.tdx import QUOTE_MAX, parse_quote  # noqa: PLC0415

    fetcher = PcsFetcher(
        pccs or INTEL_PCS, cache=Path(cache) if cache else None, update=update, evaluation_data_number=number
    )
    parsed = parse_quote(read_file(quote, "quote", limit=QUOTE_MAX))
    chain = read_file(pck_chain, "PCK chain", limit=MAX_CHAIN) if pck_chain else None
    collateral = fetch_collateral(parsed, fetcher, pck_chain=chain)
    replace_file(Path(output), encode_collateral(collateral))
    _show(collateral, output, datetime.now(UTC), as_json=as_json)


@command.command()
@click.argument("bundle", metavar="BUNDLE")
@click.option("--at", metavar="TIME", help="Compare dates with this time, ISO 8601; now if absent.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")
def inspect(bundle: str, at: str | None, as_json: bool) -> None:
    """Show what BUNDLE holds: a file, or a folder of files, of TDX collateral.

    No signature is verified here: what is shown is what the items say of themselves. Exit code 30 if one is unreadable.
    """
    moment = parse_time(at) if at else datetime.now(UTC)
    if _show(read_collateral(bundle), bundle, moment, as_json=as_json):
        raise click.exceptions.Exit(ExitCode.MALFORMED)


def _show(collateral: TdxCollateral, path: str, at: datetime, *, as_json: bool) -> bool:
    """Print what is in it; whether an item is unreadable."""
    from ..endorsements.collateral_report import State, report_collateral  # noqa: PLC0415 - help need not pay
    from ..endorsements.pcs_cache import rfc3339  # noqa: PLC0415

    items = report_collateral(collateral, at)
    if as_json:
        print_json(
            {
                "schema": "dokimos.tdx-collateral-report/v1",
                "verified": False,
                "path": path,
                "at": rfc3339(at),
                "items": [_to_json(item) for item in items],
            }
        )
    else:
        _table(items, path, at)
    return any(item.state is State.UNREADABLE for item in items)


def _to_json(item: ItemReport) -> dict[str, object]:
    from ..endorsements.pcs_cache import rfc3339  # noqa: PLC0415 - as above

    return {
        "item": item.item,
        "state": str(item.state),
        "problem": item.problem or None,
        **dict(item.facts),
        "issued": rfc3339(item.issued) if item.issued else None,
        "next_update": rfc3339(item.next_update) if item.next_update else None,
        "issuer_chain": [
            {
                "subject_cn": signer.subject_cn,
                "not_before": rfc3339(signer.not_before),
                "not_after": rfc3339(signer.not_after),
            }
            for signer in item.chain
        ],
        "size": item.size,
        "sha256": item.sha256.hex(),
        "url": item.url or None,
        "fetched": item.fetched or None,
    }


def _table(items: tuple[ItemReport, ...], path: str, at: datetime) -> None:
    from rich.table import Table  # noqa: PLC0415 - 50 ms that --json need not pay
    from rich.text import Text  # noqa: PLC0415

    title = Text(f"TDX collateral {path} at {at:%Y-%m-%d %H:%M} UTC")
    table = Table(title=title, title_justify="left", title_style="bold", expand=False, pad_edge=False)
    table.add_column("item")
    table.add_column("what it says", overflow="fold", min_width=20)
    table.add_column("issued, due", no_wrap=True)
    table.add_column("state")
    table.add_column("signer", overflow="fold")
    for item in items:
        facts = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in item.facts)
        dates = [f"{moment:%Y-%m-%d}" for moment in (item.issued, item.next_update) if moment]
        table.add_row(
            _TITLES[item.item],
            _plain(item.problem or facts),
            "\n".join(dates),
            Text(str(item.state), _STYLES[str(item.state)]),
            _plain(item.chain[0].subject_cn if item.chain else ""),
        )
    out = console()
    out.print(table)
    out.print(Text("NOT VERIFIED HERE: no signature was looked at; dokimos verify tdx does that", "bold yellow"))


def _plain(text: str) -> Text:
    """What a certificate says of itself may hold anything; a terminal gets what can be printed."""
    from rich.text import Text  # noqa: PLC0415 - as above

    return Text("".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text))
