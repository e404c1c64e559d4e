"""Strict reading of DER (X.690), just as much as AMD's and Intel's leaf certificates need.

Why not a library here: `cryptography` announces that it will refuse serial 0, which every VCEK has, and decoding one
leaf with pyasn1 costs three times as much as verifying its signature.  pyasn1 stands beside this module as the writer
of the simulated leaves and as an oracle in the tests.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import NamedTuple

from ..errors import MalformedEvidence

BOOLEAN = 0x01
INTEGER = 0x02
BIT_STRING = 0x03
OCTET_STRING = 0x04
NULL = 0x05
OID = 0x06
ENUMERATED = 0x0A
UTF8_STRING = 0x0C
PRINTABLE_STRING = 0x13
IA5_STRING = 0x16
UTC_TIME = 0x17
GENERALIZED_TIME = 0x18
SEQUENCE = 0x30
SET = 0x31


def context(n: int) -> int:
    """Tag of a constructed context-specific element [n]."""
    return 0xA0 | n


class Tlv(NamedTuple):
    """One element: its tag, its content, and the bytes of both with the length."""

    tag: int
    value: bytes
    raw: bytes


def _fail(what: str, message: str) -> MalformedEvidence:
    return MalformedEvidence(f"{what}: {message}")


def _element(data: bytes, start: int, what: str) -> tuple[Tlv, int]:
    """The element at `start` and the offset behind it."""
    size = len(data)
    if start + 2 > size:
        raise _fail(what, "an element is cut off")
    tag, length, content = data[start], data[start + 1], start + 2
    if tag & 0x1F == 0x1F:
        raise _fail(what, "a tag of more than one byte")
    if length > 0x7F:
        count = length & 0x7F
        if not 1 <= count <= 3 or content + count > size:
            raise _fail(what, "a length that is indefinite, cut off or absurd")
        length = int.from_bytes(data[content : content + count], "big")
        if length < 0x80 or data[content] == 0:
            raise _fail(what, "a length that is not minimal")
        content += count
    end = content + length
    if end > size:
        raise _fail(what, "an element is cut off")
    return Tlv(tag, data[content:end], data[start:end]), end


def only(data: bytes, tag: int, what: str) -> Tlv:
    """The one element that must fill the data.

    Raises:
        MalformedEvidence: cut off, an indefinite or not minimal length, another tag, or bytes behind it.
    """
    tlv, end = _element(data, 0, what)
    if tlv.tag != tag:
        raise _fail(what, f"tag {tag:#04x} wanted, {tlv.tag:#04x} found")
    if end != len(data):
        raise _fail(what, f"{len(data) - end} bytes behind the element")
    return tlv


def children(value: bytes, what: str, limit: int = 64) -> list[Tlv]:
    """All elements of a constructed value, at most `limit`.

    Raises:
        MalformedEvidence: cut off, a tag above 30, an indefinite or not minimal length, or too many.
    """
    found: list[Tlv] = []
    end = 0
    while end < len(value):
        if len(found) == limit:
            raise _fail(what, f"more than {limit} elements")
        tlv, end = _element(value, end, what)
        found.append(tlv)
    return found


def pairs(value: bytes, what: str, limit: int = 64) -> list[tuple[bytes, Tlv]]:
    """A constructed value whose elements are SEQUENCEs of an OID and one more element: the OID's content and that.

    Raises:
        MalformedEvidence: an element of another form, cut off, a length that is indefinite or not minimal, or too many.
    """
    found: list[tuple[bytes, Tlv]] = []
    end, size = 0, len(value)
    while end < size:
        if len(found) == limit:
            raise _fail(what, f"more than {limit} elements")
        (tag, pair, _), end = _element(value, end, what)
        if tag != SEQUENCE:
            raise _fail(what, "an element that is no pair of OID and value")
        (tag, kind, _), middle = _element(pair, 0, what)
        second, last = _element(pair, middle, what)
        if tag != OID or last != len(pair):
            raise _fail(what, "an element that is no pair of OID and value")
        found.append((kind, second))
    return found


def integer(value: bytes, what: str) -> int:
    """Content of an INTEGER (X.690 8.3) or ENUMERATED (8.4).

    Raises:
        MalformedEvidence: empty or not minimal.
    """
    # Not minimal: the first nine bits are all zero or all one.
    if not value or (len(value) > 1 and (value[0], value[1] >> 7) in ((0x00, 0), (0xFF, 1))):
        raise _fail(what, "an INTEGER that is empty or not minimal")
    return int.from_bytes(value, "big", signed=True)


def boolean(value: bytes, what: str) -> bool:
    """Content of a BOOLEAN; DER knows 00 and FF only (X.690 11.1).

    Raises:
        MalformedEvidence: anything else.
    """
    if value not in (b"\x00", b"\xff"):
        raise _fail(what, "a BOOLEAN that is neither 00 nor FF")
    return value == b"\xff"


def oid(value: bytes, what: str) -> str:
    """Content of an OBJECT IDENTIFIER in dotted form (X.690 8.19).

    Raises:
        MalformedEvidence: empty, cut off, not minimal, or an arc of more than 28 bits.
    """
    dotted = _dotted(value)
    if dotted is None:
        raise _fail(what, "an OBJECT IDENTIFIER that is empty, cut off, not minimal, or with too large an arc")
    return dotted


@lru_cache(maxsize=128)  # the same few stand in every name and extension
def _dotted(value: bytes) -> str | None:
    if not value or value[-1] & 0x80 or len(value) > 64:
        return None
    arcs: list[int] = []
    arc = size = 0
    for byte in value:
        if (size == 0 and byte == 0x80) or size == 4:
            return None
        arc = arc << 7 | byte & 0x7F
        size += 1
        if not byte & 0x80:
            arcs.append(arc)
            arc = size = 0
    first = min(arcs[0] // 40, 2)
    return ".".join(map(str, (first, arcs[0] - 40 * first, *arcs[1:])))


def text(tlv: Tlv, what: str) -> str:
    """A UTF8String, PrintableString or IA5String.

    Raises:
        MalformedEvidence: another tag or bytes that are not of its alphabet.
    """
    codecs = {UTF8_STRING: "utf-8", PRINTABLE_STRING: "ascii", IA5_STRING: "ascii"}
    codec = codecs.get(tlv.tag)
    if codec is None:
        raise _fail(what, f"tag {tlv.tag:#04x} is no string")
    try:
        return tlv.value.decode(codec)
    except UnicodeDecodeError as exc:
        raise _fail(what, "a string with bytes outside of its alphabet") from exc


def time(tlv: Tlv, what: str) -> datetime:
    """A UTCTime or GeneralizedTime in the one form that RFC 5280 4.1.2.5 allows, as an aware datetime in UTC.

    Raises:
        MalformedEvidence: another form.
    """
    digits = tlv.value[:-1]
    size = {UTC_TIME: 12, GENERALIZED_TIME: 14}.get(tlv.tag)
    if len(digits) != size or tlv.value[-1:] != b"Z" or not digits.isdigit():
        raise _fail(what, "a time that RFC 5280 does not allow")
    if tlv.tag == UTC_TIME:
        digits = (b"20" if digits[:2] < b"50" else b"19") + digits
    month, day, hour, minute, second = (int(digits[i : i + 2]) for i in range(4, 14, 2))
    try:
        return datetime(int(digits[:4]), month, day, hour, minute, second, tzinfo=UTC)
    except ValueError as exc:
        raise _fail(what, "a time that is on no calendar") from exc


def octets(value: bytes, what: str) -> bytes:
    """Content of a BIT STRING that holds whole bytes.

    Raises:
        MalformedEvidence: empty, or unused bits.
    """
    if value[:1] != b"\x00":
        raise _fail(what, "a BIT STRING that is empty or has unused bits")
    return value[1:]
