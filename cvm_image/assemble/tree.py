"""A file system as a value: nodes by path, each with its origin; written out sorted, the same everywhere."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from fnmatch import fnmatchcase
from pathlib import Path
from typing import IO, Final, cast

from ...errors import MalformedEvidence
from ..layout import FileEntry

_CHUNK: Final = 1 << 20
_MAX_LINKS: Final = 40


class Kind(StrEnum):
    """What a node is."""

    FILE = "file"
    FOLDER = "folder"
    LINK = "link"
    DEVICE = "device"


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """Bytes, in memory or as a part of a file.

    Attributes:
        data: the bytes, or None.
        path: file that holds them where `data` is None.
        offset: of the first byte in that file.
        size: how many.
    """

    data: bytes | None = None
    path: Path | None = None
    offset: int = 0
    size: int

    @classmethod
    def of(cls, data: bytes) -> Content:
        """Bytes in memory."""
        return cls(data=data, size=len(data))

    def chunks(self) -> Iterator[bytes]:
        """The bytes, a part at a time."""
        if self.data is not None or self.path is None:
            yield self.data or b""
            return
        left = self.size
        with self.path.open("rb", buffering=0) as file:
            file.seek(self.offset)
            while left and (chunk := file.read(min(left, _CHUNK))):
                left -= len(chunk)
                yield chunk
        if left:
            raise MalformedEvidence(f"{self.path.name}: shorter than it was")

    def read(self) -> bytes:
        """All of the bytes."""
        return b"".join(self.chunks())

    def sha256(self) -> str:
        """Their SHA-256 in hex."""
        digest = hashlib.sha256()
        for chunk in self.chunks():
            digest.update(chunk)
        return digest.hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A file, folder, link or device.

    Attributes:
        path: absolute, without "." and "..".
        kind: what it is.
        mode: permission bits.
        owner: name of the owner.
        group: name of the group.
        content: of a file.
        target: of a link.
        device: major and minor number of a character device.
        origin: as in :class:`dokimos.cvm_image.layout.FileEntry`.
    """

    path: str
    kind: Kind
    mode: int
    owner: str = "root"
    group: str = "root"
    content: Content | None = None
    target: str = ""
    device: tuple[int, int] = (0, 0)
    origin: str


def normal(name: str) -> str:
    """An absolute path out of a member's name such as "./usr/bin".

    Raises:
        MalformedEvidence: it would lead out of the root, or holds a byte that no path should.
    """
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts or not name.isprintable():
        raise MalformedEvidence(f"{name!r:.120} is not a path that an image may have")
    return "/" + "/".join(parts)


def matches(path: str, patterns: Iterable[str]) -> bool:
    """Whether a path matches one of the shell patterns; "*" crosses folders."""
    return any(fnmatchcase(path, pattern) for pattern in patterns)


class Tree:
    """Nodes by path; two that differ at one path are an error unless the later may replace the earlier."""

    def __init__(self) -> None:
        self._nodes: dict[str, Node] = {}

    def __contains__(self, path: str) -> bool:
        return path in self._nodes

    def __getitem__(self, path: str) -> Node:
        return self._nodes[path]

    def __iter__(self) -> Iterator[Node]:
        """Sorted by path, so that a folder comes before what is in it."""
        return iter(sorted(self._nodes.values(), key=lambda node: node.path.split("/")))

    def under(self, *patterns: str) -> list[Node]:
        """The nodes whose path matches one of the patterns, sorted."""
        return [node for node in self if matches(node.path, patterns)]

    def add(self, node: Node, *, over: bool = False) -> None:
        """Add a node.

        Args:
            node: what to add.
            over: whether it may take the place of another.

        Raises:
            MalformedEvidence: another node stands at its path.
        """
        if node.path == "/":
            return
        path = self.resolved(node.path)
        node = node if path == node.path else replace(node, path=path)
        there = self._nodes.get(path)
        if there is not None and not over and not _same(there, node):
            raise MalformedEvidence(f"{path}: both {there.origin} and {node.origin} bring it, and they differ")
        if there is None or over:
            self._nodes[path] = node

    def remove(self, path: str) -> None:
        """Take a node out."""
        del self._nodes[path]

    def resolved(self, path: str) -> str:
        """The path with links among its folders followed, so that /lib/x and /usr/lib/x are one file.

        Raises:
            MalformedEvidence: links that lead in a circle.
        """
        parts, done = path.split("/")[1:], ""
        left = _MAX_LINKS
        while parts:
            here = f"{done}/{parts.pop(0)}"
            node = self._nodes.get(here)
            if node is not None and node.kind is Kind.LINK and parts:
                left -= 1
                if left < 0:
                    raise MalformedEvidence(f"{path}: links lead in a circle")
                target = node.target if node.target.startswith("/") else f"{done}/{node.target}"
                parts, done = [*normal(target).split("/")[1:], *parts], ""
            else:
                done = here
        return done

    def close(self) -> None:
        """Make the folders that something lies in but nobody brought, and drop nothing."""
        for path in list(self._nodes):
            while (path := path.rpartition("/")[0]) and path not in self._nodes:
                self._nodes[path] = Node(path=path, kind=Kind.FOLDER, mode=0o755, origin="profile")

    def prune(self, keep: Callable[[Node], bool]) -> None:
        """Drop every node that is not to be kept, and folders that become empty by it."""
        self._nodes = {path: node for path, node in self._nodes.items() if keep(node)}


def _same(a: Node, b: Node) -> bool:
    if a.kind is not b.kind:
        return False
    if a.kind is Kind.FOLDER:
        return True  # packages share folders; the first one's mode stands
    if a.kind is Kind.LINK:
        return a.target == b.target
    return (
        a.content is not None
        and b.content is not None
        and a.mode == b.mode
        and a.content.sha256() == b.content.sha256()
    )


def write_tar(tree: Tree, *outs: IO[bytes], epoch: int, ids: Mapping[str, int]) -> str:
    """The tree as one sorted tar.

    Args:
        tree: what to write.
        outs: where; need not seek.
        epoch: time of every file, in seconds since 1970.
        ids: numbers of users and groups by name.

    Returns:
        SHA-256 of the tar in hex.

    Raises:
        MalformedEvidence: a file's owner is not declared.
    """
    hashed = _Hashed(*outs)
    stream = cast("IO[bytes]", hashed)
    with tarfile.open(fileobj=stream, mode="w|", format=tarfile.PAX_FORMAT, bufsize=_CHUNK) as tar:
        for node in tree:
            info = tarfile.TarInfo(node.path[1:])
            info.mode, info.mtime = node.mode, epoch
            info.uid, info.gid = number(node.owner, node, ids), number(node.group, node, ids)
            match node.kind:
                case Kind.FOLDER:
                    info.type = tarfile.DIRTYPE
                case Kind.LINK:
                    info.type, info.linkname, info.mode = tarfile.SYMTYPE, node.target, 0o777
                case Kind.DEVICE:
                    info.type, (info.devmajor, info.devminor) = tarfile.CHRTYPE, node.device
                case Kind.FILE:
                    info.size = node.content.size if node.content else 0
            tar.addfile(info, cast("IO[bytes]", _Reader(node.content)) if node.content else None)
    return hashed.digest.hexdigest()


def number(name: str, node: Node, ids: Mapping[str, int]) -> int:
    """Number of a user or group.

    Raises:
        MalformedEvidence: it is not declared.
    """
    if name not in ids:
        raise MalformedEvidence(f"{node.path} of {node.origin} belongs to {name!r}, whom the profile does not declare")
    return ids[name]


class _Hashed:
    """Hashes what is written."""

    def __init__(self, *outs: IO[bytes]) -> None:
        self._outs = outs
        self.digest = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        for out in self._outs:
            out.write(data)
        return len(data)


class _Reader(io.RawIOBase):
    """A content as a file."""

    def __init__(self, content: Content) -> None:
        self._chunks = content.chunks()
        self._rest = b""

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        while not self._rest or len(self._rest) < size:
            chunk = next(self._chunks, b"")
            if not chunk:
                break
            self._rest += chunk
        out, self._rest = (self._rest, b"") if size < 0 else (self._rest[:size], self._rest[size:])
        return out


def entries(tree: Tree, volume: str, ids: Mapping[str, int]) -> Iterator[FileEntry]:
    """What stands in ``files.json`` for a tree; errors as :func:`write_tar`."""
    for node in tree:
        yield FileEntry(
            volume=volume,
            path=node.path,
            type=str(node.kind),
            mode=f"{0o777 if node.kind is Kind.LINK else node.mode:04o}",
            uid=number(node.owner, node, ids),
            gid=number(node.group, node, ids),
            size=node.content.size if node.content else 0,
            sha256=node.content.sha256() if node.content else "",
            target=node.target,
            origin=node.origin,
        )


def write_folder(nodes: Iterable[Node], folder: Path) -> None:
    """Write nodes below a folder of the host, for a tool that wants one; owners and devices are left out.

    Args:
        nodes: sorted, as a tree gives them.
        folder: where; made if need be.
    """
    made: set[Path] = set()
    for node in nodes:
        place = folder / node.path[1:]
        if place.parent not in made:
            place.parent.mkdir(parents=True, exist_ok=True)
            made.add(place.parent)
        match node.kind:
            case Kind.FOLDER:
                place.mkdir(exist_ok=True)
            case Kind.LINK:
                place.symlink_to(node.target)
            case Kind.FILE:
                with place.open("wb") as file:
                    for chunk in node.content.chunks() if node.content else ():
                        file.write(chunk)
                place.chmod(0o755 if node.mode & 0o111 else 0o644)
            case Kind.DEVICE:
                pass
