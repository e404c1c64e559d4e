"""A verified TDX quote: the one input that its appraisal takes, and that only verification makes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from ..endorsements.pck import Pck
from ..errors import CheckResult
from ..evidence.tdx import TdQuote
from .tdx_tcb import TcbVerdict

if TYPE_CHECKING:
    from .tdx_collateral import VerifiedCollateral

_TOKEN = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedTdx:
    """A genuine TDX quote; only :func:`dokimos.verifier.tdx.verify_tdx` makes one.

    Attributes:
        quote: the quote.
        pck: the certificate of the platform.
        collateral: the verified collateral, to be reused for the next quote.
        verdict: what Intel's rules say of the TCB; whether that is accepted is appraisal.
        simulated: the root is one that the policy names, not Intel's.
        root_sha256: SHA-256 of the root's DER certificate.
        checks: every check that ran, in order.
        at: the time of verification.
    """

    quote: TdQuote
    pck: Pck
    collateral: VerifiedCollateral
    verdict: TcbVerdict
    simulated: bool
    root_sha256: bytes
    checks: tuple[CheckResult, ...]
    at: datetime
    token: object

    def __post_init__(self) -> None:
        if self.token is not _TOKEN:
            raise TypeError("only verify_tdx() makes a VerifiedTdx")


def make_verified(
    *,
    quote: TdQuote,
    pck: Pck,
    collateral: VerifiedCollateral,
    verdict: TcbVerdict,
    checks: tuple[CheckResult, ...],
    at: datetime,
) -> VerifiedTdx:
    """For :mod:`.tdx` alone, after the last check passed."""
    return VerifiedTdx(
        quote=quote,
        pck=pck,
        collateral=collateral,
        verdict=verdict,
        simulated=collateral.root.simulated,
        root_sha256=collateral.root.sha256,
        checks=checks,
        at=at,
        token=_TOKEN,
    )
