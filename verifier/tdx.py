"""Authenticity of a TDX quote: an ordered list of checks, from the form of the quote down to its signature.

The order is that of Intel's quote verification library, with the collateral before it; the first failure ends it.  The
TCB verdict is computed here and judged by appraisal, :mod:`.appraise_tdx`, which takes only what this module returns.
"""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache
from hashlib import sha256

from ..endorsements.collateral import ModuleIdentity, TdxModule
from ..endorsements.collateral_bundle import TdxCollateral
from ..endorsements.p256 import parse_ca_p256, verify_der, verify_raw
from ..endorsements.pck import Pck, parse_pck
from ..errors import Check, MalformedEvidence, MaterialUnavailable
from ..evidence.tdx import INTEL_QE_VENDOR, CertificationType, TdQuote, parse_quote
from .checklist import Checklist
from .tdx_collateral import VerifiedCollateral, chain_of, still_verified, verify_collateral, verify_pck_ca
from .tdx_tcb import Svns, judge, module_id
from .trust import TdxTrust
from .verified_tdx import VerifiedTdx, make_verified
from .window import Watch

PCK_CN = "Intel SGX PCK Certificate"

_QUOTE = "Intel TDX DCAP quote"
_FORM = (
    (Check.TDX_QUOTE_FORMAT, None, None),
    (Check.TDX_QUOTE_VERSION, "4 or 5", "version"),
    (Check.TDX_QUOTE_TEE_TYPE, 0x81, None),
    (Check.TDX_QUOTE_BODY_TYPE, "TD10 or TD15", "body_type"),
    (Check.TDX_QUOTE_KEY_TYPE, "ECDSA P-256", None),
)


def verify_tdx(
    quote: bytes, collateral: TdxCollateral | VerifiedCollateral | None, *, trust: TdxTrust, at: datetime
) -> VerifiedTdx:
    """Verify that a quote is genuine, and find its TCB status.

    Args:
        quote: the bytes as received; what follows the quote is ignored.
        collateral: as received, or what an earlier call returned as ``collateral`` for the same kind of platform; None
            where there is none, which is an error.
        trust: roots of simulated platforms.
        at: the time of verification, aware.

    Returns:
        The quote with all that was verified; the one input that appraisal takes.

    Raises:
        VerificationError: a check failed.
        MaterialUnavailable: collateral or the platform's certificate is not there.
        MalformedEvidence: quote, certificate or collateral cannot be read.
        UnsupportedEvidence: a quote or a document of a kind or version that is not supported.
        ValueError: `at` has no time zone.
    """
    if at.tzinfo is None:
        raise ValueError("the time of verification needs a time zone")
    parsed = parse_quote(quote)
    checks = Checklist()
    _form(parsed, checks)
    if collateral is None:
        raise MaterialUnavailable("no collateral: TCB info, QE identity and revocation lists are needed")
    chain = pck_certificates(parsed, collateral.pck_chain)
    if isinstance(collateral, VerifiedCollateral):
        verified = collateral
        still_verified(verified, trust=trust, at=at, before=checks)
    else:
        verified = verify_collateral(
            collateral, trust=trust, at=at, before=checks, pck_ca=chain[1] if len(chain) > 1 else None
        )
    pck = verify_pck(chain, verified, at=at, before=checks)
    _about_this_platform(pck, verified, checks)
    _module(parsed, verified, checks)
    _report_of_enclave(parsed, pck, checks)
    _enclave(parsed, verified, checks)
    _signature(parsed, checks)
    svns = Svns(
        components=pck.components,
        pcesvn=pck.pcesvn,
        tee_tcb_svn=parsed.body.tee_tcb_svn,
        tee_tcb_svn2=parsed.body.tee_tcb_svn2,
        qe=parsed.qe_report.isvsvn,
    )
    return make_verified(
        quote=parsed,
        pck=pck,
        collateral=verified,
        verdict=judge(verified.tables, svns),
        checks=checks.done(),
        at=at,
    )


def _form(quote: TdQuote, checks: Checklist) -> None:
    """What reading the quote found already, and whose quoting enclave it names."""
    for check, expected, field in _FORM:
        checks.passed(check, expected, int(getattr(quote, field)) if field else None, _QUOTE)
    checks.require(
        quote.qe_vendor_id == INTEL_QE_VENDOR,
        Check.TDX_QUOTE_QE_VENDOR,
        "the quoting enclave is not Intel's",
        expected=INTEL_QE_VENDOR,
        actual=quote.qe_vendor_id,
        reference=f"{_QUOTE}, header, 12",
    )


def pck_certificates(quote: TdQuote, fetched: bytes | None) -> tuple[bytes, ...]:
    """The platform's certificate in DER, then its CA and the root where they came along.

    Args:
        quote: the quote, which usually brings the chain.
        fetched: PEM chain that the caller fetched for a quote that names its platform only, or None.

    Raises:
        MaterialUnavailable: neither brings a certificate.
        MalformedEvidence: it cannot be read.
    """
    kind, data = quote.certification.type, quote.certification.data
    try:
        if kind == CertificationType.PCK_CHAIN:
            return _flat(data, 2)
        if kind == CertificationType.PCK_LEAF:
            return _flat(data, 1)[:1]
        if fetched is not None:
            return _flat(fetched, 2)
    except MalformedEvidence as exc:
        raise MalformedEvidence(str(exc), check=Check.TDX_PCK_FORMAT) from exc
    raise MaterialUnavailable(
        f"the quote brings no PCK certificate (certification data of type {kind}): it has to be fetched, and given as"
        " pck_chain of the collateral"
    )


def _flat(chain: bytes, size: int) -> tuple[bytes, ...]:
    below, root = chain_of(chain, "PCK chain", size)
    return below + root


def verify_pck(chain: tuple[bytes, ...], collateral: VerifiedCollateral, *, at: datetime, before: Checklist) -> Pck:
    """Verify the platform's certificate against verified collateral.

    Args:
        chain: what :func:`pck_certificates` returned.
        collateral: with the root, its list, and the CA's list.
        at: the time of verification, aware.
        before: checks that ran already; this one's are added to it.

    Raises:
        VerificationError: a check failed.
        MalformedEvidence: a certificate cannot be read.
    """
    checks, ca = before, collateral.pck_ca
    watch = Watch(checks, at)
    if len(chain) > 2 and sha256(chain[2]).digest() != collateral.root.sha256:
        checks.failed(
            Check.TDX_ROOT_PINNED,
            "the root that came with the quote is not that of the collateral",
            expected=collateral.root.sha256,
            actual=sha256(chain[2]).digest(),
            reference="pinned by SHA-256 of the DER",
        )
    if len(chain) > 1 and sha256(chain[1]).digest() != ca.sha256:
        # A renewed certificate of the CA, or a CA of somebody else's.
        try:
            ca = parse_ca_p256(chain[1])
        except MalformedEvidence as exc:
            raise MalformedEvidence(str(exc), check=Check.TDX_PCK_FORMAT) from exc
        verify_pck_ca(ca, collateral.root, collateral.root_crl, watch)
    pck = _leaf(chain[0])
    checks.passed(Check.TDX_PCK_FORMAT, reference="Intel PCK certificate profile, 1.4")
    checks.require(
        pck.subject_cn == PCK_CN,
        Check.TDX_PCK_ROLE,
        "the certificate is not one of a platform's PCK",
        expected=PCK_CN,
        actual=pck.subject_cn,
        reference="QVL 4.1.2.4.4",
    )
    checks.require(
        pck.issuer == ca.subject == collateral.pck_crl.issuer,
        Check.TDX_PCK_ISSUER,
        "another CA issued the certificate than the revocation list; there is one list for each of Intel's two CAs",
        expected=collateral.pck_crl.issuer_cn,
        actual=pck.issuer_cn,
        reference="QVL 4.1.2.4.6",
    )
    checks.require(
        verify_der(ca.public_point, pck.signature, pck.tbs),
        Check.TDX_PCK_SIGNATURE,
        "the certificate is not signed by its CA",
        reference="RFC 5280 6.1.3 (a)",
    )
    watch.within(
        "the PCK certificate", Check.TDX_PCK_NOT_YET_VALID, Check.TDX_PCK_EXPIRED, (pck.not_before, pck.not_after)
    )
    checks.require(
        pck.serial not in collateral.pck_crl.revoked,
        Check.TDX_PCK_REVOKED,
        "the certificate of the platform is revoked",
        actual=f"{pck.serial:#x}",
        reference="QVL 4.1.2.4.7",
    )
    return pck


@lru_cache(maxsize=64)  # a platform signs many quotes
def _leaf(der: bytes) -> Pck:
    return parse_pck(der)


def _about_this_platform(pck: Pck, collateral: VerifiedCollateral, checks: Checklist) -> None:
    info = collateral.tcb_info
    checks.require(
        info.fmspc == pck.fmspc,
        Check.TDX_TCB_INFO_FMSPC,
        "the TCB info is about another kind of platform than the certificate",
        expected=pck.fmspc,
        actual=info.fmspc,
        reference="QVL 4.1.2.4.10",
    )
    checks.require(
        info.pceid == pck.pceid,
        Check.TDX_TCB_INFO_PCEID,
        "the TCB info is about another provisioning certification enclave than the certificate",
        expected=pck.pceid,
        actual=info.pceid,
        reference="QVL 4.1.2.4.10",
    )


def _module(quote: TdQuote, collateral: VerifiedCollateral, checks: Checklist) -> None:
    body, version = quote.body, quote.body.tee_tcb_svn[1]
    module: ModuleIdentity | TdxModule | None = collateral.tcb_info.module
    if version > 0:
        module = collateral.tables.module(version)
    if module is None:
        checks.failed(
            Check.TDX_MODULE_IDENTITY,
            "the TCB info has no identity for the TDX module of the quote",
            expected=module_id(version) if version else "tdxModule",
            actual=tuple(collateral.tables.modules),
            reference="QVL 4.1.2.4.11",
        )
    name = module_id(version) if version else "tdxModule"
    checks.passed(Check.TDX_MODULE_IDENTITY, name, name, "QVL 4.1.2.4.11")
    checks.require(
        body.mrsignerseam == module.mrsigner,
        Check.TDX_MODULE_SIGNER,
        "MRSIGNERSEAM is not that of the module's identity",
        expected=module.mrsigner,
        actual=body.mrsignerseam,
        reference="QVL 4.1.2.4.11.1",
    )
    # The mask of the identity plays no part: Intel's library wants all zero.
    checks.require(
        not any(body.seamattributes) and body.seamattributes == module.attributes,
        Check.TDX_MODULE_ATTRIBUTES,
        "SEAMATTRIBUTES are not zero and those of the module's identity",
        expected=module.attributes,
        actual=body.seamattributes,
        reference="QVL 4.1.2.4.11.2",
    )


def _report_of_enclave(quote: TdQuote, pck: Pck, checks: Checklist) -> None:
    """The arrow from the platform's certificate to the attestation key."""
    checks.require(
        verify_raw(pck.public_point, quote.qe_report_signature, quote.qe_report.raw),
        Check.TDX_QE_REPORT_SIGNATURE,
        "the report of the quoting enclave is not signed by the platform's PCK",
        reference="QVL 4.1.2.4.12",
    )
    expected = sha256(quote.attestation_key + quote.qe_auth_data).digest().ljust(64, b"\0")
    checks.require(
        quote.qe_report.report_data == expected,
        Check.TDX_QE_REPORT_BINDING,
        "the report of the quoting enclave names another attestation key",
        expected=expected,
        actual=quote.qe_report.report_data,
        reference="QVL 4.1.2.4.13",
    )


def _enclave(quote: TdQuote, collateral: VerifiedCollateral, checks: Checklist) -> None:
    report, identity = quote.qe_report, collateral.qe_identity
    miscselect = _masked(report.miscselect, identity.miscselect_mask)
    attributes = _masked(report.attributes, identity.attributes_mask)
    for check, name, expected, actual, clause in (
        (Check.TDX_QE_MISCSELECT, "MISCSELECT", identity.miscselect, miscselect, 5),
        (Check.TDX_QE_ATTRIBUTES, "ATTRIBUTES", identity.attributes, attributes, 6),
        (Check.TDX_QE_MRSIGNER, "MRSIGNER", identity.mrsigner, report.mrsigner, 7),
        (Check.TDX_QE_ISVPRODID, "ISVPRODID", identity.isvprodid, report.isvprodid, 8),
    ):
        checks.require(
            actual == expected,
            check,
            f"{name} of the quoting enclave is not that of the QE identity",
            expected=expected,
            actual=actual,
            reference=f"QVL 4.1.2.9.{clause}",
        )


def _masked(value: bytes, mask: bytes) -> bytes:
    return bytes(a & b for a, b in zip(value, mask, strict=True))


def _signature(quote: TdQuote, checks: Checklist) -> None:
    checks.require(
        verify_raw(quote.attestation_key, quote.signature, quote.signed),
        Check.TDX_QUOTE_SIGNATURE,
        "the quote is not signed by the attestation key",
        reference="QVL 4.1.2.4.16; signed are header and body as received",
    )
