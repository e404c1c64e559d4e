"""Certificates and signatures on P-256: Intel's own, and what must not verify."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256, SHA384
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from dokimos.codec import pem_or_der
from dokimos.endorsements import intel_anchors
from dokimos.endorsements.ca import parse_crl
from dokimos.endorsements.p256 import parse_ca_p256, verify_der, verify_raw
from dokimos.errors import MalformedEvidence

KEY = ec.derive_private_key(11, ec.SECP256R1())
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def point(key=KEY):
    return key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)[1:]


def raw(signature):
    r, s = decode_dss_signature(signature)
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def chain(vectors):
    return pem_or_der(vectors("tdx/collateral_2026_03_90c0").bytes("tcb_signing_chain.pem"), "chain")


def test_the_pinned_root_is_intels(vectors):
    root = parse_ca_p256(chain(vectors)[1])
    assert root.sha256 == intel_anchors.ROOT_SHA256 == hashlib.sha256(chain(vectors)[1]).digest()
    assert root.spki_sha256 == intel_anchors.ROOT_SPKI_SHA256
    assert root.public_point == intel_anchors.ROOT_POINT
    assert root.subject == root.issuer == intel_anchors.ROOT_SUBJECT
    assert (root.not_before, root.not_after) == (intel_anchors.ROOT_NOT_BEFORE, intel_anchors.ROOT_NOT_AFTER)
    assert (root.is_ca, root.path_length) == (True, 1)
    assert (root.key_cert_sign, root.crl_sign, root.digital_signature) == (True, True, False)
    assert verify_der(root.public_point, root.signature, root.tbs)


def test_the_signer_of_collateral_is_no_ca(vectors):
    signer, root = (parse_ca_p256(der) for der in chain(vectors))
    assert signer.subject_cn == "Intel SGX TCB Signing"
    assert (signer.is_ca, signer.key_cert_sign, signer.crl_sign, signer.digital_signature) == (
        False,
        False,
        False,
        True,
    )
    assert signer.issuer == root.subject
    assert verify_der(root.public_point, signer.signature, signer.tbs)


def test_a_certificate_is_read_as_the_peer_reads_it(vectors):
    for der in chain(vectors):
        peer = x509.load_der_x509_certificate(der)
        mine = parse_ca_p256(der)
        assert mine.tbs == peer.tbs_certificate_bytes
        assert mine.signature == peer.signature
        assert dict(mine.subject) == {part.oid.dotted_string: part.value for part in peer.subject}
        assert dict(mine.issuer) == {part.oid.dotted_string: part.value for part in peer.issuer}


def test_intels_revocation_lists_are_read_and_signed(vectors):
    root = parse_ca_p256(chain(vectors)[1])
    found = vectors("tdx/collateral_2026_03_90c0")
    for name in ("root_ca_crl.der", "pck_crl_platform.der"):
        crl, peer = parse_crl(found.bytes(name)), x509.load_der_x509_crl(found.bytes(name))
        assert crl.tbs == peer.tbs_certlist_bytes
        assert dict(crl.issuer) == {part.oid.dotted_string: part.value for part in peer.issuer}
        assert set(crl.revoked) == {entry.serial_number for entry in peer}
        assert all(entry.serial_number in crl.revoked for entry in peer)
        assert 1 not in crl.revoked
    assert len(crl.revoked) == found.manifest["expected"]["pck_crl_revoked_count"]
    listed = parse_crl(found.bytes("root_ca_crl.der"))
    assert verify_der(root.public_point, listed.signature, listed.tbs)
    assert listed == parse_crl(found.bytes("root_ca_crl.der"))
    assert hash(listed.revoked) == hash(parse_crl(found.bytes("root_ca_crl.der")).revoked)


def test_a_signature_verifies_over_its_data_by_its_key_alone():
    signature = KEY.sign(b"data", ec.ECDSA(SHA256()))
    other = ec.derive_private_key(12, ec.SECP256R1())
    for verify, form in ((verify_der, signature), (verify_raw, raw(signature))):
        assert verify(point(), form, b"data")
        assert not verify(point(), form, b"date")
        assert not verify(point(other), form, b"data")
        for position in range(len(form)):
            changed = bytearray(form)
            changed[position] ^= 1
            assert not verify(point(), bytes(changed), b"data")
        for length in range(len(form)):
            assert not verify(point(), form[:length], b"data")
        assert not verify(point(), form + b"\0", b"data")


def test_a_signature_of_another_hash_does_not_verify():
    assert not verify_der(point(), KEY.sign(b"data", ec.ECDSA(SHA384())), b"data")


@pytest.mark.parametrize(("r", "s"), [(0, 0), (0, 1), (1, 0), (ORDER, ORDER), (ORDER, 1), (1, ORDER)])
def test_r_or_s_out_of_range_does_not_verify(r, s):
    assert not verify_raw(point(), r.to_bytes(32, "big") + s.to_bytes(32, "big"), b"data")
    assert not verify_der(point(), encode_dss_signature(r, s), b"data")


@pytest.mark.parametrize("bad", [b"", bytes(64), b"\x01" * 64, b"\xff" * 64, point()[:63], point() + b"\0"])
def test_a_point_that_is_on_no_curve_verifies_nothing(bad):
    signature = KEY.sign(b"data", ec.ECDSA(SHA256()))
    assert not verify_der(bad, signature, b"data")
    assert not verify_raw(bad, raw(signature), b"data")


def made(key=KEY, algorithm=SHA256, extension=None):
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "CA of a test")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(5)
        .not_valid_before(datetime(2026, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2036, 1, 1, tzinfo=UTC))
    )
    if extension is not None:
        builder = builder.add_extension(extension, critical=True)
    return builder.sign(key, algorithm()).public_bytes(Encoding.DER)


def test_a_certificate_without_extensions_may_sign_nothing():
    ca = parse_ca_p256(made())
    assert (ca.is_ca, ca.path_length) == (False, None)
    assert (ca.key_cert_sign, ca.crl_sign, ca.digital_signature) == (False, False, False)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (made(ec.derive_private_key(11, ec.SECP384R1())), "P-256"),
        (made(ec.derive_private_key(11, ec.SECP256K1())), "P-256"),
        (made(rsa.generate_private_key(65537, 2048)), "P-256"),
        (made(algorithm=SHA384), "ECDSA with SHA-256"),
        (made(extension=x509.InhibitAnyPolicy(0)), "unknown critical"),
        (b"", "cut off"),
        (bytes(9000), "larger"),
    ],
)
def test_another_kind_of_certificate_is_refused(data, message):
    with pytest.raises(MalformedEvidence, match=message):
        parse_ca_p256(data)


def test_truncation_at_each_length_is_malformed():
    data = made()
    for length in range(len(data)):
        with pytest.raises(MalformedEvidence):
            parse_ca_p256(data[:length])
