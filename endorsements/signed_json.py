"""A JSON body of Intel's services: one member's value, the signature over it, and strict access to what it says."""

from __future__ import annotations

import json
import re
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple

from ..errors import Check, MalformedEvidence

MAX_BODY = 1 << 20
"""Largest body in bytes that is read; real ones have 1 to 7 KiB."""
_MAX_PASSES = 16
"""Each pass takes one or two levels of nesting away; real bodies have seven levels."""
_MAX_TEXT = 256

_SPACE = re.compile(r"[ \t\n\r]*")
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")
_HEX = re.compile(r"(?:[0-9a-fA-F]{2})*")
_ESCAPED = re.compile(rb"\\.", re.DOTALL)
_NO_BRACKETS = bytes(byte for byte in range(256) if byte not in b"[]{}")


def malformed(what: str, message: str) -> MalformedEvidence:
    """An error that names the document; the caller raises it."""
    return MalformedEvidence(f"{what}: {message}", check=Check.TDX_COLLATERAL_FORMAT)


def _once(members: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(members)
    if len(found) != len(members):
        raise ValueError("a member twice in one object")
    return found


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_once, parse_constant=_no_constant)


def check_nesting(data: bytes, what: str) -> None:
    """Refuse a JSON document nested deeper than any real one, before a recursive reader sees it.

    Raises:
        MalformedEvidence: nested too deep, or brackets without their counterpart.
    """
    # A backslash outside of a string stops every reader of JSON there, so escapes may go wherever they stand.
    plain = _ESCAPED.sub(b"", data) if b"\\" in data else data
    brackets = b"".join(plain.split(b'"')[::2]).translate(None, _NO_BRACKETS)
    for _ in range(_MAX_PASSES):
        brackets = brackets.replace(b"{}", b"").replace(b"[]", b"")
    if brackets:
        raise malformed(what, "nested too deep, or brackets without their counterpart")


def load_json(data: bytes, what: str, limit: int = MAX_BODY) -> Any:
    """A JSON document without members that stand twice in one object.

    Raises:
        MalformedEvidence: too large, nested too deep, or no such document.
    """
    text = _text(data, what, limit)
    try:
        value, end = _DECODER.raw_decode(text, _skip(text, 0))
    except ValueError as exc:
        raise malformed(what, f"not JSON: {exc}") from exc
    if _skip(text, end) != len(text):
        raise malformed(what, "something behind the JSON document")
    return value


def _text(data: bytes, what: str, limit: int) -> str:
    if len(data) > limit:
        raise malformed(what, f"larger than {limit} bytes")
    check_nesting(data, what)
    try:
        return data.decode()
    except UnicodeDecodeError as exc:
        raise malformed(what, "not UTF-8") from exc


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at


class SignedBody(NamedTuple):
    """A body taken apart: the value, its exact bytes, and the 64 bytes of the signature."""

    fields: Fields
    signed: bytes
    signature: bytes


def split_body(body: bytes, member: str, what: str) -> SignedBody:
    """Take ``{"member": {...}, "signature": "hex"}`` apart, in whatever order and with whatever space it is written.

    Args:
        body: as received.
        member: name of the signed member.
        what: name of the document, for error messages.

    Raises:
        MalformedEvidence: another form, or a member missing or twice (``tdx.collateral.format``).
    """
    text = _text(body, what, MAX_BODY)
    try:
        found = _members(text)
    except ValueError as exc:
        raise malformed(what, f"not a JSON object: {exc}") from exc
    if member not in found or "signature" not in found:
        raise malformed(what, f'no "{member}" with a "signature" beside it')
    value, start, end = found[member]
    outer = Fields({"signature": found["signature"][0]}, what)
    # UTF-8 has one form for each text, so this gives back the very bytes that were received.
    return SignedBody(Fields(value, what), text[start:end].encode(), outer.hex("signature", 64))


def _members(text: str) -> dict[str, tuple[Any, int, int]]:
    """Value, start and end of each member of the object that the text is.

    Raises:
        ValueError: it is no object, or has a member twice.
    """
    found: dict[str, tuple[Any, int, int]] = {}
    at = _skip(text, 0)
    expected = "{"
    while text[at : at + 1] == expected:
        at = _skip(text, at + 1)
        if expected == "{" and text[at : at + 1] == "}":
            break
        name, at = _DECODER.raw_decode(text, at)
        at = _skip(text, at)
        if type(name) is not str or text[at : at + 1] != ":":
            raise ValueError(f"no name of a member before character {at}")
        if name in found:
            raise ValueError("a member twice in one object")
        start = _skip(text, at + 1)
        value, end = _DECODER.raw_decode(text, start)
        found[name] = (value, start, end)
        at = _skip(text, end)
        expected = ","
    if text[at : at + 1] != "}" or _skip(text, at + 1) != len(text):
        raise ValueError(f"it ends otherwise than an object at character {at}")
    return found


@lru_cache(maxsize=256)  # the same few dates stand in every level
def _moment(text: str) -> datetime | None:
    if not _TIME.fullmatch(text):
        return None
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def _plain(text: str) -> bool:
    return text.isascii() and text.isprintable()


class Fields:
    """The members of one JSON object, each read with its type.

    Args:
        value: what should be an object.
        what: name of the structure, for error messages.

    Raises:
        MalformedEvidence: by every method, when a member is missing or not of its type (``tdx.collateral.format``).
    """

    __slots__ = ("_members", "_what")

    def __init__(self, value: object, what: str) -> None:
        if type(value) is not dict:
            raise malformed(what, "not a JSON object")
        self._members: dict[str, Any] = value
        self._what = what

    def __contains__(self, name: str) -> bool:
        return name in self._members

    def fail(self, message: str) -> MalformedEvidence:
        """An error that names the structure; the caller raises it."""
        return malformed(self._what, message)

    def names(self) -> list[str]:
        """Names of all members."""
        return list(self._members)

    def get(self, name: str) -> object:
        """Any value, or None."""
        return self._members.get(name)

    def only(self, *names: str) -> None:
        """No other members than these."""
        unknown = self._members.keys() - set(names)
        if unknown:
            raise self.fail(f"{sorted(unknown)[0][:80]!r} is unknown here")

    def _of(self, name: str, kind: type) -> Any:
        value = self._members.get(name)
        if type(value) is not kind:
            raise self.fail(f'"{name}" is missing or no {kind.__name__}')
        return value

    def integer(self, name: str, largest: int = 0xFFFFFFFF) -> int:
        """An integer of 0 to `largest`."""
        value: int = self._of(name, int)
        if not 0 <= value <= largest:
            raise self.fail(f'"{name}" is not 0 to {largest}')
        return value

    def string(self, name: str, largest: int) -> str:
        """A string of at most `largest` characters, any but surrogates, which no UTF-8 holds."""
        value: str = self._of(name, str)
        if len(value) > largest:
            raise self.fail(f'"{name}" has more than {largest} characters')
        try:
            value.encode()
        except UnicodeEncodeError as exc:
            raise self.fail(f'"{name}" has half a character') from exc
        return value

    def text(self, name: str, largest: int = _MAX_TEXT) -> str:
        """A string of at most `largest` printable ASCII characters."""
        value: str = self._of(name, str)
        if len(value) > largest or not _plain(value):
            raise self.fail(f'"{name}" is longer than {largest} characters, or not printable ASCII')
        return value

    def hex(self, name: str, size: int) -> bytes:
        """A string of hex digits that are `size` bytes."""
        value: str = self._of(name, str)
        if len(value) != 2 * size or not _HEX.fullmatch(value):
            raise self.fail(f'"{name}" is not the hex digits of {size} bytes')
        return bytes.fromhex(value)

    def time(self, name: str) -> datetime:
        """An RFC 3339 time in UTC with whole seconds, the one form that Intel writes."""
        moment = _moment(self.text(name))
        if moment is None:
            raise self.fail(f'"{name}" is not a time such as 2026-03-16T22:21:30Z')
        return moment

    def object(self, name: str) -> Fields:
        """An object."""
        return Fields(self._members.get(name), f"{self._what}, {name}")

    def array(self, name: str, limit: int) -> list[Any]:
        """An array of at most `limit` values."""
        value: list[Any] = self._of(name, list)
        if len(value) > limit:
            raise self.fail(f'"{name}" has more than {limit} entries')
        return value

    def objects(self, name: str, limit: int, least: int = 0) -> list[Fields]:
        """An array of `least` to `limit` objects."""
        values = self.array(name, limit)
        if len(values) < least:
            raise self.fail(f'"{name}" has fewer than {least} entries')
        what = f"{self._what}, {name}"
        return [Fields(value, what) for value in values]

    def texts(self, name: str, limit: int) -> tuple[str, ...]:
        """An array of at most `limit` short strings."""
        values = self.array(name, limit)
        if not all(type(value) is str and len(value) <= _MAX_TEXT and _plain(value) for value in values):
            raise self.fail(f'"{name}" is not an array of short strings')
        return tuple(values)
