"""The outer form that AMD's and Intel's leaf certificates share (RFC 5280 4.1), taken apart without looking inside."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from typing import NamedTuple

from ..errors import MalformedEvidence
from . import der

MAX_SIZE = 8192
"""A leaf is 1.3 KiB; anything above this many bytes is refused before it is read."""
COMMON_NAME = "2.5.4.3"

Name = tuple[tuple[str, str], ...]

_TAGS = [der.context(0), der.INTEGER, *[der.SEQUENCE] * 5, der.context(3)]


class Leaf(NamedTuple):
    """The parts of a version 3 certificate.

    `tbs`, `algorithm` and `spki` are whole elements, `signature` and `extensions` are contents; names are sorted.
    """

    tbs: bytes
    algorithm: bytes
    signature: bytes
    serial: int
    issuer: Name
    subject: Name
    not_before: datetime
    not_after: datetime
    spki: bytes
    extensions: bytes


def parse_name(value: bytes, what: str) -> Name:
    """Attribute types and values of an X.501 name, sorted, so that the order of its parts does not matter.

    Args:
        value: content of the RDNSequence.
        what: name of the structure, for error messages.

    Raises:
        MalformedEvidence: a part with several attributes, or the same attribute twice.
    """
    try:
        return _name(value)
    except MalformedEvidence as exc:
        raise MalformedEvidence(f"{what}: {exc}") from exc


@lru_cache(maxsize=64)  # the same few names stand in every certificate and list
def _name(value: bytes) -> Name:
    what = "name"
    parts: dict[str, str] = {}
    for rdn in der.children(value, what, 16):
        attribute = der.only(rdn.value, der.SEQUENCE, what) if rdn.tag == der.SET else None
        pair = der.children(attribute.value, what, 2) if attribute else []
        if len(pair) != 2 or pair[0].tag != der.OID:
            raise MalformedEvidence(f"{what}: its parts are not one attribute each")
        kind = der.oid(pair[0].value, what)
        if kind in parts:
            raise MalformedEvidence(f"{what}: attribute {kind} twice")
        parts[kind] = der.text(pair[1], what)
    return tuple(sorted(parts.items()))


def common_name(name: Name) -> str:
    """The common name in it, or "" if it has none."""
    return dict(name).get(COMMON_NAME, "")


def split_leaf(data: bytes, what: str) -> Leaf:
    """Take a certificate in DER apart.

    Raises:
        MalformedEvidence: not one of version 3 with extensions, too large, or another signature algorithm inside than
            outside.
    """
    if len(data) > MAX_SIZE:
        raise MalformedEvidence(f"{what}: larger than {MAX_SIZE} bytes")
    outer = der.children(der.only(data, der.SEQUENCE, what).value, what, 3)
    if [tlv.tag for tlv in outer] != [der.SEQUENCE, der.SEQUENCE, der.BIT_STRING]:
        raise MalformedEvidence(f"{what}: not a Certificate")
    tbs, algorithm, signature = outer
    parts = der.children(tbs.value, what, 8)
    if [tlv.tag for tlv in parts] != _TAGS:
        raise MalformedEvidence(f"{what}: not a version 3 certificate with extensions and without unique identifiers")
    version, serial, inner, issuer, validity, subject, spki, extensions = parts
    if version.value != b"\x02\x01\x02":
        raise MalformedEvidence(f"{what}: not a version 3 certificate")
    if inner.raw != algorithm.raw:
        raise MalformedEvidence(
            f"{what}: the signature algorithm differs inside and outside of the signed part (RFC 5280 4.1.1.2)"
        )
    times = der.children(validity.value, what, 2)
    if len(times) != 2:
        raise MalformedEvidence(f"{what}: a validity that is not two times")
    return Leaf(
        tbs=tbs.raw,
        algorithm=algorithm.raw,
        signature=der.octets(signature.value, what),
        serial=der.integer(serial.value, what),
        issuer=parse_name(issuer.value, what),
        subject=parse_name(subject.value, what),
        not_before=der.time(times[0], what),
        not_after=der.time(times[1], what),
        spki=spki.raw,
        extensions=der.only(extensions.value, der.SEQUENCE, what).value,
    )


def named_extensions(value: bytes, names: Mapping[bytes, str], what: str) -> dict[str, bytes]:
    """Contents of the extensions of a certificate by name; those without one by their dotted OID.

    Args:
        value: content of the SEQUENCE of extensions.
        names: the known ones, by the content of their OID: comparing bytes is cheaper than writing out dotted names.
        what: name of the structure, for error messages.

    Raises:
        MalformedEvidence: one has another form, stands there twice, or is critical and unknown (RFC 5280 4.2).
    """
    found: dict[str, bytes] = {}
    for tlv in der.children(value, what):
        parts = der.children(tlv.value, what, 3) if tlv.tag == der.SEQUENCE else []
        critical = len(parts) == 3 and parts[1].tag == der.BOOLEAN and der.boolean(parts[1].value, what)
        if len(parts) != (3 if critical else 2) or parts[0].tag != der.OID or parts[-1].tag != der.OCTET_STRING:
            raise MalformedEvidence(f"{what}: an extension of a wrong form")
        name = names.get(parts[0].value)
        if name is None:
            if critical:
                raise MalformedEvidence(f"{what}: an unknown critical extension")
            name = der.oid(parts[0].value, what)
        if name in found:
            raise MalformedEvidence(f"{what}: extension {name} twice")
        found[name] = parts[-1].value
    return found
