"""Every synthetic TDX case gives what Intel's rules say: statuses of genuine quotes, or the check that fails."""

from __future__ import annotations

import pytest

from dokimos.errors import Check, VerificationError
from dokimos.verifier.tdx import verify_tdx
from dokimos.verifier.trust import TdxTrust
from tests.generate import tdx_cases

_CASES = tdx_cases.cases()
# Checks of verify_tdx that raise another error than a rejection, or of which real time is the reason; shown elsewhere.
_ELSEWHERE = {
    Check.TDX_QUOTE_FORMAT: "tests/evidence/test_tdx_quote.py",
    Check.TDX_QUOTE_VERSION: "tests/evidence/test_tdx_quote.py",
    Check.TDX_QUOTE_TEE_TYPE: "tests/evidence/test_tdx_quote.py",
    Check.TDX_QUOTE_BODY_TYPE: "tests/evidence/test_tdx_quote.py",
    Check.TDX_QUOTE_KEY_TYPE: "tests/evidence/test_tdx_quote.py",
    Check.TDX_CCEL_FORMAT: "tests/evidence/test_ccel.py",
    Check.TDX_COLLATERAL_FORMAT: "tests/endorsements/test_collateral.py",
    Check.TDX_PCK_FORMAT: "tests/endorsements/test_pck.py",
    Check.TDX_TCB_INFO_VERSION: "tests/endorsements/test_collateral.py",
    Check.TDX_QE_IDENTITY_VERSION: "tests/endorsements/test_collateral.py",
}


def verified(case):
    trust = TdxTrust(simulated_roots=frozenset({case.root_sha256}))
    return verify_tdx(case.quote, case.collateral, trust=trust, at=case.at)


def test_the_cases_are_many_and_each_has_its_name():
    assert len(_CASES) >= 500
    assert len({case.name for case in _CASES}) == len(_CASES)


@pytest.mark.parametrize("case", _CASES, ids=lambda case: case.name)
def test_a_case_gives_what_intels_rules_say(case):
    if case.failing is not None:
        with pytest.raises(VerificationError) as caught:
            verified(case)
        assert caught.value.failed.id is case.failing
        return
    found = verified(case).verdict
    wanted = (case.converged, case.platform, case.module, case.qe)
    actual = (found.converged, found.platform, found.module, found.qe)
    assert [a if a is None else str(a) for a, w in zip(actual, wanted, strict=True) if w != ""] == [
        w for w in wanted if w != ""
    ]
    assert case.converged, "a genuine case declares its verdict"


def test_every_check_of_authenticity_has_a_case_that_fails_by_it():
    case = next(case for case in _CASES if case.converged == "UpToDate")
    ran = {check.id for check in verified(case).checks}
    failing = {case.failing for case in _CASES}
    assert ran - failing - set(_ELSEWHERE) == set()
