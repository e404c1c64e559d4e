"""What a verifier trusts beyond the pinned roots of AMD and Intel, and whether it insists on revocation lists."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Revocation(StrEnum):
    """What a policy demands of revocation lists; a list that is looked at must always be signed and fresh."""

    REQUIRE = "require"
    """A list must be there."""
    IF_PRESENT = "if-present"
    """A list that is there is looked at; the result says when there was none."""
    OFF = "off"
    """Lists are not looked at; the result says so."""


class RevocationState(StrEnum):
    """What a result says of revocation."""

    CHECKED = "checked"
    STALE = "stale"
    NOT_CHECKED = "not checked"


@dataclass(frozen=True, slots=True, kw_only=True)
class SnpTrust:
    """Trust of one verification; AMD's pinned roots are always in it.

    Attributes:
        simulated_roots: SHA-256 of the DER root certificates of simulated platforms that are accepted; results below
            them say SIMULATED.
        revocation: what is demanded of revocation lists.
    """

    simulated_roots: frozenset[bytes] = frozenset()
    revocation: Revocation = Revocation.IF_PRESENT


@dataclass(frozen=True, slots=True, kw_only=True)
class TdxTrust:
    """Trust of one verification; Intel's pinned root is always in it, and revocation lists are always demanded.

    Attributes:
        simulated_roots: SHA-256 of the DER root certificates of simulated platforms that are accepted; results below
            them say SIMULATED.
    """

    simulated_roots: frozenset[bytes] = frozenset()
