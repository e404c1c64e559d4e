"""Merkle trees of RFC 6962 and RFC 9162 with SHA-256: hashes, proofs made and verified, and trees that grow.

Makers take a function `node(level, index)`: the hash of the full subtree over the leaves from `index << level` to
`(index + 1) << level`.  Where the hashes lie, in tiles or in memory, is the caller's matter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256
from typing import Final, TypeAlias

from ..errors import Check, UsageError
from .note import MAX_NUMBER, failed

HASH_SIZE: Final = 32
EMPTY_ROOT: Final = sha256().digest()
MAX_PROOF: Final = 63
"""Most hashes of a proof in a tree of fewer than 2^63 leaves."""

_INCLUSION: Final = "RFC 9162 2.1.3.2"
_CONSISTENCY: Final = "RFC 9162 2.1.4.2"

Node: TypeAlias = Callable[[int, int], bytes]


def leaf_hash(entry: bytes) -> bytes:
    """Hash of an entry."""
    return sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash of two subtrees."""
    return sha256(b"\x01" + left + right).digest()


def verify_inclusion(index: int, size: int, leaf: bytes, proof: Sequence[bytes], root: bytes) -> None:
    """The leaf of this hash stands at this index of the tree.

    Args:
        index: of the leaf, from 0.
        size: leaves of the tree.
        leaf: hash of the leaf.
        proof: hashes, the leaf's sibling first.
        root: of the tree.

    Raises:
        VerificationError: it is not shown.
    """
    if not 0 <= index < size <= MAX_NUMBER:
        raise failed(Check.LOG_INCLUSION, size, index, _INCLUSION, "the index lies outside the tree")
    if len(proof) > MAX_PROOF or {len(found) for found in (leaf, root, *proof)} != {HASH_SIZE}:
        raise failed(Check.LOG_INCLUSION, HASH_SIZE, len(proof), _INCLUSION, "a hash of another size, or too many")
    at, last, found = index, size - 1, leaf
    for step in proof:
        if last == 0:
            raise failed(Check.LOG_INCLUSION, size, len(proof), _INCLUSION, "more hashes than the tree has levels")
        if at & 1 or at == last:
            found = node_hash(step, found)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            found = node_hash(found, step)
        at, last = at >> 1, last >> 1
    if last != 0 or found != root:
        raise failed(Check.LOG_INCLUSION, root, found, _INCLUSION, "the proof does not lead to the root")


def verify_consistency(size1: int, size2: int, proof: Sequence[bytes], root1: bytes, root2: bytes) -> None:
    """The tree of size1 is a prefix of the tree of size2; the empty tree is the caller's matter.

    Args:
        size1: leaves of the older tree, at least one.
        size2: leaves of the newer tree.
        proof: hashes.
        root1: of the older tree.
        root2: of the newer tree.

    Raises:
        VerificationError: it is not shown.
    """
    if not 0 < size1 <= size2 <= MAX_NUMBER:
        raise failed(Check.LOG_CONSISTENCY, size2, size1, _CONSISTENCY, "no sizes that a proof can join")
    if size1 == size2:
        if proof or root1 != root2:
            raise failed(Check.LOG_CONSISTENCY, root1, root2, _CONSISTENCY, "one size, and not one root without proof")
        return
    # A root of another size never equals a hash; the checkpoint's parser has refused it before.
    if not 0 < len(proof) <= MAX_PROOF or {len(found) for found in proof} != {HASH_SIZE}:
        raise failed(Check.LOG_CONSISTENCY, HASH_SIZE, len(proof), _CONSISTENCY, "no hashes, too many or of other size")
    at, last = size1 - 1, size2 - 1
    while at & 1:
        at, last = at >> 1, last >> 1
    # A full older tree is itself the first hash.
    first, *steps = (root1, *proof) if size1 & (size1 - 1) == 0 else proof
    older = newer = first
    for step in steps:
        if last == 0:
            raise failed(Check.LOG_CONSISTENCY, size2, len(proof), _CONSISTENCY, "more hashes than the tree has levels")
        if at & 1 or at == last:
            older, newer = node_hash(step, older), node_hash(step, newer)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            newer = node_hash(newer, step)
        at, last = at >> 1, last >> 1
    if last != 0 or older != root1 or newer != root2:
        raise failed(Check.LOG_CONSISTENCY, root2, newer, _CONSISTENCY, "the proof does not lead to both roots")


def range_nodes(start: int, end: int) -> list[tuple[int, int]]:
    """Level and index of the largest full subtrees that make up the leaves from start to end, left to right."""
    found = []
    while start < end:
        level = (end - start).bit_length() - 1
        if start:
            level = min(level, (start & -start).bit_length() - 1)
        found.append((level, start >> level))
        start += 1 << level
    return found


def range_root(start: int, end: int, node: Node) -> bytes:
    """Hash of the subtree over the leaves from start to end, of which start is where such a subtree can begin."""
    hashes = [node(level, index) for level, index in range_nodes(start, end)]
    return fold(hashes)


def fold(hashes: Sequence[bytes]) -> bytes:
    """Root of a tree from its full subtrees, left to right."""
    if not hashes:
        return EMPTY_ROOT
    root = hashes[-1]
    for left in reversed(hashes[:-1]):
        root = node_hash(left, root)
    return root


def tree_root(size: int, node: Node) -> bytes:
    """Root of the tree of the first `size` leaves."""
    return range_root(0, size, node)


def make_inclusion(index: int, size: int, node: Node) -> tuple[bytes, ...]:
    """Proof for the leaf at this index of the tree of this size.

    Raises:
        UsageError: there is no such leaf.
    """
    if not 0 <= index < size:
        raise UsageError(f"inclusion proof: no entry {index} in a tree of {size}")
    start, end, proof = 0, size, list[bytes]()
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            proof.append(range_root(middle, end, node))
            end = middle
        else:
            proof.append(range_root(start, middle, node))
            start = middle
    return tuple(reversed(proof))


def make_consistency(size1: int, size2: int, node: Node) -> tuple[bytes, ...]:
    """Proof that the tree of size1 is a prefix of the tree of size2; none is needed from the empty tree.

    Raises:
        UsageError: the older tree is the larger one.
    """
    if not 0 <= size1 <= size2:
        raise UsageError(f"consistency proof: from {size1} to {size2}")
    if size1 in {0, size2}:
        return ()
    start, end, whole, proof = 0, size2, True, list[bytes]()
    while size1 != end:
        middle = start + _split(end - start)
        if size1 <= middle:
            proof.append(range_root(middle, end, node))
            end = middle
        else:
            proof.append(range_root(start, middle, node))
            start, whole = middle, False
    if not whole:
        proof.append(range_root(start, end, node))
    return tuple(reversed(proof))


def _split(size: int) -> int:
    """The largest power of two below the size."""
    return 1 << ((size - 1).bit_length() - 1)


class CompactRange:
    """A tree that grows: only the roots of its full subtrees are kept, one for each one bit of its size.

    Args:
        size: leaves that are there already.
        hashes: of its full subtrees, left to right.

    Raises:
        UsageError: as many hashes as the size has one bits are needed.
    """

    __slots__ = ("_hashes", "size")

    def __init__(self, size: int = 0, hashes: Iterable[bytes] = ()) -> None:
        self.size = size
        self._hashes = list(hashes)
        if size < 0 or len(self._hashes) != size.bit_count():
            raise UsageError(f"compact range: {len(self._hashes)} hashes for a tree of {size}")

    @property
    def hashes(self) -> tuple[bytes, ...]:
        """Of the full subtrees, left to right."""
        return tuple(self._hashes)

    def append(self, leaf: bytes) -> list[tuple[int, int, bytes]]:
        """Add a leaf's hash; level, index and hash of every subtree that is full now, the leaf first."""
        level, index, found = 0, self.size, leaf
        full = [(level, index, found)]
        while index & 1:
            found = node_hash(self._hashes.pop(), found)
            level, index = level + 1, index >> 1
            full.append((level, index, found))
        self._hashes.append(found)
        self.size += 1
        return full

    def root(self) -> bytes:
        """Root of the tree so far."""
        return fold(self._hashes)
