"""ID block, keys and authentication information, against published test keys."""

from __future__ import annotations

import dataclasses

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from hypothesis import given
from hypothesis import strategies as st

from dokimos.errors import Error, MalformedEvidence, UnsupportedEvidence, VerificationError
from dokimos.evidence import id_block
from dokimos.verifier.id_block import verify_id_block


def _encoded(pem: bytes) -> bytes:
    key = load_pem_public_key(pem)
    assert isinstance(key, ec.EllipticCurvePublicKey)
    numbers = key.public_numbers()
    return id_block.encode_key(numbers.x, numbers.y)


def _cases(vectors):
    found = vectors("snp/id_block")
    return found, found.manifest["expected"]["cases"]


def test_id_block_and_key_digests_equal_the_published_ones(vectors):
    found, cases = _cases(vectors)
    assert len(cases) == 2
    for case in cases:
        block = id_block.IdBlock(launch_digest=bytes.fromhex(case["launch_digest"]))
        assert block.to_bytes().hex() == case["id_block"]
        assert id_block.parse_id_block(block.to_bytes()) == block
        for name in ("id_key", "author_key"):
            assert id_block.key_digest(_encoded(found.bytes(case[name]))).hex() == case[f"{name}_digest"]


def test_published_auth_block_verifies_and_one_flipped_bit_in_it_does_not(vectors):
    found, cases = _cases(vectors)
    case = next(case for case in cases if "auth_block" in case)
    raw = found.bytes(case["auth_block"])
    auth = id_block.parse_auth_info(raw)
    assert auth.id_block_signature == id_block.parse_signature(found.bytes(case["id_block_signature"]))
    assert auth.id_key_signature == id_block.parse_signature(found.bytes(case["id_key_signature"]))
    block = bytes.fromhex(case["id_block"])
    digests = verify_id_block(block, auth)
    assert digests.id_key.hex() == case["id_key_digest"]
    assert digests.author_key is not None
    assert digests.author_key.hex() == case["author_key_digest"]
    with pytest.raises(VerificationError, match=r"snp\.id_key"):
        verify_id_block(bytes([block[0] ^ 1]) + block[1:], auth)
    assert auth.id_key_signature is not None
    r, s = auth.id_key_signature
    with pytest.raises(VerificationError, match=r"snp\.author_key"):
        verify_id_block(block, dataclasses.replace(auth, id_key_signature=(r, s + 1)))
    for position in range(0, len(raw), 7):
        changed = bytearray(raw)
        changed[position] ^= 1
        with pytest.raises(Error):
            verify_id_block(block, id_block.parse_auth_info(bytes(changed)))


def test_auth_info_without_author_key_has_no_author_digest(vectors):
    found, cases = _cases(vectors)
    case = next(case for case in cases if "auth_block" in case)
    raw = bytearray(found.bytes(case["auth_block"]))
    raw[1664:3204] = bytes(1540)
    assert verify_id_block(bytes.fromhex(case["id_block"]), id_block.parse_auth_info(bytes(raw))).author_key is None


@given(st.binary(max_size=200))
def test_any_bytes_as_id_block_give_a_value_or_a_clear_error(data):
    with pytest.raises(MalformedEvidence):
        id_block.parse_id_block(data[:95])
    for parse in (id_block.parse_auth_info, id_block.parse_key, id_block.parse_signature):
        with pytest.raises((MalformedEvidence, UnsupportedEvidence)):
            parse(data)


def test_other_versions_curves_and_points_off_the_curve_are_refused():
    block = bytearray(id_block.IdBlock(launch_digest=bytes(48)).to_bytes())
    block[80] = 2
    with pytest.raises(UnsupportedEvidence):
        id_block.parse_id_block(bytes(block))
    with pytest.raises(UnsupportedEvidence):
        id_block.parse_key(b"\x01\0\0\0" + bytes(0x400))
    auth = id_block.AuthInfo(
        id_block_signature=(1, 1), id_key=id_block.encode_key(1, 1), id_key_signature=None, author_key=None
    )
    with pytest.raises(MalformedEvidence, match="no point"):
        verify_id_block(bytes(96), auth)
