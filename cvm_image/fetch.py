"""Fetches what a lock names: from any mirror, resumed where it broke off, accepted by size and hash alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final
from urllib.parse import quote

import requests

from ..errors import MaterialUnavailable
from .apt import host_mirrors
from .lock import Deb, Lock
from .model import fetch_model
from .store import Store, file_sha256
from .wheels import download

_CHUNK: Final = 1 << 16
_CONNECT_SECONDS: Final = 10.0
_READ_SECONDS: Final = 60.0
_JOBS: Final = 8

Told = Callable[[str, int, int], None]


def fetch(lock: Lock, store: Store, *, progress: Told, mirrors: Sequence[str] | None = None, jobs: int = _JOBS) -> None:
    """Bring everything that a lock names into the store.

    Args:
        lock: what is needed.
        store: where it goes.
        progress: what is being done, bytes done and in all.
        mirrors: addresses of the Debian archive, each asked in turn; None for those of the host's apt settings.
        jobs: downloads at one time.

    Raises:
        MaterialUnavailable: no mirror serves a file; the message names it and the ways out.
        MalformedEvidence: the model is not what its hash says.
    """
    missing = [deb for deb in lock.debs if not store.has(deb.sha256, deb.size)]
    if missing:
        addresses = tuple(mirrors) if mirrors else host_mirrors().all
        _fetch_debs(missing, store, addresses, progress, jobs)
    wheels = [wheel for wheel in lock.wheels if not store.has(wheel.sha256, wheel.size)]
    if wheels:
        progress("fetching wheels", 0, 0)
        with store.scratch() as scratch:
            found = {file_sha256(file): file for file in download((), _python(lock), scratch, hashes=wheels)}
            for wheel in wheels:
                if wheel.sha256 not in found:
                    raise MaterialUnavailable(_lost(wheel.filename))
                store.adopt(found[wheel.sha256], wheel.sha256)
    for model in lock.models:
        fetch_model(model, folder=store.folder, progress=progress)


def _python(lock: Lock) -> str:
    """Version of the guest's Python, by the package that brings it."""
    for deb in lock.group("root"):
        if deb.name.startswith("python3.") and deb.name.removeprefix("python3.").isdigit():
            return deb.name.removeprefix("python")
    raise MaterialUnavailable("the lock names wheels, but no Python for them")


def _fetch_debs(debs: Sequence[Deb], store: Store, mirrors: Sequence[str], progress: Told, jobs: int) -> None:
    total, done = sum(deb.size for deb in debs), 0

    def came(size: int) -> None:
        nonlocal done
        done += size
        progress("fetching packages", done, total)

    with ThreadPoolExecutor(jobs) as pool:
        running = [pool.submit(_fetch_deb, deb, store, mirrors, came) for deb in debs]
        try:
            for job in running:
                job.result()
        except BaseException:
            for job in running:
                job.cancel()
            raise


def _fetch_deb(deb: Deb, store: Store, mirrors: Sequence[str], came: Callable[[int], None]) -> None:
    partial = store.partial(deb.sha256)
    for mirror in mirrors:
        try:
            _download(f"{mirror.rstrip('/')}/{quote(deb.path)}", partial, deb.size, came)
        except (requests.RequestException, OSError):
            continue
        if partial.is_file() and partial.stat().st_size == deb.size:
            if file_sha256(partial) == deb.sha256:
                store.adopt(partial, deb.sha256)
                return
            partial.unlink()  # what this mirror has is something else; the next may do better
    raise MaterialUnavailable(_lost(f"{deb.name} {deb.version}"))


def _download(url: str, partial: Path, size: int, came: Callable[[int], None]) -> None:
    """Continue a download, or begin it anew where the server does not continue; never more than `size` bytes."""
    have = partial.stat().st_size if partial.is_file() else 0
    if have > size:
        partial.unlink()
        have = 0
    if have == size:
        came(size)
        return
    headers = {"Range": f"bytes={have}-"} if have else {}
    timeout = (_CONNECT_SECONDS, _READ_SECONDS)
    with requests.get(url, headers=headers, stream=True, timeout=timeout) as response:
        response.raise_for_status()
        resumed = response.status_code == requests.codes.partial_content
        if resumed and not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            raise requests.RequestException("the server continues elsewhere")
        came(have if resumed else 0)
        left = size - (have if resumed else 0)
        with partial.open("ab" if resumed else "wb") as file:
            for chunk in response.iter_content(_CHUNK):
                if len(chunk) > left:
                    file.truncate(0)
                    raise requests.RequestException("longer than the lock says")
                left -= len(chunk)
                file.write(chunk)
                came(len(chunk))


def _lost(what: str) -> str:
    return (
        f"{what}: no mirror serves what the lock names; mirrors keep the newest versions only. Ways out: another "
        "--mirror, `dokimos image bundle import` of the release's bundle, or `dokimos image lock` again, which makes "
        "another image with another digest"
    )
