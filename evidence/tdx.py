"""The TDX quote: format only, no verdict.

Sources: Intel's TDX DCAP quoting library API (quote versions 4 and 5) and the TDX module ABI (TD report).  Integers are
little-endian.  The raw bytes are kept: signatures are checked over them, never over a re-serialisation.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

from ..errors import Check, MalformedEvidence, UnsupportedEvidence
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


# Fixed layouts; "x" is reserved.  One pass over each, since quotes are parsed by the ten thousand.
_HEADER = struct.Struct("<H H I 4x 16s 20s")
_DESCRIPTOR = struct.Struct("<H I")
_TD10 = struct.Struct("<16s 48s 48s 8s Q Q 48s 48s 48s 48s 48s 48s 48s 48s 64s")
_TD15_TAIL = struct.Struct("<16s 48s")
_AUTH = struct.Struct("<64s 64s H I")
_QE = struct.Struct("<384s 64s H")
_QE_REPORT = struct.Struct("<16s 4s 28x 16s 32s 32x 32s 96x H H 60x 64s")
_CERTIFICATION = struct.Struct("<H I")

_BODY_SIZE = {BodyType.TD10: _TD10.size, BodyType.TD15: _TD10.size + _TD15_TAIL.size}
if (_HEADER.size, *_BODY_SIZE.values(), _QE_REPORT.size) != (HEADER_SIZE, 584, 648, QE_REPORT_SIZE):
    raise AssertionError("the layouts do not add up")

_SGX_VERSION = 3
_TEE_TYPES = {0: "an Intel SGX enclave"}
_KEY_TYPES = {0: "EPID, unlinkable", 1: "EPID, linkable", 3: "ECDSA P-384"}
_BODY_TYPES = {1: "SGX enclave report", 4: "TD report 1.5, extended"}
_INNER_TYPES = frozenset(CertificationType) - {CertificationType.QE_REPORT}


def _malformed(message: str) -> MalformedEvidence:
    return MalformedEvidence(f"TDX quote: {message}", check=Check.TDX_QUOTE_FORMAT)


def _read_header(raw: bytes) -> tuple[int, bytes, bytes]:
    """Version, QE vendor and user data; refuses what is no TDX quote of ours, by name."""
    if len(raw) < HEADER_SIZE:
        raise _malformed(f"{HEADER_SIZE} bytes of header wanted, {len(raw)} there")
    version, key_type, tee_type, vendor, user_data = _HEADER.unpack_from(raw)
    if version in VERSIONS and tee_type == TEE_TYPE_TDX and key_type == KEY_TYPE_P256:
        return version, vendor, user_data
    # Version 3 has no field for the TEE: it is SGX always.
    tee = _TEE_TYPES[0] if version == _SGX_VERSION else _TEE_TYPES.get(tee_type, f"TEE type {tee_type:#x}")
    if version == _SGX_VERSION or (version in VERSIONS and tee_type != TEE_TYPE_TDX):
        raise UnsupportedEvidence(
            f"the quote (version {version}) is of {tee}, not of a TDX trust domain", check=Check.TDX_QUOTE_TEE_TYPE
        )
    if version not in VERSIONS:
        raise UnsupportedEvidence(
            f"TDX quote version {version}; {VERSIONS[0]} and {VERSIONS[-1]} are supported",
            check=Check.TDX_QUOTE_VERSION,
        )
    raise UnsupportedEvidence(
        f"attestation key type {key_type} ({_KEY_TYPES.get(key_type, 'unknown')}); 2 (ECDSA P-256) is supported",
        check=Check.TDX_QUOTE_KEY_TYPE,
    )


def _body_at(raw: bytes, version: int) -> tuple[BodyType, int]:
    """Type and offset of the body."""
    if version == VERSIONS[0]:
        return BodyType.TD10, HEADER_SIZE
    start = HEADER_SIZE + _DESCRIPTOR.size
    if len(raw) < start:
        raise _malformed("cut off before the type and size of the body")
    number, size = _DESCRIPTOR.unpack_from(raw, HEADER_SIZE)
    if number == BodyType.TD15:
        body_type = BodyType.TD15
    elif number == BodyType.TD10:
        body_type = BodyType.TD10
    else:
        raise UnsupportedEvidence(
            f"body type {number} ({_BODY_TYPES.get(number, 'unknown')}); 2 (TD 1.0) and 3 (TD 1.5) are supported",
            check=Check.TDX_QUOTE_BODY_TYPE,
        )
    if size != _BODY_SIZE[body_type]:
        raise _malformed(f"body type {number} has {_BODY_SIZE[body_type]} bytes, the quote says {size}")
    return body_type, start


def parse_quote(data: bytes) -> TdQuote:
    """Read a TDX quote of version 4 or 5.

    Raises:
        MalformedEvidence: a form that the standard does not allow (``tdx.quote.format``).
        UnsupportedEvidence: another version, TEE, body or key type, each by name and with its own check id.
    """
    if len(data) > QUOTE_MAX:
        raise _malformed(f"{len(data)} bytes, more than {QUOTE_MAX}")
    raw = bytes(data)
    version, vendor, user_data = _read_header(raw)
    body_type, start = _body_at(raw, version)
    signed_size = start + _BODY_SIZE[body_type]
    auth = signed_size + 4
    if len(raw) < auth:
        raise _malformed(f"{auth} bytes up to the signature data wanted, {len(raw)} there")
    end = auth + int.from_bytes(raw[signed_size:auth], "little")
    if end > len(raw):
        raise _malformed(f"{end - auth} bytes of signature data announced, {len(raw) - auth} there")
    if end < auth + _AUTH.size:
        raise _malformed(f"{_AUTH.size} bytes of signature data wanted, {end - auth} announced")
    signature, attestation_key, outer_type, outer_size = _AUTH.unpack_from(raw, auth)
    inner = auth + _AUTH.size
    if outer_type != CertificationType.QE_REPORT:
        raise _malformed(f"certification data of type {outer_type}; 6 (report of the quoting enclave) wanted")
    if outer_size != end - inner:
        raise _malformed(f"{outer_size} bytes of certification data announced, {end - inner} there")
    qe_report, qe_report_signature, qe_auth_data, certification = _read_certification(raw, inner, end)
    return TdQuote(
        raw=raw[:end],
        trailing=len(raw) - end,
        version=version,
        body_type=body_type,
        qe_vendor_id=vendor,
        user_data=user_data,
        body=_read_body(raw[start:signed_size], body_type),
        signed=raw[:signed_size],
        signature=signature,
        attestation_key=attestation_key,
        qe_report=qe_report,
        qe_report_signature=qe_report_signature,
        qe_auth_data=qe_auth_data,
        certification=certification,
    )


def _read_certification(raw: bytes, start: int, end: int) -> tuple[QeReport, bytes, bytes, Certification]:
    """The quoting enclave's report with all that certifies it; every byte up to `end` must belong to it."""
    if end - start < _QE.size:
        raise _malformed(f"{_QE.size} bytes for the quoting enclave's report wanted, {end - start} there")
    report, report_signature, auth_size = _QE.unpack_from(raw, start)
    auth = start + _QE.size
    inner = auth + auth_size
    if end - inner < _CERTIFICATION.size:
        raise _malformed(f"{auth_size} bytes of authentication data leave no room for the inner certification data")
    inner_type, inner_size = _CERTIFICATION.unpack_from(raw, inner)
    if inner_type not in _INNER_TYPES:
        raise _malformed(f"inner certification data of type {inner_type}; 1 to 5 and 7 may stand here")
    rest = inner + _CERTIFICATION.size
    if inner_size != end - rest:
        raise _malformed(f"{inner_size} bytes of inner certification data announced, {end - rest} there")
    return (
        _read_qe_report(report),
        report_signature,
        raw[auth:inner],
        Certification(type=inner_type, data=raw[rest:end]),
    )


def _read_qe_report(raw: bytes) -> QeReport:
    cpusvn, miscselect, attributes, mrenclave, mrsigner, isvprodid, isvsvn, report_data = _QE_REPORT.unpack(raw)
    return QeReport(
        raw=raw,
        cpusvn=cpusvn,
        miscselect=miscselect,
        attributes=attributes,
        mrenclave=mrenclave,
        mrsigner=mrsigner,
        isvprodid=isvprodid,
        isvsvn=isvsvn,
        report_data=report_data,
    )


def parse_td_body(data: bytes, body_type: BodyType) -> TdReport:
    """Read the body of a quote.

    Raises:
        MalformedEvidence: another size than that of the body type (``tdx.quote.format``).
    """
    if len(data) != _BODY_SIZE[body_type]:
        raise MalformedEvidence(
            f"TD report: {_BODY_SIZE[body_type]} bytes wanted, {len(data)} given", check=Check.TDX_QUOTE_FORMAT
        )
    return _read_body(bytes(data), body_type)


def _read_body(raw: bytes, body_type: BodyType) -> TdReport:
    # fmt: off
    (tee_tcb_svn, mrseam, mrsignerseam, seamattributes, td_attributes, xfam, mrtd, mrconfigid, mrowner, mrownerconfig,
     rtmr0, rtmr1, rtmr2, rtmr3, report_data) = _TD10.unpack_from(raw)
    # fmt: on
    tee_tcb_svn2, mr_servicetd = _TD15_TAIL.unpack_from(raw, _TD10.size) if body_type is BodyType.TD15 else (None, None)
    return TdReport(
        raw=raw,
        tee_tcb_svn=tee_tcb_svn,
        mrseam=mrseam,
        mrsignerseam=mrsignerseam,
        seamattributes=seamattributes,
        td_attributes=TdAttributes(td_attributes),
        xfam=Xfam(xfam),
        mrtd=mrtd,
        mrconfigid=mrconfigid,
        mrowner=mrowner,
        mrownerconfig=mrownerconfig,
        rtmrs=(rtmr0, rtmr1, rtmr2, rtmr3),
        report_data=report_data,
        tee_tcb_svn2=tee_tcb_svn2,
        mr_servicetd=mr_servicetd,
    )
