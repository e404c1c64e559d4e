"""The store: files by the SHA-256 of their content, ``sha256/ab/abcd...``, in the user's cache."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from ..errors import MaterialUnavailable

_CHUNK = 1 << 20


def cache_dir() -> Path:
    """Where files are kept by content (XDG base directories)."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "dokimos"


def file_sha256(path: Path, progress: Callable[[int], None] | None = None) -> str:
    """SHA-256 of a file in hex; `progress` gets the bytes read so far."""
    digest, done = hashlib.sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            done += len(chunk)
            if progress:
                progress(done)
    return digest.hexdigest()


class Store:
    """A folder of files by content.

    A file that is there has been checked when it came; :meth:`checked` looks again, and whoever builds uses it.

    Args:
        folder: where; None for the user's cache.

    Attributes:
        folder: where.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or cache_dir()

    def path(self, sha256: str) -> Path:
        """Where a file of this hash lies, or would."""
        return self.folder / "sha256" / sha256[:2] / sha256

    def has(self, sha256: str, size: int) -> bool:
        """Whether a file of this hash and size is there; its content is not read."""
        try:
            return self.path(sha256).stat().st_size == size
        except OSError:
            return False

    def checked(self, sha256: str, what: str) -> Path:
        """The path of a file whose content has just been hashed.

        Args:
            sha256: of the content, in hex.
            what: name for the error.

        Raises:
            MaterialUnavailable: it is not there, or no longer what its name says; a changed file is removed.
        """
        path = self.path(sha256)
        try:
            found = file_sha256(path)
        except OSError as exc:
            raise MaterialUnavailable(f"{what}: not in the store; fetch it first") from exc
        if found != sha256:
            path.unlink(missing_ok=True)
            raise MaterialUnavailable(f"{what}: the file in the store was changed and is removed; fetch it again")
        return path

    def partial(self, sha256: str) -> Path:
        """Where an unfinished download of this hash is kept, to be resumed; its folder is made."""
        folder = self.folder / "partial"
        folder.mkdir(parents=True, exist_ok=True)
        return folder / sha256

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A folder on the store's file system, removed at the end; what is made in it can be moved into the store."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.folder, prefix="tmp-") as folder:
            yield Path(folder)

    def adopt(self, file: Path, sha256: str) -> Path:
        """Move a file, whose hash the caller has checked, to its place: whole or not at all, and durable."""
        place = self.path(sha256)
        place.parent.mkdir(parents=True, exist_ok=True)
        with file.open("rb") as content:
            os.fsync(content.fileno())
        file.replace(place)
        return place

    def open(self, sha256: str, what: str) -> IO[bytes]:
        """A checked file, open for reading; see :meth:`checked`."""
        return self.checked(sha256, what).open("rb")
