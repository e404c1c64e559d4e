"""CA certificates and revocation lists that come with evidence.

Read with `cryptography` (RFC 5280 as usual; only AMD's leaves depart from it).  AMD's CAs are pinned by hash and need
none of this; the chain of a simulated platform, Intel's chains and every revocation list do.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from ..errors import MalformedEvidence
from . import der
from .leaf import Name, common_name, parse_name

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
    from cryptography.x509 import CertificateRevocationList

MAX_CERTIFICATE = 8192
"""Largest CA certificate in bytes that is read."""
MAX_CRL = 1 << 20
"""Largest revocation list in bytes that is read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ca:
    """A certificate of an issuer as received, all but its key; its signature is not verified here.

    Attributes:
        sha256: of the DER certificate.
        tbs: the signed part, as received.
        signature_algorithm: DER AlgorithmIdentifier.
        signature: over `tbs`.
        subject: sorted name, as :func:`.leaf.parse_name` gives it.
        issuer: sorted name.
        subject_cn: the subject's common name, or "".
        serial: serial number.
        not_before: start of validity, UTC.
        not_after: end of validity, UTC.
        is_ca: basic constraints say so.
        path_length: CAs that may follow below, or None for any number.
        key_cert_sign: key usage allows signing certificates.
        crl_sign: key usage allows signing revocation lists.
        digital_signature: key usage allows signing other data.
    """

    sha256: bytes
    tbs: bytes
    signature_algorithm: bytes
    signature: bytes
    subject: Name
    issuer: Name
    subject_cn: str
    serial: int
    not_before: datetime
    not_after: datetime
    is_ca: bool
    path_length: int | None
    key_cert_sign: bool
    crl_sign: bool
    digital_signature: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CaCertificate(Ca):
    """A CA of AMD's hierarchy, or of one like it.

    Attributes:
        public_key: RSA key of the subject.
    """

    public_key: RSAPublicKey


class Revoked:
    """The serial numbers of a revocation list; looked up in the list, since writing out a long one is slow."""

    __slots__ = ("_crl",)

    def __init__(self, crl: CertificateRevocationList) -> None:
        self._crl = crl

    def __contains__(self, serial: int) -> bool:
        return self._crl.get_revoked_certificate_by_serial_number(serial) is not None

    def on_hold(self, serial: int) -> bool:
        """Whether the list names this one, and as on hold only (RFC 5280 5.3.1)."""
        from cryptography import x509  # noqa: PLC0415 - it made the list, so it is there

        entry = self._crl.get_revoked_certificate_by_serial_number(serial)
        try:
            reason = entry.extensions.get_extension_for_class(x509.CRLReason) if entry is not None else None
        except x509.ExtensionNotFound:
            return False
        except _errors():  # an entry that cannot be read is no excuse
            return False
        return reason is not None and reason.value.reason is x509.ReasonFlags.certificate_hold

    def __iter__(self) -> Iterator[int]:
        return (entry.serial_number for entry in self._crl)

    def __len__(self) -> int:
        return len(self._crl)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Revoked) and self._crl == other._crl

    def __hash__(self) -> int:
        return hash(self._crl.signature)


@dataclass(frozen=True, slots=True, kw_only=True)
class Crl:
    """A revocation list as received; its signature is not verified here.

    Attributes:
        tbs: the signed part, as received.
        signature_algorithm: DER AlgorithmIdentifier.
        signature: over `tbs`.
        issuer: sorted name.
        issuer_cn: the issuer's common name, or "".
        this_update: time of issue, UTC.
        next_update: time by which the next one is due, UTC.
        revoked: serial numbers.
    """

    tbs: bytes
    signature_algorithm: bytes
    signature: bytes
    issuer: Name
    issuer_cn: str
    this_update: datetime
    next_update: datetime
    revoked: Revoked


def _signed(data: bytes, what: str) -> tuple[der.Tlv, bytes]:
    """The signed part and the signature algorithm of an X.509 object, as received: writing them anew costs more."""
    parts = der.children(der.only(data, der.SEQUENCE, what).value, what, 3)
    if len(parts) != 3:
        raise MalformedEvidence(f"{what}: not a signed X.509 object")
    return parts[0], parts[1].raw


def _names(tbs: der.Tlv, what: str) -> tuple[Name, Name]:
    """Issuer and subject of a certificate, as received; its serial must be positive.

    `cryptography` only warns of such a serial, and not for ever, and raises a TypeError on some names.
    """
    parts = der.children(tbs.value, what, 10)
    if parts and parts[0].tag == der.context(0):
        del parts[0]
    if [tlv.tag for tlv in parts[:6]] != [der.INTEGER, *[der.SEQUENCE] * 5]:
        raise MalformedEvidence(f"{what}: not a certificate")
    if der.integer(parts[0].value, what) <= 0:
        raise MalformedEvidence(f"{what}: the serial number is not positive (RFC 5280 4.1.2.2)")
    return parse_name(parts[2].value, what), parse_name(parts[4].value, what)


def _crl_issuer(tbs: der.Tlv, what: str) -> Name:
    """Issuer of a revocation list, as received: behind an optional version and the signature algorithm."""
    names = [tlv for tlv in der.children(tbs.value, what, 8) if tlv.tag == der.SEQUENCE][1:2]
    if not names:
        raise MalformedEvidence(f"{what}: not a revocation list")
    return parse_name(names[0].value, what)


def read_ca(data: bytes, what: str) -> tuple[dict[str, Any], CertificatePublicKeyTypes]:
    """The fields of :class:`Ca` of a certificate in DER, and its key.

    Raises:
        MalformedEvidence: not one, or an unknown critical extension.
    """
    from cryptography import x509  # noqa: PLC0415 - 60 ms that a report with pinned CAs need not pay

    if len(data) > MAX_CERTIFICATE:
        raise MalformedEvidence(f"{what}: larger than {MAX_CERTIFICATE} bytes")
    tbs, algorithm = _signed(data, what)
    issuer, subject = _names(tbs, what)
    try:
        certificate = x509.load_der_x509_certificate(data)
        key = certificate.public_key()
        extensions = {extension.oid: extension for extension in certificate.extensions}
        signature, serial = certificate.signature, certificate.serial_number
        not_before, not_after = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    except _errors() as exc:
        raise MalformedEvidence(f"{what}: {exc}") from exc
    constraints = extensions.pop(x509.BasicConstraints.oid, None)
    usage = extensions.pop(x509.KeyUsage.oid, None)
    if any(extension.critical for extension in extensions.values()):
        raise MalformedEvidence(f"{what}: an unknown critical extension")
    basic = constraints.value if constraints else None
    key_usage = usage.value if usage else None
    return {
        "sha256": sha256(data).digest(),
        "tbs": tbs.raw,
        "signature_algorithm": algorithm,
        "signature": signature,
        "subject": subject,
        "issuer": issuer,
        "subject_cn": common_name(subject),
        "serial": serial,
        "not_before": not_before,
        "not_after": not_after,
        "is_ca": isinstance(basic, x509.BasicConstraints) and basic.ca,
        "path_length": basic.path_length if isinstance(basic, x509.BasicConstraints) else None,
        "key_cert_sign": isinstance(key_usage, x509.KeyUsage) and key_usage.key_cert_sign,
        "crl_sign": isinstance(key_usage, x509.KeyUsage) and key_usage.crl_sign,
        "digital_signature": isinstance(key_usage, x509.KeyUsage) and key_usage.digital_signature,
    }, key


def parse_ca(data: bytes) -> CaCertificate:
    """Read a CA certificate in DER.

    Raises:
        MalformedEvidence: not one, an unknown critical extension, or a key that is not RSA-4096.
    """
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey  # noqa: PLC0415 - as above

    fields, key = read_ca(data, "CA certificate")
    if not isinstance(key, RSAPublicKey) or key.key_size != 4096:
        raise MalformedEvidence("CA certificate: the key is not RSA-4096")
    return CaCertificate(**fields, public_key=key)


def _errors() -> tuple[type[Exception], ...]:
    """What `cryptography` raises on bytes that are not what they should be; TypeError on names inside extensions."""
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415 - with the import of x509
    from cryptography.x509 import DuplicateExtension, InvalidVersion  # noqa: PLC0415 - as above

    return ValueError, TypeError, DuplicateExtension, InvalidVersion, UnsupportedAlgorithm


def parse_crl(data: bytes) -> Crl:
    """Read a revocation list in DER.

    Raises:
        MalformedEvidence: not one, no nextUpdate, or a critical extension: a delta or indirect list, which would
            have to be read in another way.
    """
    from cryptography import x509  # noqa: PLC0415 - as above

    what = "CRL"
    if len(data) > MAX_CRL:
        raise MalformedEvidence(f"{what}: larger than {MAX_CRL} bytes")
    tbs, algorithm = _signed(data, what)
    issuer = _crl_issuer(tbs, what)
    try:
        crl = x509.load_der_x509_crl(data)
        critical = any(extension.critical for extension in crl.extensions)
        this_update, next_update = crl.last_update_utc, crl.next_update_utc
        signature = crl.signature
    except _errors() as exc:
        raise MalformedEvidence(f"{what}: {exc}") from exc
    if critical:
        raise MalformedEvidence(f"{what}: a critical extension, as delta and indirect lists have")
    if next_update is None:
        raise MalformedEvidence(f"{what}: no nextUpdate, so its freshness cannot be judged")
    return Crl(
        tbs=tbs.raw,
        signature_algorithm=algorithm,
        signature=signature,
        issuer=issuer,
        issuer_cn=common_name(issuer),
        this_update=this_update,
        next_update=next_update,
        revoked=Revoked(crl),
    )
