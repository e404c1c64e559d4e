"""Certificates of the simulated NVIDIA platform, in the forms that NVIDIA gives its own.

Source: the certificates of real H100, B200 and LS10 devices and of real RIMs; TCG, "DICE Attestation Architecture",
for the extensions that carry the firmware's id.  Common names of devices and of their CAs are NVIDIA's, since they are
roles that a verifier reads; every name says SIMULATED beside them, and the two roots in their common names.  Nothing
here decides about trust: a verifier accepts these certificates only under a policy that names the roots' hashes.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import AuthorityInformationAccessOID
from pyasn1.codec.der import encoder
from pyasn1.type import char, tag, univ

from ..evidence.gpu_arch import Arch

P384_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973
"""Order of the group (SP 800-186 3.2.1.4)."""
MAKER = "SIMULATED NVIDIA Corporation"
"""O of every name but those of the two roots."""
ROOT_MAKER = "SIMULATED NVIDIA"
"""O of the roots."""
PDI_SIZE = 8
COMPOSITE_DEVICE_ID = "2.23.133.5.4.1"
"""Extension of Hopper and LS10."""
DICE_TCB_INFO = "2.23.133.5.4.1.1"
"""Extension of Blackwell."""
NOT_CONFIGURED, NOT_SECURE, RECOVERY, DEBUG = 0x80000000, 0x40000000, 0x20000000, 0x10000000
"""Operational flags of DiceTcbInfo: bit 0 of the BIT STRING is the highest."""
DEVICES_END = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
"""notAfter of every certificate of a device chain."""
RIM_END = datetime(2053, 3, 8, 15, 37, 34, tzinfo=UTC)
"""notAfter of the RIM root."""

# The top-level name can never exist (RFC 6761).
_CRL = "http://crl.simulated.invalid/"
_OCSP = "http://ocsp.simulated.invalid"
_SHA384 = "2.16.840.1.101.3.4.2.2"
PERMANENT_ID = "1.3.6.1.4.1.412.274.1"
TCB_INFO_REST = 0x00000001  # the lowest flag is set on the real sample


class Window(NamedTuple):
    """Validity of a certificate."""

    start: datetime
    end: datetime


SIGNER_WINDOW = Window(datetime(2024, 1, 1, tzinfo=UTC), datetime(2049, 12, 31, tzinfo=UTC))
"""Validity of a signer of RIMs; a real one has two years, which tests ask for themselves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """What an architecture's certificates are called.

    Attributes:
        chip: product name in RIMs.
        label: chip in common names.
        engine: the processor that measures.
        identity: chip of the Identity CA above it.
        provisioner: last part of the Provisioner ICA's name.
        pdi_tag: first byte of the BROM certificate's serial number.
        start: notBefore of device certificates.
        rim_signer: common name of the signer of RIMs.
    """

    chip: str
    label: str
    engine: str
    identity: str
    provisioner: str
    pdi_tag: int
    start: datetime
    rim_signer: str


FAMILIES = {
    Arch.HOPPER: Family(
        chip="GH100",
        label="GH100",
        engine="GSP",
        identity="GH100",
        provisioner="1",
        pdi_tag=0x41,
        start=datetime(2020, 10, 17, tzinfo=UTC),
        rim_signer="HCC RIM L4 Signer",
    ),
    Arch.BLACKWELL: Family(
        chip="GB100",
        label="GB100",
        engine="GSP",
        identity="GB100",
        provisioner="00000",
        pdi_tag=0x41,
        start=datetime(2023, 6, 20, tzinfo=UTC),
        rim_signer="HCC RIM L4 Signer",
    ),
    Arch.LS10: Family(
        chip="LS10",
        label="LS_10",
        engine="FSP",
        identity="GH100",
        provisioner="1",
        pdi_tag=0x50,
        start=datetime(2020, 10, 17, tzinfo=UTC),
        rim_signer="NVIDIA Reference Value L4 LS10",
    ),
}


def derive_p384(secret: bytes, label: str) -> ec.EllipticCurvePrivateKey:
    """A key of the simulated platform.

    Args:
        secret: the platform's own, 32 bytes.
        label: what the key is for.
    """
    # 64 bits more than the order: the remainder is as good as uniform (FIPS 186-5 A.2.1).
    material = hashlib.shake_256(b"dokimos simulated NVIDIA\x00" + label.encode() + b"\x00" + secret).digest(56)
    return ec.derive_private_key(int.from_bytes(material, "big") % (P384_ORDER - 1) + 1, ec.SECP384R1())


class Entity(NamedTuple):
    """A certificate with its key."""

    name: x509.Name
    key: ec.EllipticCurvePrivateKey
    der: bytes

    @property
    def certificate(self) -> x509.Certificate:
        """The certificate as `cryptography` reads it."""
        return x509.load_der_x509_certificate(self.der)


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateFields:
    """All of a certificate but its signature.

    Attributes:
        subject: whom it names.
        issuer: who signs.
        key: the key that it certifies.
        issuer_key: the key that signs.
        window: validity.
        serial: serial number.
        extensions: with their criticality, in the order of writing.
    """

    subject: x509.Name
    issuer: x509.Name
    key: ec.EllipticCurvePrivateKey = field(repr=False)
    issuer_key: ec.EllipticCurvePrivateKey = field(repr=False)
    window: Window
    serial: int
    extensions: tuple[tuple[x509.ExtensionType, bool], ...]


def certificate(fields: CertificateFields) -> bytes:
    """A certificate in DER; the same bytes for the same fields."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(fields.subject)
        .issuer_name(fields.issuer)
        .public_key(fields.key.public_key())
        .serial_number(fields.serial)
        .not_valid_before(fields.window.start)
        .not_valid_after(fields.window.end)
    )
    for extension, critical in fields.extensions:
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(fields.issuer_key, hashes.SHA384(), ecdsa_deterministic=True).public_bytes(Encoding.DER)


def name(*parts: tuple[x509.ObjectIdentifier, str]) -> x509.Name:
    """A name with its parts in this order."""
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in parts])


def key_id(key: ec.EllipticCurvePrivateKey) -> bytes:
    """The key's identifier, 20 bytes."""
    return x509.SubjectKeyIdentifier.from_public_key(key.public_key()).digest


def pem(*certificates: bytes) -> bytes:
    """Certificates in PEM, one after the other."""
    return b"".join(x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM) for der in certificates)


def composite_device_id(device: x509.Certificate, fwid: bytes) -> bytes:
    """Content of the extension of Hopper and LS10, written by pyasn1: another writer than verifiers read with.

    Args:
        device: the BROM's certificate, whose key is the device's identity.
        fwid: SHA-384 of the firmware.
    """
    spki = device.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return _der(_sequence(univ.Integer(1), univ.Any(spki), _fwid(fwid)))


def dice_tcb_info(model: str, fwids: tuple[bytes, ...], flags: int) -> bytes:
    """Content of the extension of Blackwell (DiceTcbInfo), written by pyasn1.

    Args:
        model: such as "GB100 A01 GSP".
        fwids: the real one first.
        flags: 32 bits, that of notConfigured the highest.
    """
    utf8, octets, integer = char.UTF8String, univ.OctetString, univ.Integer
    listed = univ.Sequence().subtype(implicitTag=tag.Tag(tag.tagClassContext, tag.tagFormatConstructed, 6))
    for place, fwid in enumerate(fwids):
        listed.setComponentByPosition(place, _fwid(fwid))
    bits = univ.BitString.fromOctetString(flags.to_bytes(4, "big")).subtype(implicitTag=_context(7))
    return _der(
        _sequence(
            utf8("NVIDIA", tagSet=utf8.tagSet.tagImplicitly(_context(0))),
            utf8(model, tagSet=utf8.tagSet.tagImplicitly(_context(1))),
            utf8("01", tagSet=utf8.tagSet.tagImplicitly(_context(2))),
            integer(1, tagSet=integer.tagSet.tagImplicitly(_context(3))),
            integer(0, tagSet=integer.tagSet.tagImplicitly(_context(4))),
            integer(0, tagSet=integer.tagSet.tagImplicitly(_context(5))),
            listed,
            bits,
            octets(b"\xc0", tagSet=octets.tagSet.tagImplicitly(_context(8))),
            octets(b"\x00", tagSet=octets.tagSet.tagImplicitly(_context(9))),
        )
    )


def _context(number: int) -> tag.Tag:
    return tag.Tag(tag.tagClassContext, tag.tagFormatSimple, number)


def _sequence(*parts: object) -> univ.Sequence:
    sequence = univ.Sequence()
    for place, part in enumerate(parts):
        sequence.setComponentByPosition(place, part)
    return sequence


def _fwid(fwid: bytes) -> univ.Sequence:
    return _sequence(univ.ObjectIdentifier(_SHA384), univ.OctetString(fwid))


def _der(value: univ.Sequence) -> bytes:
    return bytes(encoder.encode(value))


def key_usage(*, data: bool = False, certificates: bool = False, crls: bool = False) -> x509.KeyUsage:
    """What a key may sign."""
    return x509.KeyUsage(
        digital_signature=data,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=certificates,
        crl_sign=crls,
        encipher_only=False,
        decipher_only=False,
    )


def authority_key(key: ec.EllipticCurvePrivateKey) -> x509.AuthorityKeyIdentifier:
    """The identifier of the key that signs."""
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())


def subject_key(key: ec.EllipticCurvePrivateKey) -> x509.SubjectKeyIdentifier:
    """The identifier of the key itself."""
    return x509.SubjectKeyIdentifier.from_public_key(key.public_key())


def crl_address(path: str) -> x509.CRLDistributionPoints:
    """Where a list would lie; the host can never exist."""
    where = [x509.UniformResourceIdentifier(_CRL + path)]
    return x509.CRLDistributionPoints([x509.DistributionPoint(where, None, None, None)])


def ocsp_address() -> x509.AuthorityInformationAccess:
    """Where a responder would answer; the host can never exist."""
    where = x509.UniformResourceIdentifier(_OCSP)
    return x509.AuthorityInformationAccess([x509.AccessDescription(AuthorityInformationAccessOID.OCSP, where)])


def positive(identifier: bytes) -> int:
    """A serial number out of a key's identifier: positive, with all its bytes."""
    return int.from_bytes(bytes(((identifier[0] & 0x7F) | 0x40,)) + identifier[1:], "big")
