"""Figures of TDX: a quote verified beside dcap-qvl, parsing, MRTD, and an event log."""

from __future__ import annotations

import hashlib
import struct
from datetime import datetime
from pathlib import Path

import dcap_qvl

from benchmarks.figure import Figure
from benchmarks.timing import forget, turns
from dokimos.endorsements.collateral_bundle import encode_collateral, parse_collateral
from dokimos.evidence.ccel import parse_ccel, replay
from dokimos.evidence.tdx import parse_quote
from dokimos.measurements.mrtd import PageOrder, mrtd
from dokimos.measurements.synthetic_ovmf import synthetic_tdvf
from dokimos.measurements.tdvf import parse_tdvf
from dokimos.verifier.tdx import verify_tdx
from dokimos.verifier.trust import TdxTrust

_AT = datetime.fromisoformat("2025-06-20T00:00:00+00:00")
_SIZE = 4 << 20
# As many fields as header and body of a quote have, of the same sizes.
_LAYOUT = struct.Struct("<HHIHH16s20s16s48s48s8sQQ48s48s48s48s48s48s48s48s64s")


def _verifying(vectors: Path) -> list[Figure]:
    folder = vectors / "tdx" / "tdx_v4_uptodate_b0c0"
    quote, text = (folder / "quote.bin").read_bytes(), (folder / "collateral.json").read_text()
    trust, seconds = TdxTrust(), int(_AT.timestamp())
    bundle = encode_collateral(parse_collateral(text.encode()))
    theirs_kept = dcap_qvl.QuoteCollateralV3.from_json(text)
    kept = verify_tdx(quote, parse_collateral(bundle), trust=trust, at=_AT).collateral

    def cold() -> None:
        forget()
        verify_tdx(quote, parse_collateral(bundle), trust=trust, at=_AT)

    warm, theirs_warm = turns(
        lambda: verify_tdx(quote, kept, trust=trust, at=_AT), lambda: dcap_qvl.verify(quote, theirs_kept, seconds)
    )
    whole, forgetting, again, theirs_cold = turns(
        cold,
        forget,
        lambda: verify_tdx(quote, parse_collateral(bundle), trust=trust, at=_AT),
        lambda: dcap_qvl.verify(quote, dcap_qvl.QuoteCollateralV3.from_json(text), seconds),
    )
    first = whole - forgetting
    yardstick = f"dcap-qvl from its JSON, {theirs_cold * 1e3:.3f} ms"
    parse, unpack, theirs_parse = turns(
        lambda: parse_quote(quote), lambda: _LAYOUT.unpack_from(quote), lambda: dcap_qvl.parse_quote(quote), number=2000
    )
    return [
        Figure(
            "verify one quote, collateral verified before",
            f"{warm * 1e3:.3f} ms",
            f"dcap-qvl with its collateral parsed before, {theirs_warm * 1e3:.3f} ms",
            warm / theirs_warm,
            "<= 1.5 x",
            warm <= 1.5 * theirs_warm,
        ),
        Figure(
            "verify one quote from a bundle file, nothing kept by the caller",
            f"{again * 1e3:.3f} ms",
            yardstick,
            again / theirs_cold,
            "<= 2 x",
            again <= 2 * theirs_cold,
        ),
        Figure(
            "the same, every cache emptied: every certificate and list read for the first time",
            f"{first * 1e3:.3f} ms",
            yardstick,
            first / theirs_cold,
            "<= 2 x",
            first <= 2 * theirs_cold,
        ),
        Figure(
            "parse a quote",
            f"{1 / parse:,.0f} a second",
            f"one struct.unpack of as many fields, {unpack * 1e6:.1f} us; dcap-qvl, {theirs_parse * 1e6:.1f} us",
            parse / unpack,
            ">= 20,000 a second",
            parse <= 1 / 20_000,
        ),
    ]


def figures(vectors: Path | None) -> list[Figure]:
    """All figures of this module."""
    if vectors is None:
        raise SystemExit("set DOKIMOS_VECTORS: the figures are of a real quote")
    firmware = synthetic_tdvf(_SIZE)
    log = (vectors / "tdx" / "ccel_parse_only" / "CCEL_data_grub").read_bytes()
    events = len(parse_ccel(log).events)
    measured, hashed = turns(
        lambda: mrtd(parse_tdvf(firmware), PageOrder.SINGLE_PASS), lambda: hashlib.sha384(firmware).digest(), number=1
    )
    replayed, digests = turns(
        lambda: replay(parse_ccel(log)),
        lambda: [hashlib.sha384(bytes(96)).digest() for _ in range(events)],
    )
    hundred = replayed * 100 / events
    return [
        *_verifying(vectors),
        Figure(
            "MRTD of a 4 MiB firmware",
            f"{measured * 1e3:.1f} ms",
            f"one SHA-384 over the same bytes, {hashed * 1e3:.1f} ms",
            measured / hashed,
            "<= 40 ms",
            measured <= 0.040,
        ),
        Figure(
            "parse and replay an event log, for 100 events",
            f"{hundred * 1e3:.2f} ms",
            f"as many SHA-384 extensions, {digests * 100 / events * 1e3:.2f} ms",
            replayed / digests,
            "<= 1 ms",
            hundred <= 0.001,
        ),
    ]
