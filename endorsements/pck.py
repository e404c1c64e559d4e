"""PCK certificates: the leaf that endorses the key with which a platform's PCE signs a quoting enclave's report.

Source: Intel, "SGX PCK Certificate and Certificate Revocation List Profile Specification" 1.5.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

MAX_SIZE = 8192
"""A leaf is 1.3 KiB; anything above this many bytes is refused before it is read."""


class PckCa(StrEnum):
    """The two CAs that issue PCK certificates, as the provisioning service names them."""

    PROCESSOR = "processor"
    """Single-socket platforms; its certificates name no platform instance."""
    PLATFORM = "platform"
    """Multi-package platforms, and so every platform with TDX."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pck:
    """A leaf certificate as received; its signature is not verified here.

    Attributes:
        raw: the DER certificate.
        tbs: the signed part of it, as received.
        signature: the issuer's signature over `tbs`: ECDSA with SHA-256, DER.
        issuer: attribute types and values of the issuer's name, sorted.
        issuer_cn: the issuer's common name.
        subject_cn: the subject's common name, or "".
        serial: serial number.
        not_before: start of validity, UTC.
        not_after: end of validity, UTC.
        public_point: x and y of the P-256 key, 64 bytes.
        ppid: 16 bytes that name the platform's provisioning key.
        components: the 16 component SVNs (extension .2.1 to .2.16), 0 to 255 each.
        pcesvn: SVN of the provisioning certification enclave.
        cpusvn: the raw CPUSVN of which `components` is Intel's decoding, 16 bytes.
        pceid: id of the provisioning certification enclave, 2 bytes as they stand in the certificate.
        fmspc: family, model, stepping, platform type and custom SKU, 6 bytes.
        sgx_type: 0 standard, 1 scalable, 2 scalable with integrity.
        platform_instance_id: 16 bytes, or None if the Processor CA issued it.
        dynamic_platform: packages can be added to it, or None if the certificate does not say.
        cached_keys: Intel keeps the platform's root keys, or None if the certificate does not say.
        smt: simultaneous multithreading is on, or None if the certificate does not say.
        ca: which of Intel's two CAs issued it, by the issuer's common name.
    """

    raw: bytes
    tbs: bytes
    signature: bytes
    issuer: tuple[tuple[str, str], ...]
    issuer_cn: str
    subject_cn: str
    serial: int
    not_before: datetime
    not_after: datetime
    public_point: bytes
    ppid: bytes
    components: tuple[int, ...]
    pcesvn: int
    cpusvn: bytes
    pceid: bytes
    fmspc: bytes
    sgx_type: int
    platform_instance_id: bytes | None
    dynamic_platform: bool | None
    cached_keys: bool | None
    smt: bool | None
    ca: PckCa


def parse_pck(data: bytes) -> Pck:
    """Read a PCK certificate in DER.

    Raises:
        MalformedEvidence: not such a certificate (``tdx.pck.format``).
    """
    raise NotImplementedError
