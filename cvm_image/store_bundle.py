"""All files of a lock as one: a tar that a third party rebuilds from, offline, when no mirror has them any more."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from ..errors import MalformedEvidence, MaterialUnavailable
from .layout import LOCK
from .lock import MAX_SIZE, Lock, format_lock, parse_lock
from .store import Store

_CHUNK: Final = 1 << 20
_MAX_LOCK: Final = 4 << 20

Told = Callable[[str, int, int], None]


def export_bundle(lock: Lock, store: Store, file: Path, *, progress: Told) -> None:
    """Write everything that a lock names, and the lock, as one tar; the same bytes wherever it is written.

    Raises:
        MaterialUnavailable: something is not in the store, or the file cannot be written.
    """
    inputs = lock.inputs()
    temporary = file.with_name(f"{file.name}.part")
    try:
        with tarfile.open(temporary, "w", format=tarfile.PAX_FORMAT) as tar:
            text = format_lock(lock).encode()
            tar.addfile(_member(LOCK, len(text), lock), io.BytesIO(text))
            for done, (digest, size, name) in enumerate(inputs):
                progress("writing the bundle", done, len(inputs))
                with store.open(digest, name) as content:
                    tar.addfile(_member(f"sha256/{digest[:2]}/{digest}", size, lock), content)
        temporary.replace(file)
    except OSError as exc:
        raise MaterialUnavailable(f"{file}: {exc.strerror}") from exc
    finally:
        temporary.unlink(missing_ok=True)


def _member(name: str, size: int, lock: Lock) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.mtime, info.mode = size, lock.source_date_epoch, 0o644
    return info


def import_bundle(file: Path, store: Store, *, progress: Told) -> Lock:
    """Bring the files of a bundle into the store; each by its hash, whatever its name in the bundle.

    Returns:
        The lock in the bundle.

    Raises:
        MaterialUnavailable: the file cannot be read.
        MalformedEvidence: not a bundle, cut off, or a file that its lock does not name or whose hash is another.
    """
    lock: Lock | None = None
    wanted: dict[str, int] = {}
    try:
        with tarfile.open(file, "r:") as tar, store.scratch() as scratch:
            for done, member in enumerate(tar):
                progress("reading the bundle", done, len(wanted))
                content = tar.extractfile(member) if member.isreg() else None
                if content is None or not 0 <= member.size <= MAX_SIZE:
                    raise MalformedEvidence(f"bundle: {member.name!r:.80} is not a file")
                if lock is None:
                    if member.name != LOCK or member.size > _MAX_LOCK:
                        raise MalformedEvidence(f"bundle: does not begin with {LOCK}")
                    lock = parse_lock(content.read(_MAX_LOCK).decode("utf-8", "replace"))
                    wanted = {row.sha256: row.size for row in lock.inputs()}
                    continue
                digest = member.name.rpartition("/")[2]
                if wanted.pop(digest, -1) != member.size:
                    raise MalformedEvidence(f"bundle: {member.name!r:.80} is not what its lock names")
                _take(iter(lambda c=content: c.read(_CHUNK), b""), scratch / "file", digest)  # type: ignore[misc]
                store.adopt(scratch / "file", digest)
    except (tarfile.TarError, EOFError) as exc:
        raise MalformedEvidence(f"bundle: {exc}") from exc
    except OSError as exc:
        raise MaterialUnavailable(f"{file}: {exc.strerror}") from exc
    if lock is None or wanted:
        raise MalformedEvidence(f"bundle: cut off; {len(wanted)} files of its lock are missing")
    return lock


def _take(chunks: Iterator[bytes], place: Path, digest: str) -> None:
    hashed = hashlib.sha256()
    with place.open("wb") as out:
        for chunk in chunks:
            hashed.update(chunk)
            out.write(chunk)
    if hashed.hexdigest() != digest:
        raise MalformedEvidence(f"bundle: a file is not what its name says, {digest}")
