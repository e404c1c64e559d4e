"""Options of the commands that meet an endpoint: what the client has, or gets, of vendors' material of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict, TypeVar

import click

from .endorsements import read_collateral
from .gpu_inputs import read_material

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..client.session import OwnMaterial
    from ..endorsements.collateral_bundle import TdxCollateral
    from ..evidence.tdx import TdQuote

_F = TypeVar("_F", bound="Callable[..., None]")


class OwnOptions(TypedDict):
    """Values of the options."""

    rims: tuple[str, ...]
    collateral: str | None
    fetch: bool
    pccs: str | None


def own_options(command: _F) -> _F:
    """Add the options to a command."""
    for option in (
        click.option("--pccs", metavar="URL", help="Fetch it from this cache (PCCS) instead."),
        click.option("--fetch", is_flag=True, help="Fetch a TD's collateral from Intel where the endpoint has none."),
        click.option("--collateral", metavar="BUNDLE|DIR", help="Collateral of a TD whose endpoint has none."),
        click.option("--rim", "rims", metavar="FILE|DIR", multiple=True, help="RIMs beside those of the endpoint."),
    ):
        command = option(command)
    return command


def own_material(options: OwnOptions) -> OwnMaterial:
    """What the options give.

    Raises:
        UsageError: collateral from a file and fetched.
        MaterialUnavailable: a file cannot be read.
        MalformedEvidence: a file is none of what it should be.
    """
    from ..client.session import OwnMaterial  # noqa: PLC0415 - the client is what costs

    rims = tuple(rim.data for rim in read_material(options["rims"], (), ()).rims.rims) if options["rims"] else ()
    fetch = options["fetch"] or options["pccs"] is not None
    if options["collateral"] is not None:
        if fetch:
            raise click.UsageError("--collateral and --fetch exclude each other")
        given = read_collateral(options["collateral"])
        return OwnMaterial(rims=rims, collateral=lambda _: given)
    return OwnMaterial(rims=rims, collateral=_fetching(options["pccs"]) if fetch else None)


def _fetching(pccs: str | None) -> Callable[[TdQuote], TdxCollateral]:
    def fetch(quote: TdQuote) -> TdxCollateral:
        from ..endorsements.fetch import INTEL_PCS, PcsFetcher, fetch_collateral  # noqa: PLC0415 - only for this

        return fetch_collateral(quote, PcsFetcher(pccs or INTEL_PCS))

    return fetch
