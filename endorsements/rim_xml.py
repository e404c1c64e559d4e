"""The XML of a signed reference integrity manifest (RIM): hardened reading, canonical bytes, one form of signature.

The only module that knows lxml.  What it hands on are plain texts, all of them taken from the very tree whose canonical
bytes it hands on with them: what is measured against is what is hashed, wherever an attacker moves parts of a document.

Sources: W3C, "XML Signature Syntax and Processing" 1.1; W3C, "Canonical XML" 1.0 and 1.1; ISO/IEC 19770-2:2015 (SWID);
the profile is that of every RIM that NVIDIA published (reference, 1.4).
"""

from __future__ import annotations

import binascii
from functools import cache
from typing import Any, NamedTuple

from ..errors import Check, MalformedEvidence

MAX_SIZE = 1 << 18
"""Largest file in bytes that is read; real ones have 19 to 26 KiB."""
MAX_CERTIFICATES = 8
SWID = "{http://standards.iso.org/iso/19770/-2/2015/schema.xsd}"
DS = "{http://www.w3.org/2000/09/xmldsig#}"

# The algorithms of this profile; another one is refused, never looked up by its name.
ENVELOPED = "http://www.w3.org/2000/09/xmldsig#enveloped-signature"
C14N11 = "http://www.w3.org/2006/12/xml-c14n11"
ECDSA_SHA384 = "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha384"
SHA384 = "http://www.w3.org/2001/04/xmldsig-more#sha384"

_WHAT = "RIM"
_SPACE = b" \t\n\r"


class RimDocument(NamedTuple):
    """A RIM taken apart; nothing of it is verified.

    Attributes:
        root: attributes of SoftwareIdentity, by names of the form ``{namespace}local`` or ``local``.
        meta: those of its Meta.
        resources: those of each Resource of its Payload, in order.
        canonical: the canonical document without its signature: what the one Reference means.
        signed_info: the canonical SignedInfo: what the signature is over.
        digest: the digest that SignedInfo states, 48 bytes.
        signature: r and s, 96 bytes.
        certificates: DER, in the order of the document.
    """

    root: dict[str, str]
    meta: dict[str, str]
    resources: tuple[dict[str, str], ...]
    canonical: bytes
    signed_info: bytes
    digest: bytes
    signature: bytes
    certificates: tuple[bytes, ...]


def read_document(data: bytes) -> RimDocument:
    """Take a RIM apart.

    Raises:
        MalformedEvidence: no XML, with a document type, or not this profile of SWID (``gpu.rim.format``); not its one
            form of signature (``gpu.rim.signature_form``).
    """
    root = _root(data)
    signature = _only_signature(root)
    info, value, key = _children(signature, "SignedInfo", "SignatureValue", "KeyInfo")
    digest = _signed_info(info)
    certificates = _certificates(key)
    # SignedInfo first: its canonical form holds the namespaces that are in scope where it stands.
    signed_info = _canonical(info)
    signed = _octets(_text(value), "SignatureValue", 96)
    _take_out(signature)
    canonical = _canonical(root.getroottree())
    meta, payload = _parts(root)
    return RimDocument(
        root=dict(root.attrib),
        meta=dict(meta.attrib),
        resources=tuple(_resources(root, payload)),
        canonical=canonical,
        signed_info=signed_info,
        digest=digest,
        signature=signed,
        certificates=certificates,
    )


def _bad(message: str) -> MalformedEvidence:
    return MalformedEvidence(f"{_WHAT}: {message}", check=Check.GPU_RIM_FORMAT)


def _bad_form(message: str) -> MalformedEvidence:
    return MalformedEvidence(f"{_WHAT}: {message}", check=Check.GPU_RIM_SIGNATURE_FORM)


@cache
def _etree() -> Any:
    from lxml import etree  # noqa: PLC0415 - whoever verifies no GPU need not load libxml2

    return etree


@cache
def _foreign_attributes() -> Any:
    # Attributes of the namespace "xml" (xml:id, xml:base, xml:lang, xml:space) are where Canonical XML 1.0 and 1.1
    # differ (1.1, section 1.3): in how a part of a document inherits them.  lxml has 1.0 alone and the RIM names 1.1,
    # so a document with such an attribute is refused; without one both give the same bytes.  No RIM has any.
    return _etree().XPath("boolean(//@*[namespace-uri() = 'http://www.w3.org/XML/1998/namespace'])")


def _root(data: bytes) -> Any:
    """The document's element, of a document without a type: so it has no entity of its own and no default."""
    if len(data) > MAX_SIZE:
        raise _bad(f"larger than {MAX_SIZE} bytes")
    try:
        data.decode()
    except UnicodeDecodeError as exc:
        raise _bad("not UTF-8") from exc
    # Before the parser sees it, and in a comment too: no RIM has the letters anywhere.
    if b"<!DOCTYPE" in data or b"<!ENTITY" in data:
        raise _bad("it has a document type, which no RIM has")
    etree = _etree()
    # A parser for each document: one that is shared keeps its dictionary of names for ever.
    parser = etree.XMLParser(
        encoding="utf-8",
        resolve_entities=False,
        no_network=True,
        huge_tree=False,
        load_dtd=False,
        dtd_validation=False,
        attribute_defaults=False,
        collect_ids=False,
        recover=False,
    )
    try:
        root = etree.fromstring(data, parser)
    except (etree.LxmlError, ValueError) as exc:
        raise _bad(f"not XML: {exc}") from exc
    info = root.getroottree().docinfo
    if info.doctype or info.internalDTD is not None or info.externalDTD is not None:
        raise _bad("it has a document type, which no RIM has")
    if root.tag != f"{SWID}SoftwareIdentity":
        raise _bad("the document is no SoftwareIdentity of ISO/IEC 19770-2:2015")
    if _foreign_attributes()(root):
        raise _bad("an attribute of the namespace xml, for which Canonical XML 1.0 and 1.1 differ")
    return root


def _canonical(node: Any) -> bytes:
    """Canonical XML without comments, of a whole document or of one element with the namespaces in scope."""
    etree = _etree()
    try:
        made: bytes = etree.tostring(node, method="c14n", with_comments=False)
    except (etree.LxmlError, ValueError) as exc:
        raise _bad(f"it has no canonical form: {exc}") from exc
    return made


def _elements(parent: Any) -> list[Any]:
    """Child elements, without comments and processing instructions."""
    return list(parent.iterchildren("{*}*"))


def _only_signature(root: Any) -> Any:
    found = list(root.iter(f"{DS}Signature"))
    if len(found) != 1:
        raise _bad_form(f"{len(found)} signatures in the document, not one")
    if found[0].getparent() is not root:
        raise _bad_form("the signature is no child of the root")
    return found[0]


def _children(parent: Any, *names: str) -> list[Any]:
    """The child elements, which must be these in this order, of an element without attributes."""
    found = _elements(parent)
    if [child.tag for child in found] != [DS + name for name in names] or parent.attrib:
        raise _bad_form(f"{_local(parent)} does not hold exactly {', '.join(names)}")
    return found


def _local(element: Any) -> str:
    return str(element.tag).rpartition("}")[2]


def _algorithm(element: Any, wanted: str) -> None:
    """The element names this algorithm, without a parameter."""
    if dict(element.attrib) != {"Algorithm": wanted} or len(element):
        raise _bad_form(f"{_local(element)} is not {wanted} without parameters")


def _signed_info(info: Any) -> bytes:
    """The stated digest of a SignedInfo with exactly one Reference, to the whole document."""
    method, scheme, reference = _children(info, "CanonicalizationMethod", "SignatureMethod", "Reference")
    _algorithm(method, C14N11)
    _algorithm(scheme, ECDSA_SHA384)
    if dict(reference.attrib) != {"URI": ""}:
        raise _bad_form('the reference is not to the whole document, which is URI ""')
    found = _elements(reference)
    if [child.tag for child in found] != [DS + name for name in ("Transforms", "DigestMethod", "DigestValue")]:
        raise _bad_form("Reference does not hold exactly Transforms, DigestMethod, DigestValue")
    transforms, hashing, value = found
    enveloped, canonical = _children(transforms, "Transform", "Transform")
    _algorithm(enveloped, ENVELOPED)
    _algorithm(canonical, C14N11)
    _algorithm(hashing, SHA384)
    return _octets(_text(value), "DigestValue", 48)


def _certificates(key: Any) -> tuple[bytes, ...]:
    (bundle,) = _children(key, "X509Data")
    found = _elements(bundle)
    if not 0 < len(found) <= MAX_CERTIFICATES:
        raise _bad_form(f"{len(found)} certificates, not 1 to {MAX_CERTIFICATES}")
    if any(child.tag != f"{DS}X509Certificate" for child in found) or bundle.attrib:
        raise _bad_form("X509Data holds something else than certificates")
    return tuple(_octets(_text(child), "X509Certificate") for child in found)


def _text(element: Any) -> str:
    """The whole text of an element without attributes that holds nothing else.

    A comment inside is passed over, as canonical XML does: text must not end where one stands.
    """
    if element.attrib or any(child.tag is not _etree().Comment for child in element):
        raise _bad_form(f"{_local(element)} holds something else than text")
    return (element.text or "") + "".join(child.tail or "" for child in element)


def _octets(text: str, what: str, size: int | None = None) -> bytes:
    try:
        data = binascii.a2b_base64(text.encode().translate(None, _SPACE), strict_mode=True)
    except binascii.Error as exc:
        raise _bad_form(f"{what} is not base64") from exc
    if not data or size not in {None, len(data)}:
        raise _bad_form(f"{what} has {len(data)} bytes{f', not {size}' if size else ''}")
    return data


def _take_out(element: Any) -> None:
    """Remove an element and nothing else: lxml would take the text behind it along."""
    before, parent, tail = element.getprevious(), element.getparent(), element.tail or ""
    parent.remove(element)
    if before is None:
        parent.text = (parent.text or "") + tail
    else:
        before.tail = (before.tail or "") + tail


def _parts(root: Any) -> tuple[Any, Any]:
    """Meta and Payload: children of the root, and the only ones of the whole document."""
    for name in ("SoftwareIdentity", "Meta", "Payload"):
        found = sum(1 for _ in root.iter(f"{SWID}{name}"))
        if found != 1:
            raise _bad(f"{found} times {name} in the document, not once")
    meta, payload = root.find(f"{SWID}Meta"), root.find(f"{SWID}Payload")
    if meta is None or payload is None:
        raise _bad("Meta and Payload are not children of SoftwareIdentity")
    return meta, payload


def _resources(root: Any, payload: Any) -> list[dict[str, str]]:
    """Attributes of each Resource: children of the Payload, and the only ones of the whole document."""
    found = _elements(payload)
    if any(child.tag != f"{SWID}Resource" or len(child) for child in found):
        raise _bad("the Payload holds something else than empty Resource elements")
    if sum(1 for _ in root.iter(f"{SWID}Resource")) != len(found):
        raise _bad("a Resource outside of the Payload")
    return [dict(child.attrib) for child in found]
