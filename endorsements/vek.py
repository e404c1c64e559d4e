"""VCEK and VLEK: the leaf certificates that endorse the key which signs SNP reports.

Source: AMD 57230, sections "VCEK certificate" and "VLEK certificate"; X.509 as in RFC 5280, with AMD's departures: the
serial is 0, and no leaf has a key identifier or basic constraints.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

from ..errors import Check, MalformedEvidence
from ..evidence.snp import SigningKey, Tcb
from . import der

MAX_SIZE = 8192
"""A leaf is 1.3 KiB; anything above this many bytes is refused before it is read."""

_ARC = "1.3.6.1.4.1.3704.1."
_WHAT = "VEK certificate"
_COMMON_NAME = "2.5.4.3"
_KINDS = {"SEV-VCEK": SigningKey.VCEK, "SEV-VLEK": SigningKey.VLEK}
# SubjectPublicKeyInfo of an uncompressed P-384 point (RFC 5480 2.1.1), up to the point itself.
_SPKI_P384 = bytes.fromhex("3076301006072a8648ce3d020106052b8104002203620004")


@dataclass(frozen=True, slots=True, kw_only=True)
class Vek:
    """A leaf certificate as received; its signature is not verified here.

    Attributes:
        raw: the DER certificate.
        tbs: the signed part of it, as received.
        signature_algorithm: DER AlgorithmIdentifier, the same inside and outside of the signed part.
        signature: the issuer's signature over `tbs`.
        kind: VCEK or VLEK, by the subject's common name.
        subject_cn: that common name.
        issuer: attribute types and values of the issuer's name, sorted.
        issuer_cn: the issuer's common name.
        not_before: start of validity, UTC.
        not_after: end of validity, UTC.
        spki: DER SubjectPublicKeyInfo, always P-384.
        struct_version: 0 up to Genoa, 1 from Turin on; decides the layout of the TCB.
        product_name: such as "Milan-B0" or "Genoa".
        tcb: the patch levels from which AMD derived the key.
        hwid: 64 bytes (8 from Turin on) of the chip that the key belongs to, or None if the certificate names none.
        csp_id: the cloud provider that the key was lent to, or None if the certificate names none.
    """

    raw: bytes
    tbs: bytes
    signature_algorithm: bytes
    signature: bytes
    kind: SigningKey
    subject_cn: str
    issuer: tuple[tuple[str, str], ...]
    issuer_cn: str
    not_before: datetime
    not_after: datetime
    spki: bytes
    struct_version: int
    product_name: str
    tcb: Tcb
    hwid: bytes | None
    csp_id: str | None


def _fail(message: str, check: Check = Check.SNP_VEK_FORMAT) -> MalformedEvidence:
    return MalformedEvidence(f"{_WHAT}: {message}", check=check)


@lru_cache(maxsize=64)  # the same few names stand in every certificate
def parse_name(value: bytes, what: str) -> tuple[tuple[str, str], ...]:
    """Attribute types and values of an X.501 name, sorted, so that the order of its parts does not matter.

    Args:
        value: content of the RDNSequence.
        what: name of the structure, for error messages.

    Raises:
        MalformedEvidence: a part with several attributes, or the same attribute twice.
    """
    parts: dict[str, str] = {}
    for rdn in der.children(value, what, 16):
        attribute = der.only(rdn.value, der.SEQUENCE, what) if rdn.tag == der.SET else None
        pair = der.children(attribute.value, what, 2) if attribute else []
        if len(pair) != 2 or pair[0].tag != der.OID:
            raise MalformedEvidence(f"{what}: a name whose parts are not one attribute each")
        kind = der.oid(pair[0].value, what)
        if kind in parts:
            raise MalformedEvidence(f"{what}: attribute {kind} twice in one name")
        parts[kind] = der.text(pair[1], what)
    return tuple(sorted(parts.items()))


def _common_name(name: tuple[tuple[str, str], ...]) -> str:
    return dict(name).get(_COMMON_NAME, "")


def parse_vek(data: bytes) -> Vek:
    """Read a VCEK or VLEK certificate in DER.

    Raises:
        MalformedEvidence: not such a certificate (``snp.vek.format``, ``snp.vek.role``, ``snp.vek.extensions``).
    """
    try:
        return _parse(bytes(data))
    except MalformedEvidence as exc:
        if exc.check is not None:
            raise
        raise MalformedEvidence(str(exc), check=Check.SNP_VEK_FORMAT) from exc


def _parse(data: bytes) -> Vek:
    if len(data) > MAX_SIZE:
        raise _fail(f"larger than {MAX_SIZE} bytes")
    outer = der.children(der.only(data, der.SEQUENCE, _WHAT).value, _WHAT, 3)
    if [tlv.tag for tlv in outer] != [der.SEQUENCE, der.SEQUENCE, der.BIT_STRING]:
        raise _fail("not a Certificate")
    tbs, algorithm, signature = outer
    parts = der.children(tbs.value, _WHAT, 8)
    tags = [der.context(0), der.INTEGER, *[der.SEQUENCE] * 5, der.context(3)]
    if [tlv.tag for tlv in parts] != tags:
        raise _fail("not a version 3 certificate with extensions and without unique identifiers")
    version, serial, inner, issuer, validity, subject, spki, extensions = parts
    if version.value != b"\x02\x01\x02":
        raise _fail("not a version 3 certificate")
    if der.integer(serial.value, _WHAT) < 0:  # AMD's serials are 0, which RFC 5280 forbids and we accept
        raise _fail("a negative serial number")
    if inner.raw != algorithm.raw:
        raise _fail("the signature algorithm differs inside and outside of the signed part (RFC 5280 4.1.1.2)")
    times = der.children(validity.value, _WHAT, 2)
    if len(times) != 2:
        raise _fail("a validity that is not two times")
    if not spki.raw.startswith(_SPKI_P384) or len(spki.raw) != 120:
        raise _fail("the key is not an uncompressed P-384 point")
    subject_cn = _common_name(parse_name(subject.value, _WHAT))
    if subject_cn not in _KINDS:
        raise _fail(f"subject {subject_cn!r} is neither SEV-VCEK nor SEV-VLEK", Check.SNP_VEK_ROLE)
    issuer_name = parse_name(issuer.value, _WHAT)
    values = _extensions(der.only(extensions.value, der.SEQUENCE, _WHAT).value)
    struct_version, product_name, tcb, hwid, csp_id = _amd_values(values)
    return Vek(
        raw=data,
        tbs=tbs.raw,
        signature_algorithm=algorithm.raw,
        signature=der.octets(signature.value, _WHAT),
        kind=_KINDS[subject_cn],
        subject_cn=subject_cn,
        issuer=issuer_name,
        issuer_cn=_common_name(issuer_name),
        not_before=der.time(times[0], _WHAT),
        not_after=der.time(times[1], _WHAT),
        spki=spki.raw,
        struct_version=struct_version,
        product_name=product_name,
        tcb=tcb,
        hwid=hwid,
        csp_id=csp_id,
    )


# The OIDs of AMD's extensions by their DER content: comparing bytes is cheaper than writing out dotted names.
_PREFIX = bytes.fromhex("2b060104019c7801")
_NAMES = {
    _PREFIX + bytes(suffix): name
    for suffix, name in {
        (1,): "structVersion",
        (2,): "productName",
        (3, 1): "blSPL",
        (3, 2): "teeSPL",
        (3, 3): "snpSPL",
        (3, 4): "spl4",
        (3, 5): "spl5",
        (3, 6): "spl6",
        (3, 7): "spl7",
        (3, 8): "ucodeSPL",
        (3, 9): "fmcSPL",
        (4,): "hwID",
        (5,): "cspID",
    }.items()
}


def _extensions(value: bytes) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for tlv in der.children(value, _WHAT):
        parts = der.children(tlv.value, _WHAT, 3) if tlv.tag == der.SEQUENCE else []
        critical = len(parts) == 3 and parts[1].tag == der.BOOLEAN and der.boolean(parts[1].value, _WHAT)
        if len(parts) != (3 if critical else 2) or parts[0].tag != der.OID or parts[-1].tag != der.OCTET_STRING:
            raise _fail("an extension of a wrong form", Check.SNP_VEK_EXTENSIONS)
        name = _NAMES.get(parts[0].value)
        if name is None:
            if critical:
                raise _fail("an unknown critical extension", Check.SNP_VEK_EXTENSIONS)
            name = der.oid(parts[0].value, _WHAT)
        if name in found:
            raise _fail(f"extension {name} twice", Check.SNP_VEK_EXTENSIONS)
        found[name] = parts[-1].value
    return found


def _level(values: dict[str, bytes], name: str) -> int:
    """A security patch level: an INTEGER of 0 to 255 that must be there."""
    if name not in values:
        raise _fail(f"extension {name} is missing", Check.SNP_VEK_EXTENSIONS)
    value = values[name]
    if len(value) == 3 and value[:2] == b"\x02\x01" and value[2] < 0x80:
        return value[2]  # the usual form, read nine times per leaf
    what = f"{_WHAT}: extension {name}"
    level = der.integer(der.only(value, der.INTEGER, what).value, what)
    if not 0 <= level <= 0xFF:
        raise _fail(f"extension {name} is {level}, not a byte", Check.SNP_VEK_EXTENSIONS)
    return level


def _string(values: dict[str, bytes], name: str) -> str | None:
    if name not in values:
        return None
    what = f"{_WHAT}: extension {name}"
    return der.text(der.only(values[name], der.IA5_STRING, what), what)


def _hwid(value: bytes) -> bytes:
    """By exact length, never by the first byte: a raw chip id may begin with 04 itself."""
    if len(value) in (8, 64):
        return value
    if value[:2] in (b"\x04\x08", b"\x04\x40") and len(value) == 2 + value[1]:
        return value[2:]
    raise _fail(f"extension hwID of {len(value)} bytes", Check.SNP_VEK_EXTENSIONS)


def _tcb(values: dict[str, bytes], struct_version: int) -> Tcb:
    if struct_version == 0:
        reserved = bytes(_level(values, f"spl{n}") for n in range(4, 8))
        fmc = None
        unexpected = "fmcSPL"
    else:
        reserved = bytes(_level(values, f"spl{n}") for n in range(5, 8))
        fmc = _level(values, "fmcSPL")
        unexpected = "spl4"
    if unexpected in values:
        raise _fail(f"extension {unexpected} beside structVersion {struct_version}", Check.SNP_VEK_EXTENSIONS)
    return Tcb(
        bl=_level(values, "blSPL"),
        tee=_level(values, "teeSPL"),
        snp=_level(values, "snpSPL"),
        ucode=_level(values, "ucodeSPL"),
        fmc=fmc,
        reserved=reserved,
    )


def _amd_values(values: dict[str, bytes]) -> tuple[int, str, Tcb, bytes | None, str | None]:
    try:
        struct_version = _level(values, "structVersion")
        if struct_version > 1:
            raise _fail(f"structVersion {struct_version} is unknown", Check.SNP_VEK_EXTENSIONS)
        product_name = _string(values, "productName")
        if not product_name:
            raise _fail("extension productName is missing", Check.SNP_VEK_EXTENSIONS)
        tcb = _tcb(values, struct_version)
        hwid = _hwid(values["hwID"]) if "hwID" in values else None
        return struct_version, product_name, tcb, hwid, _string(values, "cspID")
    except MalformedEvidence as exc:
        if exc.check is not None:
            raise
        raise MalformedEvidence(str(exc), check=Check.SNP_VEK_EXTENSIONS) from exc
