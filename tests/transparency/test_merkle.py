"""Merkle trees: hashes, proofs, and trees that grow."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dokimos.errors import Check, UsageError, VerificationError
from dokimos.transparency.merkle import (
    EMPTY_ROOT,
    CompactRange,
    leaf_hash,
    make_consistency,
    make_inclusion,
    node_hash,
    tree_root,
    verify_consistency,
    verify_inclusion,
)  # fmt: skip

from .trees import Tree

if TYPE_CHECKING:
    from collections.abc import Callable

TREE = Tree([b"entry %d" % n for n in range(600)])
SIZES = st.integers(1, len(TREE.entries))


def b64(value: str | None) -> bytes:
    return base64.b64decode(value or "")


def accepts(case: dict[str, Any]) -> bool:
    proof = [b64(step) for step in case["proof"] or []]
    try:
        if "leafIdx" in case:
            leaf, root = b64(case["leafHash"]), b64(case["root"])
            verify_inclusion(case["leafIdx"], case["treeSize"], leaf, proof, root)
        else:
            verify_consistency(case["size1"], case["size2"], proof, b64(case["root1"]), b64(case["root2"]))
    except VerificationError:
        return False
    return True


def test_every_proof_of_the_vectors_gets_the_verdict_of_its_manifest(vectors: Callable[[str], Any]) -> None:
    found = vectors("transparency/merkle")
    expected = {case["files"]["proof"]: case["verdict"] == "accept" for case in found.manifest["expected"]["cases"]}
    cases = {name: json.loads(found.bytes(name)) for name in found.names}
    assert len(cases) == sum(found.manifest["expected"]["counts"].values()) == 196
    assert {name: not case["wantErr"] for name, case in cases.items()} == expected
    assert {name: accepts(case) for name, case in cases.items()} == expected


def test_hashes_are_those_of_rfc_6962(vectors: Callable[[str], Any]) -> None:
    constants = json.loads(vectors("transparency/notes").bytes("tile-paths.json"))["rfc6962"]
    assert EMPTY_ROOT.hex() == constants["empty_root"]
    assert leaf_hash(b"").hex() == constants["leaf_empty"]
    assert leaf_hash(b"L123456").hex() == constants["leaf_L123456"]
    assert node_hash(b"N123", b"N456").hex() == constants["node_N123_N456"]


def plain_root(entries: list[bytes]) -> bytes:
    """RFC 6962 2.1, word by word."""
    if len(entries) < 2:
        return leaf_hash(entries[0]) if entries else EMPTY_ROOT
    split = 1
    while split * 2 < len(entries):
        split *= 2
    return node_hash(plain_root(entries[:split]), plain_root(entries[split:]))


def test_a_grown_tree_has_the_root_of_the_definition() -> None:
    for size in [*range(70), 255, 256, 257, 600]:
        assert TREE.roots[size] == plain_root(TREE.entries[:size]) == tree_root(size, TREE.node)


def test_all_pairs_of_sizes_are_consistent() -> None:
    for size in range(1, len(TREE.entries) + 1):
        for older in range(1, size + 1):
            proof = make_consistency(older, size, TREE.node)
            verify_consistency(older, size, proof, TREE.roots[older], TREE.roots[size])


def test_every_entry_is_shown_in_every_tree() -> None:
    for size in [*range(1, 70), 255, 256, 257, 600]:
        for index in range(size):
            proof = make_inclusion(index, size, TREE.node)
            verify_inclusion(index, size, leaf_hash(TREE.entries[index]), proof, TREE.roots[size])


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_flipped_bit_is_accepted_in_an_inclusion_proof(data: st.DataObject) -> None:
    size = data.draw(SIZES)
    index = data.draw(st.integers(0, size - 1))
    parts = [leaf_hash(TREE.entries[index]), TREE.roots[size], *make_inclusion(index, size, TREE.node)]
    for at in range(len(parts) * 256):
        changed = list(parts)
        changed[at // 256] = flipped(changed[at // 256], at % 256)
        leaf, root, *proof = changed
        with pytest.raises(VerificationError):
            verify_inclusion(index, size, leaf, proof, root)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_flipped_bit_is_accepted_in_a_consistency_proof(data: st.DataObject) -> None:
    size = data.draw(SIZES)
    older = data.draw(st.integers(1, size))
    parts = [TREE.roots[older], TREE.roots[size], *make_consistency(older, size, TREE.node)]
    for at in range(len(parts) * 256):
        changed = list(parts)
        changed[at // 256] = flipped(changed[at // 256], at % 256)
        root1, root2, *proof = changed
        with pytest.raises(VerificationError):
            verify_consistency(older, size, proof, root1, root2)


def flipped(value: bytes, bit: int) -> bytes:
    return (int.from_bytes(value, "big") ^ 1 << bit).to_bytes(len(value), "big")


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_a_proof_that_is_cut_padded_or_moved_is_refused(data: st.DataObject) -> None:
    size = data.draw(SIZES)
    index = data.draw(st.integers(0, size - 1))
    leaf, root, proof = leaf_hash(TREE.entries[index]), TREE.roots[size], make_inclusion(index, size, TREE.node)
    wrong: list[tuple[int, tuple[bytes, ...]]] = [(index, proof[:n]) for n in range(len(proof))]
    wrong += [(index, (*proof, root)), (index, (leaf, *proof)), (index, (*proof, bytes(31)))]
    wrong += [(other, proof) for other in (index + 1, index - 1, index ^ 2, size, -1) if other != index]
    for at, steps in wrong:
        with pytest.raises(VerificationError):
            verify_inclusion(at, size, leaf, steps, root)


def test_a_proof_from_the_empty_tree_to_none_or_backwards_is_refused() -> None:
    root = TREE.roots[3]
    for older, newer in ((0, 3), (0, 0), (-1, 3), (4, 3), (3, 1 << 63)):
        with pytest.raises(VerificationError) as raised:
            verify_consistency(older, newer, [], root, root)
        assert raised.value.failed.id == Check.LOG_CONSISTENCY
    with pytest.raises(VerificationError):
        verify_inclusion(0, 1 << 63, root, [root] * 63, root)
    with pytest.raises(VerificationError):
        verify_inclusion(0, 2, root, [root] * 64, root)


def test_a_proof_that_cannot_be_made_is_refused() -> None:
    for index, size in ((0, 0), (3, 3), (-1, 3)):
        with pytest.raises(UsageError):
            make_inclusion(index, size, TREE.node)
    for older, newer in ((4, 3), (-1, 3)):
        with pytest.raises(UsageError):
            make_consistency(older, newer, TREE.node)
    assert make_consistency(0, 3, TREE.node) == make_consistency(3, 3, TREE.node) == ()


def test_a_tree_that_was_put_down_grows_on_as_before() -> None:
    for size in (0, 1, 5, 8, 255):
        grown = CompactRange()
        for entry in TREE.entries[:size]:
            grown.append(leaf_hash(entry))
        again = CompactRange(size, grown.hashes)
        for entry in TREE.entries[size : size + 20]:
            again.append(leaf_hash(entry))
        assert again.root() == TREE.roots[size + 20]
    for size, hashes in ((3, [EMPTY_ROOT]), (0, [EMPTY_ROOT]), (-1, [EMPTY_ROOT])):
        with pytest.raises(UsageError):
            CompactRange(size, hashes)
