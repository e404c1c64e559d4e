"""Figures of parsing and verifying SNP reports, and of what an import costs, each beside its yardstick."""

from __future__ import annotations

import json
import struct
from datetime import datetime
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

from benchmarks.figure import Figure
from benchmarks.timing import starts, turns
from dokimos.endorsements import amd, pss
from dokimos.endorsements.amd_anchors import Role
from dokimos.evidence.snp import SIGNED_SIZE, parse_report
from dokimos.verifier.snp import verify_snp
from dokimos.verifier.snp_endorsements import SnpEndorsements
from dokimos.verifier.trust import SnpTrust

# As many fields as a report has, of the same sizes.
_LAYOUT = struct.Struct(
    "<IIQ16s16sII8sQI4s64s48s32s48s48s32s32s8sBBB21s64s8sBBBBBBBB8sQQ152s72s72s368s",
)


def _case(vectors: Path | None) -> tuple[bytes, SnpEndorsements, SnpTrust, datetime]:
    """A real Genoa report where the real vectors are at hand, else a simulated one, which also brings its CAs."""
    if vectors is None:
        raise SystemExit("set DOKIMOS_VECTORS: the figures are of a real report")
    folder = vectors / "snp" / "ms_genoa"
    at = datetime.fromisoformat(json.loads((folder / "manifest.json").read_bytes())["expected"]["at"])
    endorsements = SnpEndorsements(vek=(folder / "vek.der").read_bytes())
    return (folder / "report.bin").read_bytes(), endorsements, SnpTrust(), at


def _verifying(vectors: Path | None) -> list[Figure]:
    report, endorsements, trust, at = _case(vectors)
    verified = verify_snp(report, endorsements, trust=trust, at=at)
    kept = verified.endorsement
    assert kept is not None
    key, vek = kept.key, verified.vek
    issuer = amd.public_key(verified.product, Role.ASK)
    r = int.from_bytes(verified.report.signature_r, "little")
    s = int.from_bytes(verified.report.signature_s, "little")
    signature, signed = utils.encode_dss_signature(r, s), report[:SIGNED_SIZE]

    def bare() -> None:
        key.verify(signature, signed, ec.ECDSA(hashes.SHA384()))

    def bare_chain() -> None:
        # The leaf is new in a cold chain: its key has to be loaded, and OpenSSL prepares a key at its first use.
        assert pss.verifies(issuer, vek.signature, vek.tbs)
        loaded = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP384R1(), vek.spki[-97:])
        loaded.verify(signature, signed, ec.ECDSA(hashes.SHA384()))

    def bare_both_used() -> None:
        assert pss.verifies(issuer, vek.signature, vek.tbs)
        bare()

    warm, bare_warm = turns(lambda: verify_snp(report, kept, trust=trust, at=at), bare)
    cold, bare_cold = turns(lambda: verify_snp(report, endorsements, trust=trust, at=at), bare_chain)
    used, bare_used = turns(lambda: verify_snp(report, endorsements, trust=trust, at=at), bare_both_used)
    parse, unpack = turns(lambda: parse_report(report), lambda: _LAYOUT.unpack(report), number=2000)
    bare_one = f"one bare P-384 verification, {bare_warm * 1e3:.3f} ms"
    bare_both = f"its bare signature checks (RSA-4096-PSS; P-384 with a key just loaded), {bare_cold * 1e3:.3f} ms"
    return [
        _ratio("verify one report, chain already seen", warm, bare_one, warm / bare_warm, 1.3),
        _ratio("verify one report, cold chain", cold, bare_both, cold / bare_cold, 1.5),
        Figure(
            "the same beside a stricter yardstick",
            f"{used * 1e3:.3f} ms",
            f"both checks with keys that were used before, {bare_used * 1e3:.3f} ms",
            used / bare_used,
            "none",
            True,
        ),
        Figure(
            "parse a report",
            f"{1 / parse:,.0f} a second",
            f"one struct.unpack of as many fields, {unpack * 1e6:.1f} us",
            parse / unpack,
            ">= 50,000 a second",
            1 / parse >= 50_000,
        ),
    ]


def _ratio(what: str, seconds: float, yardstick: str, ratio: float, goal: float) -> Figure:
    return Figure(what, f"{seconds * 1e3:.3f} ms", yardstick, ratio, f"<= {goal} x", ratio <= goal)


def _starting() -> list[Figure]:
    empty, imported, helped = starts(
        ["-c", "pass"],
        ["-c", "import dokimos.verifier, dokimos.verifier.snp, dokimos.verifier.appraise"],
        ["-m", "dokimos", "--help"],
    )
    yardstick = f"an empty interpreter, {empty:.3f} s"
    beyond = imported - empty
    return [
        Figure(
            "import dokimos.verifier with snp and appraise",
            f"{beyond:.3f} s beyond an empty interpreter",
            yardstick,
            imported / empty,
            "<= 0.25 s beyond",
            beyond <= 0.25,
        ),
        Figure("dokimos --help", f"{helped:.3f} s in all", yardstick, helped / empty, "<= 0.35 s", helped <= 0.35),
    ]


def figures(vectors: Path | None) -> list[Figure]:
    """All figures of this module."""
    return [*_verifying(vectors), *_starting()]
