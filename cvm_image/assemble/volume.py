"""A file system image with an appended dm-verity tree, written by our own code and verified by veritysetup.

dm-verity: Linux, Documentation/admin-guide/device-mapper/verity.rst; hash type 1, SHA-256, blocks of 4096 bytes.
"""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Final

from ...errors import MaterialUnavailable
from ...measurements.verity import Superblock, encode_superblock, hash_tree
from ..layout import VolumeInfo
from .toolbox import Toolbox, processors
from .tree import Tree, write_tar

BLOCK: Final = 4096
_READ: Final = 1 << 20
_MKSQUASHFS: Final = "usr/bin/mksquashfs"
_MKFS_EROFS: Final = "usr/bin/mkfs.erofs"
_VERITYSETUP: Final = "usr/sbin/veritysetup"
_MEMORY: Final = "192M"


def write_filesystem(
    tree: Tree,
    out: Path,
    *,
    kind: str,
    level: int,
    tools: Toolbox,
    epoch: int,
    ids: Mapping[str, int],
    identifier: uuid.UUID,
    archive: Path | None = None,
) -> str:
    """Write a tree as a read-only file system, a whole number of blocks long.

    Args:
        tree: what goes in.
        out: file to write.
        kind: "squashfs" or "erofs".
        level: of zstd; 0 stores without compression.
        tools: tools of the build.
        epoch: time of every file.
        ids: numbers of users and groups.
        identifier: of an erofs image; squashfs has none.
        archive: where the sorted tar is left too; None for nowhere, since it is made as the tool reads it.

    Returns:
        SHA-256 of the sorted tar that the file system was made of, in hex.

    Raises:
        Error: a tool failed.
    """
    if kind == "squashfs":
        args: list[str | Path] = ["-", out, "-tar", "-b", "128K", "-noappend", "-no-progress", "-quiet"]
        # The root folder is in no archive; without these it would be whoever's, with whatever umask.
        args += ["-root-mode", "0755", "-root-uid", "0", "-root-gid", "0"]
        args += ["-comp", "zstd", "-processors", str(processors()), "-mem", _MEMORY]
        args += ["-Xcompression-level", str(level)] if level else ["-noI", "-noD", "-noF", "-noX"]
        tool = _MKSQUASHFS
    else:
        args = ["--quiet", "-T", str(epoch), "-U", str(identifier), "--force-uid=0", "--force-gid=0"]
        args += ["-z", f"zstd,{level}", "-C65536"] if level else []
        args += ["--tar=f", out]
        tool = _MKFS_EROFS
    with tools.fed(tool, args) as stdin, archive.open("wb") if archive else nullcontext() as copy:
        digest = write_tar(tree, stdin, *([copy] if copy else []), epoch=epoch, ids=ids)
    size = out.stat().st_size
    os.truncate(out, -(-size // BLOCK) * BLOCK)
    return digest


def add_verity(image: Path, *, name: str, filesystem: str, mount: str, identity: bytes, tools: Toolbox) -> VolumeInfo:
    """Append the hash tree to an image.

    Args:
        image: the file system; the tree is appended.
        name: of the volume.
        filesystem: its kind.
        mount: where the guest mounts it.
        identity: what salt and UUID are derived from, so that they are the same in every build: never random.
        tools: tools of the build; the locked veritysetup must find the same root hash over what our own code wrote.

    Raises:
        UnsupportedEvidence: it does not.
    """
    blocks = image.stat().st_size // BLOCK
    salt = hashlib.sha256(b"dokimos/verity-salt/v1\0" + identity + name.encode()).digest()
    identifier = volume_uuid(identity, name)
    root, tree = hash_tree(data_chunks(image, blocks), salt)
    with image.open("ab") as file:
        file.write(encode_superblock(Superblock(identifier, blocks, salt)).ljust(BLOCK, b"\0") + tree)
        file.flush()
        os.fsync(file.fileno())  # veritysetup reads past the page cache
    # Not "format": it writes past the page cache too, which a FUSE file system may refuse while pages are in flight.
    tools.run(_VERITYSETUP, ["verify", f"--hash-offset={blocks * BLOCK}", image, image, root.hex()])
    return VolumeInfo(
        name=name,
        file=image.name,
        filesystem=filesystem,
        mount=mount,
        data_blocks=blocks,
        salt=salt.hex(),
        root_hash=root.hex(),
        uuid=str(identifier),
    )


def volume_uuid(identity: bytes, name: str) -> uuid.UUID:
    """The UUID of a volume, from what the image is made of."""
    return uuid.UUID(
        bytes=hashlib.sha256(b"dokimos/volume-uuid/v1\0" + identity + name.encode()).digest()[:16], version=4
    )


def data_chunks(image: Path, blocks: int) -> Iterator[bytes]:
    """The data of an image before its hash tree, in chunks of whole blocks.

    Raises:
        MaterialUnavailable: the file cannot be read, or is shorter.
    """
    left = blocks * BLOCK
    try:
        with image.open("rb", buffering=0) as file:
            while left and (chunk := file.read(min(left, _READ))):
                left -= len(chunk)
                yield chunk
    except OSError as exc:
        raise MaterialUnavailable(f"{image}: {exc.strerror}") from exc
    if left:
        raise MaterialUnavailable(f"{image}: shorter than its manifest says")


def option(volume: VolumeInfo) -> str:
    """The volume on the command line: all that the guest needs to open it, so that it reads nothing off the disk."""
    parts = (volume.name, volume.filesystem, str(volume.data_blocks), volume.salt, volume.root_hash, volume.mount)
    return "dokimos.volume=" + ":".join(parts)
