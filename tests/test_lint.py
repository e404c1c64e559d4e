"""Linters, types and import layers are tests, so that one command proves everything."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

MODULE_LINES = 500
FUNCTION_LINES = 60
ONE_LINE_PER_FIELD = {"evidence/snp.py parse_report"}
"""Functions that are a table in the form of code, and may be longer."""


def run(*command: str | Path, cwd: Path, **variables: str) -> tuple[int, str]:
    """Exit code and whole output of a tool of the running environment."""
    tool = shutil.which(str(command[0]), path=str(Path(sys.executable).parent))
    assert tool, f"{command[0]} is not installed beside {sys.executable}"
    env = {**os.environ, "NO_COLOR": "1", "COLUMNS": "200", **variables}
    ran = subprocess.run([tool, *command[1:]], cwd=cwd, env=env, check=False, capture_output=True, text=True)
    return ran.returncode, ran.stdout + ran.stderr


def test_ruff_check(checkout: Path) -> None:
    code, output = run("ruff", "check", "--no-cache", ".", cwd=checkout)
    assert code == 0, output


def test_ruff_format(checkout: Path) -> None:
    code, output = run("ruff", "format", "--no-cache", "--check", ".", cwd=checkout)
    assert code == 0, output


def test_mypy_strict_on_the_installed_package(checkout: Path, unpacked: Path) -> None:
    options = ["--config-file", str(checkout / "pyproject.toml"), "--cache-dir", str(checkout / ".mypy_cache")]
    code, output = run("mypy", *options, "-p", "dokimos", cwd=unpacked)
    assert code == 0, output


def test_mypy_on_tests_and_benchmarks(checkout: Path, unpacked: Path) -> None:
    options = ["--config-file", "pyproject.toml", "--cache-dir", ".mypy_cache", "--explicit-package-bases"]
    folders = [name for name in ("tests", "benchmarks") if any((checkout / name).rglob("*.py"))]
    code, output = run("mypy", *options, *folders, cwd=checkout, MYPYPATH=str(unpacked))
    assert code == 0, output


def test_imports_keep_the_layers(checkout: Path, unpacked: Path) -> None:
    options = ["--config", str(checkout / "pyproject.toml"), "--no-cache"]
    code, output = run("lint-imports", *options, cwd=unpacked, PYTHONPATH=str(unpacked))
    assert code == 0, output


def test_every_import_contract_notices_what_it_forbids(checkout: Path, unpacked: Path, tmp_path: Path) -> None:
    shutil.copytree(unpacked / "dokimos", tmp_path / "dokimos")
    broken = {
        "attest/bad.py": "import pynvml\n",
        "errors.py": "import http.client\nfrom . import codec\n",
        "evidence/bad.py": "import subprocess\nfrom ..ohttp import bad\n",
        "ohttp/bad.py": "import rich\nfrom ..measurements import acpi_qtest\n",
        "transparency/note.py": "import time\n",
        "verifier/bad.py": "from .. import attest\nfrom lxml import etree\nimport sevsnpmeasure\nimport time\n",
    }
    for name, code in broken.items():
        with (tmp_path / "dokimos" / name).open("a") as file:
            file.write(code)
    options = ["--config", str(checkout / "pyproject.toml"), "--no-cache"]
    returned, output = run("lint-imports", *options, cwd=tmp_path, PYTHONPATH=str(tmp_path))
    contracts = tomllib.loads((checkout / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    words = " ".join(output.split())
    assert returned == 1
    assert [contract["name"] for contract in contracts if f"{contract['name']} BROKEN" not in words] == []


def test_no_module_is_longer_than_500_lines(checkout: Path, tracked: list[str]) -> None:
    modules = [name for name in tracked if name.endswith(".py")]
    lengths = {name: len((checkout / name).read_text().splitlines()) for name in modules}
    assert {name: length for name, length in lengths.items() if length > MODULE_LINES} == {}


def test_no_function_is_longer_than_60_lines_without_its_docstring(checkout: Path, tracked: list[str]) -> None:
    long = []
    for name in tracked:
        if name.endswith(".py") and not name.startswith("tests/"):
            for node in ast.walk(ast.parse((checkout / name).read_text())):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    body = node.body[1:] if ast.get_docstring(node) else node.body
                    length = (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0
                    long += [f"{name} {node.name}"] if length > FUNCTION_LINES else []
    assert set(long) - ONE_LINE_PER_FIELD == set()


def test_only_the_command_line_catches_everything(checkout: Path, tracked: list[str]) -> None:
    caught = []
    for name in tracked:
        if name.endswith(".py") and not name.startswith(("tests/", "benchmarks/")) and name != "cli.py":
            for node in ast.walk(ast.parse((checkout / name).read_text())):
                if isinstance(node, ast.ExceptHandler):
                    everything = node.type is None or ast.unparse(node.type) in {"Exception", "BaseException"}
                    cleans_up = isinstance(node.body[-1], ast.Raise) and node.body[-1].exc is None
                    caught += [f"{name}:{node.lineno}"] if everything and not cleans_up else []
    assert caught == []


@pytest.mark.parametrize("forbidden", ["print", "exit", "quit", "breakpoint", "input", "eval", "exec"])
def test_the_library_never_prints_or_exits(checkout: Path, tracked: list[str], forbidden: str) -> None:
    # The guest's service is a program of its own, whose only words go to the console.
    outside = ("tests/", "benchmarks/", "commands/", "cli.py", "__main__.py", "cvm_image/service/guest.py")
    found = []
    for name in tracked:
        if name.endswith(".py") and not name.startswith(outside):
            for node in ast.walk(ast.parse((checkout / name).read_text())):
                if isinstance(node, ast.Call) and ast.unparse(node.func) in {forbidden, f"sys.{forbidden}"}:
                    found.append(f"{name}:{node.lineno}")
    assert found == []


def test_the_library_never_configures_logging(checkout: Path, tracked: list[str]) -> None:
    calls = ("basicConfig(", "dictConfig(", "fileConfig(", "addHandler(StreamHandler")
    library = [name for name in tracked if name.endswith(".py") and not name.startswith(("tests/", "benchmarks/"))]
    assert [name for name in library if any(call in (checkout / name).read_text() for call in calls)] == []
