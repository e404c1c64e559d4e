"""PCK certificates: the leaf that endorses the key with which a platform's PCE signs a quoting enclave's report.

Source: Intel, "SGX PCK Certificate and Certificate Revocation List Profile Specification" 1.5.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from ..errors import Check, MalformedEvidence
from . import der
from .leaf import Leaf, Name, common_name, named_extensions, split_leaf
from .p256 import ECDSA_SHA256, SPKI_PREFIX

_WHAT = "PCK certificate"


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
    issuer: Name
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


_CAS = {"Intel SGX PCK Processor CA": PckCa.PROCESSOR, "Intel SGX PCK Platform CA": PckCa.PLATFORM}
# 1.2.840.113741.1.13.1, Intel's extension and the arc of everything inside it, by DER content.
_SGX = bytes.fromhex("2a864886f84d010d01")
_NAMES = {_SGX: "SGX", bytes.fromhex("551d0f"): "key usage", bytes.fromhex("551d13"): "basic constraints"}
_COMPONENTS = tuple(f"component SVN {n}" for n in range(1, 17))
_FIELDS = {_SGX + bytes((2, n)): name for n, name in enumerate(_COMPONENTS, 1)} | {
    _SGX + bytes(suffix): name
    for suffix, name in {
        (1,): "PPID",
        (2,): "TCB",
        (2, 17): "PCESVN",
        (2, 18): "CPUSVN",
        (3,): "PCEID",
        (4,): "FMSPC",
        (5,): "SGX type",
        (6,): "platform instance id",
        (7,): "configuration",
        (7, 1): "dynamic platform",
        (7, 2): "cached keys",
        (7, 3): "SMT",
    }.items()
}
_TCB = frozenset((*_COMPONENTS, "PCESVN", "CPUSVN"))
_TOP = frozenset(("PPID", "TCB", "PCEID", "FMSPC", "SGX type", "platform instance id", "configuration"))
_CONFIGURATION = frozenset(("dynamic platform", "cached keys", "SMT"))


def parse_pck(data: bytes) -> Pck:
    """Read a PCK certificate in DER.

    Whether the subject is the one that Intel gives its PCK certificates is for the verifier to say.

    Raises:
        MalformedEvidence: not such a certificate (``tdx.pck.format``).
    """
    try:
        return _parse(bytes(data))
    except MalformedEvidence as exc:
        raise MalformedEvidence(str(exc), check=Check.TDX_PCK_FORMAT) from exc


def _fail(message: str) -> MalformedEvidence:
    return MalformedEvidence(f"{_WHAT}: {message}")


def _parse(data: bytes) -> Pck:
    leaf = split_leaf(data, _WHAT)
    if leaf.algorithm != ECDSA_SHA256:
        raise _fail("the signature is not ECDSA with SHA-256")
    if not 0 < leaf.serial < 1 << 160:
        raise _fail("the serial number is not positive or has more than 20 bytes (RFC 5280 4.1.2.2)")
    if not leaf.spki.startswith(SPKI_PREFIX) or len(leaf.spki) != 91:
        raise _fail("the key is not an uncompressed P-256 point")
    issuer_cn = common_name(leaf.issuer)
    if issuer_cn not in _CAS:
        raise _fail(f"issuer {issuer_cn!r} is neither Intel's PCK Processor CA nor its PCK Platform CA")
    extensions = named_extensions(leaf.extensions, _NAMES, _WHAT)
    _usage(extensions)
    if "SGX" not in extensions:
        raise _fail("Intel's extension is missing")
    top = _fields(der.only(extensions["SGX"], der.SEQUENCE, _WHAT), _TOP)
    return _pck(data, leaf, issuer_cn, top)


def _pck(data: bytes, leaf: Leaf, issuer_cn: str, top: dict[str, der.Tlv]) -> Pck:
    ca = _CAS[issuer_cn]
    if ca is PckCa.PLATFORM and "platform instance id" not in top:
        raise _fail("no platform instance id, which the Platform CA writes into every certificate")
    if ca is PckCa.PROCESSOR and not top.keys().isdisjoint(("platform instance id", "configuration")):
        raise _fail("a platform instance id or configuration, which the Processor CA never writes")
    tcb = _fields(_of(top, "TCB", der.SEQUENCE), _TCB)
    configuration = _fields(_of(top, "configuration", der.SEQUENCE), _CONFIGURATION) if "configuration" in top else {}
    return Pck(
        raw=data,
        tbs=leaf.tbs,
        signature=leaf.signature,
        issuer=leaf.issuer,
        issuer_cn=issuer_cn,
        subject_cn=common_name(leaf.subject),
        serial=leaf.serial,
        not_before=leaf.not_before,
        not_after=leaf.not_after,
        public_point=leaf.spki[-64:],
        ppid=_octets(top, "PPID", 16),
        components=tuple([_svn(tcb, name, 0xFF) for name in _COMPONENTS]),
        pcesvn=_svn(tcb, "PCESVN", 0xFFFF),
        cpusvn=_octets(tcb, "CPUSVN", 16),
        pceid=_octets(top, "PCEID", 2),
        fmspc=_octets(top, "FMSPC", 6),
        sgx_type=_sgx_type(top),
        platform_instance_id=_octets(top, "platform instance id", 16) if ca is PckCa.PLATFORM else None,
        dynamic_platform=_flag(configuration, "dynamic platform"),
        cached_keys=_flag(configuration, "cached keys"),
        smt=_flag(configuration, "SMT"),
        ca=ca,
    )


def _usage(extensions: dict[str, bytes]) -> None:
    """A leaf signs data and is no CA; Intel's profile demands that both extensions are there."""
    if "key usage" not in extensions or "basic constraints" not in extensions:
        raise _fail("key usage or basic constraints are missing")
    usage = der.only(extensions["key usage"], der.BIT_STRING, _WHAT).value
    if len(usage) < 2 or usage[0] > 7 or not usage[1] & 0x80:
        raise _fail("the key usage does not allow signing data")
    if extensions["basic constraints"] != b"\x30\x00":  # DER leaves out cA FALSE, the default
        raise _fail("the basic constraints are not those of a leaf")


def _fields(sequence: der.Tlv, allowed: frozenset[str]) -> dict[str, der.Tlv]:
    """The values of a SEQUENCE of pairs of OID and value, by name, in whatever order they stand."""
    found: dict[str, der.Tlv] = {}
    for oid, value in der.pairs(sequence.value, _WHAT, 18):
        name = _FIELDS.get(oid)
        if name not in allowed:
            raise _fail(f"{der.oid(oid, _WHAT)} has no place where it stands in Intel's extension")
        if name in found:
            raise _fail(f"{name} twice")
        found[name] = value
    return found


def _of(fields: dict[str, der.Tlv], name: str, tag: int) -> der.Tlv:
    if name not in fields:
        raise _fail(f"{name} is missing")
    if fields[name].tag != tag:
        raise _fail(f"{name}: tag {tag:#04x} wanted, {fields[name].tag:#04x} found")
    return fields[name]


def _octets(fields: dict[str, der.Tlv], name: str, size: int) -> bytes:
    value = _of(fields, name, der.OCTET_STRING).value
    if len(value) != size:
        raise _fail(f"{name}: {size} bytes wanted, {len(value)} found")
    return value


def _svn(fields: dict[str, der.Tlv], name: str, largest: int) -> int:
    svn = der.integer(_of(fields, name, der.INTEGER).value, _WHAT)
    if not 0 <= svn <= largest:
        raise _fail(f"{name} is {svn}, not 0 to {largest}")
    return svn


def _sgx_type(fields: dict[str, der.Tlv]) -> int:
    found = der.integer(_of(fields, "SGX type", der.ENUMERATED).value, _WHAT)
    if not 0 <= found <= 2:
        raise _fail(f"SGX type {found} is unknown")
    return found


def _flag(fields: dict[str, der.Tlv], name: str) -> bool | None:
    return der.boolean(_of(fields, name, der.BOOLEAN).value, _WHAT) if name in fields else None
