"""Tiles: a log as static files (C2SP tlog-tiles), and a reader that believes nothing but a verified checkpoint."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from ..codec import Reader
from ..errors import Check, MalformedEvidence, MaterialUnavailable, UsageError, VerificationError
from .checkpoint import Checkpoint
from .merkle import HASH_SIZE, fold, leaf_hash, make_consistency, make_inclusion, node_hash, tree_root
from .note import MAX_NUMBER, failed

HEIGHT: Final = 8
WIDTH: Final = 1 << HEIGHT
MAX_LEVEL: Final = 63
MAX_ENTRY: Final = 65535
MAX_BUNDLE: Final = WIDTH * (2 + MAX_ENTRY)
CHECKPOINT_PATH: Final = "checkpoint"

_REFERENCE: Final = "C2SP tlog-tiles, Merkle tree"
_CACHED: Final = 1024
_PATH: Final = re.compile(
    r"tile/(entries|0|[1-9][0-9]?)/((?:x[0-9]{3}/){0,6}[0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?", re.ASCII
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TilePath:
    """What a path names.

    Attributes:
        level: of the tile, None for a bundle of entries.
        index: within the level.
        width: hashes or entries, 256 in a full one.
    """

    level: int | None
    index: int
    width: int = WIDTH

    def __str__(self) -> str:
        kind = "entries" if self.level is None else str(self.level)
        digits = f"{self.index:03d}"
        digits = digits.zfill(-(-len(digits) // 3) * 3)
        *front, last = (digits[at : at + 3] for at in range(0, len(digits), 3))
        partial = "" if self.width == WIDTH else f".p/{self.width}"
        return "/".join(["tile", kind, *(f"x{group}" for group in front), last]) + partial


def tile_path(level: int, index: int, width: int = WIDTH) -> str:
    """Path of a tile of hashes."""
    return str(TilePath(level=level, index=index, width=width))


def entries_path(index: int, width: int = WIDTH) -> str:
    """Path of a bundle of entries."""
    return str(TilePath(level=None, index=index, width=width))


def parse_tile_path(text: str) -> TilePath:
    """Read a path.

    Raises:
        MalformedEvidence: no tile has it.
    """
    match = _PATH.fullmatch(text)
    if not match:
        raise MalformedEvidence(f"tile path: {text[:80]!r}")
    kind, digits, partial = match.groups()
    level = None if kind == "entries" else int(kind)
    index = int(digits.replace("/", "").replace("x", ""))
    found = TilePath(level=level, index=index, width=int(partial) if partial else WIDTH)
    # What is written in another way, with groups of zeros or a width of 256 and more, is another path.
    if (level or 0) > MAX_LEVEL or index > MAX_NUMBER or found.width > WIDTH or str(found) != text:
        raise MalformedEvidence(f"tile path: {text[:80]!r}")
    return found


def tile_width(level: int, index: int, size: int) -> int:
    """How many hashes a tile has in a tree of this size: from 0, where there is none, to 256."""
    return max(0, min(WIDTH, (size >> (HEIGHT * level)) - index * WIDTH))


def new_tiles(old: int, size: int) -> Iterator[TilePath]:
    """The tiles of hashes that a tree of this size has and that of the old size had not, leaves first."""
    level = 0
    while (hashes := size >> (HEIGHT * level)) > 0:
        before = old >> (HEIGHT * level)
        if hashes > before:
            for index in range(before // WIDTH, (hashes - 1) // WIDTH + 1):
                yield TilePath(level=level, index=index, width=tile_width(level, index, size))
        level += 1


def parse_entries(data: bytes) -> tuple[bytes, ...]:
    """Entries of a bundle.

    Raises:
        MalformedEvidence: it is none, or holds no entry or more than 256.
    """
    if not 0 < len(data) <= MAX_BUNDLE:
        raise MalformedEvidence("entry bundle: empty or too large")
    reader = Reader(data, "entry bundle")
    found = list[bytes]()
    while reader.remaining:
        if len(found) == WIDTH:
            raise reader.fail(f"more than {WIDTH} entries")
        found.append(reader.take(reader.u16("big")))
    return tuple(found)


def encode_entries(entries: Iterable[bytes]) -> bytes:
    """The bytes of a bundle.

    Raises:
        UsageError: an entry is too large.
    """
    parts = []
    for entry in entries:
        if len(entry) > MAX_ENTRY:
            raise UsageError(f"log entry: {len(entry)} bytes, at most {MAX_ENTRY} fit")
        parts += [len(entry).to_bytes(2, "big"), entry]
    return b"".join(parts)


def subtree_root(hashes: Sequence[bytes]) -> bytes:
    """Root over a power of two of hashes."""
    while len(hashes) > 1:
        hashes = [node_hash(hashes[at], hashes[at + 1]) for at in range(0, len(hashes), 2)]
    return hashes[0]


class Fetch(Protocol):
    """Where a log's files come from."""

    def __call__(self, path: str, /) -> bytes:
        """The bytes of one file.

        Raises:
            MaterialUnavailable: there is none.
        """


class TileReader:
    """A log as its tiles tell it, each compared with the root of a checkpoint before anything of it is used.

    Args:
        fetch: gets files.
        checkpoint: whose signatures the caller has verified.

    Raises:
        MaterialUnavailable: by every method, when a file is not there.
        VerificationError: by every method, when a file is not what the checkpoint stands for.
        UsageError: by every method, when what is asked for lies outside the tree.
    """

    def __init__(self, fetch: Fetch, checkpoint: Checkpoint) -> None:
        self._fetch = fetch
        self.checkpoint = checkpoint
        self._edge: dict[int, tuple[bytes, ...]] | None = None
        self._full: OrderedDict[tuple[int, int], tuple[bytes, ...]] = OrderedDict()

    @property
    def size(self) -> int:
        """Entries of the tree."""
        return self.checkpoint.size

    def node(self, level: int, index: int) -> bytes:
        """Hash of the full subtree over the leaves from `index << level` on."""
        if level < 0 or not 0 <= index < self.size >> level:
            raise UsageError(f"log tiles: no node {index} of level {level} in a tree of {self.size}")
        above, inside = divmod(level, HEIGHT)
        first = index << inside
        hashes = self.tile(above, first // WIDTH)
        return subtree_root(hashes[first % WIDTH : first % WIDTH + (1 << inside)])

    def tile(self, level: int, index: int) -> tuple[bytes, ...]:
        """Hashes of a tile."""
        width = tile_width(level, index, self.size) if level >= 0 <= index else 0
        if width == 0:
            raise UsageError(f"log tiles: no tile {index} of level {level} in a tree of {self.size}")
        if width < WIDTH:
            return self._edge_tiles()[level]
        if (level, index) in self._full:
            self._full.move_to_end((level, index))
            return self._full[level, index]
        # The tile's own hash stands in a tile above, which is verified in the same way.
        wanted = self.tile(level + 1, index // WIDTH)[index % WIDTH]
        hashes = self._hashes(level, index, WIDTH)
        if subtree_root(hashes) != wanted:
            raise _false(tile_path(level, index), "a tile is not the one of the checkpoint")
        self._full[level, index] = hashes
        if len(self._full) > _CACHED:
            self._full.popitem(last=False)
        return hashes

    def _edge_tiles(self) -> dict[int, tuple[bytes, ...]]:
        """The tiles that are not full, by level: together they make the root, so they are verified together."""
        if self._edge is None:
            found: dict[int, tuple[bytes, ...]] = {}
            level = 0
            while (hashes := self.size >> (HEIGHT * level)) > 0:
                if width := hashes % WIDTH:
                    found[level] = self._hashes(level, hashes // WIDTH, width)
                level += 1
            parts = [root for at in sorted(found, reverse=True) for root in _full_subtrees(found[at])]
            if fold(parts) != self.checkpoint.root:
                raise _false(CHECKPOINT_PATH, "the tiles do not make the root of the checkpoint")
            self._edge = found
        return self._edge

    def _hashes(self, level: int, index: int, width: int) -> tuple[bytes, ...]:
        """Hashes of a tile that are not verified yet."""
        path = TilePath(level=level, index=index, width=width)
        data, whole = self._fetch_either(path)
        if len(data) != whole * HASH_SIZE:
            raise _false(str(path), "a tile of another length")
        return tuple(data[at : at + HASH_SIZE] for at in range(0, width * HASH_SIZE, HASH_SIZE))

    def _fetch_either(self, path: TilePath) -> tuple[bytes, int]:
        """The file and its width; a log may delete what is not full as soon as it is full."""
        try:
            return self._fetch(str(path)), path.width
        except MaterialUnavailable:
            if path.width == WIDTH:
                raise
            full = TilePath(level=path.level, index=path.index)
            return self._fetch(str(full)), WIDTH

    def bundle(self, index: int) -> tuple[bytes, ...]:
        """Entries of a bundle."""
        hashes = self.tile(0, index)
        path = TilePath(level=None, index=index, width=len(hashes))
        data, whole = self._fetch_either(path)
        try:
            found = parse_entries(data)
        except MalformedEvidence as exc:
            raise _false(str(path), "not a bundle of entries") from exc
        if len(found) != whole or tuple(leaf_hash(entry) for entry in found[: len(hashes)]) != hashes:
            raise _false(str(path), "entries are not those of the checkpoint")
        return found[: len(hashes)]

    def entry(self, index: int) -> bytes:
        """One entry."""
        if not 0 <= index < self.size:
            raise UsageError(f"log tiles: no entry {index} in a tree of {self.size}")
        return self.bundle(index // WIDTH)[index % WIDTH]

    def entries(self, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Entries from start to end."""
        end = self.size if end is None else end
        if not 0 <= start <= end <= self.size:
            raise UsageError(f"log tiles: no entries {start} to {end} in a tree of {self.size}")
        while start < end:
            first = start - start % WIDTH
            yield from self.bundle(start // WIDTH)[start - first : end - first]
            start = first + WIDTH

    def inclusion(self, index: int) -> tuple[bytes, ...]:
        """Inclusion proof of an entry in the checkpoint's tree."""
        return make_inclusion(index, self.size, self.node)

    def consistency(self, older: int) -> tuple[bytes, ...]:
        """Consistency proof from an older size to the checkpoint's."""
        return make_consistency(older, self.size, self.node)

    def check_prefix(self, older: Checkpoint) -> None:
        """The tree of an older checkpoint is a prefix of this one."""
        if older.origin != self.checkpoint.origin or older.size > self.size:
            raise UsageError("log tiles: not an older checkpoint of this log")
        found = self.checkpoint.root if older.size == self.size else tree_root(older.size, self.node)
        if found != older.root:
            reference = "RFC 9162 2.1.4.2"
            raise failed(Check.LOG_CONSISTENCY, older.root, found, reference, "the older tree is no prefix")


def _full_subtrees(hashes: tuple[bytes, ...]) -> Iterator[bytes]:
    """Roots of the largest full subtrees of a tile that is not full, left to right."""
    start = 0
    for level in reversed(range(HEIGHT)):
        if len(hashes) >> level & 1:
            yield subtree_root(hashes[start : start + (1 << level)])
            start += 1 << level


def _false(path: str, message: str) -> VerificationError:
    return failed(Check.LOG_TILE, "", path, _REFERENCE, message)
