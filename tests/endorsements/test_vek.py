"""Leaf certificates: the real ones, the peer's reading of them, and everything that must be refused."""

from __future__ import annotations

import contextlib
import warnings

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from dokimos.endorsements import pss
from dokimos.endorsements.leaf import MAX_SIZE
from dokimos.endorsements.vek import parse_vek
from dokimos.errors import Check, MalformedEvidence
from dokimos.evidence.snp import SigningKey

_LEAVES = {"vek.der", "imds-vcek.der"}
_SUFFIXES = {
    "struct": "1",
    "product": "2",
    "bl": "3.1",
    "tee": "3.2",
    "snp": "3.3",
    "spl4": "3.4",
    "spl5": "3.5",
    "spl6": "3.6",
    "spl7": "3.7",
    "ucode": "3.8",
    "fmc": "3.9",
    "hwid": "4",
    "csp_id": "5",
}


def _leaves(vectors, snp_set):
    found = vectors(f"snp/{snp_set}")
    return [(found, name) for name in found.names if name in _LEAVES]


def test_every_real_leaf_is_read_as_its_manifest_says(vectors, snp_set):
    for found, name in _leaves(vectors, snp_set):
        expected = found.manifest["expected"]
        vek = parse_vek(found.bytes(name))
        assert vek.signature_algorithm in pss.ALGORITHM_IDENTIFIERS
        assert vek.issuer_cn == ("SEV-VLEK-" if vek.kind is SigningKey.VLEK else "SEV-") + expected["product"]
        if "vek" in expected:
            assert vek.subject_cn == expected["vek"]["subject_cn"]
            assert vek.product_name == expected["vek"]["product_name"]
            assert vek.struct_version == expected["vek"]["struct_version"]
            assert vek.hwid is None or len(vek.hwid) == expected["vek"]["hwid_length"]
            assert vek.csp_id == expected["vek"].get("csp_id")
            assert vek.tcb.components() == expected["tcb"]["reported"]
        if "valid_window" in expected:
            assert vek.not_before.strftime("%Y-%m-%dT%H:%M:%SZ") == expected["valid_window"]["not_before"]
            assert vek.not_after.strftime("%Y-%m-%dT%H:%M:%SZ") == expected["valid_window"]["not_after"]
        if "hwid" in expected:
            assert vek.hwid is not None
            assert vek.hwid.hex() == expected["hwid"]
        if "extension_rules" in expected:
            assert vek.struct_version == 1
            assert vek.hwid == bytes.fromhex(expected["extensions_hex"]["hwid"])
            assert vek.tcb.components() == {"fmc": 0, "bl": 0, "tee": 0, "snp": 0, "ucode": 9}


def test_every_real_leaf_is_read_as_the_peer_reads_it(vectors, snp_set):
    for found, name in _leaves(vectors, snp_set):
        raw = found.bytes(name)
        vek = parse_vek(raw)
        with warnings.catch_warnings():
            # The peer warns that it will refuse serial 0 one day: the reason why leaves are read here.
            warnings.simplefilter("ignore")
            peer = x509.load_der_x509_certificate(raw)
            key = peer.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        assert vek.tbs == peer.tbs_certificate_bytes
        assert vek.signature == peer.signature
        assert vek.spki == key
        assert vek.not_before == peer.not_valid_before_utc
        assert vek.not_after == peer.not_valid_after_utc
        assert dict(vek.issuer) == {part.oid.dotted_string: part.value for part in peer.issuer}
        written = found.manifest["expected"].get("extensions_hex", {})
        for extension in peer.extensions:
            suffix = extension.oid.dotted_string.removeprefix("1.3.6.1.4.1.3704.1.")
            names = [name for name, known in _SUFFIXES.items() if known == suffix]
            assert names, f"an extension that no reader here knows: {extension.oid}"
            if names[0] in written:
                assert extension.value.public_bytes().hex() == written[names[0]]


def test_one_flipped_bit_anywhere_in_a_real_leaf_is_refused_or_breaks_its_signature(vectors, snp_set):
    """Either the certificate no longer parses, or what is signed, or the signature over it, is another one."""
    for found, name in _leaves(vectors, snp_set):
        raw = found.bytes(name)
        good = parse_vek(raw)
        for position in range(len(raw)):
            changed = bytearray(raw)
            changed[position] ^= 1 << position % 8
            try:
                vek = parse_vek(bytes(changed))
            except MalformedEvidence:
                continue
            signed = (vek.tbs, vek.signature, vek.signature_algorithm)
            assert signed != (good.tbs, good.signature, good.signature_algorithm), hex(position)


def test_truncation_at_each_length_is_malformed(vectors):
    raw = vectors("snp/ms_genoa").bytes("vek.der")
    for length in range(len(raw)):
        with pytest.raises(MalformedEvidence):
            parse_vek(raw[:length])
    with pytest.raises(MalformedEvidence, match="behind"):
        parse_vek(raw + b"\0")


@settings(max_examples=200)
@given(st.binary(max_size=400))
def test_any_bytes_give_a_clear_error_that_names_its_check(data):
    with pytest.raises(MalformedEvidence) as caught:
        parse_vek(data)
    assert caught.value.check is Check.SNP_VEK_FORMAT


@settings(max_examples=200)
@given(st.integers(0, 1400), st.binary(min_size=1, max_size=6))
def test_any_bytes_spliced_into_a_real_leaf_give_a_value_or_a_clear_error(vectors, position, splice):
    raw = bytearray(vectors("snp/ms_genoa").bytes("vek.der"))
    raw[position : position + len(splice)] = splice
    with contextlib.suppress(MalformedEvidence):
        parse_vek(bytes(raw))


def test_a_ca_certificate_in_the_place_of_a_leaf_is_refused(vectors):
    for name in ("milan_ask.der", "turin_ark.der"):
        with pytest.raises(MalformedEvidence):
            parse_vek(vectors("snp/amd_roots").bytes(name))


def test_an_oversized_leaf_is_refused_unread():
    with pytest.raises(MalformedEvidence, match="larger"):
        parse_vek(b"\x30" + bytes(MAX_SIZE))


def _replaced(raw: bytes, old: str, new: str) -> bytes:
    before, after = bytes.fromhex(old), bytes.fromhex(new)
    assert len(before) == len(after)
    assert raw.count(before) == 1, old
    return raw.replace(before, after)


_ARC = "2b060104019c7801"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (f"060a{_ARC}0301", f"060a{_ARC}0302", "teeSPL twice"),
        (f"060a{_ARC}0308", f"060a{_ARC}0309", "ucodeSPL is missing|fmcSPL beside"),
        (f"060a{_ARC}0303", f"060a{_ARC}0339", "snpSPL is missing"),
        (f"0609{_ARC}01", f"0609{_ARC}31", "structVersion is missing"),
        (f"0609{_ARC}02", f"0609{_ARC}32", "productName is missing"),
        (f"0609{_ARC}010403020100", f"0609{_ARC}010403020101", "fmcSPL is missing"),
        (f"0609{_ARC}010403020100", f"0609{_ARC}010403020102", "structVersion 2 is unknown"),
        (f"060a{_ARC}0301040302010a", f"060a{_ARC}03010403020180", "not a byte"),
        (f"060a{_ARC}0301040302010a", f"060a{_ARC}0301040304010a", "tag 0x02 wanted"),
    ],
)
def test_extensions_that_are_doubled_missing_or_misencoded_are_refused(vectors, old, new, message):
    raw = _replaced(vectors("snp/ms_genoa").bytes("vek.der"), old, new)
    with pytest.raises(MalformedEvidence, match=message) as caught:
        parse_vek(raw)
    assert caught.value.check is Check.SNP_VEK_EXTENSIONS


def test_another_subject_is_neither_vcek_nor_vlek(vectors):
    raw = vectors("snp/ms_genoa").bytes("vek.der")
    with pytest.raises(MalformedEvidence, match="neither") as caught:
        parse_vek(raw.replace(b"SEV-VCEK", b"SEV-VCEX"))
    assert caught.value.check is Check.SNP_VEK_ROLE


def test_only_one_set_of_pss_parameters_is_known():
    assert len(pss.ALGORITHM_IDENTIFIERS) == 8
    assert all(b"\x02\x01\x30" in identifier for identifier in pss.ALGORITHM_IDENTIFIERS)
