"""Synthetic TDX cases: every rule of the verdict and every forgery, each really signed, with what must come of it.

All of them are made in memory by :func:`cases` and :func:`random_cases`, from fixed secrets and a fixed time: the same
bytes each time.  The expected statuses are written here as tables of Intel's rules, and not by the verifier's code.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from itertools import product

from dokimos.attest.sim_quote import QuoteFields, TdFields, write_quote
from dokimos.attest.sim_tdx_collateral import LevelFields, ModuleFields, TcbInfoFields
from dokimos.attest.sim_tdx_pki import PckFields
from dokimos.errors import Check
from tests.generate import tdx_edges
from tests.generate.tdx_case import (
    ISV,
    LATE,
    NEW,
    OLD,
    PLATFORM,
    QE,
    RELAUNCH,
    TD10,
    TD15,
    Case,
    hierarchy,
    isv_levels,
    make,
    varied,
    with_status,
)
from tests.generate.tdx_forgeries import documents, platforms


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
                    ModuleFields(id="TDX_02", levels=isv_levels("Revoked")),
                    replace(info.modules[0], id=info.modules[0].id.lower()),
                ),
            ),
            **good,
        )
        yield make(
            f"module version {version} without its identity",
            td,
            lambda info: replace(info, modules=(ModuleFields(id="TDX_02", levels=isv_levels("UpToDate")),)),
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
        yield varied(base, name=f"authentication data of {size} bytes", quote=quote, converged="UpToDate")
    other = hierarchy(secret=bytes(32))
    wrong = write_quote(fields, attestation_key=made.attestation_key, pck=other.pck_key)
    yield varied(
        base, name="the enclave's report is of another platform", quote=wrong, failing=Check.TDX_QE_REPORT_SIGNATURE
    )
    wrong = write_quote(fields, attestation_key=made.attestation_key, pck=made.pck_key, bound_key=b"\4" * 64)
    yield varied(
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
        yield varied(base, name=f"byte {place} of the quote changed", quote=bytes(broken), failing=check)
    yield varied(base, name="bytes behind the quote", quote=quote + bytes(3000), converged="UpToDate")
    vendor = made.quote(replace(fields, qe_vendor=bytes(16)))
    yield varied(base, name="another vendor's enclave", quote=vendor, failing=Check.TDX_QUOTE_QE_VENDOR)


def cases() -> list[Case]:
    """All declared cases."""
    rules = (matrix, components, levels, modules, relaunch, enclave, documents, platforms)
    edges = (
        tdx_edges.bits,
        tdx_edges.numbers,
        tdx_edges.levels,
        tdx_edges.seconds,
        tdx_edges.signers,
        tdx_edges.quotes,
    )
    return [case for part in (*rules, *edges) for case in part()]


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
            modules = tuple(ModuleFields(id=f"TDX_{n:02X}", levels=isv_levels(source.choice(ISV[:3]))) for n in named)
            return replace(info, levels=tuple(rows), modules=modules)

        yield make(f"random {number}", td, change, source.choice(ISV), pck=pck)
