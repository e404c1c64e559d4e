"""Proof files: an entry's index, its inclusion proof and a cosigned checkpoint, verified offline (C2SP tlog-proof)."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Final

from ..errors import MalformedEvidence
from .merkle import HASH_SIZE, MAX_PROOF, leaf_hash, verify_inclusion
from .note import MAX_NOTE, Note, encode_note, parse_note, unbase64, undecimal
from .policy import FRESH, Freshness, LogPolicy, TrustedCheckpoint, verify_checkpoint

MAX_EXTRA: Final = 1 << 20
MAX_FILE: Final = 2 * MAX_EXTRA + MAX_NOTE
_MAGIC: Final = "c2sp.org/tlog-proof@v1"
_INDEX: Final = "index "
_EXTRA: Final = "extra "


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """A proof file, not yet verified.

    Attributes:
        index: of the entry.
        hashes: of the inclusion proof, the leaf's sibling first.
        checkpoint: with its signatures.
        extra: bytes that nothing vouches for, None where there are none.
    """

    index: int
    hashes: tuple[bytes, ...]
    checkpoint: Note
    extra: bytes | None = None


def parse_proof(data: bytes) -> Proof:
    """Read a proof file.

    Raises:
        MalformedEvidence: it is not one.
    """
    if len(data) > MAX_FILE:
        raise MalformedEvidence(f"log proof: more than {MAX_FILE} bytes")
    head, blank, note = data.partition(b"\n\n")
    try:
        lines = head.decode("ascii").split("\n", MAX_PROOF + 4)
    except UnicodeDecodeError as exc:
        raise MalformedEvidence("log proof: not ASCII before the checkpoint") from exc
    if not blank or lines.pop(0) != _MAGIC:
        raise MalformedEvidence(f"log proof: no {_MAGIC}, or no blank line")
    extra = None
    if lines and lines[0].startswith(_EXTRA):
        extra = unbase64(lines.pop(0).removeprefix(_EXTRA), "log proof extra")
        if len(extra) > MAX_EXTRA:
            raise MalformedEvidence(f"log proof: more than {MAX_EXTRA} bytes of extra data")
    if not lines or not lines[0].startswith(_INDEX) or len(lines) > MAX_PROOF + 1:
        raise MalformedEvidence("log proof: no index, or too many hashes")
    index = undecimal(lines.pop(0).removeprefix(_INDEX), "log proof index")
    hashes = tuple(unbase64(line, "log proof hash", HASH_SIZE) for line in lines)
    return Proof(index=index, hashes=hashes, checkpoint=parse_note(note), extra=extra)


def encode_proof(proof: Proof) -> bytes:
    """The bytes of a proof file."""
    lines = [_MAGIC]
    if proof.extra is not None:
        lines.append(_EXTRA + base64.b64encode(proof.extra).decode())
    lines += [f"{_INDEX}{proof.index}", *(base64.b64encode(step).decode() for step in proof.hashes)]
    return "".join(f"{line}\n" for line in lines).encode() + b"\n" + encode_note(proof.checkpoint)


def verify_proof(
    entry: bytes, proof: Proof, policy: LogPolicy, at: int, freshness: Freshness = FRESH
) -> TrustedCheckpoint:
    """An entry is in a log that meets a policy.

    Args:
        entry: whole.
        proof: as received.
        policy: who is trusted.
        at: time of verification, POSIX seconds.
        freshness: how old the checkpoint may be.

    Raises:
        MalformedEvidence: no checkpoint in the proof.
        VerificationError: it is not shown.
    """
    found = verify_checkpoint(proof.checkpoint, policy, at, freshness)
    checkpoint = found.checkpoint
    verify_inclusion(proof.index, checkpoint.size, leaf_hash(entry), proof.hashes, checkpoint.root)
    return found
