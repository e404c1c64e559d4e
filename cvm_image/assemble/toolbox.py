"""The build's own tools, out of the lock and run by their own dynamic loader: what the host has does not matter."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Final

from ...errors import MaterialUnavailable, UnsupportedEvidence
from .tree import Node, write_folder

_LOADER: Final = "usr/lib64/ld-linux-x86-64.so.2"
_LIBRARIES: Final = ("usr/lib/x86_64-linux-gnu", "usr/lib")
_LINKS: Final = {"bin": "usr/bin", "sbin": "usr/sbin", "lib": "usr/lib", "lib64": "usr/lib64"}
_SECONDS: Final = 900
_TAIL: Final = 600


class Toolbox:
    """Tools unpacked below a folder.

    Args:
        nodes: files of the tools' packages, sorted.
        folder: where they are written.
        epoch: the time that tools are told, in seconds since 1970.
    """

    def __init__(self, nodes: Iterable[Node], folder: Path, *, epoch: int) -> None:
        self.folder = folder
        self._epoch = epoch
        folder.mkdir(parents=True, exist_ok=True)
        for name, target in _LINKS.items():
            if not (folder / name).is_symlink():
                (folder / name).symlink_to(target)
        write_folder(nodes, folder)

    def command(self, tool: str, *, static: bool = False, libraries: Sequence[str] = ()) -> list[str]:
        """The start of a command line that runs a tool.

        Args:
            tool: its path in the packages, for example "usr/bin/zstd".
            static: whether it needs no loader.
            libraries: further folders of libraries.

        Raises:
            MaterialUnavailable: no package brought it.
        """
        path = self.folder / tool
        if not path.is_file():
            raise MaterialUnavailable(f"{tool}: none of the locked packages of this group brings it")
        if static:
            return [str(path)]
        search = ":".join(str(self.folder / part) for part in (*_LIBRARIES, *libraries))
        return [str(self.folder / _LOADER), "--library-path", search, "--argv0", path.name, str(path)]

    def run(
        self,
        tool: str,
        args: Sequence[str | Path],
        *,
        static: bool = False,
        stdin: IO[bytes] | None = None,
        stdout: IO[bytes] | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        """Run a tool to its end.

        Args:
            tool: as in :meth:`command`.
            args: its arguments.
            static: as there.
            stdin: what it reads; None for nothing.
            stdout: where it writes; None for nowhere.
            env: variables beside the fixed ones.

        Raises:
            MaterialUnavailable: no package brought it, or it did not end.
            UnsupportedEvidence: it ended with an error.
        """
        command = [*self.command(tool, static=static), *map(str, args)]
        try:
            ran = subprocess.run(
                command,
                stdin=stdin or subprocess.DEVNULL,
                stdout=stdout or subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env=self.environment(env),
                cwd=self.folder,
                timeout=_SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as exc:
            raise MaterialUnavailable(f"{tool}: {exc}") from exc
        if ran.returncode:
            raise UnsupportedEvidence(f"{tool} ended with {ran.returncode}: {_tail(ran.stderr)}")

    @contextmanager
    def fed(self, tool: str, args: Sequence[str | Path]) -> Iterator[IO[bytes]]:
        """Run a tool that is written to until the block ends.

        Args:
            tool: as in :meth:`command`.
            args: its arguments.

        Yields:
            Its standard input.

        Raises:
            MaterialUnavailable: no package brought it, or it did not end.
            UnsupportedEvidence: it ended with an error.
        """
        command = [*self.command(tool), *map(str, args)]
        # A file, since nobody reads a pipe while the tool is fed.
        with tempfile.TemporaryFile(dir=self.folder) as said, ExitStack() as stack:
            try:
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=said,
                    env=self.environment(),
                    cwd=self.folder,
                )
            except OSError as exc:
                raise MaterialUnavailable(f"{tool}: {exc}") from exc
            stack.callback(_reap, process)
            if process.stdin is None:
                raise MaterialUnavailable(f"{tool}: no standard input")
            whole = False
            with suppress(BrokenPipeError):  # it ended early, and its exit status says why
                yield process.stdin
                process.stdin.close()
                whole = True
            try:
                code = process.wait(_SECONDS)
            except subprocess.TimeoutExpired as exc:
                raise MaterialUnavailable(f"{tool}: {exc}") from exc
            if code or not whole:
                said.seek(0)
                raise UnsupportedEvidence(f"{tool} ended with {code}: {_tail(said.read())}")

    def environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """All that a tool sees of an environment; nothing of the host's."""
        fixed = {
            "HOME": "/nonexistent",
            "LC_ALL": "C",
            "PATH": "",
            "SOURCE_DATE_EPOCH": str(self._epoch),
            "TMPDIR": str(self.folder),
            "TZ": "UTC",
        }
        return {**fixed, **(more or {})}


def _tail(said: bytes) -> str:
    return said.decode("utf-8", "replace").strip()[-_TAIL:]


def _reap(process: subprocess.Popen[bytes]) -> None:
    """End a tool that still runs because whoever fed it failed."""
    with suppress(OSError):
        process.kill()
    with suppress(OSError):  # what is left in the buffer of its standard input
        process.communicate()


def processors() -> int:
    """How many processors this process may use; no tool's output depends on it."""
    return len(os.sched_getaffinity(0))
