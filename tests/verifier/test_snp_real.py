"""Authenticity on real evidence: every set gives what its manifest says, and no flipped bit passes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from dokimos.endorsements.vek import parse_vek
from dokimos.errors import Check, Error, Status, VerificationError
from dokimos.evidence.snp import SIGNED_SIZE, Product, SigningKey
from dokimos.verifier.checklist import Checklist
from dokimos.verifier.snp import verify_snp
from dokimos.verifier.snp_endorsements import SnpEndorsements, verify_vek
from dokimos.verifier.trust import Revocation, RevocationState, SnpTrust

_TRUST = SnpTrust()
_AT = datetime(2026, 7, 1, tzinfo=UTC)
# Reasons of the manifests that authenticity decides; the others are appraisal's (debug-enabled), the command line's
# (vek-missing), the launch digest's (no-kernel-hashes-in-firmware), or the vTPM quote's (nonce-mismatch: later work).
_REASONS = {
    "certificate-expired": Check.SNP_VEK_VALIDITY,
    "certificate-not-yet-valid": Check.SNP_VEK_VALIDITY,
    "chain-invalid": Check.SNP_VEK_SIGNATURE,
    "crl-stale": Check.SNP_CRL_FRESH,
}
_ELSEWHERE = {"debug-enabled", "vek-missing", "no-kernel-hashes-in-firmware", "nonce-mismatch"}


def _at(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _cases(expected):
    for case in [expected, *expected.get("cases", [])]:
        if case.get("verdict") in ("accept", "reject"):
            yield {**case, "at": case.get("at", expected.get("at"))}


def test_every_real_report_gives_what_its_manifest_says(vectors, snp_set):
    found = vectors(f"snp/{snp_set}")
    expected = found.manifest["expected"]
    if not {"report.bin", "vek.der"} <= set(found.names):
        return
    ran = 0
    for case in _cases(expected):
        endorsements = SnpEndorsements(vek=found.bytes("vek.der"))
        check = _REASONS.get(case["reason"])
        if case["verdict"] == "reject" and check is None:
            assert case["reason"] in _ELSEWHERE
            continue
        ran += 1
        if check is not None:
            with pytest.raises(VerificationError) as caught:
                verify_snp(found.bytes("report.bin"), endorsements, trust=_TRUST, at=_at(case["at"]))
            assert caught.value.failed.id is check
            continue
        verified = verify_snp(found.bytes("report.bin"), endorsements, trust=_TRUST, at=_at(case["at"]))
        assert verified.product == expected["product"]
        assert verified.signer.name == expected["signing_key"]
        assert not verified.simulated
        assert verified.chip_bound is (expected["checks"]["chip_id"] == "pass")
        assert verified.revocation is RevocationState.NOT_CHECKED
        for name, id_ in (
            ("signature", Check.SNP_REPORT_SIGNATURE),
            ("tcb", Check.SNP_VEK_TCB),
            ("chain", Check.SNP_VEK_SIGNATURE),
        ):
            assert expected["checks"][name] == "pass"
            assert any(check.id is id_ and check.status is Status.PASS for check in verified.checks)
    assert ran


def test_every_real_leaf_without_a_report_gives_what_its_manifest_says(vectors, snp_set):
    found = vectors(f"snp/{snp_set}")
    expected = found.manifest["expected"]
    if found.manifest["kind"] != "snp-certificates" or snp_set == "amd_roots":
        return
    leaf = "imds-vcek.der" if "imds-vcek.der" in found.names else "vek.der"
    cas = tuple(found.bytes(name) for name in found.names if name.startswith("imds-chain"))
    endorsements = SnpEndorsements(vek=found.bytes(leaf), cas=cas)
    product = Product(expected["product"])
    for case in _cases(expected):
        at = _at(case["at"])
        if case["verdict"] == "accept":
            verified = verify_vek(endorsements, trust=_TRUST, at=at, product=product, before=Checklist())
            assert verified.product == expected["product"]
        else:
            with pytest.raises(VerificationError) as caught:
                verify_vek(endorsements, trust=_TRUST, at=at, product=product, before=Checklist())
            assert caught.value.failed.id is _REASONS[case["reason"]]
            assert expected["extensions_parse"] == "pass"
            assert parse_vek(found.bytes(leaf)).kind is SigningKey.VCEK


def _case(vectors, name):
    found = vectors(f"snp/{name}")
    return found.bytes("report.bin"), found.bytes("vek.der")


@pytest.mark.parametrize(
    ("name", "crl", "at"),
    [
        ("coco_milan_v2", "milan_vcek_crl.der", "2025-06-01T00:00:00+00:00"),
        ("trustee_e2e_v3", "genoa_vcek_crl.der", "2025-06-01T00:00:00+00:00"),
    ],
)
def test_a_real_fresh_revocation_list_is_checked_and_a_stale_one_rejects(vectors, name, crl, at):
    report, vek = _case(vectors, name)
    crls = (vectors("snp/amd_crls").bytes(crl),)
    endorsements = SnpEndorsements(vek=vek, crls=crls)
    for revocation in (Revocation.REQUIRE, Revocation.IF_PRESENT):
        trust = SnpTrust(revocation=revocation)
        assert verify_snp(report, endorsements, trust=trust, at=_at(at)).revocation is RevocationState.CHECKED
        with pytest.raises(VerificationError) as caught:
            verify_snp(report, endorsements, trust=trust, at=_AT)
        assert caught.value.failed.id is Check.SNP_CRL_FRESH
    off = SnpTrust(revocation=Revocation.OFF)
    assert verify_snp(report, endorsements, trust=off, at=_AT).revocation is RevocationState.NOT_CHECKED


def test_a_list_of_another_products_root_does_not_count_as_one(vectors):
    report, vek = _case(vectors, "coco_milan_v2")
    crls = (vectors("snp/amd_crls").bytes("genoa_vcek_crl.der"),)
    at = datetime(2025, 6, 1, tzinfo=UTC)
    verified = verify_snp(report, SnpEndorsements(vek=vek, crls=crls), trust=_TRUST, at=at)
    assert verified.revocation is RevocationState.NOT_CHECKED
    with pytest.raises(VerificationError) as caught:
        verify_snp(report, SnpEndorsements(vek=vek, crls=crls), trust=SnpTrust(revocation=Revocation.REQUIRE), at=at)
    assert caught.value.failed.id is Check.SNP_CRL_REQUIRED


def test_the_real_cas_may_come_along_and_those_of_another_product_may_not(vectors):
    report, vek = _case(vectors, "ms_genoa")
    roots = vectors("snp/amd_roots")
    own = tuple(roots.bytes(name) for name in ("genoa_ask.der", "genoa_ark.der"))
    assert verify_snp(report, SnpEndorsements(vek=vek, cas=own), trust=_TRUST, at=_AT).chip_bound
    foreign = (roots.bytes("milan_ask.der"), roots.bytes("milan_ark.der"))
    with pytest.raises(VerificationError) as caught:
        verify_snp(report, SnpEndorsements(vek=vek, cas=foreign), trust=_TRUST, at=_AT)
    assert caught.value.failed.id is Check.SNP_CA_CHAIN


def test_a_real_ca_with_one_flipped_bit_is_not_pinned(vectors):
    report, vek = _case(vectors, "ms_genoa")
    ask = bytearray(vectors("snp/amd_roots").bytes("genoa_ask.der"))
    ask[-1] ^= 1
    with pytest.raises(VerificationError) as caught:
        verify_snp(report, SnpEndorsements(vek=vek, cas=(bytes(ask),)), trust=_TRUST, at=_AT)
    assert caught.value.failed.id is Check.SNP_CA_PINNED


def test_a_real_leaf_of_another_chip_or_product_is_refused(vectors):
    report, _ = _case(vectors, "ms_milan")
    for other, check in (
        ("ms_genoa", Check.SNP_VEK_ISSUER),
        ("trustee_az_v0", Check.SNP_VEK_HWID),
        ("coco_milan_v2", Check.SNP_VEK_TCB),
        ("dstack_milan", Check.SNP_VEK_TCB),
    ):
        with pytest.raises(VerificationError) as caught:
            verify_snp(report, SnpEndorsements(vek=_case(vectors, other)[1]), trust=_TRUST, at=_AT)
        assert caught.value.failed.id is check, other


def test_a_real_vlek_in_the_position_of_a_vcek_is_refused(vectors):
    at = datetime(2025, 6, 1, tzinfo=UTC)
    report, _ = _case(vectors, "trustee_az_v0")
    _, vlek = _case(vectors, "coco_milan_vlek_v3")
    with pytest.raises(VerificationError) as caught:
        verify_snp(report, SnpEndorsements(vek=vlek), trust=_TRUST, at=at)
    assert caught.value.failed.id is Check.SNP_VEK_ROLE


def test_one_flipped_bit_anywhere_in_a_real_report_is_refused(vectors, snp_set):
    """Every bit that the parser, the leaf or the signature covers; there is no byte outside of them."""
    found = vectors(f"snp/{snp_set}")
    expected = found.manifest["expected"]
    if not {"report.bin", "vek.der"} <= set(found.names):
        return
    at = _at(expected["at"])
    report = found.bytes("report.bin")
    good = verify_snp(report, SnpEndorsements(vek=found.bytes("vek.der")), trust=_TRUST, at=at).endorsement
    assert good is not None
    for position in range(len(report)):
        changed = bytearray(report)
        changed[position] ^= 1 << position % 8
        with pytest.raises(Error):
            verify_snp(bytes(changed), good, trust=_TRUST, at=at)


def test_the_signature_covers_the_received_bytes_and_not_a_reserialisation(vectors):
    report, vek = _case(vectors, "ms_genoa")
    for offset in (0x18B, 0x208, SIGNED_SIZE - 1):
        changed = bytearray(report)
        changed[offset] = 0xA5
        with pytest.raises(VerificationError) as caught:
            verify_snp(bytes(changed), SnpEndorsements(vek=vek), trust=_TRUST, at=_AT)
        assert caught.value.failed.id is Check.SNP_REPORT_SIGNATURE


def test_a_kept_chain_is_looked_at_again_for_time_product_trust_and_revocation(vectors):
    report, vek = _case(vectors, "ms_milan")
    kept = verify_snp(report, SnpEndorsements(vek=vek), trust=_TRUST, at=_AT).endorsement
    assert kept is not None
    again = verify_snp(report, kept, trust=_TRUST, at=_AT + timedelta(days=1))
    assert {check.id for check in again.checks} == {
        check.id for check in verify_snp(report, SnpEndorsements(vek=vek), trust=_TRUST, at=_AT).checks
    }
    with pytest.raises(VerificationError) as caught:
        verify_snp(report, kept, trust=_TRUST, at=_AT + timedelta(days=4000))
    assert caught.value.failed.id is Check.SNP_VEK_VALIDITY
    with pytest.raises(VerificationError) as caught:
        verify_snp(report, kept, trust=SnpTrust(revocation=Revocation.REQUIRE), at=_AT)
    assert caught.value.failed.id is Check.SNP_CRL_REQUIRED
    with pytest.raises(VerificationError) as caught:
        verify_snp(_case(vectors, "ms_genoa")[0], kept, trust=_TRUST, at=_AT)
    assert caught.value.failed.id is Check.SNP_VEK_PRODUCT


def test_a_time_without_zone_is_a_programming_error(vectors):
    report, vek = _case(vectors, "ms_milan")
    with pytest.raises(ValueError, match="time zone"):
        verify_snp(report, SnpEndorsements(vek=vek), trust=_TRUST, at=datetime(2026, 7, 1))
