"""VCEK and VLEK: the leaf certificates that endorse the key which signs SNP reports.

Source: AMD 57230, sections "VCEK certificate" and "VLEK certificate"; X.509 as in RFC 5280, with AMD's departures: the
serial is 0, and no leaf has a key identifier or basic constraints.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from ..errors import Check, MalformedEvidence
from ..evidence.snp import SigningKey, Tcb
from . import der
from .leaf import common_name, named_extensions, split_leaf

_ARC = "1.3.6.1.4.1.3704.1."
_WHAT = "VEK certificate"
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
    leaf = split_leaf(data, _WHAT)
    if leaf.serial < 0:  # AMD's serials are 0, which RFC 5280 forbids and we accept
        raise _fail("a negative serial number")
    if not leaf.spki.startswith(_SPKI_P384) or len(leaf.spki) != 120:
        raise _fail("the key is not an uncompressed P-384 point")
    subject_cn = common_name(leaf.subject)
    if subject_cn not in _KINDS:
        raise _fail(f"subject {subject_cn!r} is neither SEV-VCEK nor SEV-VLEK", Check.SNP_VEK_ROLE)
    values = _extensions(leaf.extensions)
    struct_version, product_name, tcb, hwid, csp_id = _amd_values(values)
    return Vek(
        raw=data,
        tbs=leaf.tbs,
        signature_algorithm=leaf.algorithm,
        signature=leaf.signature,
        kind=_KINDS[subject_cn],
        subject_cn=subject_cn,
        issuer=leaf.issuer,
        issuer_cn=common_name(leaf.issuer),
        not_before=leaf.not_before,
        not_after=leaf.not_after,
        spki=leaf.spki,
        struct_version=struct_version,
        product_name=product_name,
        tcb=tcb,
        hwid=hwid,
        csp_id=csp_id,
    )


# The OIDs of AMD's extensions by their DER content.
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
    try:
        return named_extensions(value, _NAMES, _WHAT)
    except MalformedEvidence as exc:
        raise MalformedEvidence(str(exc), check=Check.SNP_VEK_EXTENSIONS) from exc


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
