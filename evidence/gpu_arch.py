"""Kinds of NVIDIA devices that attest: what the evidence file calls them, and what their chips are called."""

from __future__ import annotations

from enum import StrEnum


class Kind(StrEnum):
    """What a device is."""

    GPU = "gpu"
    SWITCH = "switch"


class Arch(StrEnum):
    """Architectures by the names of NVIDIA's evidence files."""

    HOPPER = "HOPPER"
    BLACKWELL = "BLACKWELL"
    LS10 = "LS10"

    @property
    def kind(self) -> Kind:
        """GPU or switch."""
        return Kind.SWITCH if self is Arch.LS10 else Kind.GPU
