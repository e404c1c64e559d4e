"""Writes TDX quotes byte for byte: versions 4 and 5, TD reports 1.0 and 1.5, every kind of certification data.

Sources: as :mod:`dokimos.evidence.tdx`, whose reader these writers do not share.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from hashlib import sha256

from cryptography.hazmat.primitives.asymmetric import ec

from ..errors import UsageError
from .sim_tdx_collateral import raw_signature

QE_VENDOR = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")
SEPT_VE_DISABLE = 1 << 28
QE_MRSIGNER = bytes.fromhex("dc9e2a7c6f948f17474e34a7fc43ed030f7c1563f1babddf6340c82e0e54a8c5")
"""MRSIGNER of Intel's quoting enclave for TDX, as in real quotes."""

_HEADER = struct.Struct("<H H I H H 16s 20s")
_QE_REPORT = struct.Struct("<16s 4s 28x 16s 32s 32x 32s 96x H H 60x 64s")


@dataclass(frozen=True, slots=True, kw_only=True)
class TdFields:
    """The body of a quote; names and sizes as :class:`dokimos.evidence.tdx.TdReport`.

    Attributes:
        tee_tcb_svn2: 16 bytes make it a TD report 1.5; None a TD report 1.0.
        mr_servicetd: only in a TD report 1.5.
    """

    tee_tcb_svn: bytes = bytes((5, 1, 6, *[0] * 13))
    mrseam: bytes = bytes.fromhex("5e" * 48)
    mrsignerseam: bytes = bytes(48)
    seamattributes: bytes = bytes(8)
    td_attributes: int = SEPT_VE_DISABLE
    xfam: int = 0x602E7
    mrtd: bytes = bytes(48)
    mrconfigid: bytes = bytes(48)
    mrowner: bytes = bytes(48)
    mrownerconfig: bytes = bytes(48)
    rtmrs: tuple[bytes, bytes, bytes, bytes] = (bytes(48), bytes(48), bytes(48), bytes(48))
    report_data: bytes = bytes(64)
    tee_tcb_svn2: bytes | None = None
    mr_servicetd: bytes = bytes(48)


@dataclass(frozen=True, slots=True, kw_only=True)
class QeFields:
    """The report of the quoting enclave, without the hash that it carries of the attestation key."""

    cpusvn: bytes = bytes((7, 7, 2, 2, 3, 1, 0, 5, *[0] * 8))
    miscselect: bytes = bytes(4)
    attributes: bytes = bytes.fromhex("1500000000000000e700000000000000")
    mrenclave: bytes = bytes.fromhex("e5" * 32)
    mrsigner: bytes = QE_MRSIGNER
    isvprodid: int = 2
    isvsvn: int = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class QuoteFields:
    """All of a quote but its signatures.

    Attributes:
        version: 4 or 5; a TD report 1.5 needs 5.
        td: the body.
        qe: the quoting enclave's report.
        auth_data: what the enclave hashes behind the attestation key.
        certification: type and data of the certification of the enclave's report.
        tee_type: 0x81.
        key_type: 2.
        qe_vendor: 16 bytes.
        user_data: 20 bytes.
    """

    version: int = 4
    td: TdFields
    qe: QeFields = QeFields()
    auth_data: bytes = bytes(range(32))
    certification: tuple[int, bytes]
    tee_type: int = 0x81
    key_type: int = 2
    qe_vendor: bytes = QE_VENDOR
    user_data: bytes = bytes(20)


def td_body(td: TdFields) -> bytes:
    """The 584 or 648 bytes of a TD report.

    Raises:
        UsageError: a field of another size.
    """
    parts = (
        (td.tee_tcb_svn, 16),
        (td.mrseam, 48),
        (td.mrsignerseam, 48),
        (td.seamattributes, 8),
        (td.td_attributes.to_bytes(8, "little"), 8),
        (td.xfam.to_bytes(8, "little"), 8),
        (td.mrtd, 48),
        (td.mrconfigid, 48),
        (td.mrowner, 48),
        (td.mrownerconfig, 48),
        *((rtmr, 48) for rtmr in td.rtmrs),
        (td.report_data, 64),
    )
    if td.tee_tcb_svn2 is not None:
        parts = (*parts, (td.tee_tcb_svn2, 16), (td.mr_servicetd, 48))
    if any(len(part) != size for part, size in parts):
        raise UsageError("a field of the TD report has another size than its place")
    return b"".join(part for part, _ in parts)


def signed_part(fields: QuoteFields) -> bytes:
    """Header, descriptor (version 5) and body: what the attestation key signs."""
    body = td_body(fields.td)
    header = _HEADER.pack(fields.version, fields.key_type, fields.tee_type, 0, 0, fields.qe_vendor, fields.user_data)
    if fields.version == 4:
        return header + body
    return header + struct.pack("<H I", 2 if fields.td.tee_tcb_svn2 is None else 3, len(body)) + body


def write_quote(
    fields: QuoteFields,
    *,
    attestation_key: ec.EllipticCurvePrivateKey,
    pck: ec.EllipticCurvePrivateKey,
    bound_key: bytes | None = None,
) -> bytes:
    """A quote, really signed; the same bytes for the same values.

    Args:
        fields: what it says.
        attestation_key: signs header and body.
        pck: signs the quoting enclave's report.
        bound_key: the key that the enclave's report names, 64 bytes; None for the attestation key.
    """
    point = public_point(attestation_key)
    binding = sha256((bound_key or point) + fields.auth_data).digest().ljust(64, b"\0")
    qe = fields.qe
    report = _QE_REPORT.pack(
        qe.cpusvn, qe.miscselect, qe.attributes, qe.mrenclave, qe.mrsigner, qe.isvprodid, qe.isvsvn, binding
    )
    kind, data = fields.certification
    inner = report + raw_signature(pck, report) + struct.pack("<H", len(fields.auth_data)) + fields.auth_data
    inner += struct.pack("<H I", kind, len(data)) + data
    signed = signed_part(fields)
    auth = raw_signature(attestation_key, signed) + point + struct.pack("<H I", 6, len(inner)) + inner
    return signed + struct.pack("<I", len(auth)) + auth


def public_point(key: ec.EllipticCurvePrivateKey) -> bytes:
    """x || y, 32 bytes each, big-endian."""
    numbers = key.public_key().public_numbers()
    return numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big")
