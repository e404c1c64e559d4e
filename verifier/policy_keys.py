"""How the keys of a policy file are declared and read: one declaration gives reader, default and document.

Every table of the file is a frozen dataclass whose fields carry a :class:`Key`.  Unknown keys and wrong types are
refused at every level: a misspelt demand must not become no demand.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import Enum, StrEnum
from typing import Any, NamedTuple, TypeAlias, TypeVar
from uuid import UUID

from ..codec import unhex
from ..errors import MalformedEvidence, UsageError

Json: TypeAlias = "str | int | bool | list[Json] | dict[str, Json] | None"
"""What a JSON document may hold here; there are no floats."""

T = TypeVar("T")
E = TypeVar("E", bound=Enum)

_GUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_SHOWN = 60
_LONGEST_NAME = 64


class Kind(NamedTuple):
    """A type of value in the file.

    Attributes:
        name: the type in words, for the document.
        read: from the TOML value and the key's path to the value, or UsageError.
        dump: the value as it is shown.
        inner: the dataclass of a table within the file, else None.
    """

    name: str
    read: Callable[[object, str], Any]
    dump: Callable[[Any], Json]
    inner: type | None = None


class Key(NamedTuple):
    """One key of the file.

    Attributes:
        kind: its type.
        meaning: what it demands.
        absent: what it means when it is not there.
    """

    kind: Kind
    meaning: str
    absent: str


class Entry(NamedTuple):
    """One key with its place, for the document and for ``policy show``."""

    path: str
    key: Key


def key(kind: Kind, meaning: str, absent: str) -> dict[str, Key]:
    """Metadata of a dataclass field that is a key of the file; a field without default must be there."""
    return {"key": Key(kind, meaning, absent)}


def shown(value: object) -> str:
    """A short form of a value from the file, for an error message."""
    # Python refuses to write out integers of thousands of digits.
    text = "a huge integer" if isinstance(value, int) and abs(value) >> 64 else ascii(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def refuse(path: str, message: str) -> UsageError:
    """The error of a key; the caller raises it."""
    return UsageError(f"policy: {path}: {message}")


def _same(value: Any) -> Any:
    return value


def _boolean(value: object, path: str) -> bool:
    if not isinstance(value, bool):
        raise refuse(path, f"true or false wanted, not {shown(value)}")
    return value


BOOLEAN = Kind("boolean", _boolean, _same)


def text(limit: int = 256) -> Kind:
    """A string of 1 to `limit` printable characters."""

    def read(value: object, path: str) -> str:
        if not isinstance(value, str) or not 0 < len(value) <= limit or not value.isprintable():
            raise refuse(path, f"a string of 1 to {limit} printable characters wanted, not {shown(value)}")
        return value

    return Kind("string", read, _same)


def integer(low: int, high: int) -> Kind:
    """An integer of a range."""
    wanted = f"integer, {low} to {high}" if low < high else f"integer, {low}"

    def read(value: object, path: str) -> int:
        if type(value) is not int or not low <= value <= high:
            raise refuse(path, f"{wanted}, wanted, not {shown(value)}")
        return value

    return Kind(wanted, read, _same)


def _bits64(value: object, path: str) -> int:
    if type(value) is not int or not 0 <= value < 1 << 64:
        raise refuse(path, f"an integer of 64 bits wanted, such as 0x3f, not {shown(value)}")
    return value


BITS64 = Kind("integer of 64 bits, such as 0x3f", _bits64, lambda value: None if value is None else f"{value:#x}")


class Version(NamedTuple):
    """A version with its order: the minor number counts only where the major numbers are equal."""

    major: int
    minor: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}"


def _version(value: object, path: str) -> Version:
    parts = value.split(".") if isinstance(value, str) else []
    if len(parts) != 2 or not all(part.isascii() and part.isdigit() and len(part) <= 3 for part in parts):
        raise refuse(path, f'a version such as "1.55" wanted, not {shown(value)}')
    found = Version(int(parts[0]), int(parts[1]))
    if max(found) > 255:
        raise refuse(path, f"each number of a version is a byte, not {shown(value)}")
    return found


VERSION = Kind('version, such as "1.55"', _version, lambda value: None if value is None else str(value))


def _bytes_of(value: object, path: str, size: int) -> bytes:
    if not isinstance(value, str):
        raise refuse(path, f"{2 * size} hex digits wanted, not {shown(value)}")
    try:
        return unhex(value, path, size)
    except MalformedEvidence as exc:
        raise refuse(path, f"{2 * size} hex digits wanted, not {shown(value)}") from exc


def _hex_or_none(value: bytes | None) -> Json:
    return None if value is None else value.hex()


def hex_bytes(size: int) -> Kind:
    """Bytes of one size, in hex."""
    return Kind(f"hex, {size} bytes", lambda value, path: _bytes_of(value, path, size), _hex_or_none)


def hex_prefix(most: int) -> Kind:
    """1 to `most` bytes, in hex."""

    def read(value: object, path: str) -> bytes:
        size = len(value) // 2 if isinstance(value, str) else 0
        if not 0 < size <= most:
            raise refuse(path, f"hex digits of 1 to {most} bytes wanted, not {shown(value)}")
        return _bytes_of(value, path, size)

    return Kind(f"hex, 1 to {most} bytes", read, _hex_or_none)


def _list(value: object, path: str) -> list[object]:
    if not isinstance(value, list):
        raise refuse(path, f"a list wanted, not {shown(value)}")
    return value


def _each(value: object, path: str, read: Callable[[object, str], T]) -> tuple[T, ...]:
    found = (read(item, f"{path}[{n}]") for n, item in enumerate(_list(value, path)))
    return tuple(dict.fromkeys(found))


def _hex_list(value: tuple[bytes, ...]) -> Json:
    return [item.hex() for item in value]


def digests(size: int) -> Kind:
    """A list of digests; all zero is what a report says when it has none, so it is no digest to ask for."""

    def read_one(value: object, path: str) -> bytes:
        found = _bytes_of(value, path, size)
        if not any(found):
            raise refuse(path, "all zero is no value to compare with")
        return found

    return Kind(f"list of hex, {size} bytes each", lambda value, path: _each(value, path, read_one), _hex_list)


def values(size: int) -> Kind:
    """A list of byte strings of one size, of which all zero is one."""
    return Kind(
        f"list of hex, {size} bytes each",
        lambda value, path: _each(value, path, lambda item, where: _bytes_of(item, where, size)),
        _hex_list,
    )


def padded(sizes: tuple[int, ...], full: int) -> Kind:
    """A list of byte strings of one of several sizes, filled up with zeros at the end to the full one."""

    def read_one(value: object, path: str) -> bytes:
        for size in sizes:
            if isinstance(value, str) and len(value) == 2 * size:
                found = _bytes_of(value, path, size).ljust(full, b"\0")
                if not any(found):
                    raise refuse(path, "all zero is no value to compare with")
                return found
        raise refuse(path, f"hex digits of {' or '.join(map(str, sizes))} bytes wanted, not {shown(value)}")

    name = f"list of hex, {' or '.join(map(str, sizes))} bytes each"
    return Kind(name, lambda value, path: _each(value, path, read_one), _hex_list)


def texts(limit: int = 256) -> Kind:
    """A list of strings."""
    read_one = text(limit).read
    return Kind("list of strings", lambda value, path: _each(value, path, read_one), list)


def integers(low: int, high: int) -> Kind:
    """A list of integers of a range, at least one."""
    read_one = integer(low, high).read

    def read(value: object, path: str) -> tuple[int, ...]:
        found = _each(value, path, read_one)
        if not found:
            raise refuse(path, "an empty list would accept nothing")
        return found

    return Kind(f"list of integers, {low} to {high}", read, list)


def _names(members: type[E]) -> dict[str, E]:
    return {member.value if isinstance(member, StrEnum) else member.name: member for member in members}


def choice(members: type[E], *, without: tuple[E, ...] = ()) -> Kind:
    """One word out of an enumeration: the value of a StrEnum, else the name."""
    names = {name: member for name, member in _names(members).items() if member not in without}

    def read(value: object, path: str) -> E:
        if not isinstance(value, str) or value not in names:
            raise refuse(path, f"one of {', '.join(map(repr, names))} wanted, not {shown(value)}")
        return names[value]

    reverse = {member: name for name, member in names.items()}
    return Kind(" or ".join(f'"{name}"' for name in names), read, reverse.__getitem__)


def choices(members: type[E], *, without: tuple[E, ...] = (), empty: bool = False) -> Kind:
    """A list of words out of an enumeration; empty only where that accepts something."""
    names = {name: member for name, member in _names(members).items() if member not in without}

    def read_one(value: object, path: str) -> E:
        if not isinstance(value, str) or value not in names:
            raise refuse(path, f"one of {', '.join(map(repr, names))} wanted, not {shown(value)}")
        return names[value]

    def read(value: object, path: str) -> tuple[E, ...]:
        found = _each(value, path, read_one)
        if not found and not empty:
            raise refuse(path, "an empty list would accept nothing")
        return found

    reverse = {member: name for name, member in names.items()}
    name = "list of " + ", ".join(f'"{name}"' for name in names)
    return Kind(name, read, lambda value: [reverse[member] for member in value])


def guids(names: dict[str, UUID]) -> Kind:
    """A list of GUIDs, written out or by one of these names."""

    def read_one(value: object, path: str) -> UUID:
        if isinstance(value, str) and value in names:
            return names[value]
        if not isinstance(value, str) or not _GUID.fullmatch(value):
            raise refuse(path, f"a GUID or one of {', '.join(names)} wanted, not {shown(value)}")
        return UUID(value)

    listed = ", ".join(f'"{name}"' for name in names)
    return Kind(
        f"list of {listed} or GUIDs",
        lambda value, path: _each(value, path, read_one),
        lambda ids: [str(i) for i in ids],
    )


def keys_of(cls: type) -> Iterator[tuple[Field[Any], Key]]:
    """Fields of a table that stand in the file."""
    for item in fields(cls):
        yield item, item.metadata["key"]


def read_table(cls: type[T], value: object, path: str) -> T:
    """One table of the file.

    Args:
        cls: a dataclass declared by :func:`key`.
        value: the TOML value.
        path: its path, empty for the file itself.

    Raises:
        UsageError: not a table, an unknown key, a missing one, or a wrong value.
    """
    if not isinstance(value, dict):
        raise refuse(path, f"a table wanted, not {shown(value)}")
    known = {item.name: found for item, found in keys_of(cls)}
    prefix = f"{path}." if path else ""
    for name in value:
        if name not in known:
            raise UsageError(f"policy: unknown key {shown(f'{prefix}{name}')}{_hint(name, known)}")
    for item, _ in keys_of(cls):
        if item.default is MISSING and item.default_factory is MISSING and item.name not in value:
            raise refuse(f"{prefix}{item.name}", "is missing")
    return cls(**{name: known[name].kind.read(item, f"{prefix}{name}") for name, item in value.items()})


def _hint(name: str, known: dict[str, Key]) -> str:
    if len(name) > _LONGEST_NAME:
        return ""
    from difflib import get_close_matches  # noqa: PLC0415 - only for an error

    near = get_close_matches(name, known, 1)
    return f"; did you mean {near[0]!r}?" if near else f"; known here: {', '.join(known)}"


def dump_table(table: object) -> dict[str, Json]:
    """A table as it is in effect, with every default written out."""
    if not is_dataclass(table) or isinstance(table, type):
        raise TypeError("not a table")
    return {item.name: found.kind.dump(getattr(table, item.name)) for item, found in keys_of(type(table))}


def table(cls: type) -> Kind:
    """A table within the file; None stands for one that is absent."""
    return Kind(
        "table",
        lambda value, path: read_table(cls, value, path),
        lambda found: None if found is None else dump_table(found),
        cls,
    )


def tables(cls: type) -> Kind:
    """A list of tables, ``[[name]]``."""
    return Kind(
        "list of tables",
        lambda value, path: tuple(read_table(cls, item, f"{path}[{n}]") for n, item in enumerate(_list(value, path))),
        lambda found: [dump_table(item) for item in found],
        cls,
    )


def entries(cls: type, path: str = "") -> Iterator[Entry]:
    """Every key of a table and of the tables in it, in order; those of ``[[name]]`` under ``name[]``."""
    for item, found in keys_of(cls):
        name = f"{path}{item.name}"
        yield Entry(name, found)
        if found.kind.inner is not None:
            dots = "[]." if found.kind.name.startswith("list") else "."
            yield from entries(found.kind.inner, f"{name}{dots}")
