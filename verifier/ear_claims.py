"""Members and values of AR4SI's trustworthiness vector, as EAR carries it."""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import Final


class Claim(IntEnum):
    """Values of a trustworthiness claim (AR4SI, "Trustworthiness Claims"); one number has one meaning per claim."""

    NONE = 0
    AFFIRMING = 2
    BOOT_APPROVED = 3
    """Executables: what booted is approved; what ran later is not measured."""
    WARNING = 32
    UNRECOGNIZED_EXECUTABLES = 33
    CONTRAINDICATED = 96
    UNRECOGNIZED = 97
    """Hardware or instance: not one that is known."""
    CRYPTO_FAILED = 99


class Tier(StrEnum):
    """``ear_status``: the band that a claim's number lies in."""

    NONE = "none"
    AFFIRMING = "affirming"
    WARNING = "warning"
    CONTRAINDICATED = "contraindicated"

    @classmethod
    def of(cls, claim: int) -> Tier:
        """The band of a number: 2 to 31 affirming, 32 to 95 warning, 96 to 127 contraindicated."""
        if claim >= Claim.CONTRAINDICATED:
            return cls.CONTRAINDICATED
        if claim >= Claim.WARNING:
            return cls.WARNING
        return cls.AFFIRMING if claim >= Claim.AFFIRMING else cls.NONE


HARDWARE: Final = "hardware"
CONFIGURATION: Final = "configuration"
EXECUTABLES: Final = "executables"
INSTANCE: Final = "instance-identity"
RUNTIME: Final = "runtime-opaque"
MEMBERS: Final = (
    INSTANCE,
    CONFIGURATION,
    EXECUTABLES,
    "file-system",
    HARDWARE,
    RUNTIME,
    "storage-opaque",
    "sourced-data",
)
"""Members of the vector.  Of file system, storage and sourced data neither a report nor a quote says anything."""
