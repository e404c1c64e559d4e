from __future__ import annotations

import hashlib
import shutil
import subprocess
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dokimos.errors import MalformedEvidence, UsageError
from dokimos.measurements.verity import BLOCK, Superblock, encode_superblock, hash_tree, parse_superblock, root_hash

SALT = hashlib.sha256(b"salt").digest()
UUID_ = UUID("11111111-2222-3333-4444-555555555555")
# Written with veritysetup 2.6.1; block n of the data is the number n, big-endian, 512 times.
KNOWN = {
    1: "d391000a113bd93b3d29998d89967540f4701168f2ef63399d5d3d8ecb33f052",
    128: "e1ba2c67d530f8f3d945761866e5b527782eba6d5850d189ab043314ac968194",
    129: "4d3a16a9930ec215a315237a6799462bdcc64c96bfd86f87558e55fa22b1e36c",
    16385: "375f6b47ec77a9380580b7544a0315a34b08491b9bcc6a964eb1e0a2695d6375",
}
TOOL = shutil.which("veritysetup") or shutil.which("veritysetup", path="/usr/sbin:/sbin")


def data(blocks):
    return b"".join(number.to_bytes(8, "big") * 512 for number in range(blocks))


@pytest.mark.parametrize("blocks", sorted(KNOWN))
def test_the_root_hash_is_veritysetups(blocks):
    assert root_hash([data(blocks)], SALT).hex() == KNOWN[blocks]


@given(st.lists(st.integers(1, 5), min_size=1, max_size=6))
def test_how_the_data_comes_in_chunks_does_not_matter(sizes):
    whole = data(sum(sizes))
    chunks, at = [], 0
    for size in sizes:
        chunks.append(memoryview(whole)[at : at + size * BLOCK])
        at += size * BLOCK
    assert root_hash(chunks, SALT) == root_hash([whole], SALT)


def test_one_flipped_bit_anywhere_gives_another_root():
    whole = bytearray(data(130))
    good = root_hash([whole], SALT)
    for at in (0, 4095, 129 * BLOCK, len(whole) - 1):
        whole[at] ^= 1
        assert root_hash([whole], SALT) != good
        whole[at] ^= 1
    assert root_hash([whole], b"other") != good


def test_half_a_block_no_data_or_too_long_a_salt_have_no_root():
    for chunks, salt in (([b"x"], SALT), ([], SALT), ([b""], SALT), ([data(1)], b"x" * 257)):
        with pytest.raises(UsageError):
            root_hash(chunks, salt)


@pytest.mark.skipif(TOOL is None, reason="no veritysetup here")
@pytest.mark.parametrize("blocks", [1, 2, 127, 128, 129, 16384, 16385])
def test_the_tree_and_the_superblock_are_veritysetups_byte_for_byte(tmp_path, blocks):
    (tmp_path / "d").write_bytes(data(blocks))
    command = [TOOL, "format", f"--salt={SALT.hex()}", f"--uuid={UUID_}", str(tmp_path / "d"), str(tmp_path / "h")]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    root, tree = hash_tree([data(blocks)], SALT)
    written = (tmp_path / "h").read_bytes()
    assert root.hex() in said
    assert written[:512] == encode_superblock(Superblock(UUID_, blocks, SALT))
    assert written[BLOCK:] == tree
    assert parse_superblock(written[:512]) == Superblock(UUID_, blocks, SALT)


@pytest.mark.parametrize("at", [0, 8, 12, 32, 36, 64, 68, 79, 81])
def test_a_superblock_of_another_format_is_refused(at):
    block = bytearray(encode_superblock(Superblock(UUID_, 1, SALT)))
    block[at] ^= 0xFF
    with pytest.raises(MalformedEvidence):
        parse_superblock(bytes(block))
    with pytest.raises(MalformedEvidence):
        parse_superblock(b"")
