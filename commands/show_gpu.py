"""How NVIDIA devices look on a terminal: one row each, how each claim was established, and the measurements."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from rich.console import Console

    from ..verifier.result import AttestationResult

_COLOURS = {"matched": "green", "skipped": "yellow"}


def show_gpus(console: Console, result: AttestationResult, *, measurements: bool) -> None:
    """The devices of a result, and every measurement of theirs if asked for; nothing where it has none."""
    evidence: dict[str, Any] = result.evidence
    found: dict[str, Any] = evidence if "devices" in evidence else evidence.get("gpu") or {}
    devices = found.get("devices") or []
    if not devices:
        return
    console.print(_devices(devices))
    if any(device.get("claims") for device in devices):
        console.print(_claims(devices[0], found.get("guest")))
    for device in devices if measurements else []:
        if device.get("measurements"):
            console.print(_measurements(device))


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", expand=False, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _devices(devices: list[dict[str, Any]]) -> Table:
    table = _table("Devices", "device", "model", "driver", "VBIOS", "mode", "measured", "RIMs until")
    for device in devices:
        endorsement = device.get("endorsement") or {}
        table.add_row(
            device["subject"],
            (endorsement.get("certificates") or [device["arch"], device["arch"]])[1],
            device.get("driver_version") or "",
            device.get("vbios_version") or "",
            _mode(device.get("feature_flag")),
            _result(device.get("measurements")),
            _until(endorsement.get("rims")),
        )
    return table


def _mode(flag: dict[str, Any] | None) -> str:
    return "" if flag is None else f"{flag['mode'] or 'unknown'} ({flag['raw']})"


def _result(measurements: dict[str, Any] | None) -> Text:
    if measurements is None:
        return Text("not compared", "yellow")
    outcomes = [record["outcome"] for record in measurements["records"]]
    matched, skipped = outcomes.count("matched"), outcomes.count("skipped")
    wrong = len(outcomes) - matched - skipped
    text = f"{matched} match" + (f", {wrong} differ" if wrong else "") + (f", {skipped} skipped" if skipped else "")
    return Text(text, "bold red" if wrong or not matched else "green")


def _until(rims: dict[str, Any] | None) -> str:
    return min(rim["not_after"] for rim in rims.values())[:10] if rims else ""


def _claims(device: dict[str, Any], guest: dict[str, Any] | None) -> Table:
    table = _table(f"Claims of {device['subject']}, and how each is known", "claim", "value", "established")
    said = {f"guest: {name}": claim for name, claim in (guest or {}).items()}
    for name, claim in {**(device.get("claims") or {}), **said}.items():
        value = claim["value"]
        shown = "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
        table.add_row(name, shown if len(shown) <= 40 else f"{shown[:20]}…{shown[-19:]}", claim["established"])
    return table


def _measurements(device: dict[str, Any]) -> Table:
    table = _table(f"Measurements of {device['subject']}", "index", "RIM", "outcome", "measured", "reference values")
    for record in device["measurements"]["records"]:
        table.add_row(
            str(record["index"]),
            record["source"],
            Text(record["outcome"], _COLOURS.get(record["outcome"], "bold red")),
            (record["actual"] or "")[:16],
            ", ".join(value[:16] for value in record["golden"]) if record["outcome"] != "skipped" else record["reason"],
        )
    unmeasured = device["measurements"]["unmeasured"]
    if unmeasured:
        table.caption = f"without a reference value: {', '.join(map(str, unmeasured))}"
        table.caption_justify = "left"
    return table
