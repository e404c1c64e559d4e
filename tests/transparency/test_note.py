"""Signed notes, keys and checkpoints."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dokimos.errors import Check, Error, MalformedEvidence, UnsupportedEvidence, UsageError, VerificationError
from dokimos.transparency.checkpoint import (
    Checkpoint,
    encode_checkpoint,
    open_checkpoint,
    parse_checkpoint,
    sign_checkpoint,
)  # fmt: skip
from dokimos.transparency.cosignature import verify_cosignatures
from dokimos.transparency.merkle import EMPTY_ROOT
from dokimos.transparency.note import (
    MAX_NOTE,
    MAX_NUMBER,
    MAX_SIGNATURES,
    KeyType,
    Note,
    NoteSignature,
    add_signatures,
    encode_note,
    encode_signing_key,
    encode_verifier_key,
    parse_note,
    parse_signature_lines,
    parse_signing_key,
    parse_verifier_key,
    sign_note,
    unbase64,
    undecimal,
    verify_note,
)  # fmt: skip

from .trees import LOG_KEY, ORIGIN, OTHER_KEY, WITNESSES

if TYPE_CHECKING:
    from collections.abc import Callable

LOG = LOG_KEY.verifier
NOTE = encode_note(sign_note(b"one line\n\nand another\n", [LOG_KEY]))
ROOT = base64.b64encode(bytes(range(32))).decode()
LINE = "\N{EM DASH} a AAAAAAA="


def judged(case: dict[str, Any]) -> bool:
    """The verdict on one case, by the rules that its file states."""
    keys = [parse_verifier_key(text) for text in case["vkeys"]]
    logs = [key for key in keys if key.type == KeyType.ED25519]
    try:
        note = parse_note(case["note"].encode())
        if verify_note(note, logs) != tuple(logs):
            return False
        verify_cosignatures(note, [key for key in keys if key.type != KeyType.ED25519])
        if case["kind"] == "checkpoint":
            for key in logs:
                open_checkpoint(case["note"].encode(), key, case["origin"])
    except (MalformedEvidence, VerificationError):
        return False
    return True


def test_every_note_of_the_vectors_gets_the_verdict_of_its_manifest(vectors: Callable[[str], Any]) -> None:
    found = vectors("transparency/notes")
    cases = {case["name"]: case for case in json.loads(found.bytes("notes.json"))["cases"]}
    expected = {case["select"]["name"]: case["verdict"] == "accept" for case in found.manifest["expected"]["cases"]}
    assert expected.keys() == cases.keys()
    assert {name: judged(case) for name, case in cases.items()} == expected
    assert sum(expected.values()) >= 7


def test_a_note_and_its_keys_come_back_as_they_were() -> None:
    note = parse_note(NOTE)
    assert note.text == b"one line\n\nand another\n"
    assert encode_note(note) == NOTE
    assert verify_note(note, [OTHER_KEY.verifier, LOG]) == (LOG,)
    assert parse_verifier_key(encode_verifier_key(LOG)) == LOG
    read = parse_signing_key(encode_signing_key(WITNESSES[0]))
    assert read.verifier == WITNESSES[0].verifier
    assert sign_note(b"a\n", [parse_signing_key(encode_signing_key(LOG_KEY))]) == sign_note(b"a\n", [LOG_KEY])


def test_one_flipped_bit_anywhere_is_refused() -> None:
    for at in range(len(NOTE) * 8):
        data = bytearray(NOTE)
        data[at // 8] ^= 1 << at % 8
        with pytest.raises((MalformedEvidence, VerificationError)):
            verify_note(parse_note(bytes(data)), [LOG])


def test_a_cut_note_is_refused() -> None:
    for length in range(len(NOTE)):
        with pytest.raises((MalformedEvidence, VerificationError)):
            verify_note(parse_note(NOTE[:length]), [LOG])


def test_a_failing_signature_of_a_known_key_is_not_outweighed_by_a_good_one() -> None:
    note = parse_note(NOTE)
    bad = NoteSignature(name=LOG.name, key_id=LOG.key_id, signature=bytes(64))
    for lines in ((bad, *note.signatures), (*note.signatures, bad)):
        with pytest.raises(VerificationError) as raised:
            verify_note(Note(text=note.text, signatures=lines), [LOG])
        assert raised.value.failed.id == Check.LOG_SIGNATURE
    other = sign_note(note.text, [OTHER_KEY]).signatures
    with pytest.raises(VerificationError):
        verify_note(Note(text=note.text, signatures=(*other, bad)), [OTHER_KEY.verifier, LOG])


def test_a_note_that_nobody_known_signed_is_refused() -> None:
    with pytest.raises(VerificationError) as raised:
        verify_note(parse_note(NOTE), [OTHER_KEY.verifier])
    assert raised.value.failed.id == Check.LOG_SIGNATURE
    with pytest.raises(VerificationError):
        verify_note(parse_note(NOTE), [])


def test_a_witness_key_neither_signs_nor_verifies_a_note() -> None:
    with pytest.raises(UsageError):
        verify_note(parse_note(NOTE), [WITNESSES[0].verifier])
    with pytest.raises(UsageError):
        sign_note(b"a\n", [WITNESSES[0]])


def test_no_signature_is_added_twice() -> None:
    note = parse_note(NOTE)
    assert add_signatures(note, [*note.signatures, *note.signatures]) == note


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n\n",
        b"a\n\n",
        b"a\n" + LINE.encode() + b"\n",
        b"a\n\n" + LINE.encode(),
        b"a\n\n" + LINE.encode() + b"\n\n",
        b"a\n\n- a AAAAAAA=\n",
        "a\n\n\N{EM DASH}  AAAAAAA=\n".encode(),
        "a\n\n\N{EM DASH} a+b AAAAAAA=\n".encode(),
        "a\n\n\N{EM DASH} a\N{NO-BREAK SPACE}b AAAAAAA=\n".encode(),
        "a\n\n\N{EM DASH} a AAAAAA==\n".encode(),
        "a\n\n\N{EM DASH} a AAAAAAB=\n".encode(),
        "a\n\n\N{EM DASH} a AAAAAAA= \n".encode(),
        "a\n\n\N{EM DASH} a AAAA-AA=\n".encode(),
        "a\n\n\N{EM DASH} a\n".encode(),
        b"a\r\n\n" + LINE.encode() + b"\n",
        b"a\xff\n\n" + LINE.encode() + b"\n",
        b"\xed\xa0\x80\n\n" + LINE.encode() + b"\n",
        b"a\n\n" + (LINE + "\n").encode() * (MAX_SIGNATURES + 1),
        b"a" * MAX_NOTE + b"\n\n" + LINE.encode() + b"\n",
        f"a\n\n\N{EM DASH} {'n' * 300} AAAAAAA=\n".encode(),
    ],
)
def test_what_is_no_note_is_refused(data: bytes) -> None:
    with pytest.raises(MalformedEvidence):
        parse_note(data)


def test_a_text_that_cannot_be_signed_is_refused() -> None:
    for text in (b"", b"a", b"a\0\n", b"\xff\n"):
        with pytest.raises(MalformedEvidence):
            sign_note(text, [LOG_KEY])
    with pytest.raises(MalformedEvidence):
        parse_signature_lines(b"a" * (MAX_NOTE + 1))


def test_sixteen_signatures_and_more_are_read() -> None:
    assert len(parse_note(b"a\n\n" + (LINE + "\n").encode() * MAX_SIGNATURES).signatures) == MAX_SIGNATURES


def edited(text: str, at: int, value: str) -> str:
    parts = text.split("+", 2)
    parts[at] = value
    return "+".join(parts)


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (0, ""),
        (0, "other"),
        (0, "a b"),
        (0, "a\udc80"),
        (0, "n" * 300),
        (1, ""),
        (1, "00000000"),
        (1, LOG.key_id.hex().upper()),
        (1, LOG.key_id.hex()[:6]),
        (1, "zz000000"),
        (2, ""),
        (2, "AQ=="),
        (2, "!"),
        (2, base64.b64encode(b"\x06" + bytes(32)).decode()),
    ],
)
def test_what_is_no_verifier_key_is_refused(at: int, value: str) -> None:
    with pytest.raises(MalformedEvidence):
        parse_verifier_key(edited(encode_verifier_key(LOG), at, value))


def test_a_key_of_another_type_or_too_long_is_refused() -> None:
    with pytest.raises(UnsupportedEvidence):
        parse_verifier_key(edited(encode_verifier_key(LOG), 2, base64.b64encode(b"\x02" + bytes(32)).decode()))
    with pytest.raises(MalformedEvidence):
        parse_verifier_key("a" * 5000)
    ml_dsa = base64.b64encode(b"\x06" + bytes(1312)).decode()
    with pytest.raises(MalformedEvidence, match="the id is not"):
        parse_verifier_key(f"a+00000000+{ml_dsa}")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (encode_verifier_key(LOG), MalformedEvidence),
        (encode_signing_key(LOG_KEY)[:-4], MalformedEvidence),
        ("PRIVATE+KEY+" + "a" * 5000, MalformedEvidence),
        ("PRIVATE+KEY+a+00000000+AQ==", MalformedEvidence),
        ("PRIVATE+KEY+a+00000000+" + base64.b64encode(b"\x01" + bytes(32)).decode(), MalformedEvidence),
        ("PRIVATE+KEY+a+00000000+" + base64.b64encode(b"\x02" + bytes(32)).decode(), UnsupportedEvidence),
        ("PRIVATE+KEY+a+00000000+", UnsupportedEvidence),
    ],
)
def test_what_is_no_signing_key_is_refused(text: str, error: type[Error]) -> None:
    with pytest.raises(error):
        parse_signing_key(text)


@pytest.mark.parametrize("value", ["", "00", "01", "-1", "+1", "1 ", "1_0", "\N{ARABIC-INDIC DIGIT ONE}", str(2**63)])
def test_numbers_have_one_form_and_63_bits(value: str) -> None:
    with pytest.raises(MalformedEvidence):
        undecimal(value, "n")
    assert undecimal(str(MAX_NUMBER), "n") == MAX_NUMBER


@given(st.binary(max_size=40))
def test_base64_has_one_form(data: bytes) -> None:
    assert unbase64(base64.b64encode(data).decode(), "b") == data
    with pytest.raises(MalformedEvidence):
        unbase64(base64.b64encode(data).decode() + "\n", "b")
    with pytest.raises(MalformedEvidence):
        unbase64(base64.b64encode(data).decode(), "b", len(data) + 1)


LINES = st.text(st.characters(min_codepoint=32, exclude_categories=["Cs"]), min_size=1, max_size=60)


@given(LINES, st.integers(1, MAX_NUMBER), st.binary(min_size=32, max_size=32), st.lists(LINES, max_size=3))
def test_a_checkpoint_comes_back_as_it_was(origin: str, size: int, root: bytes, extensions: list[str]) -> None:
    made = Checkpoint(origin=origin, size=size, root=root, extensions=tuple(extensions))
    assert parse_checkpoint(encode_checkpoint(made)) == made


@pytest.mark.parametrize(
    "text",
    [
        "",
        f"o\n1\n{ROOT}",
        "o\n1\n",
        f"\n1\n{ROOT}\n",
        f"{'o' * 256}\n1\n{ROOT}\n",
        f"o\n01\n{ROOT}\n",
        f"o\n{2**63}\n{ROOT}\n",
        f"o\n0\n{ROOT}\n",
        "o\n1\nAAAA\n",
        f"o\n1\n{ROOT}\n\n",
        f"o\n1\n{ROOT}\n\nx\n",
        f"o\n1\n{ROOT}\t\n",
        f"o\n1\n{ROOT}\n" + "x" * 70000 + "\n",
    ],
)
def test_what_is_no_checkpoint_is_refused(text: str) -> None:
    with pytest.raises(MalformedEvidence):
        parse_checkpoint(text.encode())


def test_a_checkpoint_with_a_newline_in_a_line_is_not_written() -> None:
    with pytest.raises(MalformedEvidence):
        encode_checkpoint(Checkpoint(origin="o\n7", size=1, root=bytes(32)))
    with pytest.raises(MalformedEvidence):
        encode_checkpoint(Checkpoint(origin="o", size=1, root=bytes(32), extensions=("a\nb",)))


def test_a_checkpoint_of_another_log_or_key_is_refused() -> None:
    empty = Checkpoint(origin=ORIGIN, size=0, root=EMPTY_ROOT)
    data = encode_note(sign_checkpoint(empty, LOG_KEY).note)
    assert open_checkpoint(data, LOG).checkpoint == empty
    with pytest.raises(VerificationError) as raised:
        open_checkpoint(data, LOG, "another")
    assert raised.value.failed.id == Check.LOG_ORIGIN
    with pytest.raises(VerificationError) as raised:
        open_checkpoint(data, OTHER_KEY.verifier, ORIGIN)
    assert raised.value.failed.id == Check.LOG_SIGNATURE
