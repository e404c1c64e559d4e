"""Checkpoints: what a log says it holds, as the text of a signed note (C2SP tlog-checkpoint)."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Final

from ..errors import Check, MalformedEvidence
from .merkle import EMPTY_ROOT, HASH_SIZE
from .note import (
    Note,
    SigningKey,
    VerifierKey,
    check_characters,
    failed,
    parse_note,
    sign_note,
    unbase64,
    undecimal,
    verify_note,
)  # fmt: skip

MAX_ORIGIN: Final = 255
MAX_CHECKPOINT: Final = 64 << 10
_REFERENCE: Final = "C2SP tlog-checkpoint, origin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """Size and root of a log's tree.

    Attributes:
        origin: which log.
        size: its entries.
        root: of the tree over them.
        extensions: further lines, which mean nothing here.
    """

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedCheckpoint:
    """A checkpoint that its log has signed.

    Attributes:
        checkpoint: what the text says.
        note: text and signatures as received.
    """

    checkpoint: Checkpoint
    note: Note


def parse_checkpoint(data: bytes) -> Checkpoint:
    """Read the text of a checkpoint, without signatures.

    Raises:
        MalformedEvidence: it is not one.
    """
    if len(data) > MAX_CHECKPOINT or not data.endswith(b"\n"):
        raise MalformedEvidence("checkpoint: too large, or without a newline at its end")
    check_characters(data)
    lines = data.decode().split("\n")[:-1]
    if len(lines) < 3:
        raise MalformedEvidence("checkpoint: fewer than three lines")
    origin, size, root, *extensions = lines
    if not 0 < len(origin.encode()) <= MAX_ORIGIN or "" in extensions:
        raise MalformedEvidence("checkpoint: no origin or a too long one, or an empty extension line")
    found = Checkpoint(
        origin=origin,
        size=undecimal(size, "checkpoint size"),
        root=unbase64(root, "checkpoint root", HASH_SIZE),
        extensions=tuple(extensions),
    )
    if found.size == 0 and found.root != EMPTY_ROOT:
        raise MalformedEvidence("checkpoint: an empty tree with the root of another")
    return found


def encode_checkpoint(checkpoint: Checkpoint) -> bytes:
    """The text of a checkpoint.

    Raises:
        MalformedEvidence: its parts cannot be those of one.
    """
    root = base64.b64encode(checkpoint.root).decode()
    text = "".join(f"{line}\n" for line in (checkpoint.origin, checkpoint.size, root, *checkpoint.extensions)).encode()
    if parse_checkpoint(text) != checkpoint:
        raise MalformedEvidence("checkpoint: a line with a newline in it")
    return text


def sign_checkpoint(checkpoint: Checkpoint, key: SigningKey) -> SignedCheckpoint:
    """A checkpoint signed by its log."""
    return SignedCheckpoint(checkpoint=checkpoint, note=sign_note(encode_checkpoint(checkpoint), [key]))


def open_checkpoint(note: bytes, key: VerifierKey, origin: str | None = None) -> SignedCheckpoint:
    """Verify a checkpoint's note under its log's key, then read its text.

    Args:
        note: as received.
        key: of the log.
        origin: which log it must be; by default the one that the key is named after.

    Raises:
        MalformedEvidence: no note, or no checkpoint in it.
        VerificationError: the log did not sign it, or it is of another log.
    """
    return check_checkpoint(parse_note(note), key, origin)


def check_checkpoint(note: Note, key: VerifierKey, origin: str | None = None) -> SignedCheckpoint:
    """The same for a note that is parsed already."""
    verify_note(note, [key])
    found = parse_checkpoint(note.text)
    wanted = key.name if origin is None else origin
    if found.origin != wanted:
        raise failed(Check.LOG_ORIGIN, wanted, found.origin, _REFERENCE, "a checkpoint of another log")
    return SignedCheckpoint(checkpoint=found, note=note)
