"""The strict DER reader, with pyasn1 as the independent peer."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyasn1.codec.der import decoder, encoder
from pyasn1.error import PyAsn1Error
from pyasn1.type import char, univ, useful

from dokimos.endorsements import der
from dokimos.errors import MalformedEvidence


@given(st.integers(-(2**70), 2**70))
def test_integers_read_as_the_peer_wrote_them(value):
    tlv = der.only(encoder.encode(univ.Integer(value)), der.INTEGER, "x")
    assert der.integer(tlv.value, "x") == value


@given(st.lists(st.integers(0, 2**28 - 1), max_size=12), st.integers(0, 2), st.integers(0, 39))
def test_oids_read_as_the_peer_wrote_them(arcs, first, second):
    dotted = ".".join(map(str, [first, second, *arcs]))
    tlv = der.only(encoder.encode(univ.ObjectIdentifier(dotted)), der.OID, "x")
    if len(tlv.value) <= 64:
        assert der.oid(tlv.value, "x") == dotted


@given(st.binary(max_size=70_000))
def test_lengths_read_as_the_peer_wrote_them(content):
    encoded = encoder.encode(univ.OctetString(content))
    assert der.only(encoded, der.OCTET_STRING, "x").value == content
    assert der.children(encoded + encoded, "x") == [(0x04, content, encoded)] * 2


@given(st.binary(max_size=60))
def test_whatever_the_reader_takes_the_peer_takes_too(data):
    with contextlib.suppress(MalformedEvidence):
        tlv = der.only(data, der.INTEGER, "x")
        value = der.integer(tlv.value, "x")
        assert decoder.decode(data)[0] == value


@pytest.mark.parametrize(
    "encoded",
    ["", "02", "0201", "0280", "028100", "02810105", "02820005", "0284000000010a", "1f0100", "0202"],
    ids=[
        "empty",
        "no length",
        "cut",
        "indefinite",
        "long zero",
        "not minimal",
        "leading zero",
        "4 bytes",
        "high tag",
        "cut2",
    ],
)
def test_lengths_that_ber_allows_and_der_does_not_are_refused(encoded):
    with pytest.raises(MalformedEvidence):
        der.only(bytes.fromhex(encoded), der.INTEGER, "x")


@pytest.mark.parametrize("value", ["", "0001", "ff80", "007f"])
def test_integers_that_are_not_minimal_are_refused(value):
    with pytest.raises(MalformedEvidence):
        der.integer(bytes.fromhex(value), "x")


@pytest.mark.parametrize("value", ["", "80", "2b80", "2b8001", "2bffffffff7f", "2b" * 65])
def test_oids_that_are_cut_off_not_minimal_or_absurd_are_refused(value):
    with pytest.raises(MalformedEvidence):
        der.oid(bytes.fromhex(value), "x")


def test_trailing_bytes_other_tags_and_too_many_elements_are_refused():
    with pytest.raises(MalformedEvidence, match="behind"):
        der.only(b"\x02\x01\x00\x00", der.INTEGER, "x")
    with pytest.raises(MalformedEvidence, match="wanted"):
        der.only(b"\x04\x01\x00", der.INTEGER, "x")
    with pytest.raises(MalformedEvidence, match="more than"):
        der.children(b"\x05\x00" * 5, "x", 4)


@pytest.mark.parametrize("value", [b"", b"\x01", b"\xff\xff"])
def test_booleans_other_than_00_and_ff_are_refused(value):
    with pytest.raises(MalformedEvidence):
        der.boolean(value, "x")


def test_strings_and_bit_strings_keep_to_their_alphabet():
    utf8 = der.only(encoder.encode(char.UTF8String("é")), der.UTF8_STRING, "x")
    assert der.text(utf8, "x") == "é"
    for bad in (
        der.Tlv(der.IA5_STRING, b"\x80", b""),
        der.Tlv(der.UTF8_STRING, b"\xff", b""),
        der.Tlv(0x1E, b"ab", b""),
    ):
        with pytest.raises(MalformedEvidence):
            der.text(bad, "x")
    assert der.octets(b"\x00\x01", "x") == b"\x01"
    for bits in (b"", b"\x01\x80"):
        with pytest.raises(MalformedEvidence):
            der.octets(bits, "x")


def test_times_are_read_in_the_one_form_of_rfc_5280():
    moment = datetime(2024, 2, 29, 23, 59, 58, tzinfo=UTC)
    assert der.time(der.Tlv(der.UTC_TIME, b"240229235958Z", b""), "x") == moment
    assert der.time(der.Tlv(der.GENERALIZED_TIME, b"20240229235958Z", b""), "x") == moment
    assert der.time(der.Tlv(der.UTC_TIME, b"500101000000Z", b""), "x").year == 1950
    written = useful.UTCTime.fromDateTime(moment)
    assert der.time(der.only(encoder.encode(written), der.UTC_TIME, "x"), "x") == moment


@pytest.mark.parametrize(
    ("tag", "value"),
    [
        (der.UTC_TIME, b"2402292359Z"),
        (der.UTC_TIME, b"240229235958+0100"),
        (der.UTC_TIME, b"240230000000Z"),
        (der.UTC_TIME, b"20240229235958Z"),
        (der.GENERALIZED_TIME, b"20240229235958.5Z"),
        (der.GENERALIZED_TIME, b"00000101000000Z"),
        (der.UTC_TIME, b"24022923595\xb2Z"),
        (der.INTEGER, b"240229235958Z"),
    ],
)
def test_times_in_any_other_form_are_refused(tag, value):
    with pytest.raises(MalformedEvidence):
        der.time(der.Tlv(tag, value, b""), "x")


def test_the_peer_refuses_what_this_reader_refuses():
    """Guards the oracle itself: pyasn1 must not have become lax."""
    for bad in ("0280", "04820005"):
        with pytest.raises(PyAsn1Error):
            decoder.decode(bytes.fromhex(bad))
