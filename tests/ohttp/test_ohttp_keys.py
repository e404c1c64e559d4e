"""Key configurations: the list format, what discards a list, and how keys are made and chosen."""

from __future__ import annotations

import copy
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dokimos.errors import MalformedEvidence, UnsupportedEvidence, UsageError
from dokimos.ohttp.kem import Kem, X25519Key, XWingKey
from dokimos.ohttp.keys import (
    MAX_CONFIGS,
    PREFERENCE,
    KeyConfig,
    PrivateKey,
    choose,
    encode_key_configs,
    generate_keys,
    parse_key_configs,
)

# RFC 9458, appendix A, where it stands without the length prefix of the list.
RFC_CONFIG = bytes.fromhex("01002031e1f05a740102115220e9af918f738674aec95f54db6e04eb705aae8e79815500080001000100010003")
RFC_SECRET = bytes.fromhex("3c168975674b2fa8e465970b79c8dcf09f1c741626480bd4c6162fc5b6a98e1a")
KEYS = generate_keys(7)
LIST = encode_key_configs([key.config for key in KEYS])
UNKNOWN = bytes([99]) + b"\x00\x10" + bytes(65) + b"\x00\x04\x00\x01\x00\x01"  # a P-256 configuration


def listed(*entries: bytes) -> bytes:
    return b"".join(len(entry).to_bytes(2) + entry for entry in entries)


def test_the_rfc_9458_configuration_reads_and_writes_byte_exact() -> None:
    (config,) = parse_key_configs(listed(RFC_CONFIG))
    assert (config.key_id, config.kem, config.symmetric) == (1, Kem.X25519_HKDF_SHA256, ((1, 1), (1, 3)))
    assert config.public_key == X25519Key._from_bytes(RFC_SECRET).public_key
    assert encode_key_configs([config]) == listed(RFC_CONFIG)


def test_generated_keys_are_both_suites_in_order_with_their_own_ids() -> None:
    assert [key.config.suite for key in KEYS] == list(PREFERENCE)
    assert [key.config.key_id for key in KEYS] == [7, 8]
    assert parse_key_configs(LIST) == tuple(key.config for key in KEYS)
    assert [key.config.key_id for key in generate_keys(255)] == [255, 0]


def test_generated_keys_never_take_an_id_in_use() -> None:
    assert [key.config.key_id for key in generate_keys(254, live={254, 0, 1})] == [255, 2]
    for _ in range(20):
        assert sorted(key.config.key_id for key in generate_keys(live=set(range(254)))) == [254, 255]
    with pytest.raises(UsageError):
        generate_keys(live=set(range(255)))
    for wrong in (-1, 256):
        with pytest.raises(UsageError):
            generate_keys(wrong)


def test_private_keys_are_neither_shown_nor_copied_nor_pickled() -> None:
    for key in KEYS:
        assert repr(key) == "<PrivateKey, secret>"
        assert not hasattr(key, "__dict__")
        for duplicate in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(UsageError):
                duplicate(key)


def test_a_private_key_for_unknown_algorithms_is_refused() -> None:
    for symmetric in ((), ((1, 0xFFFF),), ((0x10, 1),), ((1, 1), (1, 9))):
        with pytest.raises(UsageError):
            PrivateKey(X25519Key.generate(), 1, symmetric)
    with pytest.raises(UsageError):
        PrivateKey(X25519Key.generate(), 256, ((1, 1),))


def test_an_unknown_kem_is_skipped_and_the_rest_of_the_list_kept() -> None:
    for entry in (UNKNOWN, UNKNOWN[:3]):  # only its length is known, not its form
        assert parse_key_configs(listed(entry, RFC_CONFIG))[0].key_id == 1
        assert len(parse_key_configs(listed(entry) + LIST)) == 2
        assert parse_key_configs(listed(entry)) == ()


@pytest.mark.parametrize(
    ("what", "data"),
    [
        ("empty", b""),
        ("second entry cut", listed(RFC_CONFIG) + b"\x00"),
        ("second entry shorter than said", listed(RFC_CONFIG) + b"\x00\x05\x01\x00"),
        ("no kem id", listed(RFC_CONFIG, b"\x09\x00")),
        ("empty entry", listed(RFC_CONFIG, b"")),
        ("trailing byte in the entry", listed(RFC_CONFIG + b"\x00")),
        ("no symmetric algorithm", listed(RFC_CONFIG[:35] + b"\x00\x00")),
        ("half a symmetric algorithm", listed(RFC_CONFIG[:35] + b"\x00\x06" + bytes(6))),
        ("symmetric algorithms cut", listed(RFC_CONFIG[:-4])),
        ("without the list's prefix", RFC_CONFIG),
        ("duplicate key id", listed(RFC_CONFIG, bytes([1]) + UNKNOWN[1:])),
        ("duplicate key id of unknown kems", listed(UNKNOWN, RFC_CONFIG, UNKNOWN)),
        ("one key twice", listed(RFC_CONFIG, bytes([2]) + RFC_CONFIG[1:])),
        ("x25519 key out of range", listed(RFC_CONFIG[:3] + b"\xff" * 32 + RFC_CONFIG[35:])),
        ("x-wing key out of range", LIST[:5] + b"\xff" * 1184 + LIST[5 + 1184 :]),
        ("too many entries", listed(*(bytes([i]) + UNKNOWN[1:] for i in range(MAX_CONFIGS + 1)))),
        ("too long", listed(*(bytes([i]) + b"\x00\x10" + bytes(65000) for i in range(2)))),
    ],
)
def test_anything_malformed_discards_the_whole_list(what: str, data: bytes) -> None:
    with pytest.raises(MalformedEvidence):
        parse_key_configs(data)


def test_two_configurations_over_one_x25519_key_are_refused_also_inside_x_wing() -> None:
    xwing = XWingKey.generate()
    shared = X25519Key(xwing._sk_x)
    configs = [PrivateKey(xwing, 1, ((1, 2),)).config, PrivateKey(shared, 2, ((1, 1),)).config]
    with pytest.raises(UsageError, match="share a key"):
        encode_key_configs(configs)


def test_truncation_at_each_length_discards_the_list() -> None:
    data = listed(RFC_CONFIG, UNKNOWN)
    for size in range(len(data)):
        if size == len(listed(RFC_CONFIG)):
            continue  # a whole, shorter list
        with pytest.raises(MalformedEvidence):
            parse_key_configs(data[:size])


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300) | st.lists(st.binary(max_size=50), max_size=5).map(lambda parts: listed(*parts)))
def test_any_bytes_are_a_list_or_malformed(data: bytes) -> None:
    try:
        parse_key_configs(data)
    except MalformedEvidence:
        return


@settings(max_examples=200, deadline=None)
@given(st.integers(0, len(LIST) * 8 - 1))
def test_one_flipped_bit_gives_another_list_or_none(bit: int) -> None:
    data = bytearray(LIST)
    data[bit // 8] ^= 1 << bit % 8
    try:
        configs = parse_key_configs(bytes(data))
    except MalformedEvidence:
        return
    assert configs != tuple(key.config for key in KEYS)


def test_the_choice_follows_the_fixed_order_and_not_the_lists() -> None:
    best, second = (key.config for key in KEYS)
    (rfc,) = parse_key_configs(listed(RFC_CONFIG))
    assert choose([best, second]) == choose([rfc, second, best]) == best
    assert choose([rfc, second]) == rfc


def test_without_a_supported_suite_there_is_no_choice() -> None:
    config = KeyConfig(
        key_id=1, kem=Kem.X25519_HKDF_SHA256, public_key=KEYS[1].config.public_key, symmetric=((1, 3), (9, 9))
    )
    assert parse_key_configs(encode_key_configs([config])) == (config,)
    for configs in ([config], []):
        with pytest.raises(UnsupportedEvidence):
            choose(configs)


@pytest.mark.parametrize(
    "change",
    [
        {"key_id": 256},
        {"key_id": -1},
        {"symmetric": ()},
        {"symmetric": ((1, 1 << 16),)},
        {"symmetric": ((1, 1),) * 16384},
        {"public_key": bytes(31)},
    ],
)
def test_a_configuration_that_clients_would_discard_is_not_written(change: dict[str, object]) -> None:
    good = {"key_id": 1, "kem": Kem.X25519_HKDF_SHA256, "public_key": RFC_CONFIG[3:35], "symmetric": ((1, 1),)}
    assert encode_key_configs([KeyConfig(**good)])
    with pytest.raises(UsageError):
        encode_key_configs([KeyConfig(**good | change)])
    with pytest.raises(UsageError):
        encode_key_configs([])
