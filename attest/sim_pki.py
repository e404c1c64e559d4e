"""Certificates of the simulated platform, in the forms that AMD gives its own.

Source: AMD 57230, sections on the VCEK and VLEK certificates.  The CA certificates and the CRL come from the X.509
builder of `cryptography`; the leaf, which no such library writes (serial 0, no identifiers, a chip id without a DER
tag), from pyasn1, so that it also stands beside our own DER reader as an independent writer.

Every CA says SIMULATED in its name.  Nothing here decides about trust: a verifier accepts these certificates only under
a policy that names the root's hash.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import cache
from typing import NamedTuple, Protocol

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID
from pyasn1.codec.der import encoder
from pyasn1.type import char, tag, univ, useful

from ..evidence.snp import Product, SigningKey, Tcb

ORGANIZATION = "dokimos simulated platform"
"""O of every name."""
SALT_LENGTH = 48
"""Bytes of PSS salt in every signature."""
CA_DAYS = 20 * 365
"""Validity of the CA certificates."""
VEK_DAYS = {SigningKey.VCEK: 7 * 365, SigningKey.VLEK: 365}
"""Validity of the leaves, as AMD issues them."""
CRL_DAYS = 365
"""Days from thisUpdate to nextUpdate."""

_ARC = "1.3.6.1.4.1.3704.1."
# Serial numbers follow AMD's pattern: the product in the third byte, 0x100 set for the VLEK branch.
_SERIALS = {Product.MILAN: 0x10000, Product.GENOA: 0x20000, Product.TURIN: 0x30000}


class Authority(StrEnum):
    """The three CA roles of a product: the root, and one signing CA for each kind of leaf."""

    ARK = "ark"
    ASK = "ask"
    ASVK = "asvk"

    def common_name(self, product: Product) -> str:
        """CN of the simulated certificate: AMD's name behind "SIMULATED-"."""
        names = {Authority.ARK: "ARK", Authority.ASK: "SEV", Authority.ASVK: "SEV-VLEK"}
        return f"SIMULATED-{names[self]}-{product}"

    def serial(self, product: Product) -> int:
        """Serial number of the certificate."""
        return _SERIALS[product] + {Authority.ARK: 0, Authority.ASK: 1, Authority.ASVK: 0x101}[self]


class Signer(Protocol):
    """Signs the to-be-signed part of a certificate or CRL."""

    def __call__(self, data: bytes) -> bytes:
        """An RSASSA-PSS signature with SHA-384, MGF1 with SHA-384 and 48 bytes of salt."""


class Issuer(NamedTuple):
    """Who signs a leaf: its name in DER, as it stands in the CA certificate, and its key."""

    name: bytes
    sign: Signer


def pss() -> padding.PSS:
    """The one padding that AMD uses."""
    return padding.PSS(mgf=padding.MGF1(hashes.SHA384()), salt_length=SALT_LENGTH)


def signer(key: rsa.RSAPrivateKey) -> Signer:
    """The signing function of a CA key, with random salt."""
    return lambda data: key.sign(data, pss(), hashes.SHA384())


def distinguished_name(common_name: str) -> x509.Name:
    """A name of the simulated platform."""
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "SIMULATED"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, ORGANIZATION),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


def ca_certificate(
    authority: Authority,
    product: Product,
    *,
    key: rsa.RSAPrivateKey,
    root_key: rsa.RSAPrivateKey,
    not_before: datetime,
    not_after: datetime | None = None,
    serial: int | None = None,
) -> x509.Certificate:
    """A CA certificate: the root may sign certificates and CRLs, the others certificates only, with path length 0.

    Args:
        authority: the role, from which the names, the serial and the extensions follow.
        product: the product.
        key: the CA's own key.
        root_key: the key of the ARK, which signs; the same as `key` for the ARK itself.
        not_before: start of validity.
        not_after: end of validity, or None for 20 years.
        serial: serial number, or None for the one that AMD's pattern gives.
    """
    root = authority is Authority.ARK
    usage = dict.fromkeys(
        (
            "digital_signature",
            "content_commitment",
            "key_encipherment",
            "data_encipherment",
            "key_agreement",
            "encipher_only",
            "decipher_only",
        ),
        False,
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(distinguished_name(authority.common_name(product)))
        .issuer_name(distinguished_name(Authority.ARK.common_name(product)))
        .public_key(key.public_key())
        .serial_number(authority.serial(product) if serial is None else serial)
        .not_valid_before(not_before)
        .not_valid_after(not_after or not_before + timedelta(days=CA_DAYS))
        .add_extension(x509.KeyUsage(key_cert_sign=True, crl_sign=root, **usage), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None if root else 0), critical=True)
    )
    if not root:
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key())
        builder = builder.add_extension(identifier, critical=False)
    return builder.sign(root_key, hashes.SHA384(), rsa_padding=pss())


def revocation_list(
    product: Product,
    *,
    root_key: rsa.RSAPrivateKey,
    this_update: datetime,
    next_update: datetime | None = None,
    revoked: Sequence[int] = (),
    number: int = 1,
) -> x509.CertificateRevocationList:
    """The product's CRL, signed by its ARK, with the serials of revoked signing CAs."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(distinguished_name(Authority.ARK.common_name(product)))
        .last_update(this_update)
        .next_update(next_update or this_update + timedelta(days=CRL_DAYS))
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key()), critical=False)
        .add_extension(x509.CRLNumber(number), critical=False)
    )
    for serial in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(this_update).build()
        builder = builder.add_revoked_certificate(entry)
    return builder.sign(root_key, hashes.SHA384(), rsa_padding=pss())


class Extension(NamedTuple):
    """An extension of a leaf: OID below AMD's arc (or a whole one), content of its OCTET STRING, criticality."""

    oid: str
    value: bytes
    critical: bool = False


def _integer(value: int) -> bytes:
    return bytes(encoder.encode(univ.Integer(value)))


def _ia5(value: str) -> bytes:
    return bytes(encoder.encode(char.IA5String(value)))


def vek_extensions(
    *, product_name: str, tcb: Tcb, hwid: bytes | None = None, csp_id: str | None = None, hwid_in_der: bool = False
) -> list[Extension]:
    """AMD's extensions of a leaf, in the order in which AMD writes them.

    Args:
        product_name: such as "Milan-B0" on a VCEK, "Milan" on a VLEK.
        tcb: patch levels; one with an FMC level gives structVersion 1.
        hwid: chip id of a VCEK, 64 bytes, or 8 from Turin on.
        csp_id: cloud provider of a VLEK.
        hwid_in_der: write the chip id as an OCTET STRING, not as bare bytes; certificates of both kinds exist.
    """
    reserved = iter(tcb.reserved)
    if tcb.fmc is None:
        levels = [("3.1", tcb.bl), ("3.2", tcb.tee), *((f"3.{n}", next(reserved)) for n in range(4, 8))]
        levels += [("3.3", tcb.snp), ("3.8", tcb.ucode)]
    else:
        levels = [("3.9", tcb.fmc), ("3.1", tcb.bl), ("3.2", tcb.tee), ("3.3", tcb.snp)]
        levels += [*((f"3.{n}", next(reserved)) for n in range(5, 8)), ("3.8", tcb.ucode)]
    extensions = [Extension("1", _integer(0 if tcb.fmc is None else 1)), Extension("2", _ia5(product_name))]
    extensions += [Extension(suffix, _integer(level)) for suffix, level in levels]
    if hwid is not None:
        extensions.append(Extension("4", bytes(encoder.encode(univ.OctetString(hwid))) if hwid_in_der else hwid))
    if csp_id is not None:
        extensions.append(Extension("5", _ia5(csp_id)))
    return extensions


@dataclass(frozen=True, slots=True, kw_only=True)
class VekFields:
    """All of a leaf certificate but its signature.

    Attributes:
        subject_cn: "SEV-VCEK" or "SEV-VLEK".
        public_key: the key that signs reports.
        not_before: start of validity.
        not_after: end of validity.
        extensions: in the order of writing.
        serial: AMD writes 0.
        algorithm: DER AlgorithmIdentifier, or None for the one that AMD uses.
    """

    subject_cn: str
    public_key: ec.EllipticCurvePublicKey
    not_before: datetime
    not_after: datetime
    extensions: Sequence[Extension]
    serial: int = 0
    algorithm: bytes | None = None


def _sequence(*parts: object) -> univ.Sequence:
    sequence = univ.Sequence()
    for position, part in enumerate(parts):
        sequence.setComponentByPosition(position, part)
    return sequence


def _explicit(number: int, inner: object) -> univ.Sequence:
    """An explicit context tag is one more constructed element around the inner one."""
    outer = univ.Sequence().subtype(implicitTag=tag.Tag(tag.tagClassContext, tag.tagFormatConstructed, number))
    outer.setComponentByPosition(0, inner)
    return outer


@cache
def pss_algorithm(digest_arc: int = 2, salt_length: int = SALT_LENGTH) -> bytes:
    """DER AlgorithmIdentifier of RSASSA-PSS (RFC 8017 A.2.3); digest and MGF1 digest are the same.

    Args:
        digest_arc: last arc of the digest's OID: 1 SHA-256, 2 SHA-384, 3 SHA-512.
        salt_length: bytes of salt.
    """
    digest = _sequence(univ.ObjectIdentifier(f"2.16.840.1.101.3.4.2.{digest_arc}"), univ.Null(""))
    mask = _sequence(univ.ObjectIdentifier("1.2.840.113549.1.1.8"), digest)
    parameters = _sequence(_explicit(0, digest), _explicit(1, mask), _explicit(2, univ.Integer(salt_length)))
    return bytes(encoder.encode(_sequence(univ.ObjectIdentifier("1.2.840.113549.1.1.10"), parameters)))


def _extension(extension: Extension) -> univ.Sequence:
    oid = extension.oid if extension.oid.count(".") > 2 else _ARC + extension.oid
    critical = [univ.Boolean(True)] if extension.critical else []
    return _sequence(univ.ObjectIdentifier(oid), *critical, univ.OctetString(extension.value))


def _time(at: datetime) -> useful.UTCTime:
    return useful.UTCTime(at.strftime("%y%m%d%H%M%SZ"))


def write_vek(fields: VekFields, issuer: Issuer) -> bytes:
    """The leaf certificate in DER, signed by the issuer."""
    algorithm = univ.Any(fields.algorithm or pss_algorithm())
    spki = fields.public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    tbs = bytes(
        encoder.encode(
            _sequence(
                _explicit(0, univ.Integer(2)),
                univ.Integer(fields.serial),
                algorithm,
                univ.Any(issuer.name),
                _sequence(_time(fields.not_before), _time(fields.not_after)),
                univ.Any(distinguished_name(fields.subject_cn).public_bytes()),
                univ.Any(spki),
                _explicit(3, _sequence(*map(_extension, fields.extensions))),
            )
        )
    )
    signature = univ.BitString.fromOctetString(issuer.sign(tbs))
    return bytes(encoder.encode(_sequence(univ.Any(tbs), algorithm, signature)))


def root_sha256(ark: bytes) -> bytes:
    """The hash by which a policy names a simulated root: SHA-256 of the ARK certificate in DER."""
    return hashlib.sha256(ark).digest()
