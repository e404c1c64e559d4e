"""The binding statement: what an attester says about its keys, and what the hardware signs of it.

The statement is one deterministic CBOR map (RFC 8949 4.2.1) with the integer keys 1 to 11.  The hardware signs::

    report_data = SHA-512("dokimos/report-data/v1" || 0x00 || statement)

The domain tag and the deterministic encoding leave exactly one way to read the signed bytes; a plain concatenation of
parts with variable lengths would not.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

from ..codec import Reader
from ..errors import MalformedEvidence

PROFILE_OHTTP = "urn:dokimos:profile:ohttp:v1"
"""Profile of a service whose OHTTP gateway, with its HPKE keys, runs inside the attested machine."""
ROLE_GATEWAY = "gateway"
"""Role of the machine that opens the client's requests."""
MAX_SIZE = 1024
"""A statement is some 350 bytes; anything above this many is refused before it is read."""
MAX_LIFETIME = 86400
"""Most seconds between not_before and expiry: a bundle that may be cached for long cannot be withdrawn."""
MAX_TIME = 253402300799
"""The last second of the year 9999, so that every time fits into a datetime."""
EPOCH_SIZE = 40
"""Bytes of an epoch marker."""

_WHAT = "binding statement"
_REPORT_DATA_TAG = b"dokimos/report-data/v1\x00"
_GPU_NONCE_TAG = b"dokimos/gpu-nonce/v1\x00"
_KEYS = 11
_MAX_PROFILE = 128
_MAX_ROLE = 64


def _fail(message: str) -> MalformedEvidence:
    return MalformedEvidence(f"{_WHAT}: {message}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """What the attester binds to its report; every instance keeps the rules of :func:`parse_statement`.

    Attributes:
        profile: URI of the protocol in which the keys are used.
        role: what the attested machine is, so that one machine cannot stand in for another kind.
        key_configs_sha256: SHA-256 of the exact ``application/ohttp-keys`` bytes.
        tls_spki_sha256: SHA-256 of the DER SubjectPublicKeyInfo of the TLS key; None where no TLS ends inside.
        nonce: the client's 32-byte nonce; None in a bundle for all clients.
        epoch: marker of the time before which the bundle cannot have been made (:func:`epoch_marker`), 40 bytes; None
            where only the nonce shows freshness.  Nonce and epoch are never both None.
        not_before: seconds since 1970 from which on the statement holds.
        expiry: seconds since 1970 up to which it holds; at most one day after not_before.
        gpu_digest: SHA-256 over the evidence of all GPUs; None where there is no GPU.
        runtime_config_sha256: SHA-256 of the configuration that was read after the launch.
        image_sha256: SHA-256 of the image's manifest.

    Raises:
        MalformedEvidence: on construction, where a value breaks a rule.
    """

    profile: str
    role: str
    key_configs_sha256: bytes
    tls_spki_sha256: bytes | None
    nonce: bytes | None
    epoch: bytes | None
    not_before: int
    expiry: int
    gpu_digest: bytes | None
    runtime_config_sha256: bytes
    image_sha256: bytes

    def __post_init__(self) -> None:
        _text(self.profile, "profile", _MAX_PROFILE)
        _text(self.role, "role", _MAX_ROLE)
        for name in ("key_configs_sha256", "runtime_config_sha256", "image_sha256"):
            _bytes(getattr(self, name), name, 32)
        for name in ("tls_spki_sha256", "nonce", "gpu_digest"):
            if getattr(self, name) is not None:
                _bytes(getattr(self, name), name, 32)
        if self.epoch is not None:
            _bytes(self.epoch, "epoch", EPOCH_SIZE)
        if self.nonce is None and self.epoch is None:
            raise _fail("neither nonce nor epoch: nothing shows when it was made")
        for name in ("not_before", "expiry"):
            value = getattr(self, name)
            if type(value) is not int or not 0 <= value <= MAX_TIME:
                raise _fail(f"{name} is not a time")
        if not self.not_before < self.expiry <= self.not_before + MAX_LIFETIME:
            raise _fail(f"expiry is not within {MAX_LIFETIME} seconds after not_before")

    def to_cbor(self) -> bytes:
        """The statement in deterministic CBOR, the bytes that report_data covers."""
        import cbor2  # noqa: PLC0415 - 17 ms that a verifier of bare reports need not pay

        return cbor2.dumps(
            {
                1: self.profile,
                2: self.role,
                3: self.key_configs_sha256,
                4: self.tls_spki_sha256,
                5: self.nonce,
                6: self.epoch,
                7: self.not_before,
                8: self.expiry,
                9: self.gpu_digest,
                10: self.runtime_config_sha256,
                11: self.image_sha256,
            },
            canonical=True,
        )


def _text(value: object, name: str, limit: int) -> None:
    if type(value) is not str or not 0 < len(value) <= limit or not value.isascii() or not value.isprintable():
        raise _fail(f"{name} is not 1 to {limit} printable ASCII characters")


def _bytes(value: object, name: str, size: int) -> None:
    if type(value) is not bytes or len(value) != size:
        raise _fail(f"{name} is not {size} bytes")


def epoch_marker(root_hash: bytes, tree_size: int) -> bytes:
    """Marker of a log's checkpoint, which nobody could know before the log had grown to it.

    Args:
        root_hash: the tree head's hash, 32 bytes.
        tree_size: number of leaves, below 2**64; it stands behind the hash, big-endian.

    Raises:
        MalformedEvidence: another length or a size out of range.
    """
    if len(root_hash) != 32 or not 0 <= tree_size < 1 << 64:
        raise _fail("an epoch marker is a hash of 32 bytes and a size below 2**64")
    return root_hash + tree_size.to_bytes(8, "big")


def _head(reader: Reader) -> tuple[int, int]:
    """Major type and argument of the next item; the shortest form is demanded (RFC 8949 4.2.1)."""
    initial = reader.u8()
    major, info = initial >> 5, initial & 0x1F
    if info < 24:
        return major, info
    if info > 27:
        raise reader.fail("a reserved or indefinite length")
    size = 1 << (info - 24)
    argument = reader.uint(size, "big")
    shortest = 24 if size == 1 else 1 << (4 * size)
    if argument < shortest:
        raise reader.fail("a number that is not in its shortest form")
    return major, argument


def _item(reader: Reader) -> int | bytes | str | None:
    """An unsigned integer, a byte string, a text string or null; nothing else may stand in a statement."""
    major, argument = _head(reader)
    if major == 0:
        return argument
    if major == 2:
        return reader.take(argument)
    if major == 3:
        try:
            return reader.take(argument).decode()
        except UnicodeDecodeError as exc:
            raise reader.fail("a text string that is not UTF-8") from exc
    if (major, argument) == (7, 22):
        return None
    raise reader.fail("an item that is neither unsigned integer, bytes, text nor null")


def parse_statement(data: bytes) -> Statement:
    """Read a statement; only the one deterministic encoding of a valid statement is accepted.

    The reader is our own and knows four kinds of items, since a general decoder would first build whatever tags,
    nested maps or big numbers a sender likes.  The encoder is cbor2, and both must agree.

    Raises:
        MalformedEvidence: anything else.
    """
    if len(data) > MAX_SIZE:
        raise _fail(f"larger than {MAX_SIZE} bytes")
    reader = Reader(bytes(data), _WHAT)
    if _head(reader) != (5, _KEYS):
        raise reader.fail(f"not a map of {_KEYS} entries")
    values = []
    for key in range(1, _KEYS + 1):
        if _item(reader) != key:
            raise reader.fail(f"key {key} is not at its place")
        values.append(_item(reader))
    reader.end()
    names = Statement.__dataclass_fields__
    statement = Statement(**dict(zip(names, values, strict=True)))  # type: ignore[arg-type]  # checked there
    if statement.to_cbor() != data:
        raise _fail("not in deterministic encoding")
    return statement


def report_data(statement_cbor: bytes) -> bytes:
    """The 64 bytes that the hardware signs for a statement.

    Args:
        statement_cbor: the statement's exact bytes.
    """
    return hashlib.sha512(_REPORT_DATA_TAG + statement_cbor).digest()


def gpu_nonce(statement: Statement) -> bytes:
    """The 32-byte nonce for the GPUs' evidence: it covers the statement without the digest of that evidence."""
    return hashlib.sha256(_GPU_NONCE_TAG + replace(statement, gpu_digest=None).to_cbor()).digest()
