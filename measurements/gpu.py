"""Which reference values a roll-out of NVIDIA devices needs, before anything is rolled out.

There is nothing to compute: the expected measurements of a device are the golden values of the RIMs that NVIDIA signs
for its driver and its VBIOS.  What can be found out beforehand is whether they exist and are at hand.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from ..endorsements.rim import BIOS, DRIVER, VBIOS, Rim, RimNeed, rim_id_driver, rim_id_switch, rim_id_vbios
from ..endorsements.rim_store import RimStore, StoredRim
from ..errors import UsageError

SWITCH: Final = "LS10"
VBIOS_ID: Final = "NV_GPU_VBIOS_"
"""How the id of every VBIOS's RIM begins; the board and the version follow."""

_CHIP = re.compile(r"(GH|GB)[0-9]{3}|LS10")
_BOARD = re.compile(r"([0-9A-Za-z]{4})_([0-9]{4})_([0-9]{3})")
_VERSION = re.compile(r"[0-9A-Fa-f]{2}(?:\.[0-9A-Fa-f]{2}){4}")
_DRIVER = re.compile(r"[0-9]{1,4}(?:\.[0-9]{1,4}){1,3}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """What is to be rolled out.

    Attributes:
        chip: such as "GH100", "GB100" or "LS10".
        driver: the driver's version; None for a switch.
        vbios: versions of the VBIOS, or of a switch's BIOS.
        board: project, project SKU and chip SKU as RIM ids have them, such as "1010_0200_882"; None where unknown.
    """

    chip: str
    driver: str | None
    vbios: tuple[str, ...]
    board: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutNeed:
    """One RIM that the roll-out needs.

    Attributes:
        source: which of a device's RIMs.
        id: the id under which NVIDIA serves it; None where the board is not known.
        version: of driver or VBIOS.
        issues: those at hand; empty where it is missing.
    """

    source: str
    id: str | None
    version: str
    issues: tuple[StoredRim, ...]


def rollout_needs(rollout: Rollout, store: RimStore) -> tuple[RolloutNeed, ...]:
    """Every RIM that devices will need, with the issues of it that are at hand.

    Args:
        rollout: what is to be rolled out.
        store: RIMs at hand.

    Raises:
        UsageError: a chip, version or board that is none, or a switch with a driver.
    """
    _check(rollout)
    needs: list[RimNeed] = []
    if rollout.driver is not None:
        version = rollout.driver
        needs.append(RimNeed(DRIVER, rim_id_driver(rollout.chip, version), (rollout.chip,), version))
    for version in rollout.vbios:
        if rollout.chip == SWITCH:
            needs.append(RimNeed(BIOS, rim_id_switch(version), (rollout.chip,), version))
        else:
            needs.append(RimNeed(VBIOS, _vbios_id(rollout.board, version), (rollout.chip,), version))
    return tuple(
        RolloutNeed(
            source=need.source,
            id=need.id or None,
            version=need.version,
            issues=_at_hand(need, store),
        )
        for need in needs
    )


def misfit(need: RolloutNeed, chip: str, rim: Rim) -> str:
    """Why a genuine RIM is not the one that is needed, whatever its file is called, or ""."""
    if rim.product != chip or rim.version.upper() != need.version.upper():
        return f"it is of {rim.product} {rim.version}, not of {chip} {need.version}"
    return "" if rim.active else "no index of it is active, so nothing is compared with it"


def _at_hand(need: RimNeed, store: RimStore) -> tuple[StoredRim, ...]:
    """The issues of a RIM; where its board is not known, those of any board."""
    if need.id:
        return store.find(need)
    ending = f"_{need.version.replace('.', '')}".upper()
    named = [rim for rim in store.rims if rim.id and rim.id.startswith(VBIOS_ID) and rim.id.endswith(ending)]
    found = {rim.sha256: rim for rim in (*named, *store.find(need))}
    return tuple(found.values())


def _vbios_id(board: str | None, version: str) -> str:
    """Without the board no id can be told."""
    parts = _BOARD.fullmatch(board) if board else None
    return rim_id_vbios(parts[1], parts[2], parts[3], version) if parts else ""


def _check(rollout: Rollout) -> None:
    if not _CHIP.fullmatch(rollout.chip):
        raise UsageError(f"chip {rollout.chip!r}: such as GH100, GB100 or LS10 is wanted")
    if rollout.driver is not None and not _DRIVER.fullmatch(rollout.driver):
        raise UsageError(f"driver {rollout.driver!r}: a version such as 550.127.05 is wanted")
    if rollout.chip == SWITCH and rollout.driver is not None:
        raise UsageError("a switch has no driver of its own")
    for version in rollout.vbios:
        if not _VERSION.fullmatch(version):
            raise UsageError(f"VBIOS {version!r}: a version such as 96.00.9F.00.01 is wanted")
    if rollout.board is not None and not _BOARD.fullmatch(rollout.board):
        raise UsageError(f"board {rollout.board!r}: project, project SKU and chip SKU such as 1010_0200_882 are wanted")
    if rollout.driver is None and not rollout.vbios:
        raise UsageError("nothing is rolled out: neither a driver nor a VBIOS")
