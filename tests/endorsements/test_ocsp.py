"""OCSP answers are read as `cryptography` reads them, strictly, and requests are such as it reads."""

from __future__ import annotations

import contextlib
import importlib.util
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import ocsp
from hypothesis import given
from hypothesis import strategies as st

from dokimos.attest.sim_gpu_pki import NvidiaPki
from dokimos.attest.sim_gpu_revocation import SimRevocation
from dokimos.endorsements import ecdsa
from dokimos.endorsements.gpu_certificate import parse_gpu_certificate
from dokimos.endorsements.ocsp import (
    MAX_OCSP,
    OCSP_SIGNING,
    CertStatus,
    ocsp_request,
    parse_ocsp,
    parse_responder,
)
from dokimos.endorsements.status_points import status_points
from dokimos.errors import Check, MalformedEvidence
from dokimos.evidence.gpu_arch import Arch

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
PKI = NvidiaPki(b"forms of NVIDIA's OCSP answers..")
CHAIN = PKI.device_issuers(Arch.BLACKWELL, bytes(8))
CERTIFICATE, ISSUER = CHAIN[1], CHAIN[2]
SERVICE = SimRevocation(PKI, clock=lambda: NOW)
GOOD = SERVICE.answer(CERTIFICATE, ISSUER, at=NOW, nonce=b"n" * 32)


def refused(data, match=None):
    with pytest.raises(MalformedEvidence, match=match) as caught:
        parse_ocsp(data)
    assert caught.value.check is Check.GPU_OCSP_FORMAT


def build(status=ocsp.OCSPCertStatus.GOOD, *, by=ocsp.OCSPResponderEncoding.NAME, reason=None, until=None, nonce=None):
    responder = PKI.responder(ISSUER)
    revoked = status is ocsp.OCSPCertStatus.REVOKED
    builder = (
        ocsp.OCSPResponseBuilder()
        .add_response(
            CERTIFICATE.certificate,
            ISSUER.certificate,
            hashes.SHA256(),
            status,
            NOW,
            until,
            NOW - timedelta(days=1) if revoked else None,
            reason,
        )
        .responder_id(by, responder.certificate)
        .certificates([responder.certificate, ISSUER.certificate])
    )
    if nonce is not None:
        builder = builder.add_extension(x509.OCSPNonce(nonce), critical=False)
    return builder.sign(responder.key, hashes.SHA256()).public_bytes(Encoding.DER)


HOLD = x509.ReasonFlags.certificate_hold
CASES = [
    (build(), CertStatus.GOOD),
    (build(ocsp.OCSPCertStatus.UNKNOWN, by=ocsp.OCSPResponderEncoding.HASH), CertStatus.UNKNOWN),
    (build(ocsp.OCSPCertStatus.REVOKED), CertStatus.REVOKED),
    (build(ocsp.OCSPCertStatus.REVOKED, reason=x509.ReasonFlags.key_compromise), CertStatus.REVOKED),
    (build(ocsp.OCSPCertStatus.REVOKED, reason=HOLD), CertStatus.HOLD),
    (build(until=NOW + timedelta(days=1), nonce=b"0123456789abcdef"), CertStatus.GOOD),
    (GOOD, CertStatus.GOOD),
]


@pytest.mark.parametrize(("data", "status"), CASES)
def test_every_field_is_what_cryptography_reads(data, status):
    ours, theirs = parse_ocsp(data), ocsp.load_der_ocsp_response(data)
    (single,) = ours.singles
    assert single.status is status
    assert ours.tbs == theirs.tbs_response_bytes
    assert ours.signature == theirs.signature
    assert ours.produced_at == theirs.produced_at_utc
    assert ours.responder_key == (theirs.responder_key_hash or b"")
    name = theirs.responder_name
    assert ours.responder_name == (name.public_bytes() if name is not None else b"")
    assert ours.certificates == tuple(der.public_bytes(Encoding.DER) for der in theirs.certificates)
    assert single.serial == theirs.serial_number
    assert single.hash == theirs.hash_algorithm.name
    assert (single.issuer_name_hash, single.issuer_key_hash) == (theirs.issuer_name_hash, theirs.issuer_key_hash)
    assert single.this_update == theirs.this_update_utc
    assert single.stated is (theirs.next_update_utc is not None)
    assert single.next_update == (theirs.next_update_utc or NOW + timedelta(hours=1))
    nonces = [extension.value.nonce for extension in theirs.extensions]
    assert [ours.nonce] == (nonces or [None])


def test_several_certificates_in_one_answer_are_all_read():
    # No builder at hand writes two.
    path = Path(__file__).resolve().parent.parent / "fuzz/fuzz_ocsp.py"
    spec = importlib.util.spec_from_file_location("fuzz_ocsp", path)
    seeds = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(seeds)
    first, second = parse_ocsp(seeds.answer(b"\x82\0")).singles
    assert (first.status, second.status) == (CertStatus.UNKNOWN, CertStatus.GOOD)
    assert (first.stated, second.stated) == (False, True)


@pytest.mark.parametrize("status", [1, 2, 3, 4, 5, 6, 7, 255])
def test_an_answer_that_is_not_successful_is_none(status):
    refused(bytes((0x30, 3, 0x0A, 1, status)) if status < 128 else bytes((0x30, 4, 0x0A, 2, 0, status)), "status")


def test_a_successful_answer_without_content_is_none():
    refused(bytes.fromhex("30030a0100"), "empty")


@pytest.mark.parametrize("end", range(0, len(GOOD), 7))
def test_an_answer_that_breaks_off_is_malformed(end):
    refused(GOOD[:end])


def test_bytes_behind_an_answer_are_malformed():
    refused(GOOD + b"\0", "behind")


def test_an_answer_of_absurd_size_is_not_read():
    refused(b"\x30" * (MAX_OCSP + 1), "larger")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("2b0601050507300101", "2b0601050507300102"),  # another type than basic
        ("800018", "800118"),  # good with content
        ("800018", "810018"),  # no such status
        ("0420" + "6e" * 32, "0320" + "6e" * 32),  # the nonce is no OCTET STRING
    ],
)
def test_an_answer_of_another_form_is_malformed(old, new):
    assert bytes.fromhex(old) in GOOD
    refused(GOOD.replace(bytes.fromhex(old), bytes.fromhex(new), 1))


def test_an_unknown_critical_extension_is_refused():
    nonce = bytes.fromhex("06092b0601050507300102")
    other = GOOD.replace(nonce, bytes.fromhex("06092b0601050507300109"))
    assert parse_ocsp(other).nonce is None
    responder = PKI.responder(ISSUER)
    critical = (
        ocsp.OCSPResponseBuilder()
        .add_response(
            CERTIFICATE.certificate,
            ISSUER.certificate,
            hashes.SHA256(),
            ocsp.OCSPCertStatus.GOOD,
            NOW,
            None,
            None,
            None,
        )
        .responder_id(ocsp.OCSPResponderEncoding.NAME, responder.certificate)
        .add_extension(x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3"), b"\x05\x00"), critical=True)
        .sign(responder.key, hashes.SHA256())
        .public_bytes(Encoding.DER)
    )
    refused(critical, "critical")


@given(at=st.integers(0, len(GOOD) - 1), bit=st.integers(0, 7), more=st.binary(max_size=3))
def test_any_change_is_read_or_refused(at, bit, more):
    data = GOOD[:at] + more + bytes((GOOD[at] ^ 1 << bit,)) + GOOD[at + 1 :]
    with contextlib.suppress(MalformedEvidence):
        parse_ocsp(data)
    with contextlib.suppress(MalformedEvidence):
        parse_responder(data)


@pytest.mark.parametrize("serial", [1, 127, 128, 0x41FFEEB20009E0BE49, (1 << 159) - 1])
def test_a_request_is_one_that_cryptography_reads(serial):
    issuer = parse_gpu_certificate(ISSUER.der, "issuer")
    points = status_points(ISSUER.der, "issuer")
    nonce = bytes(range(32))
    data = ocsp_request(issuer=points.subject, key=b"\x04" + issuer.public_point, serial=serial, nonce=nonce)
    found = ocsp.load_der_ocsp_request(data)
    assert (found.serial_number, found.hash_algorithm.name) == (serial, "sha384")
    assert found.extensions.get_extension_for_class(x509.OCSPNonce).value.nonce == nonce
    theirs = (
        ocsp.OCSPRequestBuilder()
        .add_certificate_by_hash(found.issuer_name_hash, found.issuer_key_hash, serial, hashes.SHA384())
        .add_extension(x509.OCSPNonce(nonce), critical=False)
        .build()
    )
    assert data == theirs.public_bytes(Encoding.DER)
    asked = parse_ocsp(SERVICE.answer(CERTIFICATE, ISSUER, at=NOW)).singles[0]
    assert (found.issuer_name_hash, found.issuer_key_hash) == (asked.issuer_name_hash, asked.issuer_key_hash)


def test_a_responders_certificate_is_read():
    found = parse_responder(PKI.responder(ISSUER).der)
    assert found.purposes == (OCSP_SIGNING,)
    assert found.digital_signature
    assert found.issuer == parse_gpu_certificate(ISSUER.der, "issuer").subject
    assert found.subject_der == PKI.responder(ISSUER).name.public_bytes()
    with pytest.raises(MalformedEvidence) as caught:
        parse_responder(b"\x30\x00")
    assert caught.value.check is Check.GPU_OCSP_FORMAT


def test_the_places_that_real_certificates_name_are_read(vectors):
    import dokimos.endorsements.gpu_certificate as certificates  # noqa: PLC0415

    crl = "http://crl.ndis.nvidia.com/crl"
    expected = {
        "hopper-545.00-full-positive": [(), (), (f"{crl}/l2-gh100.crl",), (f"{crl}/l1-root.crl",), ()],
        "blackwell-575.32": [(), (), (f"{crl}/l2-gb100.crl",), (f"{crl}/l1-root.crl",), ()],
        "nvswitch-ls10-full-positive": [(), (), (f"{crl}/l2-gh100.crl",), (f"{crl}/l1-root.crl",), ()],
    }
    for name, urls in expected.items():
        chain = certificates.split_chain(vectors(f"nvidia/{name}").bytes("chain.pem"))
        points = [status_points(der, "certificate") for der in chain]
        assert [point.crl_urls for point in points] == urls
        assert [point.issuer for point in points[:-1]] == [point.subject for point in points[1:]]


def spki(key):
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1()])
@pytest.mark.parametrize(
    ("algorithm", "digest"), [(ecdsa.ECDSA_SHA256, hashes.SHA256()), (ecdsa.ECDSA_SHA384, hashes.SHA384())]
)
def test_signatures_hold_with_their_own_key_hash_and_data_only(curve, algorithm, digest):
    key = ec.derive_private_key(7, curve)
    signature = key.sign(b"data", ec.ECDSA(digest))
    assert ecdsa.verifies(spki(key), algorithm, signature, b"data")
    assert not ecdsa.verifies(spki(key), algorithm, signature, b"other")
    assert not ecdsa.verifies(spki(ec.derive_private_key(8, curve)), algorithm, signature, b"data")
    (other,) = {ecdsa.ECDSA_SHA256, ecdsa.ECDSA_SHA384} - {algorithm}
    assert not ecdsa.verifies(spki(key), other, signature, b"data")
    assert not ecdsa.verifies(spki(key), algorithm, b"", b"data")


def test_keys_and_algorithms_that_do_not_occur_verify_nothing():
    key = ec.derive_private_key(7, ec.SECP521R1())
    signature = key.sign(b"data", ec.ECDSA(hashes.SHA384()))
    assert not ecdsa.verifies(spki(key), ecdsa.ECDSA_SHA384, signature, b"data")
    small = ec.derive_private_key(7, ec.SECP384R1())
    weak = small.sign(b"data", ec.ECDSA(hashes.SHA512()))
    assert not ecdsa.verifies(spki(small), bytes.fromhex("300a06082a8648ce3d040304"), weak, b"data")
    modulus = rsa.generate_private_key(65537, 2048)
    assert not ecdsa.verifies(spki(modulus), ecdsa.ECDSA_SHA384, b"", b"data")
    assert not ecdsa.verifies(b"", ecdsa.ECDSA_SHA384, signature, b"data")
