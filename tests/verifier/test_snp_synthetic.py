"""Authenticity on the synthetic vectors: platforms, versions and forgeries of which there is no real evidence."""

from __future__ import annotations

import dataclasses
import json
from datetime import datetime
from pathlib import Path

import pytest

from dokimos.errors import Check, MalformedEvidence, UnsupportedEvidence, VerificationError
from dokimos.evidence.snp import Product
from dokimos.verifier.snp import verify_snp
from dokimos.verifier.snp_endorsements import SnpEndorsements
from dokimos.verifier.trust import Revocation, SnpTrust

_VECTORS = Path(__file__).parent.parent / "vectors" / "snp"
_CASES = sorted(path.parent.name for path in _VECTORS.glob("*/manifest.json"))
_ERRORS = {"rejected": VerificationError, "malformed": MalformedEvidence, "unsupported": UnsupportedEvidence}
# Checks of verify_snp that no synthetic case can reach alone, with the test that shows them to fail.
_ELSEWHERE = {
    Check.SNP_REPORT_SIZE: "tests/evidence/test_snp_report.py",
}


def _load(name):
    folder = _VECTORS / name
    manifest = json.loads((folder / "manifest.json").read_bytes())
    files = {role: (folder / file).read_bytes() for role, file in manifest["files"].items()}
    root = manifest["simulated_root"]
    trust = SnpTrust(
        simulated_roots=frozenset({bytes.fromhex(root)} if root else ()),
        revocation=Revocation(manifest.get("revocation", "if-present")),
    )
    endorsements = SnpEndorsements(
        vek=files["vek"],
        cas=tuple(files[role] for role in ("ask", "asvk", "ark") if role in files),
        crls=tuple(files[role] for role in ("crl",) if role in files),
    )
    product = Product(manifest["product"]) if manifest.get("product") else None
    arguments = {"trust": trust, "at": datetime.fromisoformat(manifest["at"]), "product": product}
    return manifest, files["report"], endorsements, arguments


@pytest.mark.parametrize("name", _CASES)
def test_synthetic_case_gives_what_its_manifest_says(name):
    manifest, report, endorsements, arguments = _load(name)
    expected = manifest["expected"]
    if expected["verdict"] == "accepted":
        verified = verify_snp(report, endorsements, **arguments)
        assert verified.simulated
        assert verified.checks[-1].id is Check.SNP_REPORT_SIGNATURE
        return
    with pytest.raises(_ERRORS[expected["verdict"]]) as caught:
        verify_snp(report, endorsements, **arguments)
    error = caught.value
    found = error.failed.id if isinstance(error, VerificationError) else error.check
    assert [found] == expected["failed"]


@pytest.mark.parametrize("name", [name for name in _CASES if name in {"milan-v3", "turin-v5", "vlek-milan"}])
def test_a_simulated_report_is_refused_where_the_policy_does_not_name_its_root(name):
    _, report, endorsements, arguments = _load(name)
    with pytest.raises(VerificationError) as caught:
        verify_snp(report, endorsements, **arguments | {"trust": SnpTrust()})
    assert caught.value.failed.id is Check.SNP_CA_PINNED
    without = SnpEndorsements(vek=endorsements.vek)
    with pytest.raises(VerificationError) as caught:
        verify_snp(report, without, **arguments)
    assert caught.value.failed.id is Check.SNP_VEK_ISSUER


def test_a_kept_simulated_chain_is_refused_once_the_policy_no_longer_names_its_root():
    _, report, endorsements, arguments = _load("milan-v3")
    kept = verify_snp(report, endorsements, **arguments).endorsement
    with pytest.raises(VerificationError) as caught:
        verify_snp(report, kept, **arguments | {"trust": SnpTrust()})
    assert caught.value.failed.id is Check.SNP_CA_PINNED


def test_a_report_without_processor_beside_a_leaf_of_no_known_product_is_refused():
    _, report, endorsements, arguments = _load("v2-product-from-certificate")
    assert arguments["product"] is None
    unknown = dataclasses.replace(endorsements, vek=endorsements.vek.replace(b"Milan-B1", b"Nilam-B1"))
    with pytest.raises(VerificationError) as caught:
        verify_snp(report, unknown, **arguments)
    assert caught.value.failed.id is Check.SNP_VEK_PRODUCT


def test_every_check_of_authenticity_has_a_case_that_fails_by_it():
    """Without such a case, the check could be taken out and nothing would notice."""
    _, report, endorsements, arguments = _load("milan-v5-crl")
    ran = {check.id for check in verify_snp(report, endorsements, **arguments).checks}
    failed = {Check(id_) for name in _CASES for id_ in _load(name)[0]["expected"]["failed"]}
    assert len(_CASES) > 60
    assert ran - failed - _ELSEWHERE.keys() == set()
