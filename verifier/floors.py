"""TCB floors by family, model and stepping: below them a published attack forges or reads what attestation protects.

AMD publishes no signed list of TCB states, so this is data of the project, dated, with a source for each row.  Patch
levels of microcode are numbered per family, model and stepping; a floor for a whole product would be meaningless (Genoa
stands at 0x54 where Bergamo stands at 0x19).
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Final

from ..evidence.snp import Fms, Tcb
from .policy_keys import integer, key

AS_OF: Final = "2026-11-24"
"""The day on which the rows were last compared with their sources."""

_LEVEL = integer(0, 255)
_ANY = "any level"


@dataclass(frozen=True, slots=True, kw_only=True)
class TcbMinimum:
    """Lowest accepted level of each component, 0 to 255; None: that component is not looked at.

    Attributes:
        fmc: first mutable code; only Turin has one, and a report without it fails a minimum of it.
        bl: boot loader.
        tee: TEE.
        snp: SNP firmware.
        ucode: low byte of the microcode patch level.
    """

    fmc: int | None = field(
        default=None, metadata=key(_LEVEL, "lowest level of the first mutable code; a processor without it fails", _ANY)
    )
    bl: int | None = field(default=None, metadata=key(_LEVEL, "lowest level of the boot loader", _ANY))
    tee: int | None = field(default=None, metadata=key(_LEVEL, "lowest level of the TEE", _ANY))
    snp: int | None = field(default=None, metadata=key(_LEVEL, "lowest level of the SNP firmware", _ANY))
    ucode: int | None = field(default=None, metadata=key(_LEVEL, "lowest level of the microcode", _ANY))

    def levels(self) -> dict[str, int]:
        """The components that have a minimum."""
        found = {item.name: getattr(self, item.name) for item in fields(TcbMinimum)}
        return {name: level for name, level in found.items() if level is not None}

    def unmet(self, tcb: Tcb) -> tuple[str, ...]:
        """Names of the components that are below, or that the TCB does not have."""
        has = tcb.components()
        return tuple(name for name, level in self.levels().items() if has.get(name, -1) < level)

    def __str__(self) -> str:
        return ", ".join(f"{name} >= {level}" for name, level in self.levels().items())


@dataclass(frozen=True, slots=True, kw_only=True)
class Floor:
    """One row.

    Attributes:
        family: combined CPUID family.
        model: combined CPUID model.
        stepping: CPUID stepping, or None for every one.
        minimum: what REPORTED_TCB must reach.
        source: where the number comes from.
        published: date of the advisory, ISO 8601; empty in a policy's own rows.
        confirmed: whether AMD's bulletin itself was read; else the number rests on `source` alone.
    """

    family: int
    model: int
    stepping: int | None = None
    minimum: TcbMinimum
    source: str = "policy"
    published: str = ""
    confirmed: bool = False

    def applies(self, fms: Fms) -> bool:
        """Whether the row is for this processor."""
        return (self.family, self.model) == fms[:2] and self.stepping in (None, fms.stepping)


# Loading microcode that AMD did not sign.  The kernel's table holds the last revision of each processor whose loader is
# broken; the floor is the next one.
_KERNEL = "Linux arch/x86/kernel/cpu/microcode/amd.c, get_cutoff_revision(), one above"
_ENTRYSIGN = ("2025-02-03", f"AMD-SB-3019, CVE-2024-56161 (EntrySign); {_KERNEL}")
_ENTRYSIGN_ZEN5 = ("2025-04-07", f"AMD-SB-7033, CVE-2024-36347 (EntrySign on Zen 5); {_KERNEL}")


def _microcode(fms: Fms, ucode: int, why: tuple[str, str]) -> Floor:
    return Floor(
        family=fms.family,
        model=fms.model,
        stepping=fms.stepping,
        minimum=TcbMinimum(ucode=ucode),
        published=why[0],
        source=why[1],
    )


SHIPPED: Final = (
    _microcode(Fms(0x19, 0x01, 0), 0x7B, _ENTRYSIGN),  # Milan B0
    _microcode(Fms(0x19, 0x01, 1), 0xDB, _ENTRYSIGN),  # Milan B1
    _microcode(Fms(0x19, 0x01, 2), 0x44, _ENTRYSIGN),  # Milan-X
    _microcode(Fms(0x19, 0x11, 1), 0x54, _ENTRYSIGN),  # Genoa
    _microcode(Fms(0x19, 0x11, 2), 0x4F, _ENTRYSIGN),  # Genoa-X
    _microcode(Fms(0x19, 0xA0, 1), 0x17, _ENTRYSIGN),  # Bergamo A1
    _microcode(Fms(0x19, 0xA0, 2), 0x19, _ENTRYSIGN),  # Bergamo and Siena
    _microcode(Fms(0x1A, 0x02, 1), 0x47, _ENTRYSIGN_ZEN5),  # Turin
    _microcode(Fms(0x1A, 0x11, 0), 0x47, _ENTRYSIGN_ZEN5),  # Turin dense
)
"""The rows that ``tcb_floor = "shipped"`` demands."""


def floors_for(fms: Fms, rows: tuple[Floor, ...] = SHIPPED) -> tuple[Floor, ...]:
    """Every row that is for this processor; a TCB must reach all of them."""
    return tuple(row for row in rows if row.applies(fms))
