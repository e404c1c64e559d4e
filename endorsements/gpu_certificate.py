"""Certificates of NVIDIA's two hierarchies: of GPUs and switches, and of reference integrity manifests (RIMs).

Read with our own reader of DER: only the two certificates of a device's own are new in each chain, and taking one apart
must cost less than verifying its signature.  The leaf of a device says which firmware it is of (a FWID), in an
extension of TCG DICE that is one on Hopper and the switches and another on Blackwell.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from hashlib import sha256

from ..codec import pem_or_der
from ..errors import MalformedEvidence
from . import der
from .leaf import Leaf, Name, common_name, named_extensions, split_leaf
from .p384 import ECDSA_SHA384, POINT_SIZE, SPKI_PREFIX

CHAIN_MAX = 0x8000
"""Most bytes of a chain in PEM."""
CERTIFICATES_MAX = 8
"""Most certificates of a chain; devices have five and RIMs four."""
OPERATIONAL_FLAGS = ("not_configured", "not_secure", "recovery", "debug")
"""Names of the first bits of DICE's OperationalFlags, from the first one on."""

_SHA384 = bytes.fromhex("608648016503040202")
_FWID_SIZE = 48
_CA_LENGTH_MAX = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class DiceTcbInfo:
    """DiceTcbInfo (TCG, DICE attestation architecture 1.1, 6.1.1) of a Blackwell GPU's leaf.

    Attributes:
        vendor: of the device.
        model: of the device.
        version: of the firmware.
        svn: security version number of the firmware.
        layer: layer of the firmware.
        index: which of its kind in that layer.
        fwids: digests of the firmware, SHA-384 each.
        flags: those of :data:`OPERATIONAL_FLAGS` that are set.
        flags_raw: all flags, the first one in the highest of 32 bits.
    """

    vendor: str | None
    model: str | None
    version: str | None
    svn: int | None
    layer: int | None
    index: int | None
    fwids: tuple[bytes, ...]
    flags: frozenset[str]
    flags_raw: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuCertificate:
    """A certificate as received; its signature is not verified here.

    Attributes:
        raw: the DER certificate.
        sha256: of the DER certificate.
        tbs: the signed part, as received.
        signature: the issuer's over `tbs`: ECDSA with SHA-384, DER.
        serial: serial number, at most 20 bytes.
        subject: attribute types and values of the subject's name, sorted.
        issuer: attribute types and values of the issuer's name, sorted.
        subject_cn: the subject's common name, or "".
        issuer_cn: the issuer's common name, or "".
        not_before: start of validity, UTC.
        not_after: end of validity, UTC.
        is_ca: basic constraints say so.
        path_length: CAs that may follow below, or None for any number.
        digital_signature: key usage allows signing data.
        key_cert_sign: key usage allows signing certificates.
        crl_sign: key usage allows signing revocation lists.
        extended_key_usage: dotted OIDs of the extended key usage.
        public_point: x and y of the P-384 key, 96 bytes.
        spki: DER SubjectPublicKeyInfo.
        fwid: firmware identifier, or None if the certificate has none; of several the first.
        tcb_info: DiceTcbInfo, or None if the certificate has none.
    """

    raw: bytes
    sha256: bytes
    tbs: bytes
    signature: bytes
    serial: int
    subject: Name
    issuer: Name
    subject_cn: str
    issuer_cn: str
    not_before: datetime
    not_after: datetime
    is_ca: bool
    path_length: int | None
    digital_signature: bool
    key_cert_sign: bool
    crl_sign: bool
    extended_key_usage: tuple[str, ...]
    public_point: bytes
    spki: bytes
    fwid: bytes | None
    tcb_info: DiceTcbInfo | None


_KEY_USAGE = "key usage"
_CONSTRAINTS = "basic constraints"
_EXTENDED = "extended key usage"
_COMPOSITE = "CompositeDeviceID"
_TCB_INFO = "DiceTcbInfo"
_NAMES = {
    bytes.fromhex("551d0f"): _KEY_USAGE,
    bytes.fromhex("551d13"): _CONSTRAINTS,
    bytes.fromhex("551d25"): _EXTENDED,
    bytes.fromhex("551d11"): "subject alternative name",
    bytes.fromhex("678105050401"): _COMPOSITE,
    bytes.fromhex("67810505040101"): _TCB_INFO,
}


@lru_cache(maxsize=64)  # two of each device; the others stand in every chain
def parse_gpu_certificate(data: bytes, what: str) -> GpuCertificate:
    """Read a certificate in DER.

    Args:
        data: the certificate.
        what: name of it, for error messages.

    Raises:
        MalformedEvidence: not one, an unknown critical extension, another key than P-384, or another signature
            algorithm than ECDSA with SHA-384.
    """
    leaf = split_leaf(bytes(data), what)
    if leaf.algorithm != ECDSA_SHA384:
        raise MalformedEvidence(f"{what}: the signature is not ECDSA with SHA-384")
    if not leaf.spki.startswith(SPKI_PREFIX) or len(leaf.spki) != len(SPKI_PREFIX) + POINT_SIZE:
        raise MalformedEvidence(f"{what}: the key is not an uncompressed P-384 point")
    if not 0 < leaf.serial < 1 << 160:
        raise MalformedEvidence(
            f"{what}: the serial number is not positive or has more than 20 bytes (RFC 5280 4.1.2.2)"
        )
    return _certificate(bytes(data), leaf, named_extensions(leaf.extensions, _NAMES, what), what)


def _certificate(raw: bytes, leaf: Leaf, extensions: dict[str, bytes], what: str) -> GpuCertificate:
    usage = _usage(extensions.get(_KEY_USAGE), what)
    is_ca, path_length = _constraints(extensions.get(_CONSTRAINTS), what)
    if _COMPOSITE in extensions and _TCB_INFO in extensions:
        raise MalformedEvidence(f"{what}: two extensions say which firmware it is of")
    fwid, tcb_info = None, None
    if _COMPOSITE in extensions:
        fwid = _composite(extensions[_COMPOSITE], what)
    elif _TCB_INFO in extensions:
        tcb_info = _tcb_info(extensions[_TCB_INFO], what)
        fwid = tcb_info.fwids[0] if tcb_info.fwids else None
    return GpuCertificate(
        raw=raw,
        sha256=sha256(raw).digest(),
        tbs=leaf.tbs,
        signature=leaf.signature,
        serial=leaf.serial,
        subject=leaf.subject,
        issuer=leaf.issuer,
        subject_cn=common_name(leaf.subject),
        issuer_cn=common_name(leaf.issuer),
        not_before=leaf.not_before,
        not_after=leaf.not_after,
        is_ca=is_ca,
        path_length=path_length,
        digital_signature=bool(usage & 0x80),
        key_cert_sign=bool(usage & 0x04),
        crl_sign=bool(usage & 0x02),
        extended_key_usage=_extended(extensions.get(_EXTENDED), what),
        public_point=leaf.spki[-POINT_SIZE:],
        spki=leaf.spki,
        fwid=fwid,
        tcb_info=tcb_info,
    )


def _bits(value: bytes, what: str) -> bytes:
    """Content of a BIT STRING without the count of unused bits, which must be zero (X.690 11.2.1)."""
    unused, bits = value[:1], value[1:]
    if not unused or unused[0] > 7 or (not bits and unused[0]) or (bits and bits[-1] & ((1 << unused[0]) - 1)):
        raise MalformedEvidence(f"{what}: a BIT STRING of a wrong form")
    return bits


def _usage(extension: bytes | None, what: str) -> int:
    """The first eight bits of the key usage (RFC 5280 4.2.1.3), digitalSignature the highest."""
    bits = b"" if extension is None else _bits(der.only(extension, der.BIT_STRING, what).value, what)
    return bits[0] if bits else 0


def _constraints(extension: bytes | None, what: str) -> tuple[bool, int | None]:
    """Whether it is a CA, and its path length (RFC 5280 4.2.1.9)."""
    if extension is None:
        return False, None
    parts = der.children(der.only(extension, der.SEQUENCE, what).value, what, 2)
    tags = [tlv.tag for tlv in parts]
    if not parts:
        return False, None
    if tags not in ([der.BOOLEAN], [der.BOOLEAN, der.INTEGER]) or not der.boolean(parts[0].value, what):
        raise MalformedEvidence(f"{what}: basic constraints of a wrong form")
    length = der.integer(parts[1].value, what) if len(parts) == 2 else None
    if length is not None and not 0 <= length <= _CA_LENGTH_MAX:
        raise MalformedEvidence(f"{what}: a path length of {length}")
    return True, length


def _extended(extension: bytes | None, what: str) -> tuple[str, ...]:
    if extension is None:
        return ()
    purposes = der.children(der.only(extension, der.SEQUENCE, what).value, what, 16)
    if not purposes or any(tlv.tag != der.OID for tlv in purposes):
        raise MalformedEvidence(f"{what}: extended key usage of a wrong form")
    return tuple(der.oid(tlv.value, what) for tlv in purposes)


def _composite(extension: bytes, what: str) -> bytes:
    """FWID of a CompositeDeviceID (TCG DICE): version 1, a key, and the digest with its algorithm."""
    parts = der.children(der.only(extension, der.SEQUENCE, what).value, what, 3)
    if [tlv.tag for tlv in parts] != [der.INTEGER, der.SEQUENCE, der.SEQUENCE] or parts[0].value != b"\x01":
        raise MalformedEvidence(f"{what}: a CompositeDeviceID of a wrong form")
    return _fwid(parts[2], what)


def _fwid(tlv: der.Tlv, what: str) -> bytes:
    parts = der.children(tlv.value, what, 2) if tlv.tag == der.SEQUENCE else []
    if [part.tag for part in parts] != [der.OID, der.OCTET_STRING]:
        raise MalformedEvidence(f"{what}: a FWID of a wrong form")
    if parts[0].value != _SHA384 or len(parts[1].value) != _FWID_SIZE:
        raise MalformedEvidence(f"{what}: a FWID that is not SHA-384")
    return parts[1].value


# The members of DiceTcbInfo are optional, in this order, with implicit tags; two of them hold further elements.
_TEXTS = {0x80: "vendor", 0x81: "model", 0x82: "version"}
_NUMBERS = {0x83: "svn", 0x84: "layer", 0x85: "index"}
_FWIDS = der.context(6)
_FLAGS = 0x87
_MEMBERS = 12
_TAGS = tuple(der.context(n) if n in (6, 11) else 0x80 | n for n in range(_MEMBERS))


def _tcb_info(extension: bytes, what: str) -> DiceTcbInfo:
    texts: dict[str, str] = {}
    numbers: dict[str, int] = {}
    fwids: tuple[bytes, ...] = ()
    raw = 0
    before = -1
    for tlv in der.children(der.only(extension, der.SEQUENCE, what).value, what, _MEMBERS):
        number = tlv.tag & 0x1F
        if not before < number < _MEMBERS or tlv.tag != _TAGS[number]:
            raise MalformedEvidence(f"{what}: a DiceTcbInfo of a wrong form")
        before = number
        if tlv.tag in _TEXTS:
            texts[_TEXTS[tlv.tag]] = der.text(der.Tlv(der.UTF8_STRING, tlv.value, tlv.raw), what)
        elif tlv.tag in _NUMBERS:
            numbers[_NUMBERS[tlv.tag]] = der.integer(tlv.value, what)
        elif tlv.tag == _FWIDS:
            fwids = tuple(_fwid(part, what) for part in der.children(tlv.value, what, 16))
        elif tlv.tag == _FLAGS:
            raw = _flags(tlv.value, what)
    return DiceTcbInfo(
        vendor=texts.get("vendor"),
        model=texts.get("model"),
        version=texts.get("version"),
        svn=numbers.get("svn"),
        layer=numbers.get("layer"),
        index=numbers.get("index"),
        fwids=fwids,
        flags=frozenset(name for n, name in enumerate(OPERATIONAL_FLAGS) if raw >> (31 - n) & 1),
        flags_raw=raw,
    )


def _flags(value: bytes, what: str) -> int:
    bits = _bits(value, what)
    if len(bits) > 4:
        raise MalformedEvidence(f"{what}: {len(bits)} bytes of operational flags")
    return int.from_bytes(bits.ljust(4, b"\0"), "big")


@lru_cache(maxsize=32)  # a machine hands over the same chains with every report
def split_chain(pem: bytes) -> tuple[bytes, ...]:
    """Certificates of a chain in DER, in the order of the file.

    Raises:
        MalformedEvidence: no PEM, larger than 32 KiB, or more than eight certificates.
    """
    if len(pem) > CHAIN_MAX:
        raise MalformedEvidence(f"certificate chain: larger than {CHAIN_MAX} bytes")
    found = tuple(pem_or_der(bytes(pem), "certificate chain"))
    if len(found) > CERTIFICATES_MAX:
        raise MalformedEvidence(f"certificate chain: {len(found)} certificates, more than {CERTIFICATES_MAX}")
    return found
