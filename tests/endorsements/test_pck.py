"""PCK certificates: the real ones, as two peers read them, and everything that must be refused."""

from __future__ import annotations

import contextlib
import importlib.util
import random
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st
from pyasn1.codec.der.decoder import decode

from dokimos.codec import pem_or_der
from dokimos.endorsements.leaf import MAX_SIZE
from dokimos.endorsements.p256 import parse_ca_p256, verify_der
from dokimos.endorsements.pck import PckCa, parse_pck
from dokimos.errors import Check, MalformedEvidence
from dokimos.evidence.tdx import parse_quote

ARC = "1.2.840.113741.1.13.1"
QUOTES = {
    "tdx/tdx_v4_uptodate_b0c0": ["quote.bin"],
    "tdx/tdx_v5_td15_uptodate_90c0": ["quote.bin"],
    "tdx/tdx_v4_debug_td_5080": ["quote.bin"],
    "tdx/ccel_direct_boot_live2": ["quote.bin"],
    "tdx/az_tdx_evidence": ["td-quote.bin"],
    "tdx/sigonly_quotes": [
        "v4_azure_00806f050000.bin",
        "v4_gcp_00806f050000_2026.bin",
        "v4_b0c0.hex",
        "v4_dstack_ratls.bin",
    ],
}


def _load_writer():
    path = Path(__file__).resolve().parent.parent / "fuzz/fuzz_pck.py"
    spec = importlib.util.spec_from_file_location("fuzz_pck", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


writer = _load_writer()


def real_chains(vectors):
    """Leaf, CA and root of every real quote."""
    chains = []
    for name, files in QUOTES.items():
        for file in files:
            data = vectors(name).bytes(file)
            if file.endswith(".hex"):
                data = bytes.fromhex(data.decode().strip().removeprefix("0x"))
            chains.append(pem_or_der(parse_quote(data).certification.data, "chain"))
    return chains


def _flat(sequence, found):
    """OID suffix to value of Intel's extension, however deep, as pyasn1 sees it."""
    for entry in sequence:
        suffix = str(entry[0]).removeprefix(f"{ARC}.")
        assert suffix not in found
        if suffix in {"2", "7"}:
            _flat(entry[1], found)
        else:
            found[suffix] = entry[1]
    return found


def test_every_real_leaf_is_read_as_two_peers_read_it(vectors):
    for leaf, *_ in real_chains(vectors):
        pck = parse_pck(leaf)
        peer = x509.load_der_x509_certificate(leaf)
        assert pck.raw == leaf
        assert pck.tbs == peer.tbs_certificate_bytes
        assert pck.signature == peer.signature
        assert pck.serial == peer.serial_number
        assert pck.not_before == peer.not_valid_before_utc
        assert pck.not_after == peer.not_valid_after_utc
        assert dict(pck.issuer) == {part.oid.dotted_string: part.value for part in peer.issuer}
        assert pck.issuer_cn == "Intel SGX PCK Platform CA"
        assert pck.subject_cn == "Intel SGX PCK Certificate"
        point = peer.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        assert b"\x04" + pck.public_point == point
        extension = peer.extensions.get_extension_for_oid(x509.ObjectIdentifier(ARC)).value.public_bytes()
        values = _flat(decode(extension)[0], {})
        assert pck.components == tuple(int(values[f"2.{n}"]) for n in range(1, 17))
        assert pck.pcesvn == int(values["2.17"])
        assert pck.cpusvn == bytes(values["2.18"])
        assert pck.ppid == bytes(values["1"])
        assert pck.pceid == bytes(values["3"])
        assert pck.fmspc == bytes(values["4"])
        assert pck.sgx_type == int(values["5"])
        assert pck.platform_instance_id == bytes(values["6"])
        assert (pck.dynamic_platform, pck.cached_keys, pck.smt) == tuple(bool(values[f"7.{n}"]) for n in (1, 2, 3))
        assert len(values) == 18 + 5 + 3
        assert pck.ca is PckCa.PLATFORM


def test_every_real_leaf_is_signed_by_the_ca_of_its_chain(vectors):
    for leaf, ca, _ in real_chains(vectors):
        pck = parse_pck(leaf)
        issuer = parse_ca_p256(ca)
        assert pck.issuer == issuer.subject
        assert verify_der(issuer.public_point, pck.signature, pck.tbs)
        assert not verify_der(issuer.public_point, pck.signature, pck.tbs + b"\0")


def test_every_real_leaf_is_read_as_its_manifest_says(vectors):
    for name in ("tdx_v4_uptodate_b0c0", "tdx_v5_td15_uptodate_90c0", "tdx_v4_debug_td_5080"):
        found = vectors(f"tdx/{name}")
        expected = found.manifest["expected"]["quote"]
        chain = pem_or_der(parse_quote(found.bytes("quote.bin")).certification.data, "chain")
        pck = parse_pck(chain[0])
        assert pck.fmspc.hex() == expected["fmspc"]
        assert pck.issuer_cn == expected["pck_issuer"]
        assert pck.not_before.strftime("%Y-%m-%dT%H:%M:%SZ") == expected["pck_not_before"]
        assert pck.not_after.strftime("%Y-%m-%dT%H:%M:%SZ") == expected["pck_not_after"]


def test_one_flipped_bit_anywhere_in_a_real_leaf_is_refused_or_breaks_its_signature(vectors):
    leaf = real_chains(vectors)[0][0]
    good = parse_pck(leaf)
    for position in range(len(leaf)):
        changed = bytearray(leaf)
        changed[position] ^= 1 << position % 8
        try:
            pck = parse_pck(bytes(changed))
        except MalformedEvidence:
            continue
        assert (pck.tbs, pck.signature) != (good.tbs, good.signature), hex(position)


def test_the_ca_in_the_place_of_the_leaf_is_refused(vectors):
    for _, ca, root in real_chains(vectors):
        for other in (ca, root):
            with pytest.raises(MalformedEvidence) as caught:
                parse_pck(other)
            assert caught.value.check is Check.TDX_PCK_FORMAT


def leaf(values=None, **fields):
    return writer.certificate(writer.extensions(list((values or writer.top()).values())), **fields)


def refused(data, match=None):
    with pytest.raises(MalformedEvidence, match=match) as caught:
        parse_pck(data)
    assert caught.value.check is Check.TDX_PCK_FORMAT


def test_a_leaf_of_the_platform_ca_is_read():
    pck = parse_pck(leaf())
    assert pck.components == tuple(range(1, 17))
    assert pck.pcesvn == 13
    assert pck.cpusvn == bytes(range(16))
    assert pck.ppid == b"P" * 16
    assert pck.platform_instance_id == b"I" * 16
    assert (pck.dynamic_platform, pck.cached_keys, pck.smt) == (True, False, True)
    assert pck.public_point == writer.POINT
    assert pck.ca is PckCa.PLATFORM


def test_a_leaf_of_the_processor_ca_names_no_platform_instance():
    pck = parse_pck(leaf(writer.top(platform=False), issuer=writer.PROCESSOR_CA))
    assert pck.ca is PckCa.PROCESSOR
    assert pck.platform_instance_id is None
    assert (pck.dynamic_platform, pck.cached_keys, pck.smt) == (None, None, None)


def test_the_order_inside_of_the_extension_does_not_matter():
    good = parse_pck(leaf())
    rng = random.Random(1)
    for _ in range(20):
        tcb = writer.tcb()
        rng.shuffle(tcb)
        pairs = list(writer.top(tcb).items())
        rng.shuffle(pairs)
        parts = writer.extensions([value for _, value in pairs])
        rng.shuffle(parts)
        pck = parse_pck(writer.certificate(parts))
        assert (pck.components, pck.cpusvn, pck.pcesvn, pck.fmspc) == (
            good.components,
            good.cpusvn,
            good.pcesvn,
            good.fmspc,
        )


def test_another_subject_is_kept_for_the_verifier_to_judge():
    assert parse_pck(leaf(subject="Intel SGX Something")).subject_cn == "Intel SGX Something"


@pytest.mark.parametrize("number", range(1, 7))
def test_a_missing_field_is_refused(number):
    values = writer.top()
    del values[number]
    refused(leaf(values), "missing|no platform instance id")


@pytest.mark.parametrize("number", range(1, 19))
def test_a_missing_component_is_refused(number):
    tcb = writer.tcb()
    del tcb[number - 1]
    refused(leaf(writer.top(tcb)), "missing")


@pytest.mark.parametrize("number", range(1, 8))
def test_a_field_that_stands_twice_is_refused(number):
    values = writer.top()
    refused(leaf(values | {99: values[number]}), "twice")


@pytest.mark.parametrize("number", range(1, 18))
def test_a_component_that_stands_twice_is_refused(number):
    tcb = writer.tcb()
    tcb[17] = tcb[number - 1]
    refused(leaf(writer.top(tcb)), "twice")


def test_intels_extension_twice_or_never_is_refused():
    parts = writer.extensions(list(writer.top().values()))
    refused(writer.certificate([*parts, parts[-1]]), "twice")
    refused(writer.certificate(parts[:-1]), "missing")


@pytest.mark.parametrize(
    ("number", "svn", "message"),
    [
        (1, 256, "0 to 255"),
        (16, -1, "0 to 255"),
        (17, 0x10000, "0 to 65535"),
        (17, -1, "0 to 65535"),
    ],
)
def test_an_svn_out_of_its_range_is_refused(number, svn, message):
    refused(leaf(writer.top(writer.tcb({number: writer.integer(svn)}))), message)


def test_the_largest_svns_are_read():
    tcb = writer.tcb({3: writer.integer(255), 17: writer.integer(0xFFFF)})
    pck = parse_pck(leaf(writer.top(tcb)))
    assert pck.components[2] == 255
    assert pck.pcesvn == 0xFFFF


@pytest.mark.parametrize(
    ("number", "value", "message"),
    [
        (1, writer.tlv(4, bytes(15)), "16 bytes wanted"),
        (1, writer.tlv(2, bytes(16)), "tag"),
        (3, writer.tlv(4, bytes(3)), "2 bytes wanted"),
        (4, writer.tlv(4, bytes(5)), "6 bytes wanted"),
        (5, writer.tlv(0x0A, b"\x03"), "unknown"),
        (5, writer.tlv(0x0A, b""), "empty"),
        (5, writer.integer(1), "tag"),
        (6, writer.tlv(4, bytes(17)), "16 bytes wanted"),
        (7, writer.tlv(0x30, writer.pair((7, 1), writer.tlv(1, b"\x01"))), "neither 00 nor FF"),
        (7, writer.tlv(0x30, writer.pair((7, 1), writer.integer(1))), "tag"),
        (7, writer.tlv(0x30, writer.pair((7, 4), writer.tlv(1, b"\xff"))), "no place"),
        (7, writer.tlv(0x30, *[writer.pair((7, 1), writer.tlv(1, b"\xff"))] * 2), "twice"),
        (2, writer.tlv(0x30, writer.pair((3,), writer.tlv(4, b"\0\0"))), "no place"),
        (2, writer.tlv(4, b""), "tag"),
    ],
)
def test_a_value_of_another_form_is_refused(number, value, message):
    values = writer.top()
    values[number] = writer.pair((number,), value)
    refused(leaf(values), message)


def test_a_field_that_no_profile_knows_is_refused():
    values = writer.top()
    refused(leaf(values | {8: writer.pair((8,), writer.integer(1))}), "no place")


def test_a_configuration_may_leave_flags_out():
    values = writer.top()
    values[7] = writer.pair((7,), writer.tlv(0x30, writer.pair((7, 3), writer.tlv(1, b"\xff"))))
    pck = parse_pck(leaf(values))
    assert (pck.dynamic_platform, pck.cached_keys, pck.smt) == (None, None, True)


@pytest.mark.parametrize("number", [6, 7])
def test_a_platform_instance_from_the_processor_ca_is_refused(number):
    values = writer.top(platform=False)
    values[number] = writer.top()[number]
    refused(leaf(values, issuer=writer.PROCESSOR_CA), "never writes")


def test_another_issuer_is_refused():
    refused(leaf(issuer="Intel SGX Root CA"), "neither")


def test_an_int_of_more_bytes_than_it_needs_is_refused():
    tcb = writer.tcb({1: writer.tlv(2, b"\x00\x01")})
    refused(leaf(writer.top(tcb)), "not minimal")


def test_a_length_of_more_bytes_than_it_needs_is_refused():
    values = writer.top()
    values[3] = b"\x30\x81" + values[3][1:]
    refused(leaf(values), "not minimal")


@pytest.mark.parametrize(
    ("replaced", "message"),
    [
        ({0: None}, "missing"),
        ({1: None}, "missing"),
        ({0: writer.extension("551d0f", writer.tlv(3, b"\x01\x06"), critical=True)}, "signing data"),
        ({0: writer.extension("551d0f", writer.tlv(3, b"\x08\x80"), critical=True)}, "signing data"),
        ({1: writer.extension("551d13", writer.tlv(0x30, writer.tlv(1, b"\xff")), critical=True)}, "leaf"),
        ({3: writer.extension("551d20", b"\x05\0", critical=True)}, "unknown critical"),
    ],
)
def test_the_usage_of_anything_but_a_leaf_is_refused(replaced, message):
    parts = dict(enumerate(writer.extensions(list(writer.top().values())))) | replaced
    refused(writer.certificate([part for part in parts.values() if part]), message)


@pytest.mark.parametrize("serial", [0, -5, 1 << 160])
def test_a_serial_that_no_ca_may_give_is_refused(serial):
    refused(leaf(serial=serial), "serial")


def test_another_algorithm_or_key_is_refused():
    refused(leaf(algorithm=bytes.fromhex("300a06082a8648ce3d040303")), "ECDSA with SHA-256")
    p384 = bytes.fromhex("3076301006072a8648ce3d020106052b8104002203620004") + bytes(96)
    refused(leaf(spki=p384), "P-256")
    compressed = bytes.fromhex("3039301306072a8648ce3d020106082a8648ce3d030107032200") + b"\x02" + writer.POINT[:32]
    refused(leaf(spki=compressed), "P-256")


def test_truncation_at_each_length_is_malformed():
    data = leaf()
    for length in range(len(data)):
        refused(data[:length])
    refused(data + b"\0", "behind")


def test_an_oversized_leaf_is_refused_unread():
    refused(b"\x30" + bytes(MAX_SIZE), "larger")


@settings(max_examples=200)
@given(st.binary(max_size=400))
def test_any_bytes_give_a_clear_error_that_names_its_check(data):
    refused(data)


@settings(max_examples=300)
@given(st.integers(0, 900), st.binary(min_size=1, max_size=6))
def test_any_bytes_spliced_into_a_leaf_give_a_value_or_a_clear_error(position, splice):
    data = bytearray(leaf())
    data[position : position + len(splice)] = splice
    with contextlib.suppress(MalformedEvidence):
        parse_pck(bytes(data))
