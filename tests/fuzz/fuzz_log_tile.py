"""Any bytes are a proof file, entries or a tile's path, or one of our errors; a reader believes no others."""

from __future__ import annotations

import contextlib

from dokimos.errors import Error
from dokimos.transparency.checkpoint import Checkpoint
from dokimos.transparency.merkle import leaf_hash, node_hash, verify_inclusion
from dokimos.transparency.note import Note, NoteSignature
from dokimos.transparency.proof import Proof, encode_proof, parse_proof
from dokimos.transparency.tile import (
    TileReader,
    encode_entries,
    entries_path,
    parse_entries,
    parse_tile_path,
    tile_path,
)  # fmt: skip

_ENTRIES = [b"first", b"", b"third"]
_LEAVES = [leaf_hash(entry) for entry in _ENTRIES]
_ROOT = node_hash(node_hash(_LEAVES[0], _LEAVES[1]), _LEAVES[2])
_CHECKPOINT = Checkpoint(origin="log.example.org", size=3, root=_ROOT)
_NOTE = Note(text=b"text\n", signatures=(NoteSignature(name="a", key_id=bytes(4), signature=bytes(64)),))

SEEDS: list[bytes] = [
    encode_proof(Proof(index=1, hashes=(_LEAVES[0], _LEAVES[2]), checkpoint=_NOTE, extra=b"extra")),
    encode_proof(Proof(index=0, hashes=(), checkpoint=_NOTE)),
    encode_entries(_ENTRIES),
    b"".join(_LEAVES),
    b"tile/entries/x001/x234/067.p/255",
    b"tile/63/000",
]


def one_input(data: bytes) -> None:
    """Parse, and encode again; serve it as a log's file."""
    with contextlib.suppress(Error):
        proof = parse_proof(data)
        if encode_proof(proof) != data:
            raise AssertionError("a proof changes")
        verify_inclusion(proof.index, 3, _LEAVES[1], proof.hashes, _ROOT)
        if proof.index != 1:
            raise AssertionError("another index is shown")
    with contextlib.suppress(Error):
        if encode_entries(parse_entries(data)) != data:
            raise AssertionError("a bundle changes")
    with contextlib.suppress(Error):
        text = data.decode("latin-1")
        if str(parse_tile_path(text)) != text:
            raise AssertionError("a path changes")
    honest = {tile_path(0, 0, 3): b"".join(_LEAVES), entries_path(0, 3): encode_entries(_ENTRIES)}
    for path in honest:
        with contextlib.suppress(Error):
            if list(TileReader({**honest, path: data}.__getitem__, _CHECKPOINT).entries()) != _ENTRIES:
                raise AssertionError("other entries are believed")
