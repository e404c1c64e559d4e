"""Revocation of NVIDIA's certificates: simulated chains with every fault that a list or an answer may have."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256, sha384

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from dokimos.attest.sim_gpu_certificate import Entity, Window, certificate
from dokimos.attest.sim_gpu_pki import NvidiaPki
from dokimos.attest.sim_gpu_revocation import SimRevocation
from dokimos.endorsements.gpu_certificate import parse_gpu_certificate
from dokimos.errors import Check, MalformedEvidence, Status, VerificationError
from dokimos.evidence.gpu_arch import Arch
from dokimos.verifier.checklist import Checklist
from dokimos.verifier.gpu_revocation import (
    DEVICE_INDEXES,
    MAX_ANSWERS,
    MAX_CRLS,
    RIM_INDEXES,
    Checked,
    RevocationMaterial,
    check_revocation,
)
from dokimos.verifier.trust import GpuRevocation, GpuTrust

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
ISSUED = NOW - timedelta(hours=1)
PKI = NvidiaPki(b"revocation tests of NVIDIA's pki")
PDI = bytes(range(8))
DEVICE = (PKI.leaf(Arch.HOPPER, PDI, b"\x11" * 48), *PKI.device_issuers(Arch.HOPPER, PDI))
RIM = (PKI.rim_signer(Arch.HOPPER), *PKI.rim_issuers(Arch.HOPPER))
BROM, PROVISIONER, IDENTITY, ROOT = DEVICE[1:]


@pytest.fixture
def service():
    return SimRevocation(PKI, clock=lambda: NOW)


def parsed(entities):
    return tuple(parse_gpu_certificate(entity.der, "certificate") for entity in entities)


def look(*, crls=(), answers=(), mode="none", chain=DEVICE, indexes=None, hold=False, allow=False, at=NOW, live=None):
    checks = Checklist()
    finding = check_revocation(
        parsed(chain),
        indexes or (RIM_INDEXES if chain is RIM else DEVICE_INDEXES),
        RevocationMaterial(crls=tuple(crls), ocsp=tuple(answers), live_nonces=live or {}),
        trust=GpuTrust(revocation=GpuRevocation(mode), allow_hold=allow),
        hold=hold,
        at=at,
        checks=checks,
    )
    return finding, checks.done()


def fails(check, match=None, **options):
    with pytest.raises(VerificationError, match=match) as caught:
        look(**options)
    assert caught.value.failed.id is check
    assert caught.value.checks[-1].status is Status.FAIL
    return caught.value


def lists(service, chain=DEVICE):
    return tuple(service.crls(at=ISSUED).values())


def answers(service, chain=DEVICE):
    return service.answers(chain, RIM_INDEXES if chain is RIM else DEVICE_INDEXES, at=ISSUED)


@pytest.mark.parametrize("mode", list(GpuRevocation))
@pytest.mark.parametrize("chain", [DEVICE, RIM], ids=["device", "rim"])
def test_lists_and_answers_together_hold_in_every_mode(service, mode, chain):
    finding, checks = look(crls=lists(service), answers=answers(service, chain), mode=mode, chain=chain)
    assert finding.checked is Checked.BOTH
    assert finding.unchecked == ()
    assert (finding.checked_at, finding.valid_until) == (ISSUED, ISSUED + timedelta(days=1))
    assert {result.status for result in checks} <= {Status.PASS, Status.SKIP}


def test_what_was_looked_at_is_said_certificate_by_certificate(service):
    finding, _ = look(crls=lists(service), answers=answers(service)[:1])
    assert [(found.index, found.by) for found in finding.looked] == [(1, "ocsp"), (2, "crl"), (3, "crl")]
    assert finding.checked is Checked.CRL
    assert finding.to_json() == {
        "checked": "crl",
        "checked_at": "2026-07-01T11:00:00Z",
        "valid_until": "2026-07-02T11:00:00Z",
        "unchecked": [],
    }


def test_nothing_at_hand_is_not_checked_and_never_passes_for_good():
    finding, checks = look()
    assert finding.checked is Checked.NOT
    assert (finding.checked_at, finding.valid_until) == (None, None)
    assert finding.unchecked == ("GH100 A01 GSP BROM", "NVIDIA GH100 Provisioner ICA 1", "NVIDIA GH100 Identity")
    assert [result.status for result in checks] == [Status.SKIP, Status.SKIP]


def test_lists_alone_leave_the_boot_rom_unchecked_and_say_so(service):
    finding, _ = look(crls=lists(service), mode="crl")
    assert finding.checked is Checked.CRL
    assert finding.unchecked == ("GH100 A01 GSP BROM",)


def test_answers_alone_are_said_to_be_answers_alone(service):
    finding, _ = look(answers=answers(service), mode="ocsp")
    assert finding.checked is Checked.OCSP
    assert finding.unchecked == ()


def test_a_part_of_the_answers_is_no_more_than_a_part(service):
    finding, _ = look(answers=answers(service)[:2])
    assert finding.checked is Checked.PARTLY
    assert finding.unchecked == ("NVIDIA GH100 Identity",)


@pytest.mark.parametrize("mode", ["crl", "both"])
def test_a_list_that_is_demanded_must_be_there(service, mode):
    every, ask = service.crls(at=ISSUED), answers(service)
    for name in ("l1-root.crl", "l2-gh100.crl"):
        crls = [crl for other, crl in every.items() if other != name]
        fails(Check.GPU_CRL_REQUIRED, "no revocation list for NVIDIA", crls=crls, answers=ask, mode=mode)


def test_lists_demanded_of_a_chain_that_names_none_are_not_waived(service):
    short = (BROM, PROVISIONER)
    fails(Check.GPU_CRL_REQUIRED, "any certificate", chain=short, indexes=(0,), mode="crl")


@pytest.mark.parametrize("mode", ["ocsp", "both"])
@pytest.mark.parametrize("left_out", range(3))
def test_an_answer_that_is_demanded_must_be_there(service, mode, left_out):
    some = [answer for n, answer in enumerate(answers(service)) if n != left_out]
    fails(Check.GPU_OCSP_REQUIRED, "no OCSP answer for", crls=lists(service), answers=some, mode=mode)


def test_a_list_of_another_key_than_the_issuers_is_refused(service):
    forged = service.crl(Entity(ROOT.name, BROM.key, ROOT.der), at=ISSUED)
    fails(Check.GPU_CRL_SIGNATURE, "Device Identity CA", crls=[forged])


def test_a_forged_list_beside_the_genuine_one_is_not_passed_over(service):
    forged = service.crl(Entity(ROOT.name, BROM.key, ROOT.der), at=ISSUED - timedelta(days=1))
    fails(Check.GPU_CRL_SIGNATURE, crls=[*lists(service), forged])


def test_a_list_of_an_issuer_that_may_not_sign_lists_is_refused(service):
    # A boot ROM has keyCertSign alone.
    crl = service.crl(BROM, at=ISSUED)
    fails(Check.GPU_CRL_SIGNATURE, "may not sign lists", crls=[crl])


@pytest.mark.parametrize("algorithm", [hashes.SHA256(), hashes.SHA384()])
def test_both_hashes_that_occur_in_lists_are_read(algorithm):
    builder = x509.CertificateRevocationListBuilder().issuer_name(ROOT.name).last_update(ISSUED)
    crl = builder.next_update(NOW + timedelta(days=1)).sign(ROOT.key, algorithm).public_bytes(Encoding.DER)
    finding, _ = look(crls=[crl])
    assert [found.index for found in finding.looked] == [3]


def test_a_list_with_a_weak_hash_is_refused():
    builder = x509.CertificateRevocationListBuilder().issuer_name(ROOT.name).last_update(ISSUED)
    crl = builder.next_update(NOW + timedelta(days=1)).sign(ROOT.key, hashes.SHA512()).public_bytes(Encoding.DER)
    fails(Check.GPU_CRL_SIGNATURE, crls=[crl])


def test_a_list_holds_from_its_first_to_its_last_second(service):
    crl = service.crl(ROOT, at=ISSUED, period=timedelta(days=60))
    for at in (ISSUED, ISSUED + timedelta(days=60)):
        assert look(crls=[crl], at=at)[0].looked
    fails(Check.GPU_CRL_NOT_YET_VALID, "is not yet valid", crls=[crl], at=ISSUED - timedelta(seconds=1))
    fails(Check.GPU_CRL_STALE, "is stale", crls=[crl], at=ISSUED + timedelta(days=60, seconds=1))


def test_a_stale_list_is_refused_even_where_none_is_demanded(service):
    fails(Check.GPU_CRL_STALE, crls=[service.crl(ROOT, at=ISSUED - timedelta(days=61))], mode="none")


def test_of_several_lists_the_newest_of_the_past_counts(service):
    old = service.crl(ROOT, at=ISSUED - timedelta(days=61))
    service.revoke(IDENTITY)
    newer = service.crl(ROOT, [IDENTITY], at=ISSUED)
    future = service.crl(ROOT, at=NOW + timedelta(days=1))
    for crls in ([old, newer, future], [future, newer, old]):
        fails(Check.GPU_CRL_REVOKED, "NVIDIA GH100 Identity is revoked", crls=crls)
    assert look(crls=[old, newer], at=ISSUED - timedelta(days=30))[0].looked


def test_a_list_or_answer_of_this_very_second_is_of_the_past(service):
    old = service.crl(ROOT, at=ISSUED), service.answer(IDENTITY, ROOT, at=ISSUED)
    service.revoke(IDENTITY)
    fails(Check.GPU_CRL_REVOKED, crls=[old[0], service.crl(ROOT, [IDENTITY], at=NOW)])
    fails(Check.GPU_OCSP_STATUS, answers=[old[1], service.answer(IDENTITY, ROOT, at=NOW)])


def test_of_two_lists_of_the_same_second_the_one_with_the_certificate_counts(service):
    clean = service.crl(ROOT, at=ISSUED)
    service.revoke(IDENTITY)
    for crls in ([clean, service.crl(ROOT, [IDENTITY], at=ISSUED)], [service.crl(ROOT, [IDENTITY], at=ISSUED), clean]):
        fails(Check.GPU_CRL_REVOKED, crls=crls)


@pytest.mark.parametrize(("entity", "issuer"), [(PROVISIONER, IDENTITY), (IDENTITY, ROOT)])
def test_a_certificate_in_a_list_is_revoked(service, entity, issuer):
    service.revoke(entity)
    fails(Check.GPU_CRL_REVOKED, "is revoked", crls=[service.crl(issuer, [entity], at=ISSUED)])


def test_a_list_that_cannot_be_read_is_malformed(service):
    with pytest.raises(MalformedEvidence, match="CRL"):
        look(crls=[b"\x30\x00"])


RIM_CA, RIM_ROOT = RIM[2], RIM[3]


@pytest.mark.parametrize("by", ["crl", "ocsp"])
def test_a_hold_counts_as_revoked_unless_the_policy_takes_it_for_a_manifest(service, by):
    service.revoke(RIM_CA, hold=True)
    service.revoke(IDENTITY, hold=True)
    check = {"crl": Check.GPU_CRL_REVOKED, "ocsp": Check.GPU_OCSP_STATUS}[by]
    material = (
        {"crls": [service.crl(RIM_ROOT, [RIM_CA], at=ISSUED), service.crl(ROOT, [IDENTITY], at=ISSUED)]}
        if by == "crl"
        else {"answers": [service.answer(RIM_CA, RIM_ROOT, at=ISSUED), service.answer(IDENTITY, ROOT, at=ISSUED)]}
    )
    assert look(chain=RIM, hold=True, allow=True, **material)[0].looked
    fails(check, "on hold", chain=RIM, hold=True, allow=False, **material)
    fails(check, "on hold", chain=RIM, hold=False, allow=True, **material)
    # The defect of a peer: what is accepted for manifests was accepted for devices too.
    fails(check, "on hold", chain=DEVICE, hold=False, allow=True, **material)


@pytest.mark.parametrize("by", ["crl", "ocsp"])
def test_what_excuses_a_hold_does_not_excuse_a_revocation(service, by):
    service.revoke(RIM_CA)
    check = {"crl": Check.GPU_CRL_REVOKED, "ocsp": Check.GPU_OCSP_STATUS}[by]
    crls = [service.crl(RIM_ROOT, [RIM_CA], at=ISSUED)] if by == "crl" else []
    asked = [service.answer(RIM_CA, RIM_ROOT, at=ISSUED)] if by == "ocsp" else []
    fails(check, "is revoked", chain=RIM, hold=True, allow=True, crls=crls, answers=asked)


def test_an_unknown_certificate_is_not_good():
    responder = PKI.responder(ROOT)
    answer = (
        ocsp.OCSPResponseBuilder()
        .add_response(
            IDENTITY.certificate, ROOT.certificate, hashes.SHA1(), ocsp.OCSPCertStatus.UNKNOWN, ISSUED, None, None, None
        )
        .responder_id(ocsp.OCSPResponderEncoding.HASH, responder.certificate)
        .certificates([responder.certificate])
        .sign(responder.key, hashes.SHA384())
        .public_bytes(Encoding.DER)
    )
    fails(Check.GPU_OCSP_STATUS, "is unknown", answers=[answer], hold=True, allow=True)


@pytest.mark.parametrize("algorithm", [hashes.SHA1(), hashes.SHA256(), hashes.SHA384(), hashes.SHA512()])
def test_issuers_are_named_by_every_hash_that_occurs(service, algorithm):
    answer = service.answer(IDENTITY, ROOT, at=ISSUED, algorithm=algorithm)
    finding, _ = look(answers=[answer])
    assert [found.index for found in finding.looked] == [3]


def test_an_answer_signed_by_the_ca_itself_counts(service):
    answer = service.answer(IDENTITY, ROOT, at=ISSUED, responder=ROOT)
    assert look(answers=[answer])[0].looked


def test_a_responder_for_something_else_than_answers_is_refused(service):
    responder = PKI.responder(ROOT, may_sign=False)
    fails(
        Check.GPU_OCSP_RESPONDER,
        "not for signing answers",
        answers=[service.answer(IDENTITY, ROOT, at=ISSUED, responder=responder)],
    )


def test_a_responder_of_another_ca_is_refused(service):
    responder = PKI.responder(IDENTITY)
    fails(Check.GPU_OCSP_RESPONDER, answers=[service.answer(IDENTITY, ROOT, at=ISSUED, responder=responder)])


def test_a_responder_that_only_names_the_ca_is_refused(service):
    genuine = PKI.responder(ROOT)
    made = x509.load_der_x509_certificate(genuine.der)
    forged = x509.CertificateBuilder(
        issuer_name=made.issuer,
        subject_name=made.subject,
        public_key=BROM.key.public_key(),
        serial_number=made.serial_number,
        not_valid_before=made.not_valid_before_utc,
        not_valid_after=made.not_valid_after_utc,
        extensions=list(made.extensions),
    ).sign(BROM.key, hashes.SHA384())
    entity = Entity(genuine.name, BROM.key, forged.public_bytes(Encoding.DER))
    fails(Check.GPU_OCSP_RESPONDER, answers=[service.answer(IDENTITY, ROOT, at=ISSUED, responder=entity)])


@pytest.mark.parametrize("change", ["issuer", "usage"])
def test_a_responder_that_the_ca_signed_otherwise_is_refused(service, change):
    made = x509.load_der_x509_certificate(PKI.responder(ROOT).der)
    usage = x509.KeyUsage(False, True, False, False, False, False, False, False, False)
    extensions = [
        x509.Extension(usage.oid, True, usage) if change == "usage" and extension.oid == usage.oid else extension
        for extension in made.extensions
    ]
    other = x509.CertificateBuilder(
        issuer_name=IDENTITY.name if change == "issuer" else made.issuer,
        subject_name=made.subject,
        public_key=PKI.responder(ROOT).key.public_key(),
        serial_number=made.serial_number,
        not_valid_before=made.not_valid_before_utc,
        not_valid_after=made.not_valid_after_utc,
        extensions=extensions,
    ).sign(ROOT.key, hashes.SHA384())
    entity = Entity(PKI.responder(ROOT).name, PKI.responder(ROOT).key, other.public_bytes(Encoding.DER))
    answer = service.answer(IDENTITY, ROOT, at=ISSUED, responder=entity)
    fails(Check.GPU_OCSP_RESPONDER, "not for signing", answers=[answer])


@pytest.mark.parametrize(
    ("window", "match"),
    [
        (Window(NOW - timedelta(days=9), NOW - timedelta(seconds=1)), "has expired"),
        (Window(NOW + timedelta(seconds=1), NOW + timedelta(days=9)), "is not yet valid"),
    ],
)
def test_a_responder_must_be_valid_at_the_time(service, window, match):
    responder = PKI.responder(ROOT, window=window)
    answer = service.answer(IDENTITY, ROOT, at=ISSUED, responder=responder)
    fails(Check.GPU_OCSP_RESPONDER, match, answers=[answer])


def test_a_responder_whose_certificate_did_not_come_along_is_not_guessed(service):
    stranger = PKI.responder(ROOT)
    answer = (
        ocsp.OCSPResponseBuilder()
        .add_response(
            IDENTITY.certificate, ROOT.certificate, hashes.SHA384(), ocsp.OCSPCertStatus.GOOD, ISSUED, None, None, None
        )
        .responder_id(ocsp.OCSPResponderEncoding.NAME, stranger.certificate)
        .sign(stranger.key, hashes.SHA384())
        .public_bytes(Encoding.DER)
    )
    fails(Check.GPU_OCSP_RESPONDER, "did not come along", answers=[answer])


def flipped(data, at):
    return data[:at] + bytes((data[at] ^ 1,)) + data[at + 1 :]


def test_an_answer_with_another_signature_or_content_is_refused(service):
    answer = service.answer(IDENTITY, ROOT, at=ISSUED)
    at = answer.index(ISSUED.strftime("%Y%m%d%H%M%SZ").encode()) + 13  # the last second of thisUpdate
    fails(Check.GPU_OCSP_SIGNATURE, "not signed", answers=[flipped(answer, at)])
    signature = answer.index(bytes.fromhex("300a06082a8648ce3d040303"), at) + 24
    fails(Check.GPU_OCSP_SIGNATURE, "not signed", answers=[flipped(answer, signature)])


@pytest.mark.parametrize("wrong", ["name", "key"])
def test_an_answer_about_the_same_number_of_another_issuer_is_refused(service, wrong):
    answer = service.answer(IDENTITY, ROOT, at=ISSUED)
    hashed = ROOT.name.public_bytes() if wrong == "name" else b"\x04" + parsed([ROOT])[0].public_point
    at = answer.index(sha384(hashed).digest())
    fails(Check.GPU_OCSP_CERT_ID, "another issuer", answers=[flipped(answer, at)])


def test_an_issuer_named_by_an_unknown_hash_is_refused(service):
    answer = service.answer(IDENTITY, ROOT, at=ISSUED)
    other = answer.replace(bytes.fromhex("608648016503040202"), bytes.fromhex("60864801650304020a"))
    fails(Check.GPU_OCSP_CERT_ID, "unknown way", answers=[other])


def test_an_answer_about_another_certificate_counts_for_nothing(service):
    other = (PKI.leaf(Arch.HOPPER, b"another!", b"\x11" * 48), *PKI.device_issuers(Arch.HOPPER, b"another!"))
    finding, _ = look(answers=[service.answer(other[1], other[2], at=ISSUED)])
    assert finding.checked is Checked.NOT
    some = [service.answer(other[1], other[2], at=ISSUED), *answers(service)[1:]]
    fails(Check.GPU_OCSP_REQUIRED, "BROM", answers=some, mode="ocsp")


def test_an_answer_holds_from_its_first_to_its_last_second(service):
    answer = service.answer(IDENTITY, ROOT, at=ISSUED, period=timedelta(hours=5))
    for at in (ISSUED, ISSUED + timedelta(hours=5)):
        assert look(answers=[answer], at=at)[0].looked
    fails(Check.GPU_OCSP_NOT_YET_VALID, "not yet valid", answers=[answer], at=ISSUED - timedelta(seconds=1))
    fails(Check.GPU_OCSP_STALE, "is stale", answers=[answer], at=ISSUED + timedelta(hours=5, seconds=1))


def test_an_answer_that_names_no_next_one_holds_for_an_hour(service):
    answer = service.answer(IDENTITY, ROOT, at=ISSUED, period=None)
    finding, _ = look(answers=[answer], at=ISSUED + timedelta(hours=1))
    assert finding.valid_until == ISSUED + timedelta(hours=1)
    fails(Check.GPU_OCSP_STALE, answers=[answer], at=ISSUED + timedelta(hours=1, seconds=1))


def test_of_several_answers_the_newest_of_the_past_counts_and_all_must_be_signed(service):
    good = service.answer(IDENTITY, ROOT, at=ISSUED - timedelta(hours=3))
    service.revoke(IDENTITY)
    bad = service.answer(IDENTITY, ROOT, at=ISSUED)
    for both in ([good, bad], [bad, good]):
        fails(Check.GPU_OCSP_STATUS, answers=both)
    assert look(answers=[good, bad], at=ISSUED - timedelta(hours=1))[0].looked
    at = good.index((ISSUED - timedelta(hours=3)).strftime("%Y%m%d%H%M%SZ").encode()) + 13
    fails(Check.GPU_OCSP_SIGNATURE, answers=[bad, flipped(good, at)])


def test_of_two_answers_of_the_same_second_the_bad_one_counts(service):
    good = service.answer(IDENTITY, ROOT, at=ISSUED)
    service.revoke(IDENTITY)
    bad = service.answer(IDENTITY, ROOT, at=ISSUED)
    for both in ([good, bad], [bad, good]):
        fails(Check.GPU_OCSP_STATUS, answers=both)


def test_a_live_answer_must_carry_the_nonce_of_its_request(service):
    nonce = bytes(range(32))
    answer = service.answer(IDENTITY, ROOT, at=ISSUED, nonce=nonce)
    _, checks = look(answers=[answer], live={sha256(answer).digest(): nonce})
    assert [result.status for result in checks if result.id is Check.GPU_OCSP_NONCE] == [Status.PASS]
    fails(Check.GPU_OCSP_NONCE, "nonce", answers=[answer], live={sha256(answer).digest(): nonce[::-1]})
    silent = service.answer(IDENTITY, ROOT, at=ISSUED)
    fails(Check.GPU_OCSP_NONCE, "nonce", answers=[silent], live={sha256(silent).digest(): nonce})


def test_a_stored_answer_has_no_nonce_to_compare_and_that_is_said(service):
    _, checks = look(answers=[service.answer(IDENTITY, ROOT, at=ISSUED, nonce=b"n" * 32)])
    assert [result.status for result in checks if result.id is Check.GPU_OCSP_NONCE] == [Status.SKIP]


def test_an_answer_that_is_none_is_malformed(service):
    unauthorized = bytes.fromhex("30030a0106")  # what NVIDIA's responder says of the leaf of a device
    with pytest.raises(MalformedEvidence, match="does not serve this certificate") as caught:
        look(answers=[unauthorized])
    assert caught.value.check is Check.GPU_OCSP_FORMAT


def test_the_leaf_of_a_device_is_looked_at_if_someone_vouches_for_it_or_against_it(service):
    service.revoke(DEVICE[0])
    fails(Check.GPU_OCSP_STATUS, "FMC LF", answers=[service.answer(DEVICE[0], BROM, at=ISSUED, responder=BROM)])


def test_an_index_without_an_issuer_and_a_time_without_a_zone_are_bugs(service):
    with pytest.raises(ValueError, match="issuer"):
        look(indexes=(4,))
    with pytest.raises(ValueError, match="time zone"):
        look(at=NOW.replace(tzinfo=None))


def test_windows_of_all_that_was_looked_at_can_be_looked_at_again(service):
    finding, _ = look(crls=lists(service), answers=answers(service))
    assert len(finding.windows) == 2 + 3 + 3  # lists, answers, responders
    late = NOW + timedelta(days=2)
    past = [window for window in finding.windows if window.not_after < late]
    assert len(past) == 3
    with pytest.raises(VerificationError, match="is stale"):
        past[0].require(Checklist(), late)


def test_a_folder_of_material_is_read_by_the_ends_of_names(service):
    crl, answer = lists(service)[0], answers(service)[0]
    pem = x509.load_der_x509_crl(crl).public_bytes(Encoding.PEM)
    found = RevocationMaterial.of({"a.crl": crl, "b.crl": pem * 2, "c.ocsp": answer, "d.xml": b"", "e.json": b"{}"})
    assert (found.crls, found.ocsp, dict(found.live_nonces)) == ((crl,) * 3, (answer,), {})
    with pytest.raises(MalformedEvidence, match=r"broken\.crl"):
        RevocationMaterial.of({"broken.crl": b"nothing"})


@pytest.mark.parametrize("many", [{"crls": (b"x",) * (MAX_CRLS + 1)}, {"ocsp": (b"x",) * (MAX_ANSWERS + 1)}])
def test_more_material_than_any_machine_needs_is_refused(many):
    with pytest.raises(MalformedEvidence, match="more than"):
        RevocationMaterial(**many)
    assert RevocationMaterial(**{name: items[1:] for name, items in many.items()})


def test_two_certificates_of_one_number_from_two_cas_do_not_disturb_each_other(service):
    fields = replace(PKI.leaf_fields(Arch.HOPPER, PDI, b"\x11" * 48), serial=IDENTITY.certificate.serial_number)
    leaf = Entity(fields.subject, fields.key, certificate(fields))
    chain = (leaf, *DEVICE[1:])
    finding, _ = look(chain=chain, answers=answers(service), mode="ocsp")
    assert [found.index for found in finding.looked] == [1, 2, 3]
