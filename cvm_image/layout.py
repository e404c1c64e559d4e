"""The folder that a built image is: its files' names, ``manifest.json`` and ``files.json``.

Both documents are written the same way everywhere: sorted, one line for each file, so that two images are compared
with a plain diff.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final

from ..errors import MalformedEvidence, MaterialUnavailable
from .store import file_sha256

MANIFEST: Final = "manifest.json"
FILES: Final = "files.json"
SBOM: Final = "sbom.cdx.json"
MEASUREMENTS: Final = "measurements.json"
LOCK: Final = "image.lock"
PROFILE: Final = "profile.toml"
KERNEL: Final = "vmlinuz"
INITRD: Final = "initrd.img"
COMMAND_LINE: Final = "cmdline"
FIRMWARE_SNP: Final = "firmware-snp.fd"
FIRMWARE_TDX: Final = "firmware-tdx.fd"
UKI: Final = "image.efi"
SCHEMA: Final = "dokimos.image/v1"
FILES_SCHEMA: Final = "dokimos.image-files/v1"
_MAX_JSON = 64 << 20
_SHA256 = re.compile(r"[0-9a-f]{64}")
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One stage of a build and the hash of what it gave; the first that differs between two builds is the cause.

    Attributes:
        name: for example "archive.root".
        sha256: in hex.
    """

    name: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """A file of the folder.

    Attributes:
        name: its name.
        size: bytes.
        sha256: in hex.
    """

    name: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeInfo:
    """A file system with its appended dm-verity tree; every parameter stands on the command line.

    Attributes:
        name: "root", or the volume's name in the profile.
        file: name of its file in the folder.
        filesystem: "squashfs" or "erofs".
        mount: where it is mounted in the guest.
        data_blocks: blocks of 4096 bytes before the tree.
        salt: of the tree, in hex.
        root_hash: of the tree, in hex.
        uuid: in the tree's superblock, which the guest never reads.
    """

    name: str
    file: str
    filesystem: str
    mount: str
    data_blocks: int
    salt: str
    root_hash: str
    uuid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BootInfo:
    """How the image is started.

    Attributes:
        memory: MiB.
        vcpus: virtual processors.
        vcpu_type: their type, by QEMU's name.
        port: TCP port of the service in the guest.
    """

    memory: int
    vcpus: int
    vcpu_type: str
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What an image is.

    Attributes:
        profile: name of its profile.
        dokimos: version that built it.
        source_date_epoch: the time of every file in it, in seconds since 1970.
        lock_sha256: of the lock, in hex.
        profile_sha256: of the profile, in hex.
        command_line: of the kernel, with every root hash.
        boot: how it is started.
        volumes: root first.
        stages: in the order of the build.
        artifacts: every other file of the folder, sorted by name.
    """

    profile: str
    dokimos: str
    source_date_epoch: int
    lock_sha256: str
    profile_sha256: str
    command_line: str
    boot: BootInfo
    volumes: tuple[VolumeInfo, ...]
    stages: tuple[Stage, ...]
    artifacts: tuple[Artifact, ...]

    def artifact(self, name: str) -> Artifact:
        """One of the files.

        Raises:
            MaterialUnavailable: the image has none of this name.
        """
        for artifact in self.artifacts:
            if artifact.name == name:
                return artifact
        raise MaterialUnavailable(f"the image has no {name}")


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class FileEntry:
    """One file of the image.

    Attributes:
        volume: "root", "initrd", or the name of a volume.
        path: absolute path in it.
        type: "file", "folder", "link" or "device".
        mode: permission bits, four octal digits.
        uid: number of its owner.
        gid: number of its group.
        size: bytes; 0 for what is not a file.
        sha256: of a file's content in hex; else empty.
        target: of a link; else empty.
        origin: "package:NAME", "wheel:NAME", "overlay:NAME", "dokimos", "model:ALIAS", "profile" for what it declares,
            or "step:NAME" for what a step of the build made.
    """

    volume: str
    path: str
    type: str
    mode: str
    uid: int
    gid: int
    size: int
    sha256: str
    target: str
    origin: str


def format_manifest(manifest: Manifest) -> str:
    """``manifest.json``."""
    return json.dumps({"schema": SCHEMA, **asdict(manifest)}, indent=1, ensure_ascii=True) + "\n"


def format_files(files: Iterable[FileEntry]) -> str:
    """``files.json``: one line for each file, sorted by volume and path."""
    rows = [" " + json.dumps(asdict(entry)) for entry in sorted(files)]
    return f'{{"schema": "{FILES_SCHEMA}", "files": [\n' + ",\n".join(rows) + "\n]}\n"


def parse_manifest(text: str) -> Manifest:
    """Read ``manifest.json``.

    Raises:
        MalformedEvidence: not a manifest of this schema.
    """
    data = _json(text, "manifest", SCHEMA)
    lists: dict[str, type] = {"volumes": VolumeInfo, "stages": Stage, "artifacts": Artifact}
    for name, kind in lists.items():
        rows = data.get(name)
        if not isinstance(rows, list):
            raise MalformedEvidence(f"manifest: {name} is not a list")
        data[name] = tuple(_record(kind, row, f"manifest: {name}") for row in rows)
    data["boot"] = _record(BootInfo, data.get("boot"), "manifest: boot")
    manifest: Manifest = _record(Manifest, data, "manifest", skip={*lists, "boot"})
    for name in (*(item.name for item in manifest.artifacts), *(item.file for item in manifest.volumes)):
        if not _FILE_NAME.fullmatch(name):
            raise MalformedEvidence(f"manifest: {name!r:.80} is not the name of a file")
    return manifest


def parse_files(text: str) -> tuple[FileEntry, ...]:
    """Read ``files.json``.

    Raises:
        MalformedEvidence: not such a list.
    """
    data = _json(text, "files", FILES_SCHEMA)
    if data.keys() != {"files"} or not isinstance(data["files"], list):
        raise MalformedEvidence("files: not a list of files")
    return tuple(_record(FileEntry, row, "files") for row in data["files"])


def read_manifest(folder: Path) -> Manifest:
    """The manifest of an image's folder.

    Raises:
        MaterialUnavailable: there is none.
        MalformedEvidence: it does not read as one.
    """
    return parse_manifest(_text(folder / MANIFEST))


def read_files(folder: Path) -> tuple[FileEntry, ...]:
    """The list of files of an image's folder; errors as :func:`read_manifest`."""
    return parse_files(_text(folder / FILES))


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > _MAX_JSON:
            raise MalformedEvidence(f"{path.name}: longer than {_MAX_JSON} bytes")
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as exc:
        raise MalformedEvidence(f"{path.name}: not UTF-8") from exc
    except OSError as exc:
        raise MaterialUnavailable(f"{path}: {exc.strerror}; is this the folder of a built image?") from exc


def _json(text: str, what: str, schema: str) -> dict[str, Any]:
    if len(text) > _MAX_JSON:
        raise MalformedEvidence(f"{what}: longer than {_MAX_JSON} characters")
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise MalformedEvidence(f"{what}: not JSON") from exc
    if not isinstance(data, dict) or data.pop("schema", None) != schema:
        raise MalformedEvidence(f"{what}: its schema is not {schema}")
    return data


def _record(kind: Any, row: object, where: str, skip: Iterable[str] = ()) -> Any:
    """A dataclass of strings and numbers out of JSON, strictly; `skip` names fields that are converted already."""
    if not isinstance(row, Mapping) or row.keys() != {item.name for item in fields(kind)}:
        raise MalformedEvidence(f"{where}: unknown or missing keys")
    for item in fields(kind):
        if item.name in skip:
            continue
        value = row[item.name]
        if type(value) is not (int if item.type == "int" else str):
            raise MalformedEvidence(f"{where}: {item.name} is not of type {item.type}")
        if item.name.endswith(("sha256", "_hash", "salt")) and value and not _SHA256.fullmatch(str(value)):
            raise MalformedEvidence(f"{where}: {item.name} is not a SHA-256")
    return kind(**row)


def file_hash(path: Path) -> str:
    """SHA-256 of a file in hex; empty where there is none."""
    return file_sha256(path) if path.is_file() else ""
