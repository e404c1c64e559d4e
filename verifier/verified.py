"""Verified evidence: the one input that appraisal takes, and that only verification makes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from ..endorsements.vek import Vek
from ..errors import CheckResult
from ..evidence.snp import Product, SigningKey, SnpReport
from .trust import RevocationState

if TYPE_CHECKING:
    from .snp_endorsements import VerifiedVek

_TOKEN = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedSnp:
    """A genuine SNP report; only :func:`dokimos.verifier.snp.verify_snp` makes one.

    Attributes:
        report: the report.
        product: the product whose keys signed it.
        signer: the kind of key that signed it.
        vek: that key's certificate.
        endorsement: the verified chain, to be reused for the next report of the same key; None only in tests.
        simulated: the root is one that the policy names, not AMD's.
        chip_bound: the report is bound to the one chip that the certificate names.
        revocation: what is known of revocation.
        root_sha256: SHA-256 of the root's DER certificate.
        checks: every check that ran, in order.
        at: the time of verification.
    """

    report: SnpReport
    product: Product
    signer: SigningKey
    vek: Vek
    endorsement: VerifiedVek | None
    simulated: bool
    chip_bound: bool
    revocation: RevocationState
    root_sha256: bytes
    checks: tuple[CheckResult, ...]
    at: datetime
    token: object

    def __post_init__(self) -> None:
        if self.token is not _TOKEN:
            raise TypeError("only verify_snp() makes a VerifiedSnp")


def make_verified(
    *,
    report: SnpReport,
    product: Product,
    signer: SigningKey,
    vek: Vek,
    endorsement: VerifiedVek | None,
    simulated: bool,
    chip_bound: bool,
    revocation: RevocationState,
    root_sha256: bytes,
    checks: tuple[CheckResult, ...],
    at: datetime,
) -> VerifiedSnp:
    """For :mod:`.snp` alone, after the last check passed."""
    return VerifiedSnp(
        report=report,
        product=product,
        signer=signer,
        vek=vek,
        endorsement=endorsement,
        simulated=simulated,
        chip_bound=chip_bound,
        revocation=revocation,
        root_sha256=root_sha256,
        checks=checks,
        at=at,
        token=_TOKEN,
    )
