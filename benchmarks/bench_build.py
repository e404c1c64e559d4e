"""An image built from a warm store, beside mmdebstrap with the same packages; its root hash; and how fast it serves."""

from __future__ import annotations

import hashlib
import os
import runpy
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from benchmarks.figure import Figure
from dokimos.client.chat import Message
from dokimos.client.session import Session
from dokimos.commands import demo_vm
from dokimos.cvm_image.apt import host_mirrors
from dokimos.cvm_image.boot.emulated import EmulatedGuest
from dokimos.cvm_image.fetch import fetch
from dokimos.cvm_image.lock import Deb, Lock, read_lock
from dokimos.cvm_image.model import fetch_model
from dokimos.cvm_image.profile import Profile, load_profile, lock_path
from dokimos.cvm_image.resolve import resolve
from dokimos.cvm_image.service.engine.base import ChatRequest
from dokimos.cvm_image.service.engine.llama_cpp import LlamaCppEngine
from dokimos.cvm_image.store import Store
from dokimos.measurements.verity import root_hash
from dokimos.verifier.policy import load_policy

_GENERATOR = Path(__file__).parents[1] / "tests/generate/flat_repository.py"
# Debian's Essential packages: nobody depends on them, and without them dpkg installs nothing.
_ESSENTIAL = (
    *("base-files", "base-passwd", "bash", "bsdutils", "coreutils", "dash", "debianutils", "diffutils", "dpkg"),
    *("findutils", "grep", "gzip", "hostname", "init-system-helpers", "libc-bin", "login.defs", "ncurses-base"),
    *("ncurses-bin", "perl-base", "sed", "sysvinit-utils", "tar", "util-linux"),
)
_GROUPS = ("root", "initrd", "kernel")
_MIB = 1 << 20


def _silent(*_: object) -> None:
    pass


@contextmanager
def _peak(pid: int) -> Iterator[list[int]]:
    """Most bytes of memory that a process and all below it held at one time, looked at every 20 ms."""
    most, ended = [0], threading.Event()

    def look() -> None:
        while not ended.wait(0.02):
            most[0] = max(most[0], sum(map(_resident, _family(pid))))

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield most
    finally:
        ended.set()
        watcher.join()


def _family(pid: int) -> list[int]:
    found = [pid]
    for above in found:
        try:
            for tasks in Path(f"/proc/{above}/task").glob("*/children"):
                found += map(int, tasks.read_text().split())
        except OSError:  # it has just ended
            continue
    return found


def _resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def _timed(command: list[str]) -> tuple[float, int]:
    """Seconds and most memory of a command."""
    start = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        with _peak(process.pid) as most:
            error = process.communicate()[1]
        if process.returncode:
            raise RuntimeError(error.decode())
    return time.monotonic() - start, most[0]


def _installable(profile: Profile, lock: Lock, store: Store) -> list[Deb]:
    """The lock's packages, those without which they cannot be installed, and no other version of either."""
    names = [name for group in (profile.root, profile.initrd, profile.kernel) for name in group.packages]
    root = replace(profile.root, packages=(*names, *_ESSENTIAL), only=(), leave_out=(), wheels=())
    whole = resolve(
        replace(profile, root=root),
        mirrors=host_mirrors(),
        store=store,
        allow_expired={suite.suite for suite in lock.suites if not suite.valid_until_checked},
        progress=_silent,
    )
    fetch(whole, store, progress=_silent)
    return list(whole.group("root"))


def _mmdebstrap(variant: str, packages: list[Deb], folder: Path, store: Store) -> tuple[float, int]:
    flat = runpy.run_path(str(_GENERATOR))["flat_repository"]
    line = flat(packages, store, folder / variant, dependencies=variant != "extract")
    names = ",".join(package.name for package in packages)
    return _timed(
        ["mmdebstrap", f"--variant={variant}", f"--include={names}", "", str(folder / f"{variant}.tar"), line]
    )


def _builds(profile: Profile, lock: Lock, store: Store, folder: Path) -> list[Figure]:
    whole = _installable(profile, lock, store)
    ours = list({package.name: package for group in _GROUPS for package in lock.group(group)}.values())
    command = [sys.executable, "-m", "dokimos", "image", "build", "cpu", "--output", str(folder / "image")]
    taken = [_timed(command) for _ in range(2)]
    seconds, memory = min(taken)[0], max(most for _, most in taken)
    installed, _ = _mmdebstrap("essential", whole, folder, store)
    extracted, _ = _mmdebstrap("extract", ours, folder, store)
    build = f"{seconds:.1f} s for packages, wheels, model, file systems, verity, initrd and measurements"
    return [
        Figure(
            "build of the cpu profile from a warm store",
            build,
            f"mmdebstrap installs its {len(ours)} packages, and {len(whole) - len(ours)} more that this needs,"
            f" into a tar: {installed:.1f} s",
            seconds / installed,
            "<= 1/4, and <= 15 s",
            seconds <= installed / 4 and seconds <= 15,
        ),
        Figure(
            "the same build",
            f"{seconds:.1f} s",
            f"mmdebstrap only unpacks the {len(ours)} packages into a tar: {extracted:.1f} s",
            seconds / extracted,
            "none",
            True,
        ),
        Figure(
            "peak memory of a build, with its tools",
            f"{memory / _MIB:.0f} MiB",
            "none",
            None,
            "<= 600 MiB",
            memory <= 600 * _MIB,
        ),
    ]


def _verity() -> Figure:
    data, salt = os.urandom(100_000_000 // 4096 * 4096), bytes(32)
    best = [float("inf")] * 2
    works = (lambda: root_hash([data], salt), lambda: hashlib.sha256(data).digest())
    for _ in range(5):
        for number, work in enumerate(works):
            start = time.perf_counter()
            work()
            best[number] = min(best[number], time.perf_counter() - start)
    return Figure(
        "verity root hash of 100 MB",
        f"{best[0]:.2f} s",
        f"one SHA-256 over the same bytes, {best[1]:.2f} s",
        best[0] / best[1],
        "<= 0.4 s",
        best[0] <= 0.4,
    )


def _served(image: Path, store: Store, folder: Path) -> list[Figure]:
    question = [("system", demo_vm.SYSTEM), ("user", demo_vm.QUESTION)]
    engine = LlamaCppEngine(fetch_model(), threads=2)
    try:
        request = ChatRequest(messages=tuple(question), max_tokens=demo_vm.MAX_TOKENS, temperature=0.0)
        start = time.monotonic()
        native_answer = engine.chat(request)
        native = time.monotonic() - start
    finally:
        engine.close()
    start = time.monotonic()
    with EmulatedGuest(image, store, state_dir=folder / "simulated") as guest:
        guest.wait_serving(240)
        with Session.open(guest.url, load_policy(guest.policy()), timeout=300) as session:
            verified = time.monotonic() - start
            start = time.monotonic()
            messages = [Message(role=role, content=content) for role, content in question]
            answer = session.chat(messages, max_tokens=demo_vm.MAX_TOKENS, temperature=0.0)
            answered = time.monotonic() - start
    assert answer.text == native_answer.text
    return [
        Figure(
            "QEMU's start to a verified endpoint, emulated",
            f"{verified:.1f} s",
            "none",
            None,
            "<= 40 s",
            verified <= 40,
        ),
        Figure(
            f"then the sealed answer: {answer.prompt_tokens} tokens read, {answer.completion_tokens} written, emulated",
            f"{answered:.1f} s",
            f"the same engine loading the same model for the same answer on the machine itself, {native:.2f} s",
            answered / native,
            "<= 60 s",
            answered <= 60,
        ),
    ]


def figures() -> list[Figure]:
    """All figures of this module; without mmdebstrap none of them, and it says so."""
    if shutil.which("mmdebstrap") is None:
        return [Figure("build of an image", "not measured: mmdebstrap is not installed", "none", None, "none", False)]
    profile, lock, store = load_profile("cpu"), read_lock(lock_path("cpu")), Store()
    fetch(lock, store, progress=_silent)
    with tempfile.TemporaryDirectory(prefix="dk-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        return [*_builds(profile, lock, store, folder), _verity(), *_served(folder / "image", store, folder)]
