"""Any bytes are a PCK certificate, a certificate of its issuers, or one of our errors."""

from __future__ import annotations

import contextlib

from dokimos.endorsements.p256 import parse_ca_p256
from dokimos.endorsements.pck import parse_pck
from dokimos.errors import Error

SGX = bytes.fromhex("2a864886f84d010d01")
ECDSA_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")
POINT = bytes.fromhex(
    "6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296"
    "4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5"
)
PLATFORM_CA = "Intel SGX PCK Platform CA"
PROCESSOR_CA = "Intel SGX PCK Processor CA"


def tlv(tag: int, *parts: bytes) -> bytes:
    """One DER element."""
    content = b"".join(parts)
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + content


def integer(number: int) -> bytes:
    """An INTEGER."""
    return tlv(2, number.to_bytes(number.bit_length() // 8 + 1, "big", signed=True))


def pair(suffix: tuple[int, ...], value: bytes) -> bytes:
    """OID below Intel's arc, and a value."""
    return tlv(0x30, tlv(6, SGX + bytes(suffix)), value)


def name(common_name: str) -> bytes:
    """A Name with a common name and an organisation."""
    parts = ((b"\x55\x04\x03", common_name), (b"\x55\x04\x0a", "Intel Corporation"))
    return tlv(0x30, *(tlv(0x31, tlv(0x30, tlv(6, kind), tlv(0x0C, text.encode()))) for kind, text in parts))


def tcb(svns: dict[int, bytes] | None = None) -> list[bytes]:
    """The pairs of the TCB; component n has SVN n, and PCESVN is 13."""
    values = {n: integer(n) for n in range(1, 17)} | {17: integer(13), 18: tlv(4, bytes(range(16)))} | (svns or {})
    return [pair((2, n), value) for n, value in values.items()]


def top(tcb_pairs: list[bytes] | None = None, *, platform: bool = True) -> dict[int, bytes]:
    """The pairs of Intel's extension by their number."""
    values = {
        1: tlv(4, b"P" * 16),
        2: tlv(0x30, *(tcb() if tcb_pairs is None else tcb_pairs)),
        3: tlv(4, b"\0\0"),
        4: tlv(4, bytes.fromhex("90c06f000000")),
        5: tlv(0x0A, b"\x01"),
    }
    if platform:
        flags = (tlv(1, b"\xff"), tlv(1, b"\0"), tlv(1, b"\xff"))
        values |= {6: tlv(4, b"I" * 16), 7: tlv(0x30, *(pair((7, n), flag) for n, flag in enumerate(flags, 1)))}
    return {n: pair((n,), value) for n, value in values.items()}


def extension(oid: str, value: bytes, *, critical: bool = False) -> bytes:
    """One extension of a certificate."""
    return tlv(0x30, tlv(6, bytes.fromhex(oid)), tlv(1, b"\xff") if critical else b"", tlv(4, value))


def extensions(pairs: list[bytes]) -> list[bytes]:
    """The extensions of a leaf, with these pairs in Intel's own."""
    return [
        extension("551d0f", tlv(3, b"\x06\xc0"), critical=True),
        extension("551d13", tlv(0x30), critical=True),
        extension(SGX.hex(), tlv(0x30, *pairs)),
    ]


def certificate(
    parts: list[bytes],
    *,
    issuer: str = PLATFORM_CA,
    subject: str = "Intel SGX PCK Certificate",
    serial: int = 7,
    algorithm: bytes = ECDSA_SHA256,
    spki: bytes = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d03010703420004") + POINT,
) -> bytes:
    """A certificate with these extensions; its signature is one of nobody."""
    times = tlv(0x30, tlv(0x17, b"260101000000Z"), tlv(0x17, b"330101000000Z"))
    tbs = tlv(
        0x30,
        tlv(0xA0, integer(2)),
        integer(serial),
        algorithm,
        name(issuer),
        times,
        name(subject),
        spki,
        tlv(0xA3, tlv(0x30, *parts)),
    )
    return tlv(0x30, tbs, algorithm, tlv(3, b"\0" + tlv(0x30, integer(1), integer(1))))


_CA = [
    extension("551d0f", tlv(3, b"\x01\x06"), critical=True),
    extension("551d13", tlv(0x30, tlv(1, b"\xff"), integer(0)), critical=True),
]
SEEDS: list[bytes] = [
    certificate(extensions(list(top().values()))),
    certificate(extensions(list(top(platform=False).values())), issuer=PROCESSOR_CA),
    certificate(_CA, issuer="Intel SGX Root CA", subject=PLATFORM_CA),
]


def one_input(data: bytes) -> None:
    """Both readers get the same bytes; the cache in front of one would only hide what it does."""
    with contextlib.suppress(Error):
        parse_pck(data)
    with contextlib.suppress(Error):
        parse_ca_p256.__wrapped__(data)
