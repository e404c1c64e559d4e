"""Bounds-checked reading of bytes from outside.

A parser built on :class:`Reader` is total: any input gives a value or :class:`~dokimos.errors.MalformedEvidence`.
"""

from __future__ import annotations

import binascii
import re

from .errors import MalformedEvidence

_PEM = re.compile(rb"-----BEGIN ([A-Z0-9 ]{1,64})-----[ \t]*\r?\n([A-Za-z0-9+/=\s]*+)-----END \1-----")
_SPACE = b" \t\n\r\v\f"


class Reader:
    """A cursor over bytes that refuses to read past the end.

    Args:
        data: the bytes to read.
        what: name of the structure, for error messages.

    Raises:
        MalformedEvidence: by every method, when the bytes are not there or not as demanded.
    """

    __slots__ = ("_data", "_pos", "_what")

    def __init__(self, data: bytes, what: str) -> None:
        self._data = data
        self._pos = 0
        self._what = what

    @property
    def offset(self) -> int:
        """Bytes read so far."""
        return self._pos

    @property
    def remaining(self) -> int:
        """Bytes not yet read."""
        return len(self._data) - self._pos

    def fail(self, message: str) -> MalformedEvidence:
        """An error that names the structure and the offset; the caller raises it."""
        return MalformedEvidence(f"{self._what}: {message} (offset {self._pos})")

    def take(self, n: int) -> bytes:
        """The next n bytes."""
        if n < 0 or n > self.remaining:
            raise self.fail(f"{n} bytes wanted, {self.remaining} there")
        self._pos += n
        return self._data[self._pos - n : self._pos]

    def uint(self, n: int, byteorder: str = "little") -> int:
        """The next n bytes as an unsigned integer."""
        return int.from_bytes(self.take(n), "big" if byteorder == "big" else "little")

    def u8(self) -> int:
        """One byte."""
        return self.uint(1)

    def u16(self, byteorder: str = "little") -> int:
        """Two bytes."""
        return self.uint(2, byteorder)

    def u32(self, byteorder: str = "little") -> int:
        """Four bytes."""
        return self.uint(4, byteorder)

    def u64(self, byteorder: str = "little") -> int:
        """Eight bytes."""
        return self.uint(8, byteorder)

    def zeros(self, n: int) -> None:
        """n bytes that must be zero."""
        if any(self.take(n)):
            raise self.fail(f"the {n} bytes before this offset must be zero")

    def rest(self) -> bytes:
        """All that is left."""
        return self.take(self.remaining)

    def end(self) -> None:
        """Nothing may be left."""
        if self.remaining:
            raise self.fail(f"{self.remaining} bytes too many")


def unhex(text: str, what: str, size: int | None = None) -> bytes:
    """Strict hex, upper or lower case, without prefix or space.

    Args:
        text: the digits.
        what: name of the value, for the error message.
        size: bytes that must come out, or None for any number.

    Raises:
        MalformedEvidence: other characters, an odd number of digits, or another size.
    """
    try:
        # fromhex skips white space, which is no digit here.
        data = bytes.fromhex(text if text.isalnum() else "-" if text else "")
    except ValueError as exc:
        raise MalformedEvidence(f"{what}: not hex: {text[:80]!r}") from exc
    if size is not None and len(data) != size:
        raise MalformedEvidence(f"{what}: {size} bytes wanted, {len(data)} given")
    return data


def pem_or_der(data: bytes, what: str, label: str = "CERTIFICATE") -> list[bytes]:
    """Objects of a file that is either PEM (one or more blocks of this label) or one DER object.

    Raises:
        MalformedEvidence: neither of both, or a PEM block whose base64 is broken.
    """
    if data[:1] == b"\x30":
        return [data]
    blocks = [m.group(2) for m in _PEM.finditer(data) if m.group(1) == label.encode()]
    if not blocks:
        raise MalformedEvidence(f"{what}: neither DER nor a PEM block of {label}")
    try:
        return [binascii.a2b_base64(block.translate(None, _SPACE), strict_mode=True) for block in blocks]
    except binascii.Error as exc:
        raise MalformedEvidence(f"{what}: broken base64 in PEM") from exc
