"""Answers and keys of NVIDIA's remote attestation service (NRAS) as received; nothing is verified here.

An answer is ``[["JWT", overall token], {"GPU-0": token, ...}]``, versions 3 and 4 alike; each token is a compact JWS
(RFC 7515 7.1) whose payload is a JSON object, an EAT.  The keys are a JWK set (RFC 7517) with a certificate chain each.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

from ..errors import Check, MalformedEvidence
from .signed_json import Fields, load_json

MAX_ANSWER: Final = 4 << 20
"""Largest answer in bytes that is read; one of two GPUs has 7 KiB."""
MAX_TOKEN: Final = 1 << 16
"""Largest token in characters; with many mismatch records one has some 10 KiB."""
MAX_DEVICES: Final = 64
MAX_KEY_SET: Final = 1 << 20
MAX_KEYS: Final = 64
MAX_X5C: Final = 4

_WHAT: Final = "NRAS answer"
_KEYS: Final = "NRAS key set"
_MAX_CERTIFICATE: Final = 8192
_LARGEST: Final = 1 << 63
_NAME: Final = re.compile(r"(?:GPU|SWITCH)-(?:0|[1-9][0-9]{0,2})")
_URL_SAFE: Final = re.compile(r"[A-Za-z0-9_-]*")
_HEADER_MEMBER: Final = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """One compact JWS.

    Attributes:
        compact: as received; ASCII.
        signed: header and payload as they are signed.
        signature: bytes behind them; empty for an unsigned one.
        algorithm: what the header says of it.
        kid: the key that the header names, or "".
        claims: the payload; no numbers but integers, no member twice.
    """

    compact: str
    signed: bytes
    signature: bytes
    algorithm: str
    kid: str
    claims: Mapping[str, Any]

    @property
    def sha256(self) -> str:
        """The digest by which an overall token names a device's token, in hex."""
        return sha256(self.compact.encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class NrasAnswer:
    """An answer of the service.

    Attributes:
        overall: the token over all devices.
        devices: each device's token by the service's name for it, in the order of the answer.
    """

    overall: Token
    devices: Mapping[str, Token]

    @property
    def tokens(self) -> dict[str, Token]:
        """Every token by its name."""
        return {"overall": self.overall, **self.devices}


@dataclass(frozen=True, slots=True, kw_only=True)
class NrasKey:
    """A key of the service.

    Attributes:
        kid: its name.
        x5c: its certificate in DER and those above it.
        point: x and y as the key set writes them, 96 bytes, or None where it leaves that to the certificate.
    """

    kid: str
    x5c: tuple[bytes, ...]
    point: bytes | None


def _fail(message: str) -> MalformedEvidence:
    return MalformedEvidence(f"{_WHAT}: {message}", check=Check.NRAS_TOKEN_FORMAT)


def parse_nras(data: bytes) -> NrasAnswer:
    """Read an answer of the service.

    Raises:
        MalformedEvidence: not one, too large, or a token of a wrong form (``nras.token.format``).
    """
    try:
        return _answer(load_json(data, _WHAT, MAX_ANSWER))
    except MalformedEvidence as exc:
        raise MalformedEvidence(str(exc), check=Check.NRAS_TOKEN_FORMAT) from exc


def _answer(value: object) -> NrasAnswer:
    if type(value) is not list or len(value) != 2 or type(value[0]) is not list or type(value[1]) is not dict:
        raise _fail("not an overall token and an object of tokens")
    if len(value[0]) != 2 or value[0][0] != "JWT":
        raise _fail('the overall token is not marked "JWT"')
    devices: dict[str, object] = value[1]
    if not 1 <= len(devices) <= MAX_DEVICES:
        raise _fail(f"not 1 to {MAX_DEVICES} devices")
    if not all(_NAME.fullmatch(name) for name in devices):
        raise _fail("a device of another name than GPU-0 or SWITCH-0")
    return NrasAnswer(
        overall=_token(value[0][1], "overall token"),
        devices={name: _token(token, f"token of {name}") for name, token in devices.items()},
    )


def _token(value: object, what: str) -> Token:
    if type(value) is not str or len(value) > MAX_TOKEN:
        raise _fail(f"{what}: no string of at most {MAX_TOKEN} characters")
    parts = value.split(".", 3)
    if len(parts) != 3:
        raise _fail(f"{what}: not the three parts of a compact JWS")
    header, payload, signature = (_base64url(part, what) for part in parts)
    fields = Fields(load_json(header, f"{what}, header", MAX_TOKEN), f"{what}, header")
    if "crit" in fields or "b64" in fields:
        raise fields.fail("extensions that must be understood, and are not (RFC 7515 4.1.11)")
    claims = load_json(payload, what, MAX_TOKEN)
    if type(claims) is not dict:
        raise _fail(f"{what}: its payload is no JSON object")
    _plain(claims, what)
    return Token(
        compact=value,
        signed=f"{parts[0]}.{parts[1]}".encode(),
        signature=signature,
        algorithm=fields.text("alg", _HEADER_MEMBER),
        kid=fields.text("kid", _HEADER_MEMBER) if "kid" in fields else "",
        claims=claims,
    )


def _base64url(text: str, what: str) -> bytes:
    """Base64url without padding, in the one form that encoding gives (RFC 7515 2)."""
    if not _URL_SAFE.fullmatch(text) or len(text) % 4 == 1:
        raise _fail(f"{what}: a part that is no base64url")
    standard = text.replace("-", "+").replace("_", "/")
    data = binascii.a2b_base64(standard + "=" * (-len(text) % 4))
    if binascii.b2a_base64(data, newline=False).rstrip(b"=").decode() != standard:
        raise _fail(f"{what}: base64url with bits left over")
    return data


def _plain(value: object, what: str) -> None:
    """Nothing that reads otherwise elsewhere: no fractions, no numbers beyond 64 bits, no half characters.

    How deep it may go was checked before the JSON was read.
    """
    if type(value) is dict:
        for name, member in value.items():
            _plain(name, what)
            _plain(member, what)
    elif type(value) is list:
        for member in value:
            _plain(member, what)
    elif type(value) is str:
        try:
            value.encode()
        except UnicodeEncodeError as exc:
            raise _fail(f"{what}: half a character") from exc
    elif type(value) is int:
        if not -_LARGEST <= value < _LARGEST:
            raise _fail(f"{what}: a number of more than 64 bits")
    elif value is not None and type(value) is not bool:
        raise _fail(f"{what}: a number with a fraction or exponent")


def parse_nras_keys(data: bytes) -> dict[str, NrasKey]:
    """Read the service's key set; keys by their names.

    Raises:
        MalformedEvidence: not one, a name twice, or a chain that is no list of base64 (``nras.signer.chain``).
    """
    try:
        keys = Fields(load_json(data, _KEYS, MAX_KEY_SET), _KEYS).objects("keys", MAX_KEYS)
        found = [_key(fields) for fields in keys if "x5c" in fields]
    except MalformedEvidence as exc:
        raise MalformedEvidence(str(exc), check=Check.NRAS_SIGNER_CHAIN) from exc
    by_name = {key.kid: key for key in found}
    if len(by_name) != len(found):
        raise MalformedEvidence(f"{_KEYS}: a name of a key twice", check=Check.NRAS_SIGNER_CHAIN)
    return by_name


def _key(fields: Fields) -> NrasKey:
    chain = fields.array("x5c", MAX_X5C)
    point = None
    if "x" in fields or "y" in fields:
        point = b"".join(_base64url(fields.text(name), _KEYS) for name in ("x", "y"))
        if len(point) != 96:
            raise fields.fail("the coordinates are not those of a P-384 key")
    return NrasKey(kid=fields.text("kid", _HEADER_MEMBER), x5c=tuple(_base64(item) for item in chain), point=point)


def _base64(value: object) -> bytes:
    if type(value) is not str or not value.isascii() or not 0 < len(value) <= 2 * _MAX_CERTIFICATE:
        raise MalformedEvidence(f"{_KEYS}: a certificate that is no string of base64, or too long")
    try:
        return binascii.a2b_base64(value, strict_mode=True)
    except binascii.Error as exc:
        raise MalformedEvidence(f"{_KEYS}: broken base64") from exc
