"""The evidence bundle as a CMW collection: round trips, bounds, and every second way to say the same is refused."""

from __future__ import annotations

import base64
import contextlib
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dokimos.errors import MalformedEvidence
from dokimos.evidence.bundle import (
    MAX_CAS,
    MAX_CRLS,
    MAX_SIZE,
    PROFILE,
    Bundle,
    SnpEvidence,
    TdxEvidence,
    encode_bundle,
    parse_bundle,
)

_GOOD = Bundle(
    cpu=SnpEvidence(report=bytes(1184), vek=b"leaf", cas=(b"ask", b"ark"), crls=(b"crl",)),
    statement=b"statement",
    key_configs=b"keys",
)


@given(
    st.builds(
        Bundle,
        cpu=st.builds(
            SnpEvidence,
            report=st.binary(min_size=1, max_size=1184),
            vek=st.binary(min_size=1, max_size=50),
            cas=st.lists(st.binary(min_size=1, max_size=20), max_size=MAX_CAS).map(tuple),
            crls=st.lists(st.binary(min_size=1, max_size=20), max_size=MAX_CRLS).map(tuple),
        )
        | st.builds(
            TdxEvidence,
            quote=st.binary(min_size=1, max_size=2000),
            collateral=st.binary(min_size=1, max_size=50),
            event_log=st.none() | st.binary(min_size=1, max_size=50),
        ),
        statement=st.binary(min_size=1, max_size=50),
        key_configs=st.binary(min_size=1, max_size=50),
    )
)
def test_a_bundle_comes_back_as_it_was_written(bundle):
    encoded = encode_bundle(bundle)
    assert parse_bundle(encoded) == bundle
    assert encode_bundle(parse_bundle(encoded)) == encoded


def test_a_bundle_is_a_cmw_collection_of_records():
    document = json.loads(encode_bundle(_GOOD))
    assert document["__cmwc_t"] == PROFILE
    assert document["cpu"] == [
        "application/vnd.dokimos.snp-report",
        base64.urlsafe_b64encode(bytes(1184)).decode().rstrip("="),
        4,
    ]
    assert document["endorsements"]["vek"][::2] == ["application/pkix-cert", 2]
    assert set(document["endorsements"]) == {"vek", "ca/0", "ca/1", "crl/0"}


def _changed(change) -> bytes:
    document = json.loads(encode_bundle(_GOOD))
    change(document)
    return json.dumps(document).encode()


def _set(*path_and_value):
    *path, last, value = path_and_value

    def change(document):
        for step in path:
            document = document[step]
        if value is None:
            del document[last]
        else:
            document[last] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        _set("__cmwc_t", None),
        _set("__cmwc_t", "urn:other"),
        _set("cpu", None),
        _set("statement", None),
        _set("key_configs", None),
        _set("endorsements", None),
        _set("endorsements", "vek", None),
        _set("endorsements", []),
        _set("more", ["text/plain", "AA", 4]),
        _set("endorsements", "more", ["text/plain", "AA", 4]),
        _set("endorsements", "ca/0", None),
        _set("endorsements", "ca/3", ["application/pkix-cert", "AA", 2]),
        _set("endorsements", "crl/4", ["application/pkix-crl", "AA", 2]),
        _set("cpu", 0, "text/plain"),
        _set("cpu", 2, 2),
        _set("cpu", 2, True),
        _set("cpu", 2, "4"),
        _set("cpu", ["application/vnd.dokimos.snp-report", "AA"]),
        _set("cpu", {}),
        _set("statement", 1, ""),
        _set("statement", 1, "AA=="),
        _set("statement", 1, "A"),
        _set("statement", 1, "AB"),
        _set("statement", 1, "A+"),
        _set("statement", 1, " AA"),
        _set("statement", 1, 5),
        _set("statement", 1, "A" * 4000),
        _set("cpu", 1, "A" * 1600),
    ],
)
def test_anything_missing_unknown_doubled_or_otherwise_written_is_malformed(change):
    with pytest.raises(MalformedEvidence):
        parse_bundle(_changed(change))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b"\xff",
        b"{" * 100_000,
        b"[" * 100_000,
        b'{"a": NaN}',
        b'{"a": 1.5}',
        b'{"a": ' + b"9" * 100_000 + b"}",
        bytes(MAX_SIZE + 1),
        encode_bundle(_GOOD)[:-1] + b',"cpu":1}',
        encode_bundle(_GOOD) + b"x",
    ],
)
def test_what_is_no_such_document_is_malformed(data):
    with pytest.raises(MalformedEvidence):
        parse_bundle(data)


def test_truncation_at_each_length_is_malformed():
    encoded = encode_bundle(_GOOD)
    for length in range(len(encoded)):
        with pytest.raises(MalformedEvidence):
            parse_bundle(encoded[:length])


def test_one_flipped_bit_anywhere_is_malformed_or_another_bundle():
    encoded = encode_bundle(_GOOD)
    for position in range(len(encoded)):
        changed = bytearray(encoded)
        changed[position] ^= 1 << position % 7
        with contextlib.suppress(MalformedEvidence):
            assert parse_bundle(bytes(changed)) != _GOOD


def test_too_many_or_too_large_parts_cannot_be_written():
    for change in (
        {"cpu": replace(_GOOD.cpu, cas=(b"x",) * (MAX_CAS + 1))},
        {"cpu": replace(_GOOD.cpu, crls=(b"x",) * (MAX_CRLS + 1))},
        {"cpu": replace(_GOOD.cpu, vek=b"")},
        {"cpu": replace(_GOOD.cpu, report=bytes(1185))},
        {"cpu": TdxEvidence(quote=bytes(0x10001), collateral=b"c")},
        {"cpu": TdxEvidence(quote=b"q", collateral=b"")},
        {"cpu": TdxEvidence(quote=b"q", collateral=b"c", event_log=b"")},
        {"statement": bytes(5000)},
    ):
        with pytest.raises(MalformedEvidence):
            encode_bundle(replace(_GOOD, **change))
