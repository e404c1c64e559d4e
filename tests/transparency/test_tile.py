"""Tiles and their reader."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dokimos.errors import Check, MalformedEvidence, MaterialUnavailable, UsageError, VerificationError
from dokimos.transparency.checkpoint import Checkpoint, open_checkpoint
from dokimos.transparency.merkle import EMPTY_ROOT, leaf_hash, verify_consistency, verify_inclusion
from dokimos.transparency.note import MAX_NUMBER, parse_verifier_key
from dokimos.transparency.tile import (
    MAX_ENTRY,
    WIDTH,
    TilePath,
    TileReader,
    encode_entries,
    entries_path,
    new_tiles,
    parse_entries,
    parse_tile_path,
    tile_path,
    tile_width,
)  # fmt: skip

from .trees import ORIGIN, Files, Tree

if TYPE_CHECKING:
    from collections.abc import Callable

LARGE = Tree([b"%d" % n * (n % 5) for n in range(70_000)])
SMALL = Tree([b"entry %d" % n for n in range(600)])


def reader(tree: Tree, files: dict[str, bytes] | None = None, size: int | None = None) -> TileReader:
    return TileReader(Files(tree.files() if files is None else files), tree.checkpoint(size))


def test_the_real_log_of_the_vectors_gives_what_its_manifest_says(vectors: Callable[[str], Any]) -> None:
    found = vectors("transparency/tessera-log")
    expected = found.manifest["expected"]
    key = parse_verifier_key(expected["vkey"])
    checkpoints = []
    for name, wanted in expected["checkpoints"].items():
        checkpoint = open_checkpoint(found.bytes(name), key, expected["origin"]).checkpoint
        assert (checkpoint.size, checkpoint.root.hex()) == (wanted["size"], wanted["root"])
        checkpoints.append(checkpoint)
    pairs = 0
    for newer in checkpoints:
        log = TileReader(found.bytes, newer)
        entries = list(log.entries())
        assert [log.node(0, index) for index in range(newer.size)] == [leaf_hash(entry) for entry in entries]
        for index in range(newer.size):
            verify_inclusion(index, newer.size, leaf_hash(entries[index]), log.inclusion(index), newer.root)
        for older in checkpoints[: newer.size + 1]:
            log.check_prefix(older)
            if 0 < older.size < newer.size:
                verify_consistency(older.size, newer.size, log.consistency(older.size), older.root, newer.root)
                pairs += 1
    assert pairs == expected["consistent_pairs"]
    for case in expected["cases"]:
        with pytest.raises(VerificationError) as raised:
            open_checkpoint(
                found.bytes(case["files"]["checkpoint"]),
                parse_verifier_key(case["options"]["vkey"]),
                expected["origin"],
            )
        assert raised.value.failed.id == Check.LOG_SIGNATURE


def test_paths_and_widths_are_those_of_the_vectors(vectors: Callable[[str], Any]) -> None:
    found = json.loads(vectors("transparency/notes").bytes("tile-paths.json"))
    for level, index, width, path in found["tile"]:
        assert tile_path(level, index, width or WIDTH) == path
        assert parse_tile_path(path) == TilePath(level=level, index=index, width=width or WIDTH)
    for entry, size, path in found["entries"]:
        index = entry // WIDTH
        assert entries_path(index, tile_width(0, index, size)) == path
    tiles = list(new_tiles(0, 70_000))
    counts = found["size_70000"]
    for level in range(3):
        assert sum(tile.level == level and tile.width == WIDTH for tile in tiles) == counts.get(f"full_l{level}", 0)
        assert [tile.width for tile in tiles if tile.level == level and tile.width < WIDTH] == [
            counts[f"partial_l{level}"]
        ]
    assert {tile.level for tile in tiles} == {0, 1, 2}


@given(st.none() | st.integers(0, 63), st.integers(0, MAX_NUMBER), st.integers(1, WIDTH))
def test_a_path_comes_back_as_it_was(level: int | None, index: int, width: int) -> None:
    path = TilePath(level=level, index=index, width=width)
    assert parse_tile_path(str(path)) == path


@pytest.mark.parametrize(
    "text",
    [
        "",
        "tile/0/0",
        "tile/00/000",
        "tile/64/000",
        "tile/-1/000",
        "tile/0/x000/001",
        "tile/0/001/002",
        "tile/0/x001/x002",
        "tile/0/x010/x000/x000/x000/x000/x000/000",
        "tile/0/000.p/0",
        "tile/0/000.p/01",
        "tile/0/000.p/256",
        "tile/0/000.p/300",
        "tile/0/000\n",
        "tile/0/../000",
        "/tile/0/000",
        "tile/Entries/000",
    ],
)
def test_what_is_no_path_of_a_tile_is_refused(text: str) -> None:
    with pytest.raises(MalformedEvidence):
        parse_tile_path(text)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 70_000), st.integers(0, 70_000))
def test_a_grown_log_has_the_tiles_of_one_written_at_once(one: int, other: int) -> None:
    old, size = sorted((one, other))
    whole = {str(tile) for tile in new_tiles(0, size)}
    grown = {str(tile) for tile in (*new_tiles(0, old), *new_tiles(old, size))}
    assert whole <= grown
    assert list(new_tiles(size, size)) == []


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=WIDTH))
def test_entries_come_back_as_they_were(entries: list[bytes]) -> None:
    assert parse_entries(encode_entries(entries)) == tuple(entries)


def test_a_bundle_that_is_cut_or_too_long_is_refused() -> None:
    data = encode_entries([b"a", b"", b"cde"])
    ends = {0, 3, 5, len(data)}
    for length in range(len(data) + 1):
        if length and length in ends:
            assert len(parse_entries(data[:length])) > 0
        else:
            with pytest.raises(MalformedEvidence):
                parse_entries(data[:length])
    with pytest.raises(MalformedEvidence):
        parse_entries(bytes(2 * (WIDTH + 1)))
    assert len(encode_entries([bytes(MAX_ENTRY)])) == MAX_ENTRY + 2
    with pytest.raises(UsageError):
        encode_entries([bytes(MAX_ENTRY + 1)])


def test_a_reader_gives_every_entry_and_proofs_that_verify() -> None:
    for size in (1, 2, 255, 256, 257, 511, 512, 600):
        tree = Tree(SMALL.entries[:size])
        log = reader(tree)
        assert list(log.entries()) == tree.entries
        for index in range(0, size, 37):
            assert log.entry(index) == tree.entries[index]
            verify_inclusion(index, size, leaf_hash(tree.entries[index]), log.inclusion(index), tree.roots[size])
            if index:
                verify_consistency(index, size, log.consistency(index), tree.roots[index], tree.roots[size])
                log.check_prefix(tree.checkpoint(index))
    assert list(reader(SMALL).entries(250, 515)) == SMALL.entries[250:515]
    assert list(reader(SMALL).entries(7, 7)) == []


def test_three_levels_of_tiles_are_read_and_each_but_once() -> None:
    log = reader(LARGE)
    for index in (0, 65_535, 65_536, 69_999):
        assert log.entry(index) == LARGE.entries[index]
        verify_inclusion(index, 70_000, leaf_hash(LARGE.entries[index]), log.inclusion(index), LARGE.roots[70_000])
    verify_consistency(300, 70_000, log.consistency(300), LARGE.roots[300], LARGE.roots[70_000])
    assert isinstance(log._fetch, Files)
    tiles = [path for path in log._fetch.asked if "entries" not in path]
    assert len(tiles) == len(set(tiles))
    assert "tile/2/000.p/1" in tiles


def test_an_empty_log_has_nothing() -> None:
    log = TileReader(Files({}), Checkpoint(origin=ORIGIN, size=0, root=EMPTY_ROOT))
    assert list(log.entries()) == []
    log.check_prefix(log.checkpoint)
    with pytest.raises(UsageError):
        log.entry(0)


def test_a_full_tile_stands_in_for_one_that_was_deleted() -> None:
    files = SMALL.files()
    log = reader(SMALL, files, 300)
    assert not {tile_path(0, 1, 44), entries_path(1, 44), tile_path(1, 0, 1)} & files.keys()
    files[tile_path(1, 0, 1)] = files[tile_path(1, 0, 2)][:32]
    assert list(log.entries()) == SMALL.entries[:300]


def test_a_file_that_is_missing_is_said_to_be_unavailable() -> None:
    for name in SMALL.files():
        files = SMALL.files()
        del files[name]
        with pytest.raises(MaterialUnavailable):
            list(reader(SMALL, files).entries())


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_no_file_with_a_flipped_bit_cut_or_longer_is_believed(data: st.DataObject) -> None:
    files = SMALL.files()
    name = data.draw(st.sampled_from(sorted(files)))
    content = bytearray(files[name])
    match data.draw(st.sampled_from(["flip", "cut", "longer"])):
        case "flip":
            bit = data.draw(st.integers(0, len(content) * 8 - 1))
            content[bit // 8] ^= 1 << bit % 8
        case "cut":
            del content[data.draw(st.integers(0, len(content) - 1)) :]
        case _:
            content += data.draw(st.binary(min_size=1, max_size=64))
    files[name] = bytes(content)
    with pytest.raises(VerificationError) as raised:
        list(reader(SMALL, files).entries())
    assert raised.value.failed.id == Check.LOG_TILE


def test_a_full_file_that_stands_in_is_not_believed_either() -> None:
    for name in (tile_path(0, 1), entries_path(1)):
        for content in (b"", SMALL.files()[name][:-1], b"\x01" + SMALL.files()[name][1:]):
            files = {**SMALL.files(), name: content, tile_path(1, 0, 1): SMALL.files()[tile_path(1, 0, 2)][:32]}
            with pytest.raises(VerificationError) as raised:
                list(reader(SMALL, files, 300).entries())
            assert raised.value.failed.id == Check.LOG_TILE


def test_tiles_of_another_log_are_not_believed() -> None:
    other = Tree([b"other %d" % n for n in range(600)])
    with pytest.raises(VerificationError):
        reader(SMALL, other.files()).entry(0)
    files = {**SMALL.files(), tile_path(0, 0): other.files()[tile_path(0, 0)]}
    assert reader(SMALL, files).entry(300) == SMALL.entries[300]
    with pytest.raises(VerificationError):
        reader(SMALL, files).entry(0)


def test_a_fork_is_no_prefix() -> None:
    log = reader(SMALL)
    for size in (1, 256, 300, 600):
        fork = Checkpoint(origin=ORIGIN, size=size, root=bytes(32))
        with pytest.raises(VerificationError) as raised:
            log.check_prefix(fork)
        assert raised.value.failed.id == Check.LOG_CONSISTENCY
    for wrong in (
        Checkpoint(origin="another", size=1, root=SMALL.roots[1]),
        Checkpoint(origin=ORIGIN, size=601, root=bytes(32)),
    ):
        with pytest.raises(UsageError):
            log.check_prefix(wrong)


def test_what_lies_outside_the_tree_is_not_asked_for() -> None:
    log = reader(SMALL)
    for ask in (
        lambda: log.entry(600),
        lambda: log.entry(-1),
        lambda: log.node(0, 600),
        lambda: log.node(-1, 0),
        lambda: log.node(9, 1),
        lambda: log.tile(0, 3),
        lambda: log.tile(0, -1),
        lambda: log.tile(-1, 0),
        lambda: log.inclusion(600),
        lambda: log.consistency(601),
        lambda: list(log.entries(0, 601)),
        lambda: list(log.entries(5, 4)),
    ):
        with pytest.raises(UsageError):
            ask()
    assert isinstance(log._fetch, Files)
    assert log._fetch.asked == []


def test_a_large_log_is_read_in_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dokimos.transparency.tile._CACHED", 4)
    log = reader(LARGE)
    assert list(log.entries()) == LARGE.entries
    assert len(log._full) == 4
