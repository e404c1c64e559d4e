"""Reports and chains of NVIDIA devices with signatures that hold, where nothing else is right if the test says so.

Nothing here uses the code that it tests: reports are packed by hand, certificates are made by `cryptography`.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache
from hashlib import sha256
from itertools import count
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA384, HashAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from dokimos.evidence.gpu_arch import Arch
from dokimos.evidence.gpu_evidence import GpuEvidence

AT = datetime(2026, 7, 1, tzinfo=UTC)
NONCE = bytes(range(32))
FWID = bytes(range(100, 148))
ALWAYS = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
CHIPS = {Arch.HOPPER: "GH100", Arch.BLACKWELL: "GB100", Arch.LS10: "LS_10"}
COMPOSITE = "2.23.133.5.4.1"
TCB_INFO = "2.23.133.5.4.1.1"
OPAQUE: Mapping[Arch, Sequence[tuple[int, bytes]]] = {
    Arch.HOPPER: (
        (6, bytes.fromhex("009f009601000000")),
        (14, bytes(4)),
        (15, b"882\0\0\0\0\0\0"),
        (17, b"1010\0"),
        (18, b"0200\0"),
        (3, b"580.95.05\0"),
        (12, bytes(256)),
        (11, b"\x55"),
        (20, FWID),
        (21, b"\x55"),
        (22, bytes(range(1, 145))),
        (34, b"\x01\0"),
        (36, b"\0\0"),
    ),
    Arch.BLACKWELL: (
        (6, bytes.fromhex("008800970f000000")),
        (15, b"886\0\0\0\0\0\0"),
        (17, b"G525\0"),
        (18, b"0220\0"),
        (3, b"580.65.06\0"),
        (11, b"\x55"),
        (20, FWID),
        (34, b"\x01\0"),
        (35, b"GB110\0"),
        (36, b"\x01\0"),
    ),
    Arch.LS10: (
        (6, b"96.10.55.00.01"),
        (22, bytes(range(8))),
        (26, bytes(range(128))),
        (25, b"\x01\0"),
    ),
}


def opaque(entries: Sequence[tuple[int, bytes]]) -> bytes:
    """Entries of type, size and data."""
    return b"".join(struct.pack("<HH", number, len(data)) + data for number, data in entries)


def block(number: int, value: bytes = b"", **parts: int) -> bytes:
    """One measurement block; the parts are those of the header, by name."""
    value = value or bytes([number % 256]) * 48
    fields = {"index": number, "spec": 1, "size": 3 + len(value), "type": 1, "value_size": len(value)} | parts
    return struct.pack("<BBHBH", *fields.values()) + value


def signed_bytes(
    blocks: Sequence[bytes],
    entries: bytes,
    *,
    nonce: bytes = NONCE,
    request: bytes = bytes.fromhex("11e001ff"),
    slots: bytes = b"\0\0",
    response: bytes = bytes.fromhex("116000"),
    counted: int | None = None,
    length: int | None = None,
    opaque_length: int | None = None,
) -> bytes:
    """Request and response up to the signature; what is announced may differ from what is there."""
    record = b"".join(blocks)
    announced = len(record) if length is None else length
    return b"".join(
        (
            request + nonce + slots[:1] + response + slots[1:],
            bytes([len(blocks) if counted is None else counted]) + announced.to_bytes(3, "little"),
            record + bytes(range(200, 232)),
            struct.pack("<H", len(entries) if opaque_length is None else opaque_length) + entries,
        )
    )


@cache
def key(number: int, curve: type[ec.EllipticCurve] = ec.SECP384R1) -> ec.EllipticCurvePrivateKey:
    """A key that is the same in every run."""
    return ec.derive_private_key(0xC0FFEE << 128 | number, curve())


def sign(data: bytes, by: ec.EllipticCurvePrivateKey) -> bytes:
    """r and s, 48 bytes each."""
    r, s = decode_dss_signature(by.sign(data, ec.ECDSA(SHA384())))
    return r.to_bytes(48, "big") + s.to_bytes(48, "big")


def tlv(tag: int, *parts: bytes) -> bytes:
    """One DER element."""
    content = b"".join(parts)
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    return (
        bytes((tag, 0x81, size)) + content if size < 0x100 else bytes((tag, 0x82, *size.to_bytes(2, "big"))) + content
    )


def fwid_element(fwid: bytes) -> bytes:
    """SHA-384's OID, and a digest."""
    return tlv(0x30, tlv(6, bytes.fromhex("608648016503040202")), tlv(4, fwid))


def composite(fwid: bytes) -> bytes:
    """CompositeDeviceID of Hopper and of the switches; the key in it is not looked at."""
    return tlv(0x30, b"\x02\x01\x01", tlv(0x30, tlv(3, b"\0" + bytes(97))), fwid_element(fwid))


def tcb_info(fwid: bytes, flags: int = 0x80000001, *, more: bytes = b"") -> bytes:
    """DiceTcbInfo of Blackwell: two FWIDs, the second one all zero."""
    return tlv(
        0x30,
        tlv(0x80, b"NVIDIA"),
        tlv(0x81, b"GB100 A01 GSP"),
        tlv(0x82, b"01"),
        b"\x83\x01\x01\x84\x01\x00\x85\x01\x00",
        tlv(0xA6, fwid_element(fwid), fwid_element(bytes(48))),
        tlv(0x87, b"\0" + flags.to_bytes(4, "big")),
        tlv(0x88, b"\xc0"),
        tlv(0x89, b"\0"),
        more,
    )


@dataclass(frozen=True, kw_only=True)
class CertFields:
    """One certificate; by default a right one."""

    subject: str
    issuer: str
    serial: int
    key: ec.EllipticCurvePrivateKey
    signer: ec.EllipticCurvePrivateKey
    not_before: datetime = datetime(2023, 1, 1, tzinfo=UTC)
    not_after: datetime = ALWAYS
    usage: frozenset[str] = frozenset({"key_cert_sign", "crl_sign"})
    ca: bool | None = True
    path_length: int | None = None
    hash: HashAlgorithm = field(default_factory=SHA384)
    extensions: Mapping[str, bytes] = field(default_factory=dict)
    critical: bool = False


_USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)


def _name(common_name: str) -> x509.Name:
    parts = ((NameOID.COMMON_NAME, common_name), (NameOID.ORGANIZATION_NAME, "TEST"))
    return x509.Name([x509.NameAttribute(oid, text) for oid, text in parts])


def certificate(fields: CertFields) -> bytes:
    """The certificate in DER."""
    builder = x509.CertificateBuilder(
        issuer_name=_name(fields.issuer),
        subject_name=_name(fields.subject),
        public_key=fields.key.public_key(),
        serial_number=fields.serial,
        not_valid_before=fields.not_before,
        not_valid_after=fields.not_after,
    )
    usages: dict[str, Any] = {name: name in fields.usage for name in _USAGES}
    builder = builder.add_extension(x509.KeyUsage(**usages), critical=True)
    if fields.ca is not None:
        constraints = x509.BasicConstraints(ca=fields.ca, path_length=fields.path_length)
        builder = builder.add_extension(constraints, critical=True)
    for oid, value in fields.extensions.items():
        other = x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), value)
        builder = builder.add_extension(other, critical=fields.critical)
    return builder.sign(fields.signer, fields.hash).public_bytes(Encoding.DER)


def chain_fields(arch: Arch) -> list[CertFields]:
    """The five certificates of a right chain, leaf first."""
    chip = CHIPS[arch]
    engine = "FSP" if arch is Arch.LS10 else "GSP"
    names = (
        f"{chip} A01 {engine} FMC LF",
        f"{chip} A01 {engine} BROM",
        f"TEST {chip} Provisioner ICA 1",
        f"TEST {chip} Identity",
        "TEST Device Identity CA (SIMULATED)",
    )
    brom = (0x50 if arch is Arch.LS10 else 0x41) << 64 | 0x0102030405060708
    serials = (0x53 << 152 >> 1, brom, 3, 4, 5)
    made = [
        CertFields(subject=subject, issuer=issuer, serial=serial, key=key(n), signer=key(min(n + 1, 4)))
        for n, subject, issuer, serial in zip(count(), names, (*names[1:], names[4]), serials, strict=False)
    ]
    oid, value = (TCB_INFO, tcb_info(FWID)) if arch is Arch.BLACKWELL else (COMPOSITE, composite(FWID))
    made[0] = replace(made[0], usage=frozenset({"digital_signature"}), ca=None, extensions={oid: value})
    made[1] = replace(made[1], usage=frozenset({"key_cert_sign"}))
    return made


@cache
def right_chain(arch: Arch) -> tuple[bytes, ...]:
    """A right chain in DER, leaf first."""
    return tuple(map(certificate, chain_fields(arch)))


def changed_chain(arch: Arch, changes: Mapping[int, Mapping[str, Any]]) -> tuple[bytes, ...]:
    """A right chain with other fields in some certificates, by place; signatures hold unless the signer is changed."""
    fields = chain_fields(arch)
    made = list(right_chain(arch))
    for place, change in changes.items():
        made[place] = certificate(replace(fields[place], **change))
    return tuple(made)


def pem(certificates: Sequence[bytes]) -> bytes:
    """The chain as a device hands it over."""
    return b"".join(x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM) for der in certificates)


def root_sha256(certificates: Sequence[bytes]) -> bytes:
    """What a policy must name."""
    return sha256(certificates[-1]).digest()


def blocks_of(arch: Arch) -> list[bytes]:
    """As many blocks as such a device has."""
    return [block(n) for n in range(1, 32 if arch is Arch.LS10 else 65)]


def report(arch: Arch, entries: Sequence[tuple[int, bytes]] | None = None, **announced: Any) -> bytes:
    """A right report, or with other entries of opaque data, signed by the key of the right leaf."""
    made = signed_bytes(blocks_of(arch), opaque(OPAQUE[arch] if entries is None else entries), **announced)
    return made + sign(made, key(0))


def evidence(arch: Arch, **parts: Any) -> GpuEvidence:
    """What a device hands over, all of it right but for the parts that are given."""
    right = {"arch": arch, "nonce": NONCE, "report": report(arch), "chain": pem(right_chain(arch))}
    return GpuEvidence(**(right | parts))
