"""Certificates and signatures of Intel's hierarchy: all keys are P-256, all signatures ECDSA with SHA-256."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class CaP256:
    """A root, a CA or a signer of collateral as received; its signature is not verified here.

    Attributes:
        sha256: of the DER certificate.
        tbs: the signed part, as received.
        signature_algorithm: DER AlgorithmIdentifier, the same inside and outside of the signed part.
        signature: over `tbs`, DER.
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
        digital_signature: key usage allows signing data.
        spki_sha256: SHA-256 of the DER SubjectPublicKeyInfo.
        public_point: x and y of the P-256 key, 64 bytes.
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
    digital_signature: bool
    spki_sha256: bytes
    public_point: bytes


def parse_ca_p256(data: bytes) -> CaP256:
    """Read a certificate of a root, a CA or a signer in DER.

    Raises:
        MalformedEvidence: not one, an unknown critical extension, another key than P-256, or another signature
            algorithm than ECDSA with SHA-256.
    """
    raise NotImplementedError


def verify_der(point: bytes, signature: bytes, data: bytes) -> bool:
    """Whether the DER signature over SHA-256 of `data` is by the key with these 64 bytes x and y."""
    raise NotImplementedError


def verify_raw(point: bytes, signature: bytes, data: bytes) -> bool:
    """Whether the 64 bytes r and s over SHA-256 of `data` are by the key with these 64 bytes x and y."""
    raise NotImplementedError
