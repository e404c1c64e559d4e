"""Certificates and lists of the simulated TDX platform, in the forms that Intel gives its own.

Source: Intel, "SGX PCK certificate and certificate revocation list profile specification".  The common names are
Intel's, since they are roles that a verifier checks; every name says SIMULATED beside them.  Nothing here decides about
trust: a verifier accepts these certificates only under a policy that names the root's hash.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from pyasn1.codec.der import encoder
from pyasn1.type import univ

from .sim_pki import ORGANIZATION

P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""Order of the group (SP 800-186 3.2.1.3)."""
SGX_EXTENSION = "1.2.840.113741.1.13.1"
PCK_CN = "Intel SGX PCK Certificate"


class TdxAuthority(StrEnum):
    """Who signs: the root, one CA for each kind of platform, and the signer of TCB info and QE identity."""

    ROOT = "Intel SGX Root CA"
    PLATFORM_CA = "Intel SGX PCK Platform CA"
    PROCESSOR_CA = "Intel SGX PCK Processor CA"
    TCB_SIGNING = "Intel SGX TCB Signing"


@dataclass(frozen=True, slots=True, kw_only=True)
class PckFields:
    """What Intel's extension says of a platform.

    Attributes:
        ppid: 16 bytes.
        components: SVNs of the 16 SGX components.
        pcesvn: SVN of the provisioning certification enclave.
        pceid: 2 bytes.
        fmspc: 6 bytes.
        sgx_type: 0 standard, 1 scalable, 2 scalable with integrity.
        platform_instance_id: 16 bytes; None leaves it and the configuration out, as the Processor CA does.
        configuration: dynamic platform, cached keys, SMT.
        subject_cn: common name.
        serial: serial number.
    """

    ppid: bytes = bytes(range(16))
    components: tuple[int, ...] = (7, 7, 2, 2, 3, 1, 0, 5, *[0] * 8)
    pcesvn: int = 13
    pceid: bytes = bytes(2)
    fmspc: bytes = bytes.fromhex("d0c100000000")
    sgx_type: int = 1
    platform_instance_id: bytes | None = bytes(range(16, 32))
    configuration: tuple[bool, bool, bool] = (True, False, True)
    subject_cn: str = PCK_CN
    serial: int = 0x1001


def derive_p256(secret: bytes, label: str) -> ec.EllipticCurvePrivateKey:
    """A key of the simulated platform.

    Args:
        secret: the platform's own, 32 bytes.
        label: what the key is for.
    """
    # 64 bits more than the order: the remainder is as good as uniform (FIPS 186-5 A.2.1).
    material = hashlib.shake_256(b"dokimos simulated TDX\x00" + label.encode() + b"\x00" + secret).digest(40)
    return ec.derive_private_key(int.from_bytes(material, "big") % (P256_ORDER - 1) + 1, ec.SECP256R1())


def name(common_name: str) -> x509.Name:
    """A name of the simulated platform."""
    return x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, ORGANIZATION),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "SIMULATED"),
            x509.NameAttribute(NameOID.COUNTRY_NAME, "US"),
        ]
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateFields:
    """One certificate of the hierarchy.

    Attributes:
        authority: the role, from which name and extensions follow.
        key: its own key.
        issuer: common name of the issuer.
        issuer_key: signs.
        not_before: start of validity.
        not_after: end of validity.
        serial: serial number.
        subject_cn: common name, or None for the role's own.
    """

    authority: TdxAuthority
    key: ec.EllipticCurvePrivateKey = field(repr=False)
    issuer: str = TdxAuthority.ROOT
    issuer_key: ec.EllipticCurvePrivateKey = field(repr=False)
    not_before: datetime
    not_after: datetime
    serial: int
    subject_cn: str | None = None


def certificate(fields: CertificateFields) -> bytes:
    """A CA certificate, or that of the signer of TCB info, in DER; the same bytes for the same fields."""
    authority = fields.authority
    signer = authority is TdxAuthority.TCB_SIGNING
    path = {TdxAuthority.ROOT: 1, TdxAuthority.TCB_SIGNING: None}.get(authority, 0)
    builder = (
        _builder(fields.subject_cn or str(authority), fields.issuer, fields.serial, fields.not_before, fields.not_after)
        .public_key(fields.key.public_key())
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(fields.issuer_key.public_key()), critical=False
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(fields.key.public_key()), critical=False)
        .add_extension(_usage(signs_data=signer, ca=not signer), critical=True)
        .add_extension(x509.BasicConstraints(ca=not signer, path_length=path), critical=True)
    )
    return builder.sign(fields.issuer_key, hashes.SHA256(), ecdsa_deterministic=True).public_bytes(Encoding.DER)


def pck_certificate(
    pck: PckFields,
    *,
    key: ec.EllipticCurvePrivateKey,
    issuer: str,
    issuer_key: ec.EllipticCurvePrivateKey,
    not_before: datetime,
    not_after: datetime,
) -> bytes:
    """A platform's PCK certificate in DER; the same bytes for the same values.

    Args:
        pck: what it says of the platform.
        key: the PCK.
        issuer: common name of the CA.
        issuer_key: the CA's key.
        not_before: start of validity.
        not_after: end of validity.
    """
    extension = x509.UnrecognizedExtension(x509.ObjectIdentifier(SGX_EXTENSION), sgx_extension(pck))
    builder = (
        _builder(pck.subject_cn, issuer, pck.serial, not_before, not_after)
        .public_key(key.public_key())
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(_usage(signs_data=True, ca=False), critical=True)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(extension, critical=False)
    )
    return builder.sign(issuer_key, hashes.SHA256(), ecdsa_deterministic=True).public_bytes(Encoding.DER)


def revocation_list(
    issuer: str,
    *,
    issuer_key: ec.EllipticCurvePrivateKey,
    this_update: datetime,
    next_update: datetime,
    revoked: Sequence[int] = (),
) -> bytes:
    """A revocation list in DER; the same bytes for the same values."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(name(issuer))
        .last_update(this_update)
        .next_update(next_update)
        .add_extension(x509.CRLNumber(1), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )
    for serial in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(this_update)
        builder = builder.add_revoked_certificate(entry.build())
    return builder.sign(issuer_key, hashes.SHA256(), ecdsa_deterministic=True).public_bytes(Encoding.DER)


def pem(*certificates: bytes) -> bytes:
    """Certificates in PEM, one after the other."""
    return b"".join(x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM) for der in certificates)


def _builder(subject: str, issuer: str, serial: int, start: datetime, end: datetime) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(name(subject))
        .issuer_name(name(issuer))
        .serial_number(serial)
        .not_valid_before(start)
        .not_valid_after(end)
    )


def _usage(*, signs_data: bool, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=signs_data,
        content_commitment=signs_data,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )


def sgx_extension(pck: PckFields) -> bytes:
    """Content of Intel's extension, written by pyasn1: another writer than the reader that verifiers use."""
    tcb: list[tuple[str, univ.Asn1ItemBase]] = [
        (f"2.{number}", univ.Integer(svn)) for number, svn in enumerate(pck.components, 1)
    ]
    cpusvn = bytes(min(svn, 0xFF) for svn in pck.components)
    tcb += [("2.17", univ.Integer(pck.pcesvn)), ("2.18", univ.OctetString(cpusvn))]
    fields: list[tuple[str, univ.Asn1ItemBase]] = [
        ("1", univ.OctetString(pck.ppid)),
        ("2", _pairs(tcb)),
        ("3", univ.OctetString(pck.pceid)),
        ("4", univ.OctetString(pck.fmspc)),
        ("5", univ.Enumerated(pck.sgx_type)),
    ]
    if pck.platform_instance_id is not None:
        flags = [(f"7.{number}", univ.Boolean(flag)) for number, flag in enumerate(pck.configuration, 1)]
        fields += [("6", univ.OctetString(pck.platform_instance_id)), ("7", _pairs(flags))]
    encoded: bytes = encoder.encode(_pairs(fields))
    return encoded


def _pairs(fields: Sequence[tuple[str, univ.Asn1ItemBase]]) -> univ.Sequence:
    outer = univ.Sequence()
    for place, (suffix, value) in enumerate(fields):
        pair = univ.Sequence()
        pair.setComponentByPosition(0, univ.ObjectIdentifier(f"{SGX_EXTENSION}.{suffix}"))
        pair.setComponentByPosition(1, value)
        outer.setComponentByPosition(place, pair)
    return outer
