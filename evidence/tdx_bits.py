"""Named bits of a trust domain: TD ATTRIBUTES and XFAM.

Bits that have no name here are kept and can be asked for; a policy decides what they mean.
"""

from __future__ import annotations

from typing import ClassVar, Self


class _NamedBits(int):
    """An unsigned 64-bit integer whose bits have names."""

    _BITS: ClassVar[dict[str, int]] = {}

    @classmethod
    def names(cls) -> dict[str, int]:
        """Each name with the number of its bit, lowest first."""
        return dict(cls._BITS)

    @classmethod
    def from_bytes(cls, raw: bytes, byteorder: str = "little", *, signed: bool = False) -> Self:  # type: ignore[override]
        """Decode 8 bytes as they stand in a report."""
        raise NotImplementedError

    @property
    def set_names(self) -> tuple[str, ...]:
        """Names of the bits that are set, lowest first."""
        raise NotImplementedError

    @property
    def unknown(self) -> int:
        """The set bits without a name, in place."""
        raise NotImplementedError


class TdAttributes(_NamedBits):
    """TD ATTRIBUTES."""

    @property
    def debug(self) -> bool:
        """Bit 0: the host may read the TD's memory and state."""
        raise NotImplementedError


class Xfam(_NamedBits):
    """XFAM: extended features that the TD may use."""
