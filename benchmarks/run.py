"""All figures in one run: ``python benchmarks/run.py``; with ``--write`` they go into ``benchmarks/README.md``.

Every figure stands beside a yardstick that was measured in the same run, and is worth what that yardstick is worth on
the machine that is named.  Nothing here is a test.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import re
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent))  # for benchmarks.figure
BEGIN, END = "<!-- figures: written by run.py -->", "<!-- end of figures -->"


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _machine() -> str:
    model = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory = re.search(r"^MemTotal:\s*(\d+) kB$", Path("/proc/meminfo").read_text(), re.MULTILINE)
    parts = [
        f"{os.cpu_count()} cores of {model.group(1) if model else platform.processor()}",
        f"{int(memory.group(1)) / (1 << 20):.0f} GiB" if memory else "",
        f"Linux {platform.release()}",
        f"Python {platform.python_version()}",
        f"cryptography {version('cryptography')}",
        f"sev-snp-measure {version('sev-snp-measure')}",
        f"load {os.getloadavg()[0]:.1f} at the start",
    ]
    return ", ".join(filter(None, parts))


def _rows(vectors: Path | None) -> list[str]:
    figures = [
        *_load("bench_verify").figures(vectors),
        *_load("bench_measure").figures(),
        *_load("bench_tdx").figures(vectors),
        *_load("bench_gpu").figures(vectors),
        *_load("bench_ohttp").figures(),
        *_load("bench_build").figures(),
    ]
    rows = ["| what | measured | yardstick in the same run | ratio | goal | met |", "|---|---|---|---|---|---|"]
    for figure in figures:
        ratio = "-" if figure.ratio is None else f"{figure.ratio:.2f}"
        met = "-" if figure.goal == "none" else "yes" if figure.met else "**no**"
        rows.append(f"| {figure.what} | {figure.measured} | {figure.yardstick} | {ratio} | {figure.goal} | {met} |")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="put the figures into benchmarks/README.md")
    arguments = parser.parse_args()
    folder = os.environ.get("DOKIMOS_VECTORS")
    machine = _machine()
    rows = _rows(Path(folder) if folder else None)
    text = "\n".join([f"Measured on {datetime.now(UTC):%Y-%m-%d}: {machine}.", "", *rows])
    print(text)
    if arguments.write:
        page = HERE / "README.md"
        before, _, rest = page.read_text().partition(BEGIN)
        _, _, after = rest.partition(END)
        page.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")


if __name__ == "__main__":
    main()
