"""From a profile to a lock: which packages, wheels and weights an image is made of today."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Collection
from dataclasses import replace
from fnmatch import fnmatchcase
from itertools import chain
from pathlib import Path
from typing import Final

from ..errors import MaterialUnavailable
from .apt import KEYRING, Apt, Mirrors
from .lock import Deb, Lock, ModelFile, Wheel
from .model import SMOLLM2
from .profile import Profile
from .store import Store, file_sha256
from .wheels import download

MODELS: Final = {SMOLLM2.alias: SMOLLM2}
"""Models that a profile can name."""


def resolve(
    profile: Profile,
    *,
    mirrors: Mirrors,
    store: Store,
    allow_expired: Collection[str] = (),
    keyring: Path = KEYRING,
    progress: Callable[[str, int, int], None],
) -> Lock:
    """Resolve a profile.

    Args:
        profile: what the image shall be.
        mirrors: where the archive is.
        store: where wheels are put, since only their content tells their hash.
        allow_expired: suites whose index may be past its Valid-Until; recorded in the lock.
        keyring: the archive's keys.
        progress: what is being done.

    Raises:
        MaterialUnavailable: something that the profile names cannot be had, or two versions of a package are asked for.
    """
    with tempfile.TemporaryDirectory(prefix="dk-apt-") as folder:
        progress("asking the archive", 0, 0)
        apt = Apt(Path(folder) / "apt", profile.suites, mirrors, allow_expired=allow_expired, keyring=keyring)
        suites = apt.suites()
        debs = _debs(profile, apt)
    wheels: tuple[Wheel, ...] = ()
    if profile.root.wheels:
        progress("resolving wheels", 0, 0)
        wheels = _wheels(profile, store)
    return Lock(
        profile=profile.name,
        profile_sha256=profile.sha256,
        source_date_epoch=max(suite.date for suite in suites),
        suites=suites,
        debs=debs,
        wheels=wheels,
        models=tuple(sorted(_model(volume.model) for volume in profile.volumes)),
    )


def _debs(profile: Profile, apt: Apt) -> tuple[Deb, ...]:
    why: dict[tuple[str, str, str], set[str]] = {}
    for group, wanted in profile.groups().items():
        # Firmware of several platforms may come from packages that replace each other; nothing of them is installed.
        alone = [(name,) for name in wanted.packages] if group == "firmware" else [wanted.packages]
        for package in chain.from_iterable(map(apt.closure, alone)):
            name = package[0]
            kept = not wanted.only or any(fnmatchcase(name, pattern) for pattern in wanted.only)
            if kept and name not in wanted.leave_out:
                why.setdefault(package, set()).add(group)
    names = [name for name, _, _ in why]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise MaterialUnavailable(f"{twice[0]}: two groups of the profile resolve to different versions of it")
    packages = sorted(why)
    rows = []
    told = zip(packages, apt.show(packages), apt.suite_of(packages), strict=True)
    for (name, version, arch), fields, suite in told:
        try:
            source, _, rest = fields.get("Source", name).partition(" ")
            row = Deb(
                name=name,
                version=version,
                arch=arch,
                suite=suite,
                path=fields["Filename"],
                size=int(fields["Size"]),
                sha256=fields["SHA256"],
                source=source,
                source_version=rest.strip("()") or version,
                why=tuple(sorted(why[name, version, arch])),
            )
        except (KeyError, ValueError) as exc:
            raise MaterialUnavailable(f"{name}: the archive's index says too little of it") from exc
        rows.append(row)
    return tuple(sorted(rows))


def _wheels(profile: Profile, store: Store) -> tuple[Wheel, ...]:
    rows = []
    with store.scratch() as scratch:
        for file in download(profile.root.wheels, profile.root.python, scratch):
            digest = file_sha256(file)
            name, version = file.name.split("-")[:2]
            rows.append(Wheel(name=name, version=version, filename=file.name, size=file.stat().st_size, sha256=digest))
            copy = file.with_name(digest)
            shutil.move(file, copy)
            store.adopt(copy, digest)
    return tuple(sorted(rows))


def _model(alias: str) -> ModelFile:
    if alias not in MODELS:
        raise MaterialUnavailable(f"model {alias!r} is not known; known are {', '.join(MODELS)}")
    return replace(MODELS[alias])
