"""Authenticity of the certificates behind an SNP report: from a pinned root down to the VCEK or VLEK, and revocation.

The result can be kept: a second report signed by the same key costs one P-384 verification, and the time windows are
looked at again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple

from ..endorsements import amd, ca, pss
from ..endorsements.amd_anchors import Role
from ..endorsements.vek import Vek, parse_vek
from ..errors import Check, CheckResult, MalformedEvidence
from ..evidence.snp import Product, SigningKey
from .checklist import Checklist
from .trust import Revocation, RevocationState, SnpTrust
from .window import Window

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

MAX_CAS = 16
"""More CA certificates than this are refused unread; a whole chain has two."""
MAX_CRLS = 8

_REF = "57230 chapter 2"
_SIMULATED = "SIMULATED-"
_TOKEN = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class SnpEndorsements:
    """What comes with a report, unverified and in DER.

    Attributes:
        vek: the VCEK or VLEK certificate.
        cas: CA certificates; none are needed for AMD's own chains.
        crls: revocation lists.
    """

    vek: bytes
    cas: tuple[bytes, ...] = ()
    crls: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class VerifiedVek:
    """A VCEK or VLEK whose chain holds; only :func:`verify_vek` makes one.

    Attributes:
        vek: the certificate.
        product: the product whose CA signed it.
        simulated: the root is one that the policy names, not AMD's.
        root_sha256: SHA-256 of the root's DER certificate.
        key: the P-384 key.
        revocation: what is known of revocation.
        windows: times in which all of this is valid.
        checks: what was checked, without the windows.
    """

    vek: Vek
    product: Product
    simulated: bool
    root_sha256: bytes
    key: EllipticCurvePublicKey
    revocation: RevocationState
    windows: tuple[Window, ...]
    checks: tuple[CheckResult, ...]
    token: object

    def __post_init__(self) -> None:
        if self.token is not _TOKEN:
            raise TypeError("only verify_vek() makes a VerifiedVek")


class _Issuer(NamedTuple):
    """The CA that must have signed the leaf, and the root above it."""

    name: tuple[tuple[str, str], ...]
    key: RSAPublicKey
    serial: int
    root_name: tuple[tuple[str, str], ...]
    root_key: RSAPublicKey
    root_sha256: bytes
    root_signs_crls: bool
    simulated: bool
    windows: tuple[Window, ...]


def verify_vek(
    endorsements: SnpEndorsements, *, trust: SnpTrust, at: datetime, product: Product | None, before: Checklist
) -> VerifiedVek:
    """Verify a leaf certificate up to a pinned root, and revocation.

    Args:
        endorsements: certificates and revocation lists.
        trust: roots of simulated platforms, and whether revocation lists are demanded.
        at: the time of verification, aware.
        product: the report's product, or None to take the certificate's word, which its CA then confirms.
        before: checks that ran already; this one's are added to it.

    Raises:
        VerificationError: a check failed.
        MalformedEvidence: a certificate or list cannot be read.
    """
    checks = before
    if len(endorsements.cas) > MAX_CAS or len(endorsements.crls) > MAX_CRLS:
        raise MalformedEvidence(f"more than {MAX_CAS} CA certificates or {MAX_CRLS} revocation lists")
    vek = parse_vek(endorsements.vek)
    checks.passed(Check.SNP_VEK_FORMAT, reference=_REF)
    product = product or _named_product(vek, checks)
    role = Role.ASVK if vek.kind is SigningKey.VLEK else Role.ASK
    issuer = _issuer(endorsements, trust, product, role, checks)
    for window in issuer.windows:
        window.require(checks, at)
    _signed_by(vek, issuer, checks)
    leaf = Window.of(Check.SNP_VEK_VALIDITY, f"the {vek.kind.name} certificate", vek.not_before, vek.not_after)
    leaf.require(checks, at)
    state, lists = _revocation(endorsements, trust, issuer, at, checks)
    _agrees(vek, product, checks)
    return VerifiedVek(
        vek=vek,
        product=product,
        simulated=issuer.simulated,
        root_sha256=issuer.root_sha256,
        key=_key(vek),
        revocation=state,
        windows=(*issuer.windows, leaf, *lists),
        checks=checks.done(),
        token=_TOKEN,
    )


def _named_product(vek: Vek, checks: Checklist) -> Product:
    """The product that the certificate names; only for reports that name none (version 2)."""
    named = [product for product in Product if _is_of(vek, product)]
    if not named:
        checks.failed(Check.SNP_VEK_PRODUCT, f"productName {vek.product_name!r} is no known product", reference=_REF)
    return named[0]


def _is_of(vek: Vek, product: Product) -> bool:
    """Whether the certificate names this product, with or without a stepping ("Milan-B0")."""
    return vek.product_name == product or vek.product_name.startswith(f"{product}-")


def _key(vek: Vek) -> EllipticCurvePublicKey:
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415 - formats and policies need it not

    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP384R1(), vek.spki[-97:])
    except ValueError as exc:
        raise MalformedEvidence("VEK certificate: the key is no point of P-384", check=Check.SNP_VEK_FORMAT) from exc


def _issuer(endorsements: SnpEndorsements, trust: SnpTrust, product: Product, role: Role, checks: Checklist) -> _Issuer:
    given = {sha256(data).digest(): data for data in endorsements.cas}
    pinned = [amd.anchor_by_hash(digest) for digest in given]
    if all(pinned):
        return _amd_issuer([anchor.product for anchor in pinned if anchor], product, role, checks)
    return _simulated_issuer(given, trust, product, role, checks)


def _amd_issuer(given: list[Product], product: Product, role: Role, checks: Checklist) -> _Issuer:
    issuer = _pinned_issuer(product, role)
    checks.passed(Check.SNP_CA_PINNED, issuer.root_sha256, issuer.root_sha256, "pinned by SHA-256 of the DER")
    checks.require(
        all(other is product for other in given),
        Check.SNP_CA_CHAIN,
        "a CA certificate that came with the evidence is of another product",
        expected=str(product),
        actual=tuple(map(str, given)),
        reference=_REF,
    )
    return issuer


@cache
def _pinned_issuer(product: Product, role: Role) -> _Issuer:
    root, issuer = amd.anchor(product, Role.ARK), amd.anchor(product, role)
    return _Issuer(
        name=amd.subject(product, role),
        key=amd.public_key(product, role),
        serial=issuer.serial,
        root_name=amd.subject(product, Role.ARK),
        root_key=amd.public_key(product, Role.ARK),
        root_sha256=root.certificate_sha256,
        root_signs_crls=True,  # key usage of all three pinned roots
        simulated=False,
        windows=tuple(
            Window.of(Check.SNP_CA_VALIDITY, anchor.subject_cn, anchor.not_before, anchor.not_after)
            for anchor in (root, issuer)
        ),
    )


def _simulated_issuer(
    given: dict[bytes, bytes], trust: SnpTrust, product: Product, role: Role, checks: Checklist
) -> _Issuer:
    roots = [digest for digest in given if digest in trust.simulated_roots]
    if len(roots) != 1:
        checks.failed(
            Check.SNP_CA_PINNED,
            "a CA certificate is neither pinned for AMD nor below a root that the policy names",
            expected=tuple(sorted(trust.simulated_roots)),
            actual=tuple(digest for digest in given if amd.anchor_by_hash(digest) is None),
            reference="pinned by SHA-256 of the DER",
        )
    root = ca.parse_ca(given[roots[0]])
    checks.passed(Check.SNP_CA_PINNED, root.sha256, root.sha256, "named by the policy")
    cn = f"{_SIMULATED}SEV-{product}" if role is Role.ASK else f"{_SIMULATED}SEV-VLEK-{product}"
    others = (ca.parse_ca(data) for digest, data in given.items() if digest != roots[0])
    issuers = [other for other in others if other.subject_cn == cn]
    problem = _chain_problem(root, issuers, f"{_SIMULATED}ARK-{product}")
    checks.require(not problem, Check.SNP_CA_CHAIN, problem, expected=cn, reference="RFC 5280 6.1")
    issuer = issuers[0]
    return _Issuer(
        name=issuer.subject,
        key=issuer.public_key,
        serial=issuer.serial,
        root_name=root.subject,
        root_key=root.public_key,
        root_sha256=root.sha256,
        root_signs_crls=root.crl_sign,
        simulated=True,
        windows=tuple(
            Window.of(Check.SNP_CA_VALIDITY, other.subject_cn, other.not_before, other.not_after)
            for other in (root, issuer)
        ),
    )


def _chain_problem(root: ca.CaCertificate, issuers: list[ca.CaCertificate], root_cn: str) -> str:
    """What is wrong with this chain of two CAs, or ""."""
    if root.subject_cn != root_cn:
        return f"the root is {root.subject_cn!r}, not {root_cn!r}"
    if len(issuers) != 1:
        return f"{len(issuers)} CA certificates have the name of the issuer, 1 is needed"
    problems = (problem for ca_certificate in (root, issuers[0]) for problem in _ca_problems(ca_certificate, root))
    if issuers[0].path_length != 0:
        return f"{issuers[0].subject_cn} has no path length of 0"
    return next(problems, "")


def _ca_problems(certificate: ca.CaCertificate, root: ca.CaCertificate) -> Iterator[str]:
    name = certificate.subject_cn
    if certificate.signature_algorithm not in pss.ALGORITHM_IDENTIFIERS:
        yield f"{name} is signed in another scheme than AMD's"
    if certificate.issuer != root.subject:
        yield f"{name} is not issued by the root"
    if not pss.verifies(root.public_key, certificate.signature, certificate.tbs):
        yield f"{name} is not signed by the root"
    if not certificate.is_ca or not certificate.key_cert_sign:
        yield f"{name} may not sign certificates"


def _signed_by(vek: Vek, issuer: _Issuer, checks: Checklist) -> None:
    checks.require(
        vek.issuer == issuer.name,
        Check.SNP_VEK_ISSUER,
        f"another CA issues a {vek.kind.name} of this product: an ASK signs VCEKs, an ASVK signs VLEKs",
        expected=dict(issuer.name)["2.5.4.3"],
        actual=vek.issuer_cn,
        reference=_REF,
    )
    checks.require(
        vek.signature_algorithm in pss.ALGORITHM_IDENTIFIERS,
        Check.SNP_VEK_SIGNATURE_ALGORITHM,
        "the certificate is signed in another scheme than RSASSA-PSS with SHA-384 and salt 48",
        actual=vek.signature_algorithm,
        reference="RFC 4055 3.1",
    )
    checks.require(
        pss.verifies(issuer.key, vek.signature, vek.tbs),
        Check.SNP_VEK_SIGNATURE,
        "the certificate's signature is not its CA's",
        reference="RFC 8017 8.1",
    )


def _revocation(
    endorsements: SnpEndorsements, trust: SnpTrust, issuer: _Issuer, at: datetime, checks: Checklist
) -> tuple[RevocationState, tuple[Window, ...]]:
    ids = (Check.SNP_CRL_REQUIRED, Check.SNP_CRL_SIGNATURE, Check.SNP_CRL_FRESH, Check.SNP_CRL_REVOKED)
    if trust.revocation is Revocation.OFF:
        for check in ids:
            checks.skipped(check, "the policy turns revocation off")
        return RevocationState.NOT_CHECKED, ()
    # A list of another product's pinned root says nothing here; one of an unknown issuer is no list at all.
    foreign = {amd.subject(other, Role.ARK) for other in Product} - {issuer.root_name}
    lists = [crl for crl in map(ca.parse_crl, endorsements.crls) if crl.issuer not in foreign]
    if not lists:
        if trust.revocation is Revocation.REQUIRE:
            checks.failed(
                Check.SNP_CRL_REQUIRED, "the policy demands a revocation list of this product, and there is none"
            )
        for check in ids:
            checks.skipped(check, "no revocation list of this product was given, and the policy demands none")
        return RevocationState.NOT_CHECKED, ()
    checks.passed(Check.SNP_CRL_REQUIRED)
    windows = []
    for crl in lists:
        checks.require(
            crl.issuer == issuer.root_name
            and issuer.root_signs_crls
            and crl.signature_algorithm in pss.ALGORITHM_IDENTIFIERS
            and pss.verifies(issuer.root_key, crl.signature, crl.tbs),
            Check.SNP_CRL_SIGNATURE,
            "the revocation list is not signed by the root, or the root may not sign lists",
            expected=dict(issuer.root_name)["2.5.4.3"],
            actual=crl.issuer_cn,
            reference="RFC 5280 6.3.3 (f) and (g)",
        )
        window = Window.of(Check.SNP_CRL_FRESH, "the revocation list", crl.this_update, crl.next_update)
        window.require(checks, at)
        windows.append(window)
        # Serials of the CAs: every leaf of AMD's has serial 0, so a leaf's serial identifies nothing.
        checks.require(
            issuer.serial not in crl.revoked,
            Check.SNP_CRL_REVOKED,
            "the CA that signed the certificate is revoked",
            actual=f"{issuer.serial:#x}",
            reference="RFC 5280 6.3.3",
        )
    return RevocationState.CHECKED, tuple(windows)


def _agrees(vek: Vek, product: Product, checks: Checklist) -> None:
    """What AMD's extensions say of themselves must fit the product."""
    checks.require(
        _is_of(vek, product),
        Check.SNP_VEK_PRODUCT,
        "the certificate is of another product than the report",
        expected=str(product),
        actual=vek.product_name,
        reference=f"{_REF}, OID 1.3.6.1.4.1.3704.1.2",
    )
    struct_version = 1 if product is Product.TURIN else 0
    checks.require(
        vek.struct_version == struct_version,
        Check.SNP_VEK_EXTENSIONS,
        "structVersion is not that of the product",
        expected=struct_version,
        actual=vek.struct_version,
        reference=f"{_REF}, OID 1.3.6.1.4.1.3704.1.1",
    )
