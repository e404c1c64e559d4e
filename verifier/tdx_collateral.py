"""Authenticity of TDX collateral: TCB info, QE identity and revocation lists, from a pinned root down.

The result can be kept: for the next quote only its time windows are looked at again, and whether the policy still names
the root.  Nothing of a quote is needed, unless the collateral lacks the CA of the PCK certificates.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from hashlib import sha256
from typing import NamedTuple

from ..endorsements import intel_anchors
from ..endorsements.ca import Crl, parse_crl
from ..endorsements.collateral import QeIdentity, TcbInfo, parse_qe_identity, parse_tcb_info
from ..endorsements.collateral_bundle import TdxCollateral, chain_certificates, crl_der
from ..endorsements.leaf import Name
from ..endorsements.p256 import ECDSA_SHA256, CaP256, parse_ca_p256, verify_der, verify_raw
from ..errors import Check, CheckResult, MalformedEvidence, MaterialUnavailable
from .checklist import Checklist
from .tdx_tcb import TcbTables, prepare
from .trust import TdxTrust
from .window import Watch, Window

TCB_SIGNER_CN = "Intel SGX TCB Signing"
PCK_CA_CNS = ("Intel SGX PCK Platform CA", "Intel SGX PCK Processor CA")

_PCS = "Intel PCS v4"
_CHAIN = "RFC 5280 6.1"
_PINNED = "pinned by SHA-256 of the DER"
_TOKEN = object()


class Root(NamedTuple):
    """The anchor of every chain of one collateral.

    Attributes:
        sha256: of its DER certificate.
        name: its subject, sorted.
        point: its key.
        simulated: it is one that the policy names, not Intel's.
    """

    sha256: bytes
    name: Name
    point: bytes
    simulated: bool


@dataclass(frozen=True, slots=True)
class VerifiedCollateral:
    """Collateral that Intel, or a simulated platform's root, vouches for; only :func:`verify_collateral` makes one.

    Attributes:
        tcb_info: the TCB info.
        qe_identity: the identity of the quoting enclave.
        tables: their levels in the order in which they are looked at.
        root: the root of every chain.
        root_crl: the root's revocation list.
        pck_ca: the CA of the PCK certificates.
        pck_crl: its revocation list.
        pck_chain: the chain that the collateral brings for quotes without one, unverified, or None.
        windows: times in which all of this is valid.
        checks: what was checked, without the windows.
    """

    tcb_info: TcbInfo
    qe_identity: QeIdentity
    tables: TcbTables
    root: Root
    root_crl: Crl
    pck_ca: CaP256
    pck_crl: Crl
    pck_chain: bytes | None
    windows: tuple[Window, ...]
    checks: tuple[CheckResult, ...]
    token: object

    def __post_init__(self) -> None:
        if self.token is not _TOKEN:
            raise TypeError("only verify_collateral() makes a VerifiedCollateral")

    def issued(self) -> datetime:
        """When the oldest of the documents and lists was issued."""
        return min(
            self.tcb_info.issue_date,
            self.qe_identity.issue_date,
            self.root_crl.this_update,
            self.pck_crl.this_update,
        )


class _Chains(NamedTuple):
    """Certificates as received, in DER, without the roots."""

    tcb_signers: tuple[bytes, ...]
    pck_ca: bytes
    roots: tuple[bytes, ...]


def verify_collateral(
    collateral: TdxCollateral, *, trust: TdxTrust, at: datetime, before: Checklist, pck_ca: bytes | None = None
) -> VerifiedCollateral:
    """Verify collateral.

    Args:
        collateral: as received.
        trust: roots of simulated platforms.
        at: the time of verification, aware.
        before: checks that ran already; this one's are added to it.
        pck_ca: the CA of PCK certificates in DER that came with a quote, or None; it stands in where the collateral
            brings no chain of its PCK CRL.

    Raises:
        VerificationError: a check failed.
        MaterialUnavailable: an item is not there.
        MalformedEvidence: an item cannot be read.
        UnsupportedEvidence: an item of a version that is not supported.
        ValueError: `at` has no time zone.
    """
    if at.tzinfo is None:
        raise ValueError("the time of verification needs a time zone")
    start = len(before.done())
    checks, watch = before, Watch(before, at)
    try:
        chains = _chains(collateral, pck_ca)
        tcb_info, qe_identity = parse_tcb_info(collateral.tcb_info), parse_qe_identity(collateral.qe_identity)
        tables = prepare(tcb_info, qe_identity)
        root_crl, pck_crl = _crl(collateral.root_crl, "root CRL"), _crl(collateral.pck_crl, "PCK CRL")
        signers, ca = [parse_ca_p256(der) for der in chains.tcb_signers], parse_ca_p256(chains.pck_ca)
        checks.passed(Check.TDX_COLLATERAL_FORMAT, reference=_PCS)
        root = _root(chains.roots, trust, watch)
    except MalformedEvidence as exc:
        raise MalformedEvidence(str(exc), check=exc.check or Check.TDX_COLLATERAL_FORMAT) from exc
    _root_list(root_crl, root, watch)
    for signer in dict.fromkeys(signers):
        _signer(signer, root, root_crl, watch)
    _tcb_info(tcb_info, signers[0], watch)
    _qe_identity(qe_identity, signers[1], watch)
    verify_pck_ca(ca, root, root_crl, watch)
    _pck_list(pck_crl, ca, watch)
    return VerifiedCollateral(
        tcb_info=tcb_info,
        qe_identity=qe_identity,
        tables=tables,
        root=root,
        root_crl=root_crl,
        pck_ca=ca,
        pck_crl=pck_crl,
        pck_chain=collateral.pck_chain,
        windows=tuple(watch.windows),
        checks=watch.settled(start),
        token=_TOKEN,
    )


def still_verified(verified: VerifiedCollateral, *, trust: TdxTrust, at: datetime, before: Checklist) -> None:
    """Collateral that held before: its checks are listed; whether root and windows hold now is looked at again.

    Raises:
        VerificationError: a check failed.
    """
    checks = before
    checks.extend(verified.checks)
    root = verified.root
    if root.simulated and root.sha256 not in trust.simulated_roots:
        checks.failed(Check.TDX_ROOT_PINNED, "the policy does not name this root", actual=root.sha256)
    for window in verified.windows:
        window.require(checks, at)


def _chains(collateral: TdxCollateral, pck_ca: bytes | None) -> _Chains:
    for item in ("tcb_info", "tcb_info_chain", "qe_identity", "qe_identity_chain", "pck_crl", "root_crl"):
        if not getattr(collateral, item):
            raise MaterialUnavailable(f"collateral: {item} is not there")
    tcb, tcb_root = chain_of(collateral.tcb_info_chain, "TCB info chain", 1)
    qe, qe_root = chain_of(collateral.qe_identity_chain, "QE identity chain", 1)
    ca: tuple[bytes, ...] = () if pck_ca is None else (pck_ca,)
    ca_root: tuple[bytes, ...] = ()
    if collateral.pck_crl_chain:
        ca, ca_root = chain_of(collateral.pck_crl_chain, "PCK CRL chain", 1)
    elif collateral.pck_chain:
        below, ca_root = chain_of(collateral.pck_chain, "PCK chain", 2)
        ca = below[1:]
    if not ca:
        raise MaterialUnavailable("collateral: pck_crl_chain is not there, and the quote brings no CA either")
    return _Chains(tcb_signers=tcb + qe, pck_ca=ca[0], roots=tcb_root + qe_root + ca_root)


@lru_cache(maxsize=32)  # base64 of the same chains, for every quote of a platform
def chain_of(chain: bytes, what: str, size: int) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
    """Certificates of a chain that must have this many below the root, and the root, which may be left out.

    Raises:
        MalformedEvidence: fewer, or more than one above them.
    """
    found = chain_certificates(chain, what)
    if not size <= len(found) <= size + 1:
        raise MalformedEvidence(
            f"{what}: {len(found)} certificates, {size} and the root wanted", check=Check.TDX_COLLATERAL_FORMAT
        )
    return found[:size], found[size:]


@lru_cache(maxsize=16)  # lists live for a month
def _crl(crl: bytes, what: str) -> Crl:
    return parse_crl(crl_der(crl, what))


def _root(given: Iterable[bytes], trust: TdxTrust, watch: Watch) -> Root:
    """The one root that every chain names: Intel's, or one that the policy names."""
    roots = {sha256(der).digest(): der for der in given}
    if not roots.keys() - {intel_anchors.ROOT_SHA256}:
        root = Root(intel_anchors.ROOT_SHA256, intel_anchors.ROOT_SUBJECT, intel_anchors.ROOT_POINT, simulated=False)
        not_before, not_after = intel_anchors.ROOT_NOT_BEFORE, intel_anchors.ROOT_NOT_AFTER
        watch.checks.passed(Check.TDX_ROOT_PINNED, root.sha256, root.sha256, _PINNED)
    else:
        named = [digest for digest in roots if digest in trust.simulated_roots]
        watch.checks.require(
            len(named) == len(roots) == 1,
            Check.TDX_ROOT_PINNED,
            "a root is neither Intel's nor one that the policy names, or the chains have several",
            expected=tuple(sorted(trust.simulated_roots)) or intel_anchors.ROOT_SHA256,
            actual=tuple(roots),
            reference=_PINNED,
        )
        parsed = parse_ca_p256(roots[named[0]])
        root = Root(parsed.sha256, parsed.subject, parsed.public_point, simulated=True)
        not_before, not_after = parsed.not_before, parsed.not_after
    watch.within("the root", Check.TDX_ROOT_NOT_YET_VALID, Check.TDX_ROOT_EXPIRED, (not_before, not_after))
    return root


def _root_list(crl: Crl, root: Root, watch: Watch) -> None:
    watch.checks.require(
        crl.issuer == root.name,
        Check.TDX_ROOT_CRL_ISSUER,
        "the root's revocation list is of another issuer",
        expected=_cn(root.name),
        actual=crl.issuer_cn,
        reference="RFC 5280 6.3.3 (b)",
    )
    _list_signature(crl, root.point, Check.TDX_ROOT_CRL_SIGNATURE, "root", watch.checks)
    watch.within(
        "the root's revocation list",
        Check.TDX_ROOT_CRL_NOT_YET_VALID,
        Check.TDX_ROOT_CRL_STALE,
        (crl.this_update, crl.next_update),
    )


def _pck_list(crl: Crl, pck_ca: CaP256, watch: Watch) -> None:
    watch.checks.require(
        crl.issuer == pck_ca.subject and pck_ca.crl_sign,
        Check.TDX_PCK_CRL_ISSUER,
        "the revocation list of PCK certificates is of another issuer than their CA, or the CA may not sign lists",
        expected=pck_ca.subject_cn,
        actual=crl.issuer_cn,
        reference="QVL 4.1.2.4.6",
    )
    _list_signature(crl, pck_ca.public_point, Check.TDX_PCK_CRL_SIGNATURE, "CA", watch.checks)
    watch.within(
        "the revocation list of PCK certificates",
        Check.TDX_PCK_CRL_NOT_YET_VALID,
        Check.TDX_PCK_CRL_STALE,
        (crl.this_update, crl.next_update),
    )


def _list_signature(crl: Crl, point: bytes, check: Check, by: str, checks: Checklist) -> None:
    checks.require(
        crl.signature_algorithm == ECDSA_SHA256 and verify_der(point, crl.signature, crl.tbs),
        check,
        f"the revocation list is not signed by the {by}",
        reference="RFC 5280 6.3.3 (g)",
    )


def _signer(signer: CaP256, root: Root, root_crl: Crl, watch: Watch) -> None:
    watch.checks.require(
        signer.subject_cn == TCB_SIGNER_CN and not signer.is_ca and signer.digital_signature,
        Check.TDX_TCB_SIGNER_ROLE,
        "the certificate is not one for signing TCB info",
        expected=TCB_SIGNER_CN,
        actual=signer.subject_cn,
        reference=_PCS,
    )
    watch.checks.require(
        signer.issuer == root.name and verify_der(root.point, signer.signature, signer.tbs),
        Check.TDX_TCB_SIGNER_CHAIN,
        "the signer of TCB info is not issued and signed by the root",
        expected=_cn(root.name),
        actual=_cn(signer.issuer),
        reference=_CHAIN,
    )
    watch.within(
        "the signer of TCB info",
        Check.TDX_TCB_SIGNER_NOT_YET_VALID,
        Check.TDX_TCB_SIGNER_EXPIRED,
        (signer.not_before, signer.not_after),
    )
    _not_revoked(signer.serial, root_crl, Check.TDX_TCB_SIGNER_REVOKED, "the signer of TCB info", watch.checks)


def _not_revoked(serial: int, crl: Crl, check: Check, what: str, checks: Checklist) -> None:
    checks.require(
        serial not in crl.revoked,
        check,
        f"{what} is revoked",
        actual=f"{serial:#x}",
        reference="RFC 5280 6.3.3",
    )


def _tcb_info(info: TcbInfo, signer: CaP256, watch: Watch) -> None:
    watch.checks.require(
        verify_raw(signer.public_point, info.signature, info.signed),
        Check.TDX_TCB_INFO_SIGNATURE,
        "the TCB info is not signed by its signer, over the bytes as received",
        reference=f"{_PCS}, TCB info",
    )
    for check, expected, actual in (
        (Check.TDX_TCB_INFO_ID, "TDX", info.id),
        (Check.TDX_TCB_INFO_VERSION, 3, info.version),
        (Check.TDX_TCB_INFO_TYPE, 0, info.tcb_type),
    ):
        message = f"the TCB info has {check.rpartition('.')[2]} {actual}, which says nothing of a TD"
        watch.checks.require(
            expected == actual, check, message, expected=expected, actual=actual, reference=f"{_PCS}, TCB info"
        )
    watch.within(
        "the TCB info",
        Check.TDX_TCB_INFO_NOT_YET_VALID,
        Check.TDX_TCB_INFO_EXPIRED,
        (info.issue_date, info.next_update),
    )


def _qe_identity(identity: QeIdentity, signer: CaP256, watch: Watch) -> None:
    reference = f"{_PCS}, enclave identity"
    watch.checks.require(
        verify_raw(signer.public_point, identity.signature, identity.signed),
        Check.TDX_QE_IDENTITY_SIGNATURE,
        "the QE identity is not signed by its signer, over the bytes as received",
        reference=reference,
    )
    watch.checks.require(
        identity.id == "TD_QE",
        Check.TDX_QE_IDENTITY_ID,
        "the identity is that of another enclave than the quoting enclave for TDX",
        expected="TD_QE",
        actual=identity.id,
        reference="QVL 4.1.2.4.14",
    )
    watch.checks.require(
        identity.version == 2,
        Check.TDX_QE_IDENTITY_VERSION,
        "the QE identity has another version",
        expected=2,
        actual=identity.version,
        reference="QVL 4.1.2.4.14",
    )
    watch.within(
        "the QE identity",
        Check.TDX_QE_IDENTITY_NOT_YET_VALID,
        Check.TDX_QE_IDENTITY_EXPIRED,
        (identity.issue_date, identity.next_update),
    )


def verify_pck_ca(pck_ca: CaP256, root: Root, root_crl: Crl, watch: Watch) -> None:
    """Verify the CA of PCK certificates against a root whose list is verified; its window is added to `watch`.

    Raises:
        VerificationError: a check failed.
    """
    watch.checks.require(
        pck_ca.subject_cn in PCK_CA_CNS and pck_ca.is_ca and pck_ca.key_cert_sign and pck_ca.path_length == 0,
        Check.TDX_PCK_CA_ROLE,
        "the certificate is not that of a CA for PCK certificates",
        expected=PCK_CA_CNS,
        actual=pck_ca.subject_cn,
        reference="Intel PCK certificate profile, 1.3",
    )
    watch.checks.require(
        pck_ca.issuer == root.name and verify_der(root.point, pck_ca.signature, pck_ca.tbs),
        Check.TDX_PCK_CA_CHAIN,
        "the CA of PCK certificates is not issued and signed by the root",
        expected=_cn(root.name),
        actual=_cn(pck_ca.issuer),
        reference=_CHAIN,
    )
    watch.within(
        "the CA of PCK certificates",
        Check.TDX_PCK_CA_NOT_YET_VALID,
        Check.TDX_PCK_CA_EXPIRED,
        (pck_ca.not_before, pck_ca.not_after),
    )
    _not_revoked(pck_ca.serial, root_crl, Check.TDX_PCK_CA_REVOKED, "the CA of PCK certificates", watch.checks)


def _cn(name: Name) -> str:
    return dict(name).get("2.5.4.3", "")
