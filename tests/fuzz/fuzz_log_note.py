"""Any bytes are a note, a key, a checkpoint or a policy, or one of our errors; what is one has one form."""

from __future__ import annotations

import contextlib

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from dokimos.errors import Error
from dokimos.transparency.checkpoint import Checkpoint, encode_checkpoint, parse_checkpoint, sign_checkpoint
from dokimos.transparency.cosignature import cosign
from dokimos.transparency.note import (
    KeyType,
    SigningKey,
    add_signatures,
    encode_note,
    encode_signature_lines,
    encode_signing_key,
    encode_verifier_key,
    parse_note,
    parse_signature_lines,
    parse_signing_key,
    parse_verifier_key,
)  # fmt: skip
from dokimos.transparency.policy import Freshness, parse_policy, verify_checkpoint

_PRIVATE = Ed25519PrivateKey.from_private_bytes(bytes(32))
_LOG = SigningKey(name="log.example.org", type=KeyType.ED25519, private=_PRIVATE)
_WITNESS = SigningKey(name="witness.example.org", type=KeyType.COSIGNATURE, private=_PRIVATE)
_SIGNED = sign_checkpoint(Checkpoint(origin=_LOG.name, size=7, root=bytes(range(32)), extensions=("more",)), _LOG).note
_NOTE = add_signatures(_SIGNED, [cosign(_SIGNED.text, _WITNESS, 1_790_000_000)])
_POLICY = (
    f"# who\nlog {encode_verifier_key(_LOG.verifier)} https://log\nwitness w {encode_verifier_key(_WITNESS.verifier)}\n"
    "group g all w\ngroup h 1 g\nquorum h\n"
).encode()
_TRUST = parse_policy(_POLICY)

SEEDS: list[bytes] = [
    encode_note(_NOTE),
    encode_signature_lines(_NOTE.signatures),
    _NOTE.text,
    encode_verifier_key(_WITNESS.verifier).encode(),
    encode_signing_key(_LOG).encode(),
    _POLICY,
]


def one_input(data: bytes) -> None:
    """Parse, and encode again."""
    with contextlib.suppress(Error):
        note = parse_note(data)
        if encode_note(note) != data:
            raise AssertionError("a note changes")
        verify_checkpoint(note, _TRUST, 1_790_000_000, Freshness(max_age=None))
        if note.text != _NOTE.text:
            raise AssertionError("another text is signed")
    with contextlib.suppress(Error):
        if encode_signature_lines(parse_signature_lines(data)) != data:
            raise AssertionError("signature lines change")
    with contextlib.suppress(Error):
        if encode_checkpoint(parse_checkpoint(data)) != data:
            raise AssertionError("a checkpoint changes")
    with contextlib.suppress(Error):
        policy = parse_policy(data)
        if not policy.logs and not policy.witnesses and policy.quorum is not None:
            raise AssertionError("a quorum of nobody")
    text = data.decode("latin-1")
    with contextlib.suppress(Error):
        if encode_verifier_key(parse_verifier_key(text)) != text:
            raise AssertionError("a key changes")
    with contextlib.suppress(Error):
        if encode_signing_key(parse_signing_key(text)) != text:
            raise AssertionError("a private key changes")
