"""The TCB verdict by itself: which level counts, what three statuses make together; no order is believed."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dokimos.endorsements.collateral import IsvLevel, ModuleIdentity, QeIdentity, TcbInfo, TcbLevel, TcbStatus
from dokimos.errors import Check, MalformedEvidence
from dokimos.verifier.tdx_tcb import Advisory, Part, Svns, converge, judge, prepare

S = TcbStatus
OLD, MIDDLE, NEW = (datetime(year, 1, 1, tzinfo=UTC) for year in (2023, 2024, 2025))
ZERO = (0,) * 16


def level(sgx=0, pcesvn=0, tdx=0, status=S.UP_TO_DATE, date=NEW, advisories=()):
    """A level that demands so much of the first SGX component, and of the third TDX one, which every module has."""
    return TcbLevel(
        sgx=(sgx, *ZERO[1:]),
        pcesvn=pcesvn,
        tdx=(0, 0, tdx, *ZERO[3:]),
        date=date,
        status=status,
        advisories=tuple(advisories),
    )


def isv(svn, status=S.UP_TO_DATE, date=NEW, advisories=()):
    return IsvLevel(isvsvn=svn, date=date, status=status, advisories=tuple(advisories))


def module(*levels, version=1):
    return ModuleIdentity(
        id=f"TDX_{version:02X}", mrsigner=bytes(48), attributes=bytes(8), attributes_mask=b"\xff" * 8, levels=levels
    )


INFO = TcbInfo(
    id="TDX",
    version=3,
    issue_date=NEW,
    next_update=NEW,
    fmspc=bytes(6),
    pceid=bytes(2),
    tcb_type=0,
    evaluation_data_number=1,
    module=None,
    module_identities=(module(isv(0)),),
    levels=(level(),),
    signed=b"",
    signature=bytes(64),
)
IDENTITY = QeIdentity(
    id="TD_QE",
    version=2,
    issue_date=NEW,
    next_update=NEW,
    evaluation_data_number=1,
    miscselect=bytes(4),
    miscselect_mask=bytes(4),
    attributes=bytes(16),
    attributes_mask=bytes(16),
    mrsigner=bytes(32),
    isvprodid=2,
    levels=(isv(0),),
    signed=b"",
    signature=bytes(64),
)
SVNS = Svns(components=(5, *ZERO[1:]), pcesvn=5, tee_tcb_svn=bytes((5, 1, 5, *ZERO[3:])), tee_tcb_svn2=None, qe=5)


ONE, MODULES, ENCLAVE = (level(),), (module(isv(0)),), (isv(0),)


def verdict(levels=ONE, modules=MODULES, enclave=ENCLAVE, **svns):
    info = replace(INFO, levels=tuple(levels), module_identities=tuple(modules))
    return judge(prepare(info, replace(IDENTITY, levels=tuple(enclave))), replace(SVNS, **svns))


def test_the_first_level_that_fits_counts_and_the_trace_says_why_the_higher_ones_do_not():
    found = verdict(
        [
            level(sgx=6),
            level(sgx=5, pcesvn=6),
            level(sgx=5, pcesvn=5, tdx=6, status=S.SW_HARDENING_NEEDED),
            level(sgx=4, tdx=5, status=S.OUT_OF_DATE, date=OLD),
            level(status=S.REVOKED),
        ]
    )
    assert (found.sgx, found.platform, found.converged) == (S.SW_HARDENING_NEEDED, S.OUT_OF_DATE, S.OUT_OF_DATE)
    assert [(entry.failed, entry.required, entry.actual) for entry in found.trace if entry.part is Part.PLATFORM] == [
        ("sgx[0]", 6, 5),
        ("pcesvn", 6, 5),
        ("tdx[2]", 6, 5),
        ("", None, None),
    ]
    assert [entry.chosen for entry in found.trace[:4]] == [(), (), ("sgx",), ("platform",)]
    assert str(found.trace[0]) == "platform level 1 (UpToDate): sgx[0] is 5, 6 needed"
    assert str(found.trace[2]) == "platform level 3 (SWHardeningNeeded): tdx[2] is 5, 6 needed: taken as sgx"
    assert found.date() == OLD


def test_a_module_of_version_1_5_has_levels_of_its_own_for_its_first_two_components():
    levels = [replace(level(), tdx=(9, 9, *ZERO[2:]))]
    assert verdict(levels).converged is S.UP_TO_DATE
    found = verdict(levels, tee_tcb_svn=bytes((5, 0, 5, *ZERO[3:])))
    assert (found.converged, found.module) == (S.NOT_SUPPORTED, None)
    assert found.trace[0].failed == "tdx[0]"


def test_without_any_level_that_fits_nothing_is_supported_and_there_is_no_date():
    found = verdict([level(sgx=9)])
    assert (found.platform, found.sgx, found.converged) == (S.NOT_SUPPORTED,) * 3
    assert found.date() is None
    assert verdict([]).converged is S.NOT_SUPPORTED


@pytest.mark.parametrize(
    ("status", "late"),
    [
        (S.UP_TO_DATE, S.OUT_OF_DATE),
        (S.SW_HARDENING_NEEDED, S.OUT_OF_DATE),
        (S.CONFIGURATION_NEEDED, S.OUT_OF_DATE_CONFIGURATION_NEEDED),
        (S.CONFIGURATION_AND_SW_HARDENING_NEEDED, S.OUT_OF_DATE_CONFIGURATION_NEEDED),
        (S.OUT_OF_DATE, S.OUT_OF_DATE),
        (S.OUT_OF_DATE_CONFIGURATION_NEEDED, S.OUT_OF_DATE_CONFIGURATION_NEEDED),
        (S.REVOKED, S.REVOKED),
    ],
)
def test_two_statuses_converge_by_intels_table_and_not_to_the_worse_one(status, late):
    assert converge(status, S.OUT_OF_DATE) is late
    assert converge(status, S.UP_TO_DATE) is converge(status, None) is status
    assert converge(status, S.REVOKED) is S.REVOKED
    assert converge(status, S.NOT_SUPPORTED) is S.NOT_SUPPORTED


@pytest.mark.parametrize("status", [S.CONFIGURATION_NEEDED, S.SW_HARDENING_NEEDED])
def test_a_status_that_intel_does_not_know_of_a_part_is_none(status):
    """Of a module nothing is known then; an enclave that is not up to date is out of date."""
    assert verdict(modules=[module(isv(0, status))]).converged is S.NOT_SUPPORTED
    assert verdict(enclave=[isv(0, status)]).qe is S.OUT_OF_DATE


def test_revoked_comes_before_an_enclave_that_no_level_fits():
    assert verdict([level(status=S.REVOKED)], enclave=[isv(9)]).converged is S.REVOKED
    assert verdict(enclave=[isv(9)]).converged is S.NOT_SUPPORTED


def test_advisories_are_a_union_in_order_that_says_which_part_each_came_from():
    found = verdict(
        [level(advisories=["A", "B", "A"])],
        [module(isv(0, advisories=["C", "B"]))],
        [isv(0, advisories=["D", "A"])],
    )
    assert found.advisories == (
        Advisory("A", (Part.PLATFORM, Part.QE)),
        Advisory("B", (Part.PLATFORM, Part.MODULE)),
        Advisory("C", (Part.MODULE,)),
        Advisory("D", (Part.QE,)),
    )


LATE_MODULE = module(isv(7), isv(5, S.OUT_OF_DATE, MIDDLE))


@pytest.mark.parametrize(
    ("platform", "advised"),
    [
        (S.UP_TO_DATE, S.TD_RELAUNCH_ADVISED),
        (S.SW_HARDENING_NEEDED, S.TD_RELAUNCH_ADVISED),
        (S.CONFIGURATION_NEEDED, S.TD_RELAUNCH_ADVISED_CONFIGURATION_NEEDED),
        (S.CONFIGURATION_AND_SW_HARDENING_NEEDED, S.TD_RELAUNCH_ADVISED_CONFIGURATION_NEEDED),
        (S.OUT_OF_DATE, S.OUT_OF_DATE),
        (S.REVOKED, S.REVOKED),
    ],
)
def test_a_td_that_is_older_than_its_module_is_advised_to_be_launched_anew(platform, advised):
    svn2 = bytes((7, 1, 5, *ZERO[3:]))
    found = verdict([level(tdx=5, status=platform)], [LATE_MODULE], tee_tcb_svn2=svn2)
    assert found.converged is advised
    assert found.module is S.OUT_OF_DATE
    assert (found.trace[-1].part is Part.RELAUNCH) is advised.startswith("TDRelaunch")


@pytest.mark.parametrize(
    ("svn2", "whole", "failed"),
    [
        ((6, 1, 5), S.OUT_OF_DATE, "tee_tcb_svn2[0]"),
        ((7, 1, 4), S.OUT_OF_DATE, "tee_tcb_svn2[2]"),
        ((9, 3, 9), S.NOT_SUPPORTED, "tee_tcb_svn2[1]"),  # Intel knows no such module
        # A module of version 1.0 that runs now is compared with the platform's latest level instead.
        ((3, 0, 5), S.TD_RELAUNCH_ADVISED, ""),
        ((2, 0, 5), S.OUT_OF_DATE, "tee_tcb_svn2[0]"),
    ],
)
def test_launching_anew_is_advised_only_where_the_module_that_runs_now_is_the_latest(svn2, whole, failed):
    latest = replace(level(tdx=5), tdx=(3, 9, 5, *ZERO[3:]))
    found = verdict([latest], [LATE_MODULE], tee_tcb_svn2=bytes((*svn2, *ZERO[3:])))
    assert found.converged is whole
    assert (found.trace[-1].part, found.trace[-1].failed) == (Part.RELAUNCH, failed)


@pytest.mark.parametrize("enclave", [S.OUT_OF_DATE, S.REVOKED])
def test_launching_anew_does_not_help_an_enclave(enclave):
    svn2 = bytes((7, 1, 5, *ZERO[3:]))
    found = verdict([level(tdx=5)], [LATE_MODULE], [isv(0, enclave)], tee_tcb_svn2=svn2)
    assert found.converged is enclave


def test_an_id_in_small_letters_is_the_same_module_and_two_of_one_are_refused():
    small = replace(module(isv(0), version=0x2A), id="tdx_2a")
    assert verdict(modules=[small], tee_tcb_svn=bytes((5, 0x2A, 5, *ZERO[3:]))).converged is S.UP_TO_DATE
    with pytest.raises(MalformedEvidence, match="two identities") as caught:
        verdict(modules=[small, replace(small, id="TDX_2A")])
    assert caught.value.check is Check.TDX_COLLATERAL_FORMAT


def test_of_two_levels_with_the_same_numbers_the_worse_counts():
    for pair in ([S.UP_TO_DATE, S.REVOKED], [S.REVOKED, S.UP_TO_DATE]):
        assert verdict([level(status=status) for status in pair]).converged is S.REVOKED
        assert verdict(modules=[module(*(isv(0, status) for status in pair))]).module is S.REVOKED


LEVEL_STATUSES = [status for status in S if not status.startswith("TDRelaunch") and status is not S.NOT_SUPPORTED]
SMALL = st.integers(0, 3)
DATES, ADVISORIES = st.sampled_from([OLD, NEW]), st.lists(st.sampled_from("AB"), max_size=2)
LEVELS = st.builds(level, SMALL, SMALL, SMALL, st.sampled_from(LEVEL_STATUSES), DATES, ADVISORIES)
ISVS = st.builds(isv, SMALL, st.sampled_from([S.UP_TO_DATE, S.OUT_OF_DATE, S.REVOKED]), DATES, ADVISORIES)


@settings(max_examples=300, deadline=None)
@given(
    levels=st.lists(LEVELS, max_size=6),
    modules=st.lists(ISVS, max_size=4),
    enclave=st.lists(ISVS, max_size=4),
    numbers=st.tuples(SMALL, SMALL, SMALL, SMALL, SMALL),
    svn2=st.none() | st.tuples(SMALL, st.sampled_from([0, 1]), SMALL),
    data=st.data(),
)
def test_the_verdict_does_not_depend_on_the_order_of_a_file_and_is_never_better_than_its_parts(
    levels, modules, enclave, numbers, svn2, data
):
    sgx, pcesvn, minor, loader, qe = numbers
    svns = {
        "components": (sgx, *ZERO[1:]),
        "pcesvn": pcesvn,
        "tee_tcb_svn": bytes((minor, 1, loader, *ZERO[3:])),
        "tee_tcb_svn2": None if svn2 is None else bytes((*svn2, *ZERO[3:])),
        "qe": qe,
    }
    found = verdict(levels, [module(*modules)], enclave, **svns)
    shuffled = [data.draw(st.permutations(each)) for each in (levels, modules, enclave)]
    again = verdict(shuffled[0], [module(*shuffled[1])], shuffled[2], **svns)
    assert again == found
    parts = {found.platform, found.module, found.qe}
    if found.converged is S.UP_TO_DATE:
        assert parts == {S.UP_TO_DATE}
    if S.NOT_SUPPORTED in (found.platform, found.module):
        assert found.converged is S.NOT_SUPPORTED
    elif S.REVOKED in parts:
        assert found.converged in (S.REVOKED, S.NOT_SUPPORTED)
    chosen = [name for entry in found.trace for name in entry.chosen]
    assert len(chosen) == len(set(chosen))
    assert all((entry.failed == "") is (entry.required is None) for entry in found.trace if entry.part != Part.RELAUNCH)
