"""Rules that the policies of several technologies share: what a bit must be, and how fatal a reserved one is."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from .policy_keys import Json, Key, Kind, choice, hex_bytes, key


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


_BINDING = "binding"


def _report_data(value: object, path: str) -> bytes | None:
    if value == _BINDING:
        return b""
    found: bytes = hex_bytes(64).read(value, path)
    return found


def _show_report_data(value: bytes | None) -> Json:
    return None if value is None else value.hex() or _BINDING


REPORT_DATA: Final = Kind('hex, 64 bytes, or "binding"', _report_data, _show_report_data)
"""What a report must say of its caller; no bytes stand for the word: the caller must give the value."""
