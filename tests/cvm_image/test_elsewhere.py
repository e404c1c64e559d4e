"""Another Debian with another Python, as another user, without a network or a program to be found: the same bytes."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from dokimos.cvm_image.apt import host_mirrors
from dokimos.cvm_image.assemble.build import build
from dokimos.cvm_image.audit.compare import compare

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

COMPILED = ("cbor2", "cryptography")
"""What the build imports beside pure Python; the other system brings its own."""
PURE = ("certifi", "charset_normalizer", "click", "idna", "requests", "sevsnpmeasure", "urllib3")


def _system(folder: Path) -> None:
    """A minimal trixie with Python, from the host's mirrors."""
    mirrors = host_mirrors()
    sources = folder.with_suffix(".list")
    sources.write_text("".join(f"deb {mirror} trixie main\n" for mirror in mirrors.main))
    packages = ",".join(("python3", *(f"python3-{name}" for name in COMPILED)))
    command = ["mmdebstrap", "--variant=apt", f"--include={packages}", "trixie", str(folder), str(sources)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr


def _program(checkout: Path, tracked: list[str], folder: Path) -> None:
    for name in tracked:
        if not name.startswith("tests/"):
            place = folder / "dokimos" / name
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(checkout / name, place)
    for name in PURE:
        (source,) = importlib.util.find_spec(name).submodule_search_locations
        shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("*.so", "__pycache__"))


def test_another_system_with_another_python_builds_the_same_bytes(locked, checkout, tracked, tmp_path, loud_skip):
    if os.geteuid() != 0 or shutil.which("mmdebstrap") is None:
        loud_skip("mmdebstrap and root are needed for another system: NOT BUILT ELSEWHERE", "test_elsewhere")
    made = locked("cpu")
    build(made.profile, made.lock, made.store, tmp_path / "here", told=lambda *_: None)
    system = tmp_path / "trixie"
    _system(system)
    _program(checkout, tracked, system / "program")
    shutil.copyfile(made.file, system / "cpu.lock")
    for row in made.lock.inputs():
        place = system / "store/sha256" / row.sha256[:2] / row.sha256
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(made.store.path(row.sha256), place)
    (system / "out").mkdir()
    (system / "out").chmod(0o777)
    command = ["unshare", "-n", "chroot", "--userspec=65534:65534", str(system), "/usr/bin/env", "-i"]
    command += ["HOME=/nonexistent", "PATH=/nonexistent", "PYTHONPATH=/program", "TMPDIR=/out"]
    command += ["/usr/bin/python3", "-B", "-m", "dokimos", "image", "build", "cpu"]
    command += ["--lock", "/cpu.lock", "--store", "/store", "--output", "/out/image", "--quiet"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, umask=0o022)
    assert ran.returncode == 0, ran.stderr
    assert compare(tmp_path / "here", system / "out/image").identical
