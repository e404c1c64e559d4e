"""Logs in memory for the tests: every file that a static server would have, and keys from fixed seeds."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from dokimos.errors import MaterialUnavailable
from dokimos.transparency.checkpoint import Checkpoint, SignedCheckpoint, sign_checkpoint
from dokimos.transparency.cosignature import cosign
from dokimos.transparency.merkle import CompactRange, leaf_hash
from dokimos.transparency.note import KeyType, Note, SigningKey, add_signatures, encode_verifier_key
from dokimos.transparency.tile import HEIGHT, WIDTH, encode_entries, entries_path, new_tiles, tile_width

ORIGIN = "log.example.org/images"
AT = 1_790_000_000


def key(name: str, kind: KeyType, seed: int) -> SigningKey:
    return SigningKey(name=name, type=kind, private=Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32))


LOG_KEY = key(ORIGIN, KeyType.ED25519, 1)
OTHER_KEY = key("other.example.org/log", KeyType.ED25519, 2)
WITNESSES = [key(f"witness.example.org/w{n}", KeyType.COSIGNATURE, 10 + n) for n in range(3)]

POLICY = "".join(
    [
        "# one log, two of three witnesses\n",
        f"log {encode_verifier_key(LOG_KEY.verifier)} https://{ORIGIN}\n",
        *(f"witness w{n} {encode_verifier_key(witness.verifier)}\n" for n, witness in enumerate(WITNESSES)),
        "group two 2 w0 w1 w2\n",
        "quorum two\n",
    ]
).encode()


class Tree:
    """A tree with all its full subtrees and the roots of all its sizes."""

    def __init__(self, entries: list[bytes]) -> None:
        self.entries = entries
        self.nodes: dict[tuple[int, int], bytes] = {}
        grown = CompactRange()
        self.roots = [grown.root()]
        for entry in entries:
            self.nodes.update({(level, index): found for level, index, found in grown.append(leaf_hash(entry))})
            self.roots.append(grown.root())

    def node(self, level: int, index: int) -> bytes:
        return self.nodes[level, index]

    def checkpoint(self, size: int | None = None) -> Checkpoint:
        size = len(self.entries) if size is None else size
        return Checkpoint(origin=ORIGIN, size=size, root=self.roots[size])

    def signed(self, size: int | None = None) -> SignedCheckpoint:
        return sign_checkpoint(self.checkpoint(size), LOG_KEY)

    def files(self, old: int = 0) -> dict[str, bytes]:
        """The tiles and bundles of the whole tree."""
        size = len(self.entries)
        found = {}
        for path in new_tiles(old, size):
            assert path.level is not None
            first = path.index * WIDTH
            row = [self.nodes[HEIGHT * path.level, first + n] for n in range(path.width)]
            found[str(path)] = b"".join(row)
        for index in range(-(-size // WIDTH)):
            width = tile_width(0, index, size)
            bundle = encode_entries(self.entries[index * WIDTH : index * WIDTH + width])
            found[entries_path(index, width)] = bundle
        return found


def cosigned(signed: SignedCheckpoint, *times: int | None) -> Note:
    """The checkpoint with a cosignature of each witness that has a time."""
    lines = [cosign(signed.note.text, who, at) for who, at in zip(WITNESSES, times, strict=False) if at is not None]
    return add_signatures(signed.note, lines)


class Files:
    """A static server, which counts what is asked for."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.asked: list[str] = []

    def __call__(self, path: str, /) -> bytes:
        self.asked.append(path)
        if path not in self.files:
            raise MaterialUnavailable(path)
        return self.files[path]
