"""dm-verity: the root hash of a file system image, recomputed by our own code.

Format 1 (Linux, Documentation/admin-guide/device-mapper/verity.rst): a digest is SHA-256(salt || block); each level
packs 128 digests into a block of 4096 bytes, the rest zero; the root hash is the digest of the last level's only block.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable
from typing import Final, NamedTuple
from uuid import UUID

from ..errors import MalformedEvidence, UsageError

BLOCK: Final = 4096
"""Bytes of a block, of data and of hashes."""
MAX_SALT: Final = 256
MAX_BLOCKS: Final = 1 << 32
_DIGESTS: Final = BLOCK // 32
_SUPERBLOCK: Final = struct.Struct("<8sII16s32sIIQH6x256s168x")


class Superblock(NamedTuple):
    """What veritysetup writes before the tree; a guest that takes its parameters from the command line never reads it.

    Attributes:
        uuid: of the volume.
        data_blocks: blocks of data.
        salt: up to 256 bytes.
    """

    uuid: UUID
    data_blocks: int
    salt: bytes


def _level(chunks: Iterable[bytes | bytearray | memoryview], salt: bytes) -> bytearray:
    """The digests of all blocks in a row."""
    out, salted = bytearray(), hashlib.sha256(salt)
    for chunk in chunks:
        view = memoryview(chunk)
        if len(view) % BLOCK:
            raise UsageError(f"a volume is hashed in whole blocks of {BLOCK} bytes")
        for start in range(0, len(view), BLOCK):
            digest = salted.copy()
            digest.update(view[start : start + BLOCK])
            out += digest.digest()
    return out


def _padded(level: bytearray) -> bytes:
    return bytes(level) + bytes(-len(level) % BLOCK)


def _levels(chunks: Iterable[bytes | bytearray | memoryview], salt: bytes) -> tuple[bytes, list[bytes]]:
    if len(salt) > MAX_SALT:
        raise UsageError(f"a salt has at most {MAX_SALT} bytes")
    digests = _level(chunks, salt)
    if not digests:
        raise UsageError("a volume without a block has no root hash")
    levels: list[bytes] = []
    while len(digests) > 32:
        levels.append(_padded(digests))
        digests = _level([levels[-1]], salt)
    return bytes(digests), levels


def root_hash(chunks: Iterable[bytes | bytearray | memoryview], salt: bytes) -> bytes:
    """The root hash of a volume.

    Args:
        chunks: its data in order, each chunk a whole number of 4096-byte blocks.
        salt: up to 256 bytes.

    Raises:
        UsageError: no data, half a block, or a longer salt.
    """
    return _levels(chunks, salt)[0]


def hash_tree(chunks: Iterable[bytes | bytearray | memoryview], salt: bytes) -> tuple[bytes, bytes]:
    """The root hash, and the tree as it lies on a disk, its uppermost level first; errors as :func:`root_hash`."""
    root, levels = _levels(chunks, salt)
    return root, b"".join(reversed(levels))


def encode_superblock(superblock: Superblock) -> bytes:
    """The 512 bytes of a superblock.

    Raises:
        UsageError: a salt or number of blocks that cannot be.
    """
    uuid, blocks, salt = superblock
    if len(salt) > MAX_SALT or not 0 < blocks <= MAX_BLOCKS:
        raise UsageError("a salt of at most 256 bytes and at least one block are needed")
    return _SUPERBLOCK.pack(b"verity\0\0", 1, 1, uuid.bytes, b"sha256", BLOCK, BLOCK, blocks, len(salt), salt)


def parse_superblock(data: bytes) -> Superblock:
    """Read a superblock.

    Raises:
        MalformedEvidence: not one of format 1 with SHA-256 and blocks of 4096 bytes.
    """
    if len(data) != _SUPERBLOCK.size:
        raise MalformedEvidence(f"verity: a superblock has {_SUPERBLOCK.size} bytes")
    magic, version, kind, uuid, name, data_block, hash_block, blocks, size, salt = _SUPERBLOCK.unpack(data)
    fixed = (magic, version, kind, name.rstrip(b"\0"), data_block, hash_block)
    if fixed != (b"verity\0\0", 1, 1, b"sha256", BLOCK, BLOCK):
        raise MalformedEvidence("verity: not a superblock of format 1 with SHA-256 and blocks of 4096 bytes")
    if size > MAX_SALT or not 0 < blocks <= MAX_BLOCKS:
        raise MalformedEvidence("verity: an impossible salt or number of blocks")
    return Superblock(UUID(bytes=uuid), blocks, salt[:size])
