"""``dokimos measure gpu``: which RIMs a roll-out of drivers and VBIOSes needs, and which are missing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ..errors import Error, ExitCode
from . import verdict
from .render import console, print_json

if TYPE_CHECKING:
    from datetime import datetime

    from ..endorsements.rim_store import StoredRim
    from ..measurements.gpu import RolloutNeed
    from ..verifier.trust import GpuTrust


@click.command("gpu")
@click.option("--chip", metavar="NAME", required=True, help="Chip, such as GH100, GB100 or LS10.")
@click.option("--driver", metavar="VERSION", help="Version of the driver, such as 580.95.05.")
@click.option("--vbios", metavar="VERSION", multiple=True, help="Version of a VBIOS, such as 96.00.9F.00.01.")
@click.option("--board", metavar="ID", help="Project, project SKU and chip SKU, such as 1010_0200_882.")
@click.option("--rim", "rims", metavar="FILE|DIR", multiple=True, help="RIMs at hand: files, or folders of them.")
@verdict.AT
@verdict.POLICY
@click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")
def gpu(  # noqa: PLR0917 - one parameter per option
    chip: str,
    driver: str | None,
    vbios: tuple[str, ...],
    board: str | None,
    rims: tuple[str, ...],
    at: str | None,
    policy_file: str | None,
    as_json: bool,
) -> None:
    """Reference values of NVIDIA GPUs and switches, before a driver or VBIOS is rolled out.

    A device's expected measurements are the golden values that NVIDIA signs; this names the RIMs that hold them,
    verifies those at hand at the given time, and ends with exit code 40 if one is missing.
    """
    from ..measurements.gpu import Rollout, rollout_needs  # noqa: PLC0415 - help need not pay
    from .gpu_inputs import read_material  # noqa: PLC0415

    moment = verdict.moment(at)
    trust = verdict.policy(policy_file).gpu_trust()
    store = read_material(rims, (), ()).rims
    needs = rollout_needs(Rollout(chip=chip, driver=driver, vbios=vbios, board=board), store)
    found = [(need, [_issue(stored, need, chip, trust, moment) for stored in need.issues]) for need in needs]
    if as_json:
        print_json({"schema": "dokimos.measure.gpu/v1", "chip": chip, "rims": [_document(*one) for one in found]})
    else:
        _show(found)
    if any(not any(issue["verified"] for issue in issues) for _, issues in found):
        raise click.exceptions.Exit(ExitCode.UNAVAILABLE)


def _issue(stored: StoredRim, need: RolloutNeed, chip: str, trust: GpuTrust, at: datetime) -> dict[str, object]:
    """One issue of a RIM at hand; one that is not genuine at this time, or is another one, does not count."""
    from ..measurements.gpu import misfit  # noqa: PLC0415 - as above
    from ..verifier.checklist import Checklist  # noqa: PLC0415 - as above
    from ..verifier.gpu_rim import verify_rim  # noqa: PLC0415
    from ..verifier.result import timestamp  # noqa: PLC0415

    try:
        verified = verify_rim(stored.data, trust=trust, at=at, checks=Checklist())
        problem = misfit(need, chip, verified.rim)
    except Error as exc:
        problem = str(exc)
    if problem:
        return {"file": stored.name, "sha256": stored.sha256.hex(), "verified": False, "problem": problem}
    return {
        "file": stored.name,
        "sha256": stored.sha256.hex(),
        "verified": True,
        "simulated": verified.simulated,
        "signer": verified.chain[0].subject_cn,
        "not_after": timestamp(min(one.not_after for one in verified.chain)),
        "golden": {
            str(index): [value.hex() for value in values] for index, values in sorted(verified.rim.active.items())
        },
    }


def _document(need: RolloutNeed, issues: list[dict[str, object]]) -> dict[str, object]:
    return {"source": str(need.source), "id": need.id, "version": need.version, "issues": issues}


def _show(found: list[tuple[RolloutNeed, list[dict[str, object]]]]) -> None:
    from rich.table import Table  # noqa: PLC0415 - 50 ms that --json need not pay
    from rich.text import Text  # noqa: PLC0415

    table = Table(title="Reference values", title_justify="left", title_style="bold", expand=False, pad_edge=False)
    for column in ("RIM", "id", "state", "SHA-256", "indexes", "signer until"):
        table.add_column(column, overflow="fold")
    for need, issues in found:
        name, rim_id = f"{need.source} {need.version}", need.id or "(give --board to know it)"
        if not issues:
            table.add_row(name, rim_id, Text("missing", "bold red"), "", "", "")
        for issue in issues:
            if issue["verified"]:
                golden, until = issue["golden"], str(issue["not_after"])[:10]
                count = str(len(golden)) if isinstance(golden, dict) else ""
                state = Text("simulated" if issue["simulated"] else "verified", "green")
                table.add_row(name, rim_id, state, str(issue["sha256"])[:16], count, until)
            else:
                state = Text(str(issue["problem"]), "bold red")
                table.add_row(name, rim_id, state, str(issue["sha256"])[:16], "", "")
    console().print(table)
