"""Any bytes are a certificate or a chain of NVIDIA's hierarchies, or one of our errors."""

from __future__ import annotations

import base64
import contextlib

from dokimos.endorsements.gpu_certificate import parse_gpu_certificate, split_chain
from dokimos.errors import MalformedEvidence

_ECDSA_SHA384 = bytes.fromhex("300a06082a8648ce3d040303")
_SPKI = bytes.fromhex("3076301006072a8648ce3d020106052b8104002203620004") + bytes(range(96))


def _tlv(tag: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + content


def _extension(oid: str, value: bytes) -> bytes:
    return _tlv(0x30, _tlv(6, bytes.fromhex(oid)), _tlv(4, value))


def _certificate(*extensions: bytes) -> bytes:
    name = _tlv(0x30, _tlv(0x31, _tlv(0x30, _tlv(6, b"\x55\x04\x03"), _tlv(0x0C, b"GH100 A01 GSP BROM"))))
    times = _tlv(0x30, _tlv(0x17, b"230101000000Z"), _tlv(0x18, b"99991231235959Z"))
    tbs = _tlv(
        0x30,
        _tlv(0xA0, b"\x02\x01\x02"),
        _tlv(2, b"\x41" + bytes(range(8))),
        _ECDSA_SHA384,
        name,
        times,
        name,
        _SPKI,
        _tlv(0xA3, _tlv(0x30, *extensions)),
    )
    return _tlv(0x30, tbs, _ECDSA_SHA384, _tlv(3, b"\0", _tlv(0x30, b"\x02\x01\x01\x02\x01\x01")))


_FWID = _tlv(0x30, _tlv(6, bytes.fromhex("608648016503040202")), _tlv(4, bytes(48)))
_COMPOSITE = _tlv(0x30, b"\x02\x01\x01", _tlv(0x30, b"\x05\0"), _FWID)
_TCB_INFO = _tlv(
    0x30,
    _tlv(0x80, b"NVIDIA"),
    _tlv(0x81, b"GB100"),
    _tlv(0x82, b"01"),
    b"\x83\x01\x01\x84\x01\x00\x85\x01\x00",
    _tlv(0xA6, _FWID, _FWID),
    _tlv(0x87, b"\0\x80\0\0\x01"),
    _tlv(0x88, b"\xc0"),
    _tlv(0x89, b"\0"),
)
_CERTIFICATES = [
    _certificate(_extension("551d0f", b"\x03\x02\x07\x80"), _extension("678105050401", _COMPOSITE)),
    _certificate(_extension("551d0f", b"\x03\x02\x07\x80"), _extension("67810505040101", _TCB_INFO)),
    _certificate(
        _extension("551d13", b"\x30\x06\x01\x01\xff\x02\x01\x02"),
        _extension("551d0f", b"\x03\x02\x01\x06"),
        _extension("551d25", b"\x30\x0a\x06\x08\x2b\x06\x01\x05\x05\x07\x03\x09"),
    ),
]
SEEDS: list[bytes] = [
    *_CERTIFICATES,
    b"".join(
        b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(der) + b"-----END CERTIFICATE-----\n"
        for der in _CERTIFICATES
    ),
]


def one_input(data: bytes) -> None:
    """Both readers get the same bytes; the cache in front of them would only hide what they do."""
    for der in (data, *_chain(data)):
        with contextlib.suppress(MalformedEvidence):
            found = parse_gpu_certificate.__wrapped__(der, "certificate")
            if found.tbs not in der or found.signature not in der or found.public_point not in found.spki:
                raise AssertionError("a part that is none")


def _chain(data: bytes) -> tuple[bytes, ...]:
    try:
        return split_chain.__wrapped__(data)
    except MalformedEvidence:
        return ()
