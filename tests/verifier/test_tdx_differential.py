"""dcap-qvl beside this verifier, on every synthetic case and random ones: each disagreement is explained by a rule of
Intel's quote verification library (QVL), or it is a mistake."""

from __future__ import annotations

import runpy
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from dokimos.errors import Check, VerificationError
from dokimos.verifier.appraise_tdx import appraise_tdx
from dokimos.verifier.policy import Policy
from dokimos.verifier.tdx import verify_tdx
from dokimos.verifier.trust import TdxTrust
from dokimos.verifier.verified_tdx import VerifiedTdx
from tests.generate import tdx_cases

_GENERATE = Path(__file__).parents[1] / "generate"
RANDOM = 1200

REFUSED_STATUSES = ("Revoked", "NotSupported")
"""Statuses that the peer raises as errors: both refuse, unless a policy of ours says otherwise of the first."""

STRICTER = {
    # What we refuse and the peer accepts.
    Check.TDX_TCB_INFO_PCEID: "QVL 4.1.2.4.10: PCEID of certificate and TCB info must be equal; not compared there",
    Check.TDX_TCB_INFO_TYPE: "PCS v4: tcbType 0 is the only composition of the TCB that is defined",
    Check.TDX_MODULE_ATTRIBUTES: "QVL 4.1.2.4.11.2: SEAMATTRIBUTES must be zero, whatever the identity's mask says",
    Check.TDX_ROOT_CRL_NOT_YET_VALID: "RFC 5280 6.3.3: a list that is not yet valid is no list",
    Check.TDX_PCK_CRL_NOT_YET_VALID: "RFC 5280 6.3.3: a list that is not yet valid is no list",
    Check.TDX_TCB_SIGNER_ROLE: "QVL: TCB info is signed by the TCB Signing certificate and by nobody else",
    Check.TDX_PCK_CA_ROLE: "QVL: PCK certificates are issued by the Platform or the Processor CA",
    Check.TDX_PCK_CA_CHAIN: "the chain of the PCK CRL leads to the root; the peer looks at the one in the quote only",
    Check.TDX_PCK_CA_EXPIRED: "the chain of the PCK CRL is in its time; the peer looks at the one in the quote only",
    Check.TDX_PCK_CA_NOT_YET_VALID: "as above",
    Check.TDX_PCK_ROLE: "QVL 4.1.2.4.4: the leaf is named Intel SGX PCK Certificate",
    Check.TDX_ROOT_EXPIRED: "RFC 5280 6.1: the anchor's own time is looked at too",
    Check.TDX_ROOT_NOT_YET_VALID: "RFC 5280 6.1: the anchor's own time is looked at too",
    Check.TDX_ROOT_PINNED: "a root that comes along is compared, also where the chain would hold without it",
}


def _td15(found) -> bool:
    return found.quote.body.tee_tcb_svn2 is not None


def _descending(levels) -> bool:
    svns = [level.isvsvn for level in levels]
    return svns == sorted(svns, reverse=True)


def _shuffled(found) -> bool:
    info = found.collateral.tcb_info
    rows = [found.collateral.qe_identity.levels, *(module.levels for module in info.module_identities)]
    return not all(_descending(levels) for levels in rows)


def _ends_now(found) -> bool:
    lists = (found.collateral.root_crl, found.collateral.pck_crl)
    return found.at in {crl.next_update for crl in lists}


def _always(_found) -> bool:
    return True


class Looser(NamedTuple):
    """What the peer says where it refuses, Intel's rule by which we accept, and of which quotes that rule speaks."""

    said: str
    rule: str
    applies: Callable[[VerifiedTdx], bool] = _always


LOOSER = (
    Looser("Invalid QE auth data length", "QVL hashes authentication data of any length"),
    Looser(
        "Failed to decode TcbInfo", "SVNs of the TCB info are integers, also above 255 (QVL's own samples have them)"
    ),
    Looser("PceSvn length mismatch", "PCESVN has two bytes (PCK certificate profile)"),
    Looser(
        "Failed to evaluate the current TDX TCB (TEE_TCB_SVN2)",
        "QVL 4.1.2.4.17.4.3: TEE_TCB_SVN2 decides between late and relaunch, and refuses nothing by itself",
        _td15,
    ),
    Looser(
        "TCB status is invalid: Revoked",
        "QVL 4.1.2.4.17.4.3: TEE_TCB_SVN2 is no TCB level; the peer judges it as one and finds it revoked",
        _td15,
    ),
    Looser(
        "TCB status is invalid: Revoked",
        "PCS v4: levels of modules and enclaves count from the highest down; the peer believes the file's order",
        _shuffled,
    ),
    Looser("CrlExpired", "QVL: a list is valid at the very second of its nextUpdate too", _ends_now),
    Looser("Unsupported DCAP PCK cert format: 4", "certification data 4 is the platform's certificate (DCAP quote)"),
)
APPRAISED = {
    # What the peer refuses while it verifies, and a policy of ours afterwards: these bits make no quote less genuine.
    "Debug mode is enabled": {Check.TDX_TD_ATTRIBUTES_DEBUG},
    "TD profiling is enabled": {
        Check.TDX_TD_ATTRIBUTES_HGS_PLUS_PROF,
        Check.TDX_TD_ATTRIBUTES_PERF_PROF,
        Check.TDX_TD_ATTRIBUTES_PMT_PROF,
    },
    "Reserved bits in TD attributes are set": {Check.TDX_TD_ATTRIBUTES_UNKNOWN},
    "TD migration is enabled": {Check.TDX_TD_ATTRIBUTES_MIGRATABLE},
    "SEPT_VE_DISABLE is not enabled": {Check.TDX_TD_ATTRIBUTES_SEPT_VE_DISABLE},
    "Invalid MR service TD": {Check.TDX_MR_SERVICETD},
}
ENCLAVE = (
    "QVL 4.1.2.9.10: an enclave of any status but UpToDate and Revoked is out of date; the peer calls it up to date"
)
RELAUNCH = ("TDRelaunchAdvised", "TDRelaunchAdvisedConfigurationNeeded")


@pytest.fixture(scope="module")
def peer():
    pytest.importorskip("dcap_qvl")
    return runpy.run_path(str(_GENERATE / "tdx_peer.py"))["peer_verdict"]


def _ours(case):
    """Status, or the failing check; advisories; the verified quote or None."""
    trust = TdxTrust(simulated_roots=frozenset({case.root_sha256}))
    try:
        found = verify_tdx(case.quote, case.collateral, trust=trust, at=case.at)
    except VerificationError as exc:
        return exc.failed.id, [], None
    return str(found.verdict.converged), [advisory.id for advisory in found.verdict.advisories], found


def _explained(ours, theirs, found) -> str:
    """Why both may differ, or an empty text."""
    refused = theirs.startswith("refused: ")
    if isinstance(ours, Check):
        return "both refuse" if refused else STRICTER.get(ours, "")
    if refused and ours in REFUSED_STATUSES:
        return "both refuse"
    if refused:
        for said, checks in APPRAISED.items():
            if said in theirs:
                return f"both refuse: {said}" if checks & _appraised(found) else ""
        return next((row.rule for row in LOOSER if row.said in theirs and row.applies(found)), "")
    body = found.quote.body
    if ours in RELAUNCH and body.tee_tcb_svn2[1] == 0 and body.tee_tcb_svn[1] > 0:
        return "QVL 4.1.2.4.17.4.3: a running module of version 1.0 is compared with the latest level's components"
    levels = [level.status for level in found.collateral.tables.qe if level.isvsvn <= found.quote.qe_report.isvsvn]
    if (ours, theirs) == ("OutOfDate", "UpToDate") and levels[0] not in ("OutOfDate", "UpToDate", "Revoked"):
        return ENCLAVE
    return ""


def _appraised(found) -> set[Check]:
    """What a policy refuses that says no more than it must."""
    policy = Policy(schema=1).with_tdx(mrtd=(found.quote.body.mrtd,), simulated_roots=(found.root_sha256,))
    return {check.id for check in appraise_tdx(found, policy).failures}


def test_each_disagreement_with_dcap_qvl_is_explained_by_a_rule_of_intels(peer):
    count: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    unexplained: list[tuple[object, ...]] = []
    for case in (*tdx_cases.cases(), *tdx_cases.random_cases(RANDOM)):
        ours, advisories, found = _ours(case)
        theirs, named = peer(case.quote, case.collateral, case.root, int(case.at.timestamp()))
        if ours == theirs:
            count["same"] += 1
            if sorted(advisories) != sorted(named):
                unexplained.append((case.name, advisories, named))
            continue
        why = _explained(ours, theirs, found)
        reasons[why] += 1
        if not why:
            unexplained.append((case.name, str(ours), theirs))
    assert unexplained == []
    assert count["same"] >= 500, "both name the same status"
    assert count["same"] + reasons["both refuse"] >= 1600, "most cases are judged the same"
    assert set(STRICTER.values()) <= set(reasons), "a row of the table without a use"
    assert {row.rule for row in LOOSER} | {ENCLAVE} <= set(reasons), "a row of the table without a use"
    assert {f"both refuse: {said}" for said in APPRAISED} <= set(reasons), "a row of the table without a use"
