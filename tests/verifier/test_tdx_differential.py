"""dcap-qvl beside this verifier, on every synthetic case and random ones: each disagreement is explained by a rule of
Intel's quote verification library (QVL), or it is a mistake."""

from __future__ import annotations

import runpy
from collections import Counter
from pathlib import Path

import pytest

from dokimos.errors import Check, VerificationError
from dokimos.verifier.tdx import verify_tdx
from dokimos.verifier.trust import TdxTrust
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
LOOSER = (
    # (what the peer says, Intel's rule by which we accept)
    ("Invalid QE auth data length", "QVL hashes authentication data of any length"),
    ("Failed to decode TcbInfo", "SVNs of the TCB info are integers, also above 255 (QVL's own samples have them)"),
    ("PceSvn length mismatch", "PCESVN has two bytes (PCK certificate profile)"),
    (
        "Failed to evaluate the current TDX TCB (TEE_TCB_SVN2)",
        "QVL 4.1.2.4.17.4.3: TEE_TCB_SVN2 decides between late and relaunch, and refuses nothing by itself",
    ),
    (
        "TCB status is invalid: Revoked",
        "QVL 4.1.2.4.17.4.3: TEE_TCB_SVN2 is no TCB level; the peer judges it as one and finds it revoked",
    ),
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
    svn2 = found.quote.body.tee_tcb_svn2
    if refused:
        for said, rule in LOOSER:
            if said in theirs:
                return rule if svn2 is not None or "TEE_TCB_SVN2" not in rule else ""
        return ""
    if ours in RELAUNCH and svn2[1] == 0 and found.quote.body.tee_tcb_svn[1] > 0:
        return "QVL 4.1.2.4.17.4.3: a running module of version 1.0 is compared with the latest level's components"
    return ""


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
    assert count["same"] + reasons["both refuse"] >= 1500, "most cases are judged the same"
    assert set(STRICTER.values()) <= set(reasons), "a row of the table without a use"
    assert {rule for _, rule in LOOSER} <= set(reasons), "a row of the table without a use"
