"""Authenticity of an SNP report: an ordered list of checks, from the form of the report down to its signature.

The order is that of the reference algorithm; the first failure ends it, since nothing behind it would mean anything.
Whether the report says what one wants is appraisal, in :mod:`.appraise`, and takes only what this module returns.
"""

from __future__ import annotations

from datetime import datetime

from ..endorsements.vek import Vek
from ..errors import Check
from ..evidence.snp import (
    SIGNATURE_ALGO_P384,
    SIGNED_SIZE,
    Product,
    SigningKey,
    SnpReport,
    Tcb,
    parse_report,
    product_of,
)
from .checklist import Checklist
from .snp_endorsements import SnpEndorsements, VerifiedVek, verify_vek
from .trust import Revocation, RevocationState, SnpTrust
from .verified import VerifiedSnp, make_verified

_ABI = "56860, ATTESTATION_REPORT"
# Order of the group of P-384 (FIPS 186-5, SP 800-186 3.2.1.4).
_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973


def verify_snp(
    report: bytes,
    endorsements: SnpEndorsements | VerifiedVek,
    *,
    trust: SnpTrust,
    at: datetime,
    product: Product | None = None,
) -> VerifiedSnp:
    """Verify that a report is genuine.

    Args:
        report: the 1184 bytes as received.
        endorsements: certificates and revocation lists, or what an earlier call returned as ``endorsement`` for the
            same key.
        trust: roots of simulated platforms, and whether revocation lists are demanded.
        at: the time of verification, aware.
        product: what the caller knows the product to be, or None; a report of version 2 does not say.

    Returns:
        The report with all that was verified; the one input that appraisal takes.

    Raises:
        VerificationError: a check failed.
        MalformedEvidence: the report or a certificate cannot be read.
        UnsupportedEvidence: a report version or a processor that is not supported.
        ValueError: `at` has no time zone.
    """
    if at.tzinfo is None:
        raise ValueError("the time of verification needs a time zone")
    parsed = parse_report(report)
    checks = Checklist()
    checks.passed(Check.SNP_REPORT_SIZE, reference=_ABI)
    checks.passed(Check.SNP_REPORT_VERSION, "2 to 5", parsed.version, f"{_ABI}, 0x000")
    signer = _signer(parsed, checks)
    named = _product(parsed, product, checks)
    if isinstance(endorsements, VerifiedVek):
        verified = endorsements
        checks = _again(verified, trust, named, at, checks)
    else:
        verified = verify_vek(endorsements, trust=trust, at=at, product=named, before=checks)
    vek = verified.vek
    checks.require(
        vek.kind is signer,
        Check.SNP_VEK_ROLE,
        "the certificate is of another kind than the key that the report names",
        expected=signer.name,
        actual=vek.kind.name,
        reference=f"{_ABI}, 0x048 SIGNING_KEY",
    )
    _tcb(parsed, vek, verified.product, checks)
    chip_bound = _hwid(parsed, vek, checks)
    _signature(parsed, verified, checks)
    return make_verified(
        report=parsed,
        product=verified.product,
        signer=signer,
        vek=vek,
        endorsement=verified,
        simulated=verified.simulated,
        chip_bound=chip_bound,
        revocation=verified.revocation,
        root_sha256=verified.root_sha256,
        checks=checks.done(),
        at=at,
    )


def _signer(report: SnpReport, checks: Checklist) -> SigningKey:
    checks.require(
        report.signature_algo == SIGNATURE_ALGO_P384,
        Check.SNP_REPORT_SIGNATURE_ALGO,
        "the signature algorithm is not ECDSA P-384 with SHA-384",
        expected=SIGNATURE_ALGO_P384,
        actual=report.signature_algo,
        reference=f"{_ABI}, 0x034",
    )
    message = ""
    if report.signing_key not in (SigningKey.VCEK, SigningKey.VLEK):
        message = "the report names no signing key"
    elif report.mask_chip_key:
        message = "the firmware was told not to sign (MASK_CHIP_KEY)"
    elif not any(report.signature_r) and not any(report.signature_s):
        message = "the signature is all zero"
    checks.require(
        not message,
        Check.SNP_REPORT_SIGNED,
        message,
        expected="VCEK or VLEK",
        actual=report.signing_key,
        reference=f"{_ABI}, 0x048",
    )
    return SigningKey(report.signing_key)


def _product(report: SnpReport, wanted: Product | None, checks: Checklist) -> Product | None:
    """The product by the report's own word; in version 2 by the caller's, or by the certificate's later."""
    if report.fms is None:
        if wanted is None:
            checks.skipped(Check.SNP_PRODUCT_SUPPORTED, "version 2 names no processor; the certificate does")
        else:
            checks.passed(Check.SNP_PRODUCT_SUPPORTED, actual=str(wanted), reference="named by the caller")
        return wanted
    product = product_of(report.fms)
    checks.require(
        wanted in (None, product),
        Check.SNP_PRODUCT_SUPPORTED,
        "the report is of another product than the one that was named",
        expected=wanted and str(wanted),
        actual=f"{product} ({report.fms.code_name})",
        reference=f"{_ABI}, 0x188",
    )
    return product


def _again(verified: VerifiedVek, trust: SnpTrust, named: Product | None, at: datetime, before: Checklist) -> Checklist:
    """A chain that held before: its checks are listed; product, trust and windows, which may be others now, are not."""
    checks = Checklist((*before.done(), *verified.checks))
    if named not in (None, verified.product):
        checks.failed(
            Check.SNP_VEK_PRODUCT,
            "the certificate is of another product than the report",
            expected=named and str(named),
            actual=str(verified.product),
        )
    if verified.simulated and verified.root_sha256 not in trust.simulated_roots:
        checks.failed(Check.SNP_CA_PINNED, "the policy does not name this root", actual=verified.root_sha256)
    if trust.revocation is Revocation.REQUIRE and verified.revocation is not RevocationState.CHECKED:
        checks.failed(Check.SNP_CRL_REQUIRED, "the policy demands a revocation list, and none was checked")
    for window in verified.windows:
        window.require(checks, at)
    return checks


def _tcb(report: SnpReport, vek: Vek, product: Product, checks: Checklist) -> None:
    reported = Tcb.from_bytes(report.reported_tcb, product)
    checks.require(
        reported == vek.tcb,
        Check.SNP_VEK_TCB,
        "the certificate is for another TCB than REPORTED_TCB, every component of which must be equal",
        expected=vek.tcb.to_bytes(),
        actual=report.reported_tcb,
        reference=f"{_ABI}, 0x180; 57230 OIDs 1.3.6.1.4.1.3704.1.3",
    )


def _hwid(report: SnpReport, vek: Vek, checks: Checklist) -> bool:
    """Whether the report is bound to one chip; False where the chip id is masked or a VLEK signed."""
    reference = f"{_ABI}, 0x1A0; 57230 OID 1.3.6.1.4.1.3704.1.4"
    if vek.kind is SigningKey.VLEK:
        if vek.hwid is not None or not vek.csp_id:
            checks.failed(Check.SNP_VEK_HWID, "a VLEK must name a provider and no chip", reference=reference)
        checks.skipped(Check.SNP_VEK_HWID, "a VLEK is bound to a provider, not to a chip", reference)
        return False
    if vek.hwid is None or vek.csp_id is not None:
        checks.failed(Check.SNP_VEK_HWID, "a VCEK must name a chip and no provider", reference=reference)
    if report.chip_id_masked:
        checks.skipped(Check.SNP_VEK_HWID, "CHIP_ID is masked, so the report is bound to no chip", reference)
        return False
    checks.require(
        report.chip_id == vek.hwid.ljust(64, b"\0"),
        Check.SNP_VEK_HWID,
        "the certificate is of another chip than the report",
        expected=vek.hwid,
        actual=report.chip_id,
        reference=reference,
    )
    return True


def _signature(report: SnpReport, verified: VerifiedVek, checks: Checklist) -> None:
    r = int.from_bytes(report.signature_r, "little")
    s = int.from_bytes(report.signature_s, "little")
    # Above the order lie also all values whose upper 24 of 72 bytes are not zero.
    checks.require(
        0 < r < _ORDER and 0 < s < _ORDER and not any(report.raw[0x330:]),
        Check.SNP_REPORT_SIGNATURE_FORMAT,
        "R and S must be in 1..n-1, and the rest of the signature field zero",
        reference=f"{_ABI}, 0x2A0",
    )
    checks.require(
        _verifies(verified, r, s, report.raw[:SIGNED_SIZE]),
        Check.SNP_REPORT_SIGNATURE,
        f"the signature is not by the {verified.vek.kind.name} for REPORTED_TCB; some hosts sign with the key for"
        " CURRENT_TCB, whose certificate is another one",
        reference=f"{_ABI}, 0x2A0; signed are the bytes 0x000 to 0x29F as received",
    )


def _verifies(verified: VerifiedVek, r: int, s: int, signed: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - formats and policies need it not
    from cryptography.hazmat.primitives.asymmetric import ec, utils  # noqa: PLC0415
    from cryptography.hazmat.primitives.hashes import SHA384  # noqa: PLC0415

    try:
        verified.key.verify(utils.encode_dss_signature(r, s), signed, ec.ECDSA(SHA384()))
    except InvalidSignature:
        return False
    return True
