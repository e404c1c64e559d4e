"""Collateral, lists and certificates that are really signed and must be refused all the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

from dokimos.attest import sim_tdx_pki as pki
from dokimos.attest.sim_quote import QuoteFields
from dokimos.attest.sim_tdx import NOT_AFTER, NOT_BEFORE, TdxHierarchy, current_documents
from dokimos.attest.sim_tdx_collateral import chain_header
from dokimos.attest.sim_tdx_pki import CertificateFields, PckFields, TdxAuthority
from dokimos.errors import Check
from tests.generate.tdx_case import AT, PCK, QE, TD10, Case, hierarchy, isv_levels, make, varied


def _body_flipped(body: bytes) -> bytes:
    at = body.index(b'"tcbDate":"20') + 14
    return body[:at] + bytes((body[at] ^ 1,)) + body[at + 1 :]


def documents() -> Iterator[Case]:
    """Collateral that must be refused."""
    made, base = hierarchy(), make("")
    for what, check in (("tcb_info", Check.TDX_TCB_INFO_SIGNATURE), ("qe_identity", Check.TDX_QE_IDENTITY_SIGNATURE)):
        body = _body_flipped(getattr(base.collateral, what))
        yield varied(base, name=f"{what} changed", collateral=replace(base.collateral, **{what: body}), failing=check)
    info, identity = current_documents(PCK, TD10, AT)
    identity = replace(identity, levels=isv_levels("UpToDate"))
    day = timedelta(days=1)
    for name, changed, check in (
        ("for SGX", replace(info, id="SGX"), Check.TDX_TCB_INFO_ID),
        ("of another FMSPC", replace(info, fmspc=b"\5" * 6), Check.TDX_TCB_INFO_FMSPC),
        ("of another PCE", replace(info, pceid=b"\1\0"), Check.TDX_TCB_INFO_PCEID),
        ("of another type", replace(info, tcb_type=1), Check.TDX_TCB_INFO_TYPE),
        ("expired", replace(info, issue_date=AT - 40 * day, next_update=AT - day), Check.TDX_TCB_INFO_EXPIRED),
        (
            "not yet valid",
            replace(info, issue_date=AT + day, next_update=AT + 9 * day),
            Check.TDX_TCB_INFO_NOT_YET_VALID,
        ),
    ):
        yield varied(base, name=f"TCB info {name}", collateral=made.collateral(changed, identity, AT), failing=check)
    for name, other, check in (
        ("of the SGX enclave", replace(identity, id="QE"), Check.TDX_QE_IDENTITY_ID),
        ("expired", replace(identity, issue_date=AT - 40 * day, next_update=AT - day), Check.TDX_QE_IDENTITY_EXPIRED),
        (
            "not yet valid",
            replace(identity, issue_date=AT + day, next_update=AT + 9 * day),
            Check.TDX_QE_IDENTITY_NOT_YET_VALID,
        ),
    ):
        yield varied(base, name=f"QE identity {name}", collateral=made.collateral(info, other, AT), failing=check)
    yield from _lists(made, base)
    yield from _signers(made, base)


def _lists(made: TdxHierarchy, base: Case) -> Iterator[Case]:
    day = timedelta(days=1)
    root, ca, signing = TdxAuthority.ROOT, made.ca, TdxAuthority.TCB_SIGNING
    serial = {
        "the TCB signer": (root, 0x7E3882D5, Check.TDX_TCB_SIGNER_REVOKED),
        "the PCK CA": (root, 0x956F5DCD, Check.TDX_PCK_CA_REVOKED),
        "the platform": (ca, PCK.serial, Check.TDX_PCK_REVOKED),
    }
    for name, (authority, number, check) in serial.items():
        item = "root_crl" if authority is root else "pck_crl"
        crl = made.crl(authority, AT, (99, number))
        yield varied(base, name=f"{name} is revoked", collateral=replace(base.collateral, **{item: crl}), failing=check)
    for item, authority, stale, early, signature, issuer in (
        (
            "root_crl",
            root,
            Check.TDX_ROOT_CRL_STALE,
            Check.TDX_ROOT_CRL_NOT_YET_VALID,
            Check.TDX_ROOT_CRL_SIGNATURE,
            Check.TDX_ROOT_CRL_ISSUER,
        ),
        (
            "pck_crl",
            ca,
            Check.TDX_PCK_CRL_STALE,
            Check.TDX_PCK_CRL_NOT_YET_VALID,
            Check.TDX_PCK_CRL_SIGNATURE,
            Check.TDX_PCK_CRL_ISSUER,
        ),
    ):
        for what, crl, check in (
            ("stale", made.crl(authority, AT - 60 * day), stale),
            ("of tomorrow", made.crl(authority, AT + day), early),
            (
                "signed by another key",
                pki.revocation_list(
                    authority, issuer_key=made.keys[signing], this_update=AT - day, next_update=AT + day
                ),
                signature,
            ),
            (
                "of another issuer",
                pki.revocation_list(
                    TdxAuthority.PROCESSOR_CA,
                    issuer_key=made.keys[authority],
                    this_update=AT - day,
                    next_update=AT + day,
                ),
                issuer,
            ),
        ):
            yield varied(base, name=f"{item} {what}", collateral=replace(base.collateral, **{item: crl}), failing=check)


def _certificate(made: TdxHierarchy, authority: TdxAuthority, **parts: object) -> bytes:
    fields = CertificateFields(
        authority=authority,
        key=made.keys[authority],
        issuer_key=made.keys[TdxAuthority.ROOT],
        not_before=NOT_BEFORE,
        not_after=NOT_AFTER,
        serial=77,
    )
    return pki.certificate(replace(fields, **parts))  # type: ignore[arg-type]


def _signers(made: TdxHierarchy, base: Case) -> Iterator[Case]:
    """Certificates in roles that are not theirs, out of their time, or of somebody else's root."""
    day = timedelta(days=1)
    signing, ca, root = TdxAuthority.TCB_SIGNING, made.ca, TdxAuthority.ROOT
    other = hierarchy(secret=bytes(32))
    for name, certificate, check in (
        ("expired", _certificate(made, signing, not_after=AT - day), Check.TDX_TCB_SIGNER_EXPIRED),
        ("of tomorrow", _certificate(made, signing, not_before=AT + day), Check.TDX_TCB_SIGNER_NOT_YET_VALID),
        ("with another name", _certificate(made, signing, subject_cn="Somebody"), Check.TDX_TCB_SIGNER_ROLE),
        ("that is a CA", _certificate(made, ca, key=made.keys[signing]), Check.TDX_TCB_SIGNER_ROLE),
        ("of another root's", _certificate(made, signing, issuer_key=other.keys[root]), Check.TDX_TCB_SIGNER_CHAIN),
    ):
        chain = chain_header(certificate, made.root)
        collateral = replace(base.collateral, tcb_info_chain=chain, qe_identity_chain=chain)
        yield varied(base, name=f"TCB signer {name}", collateral=collateral, failing=check)
    for name, certificate, check in (
        ("expired", _certificate(made, ca, not_after=AT - day), Check.TDX_PCK_CA_EXPIRED),
        ("of tomorrow", _certificate(made, ca, not_before=AT + day), Check.TDX_PCK_CA_NOT_YET_VALID),
        ("with another name", _certificate(made, ca, subject_cn="Intel SGX PCK Other CA"), Check.TDX_PCK_CA_ROLE),
        ("that is no CA", _certificate(made, signing, key=made.keys[ca], subject_cn=str(ca)), Check.TDX_PCK_CA_ROLE),
        ("of another root's", _certificate(made, ca, issuer_key=other.keys[root]), Check.TDX_PCK_CA_CHAIN),
    ):
        collateral = replace(base.collateral, pck_crl_chain=chain_header(certificate, made.root))
        yield varied(base, name=f"PCK CA {name}", collateral=collateral, failing=check)
    for name, certificate, check in (
        ("expired", _certificate(made, root, not_after=AT - day), Check.TDX_ROOT_EXPIRED),
        ("of tomorrow", _certificate(made, root, not_before=AT + day), Check.TDX_ROOT_NOT_YET_VALID),
    ):
        chain = chain_header(made.certificate(signing), certificate)
        collateral = replace(
            base.collateral,
            tcb_info_chain=chain,
            qe_identity_chain=chain,
            pck_crl_chain=chain_header(made.certificate(ca), certificate),
        )
        yield varied(base, name=f"root {name}", collateral=collateral, root=certificate, failing=check)
    chain = chain_header(other.certificate(signing), other.root)
    collateral = replace(base.collateral, tcb_info_chain=chain, qe_identity_chain=chain)
    yield varied(base, name="the chains have two roots", collateral=collateral, failing=Check.TDX_ROOT_PINNED)
    yield varied(make(""), name="an unknown root", root=other.root, failing=Check.TDX_ROOT_PINNED)


def platforms() -> Iterator[Case]:
    """The platform's own certificate."""
    good = {"converged": "UpToDate", "platform": "UpToDate", "module": "UpToDate", "qe": "UpToDate"}
    yield make("Processor CA", pck=PckFields(platform_instance_id=None, serial=5), **good)
    yield make("components of 255", pck=PckFields(components=(255,) * 16, pcesvn=65535), **good)
    yield make(
        "another name than a PCK's", pck=PckFields(subject_cn="Intel SGX Attestation Key"), failing=Check.TDX_PCK_ROLE
    )
    made, base = hierarchy(), make("")
    other = hierarchy(secret=bytes(32))
    day = timedelta(days=1)

    def quoted(leaf: bytes, *more: bytes) -> bytes:
        chain = pki.pem(leaf, *(more or (made.certificate(made.ca), made.root)))
        return made.quote(QuoteFields(td=TD10, qe=QE, certification=(5, chain)))

    def leaf(**parts: object) -> bytes:
        fields = {
            "key": made.pck_key,
            "issuer": made.ca,
            "issuer_key": made.keys[made.ca],
            "not_before": NOT_BEFORE,
            "not_after": NOT_AFTER,
        }
        return pki.pck_certificate(PCK, **{**fields, **parts})  # type: ignore[arg-type]

    for name, der, check in (
        ("expired", leaf(not_after=AT - day), Check.TDX_PCK_EXPIRED),
        ("of tomorrow", leaf(not_before=AT + day), Check.TDX_PCK_NOT_YET_VALID),
        ("signed by somebody", leaf(issuer_key=other.keys[other.ca]), Check.TDX_PCK_SIGNATURE),
        ("signed by the TCB signer", leaf(issuer_key=made.keys[TdxAuthority.TCB_SIGNING]), Check.TDX_PCK_SIGNATURE),
    ):
        yield varied(base, name=f"PCK {name}", quote=quoted(der), failing=check)
    quote = quoted(made.pck, made.certificate(made.ca), other.root)
    yield varied(base, name="the quote brings another root", quote=quote, failing=Check.TDX_ROOT_PINNED)
    processor = hierarchy(PckFields(platform_instance_id=None, serial=5))
    quote = processor.quote(QuoteFields(td=TD10, qe=QE, certification=(5, processor.pck_chain)))
    yield varied(base, name="the list is of the other CA", quote=quote, failing=Check.TDX_PCK_ISSUER)
