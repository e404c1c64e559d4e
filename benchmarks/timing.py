"""How the figures are taken: best of many rounds in which all take turns, so that all see the same machine."""

from __future__ import annotations

import subprocess
import sys
import time
import timeit
from pathlib import Path


def turns(*works, rounds: int = 60, number: int = 20) -> list[float]:
    """Best seconds per call of each."""
    best = [float("inf")] * len(works)
    for _ in range(rounds):
        times = [timeit.timeit(work, number=number) / number for work in works]
        best = [min(pair) for pair in zip(best, times, strict=True)]
    return best


def starts(*commands: list[str], rounds: int = 15, folder: Path | None = None) -> list[float]:
    """Best seconds of each command, from its start to its end; commands of this interpreter may leave out its name."""
    best = [float("inf")] * len(commands)
    for _ in range(rounds):
        for number, command in enumerate(commands):
            whole = [sys.executable, *command] if command[0].startswith("-") else command
            start = time.perf_counter()
            subprocess.run(whole, check=True, stdout=subprocess.DEVNULL, cwd=folder)
            best[number] = min(best[number], time.perf_counter() - start)
    return best


def forget() -> None:
    """Empty every cache of the package, so that the next verification starts as the first one did."""
    for name, module in list(sys.modules.items()):
        if name.startswith("dokimos."):
            for value in list(vars(module).values()):
                if callable(clear := getattr(value, "cache_clear", None)):
                    clear()
