"""Debian packages, unpacked by our own code: what is in ``data.tar``, and never a maintainer script.

Format: deb(5), an ``ar`` archive with the members ``debian-binary``, ``control.tar.*`` and ``data.tar.*``.
"""

from __future__ import annotations

import gzip
import lzma
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final, cast

from ...errors import MalformedEvidence, UnsupportedEvidence
from .tree import Content, Kind, Node, normal

_MAGIC: Final = b"!<arch>\n"
_HEADER: Final = 60
_MAX_MEMBERS: Final = 16
MAX_UNPACKED: Final = 4 << 30
"""Bytes that one package may unpack to."""
_CHUNK: Final = 1 << 20
_MAX_ENTRIES: Final = 200_000


def unpack(deb: Path, into: Path) -> None:
    """Write a package's ``data.tar``, uncompressed.

    Args:
        deb: the package.
        into: file to write.

    Raises:
        MalformedEvidence: not a Debian package, or one that unpacks to more than :data:`MAX_UNPACKED`.
        UnsupportedEvidence: compressed in a way that is not known here.
    """
    with deb.open("rb") as file:
        name, size = _find_data(file, deb.name)
        source = cast("IO[bytes]", _Slice(file, size))
        try:
            with into.open("wb") as out, _decompressor(name, source) as content:
                done = 0
                while chunk := content.read(_CHUNK):
                    done += len(chunk)
                    if done > MAX_UNPACKED:
                        raise MalformedEvidence(f"{deb.name}: unpacks to more than {MAX_UNPACKED} bytes")
                    out.write(chunk)
        except (lzma.LZMAError, gzip.BadGzipFile, EOFError) as exc:
            raise MalformedEvidence(f"{deb.name}: {name}: {exc}") from exc


def _find_data(file: IO[bytes], package: str) -> tuple[str, int]:
    """Leaves the file at the first byte of the member."""
    if file.read(len(_MAGIC)) != _MAGIC:
        raise MalformedEvidence(f"{package}: not an ar archive")
    for _ in range(_MAX_MEMBERS):
        header = file.read(_HEADER)
        if len(header) != _HEADER or header[58:60] != b"`\n":
            break
        name = header[:16].decode("ascii", "replace").strip().rstrip("/")
        digits = header[48:58].strip()
        if not digits.isdigit():
            break
        size = int(digits)
        if name.startswith("data.tar"):
            return name, size
        file.seek(size + size % 2, 1)
    raise MalformedEvidence(f"{package}: no data.tar in it")


def _decompressor(name: str, source: IO[bytes]) -> IO[bytes]:
    match name:
        case "data.tar.xz":
            return cast("IO[bytes]", lzma.open(source))
        case "data.tar.gz":
            return cast("IO[bytes]", gzip.open(source))
        case "data.tar":
            return source
    raise UnsupportedEvidence(f"{name}: only xz, gzip and no compression are known")


class _Slice:
    """The next bytes of a file, no more."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file = file
        self._left = size

    def read(self, size: int = -1) -> bytes:
        chunk = self._file.read(self._left if size < 0 else min(size, self._left))
        self._left -= len(chunk)
        return chunk

    def __enter__(self) -> _Slice:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def nodes(archive: Path, origin: str) -> Iterator[Node]:
    """What an uncompressed tar holds; contents stay in the file.

    Args:
        archive: what :func:`unpack` wrote.
        origin: origin of its files.

    Raises:
        MalformedEvidence: not a tar, or with an entry that no package may have.
    """
    try:
        with tarfile.open(archive, "r:") as tar:
            known: dict[str, Content] = {}
            for count, member in enumerate(tar):
                if count >= _MAX_ENTRIES:
                    raise MalformedEvidence(f"{origin}: more than {_MAX_ENTRIES} files")
                yield _node(member, archive, known, origin)
    except tarfile.TarError as exc:
        raise MalformedEvidence(f"{origin}: {exc}") from exc


def _node(member: tarfile.TarInfo, archive: Path, known: dict[str, Content], origin: str) -> Node:
    path = normal(member.name)
    # Owners by name only: a number of the packager's machine means nothing in the image.
    owner, group = member.uname or _zero(member.uid), member.gname or _zero(member.gid)
    common = {"path": path, "mode": member.mode & 0o7777, "owner": owner, "group": group, "origin": origin}
    if member.isdir():
        return Node(kind=Kind.FOLDER, **common)  # type: ignore[arg-type]
    if member.issym():
        return Node(kind=Kind.LINK, target=member.linkname, **common)  # type: ignore[arg-type]
    if member.isreg():
        known[path] = Content(path=archive, offset=member.offset_data, size=member.size)
        return Node(kind=Kind.FILE, content=known[path], **common)  # type: ignore[arg-type]
    if member.islnk() and normal(member.linkname) in known:
        return Node(kind=Kind.FILE, content=known[normal(member.linkname)], **common)  # type: ignore[arg-type]
    raise MalformedEvidence(f"{origin}: {path} is of a kind that no package may have")


def _zero(number: int) -> str:
    return "root" if number == 0 else str(number)
