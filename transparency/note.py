"""Signed notes: text with signature lines below it, and the keys that make and verify them.

Format: C2SP signed-note v1.0.0.  The text is kept as the bytes that came, because those are signed.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from hashlib import sha256
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ..codec import unhex
from ..errors import (
    Check,
    CheckResult,
    MalformedEvidence,
    Status,
    UnsupportedEvidence,
    UsageError,
    Value,
    VerificationError,
)  # fmt: skip

MAX_NOTE: Final = 1 << 20
MAX_SIGNATURES: Final = 100
MAX_KEY: Final = 4096
MAX_NAME: Final = 255
MAX_NUMBER: Final = (1 << 63) - 1
"""Largest tree size, index and time: what a signed 64-bit number of other implementations holds."""

_REFERENCE: Final = "C2SP signed-note, verifying"
_DASH: Final = "\N{EM DASH} "
_CONTROL: Final = re.compile(rb"[\x00-\x09\x0b-\x1f]")
_DECIMAL: Final = re.compile(r"0|[1-9][0-9]{0,18}")
_PRIVATE: Final = "PRIVATE+KEY+"


class KeyType(IntEnum):
    """Kinds of keys that are known here: of a log, and of witnesses."""

    ED25519 = 0x01
    COSIGNATURE = 0x04
    ML_DSA_44 = 0x06


_KEY_SIZES: Final = {KeyType.ED25519: 32, KeyType.COSIGNATURE: 32, KeyType.ML_DSA_44: 1312}


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifierKey:
    """A public key with the name that stands on its signature lines.

    Attributes:
        name: of the key; of a log it should be the origin.
        type: what it signs.
        public: raw bytes.
    """

    name: str
    type: KeyType
    public: bytes

    @property
    def key_id(self) -> bytes:
        """Four bytes that tell keys of one name apart; a hint, not a hash to trust."""
        return sha256(self.name.encode() + b"\n" + bytes([self.type]) + self.public).digest()[:4]


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKey:
    """A private Ed25519 key with its name.

    Attributes:
        name: of the key.
        type: ED25519 for a log, COSIGNATURE for a witness.
        private: the key.
    """

    name: str
    type: KeyType
    private: Ed25519PrivateKey

    @property
    def verifier(self) -> VerifierKey:
        """The public half."""
        return VerifierKey(name=self.name, type=self.type, public=self.private.public_key().public_bytes_raw())


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteSignature:
    """One signature line, not yet verified.

    Attributes:
        name: of the key that is said to have signed.
        key_id: its four bytes.
        signature: what follows them.
    """

    name: str
    key_id: bytes
    signature: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """A text with its signatures, not yet verified.

    Attributes:
        text: what is signed, with its last newline.
        signatures: in order.
    """

    text: bytes
    signatures: tuple[NoteSignature, ...]

    def of(self, key: VerifierKey) -> list[bytes]:
        """The signatures that claim to be of this key."""
        wanted = key.name, key.key_id
        return [line.signature for line in self.signatures if (line.name, line.key_id) == wanted]


def unbase64(value: str, what: str, size: int | None = None) -> bytes:
    """Standard base64 with padding, in its one form.

    Raises:
        MalformedEvidence: anything else, or another size.
    """
    try:
        found = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as exc:
        raise MalformedEvidence(f"{what}: not base64") from exc
    if base64.b64encode(found).decode() != value:
        raise MalformedEvidence(f"{what}: base64 that is not in its one form")
    if size is not None and len(found) != size:
        raise MalformedEvidence(f"{what}: {size} bytes wanted, {len(found)} given")
    return found


def undecimal(value: str, what: str) -> int:
    """A number without sign and leading zero that fits in 63 bits.

    Raises:
        MalformedEvidence: anything else.
    """
    if not _DECIMAL.fullmatch(value) or int(value) > MAX_NUMBER:
        raise MalformedEvidence(f"{what}: not a number from 0 to 2^63 - 1: {value[:40]!r}")
    return int(value)


def check_name(name: str) -> str:
    """The name, if it may be one of a key.

    Raises:
        MalformedEvidence: it is empty or too long, or holds a plus, a space or a control character.
    """
    if not name or any(char == "+" or char < "!" or char.isspace() for char in name):
        raise MalformedEvidence("key name: empty, or with a plus, a space or a control character")
    try:
        size = len(name.encode())
    except UnicodeEncodeError as exc:
        raise MalformedEvidence("key name: not Unicode") from exc
    if size > MAX_NAME:
        raise MalformedEvidence(f"key name: longer than {MAX_NAME} bytes")
    return name


def parse_verifier_key(text: str) -> VerifierKey:
    """Read `name+id+key`; the key's base64 may hold a plus itself.

    Raises:
        MalformedEvidence: not of that form, or the id is not the key's.
        UnsupportedEvidence: a key of another type.
    """
    if len(text) > MAX_KEY:
        raise MalformedEvidence("verifier key: too long")
    name, _, rest = text.partition("+")
    key_id, _, encoded = rest.partition("+")
    data = unbase64(encoded, "verifier key")
    if not data or data[0] not in set(KeyType):
        if data:
            check_name(name)
            raise UnsupportedEvidence(f"verifier key: type {data[0]:#04x} is not known")
        raise MalformedEvidence("verifier key: no key in it")
    kind = KeyType(data[0])
    if len(data) - 1 != _KEY_SIZES[kind]:
        raise MalformedEvidence(f"verifier key: {_KEY_SIZES[kind]} bytes wanted, {len(data) - 1} given")
    key = VerifierKey(name=check_name(name), type=kind, public=data[1:])
    if unhex(key_id, "verifier key id", 4) != key.key_id or key_id != key_id.lower():
        raise MalformedEvidence("verifier key: the id is not the one of name and key")
    return key


def encode_verifier_key(key: VerifierKey) -> str:
    """The text of a public key."""
    return f"{key.name}+{key.key_id.hex()}+{base64.b64encode(bytes([key.type]) + key.public).decode()}"


def parse_signing_key(text: str) -> SigningKey:
    """Read `PRIVATE+KEY+name+id+key`.

    Raises:
        MalformedEvidence: not of that form, or the id is not the key's.
        UnsupportedEvidence: a key of another type than Ed25519.
    """
    if len(text) > MAX_KEY or not text.startswith(_PRIVATE):
        raise MalformedEvidence(f"signing key: does not start with {_PRIVATE}, or is too long")
    name, _, rest = text.removeprefix(_PRIVATE).partition("+")
    key_id, _, encoded = rest.partition("+")
    data = unbase64(encoded, "signing key")
    if data[:1] not in (b"\x01", b"\x04"):
        raise UnsupportedEvidence("signing key: not an Ed25519 key")
    if len(data) != 33:
        raise MalformedEvidence("signing key: 32 bytes wanted")
    private = Ed25519PrivateKey.from_private_bytes(data[1:])
    key = SigningKey(name=check_name(name), type=KeyType(data[0]), private=private)
    if unhex(key_id, "signing key id", 4) != key.verifier.key_id or key_id != key_id.lower():
        raise MalformedEvidence("signing key: the id is not the one of name and key")
    return key


def encode_signing_key(key: SigningKey) -> str:
    """The text of a private key, to be kept secret."""
    encoded = base64.b64encode(bytes([key.type]) + key.private.private_bytes_raw()).decode()
    return f"{_PRIVATE}{key.name}+{key.verifier.key_id.hex()}+{encoded}"


def parse_note(data: bytes) -> Note:
    """Split a note at its last blank line and read its signature lines; nothing is verified.

    Raises:
        MalformedEvidence: too large, no UTF-8, a control character, no blank line, or a broken signature line.
    """
    if len(data) > MAX_NOTE:
        raise MalformedEvidence(f"note: more than {MAX_NOTE} bytes")
    check_characters(data)
    split = data.rfind(b"\n\n")
    if split < 0:
        raise MalformedEvidence("note: no blank line between text and signatures")
    return Note(text=data[: split + 1], signatures=parse_signature_lines(data[split + 2 :]))


def check_characters(text: bytes) -> None:
    """Nothing but UTF-8 without control characters.

    Raises:
        MalformedEvidence: something else.
    """
    try:
        text.decode()
    except UnicodeDecodeError as exc:
        raise MalformedEvidence("note: not UTF-8") from exc
    if _CONTROL.search(text):
        raise MalformedEvidence("note: a control character")


def parse_signature_lines(data: bytes) -> tuple[NoteSignature, ...]:
    """Signature lines alone, as a witness answers them.

    Raises:
        MalformedEvidence: none, too many, or a line of another form.
    """
    if len(data) > MAX_NOTE or not data.endswith(b"\n"):
        raise MalformedEvidence("note: too large, or the signature lines do not end in a newline")
    check_characters(data)
    lines = data.decode().split("\n")[:-1]
    if len(lines) > MAX_SIGNATURES:
        raise MalformedEvidence(f"note: more than {MAX_SIGNATURES} signatures")
    return tuple(_signature(line) for line in lines)


def _signature(line: str) -> NoteSignature:
    if not line.startswith(_DASH):
        raise MalformedEvidence("note: a signature line does not start with a dash and a space")
    name, _, encoded = line.removeprefix(_DASH).partition(" ")
    found = unbase64(encoded, "note signature")
    if len(found) < 5:
        raise MalformedEvidence("note: a signature line without a signature")
    return NoteSignature(name=check_name(name), key_id=found[:4], signature=found[4:])


def encode_signature_lines(signatures: Iterable[NoteSignature]) -> bytes:
    """Signature lines alone."""
    lines = [f"{_DASH}{s.name} {base64.b64encode(s.key_id + s.signature).decode()}\n" for s in signatures]
    return "".join(lines).encode()


def encode_note(note: Note) -> bytes:
    """The bytes of a note."""
    return note.text + b"\n" + encode_signature_lines(note.signatures)


def sign_note(text: bytes, keys: Sequence[SigningKey]) -> Note:
    """A note signed by every key.

    Raises:
        MalformedEvidence: the text cannot be that of a note.
        UsageError: a key that does not sign notes directly.
    """
    if not text.endswith(b"\n"):
        raise MalformedEvidence("note: the text does not end in a newline")
    check_characters(text)
    if any(key.type != KeyType.ED25519 for key in keys):
        raise UsageError("note: a witness's key cosigns checkpoints, and signs no notes")
    return add_signatures(Note(text=text, signatures=()), [line_of(key, key.private.sign(text)) for key in keys])


def line_of(key: SigningKey, signature: bytes) -> NoteSignature:
    """The signature as a line of this key."""
    return NoteSignature(name=key.name, key_id=key.verifier.key_id, signature=signature)


def add_signatures(note: Note, lines: Iterable[NoteSignature]) -> Note:
    """The note with further signatures, none twice."""
    new = [line for line in dict.fromkeys(lines) if line not in note.signatures]
    return replace(note, signatures=(*note.signatures, *new))


def verify_note(note: Note, keys: Sequence[VerifierKey]) -> tuple[VerifierKey, ...]:
    """The keys that signed; signatures of others are ignored.

    Raises:
        VerificationError: a signature of a known key fails, or no known key signed.
        UsageError: a key that does not sign notes directly.
    """
    if any(key.type != KeyType.ED25519 for key in keys):
        raise UsageError("note: a witness's key cosigns checkpoints, and signs no notes")
    signed = []
    for key in keys:
        found = note.of(key)
        if not all(ed25519_verifies(key.public, signature, note.text) for signature in found):
            raise failed(Check.LOG_SIGNATURE, key.name, "fails", _REFERENCE, "a signature of a known key fails")
        signed += [key] if found else []
    if not signed:
        names = tuple(line.name for line in note.signatures)
        raise failed(Check.LOG_SIGNATURE, tuple(key.name for key in keys), names, _REFERENCE, "no known key signed")
    return tuple(signed)


def ed25519_verifies(public: bytes, signature: bytes, message: bytes) -> bool:
    """Whether a raw key signed the message."""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def failed(check: Check, expected: Value, actual: Value, reference: str, message: str) -> VerificationError:
    """The error of one check that failed."""
    return VerificationError(CheckResult(check, Status.FAIL, expected, actual, reference, message))
