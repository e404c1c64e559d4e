"""CA certificates and revocation lists that come with evidence.

Read with `cryptography` (RFC 5280 as usual; only AMD's leaves depart from it).  AMD's CAs are pinned by hash and need
none of this; the chain of a simulated platform and every revocation list do.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import TYPE_CHECKING

from ..errors import MalformedEvidence
from . import der
from .vek import parse_name

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

MAX_CERTIFICATE = 8192
"""Largest CA certificate in bytes that is read."""
MAX_CRL = 1 << 20
"""Largest revocation list in bytes that is read."""

_COMMON_NAME = "2.5.4.3"


@dataclass(frozen=True, slots=True, kw_only=True)
class CaCertificate:
    """A CA certificate as received; its signature is not verified here.

    Attributes:
        sha256: of the DER certificate.
        tbs: the signed part, as received.
        signature_algorithm: DER AlgorithmIdentifier.
        signature: over `tbs`.
        subject: sorted name, as :func:`.vek.parse_name` gives it.
        issuer: sorted name.
        subject_cn: the subject's common name, or "".
        serial: serial number.
        not_before: start of validity, UTC.
        not_after: end of validity, UTC.
        is_ca: basic constraints say so.
        path_length: CAs that may follow below, or None for any number.
        key_cert_sign: key usage allows signing certificates.
        crl_sign: key usage allows signing revocation lists.
        public_key: RSA key of the subject.
    """

    sha256: bytes
    tbs: bytes
    signature_algorithm: bytes
    signature: bytes
    subject: tuple[tuple[str, str], ...]
    issuer: tuple[tuple[str, str], ...]
    subject_cn: str
    serial: int
    not_before: datetime
    not_after: datetime
    is_ca: bool
    path_length: int | None
    key_cert_sign: bool
    crl_sign: bool
    public_key: RSAPublicKey


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
    issuer: tuple[tuple[str, str], ...]
    issuer_cn: str
    this_update: datetime
    next_update: datetime
    revoked: frozenset[int]


def _algorithm(data: bytes, what: str) -> bytes:
    """The signature algorithm of a signed X.509 object, as received."""
    parts = der.children(der.only(data, der.SEQUENCE, what).value, what, 3)
    if len(parts) != 3:
        raise MalformedEvidence(f"{what}: not a signed X.509 object")
    return parts[1].raw


def _positive_serial(data: bytes, what: str) -> None:
    """RFC 5280 4.1.2.2; `cryptography` only warns of it, and not for ever."""
    tbs = der.children(der.only(data, der.SEQUENCE, what).value, what, 3)[0]
    serials = [tlv for tlv in der.children(tbs.value, what) if tlv.tag == der.INTEGER]
    if not serials or der.integer(serials[0].value, what) <= 0:
        raise MalformedEvidence(f"{what}: the serial number is not positive (RFC 5280 4.1.2.2)")


def _name(encoded: bytes, what: str) -> tuple[tuple[str, str], ...]:
    return parse_name(der.only(encoded, der.SEQUENCE, what).value, what)


def parse_ca(data: bytes) -> CaCertificate:
    """Read a CA certificate in DER.

    Raises:
        MalformedEvidence: not one, an unknown critical extension, or a key that is not RSA-4096.
    """
    from cryptography import x509  # noqa: PLC0415 - 60 ms that a report with pinned CAs need not pay
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey  # noqa: PLC0415

    what = "CA certificate"
    if len(data) > MAX_CERTIFICATE:
        raise MalformedEvidence(f"{what}: larger than {MAX_CERTIFICATE} bytes")
    algorithm = _algorithm(data, what)
    _positive_serial(data, what)
    try:
        certificate = x509.load_der_x509_certificate(data)
        key = certificate.public_key()
        extensions = {extension.oid: extension for extension in certificate.extensions}
        subject = _name(certificate.subject.public_bytes(), what)
        issuer = _name(certificate.issuer.public_bytes(), what)
        tbs, signature = certificate.tbs_certificate_bytes, certificate.signature
        not_before, not_after = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    except (ValueError, x509.DuplicateExtension, x509.InvalidVersion, _unsupported()) as exc:
        raise MalformedEvidence(f"{what}: {exc}") from exc
    if not isinstance(key, RSAPublicKey) or key.key_size != 4096:
        raise MalformedEvidence(f"{what}: the key is not RSA-4096")
    constraints = extensions.pop(x509.BasicConstraints.oid, None)
    usage = extensions.pop(x509.KeyUsage.oid, None)
    if any(extension.critical for extension in extensions.values()):
        raise MalformedEvidence(f"{what}: an unknown critical extension")
    basic = constraints.value if constraints else None
    key_usage = usage.value if usage else None
    return CaCertificate(
        sha256=sha256(data).digest(),
        tbs=tbs,
        signature_algorithm=algorithm,
        signature=signature,
        subject=subject,
        issuer=issuer,
        subject_cn=dict(subject).get(_COMMON_NAME, ""),
        serial=certificate.serial_number,
        not_before=not_before,
        not_after=not_after,
        is_ca=isinstance(basic, x509.BasicConstraints) and basic.ca,
        path_length=basic.path_length if isinstance(basic, x509.BasicConstraints) else None,
        key_cert_sign=isinstance(key_usage, x509.KeyUsage) and key_usage.key_cert_sign,
        crl_sign=isinstance(key_usage, x509.KeyUsage) and key_usage.crl_sign,
        public_key=key,
    )


def _unsupported() -> type[Exception]:
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415 - with the import of x509

    return UnsupportedAlgorithm


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
    algorithm = _algorithm(data, what)
    try:
        crl = x509.load_der_x509_crl(data)
        critical = any(extension.critical for extension in crl.extensions)
        issuer = _name(crl.issuer.public_bytes(), what)
        revoked = frozenset(entry.serial_number for entry in crl)
        this_update, next_update = crl.last_update_utc, crl.next_update_utc
        tbs, signature = crl.tbs_certlist_bytes, crl.signature
    except (ValueError, x509.DuplicateExtension, x509.InvalidVersion, _unsupported()) as exc:
        raise MalformedEvidence(f"{what}: {exc}") from exc
    if critical:
        raise MalformedEvidence(f"{what}: a critical extension, as delta and indirect lists have")
    if next_update is None:
        raise MalformedEvidence(f"{what}: no nextUpdate, so its freshness cannot be judged")
    return Crl(
        tbs=tbs,
        signature_algorithm=algorithm,
        signature=signature,
        issuer=issuer,
        issuer_cn=dict(issuer).get(_COMMON_NAME, ""),
        this_update=this_update,
        next_update=next_update,
        revoked=revoked,
    )
