"""Python in the image: wheels unpacked as what they are, the project's own modules, and pyc files that need no time.

Wheel format: PyPA "Binary distribution format".  Nothing is installed: no scripts, no interpreter's path, no record of
who installed it.  A pyc is an unchecked-hash one (PEP 552), compiled by the guest's own Python, so that neither a time
nor a path of the building host is in it.
"""

from __future__ import annotations

import subprocess
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from ...errors import MalformedEvidence, MaterialUnavailable, UnsupportedEvidence
from ..lock import Wheel
from .toolbox import Toolbox
from .tree import Content, Kind, Node, Tree, matches, normal

SITE: Final = "/usr/lib/python3/dist-packages"
"""Where Debian's Python looks for modules that its packages bring."""
PACKAGE: Final = Path(__file__).resolve().parent.parent.parent
"""The package dokimos itself, whose modules go into the image."""
_MAX_FILES: Final = 20_000
_MAX_UNPACKED: Final = 2 << 30
_DROPPED: Final = ("*.dist-info/RECORD*", "*.dist-info/INSTALLER", "*.dist-info/REQUESTED", "*.pyc", "*.pyi")
_COMPILE_SECONDS: Final = 600
_WORKERS: Final = 2  # fixed: which files one process compiles may reach the bytes, the number of processors may not

_COMPILER: Final = """
import sys, py_compile
from importlib.util import cache_from_source
for line in sys.stdin:
    name = line.rstrip("\\n")
    py_compile.compile(
        sys.argv[1] + name, cache_from_source(sys.argv[1] + name), dfile=name, doraise=True,
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )
"""


def wheel_nodes(file: Path, wheel: Wheel, scratch: Path) -> Iterator[Node]:
    """What a wheel brings, below :data:`SITE`.

    Args:
        file: the wheel, its hash checked.
        wheel: its row in the lock.
        scratch: folder where large contents are put.

    Raises:
        MalformedEvidence: not a wheel, or one with an unsafe path or too much in it.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            if len(members) > _MAX_FILES or sum(member.file_size for member in members) > _MAX_UNPACKED:
                raise MalformedEvidence(f"{wheel.filename}: more than an image may hold")
            for member in members:
                name = _installed(member.filename)
                if member.is_dir() or name is None or matches(name, _DROPPED):
                    continue
                path = normal(f"{SITE}/{name}")
                place = scratch / str(member.header_offset)
                with archive.open(member) as source, place.open("wb") as out:
                    while chunk := source.read(1 << 20):
                        out.write(chunk)
                yield Node(
                    path=path,
                    kind=Kind.FILE,
                    mode=0o644,
                    content=Content(path=place, size=member.file_size),
                    origin=f"wheel:{wheel.name}",
                )
    except (zipfile.BadZipFile, EOFError, NotImplementedError) as exc:
        raise MalformedEvidence(f"{wheel.filename}: {exc}") from exc


def _installed(name: str) -> str | None:
    """Path below site-packages, or None for what is not a library: scripts, headers, data."""
    top, _, rest = name.partition("/")
    if not top.endswith(".data"):
        return name
    scheme, _, inner = rest.partition("/")
    return inner if scheme in ("purelib", "platlib") else None


def own_nodes(modules: Sequence[str]) -> Iterator[Node]:
    """The project's own modules.

    Args:
        modules: files such as "codec.py" and folders such as "evidence", relative to the package; a folder gives the
            modules that lie directly in it.

    Raises:
        MaterialUnavailable: one of them is not there.
    """
    files: set[Path] = set()
    for module in modules:
        place = PACKAGE / module
        found = {place} if place.is_file() else set(place.glob("*.py"))
        if not found:
            raise MaterialUnavailable(f"{module}: no such module of dokimos")
        files |= found
    for file in sorted(files):
        name = file.relative_to(PACKAGE).as_posix()
        content = Content.of(file.read_bytes())
        yield Node(path=f"{SITE}/dokimos/{name}", kind=Kind.FILE, mode=0o644, content=content, origin="dokimos")
    for parent in {parent for file in files for parent in file.relative_to(PACKAGE).parents} - {Path()}:
        if PACKAGE / parent / "__init__.py" not in files:
            path = f"{SITE}/dokimos/{parent.as_posix()}/__init__.py"
            data = (PACKAGE / parent / "__init__.py").read_bytes()
            yield Node(path=path, kind=Kind.FILE, mode=0o644, content=Content.of(data), origin="dokimos")


def compile_all(tree: Tree, patterns: Sequence[str], python: str, folder: Path, *, epoch: int) -> None:
    """Add a pyc beside each Python file whose path matches a pattern; the guest's own Python compiles them.

    Args:
        tree: the root file system, with that Python in it.
        patterns: shell patterns of paths.
        python: its version, for example "3.13".
        folder: for work.
        epoch: the time that the compiler is told.

    Raises:
        MaterialUnavailable: the tree holds no such Python.
        UnsupportedEvidence: a file does not compile.
    """
    sources = [node for node in tree.under(*patterns) if node.kind is Kind.FILE and node.path.endswith(".py")]
    runtime = tree.under(f"/usr/bin/python{python}", f"/usr/lib/python{python}/*", "*.so", "*.so.*")
    runtime = [node for node in runtime if not node.path.startswith(SITE)]  # it imports nothing but its own
    wanted = {node.path: node for node in (*runtime, *sources)}
    box = Toolbox(sorted(wanted.values(), key=lambda node: node.path), folder, epoch=epoch)
    env = box.environment({"PYTHONHASHSEED": "0", "PYTHONHOME": str(folder / "usr")})
    # The order and the division among processes are those of the sorted paths, whatever the host's processors.
    command = [*box.command(f"usr/bin/python{python}"), "-S", "-B", "-c", _COMPILER, str(folder)]
    parts = [sources[part::_WORKERS] for part in range(_WORKERS)]
    running = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, env=env)
        for _ in parts
    ]
    for process, part in zip(running, parts, strict=True):
        assert process.stdin  # noqa: S101 - for the type checker
        process.stdin.write("".join(f"{node.path}\n" for node in part).encode())
        process.stdin.close()
        process.stdin = None
    for process in running:
        _, said = process.communicate(timeout=_COMPILE_SECONDS)
        if process.returncode:
            raise UnsupportedEvidence(f"python: {said.decode('utf-8', 'replace').strip()[-600:]}")
    tag = f"cpython-{python.replace('.', '')}"
    for node in sources:
        parent, _, name = node.path.rpartition("/")
        path = f"{parent}/__pycache__/{name[:-3]}.{tag}.pyc"
        file = folder / path[1:]
        content = Content(path=file, size=file.stat().st_size)
        tree.add(Node(path=path, kind=Kind.FILE, mode=0o644, content=content, origin="step:pyc"))
