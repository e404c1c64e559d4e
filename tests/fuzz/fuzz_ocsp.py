"""Any bytes are an OCSP answer, a responder's certificate, or one of our errors."""

from __future__ import annotations

import contextlib

from dokimos.endorsements.ocsp import parse_ocsp, parse_responder
from dokimos.endorsements.status_points import status_points
from dokimos.errors import Error

SHA384 = bytes.fromhex("608648016503040202")
ECDSA_SHA384 = bytes.fromhex("300a06082a8648ce3d040303")
SPKI = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d03010703420004") + bytes(64)
TIME = b"20260701120000Z"


def tlv(tag: int, *parts: bytes) -> bytes:
    """One DER element."""
    content = b"".join(parts)
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + content


def name(text: str) -> bytes:
    """A Name with a common name."""
    return tlv(0x30, tlv(0x31, tlv(0x30, tlv(6, b"\x55\x04\x03"), tlv(0x0C, text.encode()))))


def extension(oid: str, value: bytes, *, critical: bool = False) -> bytes:
    """One extension."""
    return tlv(0x30, tlv(6, bytes.fromhex(oid)), tlv(1, b"\xff") if critical else b"", tlv(4, value))


def certificate() -> bytes:
    """A responder's certificate with a distribution point; its signature is one of nobody."""
    point = tlv(0x30, tlv(0xA0, tlv(0xA0, tlv(0x86, b"http://crl.invalid/l1.crl"))))
    extensions = (
        extension("551d0f", tlv(3, b"\x07\x80"), critical=True),
        extension("551d25", tlv(0x30, tlv(6, bytes.fromhex("2b06010505070309")))),
        extension("551d1f", tlv(0x30, point)),
    )
    tbs = tlv(
        0x30,
        tlv(0xA0, b"\x02\x01\x02"),
        tlv(2, b"\x07"),
        ECDSA_SHA384,
        name("CA"),
        tlv(0x30, tlv(0x17, b"260101000000Z"), tlv(0x17, b"330101000000Z")),
        name("responder"),
        SPKI,
        tlv(0xA3, tlv(0x30, *extensions)),
    )
    return tlv(0x30, tbs, ECDSA_SHA384, tlv(3, b"\0" + tlv(0x30, tlv(2, b"\1"), tlv(2, b"\1"))))


def answer(status: bytes, *, by_key: bool = False) -> bytes:
    """An answer about two certificates."""
    identity = tlv(0x30, tlv(0x30, tlv(6, SHA384), b"\5\0"), tlv(4, b"n" * 48), tlv(4, b"k" * 48), tlv(2, b"\7"))
    singles = tlv(
        0x30,
        tlv(0x30, identity, status, tlv(0x18, TIME)),
        tlv(0x30, identity, b"\x80\0", tlv(0x18, TIME), tlv(0xA0, tlv(0x18, TIME))),
    )
    nonce = tlv(0xA1, tlv(0x30, extension("2b0601050507300102", tlv(4, b"n" * 32))))
    responder = tlv(0xA2, tlv(4, b"h" * 20)) if by_key else tlv(0xA1, name("responder"))
    tbs = tlv(0x30, responder, tlv(0x18, TIME), singles, nonce)
    basic = tlv(0x30, tbs, ECDSA_SHA384, tlv(3, b"\0sig"), tlv(0xA0, tlv(0x30, certificate())))
    return tlv(0x30, tlv(0x0A, b"\0"), tlv(0xA0, tlv(0x30, tlv(6, bytes.fromhex("2b0601050507300101")), tlv(4, basic))))


SEEDS: list[bytes] = [
    answer(b"\x80\0"),
    answer(tlv(0xA1, tlv(0x18, TIME), tlv(0xA0, tlv(0x0A, b"\6"))), by_key=True),
    bytes.fromhex("30030a0106"),
    certificate(),
]


def one_input(data: bytes) -> None:
    """All readers get the same bytes; the caches in front of them would only hide what they do."""
    with contextlib.suppress(Error):
        parse_ocsp.__wrapped__(data)
    with contextlib.suppress(Error):
        parse_responder.__wrapped__(data)
    with contextlib.suppress(Error):
        status_points.__wrapped__(data, "certificate")
