"""Signatures on P-384: NVIDIA's own, and what must not verify."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256, SHA384
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from dokimos.endorsements.p384 import SPKI_PREFIX, verify_der, verify_raw

KEY = ec.derive_private_key(11, ec.SECP384R1())
ORDER = int("ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973", 16)
DATA = b"what is signed"


def point(key=KEY):
    return key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)[1:]


def raw(signature):
    r, s = decode_dss_signature(signature)
    return r.to_bytes(48, "big") + s.to_bytes(48, "big")


def signed(data=DATA, key=KEY, hash_=None):
    return key.sign(data, ec.ECDSA(hash_ or SHA384()))


def test_the_prefix_and_the_point_are_the_key():
    spki = KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert spki == SPKI_PREFIX + point()


def test_a_signature_verifies_in_both_forms():
    signature = signed()
    assert verify_der(point(), signature, DATA)
    assert verify_raw(point(), raw(signature), DATA)


def test_a_signature_holds_for_its_data_its_key_and_its_hash_alone():
    other = ec.derive_private_key(12, ec.SECP384R1())
    for key, data, signature in (
        (point(), DATA + b"!", signed()),
        (point(), b"", signed()),
        (point(other), DATA, signed()),
        (point(), DATA, signed(hash_=SHA256())),
        (point(), DATA, signed(key=other)),
    ):
        assert not verify_der(key, signature, data)
        assert not verify_raw(key, raw(signature), data)


@pytest.mark.parametrize(
    "signature", [b"", bytes(95), bytes(96), bytes(97), b"\xff" * 96, bytes(47) + b"\x01" + bytes(48)]
)
def test_numbers_that_are_no_signature_do_not_verify(signature):
    assert not verify_raw(point(), signature, DATA)


def test_a_number_above_the_order_does_not_verify():
    r, s = decode_dss_signature(signed())
    for numbers in ((r + ORDER, s), (r, s + ORDER), (0, s), (r, 0), (ORDER, s), (r, ORDER)):
        if max(numbers) < 1 << 384:
            assert not verify_raw(point(), b"".join(n.to_bytes(48, "big") for n in numbers), DATA)


def test_every_length_but_96_bytes_is_refused_even_with_a_zero_in_front():
    signature = raw(signed())
    assert not verify_raw(point(), b"\0" + signature, DATA)
    assert not verify_raw(point(), signature + b"\0", DATA)
    assert not verify_raw(point(), signature[:-1], DATA)


def test_a_signature_whose_second_number_lost_its_leading_zero_is_refused():
    found = next(made for made in iter(lambda: raw(signed()), b"") if made[48] == 0)
    assert verify_raw(point(), found, DATA)
    assert not verify_raw(point(), found[:48] + found[49:], DATA)


def test_a_signature_that_is_no_der_does_not_verify():
    signature = signed()
    for wrong in (b"", signature[:-1], signature + b"\0", raw(signature), b"\x30\x00"):
        assert not verify_der(point(), wrong, DATA)


@pytest.mark.parametrize("wrong", [b"", bytes(96), b"\xff" * 96, bytes(95), bytes(64)])
def test_a_point_on_no_curve_verifies_nothing(wrong):
    assert not verify_der(wrong, signed(), DATA)
    assert not verify_raw(wrong, raw(signed()), DATA)
