"""Binary HTTP (RFC 9292): both framings are read, the known-length one is written, with padding.

Strict where RFC 9292 leaves a choice: field names are lower case, pseudo-fields and the fields that steer a connection
are refused, padding must be zero, CONNECT is refused.  Field values and control data are ``str`` of which each
character stands for one byte (Latin-1), as in other Python servers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from ..codec import Reader
from ..errors import MalformedEvidence, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

MEDIA_TYPE: Final = "message/bhttp"
"""Media type of one message."""
MAX_CONTROL: Final = 1 << 13
"""Bytes of the longest method, scheme, authority or path."""
MAX_SECTION: Final = 1 << 16
"""Bytes of the longest header or trailer section."""
MAX_LINES: Final = 128
"""Field lines of the longest header or trailer section."""
MAX_INFORMATIONAL: Final = 8
"""Informational responses that may precede the final one."""
MAX_CONTENT: Final = 1 << 24
"""Bytes of the longest content, where the caller sets no other limit."""
FORBIDDEN_FIELDS: Final = frozenset(
    ("connection", "keep-alive", "proxy-connection", "te", "transfer-encoding", "upgrade")
)
"""Fields of RFC 9110, section 7.6.1: they act on a connection, and there is none in here."""
MIN_PADDED: Final = 1024
"""Bytes of the shortest padded message."""

Fields: TypeAlias = "tuple[tuple[str, str], ...]"
"""Names (lower case) and values in their order; a name may come more than once."""

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9a-z]+")
_VALUE = re.compile(r"(?:[!-~\x80-\xff](?:[\t -~\x80-\xff]*[!-~\x80-\xff])?)?")
_SCHEME = re.compile(r"[a-z][a-z0-9+\-.]*")
_AUTHORITY = re.compile(r"[!$-.0-;=A-\[\]_a-z~]*")  # RFC 3986 host and port; no userinfo (RFC 9113, section 8.3.1)
_PATH = re.compile(r"/[!\"$-~]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request.

    Attributes:
        method: for example ``POST``.
        scheme: for example ``https``.
        authority: host and port, or empty where a ``host`` field names them.
        path: path and query, begins with ``/``; ``*`` for OPTIONS only.
        headers: the header section.
        content: the content.
        trailers: the trailer section.
    """

    method: str
    scheme: str = "https"
    authority: str
    path: str
    headers: Fields = ()
    content: bytes = b""
    trailers: Fields = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """One response.

    Attributes:
        status: final status code, 200 to 599.
        headers: the header section.
        content: the content.
        trailers: the trailer section.
        informational: status (100 to 199) and header section of each informational response before it.
    """

    status: int
    headers: Fields = ()
    content: bytes = b""
    trailers: Fields = ()
    informational: tuple[tuple[int, Fields], ...] = ()


# Rules that reader and writer share: what is wrong, or None.


def _control_fault(request: Request) -> str | None:
    if not _TOKEN.fullmatch(request.method) or request.method == "CONNECT":
        return "method"
    if not _SCHEME.fullmatch(request.scheme):
        return "scheme"
    if not _AUTHORITY.fullmatch(request.authority):
        return "authority"
    if not _PATH.fullmatch(request.path) and (request.method, request.path) != ("OPTIONS", "*"):
        return "path"
    return None


def _line_fault(name: str, value: str) -> str | None:
    if not _NAME.fullmatch(name):  # pseudo-fields begin with a colon, which is no token character
        return "field name"
    if name in FORBIDDEN_FIELDS:
        return f"field {name!r}, which acts on a connection,"
    if not _VALUE.fullmatch(value):
        return "field value"
    return None


# Writing


def padded_size(size: int) -> int:
    """Bytes to which a message of ``size`` bytes is padded.

    At least ``MIN_PADDED``, beyond that the buckets of Padmé: at most 12 % more, and of the length only O(log log)
    bits remain to be seen.
    """
    if size <= MIN_PADDED:
        return MIN_PADDED
    exponent = size.bit_length() - 1
    step = 1 << (exponent - exponent.bit_length())
    return -(-size // step) * step


def _varint(value: int) -> bytes:
    """A variable-length integer in its shortest form (RFC 9000, section 16)."""
    for prefix, size in enumerate((1, 2, 4, 8)):
        if value < 1 << (8 * size - 2):
            return (value | prefix << (8 * size - 2)).to_bytes(size)
    raise UsageError("an integer of more than 62 bits")


def _prefixed(data: bytes) -> bytes:
    return _varint(len(data)) + data


def _text(text: str, what: str) -> bytes:
    if len(text) > MAX_CONTROL or not text.isascii():
        raise UsageError(f"{what}: too long or not ASCII")
    return _prefixed(text.encode())


def _section(fields: Iterable[tuple[str, str]]) -> bytes:
    out = bytearray()
    for lines, (name, value) in enumerate(fields):
        fault = _line_fault(name, value)
        if fault is not None or lines >= MAX_LINES:
            raise UsageError(f"Binary HTTP: {fault or 'one more field line'} cannot be sent")
        out += _prefixed(name.encode("ascii")) + _prefixed(value.encode("latin-1"))
    if len(out) > MAX_SECTION:
        raise UsageError(f"Binary HTTP: a field section of more than {MAX_SECTION} bytes")
    return _prefixed(bytes(out))


def _finish(parts: list[bytes], pad: bool) -> bytes:
    message = b"".join(parts)
    return message.ljust(padded_size(len(message)), b"\0") if pad else message


def encode_request(request: Request, *, pad: bool = True) -> bytes:
    """A known-length request (RFC 9292, section 3.1).

    Args:
        request: the request.
        pad: append zeros up to :func:`padded_size`, so that the length of the ciphertext says little.

    Raises:
        UsageError: something in it cannot be sent: see :func:`decode_request`.
    """
    fault = _control_fault(request)
    if fault is not None:
        raise UsageError(f"Binary HTTP: this {fault} cannot be sent")
    return _finish(
        [
            b"\x00",
            _text(request.method, "method"),
            _text(request.scheme, "scheme"),
            _text(request.authority, "authority"),
            _text(request.path, "path"),
            _section(request.headers),
            _prefixed(request.content),
            _section(request.trailers),
        ],
        pad,
    )


def encode_response(response: Response, *, pad: bool = True) -> bytes:
    """A known-length response (RFC 9292, section 3.1).

    Args:
        response: the response.
        pad: append zeros up to :func:`padded_size`, so that the length of the ciphertext says little.

    Raises:
        UsageError: something in it cannot be sent: see :func:`decode_response`.
    """
    interim = response.informational
    if not 200 <= response.status <= 599 or not all(100 <= status <= 199 for status, _ in interim):
        raise UsageError("Binary HTTP: a status out of range")
    if len(interim) > MAX_INFORMATIONAL:
        raise UsageError("Binary HTTP: too many informational responses")
    parts = [b"\x01"]
    for status, fields in interim:
        parts += [_varint(status), _section(fields)]
    parts += [_varint(response.status), _section(response.headers)]
    parts += [_prefixed(response.content), _section(response.trailers)]
    return _finish(parts, pad)


# Reading


class _Decoder:
    """One message under the cursor; ``known`` is its framing."""

    __slots__ = ("known", "max_content", "reader")

    def __init__(self, data: bytes, known: int, indeterminate: int, max_content: int) -> None:
        self.reader = Reader(data, "Binary HTTP")
        self.max_content = max_content
        framing = self.varint()
        if framing not in (known, indeterminate):
            raise self.reader.fail("this framing indicator is not expected here")
        self.known = framing == known

    def varint(self) -> int:
        """A variable-length integer; RFC 9292 does not demand the shortest form."""
        first = self.reader.u8()
        size = 1 << (first >> 6)
        return (first & 0x3F) << (8 * (size - 1)) | self.reader.uint(size - 1, "big")

    def length(self, limit: int, what: str) -> int:
        """A length within its limit, checked before anything is taken."""
        size = self.varint()
        if size > limit:
            raise self.reader.fail(f"{what} of more than {limit} bytes")
        return size

    def text(self, limit: int, what: str) -> str:
        """A length and as many bytes, one character for each."""
        return self.reader.take(self.length(limit, what)).decode("latin-1")

    def section(self) -> Fields:
        """A header or trailer section; a missing one is an empty one (RFC 9292, section 3.8)."""
        if not self.reader.remaining:
            return ()
        lines: list[tuple[str, str]] = []
        if self.known:
            size = self.length(MAX_SECTION, "a field section")
            end = self.reader.offset + size
            if size > self.reader.remaining:
                raise self.reader.fail("a field section is cut off")
            while self.reader.offset < end:
                lines.append(self.line(self.length(end - self.reader.offset, "a field name"), end, len(lines)))
        else:
            end = self.reader.offset + MAX_SECTION
            while name_size := self.length(MAX_SECTION, "a field name"):
                lines.append(self.line(name_size, end, len(lines)))
        return tuple(lines)

    def line(self, name_size: int, end: int, before: int) -> tuple[str, str]:
        """One field line, from behind its first length; it must not reach past ``end``."""
        if before >= MAX_LINES:
            raise self.reader.fail(f"more than {MAX_LINES} field lines")
        name = self.reader.take(name_size).decode("latin-1")
        value = self.text(max(0, end - self.reader.offset), "a field value")
        fault = "section" if self.reader.offset > end else _line_fault(name, value)
        if fault is not None:
            raise self.reader.fail(f"bad {fault}")
        return name, value

    def content(self) -> bytes:
        """The content; missing content is empty content (RFC 9292, section 3.8)."""
        if not self.reader.remaining:
            return b""
        if self.known:
            return self.reader.take(self.length(self.max_content, "content"))
        out = bytearray()
        while size := self.length(self.max_content - len(out), "content"):
            out += self.reader.take(size)
        return bytes(out)

    def padding(self) -> None:
        """Zeros to the end (RFC 9292, section 3.8)."""
        rest = self.reader.rest()
        if rest.count(0) != len(rest):
            raise self.reader.fail("padding that is not zero")


def decode_request(data: bytes, *, max_content: int = MAX_CONTENT) -> Request:
    """A request of known or indeterminate length (RFC 9292, section 3).

    Args:
        data: the message, with or without padding and trailing empty sections.
        max_content: bytes of the longest content to accept.

    Raises:
        MalformedEvidence: not such a message; a limit of this module exceeded; a method, target or field that must not
            be there.
    """
    decoder = _Decoder(data, 0, 2, max_content)
    request = Request(
        method=decoder.text(MAX_CONTROL, "a method"),
        scheme=decoder.text(MAX_CONTROL, "a scheme"),
        authority=decoder.text(MAX_CONTROL, "an authority"),
        path=decoder.text(MAX_CONTROL, "a path"),
        headers=decoder.section(),
        content=decoder.content(),
        trailers=decoder.section(),
    )
    decoder.padding()
    fault = _control_fault(request)
    if fault is not None:
        raise MalformedEvidence(f"Binary HTTP: bad {fault}")
    return request


def decode_response(data: bytes, *, max_content: int = MAX_CONTENT) -> Response:
    """A response of known or indeterminate length (RFC 9292, section 3).

    Args:
        data: the message, with or without padding and trailing empty sections.
        max_content: bytes of the longest content to accept.

    Raises:
        MalformedEvidence: not such a message; a limit of this module exceeded; a status or field that must not be
            there.
    """
    decoder = _Decoder(data, 1, 3, max_content)
    interim: list[tuple[int, Fields]] = []
    while 100 <= (status := decoder.varint()) <= 199:
        if len(interim) >= MAX_INFORMATIONAL:
            raise decoder.reader.fail("too many informational responses")
        interim.append((status, decoder.section()))
    if not 200 <= status <= 599:
        raise decoder.reader.fail("a status out of range")
    response = Response(
        status=status,
        headers=decoder.section(),
        content=decoder.content(),
        trailers=decoder.section(),
        informational=tuple(interim),
    )
    decoder.padding()
    return response
