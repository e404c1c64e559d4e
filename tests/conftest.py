"""Shared fixtures: the real test vectors, and skips that nobody overlooks.

The real vectors are not part of the repository.  Tests find them through the environment variable DOKIMOS_VECTORS:

- not set: tests that need them skip, and the terminal summary says so in one line that cannot be missed;
- set: a missing folder, set or file, and a file whose SHA-256 is not the one of its manifest, fails the test.

Fixtures: ``vectors`` (``vectors("snp/amd_roots") -> VectorSet``), ``loud_skip`` (skip with a line in the summary),
``checkout`` (the repository's root), ``tracked`` (its files), ``source`` (a copy of them), ``wheel`` (built from that
copy), ``unpacked`` (a folder with the wheel's content).  A test with an argument ``snp_set`` runs once for each SNP
set, by name.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections import defaultdict
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

VARIABLE = "DOKIMOS_VECTORS"

# Known by name, so that a missing set is a failure and an absent folder still shows every skipped test.
SNP_SETS = (
    "amd_crls",
    "amd_roots",
    "ars_az_imds_chain",
    "ars_az_milan_v3",
    "ars_az_v1",
    "coco_milan_v2",
    "coco_milan_vlek_v3",
    "coco_vcek_invalid_legacy",
    "coco_vcek_invalid_new",
    "dstack_milan",
    "gosev_milan_v2",
    "id_block",
    "launch_digest",
    "ms_genoa",
    "ms_milan",
    "ms_milan_unit",
    "tinfoilpy_genoa",
    "trustee_az_genoa_v0",
    "trustee_az_hcl_v2report",
    "trustee_az_v0",
    "trustee_az_v1",
    "trustee_e2e_v3",
    "virtee_milan_v2",
    "virtee_turin_vcek_only",
)

_SKIPPED = pytest.StashKey[dict[str, set[str]]]()


class VectorSet:
    """One folder of real vectors; every file is compared with the manifest's SHA-256 when it is first asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if not (folder / "manifest.json").is_file():
            pytest.fail(f"{VARIABLE} is set, but {folder.parent.name}/{folder.name}/manifest.json is not there")
        self._seen: dict[str, bytes] = {}

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """The set's manifest.json."""
        loaded: dict[str, Any] = json.loads((self.folder / "manifest.json").read_bytes())
        return loaded

    @property
    def names(self) -> list[str]:
        """The files that the manifest lists."""
        return list(self.manifest["files"])

    def bytes(self, name: str) -> bytes:
        """Content of one file, also of a neighbour set (``../SET/file``); fails where it is missing or altered."""
        if name not in self._seen:
            if name.startswith("../"):
                _, other, rest = name.split("/", 2)
                return VectorSet(self.folder.parent / other).bytes(rest)
            where = f"{self.folder.parent.name}/{self.folder.name}/{name}"
            entry = self.manifest["files"].get(name)
            if entry is None:
                pytest.fail(f"vector {where} is not listed in its manifest")
            if not (self.folder / name).is_file():
                pytest.fail(f"{VARIABLE} is set, but the vector {where} is not there")
            data = (self.folder / name).read_bytes()
            if hashlib.sha256(data).hexdigest() != entry["sha256"]:
                pytest.fail(f"vector {where} is altered: its SHA-256 is not the one of its manifest")
            self._seen[name] = data
        return self._seen[name]

    def path(self, name: str) -> Path:
        """Path of one file, checked like ``bytes``."""
        self.bytes(name)
        return self.folder / name


@pytest.fixture(scope="session")
def loud_skip(pytestconfig: pytest.Config) -> Callable[[str, str], NoReturn]:
    """``loud_skip(missing, what)``: skip, and name ``missing`` with all its ``what`` in one line of the summary."""

    def skip(missing: str, what: str) -> NoReturn:
        pytestconfig.stash[_SKIPPED][missing].add(what)
        pytest.skip(f"{missing} (needed for {what})")

    return skip


@pytest.fixture(scope="session")
def vectors(loud_skip: Callable[[str, str], NoReturn]) -> Callable[[str], VectorSet]:
    """``vectors("snp/amd_roots")``: one set of real vectors, or a loud skip where there are none at all."""
    root = os.environ.get(VARIABLE)
    loaded: dict[str, VectorSet] = {}

    def load(name: str) -> VectorSet:
        if not root:
            loud_skip(f"{VARIABLE} is not set: real vectors NOT TESTED", name)
        if name not in loaded:
            loaded[name] = VectorSet(Path(root, name))
        return loaded[name]

    return load


@pytest.fixture(scope="session")
def checkout() -> Path:
    """The repository's root."""
    return Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def tracked(checkout: Path) -> list[str]:
    """Every file of the repository, also those not yet committed, without what git ignores; relative, with slashes."""
    git = shutil.which("git")
    if git and (checkout / ".git").exists():
        command = [git, "-C", str(checkout), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        listed = subprocess.run(command, check=True, capture_output=True).stdout.decode().split("\0")
        return sorted(name for name in set(listed) if name and (checkout / name).is_file())
    made = {"build", "dist", "__pycache__"}
    files = (path.relative_to(checkout) for path in checkout.rglob("*") if path.is_file())
    return sorted(
        path.as_posix()
        for path in files
        if not any(part in made or part.endswith((".egg-info", "_cache")) for part in path.parts)
        and path.parts[0] not in {".git", ".venv", ".hypothesis", ".fuzz"}
    )


@pytest.fixture(scope="session")
def source(checkout: Path, tracked: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository's files, in a folder whose name is no Python name, for what writes beside them."""
    copy = tmp_path_factory.mktemp("source") / "my-clone"
    for name in tracked:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(checkout / name, copy / name)
    return copy


@pytest.fixture(scope="session")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built wheel."""
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(source)]
    ran = subprocess.run(command, check=False, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="session")
def unpacked(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds ``dokimos`` exactly as an installation does."""
    folder = tmp_path_factory.mktemp("unpacked")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_SKIPPED] = defaultdict[str, set[str]](set)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "snp_set" in metafunc.fixturenames:
        metafunc.parametrize("snp_set", SNP_SETS)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for missing, needed in sorted(config.stash[_SKIPPED].items()):
        terminalreporter.write_line(f"!!! {missing}: {', '.join(sorted(needed))}", red=True, bold=True)
