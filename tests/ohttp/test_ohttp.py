"""Oblivious HTTP: appendix A of RFC 9458 byte-exact, one context for one exchange, one error for every fault."""

from __future__ import annotations

import copy
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dokimos.errors import MalformedEvidence, UnsupportedEvidence, UsageError
from dokimos.ohttp import ohttp
from dokimos.ohttp.kem import Kem, OpenError, X25519Key
from dokimos.ohttp.keys import KeyConfig, PrivateKey, generate_keys, parse_key_configs
from dokimos.ohttp.ohttp import Gateway, UnknownKey, encapsulate

# RFC 9458, appendix A.
SECRET_KEY = bytes.fromhex("3c168975674b2fa8e465970b79c8dcf09f1c741626480bd4c6162fc5b6a98e1a")
KEY_CONFIG = bytes.fromhex("01002031e1f05a740102115220e9af918f738674aec95f54db6e04eb705aae8e79815500080001000100010003")
EPHEMERAL = bytes.fromhex("bc51d5e930bda26589890ac7032f70ad12e4ecb37abb1b65b1256c9c48999c73")
REQUEST = bytes.fromhex("00034745540568747470730b6578616d706c652e636f6d012f")
ENCAPSULATED_REQUEST = bytes.fromhex(
    "010020000100014b28f881333e7c164ffc499ad9796f877f4e1051ee6d31bad19dec96c208b4726374e469135906992e1268c594d2a10c69"
    "5d858c40a026e7965e7d86b83dd440b2c0185204b4d63525"
)
RESPONSE = bytes.fromhex("0140c8")
RESPONSE_NONCE = bytes.fromhex("c789e7151fcba46158ca84b04464910d")
ENCAPSULATED_RESPONSE = bytes.fromhex("c789e7151fcba46158ca84b04464910d86f9013e404feea014e7be4a441f234f857fbd")

KEYS = generate_keys(1)
GATEWAY = Gateway(KEYS)
CONFIGS = parse_key_configs(GATEWAY.key_configs)
BOTH = pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.kem.name)


def rfc_gateway() -> Gateway:
    return Gateway([PrivateKey(X25519Key._from_bytes(SECRET_KEY), 1, ((1, 1), (1, 3)))])


def test_rfc_9458_appendix_a_comes_out_byte_exact_on_both_sides() -> None:
    gateway = rfc_gateway()
    assert gateway.key_configs == len(KEY_CONFIG).to_bytes(2) + KEY_CONFIG
    (config,) = parse_key_configs(gateway.key_configs)
    sealed, opener = encapsulate(config, REQUEST, _ephemeral=EPHEMERAL)
    assert sealed == ENCAPSULATED_REQUEST
    opened = gateway.open(sealed)
    assert (opened.request, opened.enc, opened.key_id) == (REQUEST, sealed[7:39], 1)
    assert opened.seal(RESPONSE, _nonce=RESPONSE_NONCE) == ENCAPSULATED_RESPONSE
    assert opener.open(ENCAPSULATED_RESPONSE) == RESPONSE


@BOTH
@settings(max_examples=30, deadline=None)
@given(st.binary(max_size=3000), st.binary(max_size=3000))
def test_any_request_and_answer_come_through(config: KeyConfig, request: bytes, response: bytes) -> None:
    sealed, opener = encapsulate(config, request)
    opened = GATEWAY.open(sealed)
    assert (opened.request, opened.key_id) == (request, config.key_id)
    assert len(opened.enc) == config.kem.enc_size
    assert opener.open(opened.seal(response)) == response


@BOTH
def test_two_encapsulations_of_one_request_share_nothing_but_the_header(config: KeyConfig) -> None:
    first, second = (encapsulate(config, bytes(100))[0] for _ in range(2))
    assert first[:7] == second[:7]
    assert first[7:39] != second[7:39]
    assert first[-100:] != second[-100:]


@BOTH
def test_nothing_seals_or_opens_twice(config: KeyConfig) -> None:
    sealed, opener = encapsulate(config, b"q")
    opened = GATEWAY.open(sealed)
    answer = opened.seal(b"a")
    with pytest.raises(UsageError):
        opened.seal(b"a")
    assert opener.open(answer) == b"a"
    with pytest.raises(UsageError):
        opener.open(answer)


@BOTH
def test_an_opener_is_spent_by_a_forged_answer_too(config: KeyConfig) -> None:
    sealed, opener = encapsulate(config, b"q")
    answer = GATEWAY.open(sealed).seal(b"a")
    with pytest.raises(OpenError):
        opener.open(answer[:-1])
    with pytest.raises(UsageError):
        opener.open(answer)


@BOTH
def test_an_answer_to_another_request_does_not_open(config: KeyConfig) -> None:
    _, opener = encapsulate(config, b"q")
    other, _ = encapsulate(config, b"q")
    with pytest.raises(OpenError):
        opener.open(GATEWAY.open(other).seal(b"a"))


@BOTH
@settings(max_examples=100, deadline=None)
@given(st.data())
def test_one_flipped_bit_anywhere_in_a_request_is_refused_with_one_error(
    config: KeyConfig, data: st.DataObject
) -> None:
    sealed = bytearray(encapsulate(config, b"q")[0])
    bit = data.draw(st.integers(0, len(sealed) * 8 - 1))
    sealed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(MalformedEvidence) as caught:
        GATEWAY.open(bytes(sealed))
    assert type(caught.value) is (UnknownKey if bit < 56 else OpenError)
    assert caught.value.__cause__ is None
    if bit >= 56:
        assert str(caught.value) == str(OpenError())


@BOTH
@settings(max_examples=60, deadline=None)
@given(st.data())
def test_one_flipped_bit_anywhere_in_a_response_is_refused(config: KeyConfig, data: st.DataObject) -> None:
    sealed, opener = encapsulate(config, b"q")
    answer = bytearray(GATEWAY.open(sealed).seal(b"answer"))
    bit = data.draw(st.integers(0, len(answer) * 8 - 1))
    answer[bit // 8] ^= 1 << bit % 8
    with pytest.raises(OpenError):
        opener.open(bytes(answer))


@BOTH
def test_truncation_at_each_length_is_refused_with_one_error(config: KeyConfig) -> None:
    sealed, _ = encapsulate(config, b"q")
    for size in range(0, len(sealed), 1 if config.kem is Kem.X25519_HKDF_SHA256 else 31):
        with pytest.raises(OpenError):
            GATEWAY.open(sealed[:size])
    for size in range(48):
        fresh, opener = encapsulate(CONFIGS[1], b"q")
        answer = GATEWAY.open(fresh).seal(b"")
        if size != len(answer):
            with pytest.raises(OpenError):
                opener.open((answer + bytes(48))[:size])


@settings(max_examples=200, deadline=None)
@given(
    st.binary(max_size=200), st.sampled_from([b"", bytes.fromhex("01647a00010002"), bytes.fromhex("02002000010001")])
)
def test_any_bytes_are_refused_as_malformed(rest: bytes, header: bytes) -> None:
    with pytest.raises(MalformedEvidence):
        GATEWAY.open(header + rest)


@pytest.mark.parametrize(
    "header",
    [
        "03647a00010002",  # no such key id
        "02647a00010002",  # the id of the other KEM's key
        "01647a00010001",  # a suite that this key does not take
        "01647a00020002",
        "0100200001ffff",
        "02002000010003",
        "0200200001ffff",
    ],
)
def test_a_key_or_suite_that_is_not_here_is_named_so_that_the_client_can_fetch_anew(header: str) -> None:
    with pytest.raises(UnknownKey):
        GATEWAY.open(bytes.fromhex(header) + bytes(2000))


def test_after_a_rotation_old_and_new_keys_open() -> None:
    old_request, _ = encapsulate(CONFIGS[0], b"old")
    fresh = generate_keys(1, live=[key.config.key_id for key in KEYS])
    both = Gateway([*fresh, *KEYS])
    assert both.open(old_request).request == b"old"
    new = parse_key_configs(both.key_configs)[0]
    assert both.open(encapsulate(new, b"new")[0]).request == b"new"
    with pytest.raises(UnknownKey):
        GATEWAY.open(encapsulate(new, b"new")[0])


def test_keys_that_share_an_id_make_no_gateway() -> None:
    for keys in ([], [*KEYS, *generate_keys(2)]):
        with pytest.raises(UsageError):
            Gateway(keys)


def test_a_configuration_without_a_supported_suite_is_refused() -> None:
    config = KeyConfig(key_id=1, kem=Kem.X_WING, public_key=CONFIGS[0].public_key, symmetric=((1, 3),))
    with pytest.raises(UnsupportedEvidence):
        encapsulate(config, b"")


def test_a_broken_public_key_is_refused() -> None:
    config = KeyConfig(key_id=1, kem=Kem.X25519_HKDF_SHA256, public_key=bytes(32), symmetric=((1, 1),))
    with pytest.raises(MalformedEvidence):
        encapsulate(config, b"")


def test_messages_beyond_the_limit_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    sealed, opener = encapsulate(CONFIGS[1], bytes(200))
    opened = GATEWAY.open(sealed)
    monkeypatch.setattr(ohttp, "MAX_MESSAGE", 100)
    with pytest.raises(OpenError):
        GATEWAY.open(sealed)
    with pytest.raises(UsageError):
        opened.seal(bytes(100))
    with pytest.raises(OpenError):
        opener.open(bytes(101))


def test_neither_keys_nor_plaintext_are_shown_or_copied() -> None:
    sealed, opener = encapsulate(CONFIGS[0], b"PLAINTEXT")
    opened = GATEWAY.open(sealed)
    for what in (opener, opened, GATEWAY):
        assert repr(what) == f"<{type(what).__name__}, secret>"
        for duplicate in (pickle.dumps, copy.copy):
            with pytest.raises(UsageError):
                duplicate(what)
