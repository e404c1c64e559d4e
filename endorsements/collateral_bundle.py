"""The collateral of one platform in one file or folder: bodies, issuer chains and lists, byte for byte as received."""

from __future__ import annotations

import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final
from urllib.parse import unquote_to_bytes

from ..codec import pem_or_der, unhex
from ..errors import Check, MalformedEvidence, MaterialUnavailable
from .ca import MAX_CRL
from .signed_json import MAX_BODY, Fields, load_json, malformed

SCHEMA: Final = "dokimos.tdx-collateral/v1"
MAX_BUNDLE: Final = 8 << 20
"""Largest bundle in bytes that is read; real ones have 20 to 50 KiB."""
MAX_CHAIN: Final = 1 << 15
"""Largest issuer chain in bytes that is read; real ones have 2 KiB."""
_MAX_CERTIFICATES: Final = 3
_WHAT: Final = "TDX collateral"


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where one item came from; for the reader only, nothing is believed because of it.

    Attributes:
        item: name of the field of :class:`TdxCollateral`.
        url: address that was asked.
        fetched: RFC 3339 time at which it was fetched.
    """

    item: str
    url: str
    fetched: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TdxCollateral:
    """What a verifier needs beside a quote, as received; nothing is verified here.

    Attributes:
        tcb_info: body of the TCB info.
        tcb_info_chain: its issuer chain: the header's value as received (URL-encoded PEM) or PEM; signer first.
        qe_identity: body of the identity of the quoting enclave.
        qe_identity_chain: its issuer chain, likewise.
        pck_crl: revocation list of the CA that issued the PCK certificate: DER, hex of DER, or PEM.
        pck_crl_chain: its issuer chain, likewise; empty if it did not come along (a quote holds the same CA).
        root_crl: revocation list of the root: DER, hex of DER, or PEM.
        pck_chain: PEM of PCK certificate and CAs for a quote that brings none, or None.
        origins: where the items came from, in the order of the fields; empty where nothing is known.
    """

    tcb_info: bytes
    tcb_info_chain: bytes
    qe_identity: bytes
    qe_identity_chain: bytes
    pck_crl: bytes
    pck_crl_chain: bytes
    root_crl: bytes
    pck_chain: bytes | None = None
    origins: tuple[Origin, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Item:
    """How one item stands in a bundle: its field, that of its issuer chain or None, and its largest size."""

    name: str
    chain: str | None
    limit: int


_ITEMS: Final = (
    _Item(name="tcb_info", chain="tcb_info_chain", limit=MAX_BODY),
    _Item(name="qe_identity", chain="qe_identity_chain", limit=MAX_BODY),
    _Item(name="pck_crl", chain="pck_crl_chain", limit=2 * MAX_CRL),
    _Item(name="root_crl", chain=None, limit=2 * MAX_CRL),
    _Item(name="pck_chain", chain=None, limit=MAX_CHAIN),
)
_MAY_LACK: Final = frozenset(("pck_chain", "pck_crl_chain"))


@lru_cache(maxsize=32)  # TCB info and QE identity have the same chain
def chain_certificates(chain: bytes, what: str) -> tuple[bytes, ...]:
    """DER certificates of an issuer chain: URL-encoded PEM as in a header, or PEM; bytes behind the last are ignored.

    Raises:
        MalformedEvidence: no certificate, more than 3, or broken base64 (``tdx.collateral.format``).
    """
    if len(chain) > MAX_CHAIN:
        raise malformed(what, f"larger than {MAX_CHAIN} bytes")
    if b"-----BEGIN+CERTIFICATE" in chain:  # some caches write a space as a form does; a plus is %2B then
        chain = chain.replace(b"+", b" ")
    if b"-----BEGIN%20CERTIFICATE" in chain or b"%0A" in chain.upper():
        chain = unquote_to_bytes(chain)
    try:
        found = pem_or_der(chain, what)
    except MalformedEvidence as exc:
        raise MalformedEvidence(str(exc), check=Check.TDX_COLLATERAL_FORMAT) from exc
    if len(found) > _MAX_CERTIFICATES:
        raise malformed(what, f"{len(found)} certificates; a chain has at most {_MAX_CERTIFICATES}")
    return tuple(found)


def crl_der(crl: bytes, what: str) -> bytes:
    """DER of a revocation list that came as DER, as hex of DER, or as PEM.

    Raises:
        MalformedEvidence: none of these (``tdx.collateral.format``).
    """
    if len(crl) > 2 * MAX_CRL:
        raise malformed(what, f"larger than {2 * MAX_CRL} bytes")
    if crl[:1] == b"\x30":  # as text this would be a hex list that begins with 0; those begin with 30
        return crl
    try:
        if crl.lstrip()[:5] == b"-----":
            found = pem_or_der(crl, what, "X509 CRL")
            if len(found) != 1:
                raise malformed(what, f"{len(found)} lists; one is wanted")
            return found[0]
        return unhex(crl.strip().decode("ascii"), what)
    except UnicodeDecodeError as exc:
        raise malformed(what, "neither DER nor its hex digits nor PEM") from exc
    except MalformedEvidence as exc:
        raise MalformedEvidence(str(exc), check=Check.TDX_COLLATERAL_FORMAT) from exc


def parse_collateral(data: bytes) -> TdxCollateral:
    """Read a bundle of ours, or the JSON document that dcap-qvl keeps collateral in.

    Raises:
        MalformedEvidence: neither, too large, or an item missing, twice or of a wrong form (``tdx.collateral.format``).
    """
    document = Fields(load_json(data, _WHAT, MAX_BUNDLE), _WHAT)
    if "schema" in document:
        return _from_bundle(document)
    if "tcb_info_signature" in document:
        return _from_dcap_qvl(document)
    raise document.fail("neither a bundle of dokimos nor collateral as dcap-qvl writes it")


def _from_bundle(document: Fields) -> TdxCollateral:
    if document.text("schema") != SCHEMA:
        raise document.fail(f"schema {document.text('schema')!r} is unknown; {SCHEMA} is wanted")
    document.only("schema", *(item.name for item in _ITEMS))
    values: dict[str, bytes] = {}
    origins = []
    for item in _ITEMS:
        if item.name in _MAY_LACK and item.name not in document:
            continue
        entry = document.object(item.name)
        entry.only("body", "issuer_chain", "url", "fetched")
        values[item.name] = _base64(entry, "body", item.limit)
        if item.chain is not None and (item.chain not in _MAY_LACK or "issuer_chain" in entry):
            values[item.chain] = _base64(entry, "issuer_chain", MAX_CHAIN)
        if item.chain is None and "issuer_chain" in entry:
            raise entry.fail("an issuer chain, which this item never has")
        if "url" in entry or "fetched" in entry:
            origins.append(Origin(item=item.name, url=entry.text("url", 2048), fetched=entry.text("fetched")))
    return _collateral(values, tuple(origins))


def _collateral(values: Mapping[str, bytes], origins: tuple[Origin, ...] = ()) -> TdxCollateral:
    return TdxCollateral(
        tcb_info=values["tcb_info"],
        tcb_info_chain=values["tcb_info_chain"],
        qe_identity=values["qe_identity"],
        qe_identity_chain=values["qe_identity_chain"],
        pck_crl=values["pck_crl"],
        pck_crl_chain=values.get("pck_crl_chain", b""),
        root_crl=values["root_crl"],
        pck_chain=values.get("pck_chain"),
        origins=origins,
    )


def _base64(entry: Fields, name: str, limit: int) -> bytes:
    text = entry.string(name, limit * 4 // 3 + 4)
    try:
        data = binascii.a2b_base64(text, strict_mode=True)
    except ValueError as exc:
        raise entry.fail(f'"{name}" is not base64') from exc
    # Bits that no byte needs may be anything in base64; one content has one form here.
    if not data or binascii.b2a_base64(data, newline=False).decode() != text:
        raise entry.fail(f'"{name}" is empty or not base64 in its one form')
    return data


def _from_dcap_qvl(document: Fields) -> TdxCollateral:
    """The signed strings stand apart from their signatures there; joined, they are the body that Intel serves."""
    values = {
        "tcb_info": _body("tcbInfo", document, "tcb_info"),
        "qe_identity": _body("enclaveIdentity", document, "qe_identity"),
        "tcb_info_chain": _pem(document, "tcb_info_issuer_chain"),
        "qe_identity_chain": _pem(document, "qe_identity_issuer_chain"),
        "pck_crl_chain": _pem(document, "pck_crl_issuer_chain"),
        "pck_crl": document.text("pck_crl", 2 * MAX_CRL).encode(),
        "root_crl": document.text("root_ca_crl", 2 * MAX_CRL).encode(),
    }
    if document.get("pck_certificate_chain") is not None:
        values["pck_chain"] = _pem(document, "pck_certificate_chain")
    return _collateral(values)


def _body(member: str, document: Fields, name: str) -> bytes:
    signed = document.string(name, MAX_BODY).encode()
    signature = document.hex(f"{name}_signature", 64).hex().encode()
    return b'{"%s":%s,"signature":"%s"}' % (member.encode(), signed, signature)


def _pem(document: Fields, name: str) -> bytes:
    return document.string(name, MAX_CHAIN).encode()


def encode_collateral(collateral: TdxCollateral) -> bytes:
    """The bundle file of this collateral; equal collateral gives equal bytes."""
    document: dict[str, object] = {"schema": SCHEMA}
    origins = {origin.item: origin for origin in collateral.origins}
    for item in _ITEMS:
        body: bytes | None = getattr(collateral, item.name)
        if body is None:
            continue
        entry = {"body": _to_base64(body)}
        chain: bytes = getattr(collateral, item.chain) if item.chain else b""
        if chain:
            entry["issuer_chain"] = _to_base64(chain)
        if item.name in origins:
            entry |= {"url": origins[item.name].url, "fetched": origins[item.name].fetched}
        document[item.name] = entry
    return json.dumps(document, indent=1, sort_keys=True).encode() + b"\n"


def _to_base64(data: bytes) -> str:
    return binascii.b2a_base64(data, newline=False).decode()


BUNDLE_FILE: Final = "collateral.json"
"""In a folder: a bundle of ours or of dcap-qvl; gives what no other file gives."""
_FILES: Final[dict[str, tuple[str, ...]]] = {
    "tcb_info": ("tcb_info_response.json", "tcb_info.json"),
    "tcb_info_chain": ("tcb_info_issuer_chain.pem", "tcb_signing_chain.pem"),
    "qe_identity": ("qe_identity_response.json", "qe_identity.json"),
    "qe_identity_chain": ("qe_identity_issuer_chain.pem", "tcb_signing_chain.pem"),
    "pck_crl": ("pck_crl_platform.der", "pck_crl_processor.der", "pck_crl.der", "pck_crl.pem"),
    "pck_crl_chain": ("pck_crl_issuer_chain.pem",),
    "root_crl": ("root_ca_crl.der", "root_ca_crl.pem"),
    "pck_chain": ("pck_chain.pem",),
}
FILE_NAMES: Final = frozenset((BUNDLE_FILE, *(name for names in _FILES.values() for name in names)))
"""Every name that :func:`collateral_from_files` looks for."""


def collateral_from_files(files: Mapping[str, bytes]) -> TdxCollateral:
    """Collateral from the files of a folder, by their names.

    Args:
        files: contents by name; names that are not among :data:`FILE_NAMES` are ignored.

    Raises:
        MaterialUnavailable: an item is in no file.
        MalformedEvidence: a file is not what its name says, or an item is in two (``tdx.collateral.format``).
    """
    rest = parse_collateral(files[BUNDLE_FILE]) if BUNDLE_FILE in files else None
    values: dict[str, bytes] = {}
    for item, names in _FILES.items():
        found = [name for name in names if name in files]
        if item == "pck_crl" and len(found) > 1:
            raise malformed(_WHAT, f"{' and '.join(found)}: a platform has one PCK CA, so one list is wanted")
        value = files[found[0]] if found else rest and getattr(rest, item)
        if value:
            values[item] = value
        elif item not in _MAY_LACK:
            raise MaterialUnavailable(f"{_WHAT}: no {item}: none of the files {', '.join((*names, BUNDLE_FILE))}")
    return _collateral(values)
