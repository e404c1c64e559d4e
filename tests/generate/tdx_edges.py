"""Cases at the edges: every bit that is for a policy, to the second, each signer in another's place, odd levels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

from cryptography.hazmat.primitives.asymmetric import ec

from dokimos.attest import sim_tdx_pki as pki
from dokimos.attest.sim_quote import QuoteFields, TdFields
from dokimos.attest.sim_tdx import NOT_AFTER, NOT_BEFORE, TdxHierarchy, current_documents
from dokimos.attest.sim_tdx_collateral import (
    IsvLevelFields,
    QeIdentityFields,
    TcbInfoFields,
    chain_header,
    qe_identity,
    tcb_info,
)
from dokimos.attest.sim_tdx_pki import TdxAuthority
from dokimos.errors import Check
from tests.generate.tdx_case import (
    AT,
    LATE,
    OLD,
    PCK,
    PLATFORM,
    QE,
    TD10,
    TD15,
    Case,
    hierarchy,
    isv_levels,
    make,
    varied,
    with_status,
)

_GOOD = {"converged": "UpToDate", "platform": "UpToDate", "module": "UpToDate", "qe": "UpToDate"}
_ALL = (1 << 64) - 1
_SECOND = timedelta(seconds=1)


def bits() -> Iterator[Case]:
    """Attributes and registers say what a TD is; no value of theirs makes a quote less genuine."""
    for bit in (0, 4, 5, 6, 7, 27, 28, 29, 30, 31, 62, 63):
        td = replace(TD10, td_attributes=1 << bit)
        yield make(f"bit {bit} of the TD's attributes alone", td, **_GOOD)
    for name, value in (("no bit", 0), ("every bit", _ALL)):
        for body, base in (("TD10", TD10), ("TD15", TD15)):
            yield make(f"{body}: {name} of the TD's attributes", replace(base, td_attributes=value), **_GOOD)
            yield make(f"{body}: {name} of XFAM", replace(base, xfam=value), **_GOOD)
    for field in ("mrconfigid", "mrowner", "mrownerconfig", "mr_servicetd", "mrseam"):
        yield make(f"{field} is set", replace(TD15, **{field: b"\7" * 48}), **_GOOD)  # type: ignore[arg-type]


def _documents(
    base: Case, info: TcbInfoFields | None = None, identity: QeIdentityFields | None = None
) -> tuple[TcbInfoFields, QeIdentityFields]:
    found, enclave = current_documents(PCK, TD10, base.at)
    return info or found, identity or replace(enclave, levels=isv_levels("UpToDate"))


def numbers() -> Iterator[Case]:
    """Numbers of collateral: those of its evaluation are for a policy, SVNs are compared whatever their size."""
    base, made = make(""), hierarchy()
    info, identity = _documents(base)
    for first, second in ((0, 0), (1, 20), (20, 1), (255, 256), (65536, 65536), (0x7FFFFFFF, 0)):
        collateral = made.collateral(
            replace(info, evaluation_data_number=first), replace(identity, evaluation_data_number=second), AT
        )
        yield varied(base, name=f"evaluation numbers {first} and {second}", collateral=collateral, **_GOOD)
    for svn in (6, 255, 256, 65535):
        high = (IsvLevelFields(isvsvn=svn, status="UpToDate"),)
        over = (*high, IsvLevelFields(isvsvn=1, status="OutOfDate", date=OLD))
        late = {**_GOOD, "converged": "OutOfDate"}
        for name, rows, status in ((" and no other", high, "NotSupported"), (" above another", over, "OutOfDate")):
            collateral = made.collateral(info, replace(identity, levels=rows), AT)
            yield varied(
                base,
                name=f"a level {svn} of the enclave{name}",
                collateral=collateral,
                **{**late, "converged": status, "qe": status},
            )
            modules = (replace(info.modules[0], levels=rows),)
            collateral = made.collateral(replace(info, modules=modules), identity, AT)
            yield varied(
                base,
                name=f"a level {svn} of the module{name}",
                collateral=collateral,
                **{**late, "converged": status, "module": status},
            )
    for index, svn in ((2, 256), (15, 65535)):
        (level,) = info.levels
        above = replace(level, tdx=(*level.tdx[:index], svn, *level.tdx[index + 1 :]))
        both = (above, replace(level, status="OutOfDate", date=OLD))
        yield varied(
            base,
            name=f"tdx[{index}] is {svn} in the collateral",
            collateral=made.collateral(replace(info, levels=both), identity, AT),
            **{**_GOOD, "converged": "OutOfDate", "platform": "OutOfDate"},
        )


def levels() -> Iterator[Case]:
    """Levels of a module and of the enclave in any order; statuses that are no levels of theirs."""
    base, made = make(""), hierarchy()
    info, identity = _documents(base)
    rows = isv_levels("OutOfDate")  # 6, 5 and 0; the quote's is 5
    for order in ((2, 1, 0), (1, 2, 0), (2, 0, 1)):
        turned = tuple(rows[n] for n in order)
        yield varied(
            base,
            name=f"levels of the enclave in the order {order}",
            collateral=made.collateral(info, replace(identity, levels=turned), AT),
            **{**_GOOD, "converged": "OutOfDate", "qe": "OutOfDate"},
        )
        modules = (replace(info.modules[0], levels=turned),)
        yield varied(
            base,
            name=f"levels of the module in the order {order}",
            collateral=made.collateral(replace(info, modules=modules), identity, AT),
            **{**_GOOD, "converged": "OutOfDate", "module": "OutOfDate"},
        )
    for status in ("ConfigurationNeeded", "OutOfDateConfigurationNeeded"):
        # QVL 4.1.2.9.11: whatever is neither up to date nor revoked is out of date.
        yield varied(
            base,
            name=f"a level of the enclave with status {status}",
            collateral=made.collateral(info, replace(identity, levels=isv_levels(status)), AT),
            **{**_GOOD, "converged": "OutOfDate", "qe": "OutOfDate"},
        )
    for platform in PLATFORM:
        for qe in ("UpToDate", "OutOfDate"):
            case = make("", change=with_status(platform, "UpToDate"), qe_status=qe)
            fields = QuoteFields(version=5, td=TD10, qe=QE, certification=(5, made.pck_chain))
            yield varied(
                case,
                name=f"version 5 with TD10: platform {platform}, enclave {qe}",
                quote=made.quote(fields),
                converged=platform if qe == "UpToDate" else LATE[platform],
                platform=platform,
                module="UpToDate",
                qe=qe,
            )


def seconds() -> Iterator[Case]:
    """A window holds at both its ends and not a second beside them."""
    base, made = make(""), hierarchy()
    info, identity = _documents(base)
    wide = {"issue_date": AT - timedelta(days=9), "next_update": AT + timedelta(days=9)}
    for name, early, late in (
        ("TCB info", Check.TDX_TCB_INFO_NOT_YET_VALID, Check.TDX_TCB_INFO_EXPIRED),
        ("QE identity", Check.TDX_QE_IDENTITY_NOT_YET_VALID, Check.TDX_QE_IDENTITY_EXPIRED),
    ):
        for what, parts, check in (
            ("begins now", {"issue_date": AT}, None),
            ("begins in a second", {"issue_date": AT + _SECOND}, early),
            ("ends now", {"next_update": AT}, None),
            ("ended a second ago", {"next_update": AT - _SECOND}, late),
        ):
            changed = {**wide, **parts}
            first = replace(info, **changed) if name == "TCB info" else info  # type: ignore[arg-type]
            second = identity if name == "TCB info" else replace(identity, **changed)  # type: ignore[arg-type]
            collateral = made.collateral(first, second, AT)
            yield varied(base, name=f"{name} {what}", collateral=collateral, **_expected(check))
    for item, authority, early, late in (
        ("root_crl", TdxAuthority.ROOT, Check.TDX_ROOT_CRL_NOT_YET_VALID, Check.TDX_ROOT_CRL_STALE),
        ("pck_crl", made.ca, Check.TDX_PCK_CRL_NOT_YET_VALID, Check.TDX_PCK_CRL_STALE),
    ):
        for what, start, end, check in (
            ("begins now", AT, AT + _SECOND, None),
            ("begins in a second", AT + _SECOND, AT + 2 * _SECOND, early),
            ("ends now", AT - _SECOND, AT, None),
            ("ended a second ago", AT - 2 * _SECOND, AT - _SECOND, late),
        ):
            crl = pki.revocation_list(authority, issuer_key=made.keys[authority], this_update=start, next_update=end)
            collateral = replace(base.collateral, **{item: crl})  # type: ignore[arg-type]
            yield varied(base, name=f"{item} {what}", collateral=collateral, **_expected(check))


def _expected(check: Check | None) -> dict[str, object]:
    return {"failing": check} if check else dict(_GOOD)


def signers() -> Iterator[Case]:
    """Every key of the hierarchy in the place of every other one."""
    base, made = make(""), hierarchy()
    info, identity = _documents(base)
    for name, key in _keys(made):
        for what, body, check in (
            ("tcb_info", tcb_info(info, key), Check.TDX_TCB_INFO_SIGNATURE),
            ("qe_identity", qe_identity(identity, key), Check.TDX_QE_IDENTITY_SIGNATURE),
        ):
            collateral = replace(base.collateral, **{what: body})  # type: ignore[arg-type]
            yield varied(base, name=f"{what} signed by {name}", collateral=collateral, failing=check)
    for authority in (TdxAuthority.ROOT, TdxAuthority.PROCESSOR_CA):
        # The certificate before the root is not the signer's but another one that the root issued.
        chain = chain_header(made.certificate(authority), made.root)
        collateral = replace(base.collateral, tcb_info_chain=chain, qe_identity_chain=chain)
        yield varied(base, name=f"{authority} as TCB signer", collateral=collateral, failing=Check.TDX_TCB_SIGNER_ROLE)
    # A certificate as the Processor CA writes them, in a chain and beside a list of the Platform CA.
    leaf = pki.pck_certificate(
        replace(PCK, platform_instance_id=None),
        key=made.pck_key,
        issuer=TdxAuthority.PROCESSOR_CA,
        issuer_key=made.keys[TdxAuthority.PROCESSOR_CA],
        not_before=NOT_BEFORE,
        not_after=NOT_AFTER,
    )
    chain = pki.pem(leaf, made.certificate(made.ca), made.root)
    quote = made.quote(QuoteFields(td=TD10, qe=QE, certification=(5, chain)))
    yield varied(base, name="PCK of the Processor CA, below the other CA", quote=quote, failing=Check.TDX_PCK_ISSUER)


def _keys(made: TdxHierarchy) -> tuple[tuple[str, ec.EllipticCurvePrivateKey], ...]:
    return (
        ("the root", made.keys[TdxAuthority.ROOT]),
        ("the PCK CA", made.keys[made.ca]),
        ("the platform", made.pck_key),
        ("the attestation key", made.attestation_key),
        ("another TCB signer", hierarchy(secret=bytes(32)).keys[TdxAuthority.TCB_SIGNING]),
    )


def quotes() -> Iterator[Case]:
    """Every signed part of a quote changed, and quotes that do not bring their chain."""
    base, made = make(""), hierarchy()
    for body, td in (("TD10", TD10), ("TD15", TD15)):
        yield from _changed(f"version 5 with {body}", td, base)
    for kind in (1, 2, 3):
        quote = made.quote(QuoteFields(td=TD10, qe=QE, certification=(kind, bytes(404))))
        collateral = replace(base.collateral, pck_chain=made.pck_chain)
        yield varied(
            base, name=f"certification data {kind} and a fetched chain", quote=quote, collateral=collateral, **_GOOD
        )
    quote = made.quote(QuoteFields(td=TD10, qe=QE, certification=(4, pki.pem(made.pck))))
    yield varied(base, name="certification data 4, the platform's certificate alone", quote=quote, **_GOOD)
    other = hierarchy(secret=bytes(32))
    quote = made.quote(QuoteFields(td=TD10, qe=QE, certification=(3, bytes(404))))
    collateral = replace(base.collateral, pck_chain=pki.pem(other.pck, made.certificate(made.ca), made.root))
    yield varied(
        base,
        name="the fetched chain has a leaf of somebody's",
        quote=quote,
        collateral=collateral,
        failing=Check.TDX_PCK_SIGNATURE,
    )


def _changed(name: str, td: TdFields, base: Case) -> Iterator[Case]:
    made = hierarchy()
    quote = made.quote(QuoteFields(version=5, td=td, qe=QE, certification=(5, made.pck_chain)))
    size = 54 + (584 if td.tee_tcb_svn2 is None else 648)
    signature = size + 4
    report = signature + 128 + 6
    for what, place, check in (
        ("user data", 30, Check.TDX_QUOTE_SIGNATURE),
        ("XFAM", 54 + 130, Check.TDX_QUOTE_SIGNATURE),
        ("the last byte of the body", size - 1, Check.TDX_QUOTE_SIGNATURE),
        ("s of the signature", signature + 40, Check.TDX_QUOTE_SIGNATURE),
        ("the enclave's MRENCLAVE", report + 70, Check.TDX_QE_REPORT_SIGNATURE),
        ("the enclave's SVN", report + 258, Check.TDX_QE_REPORT_SIGNATURE),
        ("s of the report's signature", report + 384 + 40, Check.TDX_QE_REPORT_SIGNATURE),
        ("the authentication data", report + 384 + 64 + 2 + 3, Check.TDX_QE_REPORT_BINDING),
    ):
        broken = bytearray(quote)
        broken[place] ^= 1
        yield varied(base, name=f"{name}: {what} changed", quote=bytes(broken), failing=check)
