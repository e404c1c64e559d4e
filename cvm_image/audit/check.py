"""Builds an image twice under different conditions and compares: what a release must pass, and every change to it."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from ...errors import MaterialUnavailable
from ..lock import read_lock
from ..profile import OVERLAYS
from ..store import Store
from .compare import Comparison, Difference, compare
from .deeper import look
from .perturb import PERTURBATIONS, Perturbation, Run, become

_SECONDS: Final = 1800
_KEPT: Final = ("PATH", "HOME", "XDG_CACHE_HOME", "PYTHONPATH", "LD_LIBRARY_PATH", "VIRTUAL_ENV")


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a check found.

    Attributes:
        comparison: of the two builds.
        varied: names of the perturbations that were made.
        not_varied: names of the others with the reason.
        guilty: with bisection, those whose absence makes both builds the same.
        deeper: what diffoscope says of the first difference, if it was asked.
    """

    comparison: Comparison
    varied: tuple[str, ...]
    not_varied: tuple[tuple[str, str], ...]
    guilty: tuple[str, ...] = ()
    deeper: str = ""


def choose(
    only: Collection[str] = (), skip: Collection[str] = (), require: Collection[str] = ()
) -> tuple[list[Perturbation], list[tuple[str, str]]]:
    """The perturbations that this machine can make, and the others with the reason.

    Args:
        only: names; empty for all.
        skip: names that are left out.
        require: names that must be possible; "all" for every one.

    Raises:
        MaterialUnavailable: a required one is not possible here, or a name is unknown.
    """
    names = {item.name for item in PERTURBATIONS}
    unknown = (set(only) | set(skip) | set(require)) - names - {"all"}
    if unknown:
        raise MaterialUnavailable(f"no perturbation {min(unknown)!r}; there are {', '.join(sorted(names))}")
    chosen, left = [], []
    for item in PERTURBATIONS:
        wanted = (not only or item.name in only) and item.name not in skip
        reason = item.missing() if wanted else "left out by the caller"
        if reason and wanted and ("all" in require or item.name in require):
            raise MaterialUnavailable(f"perturbation {item.name} is required, but {reason}")
        if reason:
            left.append((item.name, reason))
        else:
            chosen.append(item)
    return chosen, left


def copy_inputs(profile: Path, lock_file: Path, store: Store, folder: Path) -> tuple[Path, Path]:
    """Copy a profile, its overlays, its lock and what that names into a folder that everybody may read.

    Returns:
        The copies of profile and lock.

    Raises:
        MaterialUnavailable: there is no such lock, or something is not in the store, or no longer what its name says.
        MalformedEvidence: the lock does not read.
    """
    lock = read_lock(lock_file)
    folder.chmod(0o755)
    copies = folder / "profile.toml", folder / "profile.lock"
    for source, copy in zip((profile, lock_file), copies, strict=True):
        shutil.copyfile(source, copy)
        copy.chmod(0o644)
    own = profile.resolve().parent / OVERLAYS.name
    if own.is_dir() and own != OVERLAYS:
        _copy_readable(own, folder / OVERLAYS.name)
    for sha256, _, name in lock.inputs():
        place = Store(folder).path(sha256)
        for part in (place.parent.parent, place.parent):
            part.mkdir(exist_ok=True)
            part.chmod(0o755)
        shutil.copyfile(store.checked(sha256, name), place)
        place.chmod(0o644)
    return copies


def _copy_readable(source: Path, copy: Path) -> None:
    shutil.copytree(source, copy, symlinks=True)
    for path in (copy, *copy.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() else 0o644)


def check(
    command: Sequence[str],
    *,
    perturbations: Sequence[Perturbation],
    not_varied: Sequence[tuple[str, str]] = (),
    bisect: bool = False,
    deeper: bool = False,
    told: Callable[[str, int, int], None],
) -> Report:
    """Build twice and compare.

    Args:
        command: builds an image when the folder to make is appended.
        perturbations: what is different the second time.
        not_varied: for the report.
        bisect: whether a difference is pursued by turning the perturbations off one by one.
        deeper: whether diffoscope is asked about a difference.
        told: progress.

    Raises:
        MaterialUnavailable: the first build failed; its last words are in the message.
    """
    with tempfile.TemporaryDirectory(prefix="dk-check-") as folder:
        scratch = Path(folder)
        scratch.chmod(0o755)
        told("first build", 0, 0)
        plain = _build(command, (), scratch / "a")
        told("second build, under other conditions", 0, 0)
        comparison, said = _compared(plain, command, perturbations, scratch / "b", told if deeper else None)
        guilty = []
        if bisect and not comparison.identical:
            for item in perturbations:
                told(f"building without {item.name}", 0, 0)
                rest = [other for other in perturbations if other is not item]
                if _compared(plain, command, rest, scratch / f"without-{item.name}")[0].identical:
                    guilty.append(item.name)
    return Report(
        comparison=comparison,
        varied=tuple(item.name for item in perturbations),
        not_varied=tuple(not_varied),
        guilty=tuple(guilty),
        deeper=said,
    )


def _compared(
    plain: Path,
    command: Sequence[str],
    perturbations: Sequence[Perturbation],
    scratch: Path,
    told: Callable[[str, int, int], None] | None = None,
) -> tuple[Comparison, str]:
    """Build again and compare; with `told`, what diffoscope says of a difference as well."""
    try:
        made = _build(command, perturbations, scratch)
    except MaterialUnavailable as exc:
        return _stopped(str(exc)), ""
    try:
        found = compare(plain, made)
        if told is None or found.identical:
            return found, ""
        told("asking diffoscope", 0, 0)
        return found, look(plain, made, found)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _stopped(why: str) -> Comparison:
    """A second build that fails where the first did not: something of its conditions reaches the build after all."""
    cause, cure = "one of the conditions stops the build", "--bisect names it"
    found = Difference(path="build", field="missing", a="there", b=why, cause=cause, cure=cure)
    return Comparison(stages=(("build", "there", ""),), first="build", differences=(found,))


def _build(command: Sequence[str], perturbations: Sequence[Perturbation], scratch: Path) -> Path:
    scratch.mkdir()
    output = scratch / "image"
    environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
    run = Run(command=(*command, str(output)), environment=environment, scratch=scratch, output=output)
    # Who builds decides who must own the folders that others are given, so that comes first.
    for item in sorted(perturbations, key=lambda item: item.name != "uid"):
        run = item.apply(run)
    if run.uid is not None:
        os.chown(scratch, run.uid, run.uid)
        # Inside of every wrapper that needs more rights than a user has.
        run = replace(run, command=(*become(run.uid), "/usr/bin/env", *run.command))
    ran = subprocess.run(
        (*run.outer, *run.command),
        env=dict(run.environment),
        umask=run.umask,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=_SECONDS,
        check=False,
    )
    if ran.returncode:
        raise MaterialUnavailable(f"a build ended with {ran.returncode}: {(ran.stderr or ran.stdout).strip()[-800:]}")
    return run.output
