"""Pinned anchors, CA certificates and revocation lists."""

from __future__ import annotations

import hashlib

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from dokimos.endorsements import amd, ca, pss
from dokimos.endorsements.amd_anchors import ANCHORS, Role
from dokimos.errors import MalformedEvidence
from dokimos.evidence.snp import Product


def test_every_product_has_both_chains():
    assert {(anchor.product, anchor.role) for anchor in ANCHORS} == {(p, r) for p in Product for r in Role}


@pytest.mark.parametrize("pinned", ANCHORS, ids=lambda anchor: anchor.subject_cn)
def test_every_pinned_modulus_has_the_pinned_key_hash(pinned):
    key = amd.public_key(pinned.product, pinned.role)
    spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert hashlib.sha256(spki).digest() == pinned.spki_sha256
    assert key.key_size == 4096


def test_every_pinned_anchor_is_the_published_certificate(vectors):
    found = vectors("snp/amd_roots")
    for name, expected in found.manifest["expected"]["certificates"].items():
        certificate = ca.parse_ca(found.bytes(name))
        pinned = amd.anchor_by_hash(certificate.sha256)
        assert pinned is not None
        assert pinned.subject_cn == certificate.subject_cn == expected["subject_cn"]
        assert pinned.certificate_sha256.hex() == expected["sha256"]
        assert pinned.spki_sha256.hex() == expected["spki_sha256"]
        assert hex(pinned.serial) == hex(certificate.serial) == expected["serial"]
        assert (pinned.not_before, pinned.not_after) == (certificate.not_before, certificate.not_after)
        assert amd.subject(pinned.product, pinned.role) == certificate.subject
        root = amd.public_key(pinned.product, Role.ARK)
        assert certificate.signature_algorithm in pss.ALGORITHM_IDENTIFIERS
        assert pss.verifies(root, certificate.signature, certificate.tbs)
        assert certificate.is_ca
        assert certificate.path_length == (None if pinned.role is Role.ARK else 0)
        assert certificate.crl_sign is (pinned.role is Role.ARK)


def test_the_chain_of_the_metadata_service_is_the_pinned_one(vectors):
    found = vectors("snp/ars_az_imds_chain")
    given_cas = [ca.parse_ca(found.bytes(f"imds-chain-{n}.der")).sha256 for n in (0, 1)]
    pinned = [amd.anchor_by_hash(digest) for digest in given_cas]
    assert {anchor.role for anchor in pinned if anchor} == {Role.ASK, Role.ARK}
    assert all(anchor and anchor.product is Product.MILAN for anchor in pinned)


def test_real_revocation_lists_are_read_and_signed_by_the_pinned_root(vectors):
    found = vectors("snp/amd_crls")
    for name, expected in found.manifest["expected"]["lists"].items():
        crl = ca.parse_crl(found.bytes(name))
        product = Product(crl.issuer_cn.removeprefix("ARK-"))
        assert crl.issuer == amd.subject(product, Role.ARK)
        assert pss.verifies(amd.public_key(product, Role.ARK), crl.signature, crl.tbs)
        assert not pss.verifies(amd.public_key(Product.TURIN, Role.ARK), crl.signature, crl.tbs)
        assert crl.this_update.strftime("%Y-%m-%dT%H:%M:%SZ") == expected["this_update"]
        assert crl.next_update.strftime("%Y-%m-%dT%H:%M:%SZ") == expected["next_update"]
        assert {hex(serial) for serial in crl.revoked} == {entry["serial"] for entry in expected["revoked"]}
        assert amd.anchor(product, Role.ASK).serial not in crl.revoked


@pytest.mark.parametrize("parse", [ca.parse_ca, ca.parse_crl])
def test_truncation_at_each_length_is_malformed(vectors, parse):
    raw = (
        vectors("snp/amd_roots").bytes("milan_ask.der")
        if parse is ca.parse_ca
        else (vectors("snp/amd_crls").bytes("genoa_vcek_crl.der"))
    )
    for length in range(len(raw)):
        with pytest.raises(MalformedEvidence):
            parse(raw[:length])


def test_one_flipped_bit_anywhere_in_a_real_ca_certificate_or_list_is_refused_or_breaks_its_signature(vectors):
    roots, lists = vectors("snp/amd_roots"), vectors("snp/amd_crls")
    cases = [(ca.parse_ca, roots.bytes(name)) for name in roots.names]
    cases += [(ca.parse_crl, lists.bytes(name)) for name in lists.names]
    assert len(cases) == 11
    for parse, raw in cases:
        good = parse(raw)
        for position in range(len(raw)):
            changed = bytearray(raw)
            changed[position] ^= 1 << position % 8
            try:
                value = parse(bytes(changed))
            except MalformedEvidence:
                continue
            assert (value.tbs, value.signature, value.signature_algorithm) != (
                good.tbs,
                good.signature,
                good.signature_algorithm,
            )


@given(st.binary(max_size=300))
def test_any_bytes_give_a_clear_error(data):
    for parse in (ca.parse_ca, ca.parse_crl):
        with pytest.raises(MalformedEvidence):
            parse(data)


def test_oversized_certificates_and_lists_are_refused_unread():
    with pytest.raises(MalformedEvidence, match="larger"):
        ca.parse_ca(bytes(ca.MAX_CERTIFICATE + 1))
    with pytest.raises(MalformedEvidence, match="larger"):
        ca.parse_crl(bytes(ca.MAX_CRL + 1))
