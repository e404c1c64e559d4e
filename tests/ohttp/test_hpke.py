"""HPKE: the published vectors, and what must never open."""

from __future__ import annotations

import contextlib
import copy
import pickle
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dokimos.errors import MalformedEvidence, UsageError
from dokimos.ohttp import hpke, kem
from dokimos.ohttp.hpke import Aead, Suite, setup_recipient, setup_sender
from dokimos.ohttp.kdf import Kdf
from dokimos.ohttp.kem import Kem, OpenError, X25519Key, XWingKey

if TYPE_CHECKING:
    from collections.abc import Callable

SUITES = [
    Suite(kem=Kem.X_WING, kdf=Kdf.HKDF_SHA256, aead=Aead.AES_256_GCM),
    Suite(kem=Kem.X25519_HKDF_SHA256, kdf=Kdf.HKDF_SHA256, aead=Aead.AES_128_GCM),
    Suite(kem=Kem.X25519_HKDF_SHA256, kdf=Kdf.HKDF_SHA512, aead=Aead.CHACHA20_POLY1305),
]
# All u-coordinates below 2^255-19 whose order divides 8 (RFC 7748, section 6.1 and Curve25519's group structure).
LOW_ORDER = [
    "00" * 32,
    "01" + "00" * 31,
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
]
NOT_CANONICAL = [
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "f6ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "09" + "00" * 30 + "80",
]
KEYS = {Kem.X25519_HKDF_SHA256: X25519Key.generate(), Kem.X_WING: XWingKey.generate()}


def suite_of(vector: dict[str, Any]) -> Suite:
    return Suite(kem=Kem(vector["kem_id"]), kdf=Kdf(vector["kdf_id"]), aead=Aead(vector["aead_id"]))


def of(vector: dict[str, Any], *names: str) -> list[bytes]:
    return [bytes.fromhex(vector[name]) for name in names]


def check_exports(vector: dict[str, Any], context: hpke.SenderContext | hpke.RecipientContext) -> int:
    for export in vector["exports"]:
        given_context, wanted = of(export, "exporter_context", "exported_value")
        assert context.export(given_context, export["L"]) == wanted
    return len(vector["exports"])


def test_every_rfc_9180_base_vector_of_x25519_seals_opens_and_exports_byte_exact(
    hpke_vectors: Callable[[str], list[dict[str, Any]]],
) -> None:
    sets = [v for v in hpke_vectors("test-vectors.json") if v["mode"] == 0 and v["kem_id"] == 0x0020]
    assert len(sets) == 8
    messages = exports = 0
    for vector in sets:
        suite = suite_of(vector)
        sk_r, pk_r, sk_e, enc, info = of(vector, "skRm", "pkRm", "skEm", "enc", "info")
        key = X25519Key._from_bytes(sk_r)
        assert key.public_key == pk_r
        given_enc, sender = setup_sender(suite, pk_r, info, _ephemeral=sk_e)
        assert given_enc == enc
        recipient = setup_recipient(suite, key, enc, info)
        for message in vector["encryptions"]:
            aad, pt, ct = of(message, "aad", "pt", "ct")
            assert sender.seal(pt, aad) == ct
            assert recipient.open(ct, aad) == pt
            messages += 1
        exports += check_exports(vector, sender) + check_exports(vector, recipient)
    assert messages == 6 * 257
    assert exports == 2 * 8 * 3


def test_every_hkdf_vector_of_x_wing_opens_and_exports_byte_exact(
    hpke_vectors: Callable[[str], list[dict[str, Any]]],
) -> None:
    sets = [v for v in hpke_vectors("hpke-pq-test-vectors.json") if v["kem_id"] == 0x647A and v["kdf_id"] <= 3]
    assert len(sets) == 1
    for vector in sets:
        seed, pk_r, enc, info = of(vector, "skRm", "pkRm", "enc", "info")
        key = XWingKey._from_bytes(seed)
        assert key.public_key == pk_r
        assert key.decapsulate(enc) == bytes.fromhex(vector["shared_secret"])
        recipient = setup_recipient(suite_of(vector), key, enc, info)
        # The sender's side of the same schedule: the ciphertexts must come out byte-exact.
        sender = hpke.SenderContext(suite_of(vector), key.decapsulate(enc), info)
        for message in vector["encryptions"]:
            aad, pt, ct = of(message, "aad", "pt", "ct")
            assert recipient.open(ct, aad) == pt
            assert sender.seal(pt, aad) == ct
        check_exports(vector, recipient)


@pytest.mark.parametrize("suite", SUITES)
@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.binary(max_size=200), st.binary(max_size=50)), min_size=1, max_size=4), st.binary())
def test_what_is_sealed_opens_in_order(suite: Suite, messages: list[tuple[bytes, bytes]], info: bytes) -> None:
    enc, sender = setup_sender(suite, KEYS[suite.kem].public_key, info)
    recipient = setup_recipient(suite, KEYS[suite.kem], enc, info)
    for message, aad in messages:
        assert recipient.open(sender.seal(message, aad), aad) == message
    assert sender.export(b"a", 40) == recipient.export(b"a", 40) != sender.export(b"b", 40)


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("change", ["info", "aad", "order", "key", "ciphertext", "truncated"])
def test_a_message_out_of_its_place_does_not_open_and_closes_the_context(suite: Suite, change: str) -> None:
    key = KEYS[suite.kem]
    enc, sender = setup_sender(suite, key.public_key, b"info")
    sealed = sender.seal(b"first", b"aad")
    other = X25519Key.generate() if suite.kem is Kem.X25519_HKDF_SHA256 else XWingKey.generate()
    recipient = setup_recipient(suite, other if change == "key" else key, enc, b"x" if change == "info" else b"info")
    if change == "order":
        sealed = sender.seal(b"second", b"aad")
    elif change == "ciphertext":
        sealed = bytes([sealed[0] ^ 1]) + sealed[1:]
    elif change == "truncated":
        sealed = sealed[:15]
    with pytest.raises(OpenError) as caught:
        recipient.open(sealed, b"" if change == "aad" else b"aad")
    assert str(caught.value) == str(OpenError())
    for again in (lambda: recipient.open(sealed, b"aad"), lambda: recipient.export(b"", 32)):
        with pytest.raises(UsageError):
            again()


@pytest.mark.parametrize("point", LOW_ORDER + NOT_CANONICAL)
def test_a_low_order_or_not_canonical_x25519_point_is_refused_everywhere(point: str) -> None:
    raw = bytes.fromhex(point)
    x25519, xwing = KEYS[Kem.X25519_HKDF_SHA256], KEYS[Kem.X_WING]
    for name, public_key in ((Kem.X25519_HKDF_SHA256, raw), (Kem.X_WING, xwing.public_key[:1184] + raw)):
        with pytest.raises(MalformedEvidence):
            kem.encapsulate(name, public_key)
    with pytest.raises(OpenError):
        x25519.decapsulate(raw)
    good = kem.encapsulate(Kem.X_WING, xwing.public_key)[1]
    with pytest.raises(OpenError):
        xwing.decapsulate(good[:1088] + raw)
    if point in NOT_CANONICAL:
        with pytest.raises(MalformedEvidence):
            kem.check_public_key(Kem.X25519_HKDF_SHA256, raw)


def test_an_ml_kem_key_with_a_coefficient_out_of_range_is_refused() -> None:
    bad = b"\xff" * 384 + KEYS[Kem.X_WING].public_key[384:]
    for use in (kem.check_public_key, kem.encapsulate):
        with pytest.raises(MalformedEvidence):
            use(Kem.X_WING, bad)


@pytest.mark.parametrize("name", list(Kem))
@settings(max_examples=30, deadline=None)
@given(st.binary(max_size=1300))
def test_any_encapsulation_gives_a_secret_or_the_one_error(name: Kem, enc: bytes) -> None:
    with contextlib.suppress(OpenError):
        assert len(KEYS[name].decapsulate(enc)) == 32


@pytest.mark.parametrize("name", list(Kem))
def test_an_encapsulation_or_key_of_another_size_is_refused(name: Kem) -> None:
    public_key = KEYS[name].public_key
    enc = kem.encapsulate(name, public_key)[1]
    assert (len(public_key), len(enc)) == (name.public_key_size, name.enc_size)
    for wrong in (enc[:-1], enc + b"\0", enc[1:], b""):
        with pytest.raises(OpenError):
            KEYS[name].decapsulate(wrong)
    for wrong in (public_key[:-1], public_key + b"\0", public_key[1:], b""):
        for use in (kem.check_public_key, kem.encapsulate):
            with pytest.raises(MalformedEvidence):
                use(name, wrong)


def test_the_sequence_counter_never_wraps() -> None:
    suite = SUITES[1]
    enc, sender = setup_sender(suite, KEYS[suite.kem].public_key, b"")
    recipient = setup_recipient(suite, KEYS[suite.kem], enc, b"")
    sender._seq = recipient._seq = 2**96 - 2
    assert recipient.open(sender.seal(b"the last")) == b"the last"
    for _ in range(2):
        with pytest.raises(UsageError):
            sender.seal(b"one more")
        with pytest.raises(UsageError):
            recipient.open(b"x" * 20)


def test_an_export_only_context_neither_seals_nor_opens() -> None:
    suite = Suite(kem=Kem.X25519_HKDF_SHA256, kdf=Kdf.HKDF_SHA384, aead=Aead.EXPORT_ONLY)
    enc, sender = setup_sender(suite, KEYS[suite.kem].public_key, b"")
    recipient = setup_recipient(suite, KEYS[suite.kem], enc, b"")
    with pytest.raises(UsageError):
        sender.seal(b"")
    with pytest.raises(UsageError):
        recipient.open(b"")
    with pytest.raises(UsageError):
        suite.aead.cipher(b"")
    assert sender.export(b"", 48) == recipient.export(b"", 48)


def test_an_export_of_impossible_size_is_refused() -> None:
    _, sender = setup_sender(SUITES[1], KEYS[SUITES[1].kem].public_key, b"")
    assert len(sender.export(b"", 255 * 32)) == 255 * 32
    assert sender.export(b"", 0) == b""
    for size in (-1, 255 * 32 + 1):
        with pytest.raises(UsageError):
            sender.export(b"", size)


def test_messages_beyond_the_limit_are_refused_before_the_cipher_sees_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hpke, "MAX_MESSAGE", 100)
    suite = SUITES[1]
    enc, sender = setup_sender(suite, KEYS[suite.kem].public_key, b"")
    recipient = setup_recipient(suite, KEYS[suite.kem], enc, b"")
    with pytest.raises(UsageError):
        sender.seal(bytes(101))
    with pytest.raises(OpenError):
        recipient.open(bytes(117))


def test_a_key_of_another_kem_is_the_callers_mistake() -> None:
    with pytest.raises(UsageError):
        setup_recipient(SUITES[0], KEYS[Kem.X25519_HKDF_SHA256], bytes(32), b"")


def test_x_wing_takes_no_fixed_randomness() -> None:
    with pytest.raises(UsageError):
        kem.encapsulate(Kem.X_WING, KEYS[Kem.X_WING].public_key, _ephemeral=bytes(32))
    with pytest.raises(UsageError):
        XWingKey._from_bytes(bytes(31))


@pytest.mark.parametrize("what", [*KEYS.values(), setup_sender(SUITES[1], KEYS[SUITES[1].kem].public_key, b"")[1]])
def test_what_holds_a_secret_is_neither_shown_nor_copied(what: object) -> None:
    assert repr(what) == f"<{type(what).__name__}, secret>"
    for duplicate in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(UsageError):
            duplicate(what)
