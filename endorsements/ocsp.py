"""Answers of an OCSP responder (RFC 6960 4.2.1) as received, requests for them, and certificates of responders.

Nothing is verified here.  Read with the strict reader of :mod:`.der`, as leaf certificates are: the signed part and the
responder's certificates stay the very bytes that came.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from hashlib import sha256
from typing import Final

from ..errors import Check, MalformedEvidence
from . import der
from .leaf import Name, common_name, named_extensions, split_leaf

MAX_OCSP: Final = 1 << 16
"""Largest answer in bytes that is read; real ones have 1 to 2 KiB."""
WITHOUT_NEXT_UPDATE: Final = timedelta(hours=1)
"""How long an answer holds that does not say when the next one is due; NVIDIA's own verifier takes the same."""
NONCE_SIZE: Final = 32
OCSP_SIGNING: Final = "1.3.6.1.5.5.7.3.9"

_MAX_SINGLES: Final = 64
_MAX_CERTIFICATES: Final = 4
_MAX_NONCE: Final = 128  # RFC 9654 2.1
_WHAT: Final = "OCSP answer"
_BASIC: Final = bytes.fromhex("2b0601050507300101")
_NONCE: Final = bytes.fromhex("2b0601050507300102")
_HASHES: Final = {
    bytes.fromhex("2b0e03021a"): "sha1",
    bytes.fromhex("608648016503040201"): "sha256",
    bytes.fromhex("608648016503040202"): "sha384",
    bytes.fromhex("608648016503040203"): "sha512",
}
_STATUS: Final = {
    1: "the request was malformed",
    2: "the responder failed",
    3: "the responder is busy",
    5: "the request must be signed",
    6: "the responder does not serve this certificate",
}
_ON_HOLD: Final = 6  # RFC 5280 5.3.1


class CertStatus(StrEnum):
    """What an answer says of one certificate."""

    GOOD = "good"
    REVOKED = "revoked"
    HOLD = "on hold"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Single:
    """The answer about one certificate.

    Attributes:
        hash: name of the hash algorithm of the next two, or "" for one that is not known here.
        issuer_name_hash: hash of the issuer's name in DER.
        issuer_key_hash: hash of the issuer's key, the content of its BIT STRING.
        serial: the certificate's serial number.
        status: what is said of it.
        this_update: when that was known to be right, UTC.
        next_update: when newer knowledge is due, UTC; an hour later where the answer names no time.
        stated: the answer names that time.
    """

    hash: str
    issuer_name_hash: bytes
    issuer_key_hash: bytes
    serial: int
    status: CertStatus
    this_update: datetime
    next_update: datetime
    stated: bool

    def names(self, issuer: bytes) -> bool:
        """Whether the hash of the issuer's name is that of this name in DER."""
        return self.hash != "" and hashlib.new(self.hash, issuer, usedforsecurity=False).digest() == (
            self.issuer_name_hash
        )

    def keyed(self, key: bytes) -> bool:
        """Whether the hash of the issuer's key is that of this key, the content of its BIT STRING."""
        return self.hash != "" and hashlib.new(self.hash, key, usedforsecurity=False).digest() == self.issuer_key_hash


@dataclass(frozen=True, slots=True, kw_only=True)
class OcspAnswer:
    """A successful basic answer.

    Attributes:
        sha256: of the whole answer.
        tbs: the signed part, as received.
        signature_algorithm: DER AlgorithmIdentifier.
        signature: over `tbs`.
        responder_name: the responder's name in DER, or b"" where it is named by its key.
        responder_key: SHA-1 of the responder's key, or b"" where it is named by its name.
        produced_at: when it was signed, UTC.
        singles: what is said of each certificate.
        nonce: of the request, or None.
        certificates: DER certificates that came along, to find the responder's among.
    """

    sha256: bytes
    tbs: bytes
    signature_algorithm: bytes
    signature: bytes
    responder_name: bytes
    responder_key: bytes
    produced_at: datetime
    singles: tuple[Single, ...]
    nonce: bytes | None
    certificates: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Responder:
    """The certificate of a responder, which a CA issued for signing answers in its place.

    Attributes:
        raw: DER, as received.
        tbs: the signed part.
        signature_algorithm: DER AlgorithmIdentifier.
        signature: over `tbs`.
        subject: sorted name.
        subject_der: the same as received.
        subject_cn: its common name, or "".
        issuer: sorted name.
        not_before: start of validity, UTC.
        not_after: end of validity, UTC.
        key: content of the BIT STRING of its key.
        spki: DER SubjectPublicKeyInfo.
        purposes: extended key usages, dotted.
        digital_signature: key usage allows signing data, or there is no key usage.
    """

    raw: bytes
    tbs: bytes
    signature_algorithm: bytes
    signature: bytes
    subject: Name
    subject_der: bytes
    subject_cn: str
    issuer: Name
    not_before: datetime
    not_after: datetime
    key: bytes
    spki: bytes
    purposes: tuple[str, ...]
    digital_signature: bool


def _fail(message: str) -> MalformedEvidence:
    return MalformedEvidence(f"{_WHAT}: {message}", check=Check.GPU_OCSP_FORMAT)


@lru_cache(maxsize=256)  # the same few answers serve every device
def parse_ocsp(data: bytes) -> OcspAnswer:
    """Read an answer in DER.

    Raises:
        MalformedEvidence: none, too large, not successful, not basic, or of a wrong form (``gpu.ocsp.format``).
    """
    if len(data) > MAX_OCSP:
        raise _fail(f"larger than {MAX_OCSP} bytes")
    try:
        return _answer(data)
    except MalformedEvidence as exc:
        raise MalformedEvidence(str(exc), check=Check.GPU_OCSP_FORMAT) from exc


def _answer(data: bytes) -> OcspAnswer:
    outer = der.children(der.only(data, der.SEQUENCE, _WHAT).value, _WHAT, 2)
    if not outer or outer[0].tag != der.ENUMERATED:
        raise _fail("no status")
    status = der.integer(outer[0].value, _WHAT)
    if status != 0:
        raise _fail(f"status {status}: {_STATUS.get(status, 'no such status')}")
    if [tlv.tag for tlv in outer[1:]] != [der.context(0)]:
        raise _fail("successful, but empty")
    wrapped = der.only(outer[1].value, der.SEQUENCE, _WHAT)
    pair = der.children(wrapped.value, _WHAT, 2)
    if [tlv.tag for tlv in pair] != [der.OID, der.OCTET_STRING] or pair[0].value != _BASIC:
        raise _fail("of another type than basic")
    parts = der.children(der.only(pair[1].value, der.SEQUENCE, _WHAT).value, _WHAT, 4)
    if [tlv.tag for tlv in parts[:3]] != [der.SEQUENCE, der.SEQUENCE, der.BIT_STRING]:
        raise _fail("not a signed answer")
    if [tlv.tag for tlv in parts[3:]] not in ([], [der.context(0)]):
        raise _fail("something else than certificates behind the signature")
    tbs = parts[0]
    responder, produced, singles, nonce = _response_data(tbs.value)
    return OcspAnswer(
        sha256=sha256(data).digest(),
        tbs=tbs.raw,
        signature_algorithm=parts[1].raw,
        signature=der.octets(parts[2].value, _WHAT),
        responder_name=responder.value if responder.tag == der.context(1) else b"",
        responder_key=_key_hash(responder.value) if responder.tag == der.context(2) else b"",
        produced_at=produced,
        singles=singles,
        nonce=nonce,
        certificates=_certificates(parts[3].value) if parts[3:] else (),
    )


def _certificates(value: bytes) -> tuple[bytes, ...]:
    found = der.children(der.only(value, der.SEQUENCE, _WHAT).value, _WHAT, _MAX_CERTIFICATES)
    if any(tlv.tag != der.SEQUENCE for tlv in found):
        raise _fail("something else than certificates behind the signature")
    return tuple(tlv.raw for tlv in found)


def _key_hash(value: bytes) -> bytes:
    digest = der.only(value, der.OCTET_STRING, _WHAT).value
    if len(digest) != 20:
        raise _fail("the hash of the responder's key is not SHA-1")
    return digest


def _response_data(value: bytes) -> tuple[der.Tlv, datetime, tuple[Single, ...], bytes | None]:
    """Responder, time of production, answers and nonce; version 1 is the default, which DER leaves out."""
    parts = der.children(value, _WHAT, 4)
    tags = [tlv.tag for tlv in parts]
    if (
        tags[:1] not in ([der.context(1)], [der.context(2)])
        or tags[1:3] != [der.GENERALIZED_TIME, der.SEQUENCE]
        or tags[3:] not in ([], [der.context(1)])
    ):
        raise _fail("the signed part is of another form or version")
    if tags[0] == der.context(1):
        der.only(parts[0].value, der.SEQUENCE, _WHAT)
    singles = tuple(_single(tlv) for tlv in der.children(parts[2].value, _WHAT, _MAX_SINGLES))
    if not singles:
        raise _fail("it says nothing of any certificate")
    nonce = _nonce(parts[3].value) if parts[3:] else None
    return parts[0], der.time(parts[1], _WHAT), singles, nonce


def _nonce(value: bytes) -> bytes | None:
    content = der.only(value, der.SEQUENCE, _WHAT).value
    wrapped = named_extensions(content, {_NONCE: "nonce"}, _WHAT).get("nonce")
    if wrapped is None:
        return None
    nonce = der.only(wrapped, der.OCTET_STRING, _WHAT).value
    if not 1 <= len(nonce) <= _MAX_NONCE:
        raise _fail(f"the nonce is not 1 to {_MAX_NONCE} bytes")
    return nonce


def _single(tlv: der.Tlv) -> Single:
    parts = der.children(tlv.value, _WHAT, 5) if tlv.tag == der.SEQUENCE else []
    tags = [part.tag for part in parts]
    optional = tags[3:]
    if (
        len(parts) < 3
        or tags[0] != der.SEQUENCE
        or tags[2] != der.GENERALIZED_TIME
        or optional not in ([], [der.context(0)], [der.context(1)], [der.context(0), der.context(1)])
    ):
        raise _fail("what it says of a certificate is of a wrong form")
    if der.context(1) in optional:
        named_extensions(der.only(parts[-1].value, der.SEQUENCE, _WHAT).value, {}, _WHAT)  # none may be critical
    identity = der.children(parts[0].value, _WHAT, 4)
    if [part.tag for part in identity] != [der.SEQUENCE, der.OCTET_STRING, der.OCTET_STRING, der.INTEGER]:
        raise _fail("a certificate is named in another form")
    algorithm = der.children(identity[0].value, _WHAT, 2)
    if not algorithm or algorithm[0].tag != der.OID or any(part.raw != b"\x05\x00" for part in algorithm[1:]):
        raise _fail("a hash algorithm of a wrong form")
    this_update = der.time(parts[2], _WHAT)
    stated = der.context(0) in optional
    return Single(
        hash=_HASHES.get(algorithm[0].value, ""),
        issuer_name_hash=identity[1].value,
        issuer_key_hash=identity[2].value,
        serial=der.integer(identity[3].value, _WHAT),
        status=_status(parts[1]),
        this_update=this_update,
        next_update=_next(parts[3].value) if stated else _later(this_update),
        stated=stated,
    )


def _next(value: bytes) -> datetime:
    return der.time(der.only(value, der.GENERALIZED_TIME, _WHAT), _WHAT)


def _later(moment: datetime) -> datetime:
    try:
        return moment + WITHOUT_NEXT_UPDATE
    except OverflowError as exc:
        raise _fail("a time at the end of the calendar") from exc


def _status(tlv: der.Tlv) -> CertStatus:
    """CertStatus: good and unknown are IMPLICIT NULL, revoked is RevokedInfo."""
    if tlv.raw == b"\x80\x00":
        return CertStatus.GOOD
    if tlv.raw == b"\x82\x00":
        return CertStatus.UNKNOWN
    parts = der.children(tlv.value, _WHAT, 2) if tlv.tag == der.context(1) else []
    tags = [part.tag for part in parts]
    if tags not in ([der.GENERALIZED_TIME], [der.GENERALIZED_TIME, der.context(0)]):
        raise _fail("a status of a wrong form")
    der.time(parts[0], _WHAT)
    reason = der.integer(der.only(parts[1].value, der.ENUMERATED, _WHAT).value, _WHAT) if parts[1:] else 0
    return CertStatus.HOLD if reason == _ON_HOLD else CertStatus.REVOKED


_EXTENSIONS: Final = {
    bytes.fromhex("551d0f"): "key usage",
    bytes.fromhex("551d13"): "basic constraints",
    bytes.fromhex("551d25"): "extended key usage",
}


@lru_cache(maxsize=64)  # one for each CA
def parse_responder(data: bytes) -> Responder:
    """Read the certificate of a responder in DER.

    Raises:
        MalformedEvidence: not one, or an unknown critical extension (``gpu.ocsp.format``).
    """
    try:
        return _responder(data, "certificate of an OCSP responder")
    except MalformedEvidence as exc:
        raise MalformedEvidence(str(exc), check=Check.GPU_OCSP_FORMAT) from exc


def _responder(data: bytes, what: str) -> Responder:
    leaf = split_leaf(data, what)
    extensions = named_extensions(leaf.extensions, _EXTENSIONS, what)
    spki = der.children(der.only(leaf.spki, der.SEQUENCE, what).value, what, 2)
    if [tlv.tag for tlv in spki] != [der.SEQUENCE, der.BIT_STRING]:
        raise MalformedEvidence(f"{what}: a key of a wrong form")
    purposes, usage = extensions.get("extended key usage"), extensions.get("key usage")
    return Responder(
        raw=data,
        tbs=leaf.tbs,
        signature_algorithm=leaf.algorithm,
        signature=leaf.signature,
        subject=leaf.subject,
        subject_der=der.children(der.only(leaf.tbs, der.SEQUENCE, what).value, what, 8)[5].raw,
        subject_cn=common_name(leaf.subject),
        issuer=leaf.issuer,
        not_before=leaf.not_before,
        not_after=leaf.not_after,
        key=der.octets(spki[1].value, what),
        spki=leaf.spki,
        purposes=_purposes(purposes, what) if purposes is not None else (),
        digital_signature=usage is None or _signs(usage, what),
    )


def _purposes(value: bytes, what: str) -> tuple[str, ...]:
    found = der.children(der.only(value, der.SEQUENCE, what).value, what, 16)
    if any(tlv.tag != der.OID for tlv in found):
        raise MalformedEvidence(f"{what}: an extended key usage of a wrong form")
    return tuple(der.oid(tlv.value, what) for tlv in found)


def _signs(value: bytes, what: str) -> bool:
    bits = der.only(value, der.BIT_STRING, what).value
    return len(bits) > 1 and bits[1] & 0x80 != 0


def ocsp_request(*, issuer: bytes, key: bytes, serial: int, nonce: bytes) -> bytes:
    """A request about one certificate, with SHA-384 as NVIDIA's own tools ask (RFC 6960 4.1.1).

    Args:
        issuer: the issuer's name in DER.
        key: the issuer's key, the content of its BIT STRING.
        serial: the certificate's serial number.
        nonce: 1 to 128 bytes.
    """
    algorithm = _tlv(der.SEQUENCE, _tlv(der.OID, bytes.fromhex("608648016503040202")), b"\x05\x00")
    identity = _tlv(
        der.SEQUENCE,
        algorithm,
        _tlv(der.OCTET_STRING, hashlib.sha384(issuer).digest()),
        _tlv(der.OCTET_STRING, hashlib.sha384(key).digest()),
        _tlv(der.INTEGER, serial.to_bytes(serial.bit_length() // 8 + 1, "big", signed=True)),
    )
    wrapped = _tlv(der.OCTET_STRING, _tlv(der.OCTET_STRING, nonce))
    extension = _tlv(der.SEQUENCE, _tlv(der.OID, _NONCE), wrapped)
    requests = _tlv(der.SEQUENCE, _tlv(der.SEQUENCE, identity))
    tbs = _tlv(der.SEQUENCE, requests, _tlv(der.context(2), _tlv(der.SEQUENCE, extension)))
    return _tlv(der.SEQUENCE, tbs)


def _tlv(tag: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + content
