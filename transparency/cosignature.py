"""Cosignatures: a witness says that a checkpoint is the largest consistent one it has seen, and when.

Format: C2SP tlog-cosignature, with Ed25519 made and verified, and with ML-DSA-44 verified.  These times are the only
ones of a log: a checkpoint by itself has none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PublicKey

from ..errors import Check, UnsupportedEvidence, UsageError
from .checkpoint import parse_checkpoint
from .note import MAX_NUMBER, KeyType, Note, NoteSignature, SigningKey, VerifierKey, ed25519_verifies, failed, line_of

_REFERENCE: Final = "C2SP tlog-cosignature, format"
_LABEL: Final = b"subtree/v1\n\x00"
_SIZES: Final = {KeyType.COSIGNATURE: 8 + 64, KeyType.ML_DSA_44: 8 + 2420}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cosignature:
    """A verified cosignature.

    Attributes:
        key: of the witness.
        time: POSIX seconds at which it says it signed.
    """

    key: VerifierKey
    time: int


def cosigned_message(key: VerifierKey, text: bytes, time: int) -> bytes:
    """What a witness signs.

    Args:
        key: of the witness.
        text: of the checkpoint, as received.
        time: POSIX seconds.

    Raises:
        MalformedEvidence: the text is no checkpoint.
    """
    if key.type == KeyType.COSIGNATURE:
        return b"cosignature/v1\ntime %d\n%b" % (time, text)
    checkpoint = parse_checkpoint(text)
    name, origin = key.name.encode(), checkpoint.origin.encode()
    parts = [_LABEL, bytes([len(name)]), name, time.to_bytes(8, "big"), bytes([len(origin)]), origin]
    return b"".join([*parts, bytes(8), checkpoint.size.to_bytes(8, "big"), checkpoint.root])


def cosign(text: bytes, key: SigningKey, time: int) -> NoteSignature:
    """The signature line of a witness; whether the checkpoint is consistent is the caller's matter.

    Raises:
        MalformedEvidence: the text is no checkpoint.
        UsageError: the key is not a witness's, or the time does not fit.
    """
    if key.type != KeyType.COSIGNATURE or not 0 <= time <= MAX_NUMBER:
        raise UsageError("cosignature: not a witness's key, or no time that fits")
    parse_checkpoint(text)
    signature = key.private.sign(cosigned_message(key.verifier, text, time))
    return line_of(key, time.to_bytes(8, "big") + signature)


def verify_cosignatures(note: Note, keys: Sequence[VerifierKey]) -> tuple[Cosignature, ...]:
    """The newest cosignature of each of the witnesses that signed; signatures of others are ignored.

    Args:
        note: a checkpoint with its signatures.
        keys: of the witnesses that are known.

    Raises:
        VerificationError: a cosignature of a known witness fails.
        MalformedEvidence: the text is no checkpoint.
        UnsupportedEvidence: this machine's cryptography has no ML-DSA.
        UsageError: a key that does not cosign.
    """
    found = []
    for key in keys:
        if key.type not in _SIZES:
            raise UsageError(f"cosignature: the key of {key.name} is not a witness's")
        times = [_verified(note.text, key, signature) for signature in note.of(key)]
        if times:
            found.append(Cosignature(key=key, time=max(times)))
    return tuple(found)


def _verified(text: bytes, key: VerifierKey, signature: bytes) -> int:
    """Time of one cosignature."""
    time = int.from_bytes(signature[:8], "big")
    if len(signature) != _SIZES[key.type] or time > MAX_NUMBER:
        raise failed(Check.LOG_COSIGNATURE, _SIZES[key.type], len(signature), _REFERENCE, "not of its form")
    verifies = ed25519_verifies if key.type == KeyType.COSIGNATURE else _ml_dsa_verifies
    if not verifies(key.public, signature[8:], cosigned_message(key, text, time)):
        raise failed(Check.LOG_COSIGNATURE, key.name, "fails", _REFERENCE, "a cosignature of a known witness fails")
    return time


def _ml_dsa_verifies(public: bytes, signature: bytes, message: bytes) -> bool:
    try:
        MLDSA44PublicKey.from_public_bytes(public).verify(signature, message)
    except UnsupportedAlgorithm as exc:
        raise UnsupportedEvidence("cosignature: this machine's cryptography has no ML-DSA") from exc
    except (InvalidSignature, ValueError):
        return False
    return True
