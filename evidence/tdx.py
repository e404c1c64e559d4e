"""The TDX quote: format only, no verdict.

Sources: Intel's TDX DCAP quoting library API (quote versions 4 and 5) and the TDX module ABI (TD report).  Integers are
little-endian.  The raw bytes are kept: signatures are checked over them, never over a re-serialisation.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from .tdx_bits import TdAttributes, Xfam

QUOTE_MAX = 0x10000
"""Longest quote that is looked at, with what follows it."""
HEADER_SIZE = 48
QE_REPORT_SIZE = 384
VERSIONS = (4, 5)
"""Quote versions that this module reads."""
TEE_TYPE_TDX = 0x81
KEY_TYPE_P256 = 2
"""ECDSA P-256 with SHA-256, the only attestation key type in use."""
INTEL_QE_VENDOR = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")


class BodyType(IntEnum):
    """What a quote of version 5 says that its body is; version 4 has TD10 always."""

    TD10 = 2
    TD15 = 3


class CertificationType(IntEnum):
    """What certifies the key of the quoting enclave."""

    PPID = 1
    PPID_RSA_2048 = 2
    PPID_RSA_3072 = 3
    PCK_LEAF = 4
    PCK_CHAIN = 5
    QE_REPORT = 6
    PLATFORM_MANIFEST = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class TdReport:
    """The body of a quote, what the TDX module says about the TD; nothing in it is verified.

    Attributes:
        raw: the 584 or 648 bytes.
        tee_tcb_svn: 16 security version numbers: module, module's major version, SEAM loader.
        mrseam: measurement of the TDX module.
        mrsignerseam: measurement of the module's signer; zero for Intel's.
        seamattributes: 8 bytes as stored.
        tee_tcb_svn2: the SVNs of now, where the module was updated after the launch; None in TD10.
        mr_servicetd: hash over the service TDs bound to this one; None in TD10.
    """

    raw: bytes
    tee_tcb_svn: bytes  # 0
    mrseam: bytes  # 16
    mrsignerseam: bytes  # 64
    seamattributes: bytes  # 112
    td_attributes: TdAttributes  # 120
    xfam: Xfam  # 128
    mrtd: bytes  # 136
    mrconfigid: bytes  # 184
    mrowner: bytes  # 232
    mrownerconfig: bytes  # 280
    rtmrs: tuple[bytes, bytes, bytes, bytes]  # 328
    report_data: bytes  # 520
    tee_tcb_svn2: bytes | None  # 584
    mr_servicetd: bytes | None  # 600


@dataclass(frozen=True, slots=True, kw_only=True)
class QeReport:
    """The SGX report of the quoting enclave.

    Attributes:
        raw: the 384 bytes, which the PCK signed.
        miscselect: 4 bytes as stored.
        attributes: 16 bytes as stored: flags and XFRM.
        report_data: SHA-256 of attestation key and authentication data, then 32 zero bytes.
    """

    raw: bytes
    cpusvn: bytes  # 0
    miscselect: bytes  # 16
    attributes: bytes  # 48
    mrenclave: bytes  # 64
    mrsigner: bytes  # 128
    isvprodid: int  # 256
    isvsvn: int  # 258
    report_data: bytes  # 320


@dataclass(frozen=True, slots=True, kw_only=True)
class Certification:
    """What certifies the key that signed the quoting enclave's report.

    Attributes:
        type: 1 to 5 or 7 (:class:`CertificationType`).
        data: as received; type 5 is PEM (leaf, CA, root), often with a NUL behind it.
    """

    type: int
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class TdQuote:
    """A TDX quote as received; nothing in it is verified.

    Attributes:
        raw: the quote without what followed it.
        trailing: bytes that followed; buffers of fixed size leave some, and nothing signs them.
        version: 4 or 5.
        signed: header, body descriptor (version 5) and body: what the attestation key signed.
        signature: r || s, big-endian, 32 bytes each.
        attestation_key: x || y, big-endian, 32 bytes each.
        qe_report_signature: r || s by the PCK over ``qe_report.raw``.
        qe_auth_data: what the quoting enclave hashed behind the attestation key; any length.
    """

    raw: bytes
    trailing: int
    version: int
    body_type: BodyType
    qe_vendor_id: bytes
    user_data: bytes
    body: TdReport
    signed: bytes
    signature: bytes
    attestation_key: bytes
    qe_report: QeReport
    qe_report_signature: bytes
    qe_auth_data: bytes
    certification: Certification


def parse_quote(data: bytes) -> TdQuote:
    """Read a TDX quote of version 4 or 5.

    Raises:
        MalformedEvidence: a form that the standard does not allow (``tdx.quote.format``).
        UnsupportedEvidence: another version, TEE, body or key type, each by name and with its own check id.
    """
    raise NotImplementedError


def parse_td_body(data: bytes, body_type: BodyType) -> TdReport:
    """Read the body of a quote.

    Raises:
        MalformedEvidence: another size than that of the body type (``tdx.quote.format``).
    """
    raise NotImplementedError
