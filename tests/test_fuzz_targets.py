"""Every fuzz target holds on its seeds, on all their truncations and on some seconds of fixed mutations."""

from __future__ import annotations

import ast
import importlib.util
import platform
import random
import re
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, NoReturn

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FUZZ = Path(__file__).resolve().parent / "fuzz"
NAMES = sorted(path.stem for path in FUZZ.glob("fuzz_*.py"))
SECONDS = 1.5
MUTATIONS = 20_000
SLOWEST = 2.0
"""CPU seconds that one input may take."""

EDGES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 0x3FFFFFFFFFFFFFFF, 0xFFFFFFFFFFFFFFFF)


def load(name: str) -> ModuleType:
    """Import one file of tests/fuzz."""
    spec = importlib.util.spec_from_file_location(name, FUZZ / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def truncations(seed: bytes) -> Iterator[bytes]:
    """Every shorter form of a short seed; of a long one all near the ends, and a thousand between."""
    lengths = range(len(seed))
    if len(seed) > 2000:
        step = len(seed) // 1000
        lengths_of_long = {*range(300), *range(300, len(seed), step), *range(len(seed) - 300, len(seed))}
        yield from (seed[:length] for length in sorted(lengths_of_long))
    else:
        yield from (seed[:length] for length in lengths)


def mutated(seeds: list[bytes], rng: random.Random) -> bytes:
    """One seed with one to four small changes."""
    data = bytearray(rng.choice(seeds))
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(data) + 1)
        match rng.randrange(7):
            case 0 if at < len(data):
                data[at] ^= 1 << rng.randrange(8)
            case 1 if at < len(data):
                data[at] = rng.randrange(256)
            case 2:
                size = rng.choice((1, 2, 4, 8))
                number = rng.choice(EDGES) & ((1 << (8 * size)) - 1)
                data[at : at + size] = number.to_bytes(size, rng.choice(("big", "little")))
            case 3:
                data[at:at] = rng.randbytes(rng.randint(1, 16))
            case 4:
                del data[at : at + rng.randint(1, 16)]
            case 5:
                data[at:at] = data[at : at + rng.randint(1, 256)] * rng.randint(1, 3)
            case _:
                other = rng.choice(seeds)
                data[at:] = other[rng.randrange(len(other) + 1) :]
    return bytes(data)


def inputs(seeds: list[bytes]) -> Iterator[bytes]:
    """Seeds and truncations in any case; mutations for as long as there is time."""
    yield b""
    yield from seeds
    for seed in seeds:
        yield from truncations(seed)
        yield seed + b"\0"
    rng = random.Random(20260701)
    end = time.monotonic() + SECONDS
    for _ in range(MUTATIONS):
        if time.monotonic() > end:
            return
        yield mutated(seeds, rng)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_escapes_a_fuzz_target(name: str) -> None:
    target = load(name)
    assert target.SEEDS, "a target needs seeds, or it never gets past the first check"
    assert all(isinstance(seed, bytes) for seed in target.SEEDS)
    for data in inputs(target.SEEDS):
        start = time.process_time()
        try:
            target.one_input(data)
        except BaseException as exc:
            exc.add_note(f"input: {data[:4096].hex()}")
            raise
        assert time.process_time() - start < SLOWEST, f"slow on {data[:4096].hex()}"


def test_every_parser_has_a_fuzz_target(checkout: Path, tracked: list[str]) -> None:
    # By convention the outermost parser of a format takes `data` (bytes) or `text`; its inner parts take other names.
    fuzzed = "".join((FUZZ / f"{name}.py").read_text() for name in NAMES)
    missing = []
    for name in tracked:
        if name.endswith(".py") and not name.startswith(("tests/", "benchmarks/", "commands/")):
            for node in ast.parse((checkout / name).read_text()).body:
                if isinstance(node, ast.FunctionDef) and node.name.startswith(("parse_", "decode_", "load_policy")):
                    outermost = node.args.args and node.args.args[0].arg in {"data", "text"}
                    found = re.search(rf"\b{node.name}\b", fuzzed)
                    missing += [f"{name}: {node.name}"] if outermost and not found else []
    assert missing == []


def test_a_target_that_lets_something_escape_is_noticed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "fuzz_bad.py").write_text("SEEDS = [b'abcd']\n\n\ndef one_input(data):\n    data[3]\n")
    monkeypatch.setattr(sys.modules[__name__], "FUZZ", tmp_path)
    with pytest.raises(IndexError):
        test_nothing_escapes_a_fuzz_target("fuzz_bad")


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("name", NAMES)
def test_atheris_finds_nothing_in_ten_seconds(
    name: str, tmp_path: Path, loud_skip: Callable[[str, str], NoReturn]
) -> None:
    if importlib.util.find_spec("atheris") is None:
        installable = (platform.machine(), sys.platform) == ("x86_64", "linux") and sys.version_info < (3, 14)
        assert not installable, "atheris is missing, though the test extra holds it"
        loud_skip("no atheris for this machine", name)
    command = [
        sys.executable,
        str(FUZZ / "run.py"),
        "--seconds=10",
        f"--findings={tmp_path}",
        name.removeprefix("fuzz_"),
    ]
    ran = subprocess.run(command, check=False, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_the_atheris_runner_reports_a_finding(tmp_path: Path) -> None:
    if importlib.util.find_spec("atheris") is None:
        pytest.skip("no atheris for this machine")
    (tmp_path / "run.py").write_bytes((FUZZ / "run.py").read_bytes())
    bad = "def one_input(data):\n    if data[:3] == b'abc' and len(data) == 7:\n        raise ValueError\n"
    (tmp_path / "fuzz_bad.py").write_text(f"SEEDS = [b'abcd']\n\n\n{bad}")
    command = [sys.executable, "run.py", "--seconds=20", "--findings=found"]
    ran = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True)
    assert ran.returncode == 1, ran.stdout + ran.stderr
    assert "broken: bad" in ran.stdout
    (finding,) = (tmp_path / "found").iterdir()
    assert len(finding.read_bytes()) == 7
