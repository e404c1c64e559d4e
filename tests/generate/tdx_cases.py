"""Synthetic TDX cases: every rule of the verdict and every forgery, each really signed, with what must come of it.

All of them are made in memory by :func:`cases` and :func:`random_cases`, from fixed secrets and a fixed time: the same
bytes each time.  The expected statuses are written here as tables of Intel's rules, and not by the verifier's code.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from hashlib import sha256
from itertools import product

from dokimos.attest import sim_tdx_pki as pki
from dokimos.attest.sim_quote import QeFields, QuoteFields, TdFields, write_quote
from dokimos.attest.sim_tdx import NOT_AFTER, NOT_BEFORE, TdxHierarchy, current_documents
from dokimos.attest.sim_tdx_collateral import IsvLevelFields, LevelFields, ModuleFields, TcbInfoFields, chain_header
from dokimos.attest.sim_tdx_pki import CertificateFields, PckFields, TdxAuthority
from dokimos.endorsements.collateral_bundle import TdxCollateral
from dokimos.errors import Check

AT = datetime(2026, 3, 1, tzinfo=UTC)
SECRET = bytes(range(32))
OLD, NEW = datetime(2024, 3, 13, tzinfo=UTC), datetime(2025, 8, 13, tzinfo=UTC)

PLATFORM = (
    "UpToDate",
    "SWHardeningNeeded",
    "ConfigurationNeeded",
    "ConfigurationAndSWHardeningNeeded",
    "OutOfDate",
    "OutOfDateConfigurationNeeded",
    "Revoked",
)
ISV = ("UpToDate", "OutOfDate", "Revoked", "NotSupported")
# What is left of a platform's status beside a module or an enclave that is out of date.
LATE = dict(zip(PLATFORM, ("OutOfDate",) * 2 + ("OutOfDateConfigurationNeeded",) * 2 + PLATFORM[4:], strict=True))
# The same where only the TD is older than the module that runs now, and the enclave is up to date.
RELAUNCH = {
    "UpToDate": "TDRelaunchAdvised",
    "SWHardeningNeeded": "TDRelaunchAdvised",
    "ConfigurationNeeded": "TDRelaunchAdvisedConfigurationNeeded",
    "ConfigurationAndSWHardeningNeeded": "TDRelaunchAdvisedConfigurationNeeded",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One case.

    Attributes:
        name: what is special about it.
        quote: as received.
        collateral: as received.
        root: the simulated root's certificate in DER.
        at: the time of verification.
        failing: the check that must fail, or None where the quote is genuine.
        converged: Intel's verdict on the whole, likewise platform, module (None for version 1.0) and qe; "" where
            nothing is declared.
    """

    name: str
    quote: bytes
    collateral: TdxCollateral
    root: bytes
    at: datetime = AT
    failing: Check | None = None
    converged: str = ""
    platform: str = ""
    module: str | None = ""
    qe: str = ""

    @property
    def root_sha256(self) -> bytes:
        """What a policy must name."""
        return sha256(self.root).digest()


@cache
def hierarchy(pck: PckFields | None = None, secret: bytes = SECRET) -> TdxHierarchy:
    """Keys and certificates of one platform."""
    return TdxHierarchy(secret, pck)


def _levels(status: str, late: str = "OutOfDate") -> tuple[IsvLevelFields, ...]:
    """Levels by which SVN 5 has a status; for "NotSupported" none is low enough."""
    if status == "NotSupported":
        return (IsvLevelFields(isvsvn=9, status="UpToDate"),)
    if status == "UpToDate":
        return (IsvLevelFields(isvsvn=5, status="UpToDate"), IsvLevelFields(isvsvn=2, status=late, date=OLD))
    return (
        IsvLevelFields(isvsvn=6, status="UpToDate"),
        IsvLevelFields(isvsvn=5, status=status, date=OLD, advisories=(f"INTEL-SA-{status}",)),
        IsvLevelFields(isvsvn=0, status="Revoked", date=OLD),
    )


TD10 = TdFields()
TD15 = TdFields(tee_tcb_svn2=bytes((6, 1, 6, *[0] * 13)))
QE = QeFields(isvsvn=5)
_PCK = PckFields()


def make(
    name: str,
    td: TdFields = TD10,
    change: Callable[[TcbInfoFields], TcbInfoFields] = lambda info: info,
    qe_status: str = "UpToDate",
    pck: PckFields = _PCK,
    enclave: QeFields = QE,
    **expected: object,
) -> Case:
    """A genuine quote with collateral that says something."""
    made = hierarchy(pck)
    info, identity = current_documents(pck, td, AT)
    identity = replace(identity, levels=_levels(qe_status))
    version = 4 if td.tee_tcb_svn2 is None else 5
    fields = QuoteFields(td=td, qe=enclave, version=version, certification=(5, made.pck_chain))
    collateral = made.collateral(change(info), identity, AT)
    return Case(name=name, quote=made.quote(fields), collateral=collateral, root=made.root, **expected)  # type: ignore[arg-type]


def with_status(platform: str, module: str) -> Callable[[TcbInfoFields], TcbInfoFields]:
    """The platform's level and the module's have these statuses."""

    def change(info: TcbInfoFields) -> TcbInfoFields:
        level = replace(info.levels[0], status=platform, advisories=("INTEL-SA-00001",))
        lower = replace(level, sgx=(0,) * 16, tdx=(0,) * 16, pcesvn=0, status="OutOfDate", date=OLD)
        modules = (replace(info.modules[0], levels=_levels(module)),)
        return replace(info, levels=(level, lower), modules=modules)

    return change


def matrix() -> Iterator[Case]:
    """Every status of platform, module and enclave, for both bodies; in TD15 the newer module runs already."""
    for td, platform, module, qe in product((TD10, TD15), PLATFORM, ISV, ISV):
        whole = LATE[platform] if module == "OutOfDate" else platform
        if "NotSupported" in (module,):
            whole = "NotSupported"
        elif "Revoked" in (platform, module):
            whole = "Revoked"
        else:
            if td is TD15 and module == "OutOfDate" and qe == "UpToDate" and platform in RELAUNCH:
                whole = RELAUNCH[platform]
            whole = {"OutOfDate": LATE.get(whole, whole), "UpToDate": whole}.get(qe, qe)
        body = "TD10" if td is TD10 else "TD15"
        yield make(
            f"{body}: platform {platform}, module {module}, enclave {qe}",
            td,
            with_status(platform, module),
            qe,
            converged=whole,
            platform=platform,
            module=module,
            qe=qe,
        )


def _higher(info: TcbInfoFields, **parts: object) -> TcbInfoFields:
    """One more level above, which demands more of something; below it the platform is out of date."""
    (level,) = info.levels
    lower = replace(level, sgx=(0,) * 16, tdx=(0,) * 16, pcesvn=0, status="OutOfDate", date=OLD)
    return replace(info, levels=(replace(level, **parts), lower))  # type: ignore[arg-type]


def _plus(svns: tuple[int, ...], index: int) -> tuple[int, ...]:
    return (*svns[:index], svns[index] + 1, *svns[index + 1 :])


def components() -> Iterator[Case]:
    """Each single component that is too low leads to the next level; SVNs above 255 are numbers like others."""
    late = {"converged": "OutOfDate", "platform": "OutOfDate", "module": "UpToDate", "qe": "UpToDate"}
    good = {**late, "converged": "UpToDate", "platform": "UpToDate"}
    for i in range(16):
        yield make(
            f"sgx[{i}] too low",
            change=lambda info, i=i: _higher(info, sgx=_plus(info.levels[0].sgx, i)),  # type: ignore[misc]
            **late,
        )
        yield make(
            f"tdx[{i}] too low",
            change=lambda info, i=i: _higher(info, tdx=_plus(info.levels[0].tdx, i)),  # type: ignore[misc]
            **(good if i < 2 else late),  # a module of version 1.5 has levels of its own for 0 and 1
        )
        yield make(
            f"tdx[{i}] too low, module 1.0",
            replace(TD10, tee_tcb_svn=bytes((3, 0, 5, *[1] * 13))),
            lambda info, i=i: _higher(info, tdx=_plus(info.levels[0].tdx, i)),  # type: ignore[misc]
            **{**late, "module": None},
        )
    yield make("pcesvn too low", change=lambda info: _higher(info, pcesvn=14), **late)
    for i, svn in product((0, 7, 15), (256, 65535)):
        yield make(
            f"sgx[{i}] is {svn} in the collateral",
            change=lambda info, i=i, svn=svn: _higher(  # type: ignore[misc]
                info, sgx=(*info.levels[0].sgx[:i], svn, *info.levels[0].sgx[i + 1 :])
            ),
            **late,
        )


def levels() -> Iterator[Case]:
    """Which of several levels counts, and for what."""
    for first, second in product(PLATFORM, PLATFORM):
        # Both fit without TDX; the first wants a newer SEAM loader.
        def change(info: TcbInfoFields, first: str = first, second: str = second) -> TcbInfoFields:
            (level,) = info.levels
            above = replace(level, tdx=_plus(level.tdx, 2), status=first)
            return replace(info, levels=(above, replace(level, status=second, date=OLD)))

        whole = second
        yield make(
            f"sgx level {first}, tdx level {second}",
            change=change,
            converged=whole,
            platform=second,
            module="UpToDate",
            qe="UpToDate",
        )
    yield make(
        "no level is low enough",
        change=lambda info: replace(info, levels=(replace(info.levels[0], pcesvn=99),)),
        converged="NotSupported",
        platform="NotSupported",
        module="UpToDate",
        qe="UpToDate",
    )
    yield make(
        "a level without its TDX part only",
        change=lambda info: replace(info, levels=(replace(info.levels[0], tdx=_plus(info.levels[0].tdx, 5)),)),
        converged="NotSupported",
        platform="NotSupported",
        module="UpToDate",
        qe="UpToDate",
    )
    source = random.Random(1)
    statuses = ("UpToDate", "SWHardeningNeeded", "OutOfDate", "OutOfDateConfigurationNeeded", "Revoked")
    for number in range(30):

        def shuffled(info: TcbInfoFields, order: list[int]) -> TcbInfoFields:
            (level,) = info.levels
            rows = [
                replace(level, pcesvn=level.pcesvn - n, status=status, date=OLD) for n, status in enumerate(statuses)
            ]
            return replace(info, levels=tuple(rows[n] for n in order))

        order = source.sample(range(len(statuses)), len(statuses))
        yield make(
            f"levels in the order {order} ({number})",
            change=lambda info, order=order: shuffled(info, order),  # type: ignore[misc]
            converged="UpToDate",
            platform="UpToDate",
            module="UpToDate",
            qe="UpToDate",
        )


def modules() -> Iterator[Case]:
    """Identities of TDX modules."""
    good = {"converged": "UpToDate", "platform": "UpToDate", "module": "UpToDate", "qe": "UpToDate"}
    for version in (1, 3, 0x2A, 0xFF):
        td = replace(TD10, tee_tcb_svn=bytes((5, version, 6, *[0] * 13)))
        yield make(f"module version {version}", td, **good)
        yield make(
            f"module version {version}, its identity among others, in small letters",
            td,
            lambda info: replace(
                info,
                modules=(
                    ModuleFields(id="TDX_02", levels=_levels("Revoked")),
                    replace(info.modules[0], id=info.modules[0].id.lower()),
                ),
            ),
            **good,
        )
        yield make(
            f"module version {version} without its identity",
            td,
            lambda info: replace(info, modules=(ModuleFields(id="TDX_02", levels=_levels("UpToDate")),)),
            failing=Check.TDX_MODULE_IDENTITY,
        )
    yield make(
        "another signer of the module than its identity's",
        change=lambda info: replace(info, modules=(replace(info.modules[0], mrsigner=b"\1" * 48),)),
        failing=Check.TDX_MODULE_SIGNER,
    )
    yield make(
        "MRSIGNERSEAM of somebody's",
        replace(TD10, mrsignerseam=b"\2" * 48),
        failing=Check.TDX_MODULE_SIGNER,
    )
    yield make(
        "SEAMATTRIBUTES not zero",
        replace(TD10, seamattributes=bytes((1, *[0] * 7))),
        failing=Check.TDX_MODULE_ATTRIBUTES,
    )
    yield make(
        "SEAMATTRIBUTES not zero, as the identity says",
        replace(TD10, seamattributes=bytes((1, *[0] * 7))),
        lambda info: replace(info, modules=(replace(info.modules[0], attributes=bytes((1, *[0] * 7))),)),
        failing=Check.TDX_MODULE_ATTRIBUTES,
    )
    old = replace(TD10, tee_tcb_svn=bytes((3, 0, 5, *[1] * 13)))
    yield make("module version 1.0", old, **{**good, "module": None})
    yield make(
        "module version 1.0, another signer",
        old,
        lambda info: replace(info, module_mrsigner=b"\1" * 48),
        failing=Check.TDX_MODULE_SIGNER,
    )


def relaunch() -> Iterator[Case]:
    """When launching anew is all that is missing, and when it is not."""
    late = {"platform": "UpToDate", "module": "OutOfDate", "qe": "UpToDate"}

    def td(*svn2: int) -> TdFields:
        return replace(TD15, tee_tcb_svn2=bytes((*svn2, *[0] * (16 - len(svn2)))))

    change = with_status("UpToDate", "OutOfDate")
    for svn2, whole in (
        ((6, 1, 6), "TDRelaunchAdvised"),
        ((7, 1, 9), "TDRelaunchAdvised"),
        ((5, 1, 6), "OutOfDate"),
        ((6, 1, 5), "OutOfDate"),
        ((0, 0, 6), "TDRelaunchAdvised"),
        ((0, 0, 5), "OutOfDate"),
        ((9, 7, 9), "NotSupported"),
    ):
        yield make(f"TEE_TCB_SVN2 {svn2}", td(*svn2), change, converged=whole, **late)
    yield make(
        "TEE_TCB_SVN2 of version 1.0, below the latest level",
        td(4, 0, 6),
        lambda info: replace(
            change(info), levels=(replace(change(info).levels[0], tdx=(5, *change(info).levels[0].tdx[1:])),)
        ),
        converged="OutOfDate",
        **late,
    )
    yield make("a TD report 1.0 is never advised to be launched anew", TD10, change, converged="OutOfDate", **late)


def _changed(case: Case, **parts: object) -> Case:
    return replace(case, **parts)  # type: ignore[arg-type]


def enclave() -> Iterator[Case]:
    """The quoting enclave's report."""
    for name, qe, check in (
        ("MISCSELECT", replace(QE, miscselect=b"\1\0\0\0"), Check.TDX_QE_MISCSELECT),
        ("ATTRIBUTES, debug", replace(QE, attributes=bytes.fromhex("1700000000000000e700000000000000")), None),
        ("MRSIGNER", replace(QE, mrsigner=b"\3" * 32), Check.TDX_QE_MRSIGNER),
        ("ISVPRODID", replace(QE, isvprodid=1), Check.TDX_QE_ISVPRODID),
    ):
        yield make(f"another {name} of the enclave", enclave=qe, failing=check or Check.TDX_QE_ATTRIBUTES)
    yield make(
        "XFRM of the enclave is not looked at",
        enclave=replace(QE, attributes=bytes.fromhex("1500000000000000ff00000000000000")),
        converged="UpToDate",
        platform="UpToDate",
        module="UpToDate",
        qe="UpToDate",
    )
    made, base = hierarchy(), make("")
    fields = QuoteFields(td=TD10, qe=QE, certification=(5, made.pck_chain))
    for size in (0, 1, 32, 100, 5000):
        quote = made.quote(replace(fields, auth_data=bytes(size)))
        yield _changed(base, name=f"authentication data of {size} bytes", quote=quote, converged="UpToDate")
    other = hierarchy(secret=bytes(32))
    wrong = write_quote(fields, attestation_key=made.attestation_key, pck=other.pck_key)
    yield _changed(
        base, name="the enclave's report is of another platform", quote=wrong, failing=Check.TDX_QE_REPORT_SIGNATURE
    )
    wrong = write_quote(fields, attestation_key=made.attestation_key, pck=made.pck_key, bound_key=b"\4" * 64)
    yield _changed(
        base, name="the enclave names another attestation key", quote=wrong, failing=Check.TDX_QE_REPORT_BINDING
    )
    quote = made.quote(fields)
    for place, check in (
        (60, Check.TDX_QUOTE_SIGNATURE),
        (184, Check.TDX_QUOTE_SIGNATURE),
        (640, Check.TDX_QUOTE_SIGNATURE),
    ):
        broken = bytearray(quote)
        broken[place] ^= 1
        yield _changed(base, name=f"byte {place} of the quote changed", quote=bytes(broken), failing=check)
    yield _changed(base, name="bytes behind the quote", quote=quote + bytes(3000), converged="UpToDate")
    vendor = made.quote(replace(fields, qe_vendor=bytes(16)))
    yield _changed(base, name="another vendor's enclave", quote=vendor, failing=Check.TDX_QUOTE_QE_VENDOR)


def _body_flipped(body: bytes) -> bytes:
    at = body.index(b'"tcbDate":"20') + 14
    return body[:at] + bytes((body[at] ^ 1,)) + body[at + 1 :]


def documents() -> Iterator[Case]:
    """Collateral that must be refused."""
    made, base = hierarchy(), make("")
    for what, check in (("tcb_info", Check.TDX_TCB_INFO_SIGNATURE), ("qe_identity", Check.TDX_QE_IDENTITY_SIGNATURE)):
        body = _body_flipped(getattr(base.collateral, what))
        yield _changed(base, name=f"{what} changed", collateral=replace(base.collateral, **{what: body}), failing=check)
    info, identity = current_documents(_PCK, TD10, AT)
    identity = replace(identity, levels=_levels("UpToDate"))
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
        yield _changed(base, name=f"TCB info {name}", collateral=made.collateral(changed, identity, AT), failing=check)
    for name, other, check in (
        ("of the SGX enclave", replace(identity, id="QE"), Check.TDX_QE_IDENTITY_ID),
        ("expired", replace(identity, issue_date=AT - 40 * day, next_update=AT - day), Check.TDX_QE_IDENTITY_EXPIRED),
        (
            "not yet valid",
            replace(identity, issue_date=AT + day, next_update=AT + 9 * day),
            Check.TDX_QE_IDENTITY_NOT_YET_VALID,
        ),
    ):
        yield _changed(base, name=f"QE identity {name}", collateral=made.collateral(info, other, AT), failing=check)
    yield from _lists(made, base)
    yield from _signers(made, base)


def _lists(made: TdxHierarchy, base: Case) -> Iterator[Case]:
    day = timedelta(days=1)
    root, ca, signing = TdxAuthority.ROOT, made.ca, TdxAuthority.TCB_SIGNING
    serial = {
        "the TCB signer": (root, 0x7E3882D5, Check.TDX_TCB_SIGNER_REVOKED),
        "the PCK CA": (root, 0x956F5DCD, Check.TDX_PCK_CA_REVOKED),
        "the platform": (ca, _PCK.serial, Check.TDX_PCK_REVOKED),
    }
    for name, (authority, number, check) in serial.items():
        item = "root_crl" if authority is root else "pck_crl"
        crl = made.crl(authority, AT, (99, number))
        yield _changed(
            base, name=f"{name} is revoked", collateral=replace(base.collateral, **{item: crl}), failing=check
        )
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
            yield _changed(
                base, name=f"{item} {what}", collateral=replace(base.collateral, **{item: crl}), failing=check
            )


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
        yield _changed(base, name=f"TCB signer {name}", collateral=collateral, failing=check)
    for name, certificate, check in (
        ("expired", _certificate(made, ca, not_after=AT - day), Check.TDX_PCK_CA_EXPIRED),
        ("of tomorrow", _certificate(made, ca, not_before=AT + day), Check.TDX_PCK_CA_NOT_YET_VALID),
        ("with another name", _certificate(made, ca, subject_cn="Intel SGX PCK Other CA"), Check.TDX_PCK_CA_ROLE),
        ("that is no CA", _certificate(made, signing, key=made.keys[ca], subject_cn=str(ca)), Check.TDX_PCK_CA_ROLE),
        ("of another root's", _certificate(made, ca, issuer_key=other.keys[root]), Check.TDX_PCK_CA_CHAIN),
    ):
        collateral = replace(base.collateral, pck_crl_chain=chain_header(certificate, made.root))
        yield _changed(base, name=f"PCK CA {name}", collateral=collateral, failing=check)
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
        yield _changed(base, name=f"root {name}", collateral=collateral, root=certificate, failing=check)
    chain = chain_header(other.certificate(signing), other.root)
    collateral = replace(base.collateral, tcb_info_chain=chain, qe_identity_chain=chain)
    yield _changed(base, name="the chains have two roots", collateral=collateral, failing=Check.TDX_ROOT_PINNED)
    yield _changed(make(""), name="an unknown root", root=other.root, failing=Check.TDX_ROOT_PINNED)


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
        return pki.pck_certificate(_PCK, **{**fields, **parts})  # type: ignore[arg-type]

    for name, der, check in (
        ("expired", leaf(not_after=AT - day), Check.TDX_PCK_EXPIRED),
        ("of tomorrow", leaf(not_before=AT + day), Check.TDX_PCK_NOT_YET_VALID),
        ("signed by somebody", leaf(issuer_key=other.keys[other.ca]), Check.TDX_PCK_SIGNATURE),
        ("signed by the TCB signer", leaf(issuer_key=made.keys[TdxAuthority.TCB_SIGNING]), Check.TDX_PCK_SIGNATURE),
    ):
        yield _changed(base, name=f"PCK {name}", quote=quoted(der), failing=check)
    quote = quoted(made.pck, made.certificate(made.ca), other.root)
    yield _changed(base, name="the quote brings another root", quote=quote, failing=Check.TDX_ROOT_PINNED)
    processor = hierarchy(PckFields(platform_instance_id=None, serial=5))
    quote = processor.quote(QuoteFields(td=TD10, qe=QE, certification=(5, processor.pck_chain)))
    yield _changed(base, name="the list is of the other CA", quote=quote, failing=Check.TDX_PCK_ISSUER)


def cases() -> list[Case]:
    """All declared cases."""
    parts = (matrix, components, levels, modules, relaunch, enclave, documents, platforms)
    return [case for part in parts for case in part()]


def random_cases(count: int, seed: int = 7) -> Iterator[Case]:
    """Random levels, SVNs and statuses, without a declared verdict: for comparing two verifiers."""
    source = random.Random(seed)

    def svns() -> tuple[int, ...]:
        return tuple(source.choice((0, 1, 2, 3, 255)) for _ in range(16))

    def near(base: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(min(255, max(0, svn + source.choice((-2, -1, *[0] * 60, 1)))) for svn in base)

    for number in range(count):
        pck = PckFields(components=svns(), pcesvn=source.randrange(10, 16))
        version = source.choice((0, 1, 1, 1, 3))
        svn = bytes((source.randrange(3, 8), version, *svns()[2:]))
        svn2 = bytes((source.randrange(3, 8), source.choice((0, version)), *svns()[2:]))
        td = replace(TD10, tee_tcb_svn=svn, tee_tcb_svn2=source.choice((None, svn2)))

        def change(info: TcbInfoFields) -> TcbInfoFields:
            (level,) = info.levels
            rows = [
                LevelFields(
                    sgx=near(level.sgx),
                    pcesvn=level.pcesvn + source.choice((-1, 0, 0, 1)),
                    tdx=near(level.tdx),
                    status=source.choice(PLATFORM),
                    advisories=tuple(f"INTEL-SA-{n:05}" for n in source.sample(range(9), source.randrange(3))),
                    date=NEW,
                )
                for _ in range(source.randrange(1, 9))
            ]
            rows.append(replace(rows[0], sgx=(0,) * 16, tdx=(0,) * 16, pcesvn=0, status="OutOfDate"))
            rows = list({(row.sgx, row.pcesvn, row.tdx): row for row in rows}.values())  # two of one kind say nothing
            source.shuffle(rows)
            named = sorted(source.sample((1, 3), 2)) if source.random() < 0.9 else [3]
            identities = tuple(ModuleFields(id=f"TDX_{n:02X}", levels=_levels(source.choice(ISV[:3]))) for n in named)
            return replace(info, levels=tuple(rows), modules=identities)

        yield make(f"random {number}", td, change, source.choice(ISV), pck=pck)
