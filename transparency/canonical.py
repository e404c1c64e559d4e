"""Canonical JSON (RFC 8785) of what dokimos signs and logs: texts, whole numbers, booleans, null, lists and objects.

Numbers with a fraction or an exponent are refused, so that one value has one form everywhere.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Final, NoReturn, TypeAlias

from ..errors import MalformedEvidence

Json: TypeAlias = "str | int | bool | Sequence[Json] | Mapping[str, Json] | None"
MAX_BYTES: Final = 4 << 20
MAX_DEPTH: Final = 32
MAX_NUMBER: Final = (1 << 53) - 1


def encode_canonical(value: Json) -> bytes:
    """The one form of a value.

    Raises:
        MalformedEvidence: a value that has none.
    """
    return _encode(value, MAX_DEPTH).encode()


def parse_json(data: bytes, what: str, limit: int = MAX_BYTES) -> Json:
    """Read JSON strictly: UTF-8, no name twice, whole numbers only.

    Args:
        data: as received.
        what: it is, for messages.
        limit: bytes it may have.

    Raises:
        MalformedEvidence: anything else.
    """
    if len(data) > limit:
        raise MalformedEvidence(f"{what}: longer than {limit} bytes")
    try:
        value: Json = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_object,
            parse_float=_refuse,
            parse_constant=_refuse,
            parse_int=_number,
        )
        encode_canonical(value)
    except MalformedEvidence as exc:
        raise MalformedEvidence(f"{what}: {exc}") from exc
    except (ValueError, RecursionError) as exc:
        raise MalformedEvidence(f"{what}: not JSON in UTF-8") from exc
    return value


def parse_canonical(data: bytes, what: str, limit: int = MAX_BYTES) -> Json:
    """Like :func:`parse_json`, of bytes that are in canonical form already; anything else is refused."""
    value = parse_json(data, what, limit)
    if encode_canonical(value) != data:
        raise MalformedEvidence(f"{what}: not in canonical form")
    return value


def _encode(value: Json, depth: int) -> str:
    if value is None or isinstance(value, bool | str):
        text = json.dumps(value, ensure_ascii=False)
        if isinstance(value, str) and any(0xD800 <= ord(char) <= 0xDFFF for char in value):
            raise MalformedEvidence("half of a surrogate pair")
        return text
    if isinstance(value, int):
        if abs(value) > MAX_NUMBER:
            raise MalformedEvidence("a number beyond 2^53-1")
        return str(value)
    if depth == 0:
        raise MalformedEvidence(f"nested deeper than {MAX_DEPTH}")
    if isinstance(value, Mapping):
        if not all(isinstance(name, str) for name in value):
            raise MalformedEvidence("a name that is no text")
        # Names are sorted by UTF-16 code units, which is not the order of code points.
        names = sorted(value, key=lambda name: name.encode("utf-16-be", "surrogatepass"))
        return "{" + ",".join(f"{_encode(name, 1)}:{_encode(value[name], depth - 1)}" for name in names) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(_encode(item, depth - 1) for item in value) + "]"
    raise MalformedEvidence(f"{type(value).__name__} has no canonical form")


def _object(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise MalformedEvidence("a name stands twice in an object")
    return found


def _refuse(_: str) -> NoReturn:
    raise MalformedEvidence("a number that is not whole")


def _number(text: str) -> int:
    if len(text) > 17:
        raise MalformedEvidence("a number beyond 2^53-1")
    return int(text)
