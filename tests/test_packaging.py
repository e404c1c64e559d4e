"""The repository's root is the package, and nothing but ``dokimos`` reaches an installation."""

from __future__ import annotations

import base64
import hashlib
import os
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path
from typing import Any

import pytest

ROOT_MODULES = {"__init__.py", "__main__.py", "cli.py", "codec.py", "errors.py"}


@pytest.fixture(scope="module")
def project(checkout: Path) -> dict[str, Any]:
    """The parsed pyproject.toml."""
    return tomllib.loads((checkout / "pyproject.toml").read_text())


def package_folders(tracked: list[str]) -> list[str]:
    """The folders with an __init__.py, as relative paths; the root is the empty string."""
    return [
        name.removesuffix("__init__.py").rstrip("/") for name in tracked if name.rpartition("/")[2] == "__init__.py"
    ]


def top_names(tracked: list[str]) -> list[str]:
    """Every name that could be imported bare from a checkout: folders and modules at the root."""
    folders = {folder.split("/")[0] for folder in package_folders(tracked)} - {""}
    return sorted(folders | {name.removesuffix(".py") for name in ROOT_MODULES if not name.startswith("__")})


class Environment:
    """A new virtual environment; our dependencies come from the running one, dokimos and others from wheels."""

    def __init__(self, folder: Path) -> None:
        venv.create(folder, symlinks=True, with_pip=False)
        self.bin = folder / "bin"
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        self.packages = folder / "lib" / version / "site-packages"

    def pip(self, *arguments: str | Path) -> None:
        """Run pip of the running environment on this one."""
        python = str(self.bin / "python")
        command = [
            sys.executable,
            "-m",
            "pip",
            "--python",
            python,
            "--disable-pip-version-check",
            "--isolated",
            *arguments,
        ]
        ran = subprocess.run(command, check=False, capture_output=True, text=True)
        assert ran.returncode == 0, ran.stdout + ran.stderr

    def install(self, wheel: Path) -> None:
        """Install one wheel, without asking anyone for anything."""
        self.pip("install", "--no-index", "--no-deps", wheel)

    def run(self, *command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
        """Run a program of this environment; PYTHONPATH brings the dependencies, .pth files are not read from there."""
        env = {**os.environ, "PYTHONPATH": sysconfig.get_path("purelib"), "PYTHONDONTWRITEBYTECODE": "1"}
        program = [str(self.bin / str(command[0])), *command[1:]]
        return subprocess.run(program, cwd=cwd, env=env, check=False, capture_output=True, text=True)

    def files(self, top: str) -> dict[str, str]:
        """SHA-256 of every installed file below one top-level folder, without compiled files."""
        return {
            path.relative_to(self.packages).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(self.packages.glob(f"{top}/**/*"))
            if path.is_file() and "__pycache__" not in path.parts
        }


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    environment = Environment(tmp_path_factory.mktemp("installed") / "venv")
    environment.install(wheel)
    return environment


@pytest.fixture(scope="module")
def rival(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel like NVIDIA's verifier: its top-level names ``verifier`` and ``cli`` stand in our root too."""
    content = {
        "verifier/certs/__init__.py": b"WHOSE = 'rival'\n",
        "verifier/policy.py": b"WHOSE = 'rival'\n",
        "cli.py": b"WHOSE = 'rival'\n",
        "rival-1.0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: rival\nVersion: 1.0\n",
        "rival-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "rival-1.0.dist-info/RECORD"
    lines = [
        f"{name},sha256={base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b'=').decode()},{len(data)}"
        for name, data in content.items()
    ]
    path = tmp_path_factory.mktemp("rival") / "rival-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)
        archive.writestr(record, "\n".join([*lines, f"{record},,", ""]))
    return path


def test_wheel_holds_only_dokimos(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    info = {name.split("/")[0] for name in names} - {"dokimos"}
    assert len(info) == 1
    assert info.pop().endswith(".dist-info")
    assert not [name for name in names if "/tests/" in name or "/benchmarks/" in name or "conftest" in name]


def test_wheel_holds_every_file_of_every_package_folder(wheel: Path, tracked: list[str]) -> None:
    folders = set(package_folders(tracked)) - {""}
    ours = {name for name in tracked if name.rpartition("/")[0] in folders and not name.startswith("tests/")}
    ours |= ROOT_MODULES | {"py.typed"}
    ours |= {name for name in tracked if name.startswith(("cvm_image/overlay/", "cvm_image/profiles/"))}
    with zipfile.ZipFile(wheel) as archive:
        packed = {name.removeprefix("dokimos/") for name in archive.namelist() if name.startswith("dokimos/")}
    assert packed == ours


def test_only_the_packages_own_modules_stand_at_the_root(tracked: list[str]) -> None:
    assert {name for name in tracked if "/" not in name and name.endswith(".py")} == ROOT_MODULES


def test_listed_packages_are_the_folders_with_init(project: dict[str, Any], tracked: list[str]) -> None:
    found = sorted(".".join(["dokimos", *folder.split("/")]).rstrip(".") for folder in package_folders(tracked))
    assert project["tool"]["setuptools"]["packages"] == found


def test_init_files_hold_no_logic(checkout: Path, tracked: list[str]) -> None:
    for name in tracked:
        if name.endswith("/__init__.py"):
            code = (checkout / name).read_text().split('"""')[2].strip()
            assert code.startswith("from .."), name
            assert "\n" not in code, name


def test_wheel_is_the_same_bytes_when_built_again_and_from_the_sdist(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    found = []
    for number, arguments in enumerate((["--wheel"], [])):  # without --wheel: an sdist, and the wheel made from it
        out = tmp_path / str(number)
        command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), *arguments, str(source)]
        ran = subprocess.run(command, check=False, capture_output=True, text=True)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        found += [path.read_bytes() for path in out.glob("*.whl")]
    assert len(found) == 2
    assert found[0] == found[1]
    (sdist,) = (tmp_path / "1").glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"LICENSE", "README.md", "tests/conftest.py", "docs/checks.md", "requirements-dev.txt"} <= names


def test_console_script_and_module_run_anywhere(installed: Environment, checkout: Path, tmp_path: Path) -> None:
    for cwd in (tmp_path, checkout):
        for command in (["dokimos"], ["python", "-m", "dokimos"]):
            ran = installed.run(*command, "--version", cwd=cwd)
            assert (ran.returncode, ran.stderr) == (0, "")
            assert ran.stdout.startswith("dokimos, version ")


def test_bare_imports_fail_outside_and_inside_a_checkout(
    installed: Environment, checkout: Path, tracked: list[str], tmp_path: Path
) -> None:
    names = top_names(tracked)
    assert {"attest", "verifier", "cli", "errors"} <= set(names)
    program = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]:\n"
        "    try:\n"
        "        importlib.import_module(name)\n"
        "    except ImportError:\n"
        "        continue\n"
        "    print(name)\n"
    )
    for cwd in (tmp_path, checkout):
        ran = installed.run("python", "-c", program, *names, cwd=cwd)
        assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


@pytest.mark.parametrize("first", ["dokimos", "rival"])
def test_a_rival_verifier_package_and_ours_stay_whole(first: str, wheel: Path, rival: Path, tmp_path: Path) -> None:
    order = [wheel, rival] if first == "dokimos" else [rival, wheel]
    environment = Environment(tmp_path / "venv")
    environment.install(order[0])
    before = {top: environment.files(top) for top in ("dokimos", "verifier")}
    environment.install(order[1])
    both = {top: environment.files(top) for top in ("dokimos", "verifier")}
    assert both["dokimos"]
    assert both["verifier"]
    assert all(both[top] == files for top, files in before.items() if files)
    program = (
        "import dokimos.verifier, dokimos.cli, verifier.certs, cli\n"
        "print(verifier.certs.WHOSE, cli.WHOSE, dokimos.cli.main)"
    )
    ran = environment.run("python", "-c", program, cwd=tmp_path)
    assert ran.stdout.startswith("rival rival <function main"), ran.stderr
    environment.pip("uninstall", "--yes", first)
    gone, left = ("dokimos", "verifier") if first == "dokimos" else ("verifier", "dokimos")
    assert environment.files(gone) == {}
    assert environment.files(left) == both[left]
