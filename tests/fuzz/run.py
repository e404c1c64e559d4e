"""Run the fuzz targets under atheris, each in a process of its own, for some seconds.

A target is a file ``fuzz_<name>.py`` beside this one with ``one_input(data: bytes) -> None``, from which nothing may
escape, and ``SEEDS: list[bytes]``.  An input that breaks a target is kept in the folder of findings.
"""

from __future__ import annotations

import argparse
import importlib
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent


def names() -> list[str]:
    """The names of all targets."""
    return sorted(path.stem.removeprefix("fuzz_") for path in HERE.glob("fuzz_*.py"))


def fuzz(name: str, seconds: int, findings: Path, corpus: Path) -> None:
    """Fuzz one target in this process; libFuzzer ends the process at once, with 0 if nothing was found."""
    import atheris  # noqa: PLC0415 - only for x86-64 Linux, and nothing else here needs it

    sys.path.insert(0, str(HERE))
    with atheris.instrument_imports(include=["dokimos", f"fuzz_{name}"]):
        target = importlib.import_module(f"fuzz_{name}")
    for number, seed in enumerate(target.SEEDS):
        (corpus / str(number)).write_bytes(seed)
    longest = max([256, *(2 * len(seed) for seed in target.SEEDS)])
    options = [
        f"-max_total_time={seconds}",
        f"-max_len={longest}",
        f"-artifact_prefix={findings}/{name}-",
        "-seed=1",
        "-timeout=10",
        "-rss_limit_mb=2048",
        "-print_final_stats=1",
        "-verbosity=0",
    ]
    atheris.Setup([sys.argv[0], *options, str(corpus)], target.one_input)
    atheris.Fuzz()


def main() -> int:
    """Fuzz the named targets, or all; 0 if none of them gave a finding."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=10, help="seconds for each target")
    parser.add_argument("--findings", type=Path, default=Path(".fuzz"), help="folder for inputs that break a target")
    parser.add_argument(
        "--here", type=Path, metavar="FOLDER", help="fuzz in this very process, with the corpus in FOLDER"
    )
    parser.add_argument("target", nargs="*", help="names; all targets without them")
    options = parser.parse_args()
    options.findings.mkdir(parents=True, exist_ok=True)
    if options.here:
        fuzz(options.target[0], options.seconds, options.findings, options.here)
    broken = []
    for name in options.target or names():
        sys.stdout.write(f"{name}: {options.seconds} s\n")
        sys.stdout.flush()
        with tempfile.TemporaryDirectory() as corpus:
            command = [sys.executable, __file__, name, f"--here={corpus}", f"--seconds={options.seconds}"]
            ran = subprocess.run([*command, f"--findings={options.findings}"], check=False)
        broken += [name] if ran.returncode else []
    sys.stdout.write(f"broken: {', '.join(broken) or 'none'}\n")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
