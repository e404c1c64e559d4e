"""The folder in which a simulated platform keeps its keys: private, whole files, also for many processes at a time."""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import MaterialUnavailable


class StateFolder:
    """A folder of one machine below the state folder.

    Args:
        state: the state folder (0700).
        machine: name of the folder below it (0700); both are made when the first file is.

    Attributes:
        path: the machine's folder.
    """

    def __init__(self, state: Path, machine: str) -> None:
        self._state = state
        self.path = state / machine

    def keep(self, name: str, make: Callable[[], bytes]) -> bytes:
        """Content of a file, which is made if it is not there: once, also for many processes at a time.

        Raises:
            MaterialUnavailable: it cannot be read or written.
        """
        path = self.path / name
        try:
            self._state.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.path.mkdir(mode=0o700, exist_ok=True)
            if not path.exists():
                with _locked(self.path / ".lock"):
                    if not path.exists():
                        _write_private(path, make())
            return path.read_bytes()
        except OSError as exc:
            raise MaterialUnavailable(f"simulated platform: {path}: {exc.strerror}") from exc


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _write_private(path: Path, data: bytes) -> None:
    """Write a file that only its owner may read, whole or not at all."""
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
