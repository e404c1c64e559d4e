"""Cosignatures, trust policies and proof files."""

from __future__ import annotations

import base64
from dataclasses import replace

import pytest
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey, MLDSA44PublicKey
from hypothesis import given
from hypothesis import strategies as st

from dokimos.errors import Check, Error, MalformedEvidence, UnsupportedEvidence, UsageError, VerificationError
from dokimos.transparency.checkpoint import Checkpoint, sign_checkpoint
from dokimos.transparency.cosignature import cosign, cosigned_message, verify_cosignatures
from dokimos.transparency.merkle import make_inclusion
from dokimos.transparency.note import (
    KeyType,
    Note,
    NoteSignature,
    VerifierKey,
    add_signatures,
    encode_verifier_key,
    sign_note,
)  # fmt: skip
from dokimos.transparency.policy import Freshness, Group, Witness, parse_policy, quorum_time, verify_checkpoint
from dokimos.transparency.proof import MAX_EXTRA, MAX_FILE, Proof, encode_proof, parse_proof, verify_proof

from .trees import AT, LOG_KEY, ORIGIN, OTHER_KEY, POLICY, WITNESSES, Tree, cosigned

TREE = Tree([b"entry %d" % n for n in range(40)])
SIGNED = TREE.signed()
NOTE = cosigned(SIGNED, AT - 10, AT - 20)
TRUST = parse_policy(POLICY)
INDEX = 13
ANY_AGE = Freshness(max_age=None)
KEYS = [witness.verifier for witness in WITNESSES]
VKEYS = [encode_verifier_key(key) for key in KEYS]


def refused(note: Note, trust: str | bytes = POLICY, freshness: Freshness | None = None) -> Check:
    policy = parse_policy(trust if isinstance(trust, bytes) else trust.encode())
    with pytest.raises(VerificationError) as raised:
        verify_checkpoint(note, policy, AT, freshness or Freshness())
    return raised.value.failed.id


def test_cosignatures_of_known_witnesses_have_their_times() -> None:
    found = verify_cosignatures(NOTE, KEYS)
    assert [(one.key, one.time) for one in found] == [(KEYS[0], AT - 10), (KEYS[1], AT - 20)]
    assert verify_cosignatures(NOTE, [KEYS[2]]) == ()
    twice = add_signatures(NOTE, [cosign(NOTE.text, WITNESSES[0], AT)])
    assert verify_cosignatures(twice, KEYS)[0].time == AT


def test_a_cosignature_of_other_time_text_length_or_key_fails() -> None:
    line = cosign(NOTE.text, WITNESSES[0], AT)
    later = replace(line, signature=(AT + 1).to_bytes(8, "big") + line.signature[8:])
    huge = replace(line, signature=b"\xff" + line.signature[1:])
    foreign = replace(line, signature=cosign(NOTE.text, WITNESSES[1], AT).signature)
    plain = replace(line, signature=line.signature[:8] + WITNESSES[0].private.sign(NOTE.text))
    cut, longer = (replace(line, signature=value) for value in (line.signature[:-1], line.signature + b"\0"))
    for bad in (later, huge, foreign, plain, cut, longer):
        with pytest.raises(VerificationError) as raised:
            verify_cosignatures(Note(text=NOTE.text, signatures=(bad,)), KEYS)
        assert raised.value.failed.id == Check.LOG_COSIGNATURE
        # Two good ones do not outweigh it.
        assert refused(add_signatures(NOTE, [bad])) == Check.LOG_COSIGNATURE
    other = sign_checkpoint(TREE.checkpoint(39), LOG_KEY).note
    with pytest.raises(VerificationError):
        verify_cosignatures(replace(other, signatures=(line,)), KEYS)


def test_extension_lines_are_cosigned() -> None:
    extended = sign_checkpoint(replace(SIGNED.checkpoint, extensions=("a",)), LOG_KEY).note
    line = cosign(extended.text, WITNESSES[0], AT)
    assert verify_cosignatures(replace(extended, signatures=(line,)), KEYS)
    with pytest.raises(VerificationError):
        verify_cosignatures(Note(text=NOTE.text, signatures=(line,)), KEYS)


def test_only_a_witness_cosigns_and_only_checkpoints() -> None:
    with pytest.raises(UsageError):
        cosign(NOTE.text, LOG_KEY, AT)
    for time in (-1, 1 << 63):
        with pytest.raises(UsageError):
            cosign(NOTE.text, WITNESSES[0], time)
    with pytest.raises(MalformedEvidence):
        cosign(b"no checkpoint\n", WITNESSES[0], AT)
    with pytest.raises(UsageError):
        verify_cosignatures(NOTE, [LOG_KEY.verifier])


def ml_dsa_line(private: MLDSA44PrivateKey, note: Note, time: int) -> tuple[VerifierKey, NoteSignature]:
    public = private.public_key().public_bytes_raw()
    key = VerifierKey(name="witness.example.org/pq", type=KeyType.ML_DSA_44, public=public)
    signature = time.to_bytes(8, "big") + private.sign(cosigned_message(key, note.text, time))
    return key, NoteSignature(name=key.name, key_id=key.key_id, signature=signature)


def test_a_cosignature_with_ml_dsa_counts_and_binds_name_time_and_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    key, line = ml_dsa_line(MLDSA44PrivateKey.generate(), NOTE, AT)
    note = Note(text=NOTE.text, signatures=(*SIGNED.note.signatures, line))
    trust = f"log {encode_verifier_key(LOG_KEY.verifier)}\nwitness pq {encode_verifier_key(key)}\nquorum pq\n"
    assert verify_checkpoint(note, parse_policy(trust.encode()), AT).time == AT
    renamed = replace(key, name="another")
    other_name = replace(line, name="another", key_id=renamed.key_id)
    later = replace(line, signature=(AT + 1).to_bytes(8, "big") + line.signature[8:])
    for who, text, bad in (
        (renamed, NOTE.text, other_name),
        (key, NOTE.text, later),
        (key, TREE.signed(39).note.text, line),
        (key, NOTE.text, replace(line, signature=line.signature[:-1])),
    ):
        with pytest.raises(VerificationError) as raised:
            verify_cosignatures(Note(text=text, signatures=(bad,)), [who])
        assert raised.value.failed.id == Check.LOG_COSIGNATURE
    with pytest.raises(MalformedEvidence):
        verify_cosignatures(Note(text=b"no checkpoint\n", signatures=(line,)), [key])

    class Without:
        @staticmethod
        def from_public_bytes(public: bytes) -> MLDSA44PublicKey:
            raise UnsupportedAlgorithm("none here")

    monkeypatch.setattr("dokimos.transparency.cosignature.MLDSA44PublicKey", Without)
    with pytest.raises(UnsupportedEvidence):
        verify_cosignatures(note, [key])


def test_the_message_for_ml_dsa_is_laid_out_as_specified() -> None:
    key = VerifierKey(name="w", type=KeyType.ML_DSA_44, public=bytes(1312))
    text = sign_checkpoint(Checkpoint(origin="oo", size=5, root=b"r" * 32), LOG_KEY).note.text
    wanted = (
        b"subtree/v1\n\0" + b"\x01w" + bytes([0] * 7 + [9]) + b"\x02oo" + bytes(8) + bytes([0] * 7 + [5]) + b"r" * 32
    )
    assert cosigned_message(key, text, 9) == wanted


def test_a_policy_is_read_with_its_urls_comments_and_spaces() -> None:
    assert [(log.key, log.url) for log in TRUST.logs] == [(LOG_KEY.verifier, f"https://{ORIGIN}")]
    assert [witness.key for witness in TRUST.witnesses] == KEYS
    assert isinstance(TRUST.quorum, Group)
    assert (TRUST.quorum.name, TRUST.quorum.threshold, len(TRUST.quorum.members)) == ("two", 2, 3)
    spaced = f" \t\n\t# log\n\twitness  \t K\xff {VKEYS[0]}\thttps://w \nquorum K\xff\t\n"
    found = parse_policy(spaced.encode("latin-1"))
    assert isinstance(found.quorum, Witness)
    assert found.quorum.url == "https://w"
    assert parse_policy(b"quorum none\n").quorum is None


W = "".join(f"witness w{n} {vkey}\n" for n, vkey in enumerate(VKEYS))
L = f"log {encode_verifier_key(LOG_KEY.verifier)}\n"
PQ = VerifierKey(name="pq", type=KeyType.ML_DSA_44, public=bytes(1312))


@pytest.mark.parametrize(
    "text",
    [
        "",
        W,
        W + "quorum w0",
        W + "quorum w0\r\n",
        W + "quorum w0\x7f\n",
        W + "quorum w0\nquorum w0\n",
        W + "quorum w0\nquorum none\n",
        "quorum w0\n" + W,
        W + "quorum w3\n",
        W + "quorum w0 w1\n",
        W + "quorum\n",
        W + "quorum W0\n",
        W + "group g 0 w0 w1\nquorum g\n",
        W + "group g 3 w0 w1\nquorum g\n",
        W + "group g 02 w0 w1\nquorum g\n",
        W + "group g -1 w0 w1\nquorum g\n",
        W + "group g most w0 w1\nquorum g\n",
        W + "group g all\nquorum g\n",
        W + "group g any w0 w0\nquorum g\n",
        W + "group g any w0 g\nquorum g\n",
        W + "group g any none\nquorum g\n",
        W + "group none any w0\nquorum none\n",
        W + "group w0 any w1\nquorum w0\n",
        W + "group a any w0 w1\ngroup b any w1 w2\ngroup c all a b\nquorum c\n",
        W + f"witness other {VKEYS[0]}\nquorum w0\n",
        W + f"witness w0 {encode_verifier_key(PQ)}\nquorum w0\n",
        W + f"witness none {encode_verifier_key(PQ)}\nquorum w0\n",
        W + f"witness log {encode_verifier_key(LOG_KEY.verifier)}\nquorum w0\n",
        W + f"witness other {VKEYS[0][:-4]}AAA=\nquorum w0\n",
        W + "witness other\nquorum w0\n",
        W + f"witness other {encode_verifier_key(PQ)} url more\nquorum w0\n",
        W + L + L + "quorum w0\n",
        W + f"log {VKEYS[0]}\nquorum w0\n",
        W + "log\nquorum w0\n",
        W + L[:-1] + " url more\nquorum w0\n",
        W + "vote w0\nquorum w0\n",
        "# " + "x" * (1 << 20) + "\nquorum none\n",
        "witness g0 " + VKEYS[0] + "\n" + "".join(f"group g{n + 1} any g{n}\n" for n in range(40)) + "quorum g40\n",
    ],
)
def test_what_is_no_policy_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_policy(text.encode("latin-1"))


def test_the_same_key_under_another_name_is_still_the_same_witness_and_log() -> None:
    renamed = encode_verifier_key(replace(KEYS[0], name="elsewhere.example"))
    with pytest.raises(UsageError, match="line 4"):
        parse_policy(f"{W}witness w9 {renamed}\nquorum w0\n".encode())
    renamed = encode_verifier_key(replace(LOG_KEY.verifier, name="elsewhere.example"))
    with pytest.raises(UsageError, match="line 2"):
        parse_policy(f"{L}log {renamed}\nquorum none\n".encode())


def test_a_policy_of_many_names_is_read() -> None:
    keys = [replace(KEYS[0], name=f"w{n}", public=n.to_bytes(32, "big")) for n in range(64)]
    lines = [f"witness w{n} {encode_verifier_key(key)}\n" for n, key in enumerate(keys)]
    lines += [f"group g{n} any w{2 * n} w{2 * n + 1}\n" for n in range(32)]
    lines += ["group top 17 " + " ".join(f"g{n}" for n in range(32)) + "\n", "quorum top\n"]
    assert len(parse_policy("".join(lines).encode()).witnesses) == 64


def test_the_time_of_a_quorum_is_the_one_at_which_it_was_still_met() -> None:
    text = W + "group x 2 w0 w1 w2\nquorum x\n"
    quorum = parse_policy(text.encode()).quorum
    assert quorum is not None
    publics = [key.public for key in KEYS]
    assert quorum_time(quorum, dict(zip(publics, (5, 9, 7), strict=True))) == 7
    assert quorum_time(quorum, dict(zip(publics, (5, 9), strict=False))) == 5
    assert quorum_time(quorum, {publics[0]: 5}) is None
    nested = parse_policy((W + "group x any w0 w1\ngroup y all x w2\nquorum y\n").encode()).quorum
    assert nested is not None
    assert quorum_time(nested, dict(zip(publics, (5, 9, 7), strict=True))) == 7
    assert quorum_time(nested, {publics[0]: 5, publics[1]: 9}) is None


def test_a_checkpoint_that_meets_the_policy_is_trusted_with_its_time() -> None:
    found = verify_checkpoint(NOTE, TRUST, AT)
    assert (found.checkpoint, found.time, found.log.key) == (TREE.checkpoint(), AT - 20, LOG_KEY.verifier)
    assert len(found.cosignatures) == 2


def test_too_few_too_old_and_future_cosignatures_are_refused() -> None:
    assert refused(SIGNED.note) == Check.LOG_QUORUM
    assert refused(cosigned(SIGNED, AT)) == Check.LOG_QUORUM
    assert refused(cosigned(SIGNED, AT, AT - 86401)) == Check.LOG_FRESH
    assert refused(cosigned(SIGNED, AT, AT + 301)) == Check.LOG_FUTURE
    assert verify_checkpoint(cosigned(SIGNED, AT, AT - 86400), TRUST, AT).time == AT - 86400
    assert verify_checkpoint(cosigned(SIGNED, AT, AT + 300), TRUST, AT).time == AT
    # A witness with a wrong clock does not stop the others, and does not help them.
    assert verify_checkpoint(cosigned(SIGNED, 1 << 62, AT, AT - 1), TRUST, AT).time == AT - 1
    assert verify_checkpoint(cosigned(SIGNED, 0, 1), TRUST, AT, ANY_AGE).time == 0


def test_a_policy_without_a_quorum_has_no_time_and_must_ask_for_that() -> None:
    trust = L + "quorum none\n"
    assert refused(SIGNED.note, trust) == Check.LOG_FRESH
    assert verify_checkpoint(SIGNED.note, parse_policy(trust.encode()), AT, ANY_AGE).time is None


def test_a_log_that_the_policy_does_not_list_is_refused() -> None:
    other = sign_checkpoint(TREE.checkpoint(), OTHER_KEY)
    assert refused(cosigned(other, AT, AT)) == Check.LOG_SIGNATURE
    assert refused(NOTE, W + "group x any w0 w1\nquorum x\n") == Check.LOG_SIGNATURE
    # Listed, but it signs in the name of another log.
    both = POLICY + f"log {encode_verifier_key(OTHER_KEY.verifier)}\n".encode()
    assert refused(cosigned(other, AT, AT), both) == Check.LOG_ORIGIN
    forged = add_signatures(NOTE, [replace(other.note.signatures[0], signature=bytes(64))])
    assert refused(forged, both) == Check.LOG_SIGNATURE
    countersigned = add_signatures(NOTE, other.note.signatures)
    assert verify_checkpoint(countersigned, parse_policy(both), AT).log.key == LOG_KEY.verifier


def proof_of(index: int, note: Note = NOTE, extra: bytes | None = None) -> Proof:
    return Proof(index=index, hashes=make_inclusion(index, 40, TREE.node), checkpoint=note, extra=extra)


def test_a_proof_of_every_entry_verifies_and_comes_back_as_it_was() -> None:
    for index, entry in enumerate(TREE.entries):
        proof = proof_of(index, extra=b"" if index % 2 else None)
        assert parse_proof(encode_proof(proof)) == proof
        assert verify_proof(entry, proof, TRUST, AT).checkpoint.size == 40


def test_a_proof_does_not_vouch_for_another_entry_or_index() -> None:
    for entry, proof in ((TREE.entries[12], proof_of(13)), (TREE.entries[13], replace(proof_of(13), index=12))):
        with pytest.raises(VerificationError) as raised:
            verify_proof(entry, proof, TRUST, AT)
        assert raised.value.failed.id == Check.LOG_INCLUSION


FILE = encode_proof(proof_of(INDEX))


def test_a_proof_file_with_one_flipped_bit_anywhere_is_refused() -> None:
    verify_proof(TREE.entries[INDEX], parse_proof(FILE), TRUST, AT)
    for at in range(len(FILE) * 8):
        data = bytearray(FILE)
        data[at // 8] ^= 1 << at % 8
        with pytest.raises((MalformedEvidence, VerificationError)):
            verify_proof(TREE.entries[INDEX], parse_proof(bytes(data)), TRUST, AT)


def test_a_proof_file_that_is_cut_is_refused() -> None:
    for length in range(len(FILE)):
        with pytest.raises((MalformedEvidence, VerificationError)):
            verify_proof(TREE.entries[INDEX], parse_proof(FILE[:length]), TRUST, AT)


HASH = base64.b64encode(bytes(32)).decode()
TAIL = FILE[FILE.index(b"\n\n") :].decode()


@pytest.mark.parametrize(
    "head",
    [
        "",
        "c2sp.org/tlog-proof@v2\nindex 1",
        "c2sp.org/tlog-proof@v1",
        "c2sp.org/tlog-proof@v1\nextra AAAA",
        "c2sp.org/tlog-proof@v1\nindex 01",
        "c2sp.org/tlog-proof@v1\nindex 1\nextra AAAA",
        "c2sp.org/tlog-proof@v1\nextra AAAA\nextra AAAA\nindex 1",
        "c2sp.org/tlog-proof@v1\nextra AAA\nindex 1",
        "c2sp.org/tlog-proof@v1\nindex 1\nAAAA",
        "c2sp.org/tlog-proof@v1\r\nindex 1",
        "c2sp.org/tlog-proof@v1\nindex 1\n" + "\n".join([HASH] * 64),
        "c2sp.org/tlog-proof@v1\nindex 1\n\xe9",
        "c2sp.org/tlog-proof@v1\nextra " + base64.b64encode(bytes(MAX_EXTRA + 1)).decode() + "\nindex 1",
    ],
)
def test_what_is_no_proof_file_is_refused(head: str) -> None:
    with pytest.raises(MalformedEvidence):
        parse_proof((head + TAIL).encode())
    with pytest.raises(MalformedEvidence):
        parse_proof(bytes(MAX_FILE + 1))


@given(st.binary(max_size=100))
def test_extra_bytes_are_kept_and_mean_nothing(extra: bytes) -> None:
    found = parse_proof(encode_proof(proof_of(3, extra=extra)))
    assert found.extra == extra
    assert verify_proof(TREE.entries[3], found, TRUST, AT).time == AT - 20


def test_a_cosigned_note_that_is_no_checkpoint_is_refused() -> None:
    note = sign_note(b"no checkpoint\n", [LOG_KEY])
    with pytest.raises(Error):
        verify_checkpoint(note, TRUST, AT)
