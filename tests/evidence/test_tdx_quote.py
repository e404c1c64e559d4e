"""The quote parser: every field of every real quote, each malformed form by name, totality."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import struct

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from hypothesis import given
from hypothesis import strategies as st

from dokimos.errors import Check, MalformedEvidence, UnsupportedEvidence
from dokimos.evidence.tdx import (
    INTEL_QE_VENDOR,
    QUOTE_MAX,
    BodyType,
    CertificationType,
    TdAttributes,
    Xfam,
    parse_quote,
    parse_td_body,
)

BODY = {BodyType.TD10: 584, BodyType.TD15: 648}


def header(version: int = 4, key_type: int = 2, tee_type: int = 0x81) -> bytes:
    """48 bytes of header."""
    return struct.pack("<HHIHH16s20s", version, key_type, tee_type, 0, 0, INTEL_QE_VENDOR, bytes(range(20)))


def descriptor(number: int, size: int) -> bytes:
    """What version 5 puts in front of the body."""
    return struct.pack("<HI", number, size)


def body(body_type: BodyType) -> bytes:
    """A body whose every byte differs from its neighbours."""
    return bytes(n % 251 for n in range(BODY[body_type]))


def certified(auth_data: bytes = bytes(32), inner: int = 5, chain: bytes = b"PEM\n\0", announced: int = -1) -> bytes:
    """The quoting enclave's report with what certifies it."""
    return (
        bytes(n % 241 for n in range(384))
        + b"Q" * 64
        + struct.pack("<H", len(auth_data) if announced < 0 else announced)
        + auth_data
        + struct.pack("<HI", inner, len(chain))
        + chain
    )


def auth(certification: bytes, outer: int = 6, announced: int = -1) -> bytes:
    """The signature data without its length."""
    size = len(certification) if announced < 0 else announced
    return b"S" * 64 + b"K" * 64 + struct.pack("<HI", outer, size) + certification


def quote(
    body_type: BodyType = BodyType.TD10, version: int = 4, signature_data: bytes | None = None, tail: bytes = b""
) -> bytes:
    """A quote of right form, or with another signature data."""
    front = header(version) + (descriptor(body_type, BODY[body_type]) if version == 5 else b"") + body(body_type)
    signature_data = auth(certified()) if signature_data is None else signature_data
    return front + struct.pack("<I", len(signature_data)) + signature_data + tail


FORMS = [(BodyType.TD10, 4), (BodyType.TD10, 5), (BodyType.TD15, 5)]


def refuse(data: bytes, text: str) -> None:
    """The data is malformed, with the format's check id and this text."""
    with pytest.raises(MalformedEvidence, match=text) as caught:
        parse_quote(data)
    assert caught.value.check is Check.TDX_QUOTE_FORMAT


def real_quotes(vectors):
    """Every real TDX quote with what its manifest says."""
    for name in (
        "tdx_v4_uptodate_b0c0",
        "tdx_v5_td15_uptodate_90c0",
        "tdx_v4_debug_td_5080",
        "ccel_direct_boot_live2",
    ):
        found = vectors(f"tdx/{name}")
        yield name, found.bytes("quote.bin"), found.manifest["expected"]["quote"]
    found = vectors("tdx/sigonly_quotes")
    for case in found.manifest["expected"]["cases"]:
        if "quote" in case:
            data = found.bytes(case["files"]["quote"])
            yield case["id"], bytes.fromhex(data.decode()[2:]) if data[:2] == b"0x" else data, case["quote"]
    found = vectors("tdx/az_tdx_evidence")
    cases = {case["id"]: case["td_quote"] for case in found.manifest["expected"]["cases"] if "td_quote" in case}
    live = json.loads(found.bytes("live-evidence.json"))["td_quote"]
    yield "az evidence-v1", found.bytes("td-quote.bin"), cases["evidence-v1"]
    yield "az live", base64.urlsafe_b64decode(live + "=" * (-len(live) % 4)), cases["live-evidence"]


def test_every_field_of_every_real_quote_is_what_its_manifest_says(vectors):
    seen = 0
    for name, data, expected in real_quotes(vectors):
        parsed = parse_quote(data)
        body = parsed.body
        assert len(data) == expected["quote_size"], name
        assert parsed.version == expected["quote_version"]
        assert parsed.body_type == expected.get("body_type", BodyType.TD10)
        assert parsed.qe_vendor_id == INTEL_QE_VENDOR
        assert parsed.trailing == expected["trailing_bytes"]
        assert parsed.raw == data[: len(data) - parsed.trailing]
        assert parsed.signed == data[: expected["signed_size"]]
        for field, key in {
            "tee_tcb_svn": "tee_tcb_svn",
            "mrseam": "mr_seam",
            "mrsignerseam": "mr_signer_seam",
            "mrtd": "mr_td",
            "mrconfigid": "mr_config_id",
            "mrowner": "mr_owner",
            "mrownerconfig": "mr_owner_config",
            "report_data": "report_data",
        }.items():
            assert getattr(body, field).hex() == expected[key], (name, field)
        assert [rtmr.hex() for rtmr in body.rtmrs] == expected["rtmr"]
        assert body.td_attributes == int.from_bytes(bytes.fromhex(expected["td_attributes"]), "little")
        assert body.xfam == int.from_bytes(bytes.fromhex(expected["xfam"]), "little")
        assert body.td_attributes.debug is expected["debug"]
        assert not any(body.seamattributes)
        assert body.td_attributes.unknown == body.xfam.unknown == 0
        for second, key in ((body.tee_tcb_svn2, "tee_tcb_svn_2"), (body.mr_servicetd, "mr_service_td")):
            assert (second.hex() if second is not None else None) == expected.get(key)
        seen += 1
    assert seen == 10


def test_real_signatures_are_over_the_parts_that_the_parser_cuts_out(vectors):
    for name, data, _ in real_quotes(vectors):
        parsed = parse_quote(data)
        key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\x04" + parsed.attestation_key)
        r, s = (int.from_bytes(parsed.signature[at : at + 32], "big") for at in (0, 32))
        key.verify(encode_dss_signature(r, s), parsed.signed, ec.ECDSA(SHA256()))
        bound = hashlib.sha256(parsed.attestation_key + parsed.qe_auth_data).digest() + bytes(32)
        assert parsed.qe_report.report_data == bound, name
        assert parsed.qe_report.raw[320:] == bound
        assert parsed.qe_report.mrsigner.hex() == "dc9e2a7c6f948f17474e34a7fc43ed030f7c1563f1babddf6340c82e0e54a8c5"
        assert parsed.qe_report.isvprodid == 2
        assert parsed.qe_report.isvsvn >= 3
        assert parsed.certification.type == CertificationType.PCK_CHAIN
        assert parsed.certification.data.count(b"-----BEGIN CERTIFICATE-----") == 3
        assert parsed.raw.endswith(parsed.certification.data), "the NUL behind the chain is lost"


def test_the_body_alone_reads_as_in_the_quote(vectors):
    for _, data, _ in real_quotes(vectors):
        parsed = parse_quote(data)
        assert parse_td_body(parsed.body.raw, parsed.body_type) == parsed.body


def test_a_real_sgx_quote_is_refused_as_the_wrong_tee(vectors):
    with pytest.raises(UnsupportedEvidence, match="SGX enclave, not of a TDX trust domain") as caught:
        parse_quote(vectors("tdx/sgx_v3_confswhardening_00a0").bytes("quote.bin"))
    assert caught.value.check is Check.TDX_QUOTE_TEE_TYPE


def test_each_truncation_of_a_real_quote_is_malformed_or_in_the_trailing_bytes(vectors):
    for _, data, _ in real_quotes(vectors):
        size = len(parse_quote(data).raw)
        for length in range(size):
            with pytest.raises(MalformedEvidence):
                parse_quote(data[:length])
        for length in range(size, len(data), 97):
            assert parse_quote(data[:length]).trailing == length - size


def test_no_bit_flip_of_a_real_quote_goes_unnoticed_in_the_bytes_kept(vectors):
    data = vectors("tdx/tdx_v5_td15_uptodate_90c0").bytes("quote.bin")
    changed = bytearray(data)
    refused = 0
    for bit in range(8 * len(data)):
        changed[bit // 8] ^= 1 << bit % 8
        try:
            assert parse_quote(bytes(changed)).raw != data
        except (MalformedEvidence, UnsupportedEvidence):
            refused += 1
        changed[bit // 8] ^= 1 << bit % 8
    assert refused > 8 * 20


@pytest.mark.parametrize(("body_type", "version"), FORMS)
def test_each_form_reads_back_what_was_written(body_type, version):
    parsed = parse_quote(quote(body_type, version))
    assert (parsed.version, parsed.body_type, parsed.trailing) == (version, body_type, 0)
    assert parsed.user_data == bytes(range(20))
    assert parsed.body.raw == body(body_type)
    assert parsed.signed == quote(body_type, version)[: 48 + (6 if version == 5 else 0) + BODY[body_type]]
    assert (parsed.signature, parsed.attestation_key, parsed.qe_report_signature) == (b"S" * 64, b"K" * 64, b"Q" * 64)
    assert parsed.certification.data == b"PEM\n\0"
    assert (parsed.body.tee_tcb_svn2 is None) is (body_type is BodyType.TD10)
    if body_type is BodyType.TD15:
        assert (parsed.body.tee_tcb_svn2, parsed.body.mr_servicetd) == (body(body_type)[584:600], body(body_type)[600:])
    report = bytes(n % 241 for n in range(384))
    qe = parsed.qe_report
    assert (qe.cpusvn, qe.miscselect, qe.attributes) == (report[:16], report[16:20], report[48:64])
    assert (qe.mrenclave, qe.mrsigner, qe.report_data) == (report[64:96], report[128:160], report[320:])
    assert (qe.isvprodid, qe.isvsvn) == struct.unpack("<HH", report[256:260])


@pytest.mark.parametrize(("body_type", "version"), FORMS)
def test_each_truncation_of_each_form_is_malformed(body_type, version):
    data = quote(body_type, version)
    for length in range(len(data)):
        with pytest.raises(MalformedEvidence) as caught:
            parse_quote(data[:length])
        assert caught.value.check is Check.TDX_QUOTE_FORMAT


@given(st.binary(max_size=4000))
def test_bytes_behind_the_signature_data_are_counted_and_not_kept(tail):
    parsed = parse_quote(quote(tail=tail))
    assert parsed.trailing == len(tail)
    assert parsed.raw == quote()


@pytest.mark.parametrize("size", [0, 1, 31, 32, 33, 1000, 0xDFFF])
def test_authentication_data_may_have_any_length(size):
    parsed = parse_quote(quote(signature_data=auth(certified(b"A" * size))))
    assert parsed.qe_auth_data == b"A" * size
    assert parsed.certification.data == b"PEM\n\0"


def test_a_quote_that_is_too_long_is_malformed():
    assert parse_quote(quote().ljust(QUOTE_MAX, b"\0")).raw == quote()
    refuse(quote().ljust(QUOTE_MAX + 1, b"\0"), "more than 65536")


@pytest.mark.parametrize("inner", [1, 2, 3, 4, 5, 7])
def test_each_certification_type_that_may_stand_inside_is_kept(inner):
    parsed = parse_quote(quote(signature_data=auth(certified(inner=inner, chain=b"x" * 404))))
    assert parsed.certification.type == inner
    assert parsed.certification.data == b"x" * 404


@pytest.mark.parametrize("inner", [0, 6, 8, 0xFFFF])
def test_another_certification_type_inside_is_malformed(inner):
    refuse(quote(signature_data=auth(certified(inner=inner))), f"inner certification data of type {inner};")


@pytest.mark.parametrize("outer", [0, 1, 2, 3, 4, 5, 7, 0xFFFF])
def test_an_outer_certification_type_other_than_6_is_malformed(outer):
    refuse(quote(signature_data=auth(certified(), outer)), f"of type {outer}; 6")
    refuse(quote(signature_data=auth(b"PEM", outer)), f"of type {outer}; 6")


@pytest.mark.parametrize(
    ("signature_data", "text"),
    [
        (b"", "134 bytes of signature data wanted, 0 announced"),
        (bytes(133), "134 bytes of signature data wanted, 133 announced"),
        (auth(b""), "450 bytes for the quoting enclave's report wanted, 0 there"),
        (auth(bytes(449)), "450 bytes for the quoting enclave's report wanted, 449 there"),
        (auth(certified(), announced=len(certified()) - 1), "bytes of certification data announced"),
        (auth(certified(), announced=len(certified()) + 1), "bytes of certification data announced"),
        (auth(certified()) + b"\0", "bytes of certification data announced"),
        (auth(certified() + b"\0"), "5 bytes of inner certification data announced, 6 there"),
        (auth(certified()[:-1]), "5 bytes of inner certification data announced, 4 there"),
        (auth(certified(announced=0xFFFF)), "65535 bytes of authentication data leave no room"),
        (auth(certified(announced=38)), "38 bytes of authentication data leave no room"),
    ],
)
def test_lengths_inside_the_signature_data_that_do_not_add_up_are_malformed(signature_data, text):
    refuse(quote(signature_data=signature_data), text)


@pytest.mark.parametrize("more", [1, 0x7FFFFFFF, 0xFFFFFFFF])
def test_signature_data_longer_than_the_quote_is_malformed(more):
    data = bytearray(quote())
    size = struct.unpack_from("<I", data, 632)[0]
    struct.pack_into("<I", data, 632, min(size + more, 0xFFFFFFFF))
    refuse(bytes(data), "bytes of signature data announced")


@pytest.mark.parametrize("version", [0, 1, 2, 6, 0xFFFF])
def test_another_version_is_unsupported(version):
    with pytest.raises(UnsupportedEvidence, match=f"version {version};") as caught:
        parse_quote(header(version) + quote()[48:])
    assert caught.value.check is Check.TDX_QUOTE_VERSION


@pytest.mark.parametrize(
    ("version", "tee_type", "text"),
    [
        (3, 0, "SGX"),
        (3, 0x81, "SGX"),
        (4, 0, "SGX"),
        (5, 0, "SGX"),
        (4, 1, "TEE type 0x1"),
        (5, 0x8100, "TEE type 0x81"),
    ],
)
def test_a_quote_of_another_tee_is_unsupported_by_name(version, tee_type, text):
    with pytest.raises(UnsupportedEvidence, match=text) as caught:
        parse_quote(header(version, tee_type=tee_type) + quote()[48:])
    assert caught.value.check is Check.TDX_QUOTE_TEE_TYPE


@pytest.mark.parametrize(("key_type", "text"), [(0, "EPID"), (1, "EPID"), (3, "ECDSA P-384"), (4, "unknown")])
def test_another_attestation_key_type_is_unsupported_by_name(key_type, text):
    with pytest.raises(UnsupportedEvidence, match=text) as caught:
        parse_quote(header(key_type=key_type) + quote()[48:])
    assert caught.value.check is Check.TDX_QUOTE_KEY_TYPE


@pytest.mark.parametrize(("number", "text"), [(0, "unknown"), (1, "SGX enclave"), (4, "1.5, extended"), (5, "unknown")])
def test_another_body_type_is_unsupported_by_name(number, text):
    data = header(5) + descriptor(number, 584) + quote()[48:]
    with pytest.raises(UnsupportedEvidence, match=f"body type {number} .*{text}") as caught:
        parse_quote(data)
    assert caught.value.check is Check.TDX_QUOTE_BODY_TYPE


@pytest.mark.parametrize(("number", "size"), [(2, 648), (3, 584), (2, 583), (3, 649), (2, 0), (3, 0xFFFFFFFF)])
def test_a_body_whose_type_and_size_disagree_is_malformed(number, size):
    refuse(header(5) + descriptor(number, size) + bytes(2000), f"body type {number} has")


@pytest.mark.parametrize("body_type", BodyType)
@pytest.mark.parametrize("off", [-1, 1])
def test_a_body_of_another_size_is_malformed(body_type, off):
    with pytest.raises(MalformedEvidence) as caught:
        parse_td_body(bytes(BODY[body_type] + off), body_type)
    assert caught.value.check is Check.TDX_QUOTE_FORMAT


@given(st.binary(max_size=2000))
def test_any_bytes_are_a_quote_or_one_of_our_errors(data):
    for front in (b"", header(4), header(5), header(5) + descriptor(3, 648), quote()[:700]):
        with contextlib.suppress(MalformedEvidence, UnsupportedEvidence):
            assert (front + data).startswith(parse_quote(front + data).raw)


@given(st.sampled_from(FORMS), st.data())
def test_any_change_gives_a_quote_or_one_of_our_errors(form, data):
    raw = bytearray(quote(*form, tail=bytes(50)))
    at = data.draw(st.integers(0, len(raw) - 1))
    new = data.draw(st.binary(min_size=1, max_size=8))
    raw[at : at + len(new)] = new
    with contextlib.suppress(MalformedEvidence, UnsupportedEvidence):
        parsed = parse_quote(bytes(raw))
        assert parsed.raw == raw[: len(raw) - parsed.trailing]


@pytest.mark.parametrize("kind", [TdAttributes, Xfam])
@given(value=st.integers(0, 2**64 - 1))
def test_all_bits_are_accounted_for(kind, value):
    bits = kind(value)
    named = sum(1 << kind.names()[name] for name in bits.set_names)
    assert named | bits.unknown == value
    assert named & bits.unknown == 0


def test_each_named_attribute_has_a_property_that_reads_its_bit_and_no_other():
    for name, bit in TdAttributes.names().items():
        assert getattr(TdAttributes(1 << bit), name) is True
        assert getattr(TdAttributes(~(1 << bit) & 2**64 - 1), name) is False


def test_debug_and_profiling_groups_hold_their_reserved_bits_too():
    assert TdAttributes(0x8).under_debug == 0x8
    assert TdAttributes(0x8000).under_profiling == 0x8000
    assert TdAttributes(2**64 - 1).under_debug | TdAttributes(2**64 - 1).under_profiling == 0xFFFF
    assert TdAttributes(0x0044_0000).ignorable == 0x0044_0000
    assert TdAttributes(0x0781_000E).ignorable == 0
    assert TdAttributes(0x1000_0000).set_names == ("sept_ve_disable",)
    assert Xfam(0x6DBE7).unknown == 0
    assert Xfam(0x10).unknown == 0x10
