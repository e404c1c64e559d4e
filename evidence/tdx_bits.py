"""Named bits of a trust domain: TD ATTRIBUTES and XFAM.

Bits that have no name here are kept and can be asked for; a policy decides what they mean.  Sources: TDX module ABI,
"TD_ATTRIBUTES"; Intel SDM volume 1, section 13.1 (state components) for the bits that XFAM may hold.
"""

from __future__ import annotations

from typing import ClassVar


class _NamedBits(int):
    """An unsigned 64-bit integer whose bits have names."""

    _BITS: ClassVar[dict[str, int]] = {}

    @classmethod
    def names(cls) -> dict[str, int]:
        """Each name with the number of its bit, lowest first."""
        return dict(cls._BITS)

    def bit(self, n: int) -> bool:
        """Bit n."""
        return bool(self >> n & 1)

    @property
    def set_names(self) -> tuple[str, ...]:
        """Names of the bits that are set, lowest first."""
        return tuple(name for name, n in self._BITS.items() if self >> n & 1)

    @property
    def unknown(self) -> int:
        """The set bits without a name, in place."""
        return self & ~sum(1 << n for n in self._BITS.values())


class TdAttributes(_NamedBits):
    """TD ATTRIBUTES in four groups: 3:0 under debug (TUD), 15:4 under profiling (TUP), 31:16 security, 63:32 other."""

    _BITS: ClassVar[dict[str, int]] = {
        "debug": 0,
        "hgs_plus_prof": 4,
        "perf_prof": 5,
        "pmt_prof": 6,
        "icssd": 16,
        "servtd_ext": 17,
        "lass": 27,
        "sept_ve_disable": 28,
        "migratable": 29,
        "pks": 30,
        "kl": 31,
        "tpa": 62,
        "perfmon": 63,
    }

    @property
    def under_debug(self) -> int:
        """Bits 3:0 (TUD), in place: with any of them the host can look into the TD."""
        return self & 0x000F

    @property
    def under_profiling(self) -> int:
        """Bits 15:4 (TUP), in place: with any of them the host can watch the TD run."""
        return self & 0xFFF0

    @property
    def ignorable(self) -> int:
        """Set bits of 22:16 without a name, in place: the ABI promises that their meaning will only add security."""
        return self.unknown & 0x7F0000

    @property
    def debug(self) -> bool:
        """Bit 0: the host may read and write the TD's memory and state."""
        return self.bit(0)

    @property
    def hgs_plus_prof(self) -> bool:
        """Bit 4: the host may profile the TD by hardware feedback."""
        return self.bit(4)

    @property
    def perf_prof(self) -> bool:
        """Bit 5: the host may profile the TD by performance counters."""
        return self.bit(5)

    @property
    def pmt_prof(self) -> bool:
        """Bit 6: the host may profile the TD by platform telemetry."""
        return self.bit(6)

    @property
    def icssd(self) -> bool:
        """Bit 16: the module defends the TD against single-stepping by counting instructions."""
        return self.bit(16)

    @property
    def servtd_ext(self) -> bool:
        """Bit 17: extended binding of service TDs is on."""
        return self.bit(17)

    @property
    def lass(self) -> bool:
        """Bit 27: linear address space separation is on."""
        return self.bit(27)

    @property
    def sept_ve_disable(self) -> bool:
        """Bit 28: pages that the host takes away do not raise #VE in the TD."""
        return self.bit(28)

    @property
    def migratable(self) -> bool:
        """Bit 29: the TD may be moved to another machine by a migration TD."""
        return self.bit(29)

    @property
    def pks(self) -> bool:
        """Bit 30: supervisor protection keys may be used."""
        return self.bit(30)

    @property
    def kl(self) -> bool:
        """Bit 31: key locker may be used."""
        return self.bit(31)

    @property
    def tpa(self) -> bool:
        """Bit 62: the TD is a TDX provisioning agent."""
        return self.bit(62)

    @property
    def perfmon(self) -> bool:
        """Bit 63: the TD may use performance monitoring."""
        return self.bit(63)


class Xfam(_NamedBits):
    """XFAM: the extended features (XCR0 and IA32_XSS) that the TD may use."""

    _BITS: ClassVar[dict[str, int]] = {
        "x87": 0,
        "sse": 1,
        "avx": 2,
        "avx512_opmask": 5,
        "avx512_zmm_hi256": 6,
        "avx512_hi16_zmm": 7,
        "pt": 8,
        "pku": 9,
        "cet_u": 11,
        "cet_s": 12,
        "uli": 14,
        "lbr": 15,
        "amx_tilecfg": 17,
        "amx_tiledata": 18,
        "apx": 19,
    }
