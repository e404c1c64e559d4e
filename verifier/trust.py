"""What a verifier trusts beyond the pinned roots of AMD, Intel and NVIDIA, and whether it insists on revocation."""

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


class GpuRevocation(StrEnum):
    """What is demanded of revocation for GPUs; a list or an answer that is there is always looked at."""

    NONE = "none"
    CRL = "crl"
    OCSP = "ocsp"
    BOTH = "both"


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuTrust:
    """Trust of one verification; NVIDIA's pinned roots of devices and of RIMs are always in it.

    Attributes:
        simulated_roots: SHA-256 of the DER root certificates of simulated devices and of their RIMs that are accepted;
            results below them say SIMULATED.
        revocation: what must be there.
        allow_hold: a certificate on hold is accepted in the chain of a RIM; never in that of a device.
        rims: SHA-256 of RIMs that appraisal accepts; of several issues such a one is taken.  Empty: it accepts any.
        rim_signers: likewise of the certificates of their signers.
        nras: a token of NVIDIA's remote attestation service may stand in place of RIMs.
        nras_signers: SHA-256 of the keys (SubjectPublicKeyInfo) of intermediates that are accepted beside the pinned
            ones, for simulated services.
    """

    simulated_roots: frozenset[bytes] = frozenset()
    revocation: GpuRevocation = GpuRevocation.NONE
    allow_hold: bool = False
    rims: frozenset[bytes] = frozenset()
    rim_signers: frozenset[bytes] = frozenset()
    nras: bool = False
    nras_signers: frozenset[bytes] = frozenset()
