"""The binding statement: one encoding, every rule, and what the hardware signs of it."""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import fields, replace

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dokimos.errors import MalformedEvidence
from dokimos.evidence.statement import (
    MAX_LIFETIME,
    PROFILE_OHTTP,
    ROLE_GATEWAY,
    Statement,
    epoch_marker,
    gpu_nonce,
    parse_statement,
    report_data,
)

_DIGEST = st.binary(min_size=32, max_size=32)
_NAME = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=64)


@st.composite
def statements(draw):
    start = draw(st.integers(0, 1 << 33))
    nonce = draw(st.none() | _DIGEST)
    return Statement(
        profile=draw(_NAME),
        role=draw(_NAME),
        key_configs_sha256=draw(_DIGEST),
        tls_spki_sha256=draw(st.none() | _DIGEST),
        nonce=nonce,
        epoch=draw(st.binary(min_size=40, max_size=40) if nonce is None else st.none()),
        not_before=start,
        expiry=start + draw(st.integers(1, MAX_LIFETIME)),
        gpu_digest=draw(st.none() | _DIGEST),
        runtime_config_sha256=draw(_DIGEST),
        image_sha256=draw(_DIGEST),
    )


_GOOD = Statement(
    profile=PROFILE_OHTTP,
    role=ROLE_GATEWAY,
    key_configs_sha256=bytes([3]) * 32,
    tls_spki_sha256=None,
    nonce=bytes([5]) * 32,
    epoch=None,
    not_before=1_800_000_000,
    expiry=1_800_000_600,
    gpu_digest=None,
    runtime_config_sha256=bytes([10]) * 32,
    image_sha256=bytes([11]) * 32,
)


@given(statements())
def test_a_statement_comes_back_as_it_was_written_and_as_the_peer_reads_it(statement):
    encoded = statement.to_cbor()
    assert parse_statement(encoded) == statement
    values = [getattr(statement, field.name) for field in fields(statement)]
    assert cbor2.loads(encoded) == dict(enumerate(values, 1))


def test_what_the_hardware_signs_is_the_tagged_hash_of_the_exact_bytes():
    encoded = _GOOD.to_cbor()
    assert report_data(encoded) == hashlib.sha512(b"dokimos/report-data/v1\x00" + encoded).digest()


def test_the_nonce_of_the_gpus_covers_all_but_their_own_digest():
    assert gpu_nonce(_GOOD) == gpu_nonce(replace(_GOOD, gpu_digest=bytes(32)))
    assert gpu_nonce(_GOOD) == hashlib.sha256(b"dokimos/gpu-nonce/v1\x00" + _GOOD.to_cbor()).digest()
    assert gpu_nonce(_GOOD) != gpu_nonce(replace(_GOOD, nonce=bytes(32)))


@pytest.mark.parametrize(
    "change",
    [
        {"nonce": None},
        {"nonce": bytes(31)},
        {"epoch": bytes(39)},
        {"profile": ""},
        {"profile": "a" * 129},
        {"profile": "a\n"},
        {"role": "é"},
        {"key_configs_sha256": None},
        {"key_configs_sha256": bytes(33)},
        {"tls_spki_sha256": b""},
        {"gpu_digest": bytes(64)},
        {"runtime_config_sha256": "00" * 32},
        {"image_sha256": bytearray(32)},
        {"not_before": -1},
        {"not_before": True},
        {"expiry": 1_800_000_000},
        {"expiry": 1_800_000_000 + MAX_LIFETIME + 1},
        {"expiry": 1 << 63},
    ],
)
def test_a_statement_that_breaks_a_rule_cannot_be_made(change):
    with pytest.raises(MalformedEvidence):
        replace(_GOOD, **change)


def _encoded(change) -> bytes:
    values = dict(enumerate((getattr(_GOOD, field.name) for field in fields(_GOOD)), 1))
    values.update(change)
    return cbor2.dumps({key: value for key, value in values.items() if value != "gone"}, canonical=True)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xa0",
        b"\x80",
        _encoded({12: 1}),
        _encoded({0: 1}),
        _encoded({11: "gone"}),
        _encoded({5: None}),
        _encoded({7: 1.5}),
        _encoded({7: -1}),
        _encoded({7: 1 << 70}),
        _encoded({1: b"bytes"}),
        _encoded({2: ["list"]}),
        _encoded({9: True}),
        _GOOD.to_cbor() + b"\x00",
        bytes(2000),
        b"\xbf" + _GOOD.to_cbor()[1:] + b"\xff",
        b"\xc0" + _GOOD.to_cbor(),
        b"\xb8\x0b" + _GOOD.to_cbor()[1:],
        _GOOD.to_cbor().replace(b"\x07\x1a", b"\x07\x1b\x00\x00\x00\x00"),
        b"\x81" * 900,
    ],
)
def test_any_other_encoding_or_content_is_malformed(data):
    with pytest.raises(MalformedEvidence):
        parse_statement(data)


def test_truncation_at_each_length_is_malformed():
    encoded = _GOOD.to_cbor()
    for length in range(len(encoded)):
        with pytest.raises(MalformedEvidence):
            parse_statement(encoded[:length])


def test_one_flipped_bit_anywhere_is_malformed_or_another_statement_with_another_report_data():
    encoded = _GOOD.to_cbor()
    for position in range(len(encoded) * 8):
        changed = bytearray(encoded)
        changed[position // 8] ^= 1 << position % 8
        assert report_data(bytes(changed)) != report_data(encoded)
        with contextlib.suppress(MalformedEvidence):
            assert parse_statement(bytes(changed)) != _GOOD


@given(st.binary(max_size=400))
def test_any_bytes_give_a_clear_error(data):
    with contextlib.suppress(MalformedEvidence):
        assert parse_statement(data).to_cbor() == data


def test_an_epoch_marker_is_a_hash_and_a_size():
    assert epoch_marker(bytes([1]) * 32, 256) == bytes([1]) * 32 + (256).to_bytes(8, "big")
    for arguments in ((bytes(31), 0), (bytes(32), -1), (bytes(32), 1 << 64)):
        with pytest.raises(MalformedEvidence):
            epoch_marker(*arguments)
