"""Rules that the policies of several technologies share: what a bit must be, and how fatal a reserved one is."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from .policy_keys import Key, Kind, choice, key


class BitRule(StrEnum):
    """What a single bit must be."""

    ZERO = "must-be-0"
    ONE = "must-be-1"
    ANY = "any"

    def allows(self, bit: bool) -> bool:
        """Whether a bit of this value is accepted."""
        return self is BitRule.ANY or bit is (self is BitRule.ONE)


class ReservedRule(StrEnum):
    """What is done about reserved bits that are not as the ABI says."""

    REPORT = "report"
    FAIL = "fail"


RESERVED: Final[Kind] = choice(ReservedRule)
NO_CHECK: Final = "not looked at"
"""What the absence of a key means that demands one value."""

_BIT = choice(BitRule)
_TOLD = "both are accepted, and the result says so"


def bit(meaning: str, absent: str = _TOLD) -> dict[str, Key]:
    """Metadata of a key for a single bit."""
    return key(_BIT, meaning, absent)
