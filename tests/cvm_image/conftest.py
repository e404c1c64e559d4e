"""Locked profiles with all their files in the store, through the commands that a user calls: they reach the network in
processes of their own, which these tests themselves may not."""

from __future__ import annotations

import subprocess
import sys
import warnings
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from dokimos.cvm_image.lock import Lock, read_lock
from dokimos.cvm_image.profile import BUILTIN, Profile, load_profile
from dokimos.cvm_image.store import Store


class Locked(NamedTuple):
    """A profile, its lock, the lock's file, and the store with all that it names."""

    profile: Profile
    lock: Lock
    file: Path
    store: Store


def _image(*arguments):
    command = [sys.executable, "-m", "dokimos", "image", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="session")
def locked(tmp_path_factory):
    """locked("cpu"): the committed lock, or a new one where mirrors no longer serve that; locked(text): a new one."""

    @cache
    def give(profile: str) -> Locked:
        folder = tmp_path_factory.mktemp("lock")
        if "\n" not in profile:
            name, file = profile, BUILTIN / f"{profile}.lock"
            ran = _image("fetch", name, "--lock", file)
            if not ran.returncode:
                return Locked(load_profile(name), read_lock(file), file, Store())
            assert ran.returncode == 40, ran.stderr
            warnings.warn(f"the committed lock of {name} is not used, a new one is made: {ran.stderr}", stacklevel=2)
        else:
            name = str(folder / "profile.toml")
            Path(name).write_text(profile)
        file = folder / "new.lock"
        # The only suite that the committed locks accept past its time.
        ran = _image("lock", name, "--output", file, "--allow-expired", "sid")
        assert ran.returncode == 0, ran.stderr
        ran = _image("fetch", name, "--lock", file)
        assert ran.returncode == 0, ran.stderr
        return Locked(load_profile(name), read_lock(file), file, Store())

    with warnings.catch_warnings():
        warnings.simplefilter("default")
        yield give
