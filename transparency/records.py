"""Frozen dataclasses to and from JSON, strictly: every key must be there, none may be more, and types are exact."""

from __future__ import annotations

import re
from dataclasses import fields, is_dataclass
from types import NoneType
from typing import Any, Final, TypeVar, get_args, get_origin, get_type_hints

from ..errors import MalformedEvidence
from .canonical import Json

T = TypeVar("T")
MAX_ROWS: Final = 4096
MAX_TEXT: Final = 64 << 10
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_SHA384: Final = re.compile(r"[0-9a-f]{96}")
_FORMS: Final = {
    "root_hash": _SHA256, "active": _SHA256, "sha256": _SHA256,
    "launch_digest": _SHA384, "mrtd": _SHA384, "rtmr0": _SHA384, "rtmr1": _SHA384, "rtmr2": _SHA384,
}  # fmt: skip


def to_json(record: Any) -> Json:
    """JSON of a record and of all in it."""
    if is_dataclass(record):
        return {item.name: to_json(getattr(record, item.name)) for item in fields(record)}
    if isinstance(record, tuple):
        return [to_json(item) for item in record]
    value: Json = record
    return value


def from_json(kind: type[T], value: Json, where: str) -> T:
    """A record of JSON.

    Raises:
        MalformedEvidence: not of this kind.
    """
    found: T = _read(kind, value, where, None)
    return found


def _read(kind: Any, value: Any, where: str, form: re.Pattern[str] | None) -> Any:
    arguments = get_args(kind)
    if NoneType in arguments:
        return None if value is None else _read(arguments[0], value, where, form)
    if get_origin(kind) is tuple:
        if not isinstance(value, list) or len(value) > MAX_ROWS:
            raise MalformedEvidence(f"{where}: not a list, or too long")
        return tuple(_read(arguments[0], item, where, form) for item in value)
    if is_dataclass(kind):
        types = get_type_hints(kind)
        if not isinstance(value, dict) or value.keys() != types.keys():
            raise MalformedEvidence(f"{where}: unknown or missing keys")
        read = {
            name: _read(of, value[name], f"{where}: {name}", _FORMS.get("sha256" if name.endswith("_sha256") else name))
            for name, of in types.items()
        }
        return kind(**read)  # type: ignore[operator]
    if type(value) is not kind or (kind is int and value < 0) or (kind is str and len(value) > MAX_TEXT):
        raise MalformedEvidence(f"{where}: not of type {kind.__name__}, or out of bounds")
    if form is not None and not form.fullmatch(value):
        raise MalformedEvidence(f"{where}: not a digest in lower-case hex")
    return value
