"""DSSE envelopes: payloads signed with Ed25519 by k of n keys; what is verified is exactly what is parsed then."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ..errors import Check, CheckResult, MalformedEvidence, Status, UsageError, VerificationError
from .canonical import encode_canonical, parse_json

MAX_ENVELOPE: Final = 6 << 20
MAX_SIGNATURES: Final = 64
MAX_TYPE: Final = 256
_REFERENCE: Final = "DSSE 1.0.2, protocol"


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """One signature.

    Attributes:
        sig: its bytes.
        keyid: a hint whose it is, never trusted; empty where there is none.
    """

    sig: bytes
    keyid: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """A payload with its signatures, not yet verified.

    Attributes:
        payload: bytes.
        payload_type: what they are.
        signatures: over both.
    """

    payload: bytes
    payload_type: str
    signatures: tuple[Signature, ...]


def pae(payload_type: str, payload: bytes) -> bytes:
    """The bytes that are signed."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def key_id(key: bytes) -> str:
    """The hint that dokimos writes for a raw Ed25519 key: its SHA-256 in hex."""
    return sha256(key).hexdigest()


def sign_envelope(payload_type: str, payload: bytes, keys: Sequence[Ed25519PrivateKey]) -> Envelope:
    """Sign with every key."""
    signed = pae(payload_type, payload)
    rows = [Signature(sig=key.sign(signed), keyid=key_id(key.public_key().public_bytes_raw())) for key in keys]
    return Envelope(payload=payload, payload_type=payload_type, signatures=tuple(rows))


def encode_envelope(envelope: Envelope) -> bytes:
    """Canonical JSON of an envelope."""
    rows = [{"keyid": row.keyid, "sig": base64.b64encode(row.sig).decode()} for row in envelope.signatures]
    payload = base64.b64encode(envelope.payload).decode()
    return encode_canonical({"payload": payload, "payloadType": envelope.payload_type, "signatures": rows})


def parse_envelope(data: bytes) -> Envelope:
    """Read an envelope.

    Raises:
        MalformedEvidence: not one.
    """
    value = parse_json(data, "envelope", MAX_ENVELOPE)
    if not isinstance(value, dict) or value.keys() != {"payload", "payloadType", "signatures"}:
        raise MalformedEvidence("envelope: unknown or missing keys")
    kind, rows = value["payloadType"], value["signatures"]
    if not isinstance(kind, str) or not 0 < len(kind) <= MAX_TYPE:
        raise MalformedEvidence("envelope: no payloadType, or a too long one")
    if not isinstance(rows, list) or not 0 < len(rows) <= MAX_SIGNATURES:
        raise MalformedEvidence("envelope: no signatures, or too many")
    found = tuple(_signature(row) for row in rows)
    return Envelope(payload=_base64(value["payload"]), payload_type=kind, signatures=found)


def verify_envelope(envelope: Envelope, keys: Sequence[bytes], threshold: int, payload_type: str) -> bytes:
    """The payload, once enough of the keys signed it.

    Args:
        envelope: as received.
        keys: raw Ed25519 keys that are trusted, all different.
        threshold: how many of them must have signed.
        payload_type: the only one that is accepted.

    Raises:
        VerificationError: another type, or too few keys signed.
        UsageError: keys and threshold make no sense.
    """
    if not 0 < threshold <= len(keys) or len(set(keys)) != len(keys):
        raise UsageError("release keys: one stands twice, or the threshold is not one of 1 to their number")
    if envelope.payload_type != payload_type:
        raise _failed(Check.STATEMENT_TYPE, payload_type, envelope.payload_type, "a payload of another type")
    signed = pae(envelope.payload_type, envelope.payload)
    found = sum(any(_verifies(key, row.sig, signed) for row in envelope.signatures) for key in keys)
    if found < threshold:
        raise _failed(Check.STATEMENT_SIGNATURE, threshold, found, "too few of the release keys signed it")
    return envelope.payload


def _failed(check: Check, expected: str | int, actual: str | int, message: str) -> VerificationError:
    return VerificationError(CheckResult(check, Status.FAIL, expected, actual, _REFERENCE, message))


def _verifies(key: bytes, sig: bytes, signed: bytes) -> bool:
    try:
        public = Ed25519PublicKey.from_public_bytes(key)
    except ValueError as exc:
        raise UsageError("release keys: not a raw Ed25519 key") from exc
    try:
        public.verify(sig, signed)
    except InvalidSignature:
        return False
    return True


def _signature(row: object) -> Signature:
    if not isinstance(row, dict) or not {"sig"} <= row.keys() <= {"sig", "keyid"}:
        raise MalformedEvidence("envelope: a signature with unknown or missing keys")
    keyid = row.get("keyid", "")
    if not isinstance(keyid, str):
        raise MalformedEvidence("envelope: a keyid that is no text")
    return Signature(sig=_base64(row["sig"]), keyid=keyid)


def _base64(value: object) -> bytes:
    try:
        if isinstance(value, str):
            found = base64.b64decode(value, validate=True)
            if base64.b64encode(found).decode() == value:
                return found
    except (binascii.Error, ValueError):
        pass
    raise MalformedEvidence("envelope: not standard base64")
