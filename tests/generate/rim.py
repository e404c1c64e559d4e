"""Test-signed RIMs: a PKI of our own, and a writer of XMLDSig with lxml that also signs what no RIM should be.

Everything is made anew from fixed keys whenever a test asks; ``rim()`` is a genuine one, and its options and the two
hooks change what is signed (``before``) or the signed document (``after``).
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache
from hashlib import sha256, sha384
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.x509.oid import NameOID
from lxml import etree

AT = datetime(2026, 7, 1, tzinfo=UTC)
EARLY, LATE = datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)
SWID = "http://standards.iso.org/iso/19770/-2/2015/schema.xsd"
DS = "http://www.w3.org/2000/09/xmldsig#"
HASH = "http://www.w3.org/2001/04/xmlenc#sha384"
TCG = "https://trustedcomputinggroup.org/resource/tcg-reference-integrity-manifest-rim-information-model/"
ENVELOPED = "http://www.w3.org/2000/09/xmldsig#enveloped-signature"
C14N11 = "http://www.w3.org/2006/12/xml-c14n11"
SHA384 = "http://www.w3.org/2001/04/xmldsig-more#sha384"
ECDSA_SHA384 = "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha384"

Hook = Callable[[Any], None]


@dataclass(frozen=True)
class Link:
    """One certificate of a RIM's chain, from which it can be made again with something changed."""

    name: str
    key: int
    is_ca: bool = True
    path_length: int | None = None
    usage: str = "key_cert_sign"
    not_before: datetime = datetime(2023, 1, 1, tzinfo=UTC)
    not_after: datetime = datetime(2040, 1, 1, tzinfo=UTC)


ROOT = Link("TEST CoRIM signing Root CA (SIMULATED)", 101)
CA = Link("TEST Reference Value GH100 CA (SIMULATED)", 102)
L3 = Link("TEST Reference Value L3 GH100 (SIMULATED)", 103, path_length=0)
SIGNER = Link("TEST RIM L4 Signer (SIMULATED)", 104, False, None, "digital_signature", EARLY, LATE)
LINKS = (SIGNER, L3, CA, ROOT)
USAGES = (
    *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
    *("key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
)


@cache
def private_key(number: int) -> ec.EllipticCurvePrivateKey:
    """A key from a number; worth nothing."""
    return ec.derive_private_key(int.from_bytes(sha384(b"test RIM %d" % number).digest()) >> 8, ec.SECP384R1())


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


@cache
def certificate(link: Link, issuer: Link, signed_by: int | None = None) -> bytes:
    """DER of this certificate under that issuer; `signed_by` is the key of another."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(link.name))
        .issuer_name(_name(issuer.name))
        .public_key(private_key(link.key).public_key())
        .serial_number(1000 + link.key)
        .not_valid_before(link.not_before)
        .not_valid_after(link.not_after)
        .add_extension(x509.BasicConstraints(link.is_ca, link.path_length), True)
        .add_extension(x509.KeyUsage(**{usage: usage == link.usage for usage in USAGES}), True)
    )
    key = private_key(issuer.key if signed_by is None else signed_by)
    made = builder.sign(key, hashes.SHA384(), ecdsa_deterministic=True)
    return made.public_bytes(serialization.Encoding.DER)


def chain(links: Sequence[Link] = LINKS) -> tuple[bytes, ...]:
    """DER certificates, the signer's first."""
    return tuple(certificate(link, issuer) for link, issuer in zip(links, (*links[1:], links[-1]), strict=True))


ROOT_SHA256 = sha256(certificate(ROOT, ROOT)).digest()


@dataclass(frozen=True)
class Value:
    """One Resource."""

    index: int
    hashes: tuple[bytes, ...] = (b"\0" * 48,)
    active: bool = True


@dataclass(frozen=True)
class Spec:
    """A RIM before it is signed; the defaults are a driver's in small."""

    product: str = "GH100"
    version: str = "550.90.07"
    values: tuple[Value, ...] = (
        Value(0, active=False),
        Value(7, (b"\x07" * 48,)),
        Value(35, (b"\x35" * 48, b"\x36" * 48, b"\x37" * 48, b"\x38" * 48)),
    )
    edition: str = "GPU"


@dataclass(frozen=True)
class Form:
    """How a RIM is signed.

    Attributes:
        links: the chain to write; the first one's key signs.
        certificates: DER to write in place of it, or None.
        key: number of the key that signs in place of the first one's, or None.
        references: URIs of the references.
        transforms: algorithms of each reference.
        digest_method: as written, and the hash that makes it.
        c14n: algorithm of SignedInfo as written.
        method: signature algorithm as written.
        der: write the signature as DER, not as r || s.
        before: hook on the document, before it is hashed.
        after: hook on the signed document.
    """

    links: Sequence[Link] = LINKS
    certificates: tuple[bytes, ...] | None = None
    key: int | None = None
    references: tuple[str, ...] = ("",)
    transforms: tuple[str, ...] = (ENVELOPED, C14N11)
    digest_method: str = SHA384
    c14n: str = C14N11
    method: str = ECDSA_SHA384
    der: bool = False
    before: Hook = field(default=lambda root: None)
    after: Hook = field(default=lambda root: None)


def unsigned(spec: Spec) -> str:
    """The document without its signature, written as NVIDIA writes it."""
    lines = [
        f'<SoftwareIdentity xmlns="{SWID}" xmlns:ns0="{SWID}" xmlns:ns2="{HASH}" corpus="false" name="{spec.product}"'
        f' patch="false" supplemental="false" tagId="{"5a" * 48}" version="1.0" tagVersion="0">',
        '    <ns0:Entity name="TEST (SIMULATED)" role="softwareCreator tagCreator"/>',
        f'    <ns0:Meta xmlns:ns1="{TCG}" colloquialVersion="{spec.version}" edition="{spec.edition}"'
        f' product="{spec.product}" revision="r1" PayloadType="direct" ns1:BindingSpec="RIMIM"'
        ' ns1:FirmwareManufacturerId="5703"/>',
        f'    <ns0:Payload xmlns:SHA384="{HASH}">',
    ]
    for value in spec.values:
        golden = " ".join(f'ns2:Hash{n}="{digest.hex()}"' for n, digest in enumerate(value.hashes))
        lines.append(
            f'        <ns0:Resource type="Measurement" index="{value.index}" active="{value.active}"'
            f' alternatives="{len(value.hashes)}" {golden} name="Measurement_{value.index}" size="48"/>'
        )
    return "\n".join([*lines, "    </ns0:Payload>", "</SoftwareIdentity>"])


def _canonical(node: Any) -> bytes:
    return etree.tostring(node, method="c14n", with_comments=False)


def _reference(uri: str, digest: bytes, form: Form) -> str:
    transforms = "".join(f'<ds:Transform Algorithm="{name}"/>' for name in form.transforms)
    return (
        f'<ds:Reference URI="{uri}"><ds:Transforms>{transforms}</ds:Transforms>'
        f'<ds:DigestMethod Algorithm="{form.digest_method}"/>'
        f"<ds:DigestValue>{base64.b64encode(digest).decode()}</ds:DigestValue></ds:Reference>"
    )


def _certificates(form: Form) -> str:
    written = form.certificates or chain(form.links)
    return "".join(f"<ds:X509Certificate>{base64.encodebytes(der).decode()}</ds:X509Certificate>" for der in written)


def raw_signature(key: int, data: bytes, *, der: bool = False) -> bytes:
    """ECDSA with SHA-384 as r || s."""
    made = private_key(key).sign(data, ec.ECDSA(hashes.SHA384(), deterministic_signing=True))
    r, s = decode_dss_signature(made)
    return made if der else r.to_bytes(48, "big") + s.to_bytes(48, "big")


def rim(spec: Spec = Spec(), form: Form = Form(), **changes: Any) -> bytes:
    """A signed RIM.

    Args:
        spec: what it says.
        form: how it is signed.
        **changes: fields of `form` that are other ones.
    """
    form = replace(form, **changes)
    root = etree.fromstring(unsigned(spec))
    form.before(root)
    hashing = sha256 if form.digest_method.endswith("#sha256") else sha384
    digest = hashing(_canonical(root.getroottree())).digest()
    signature = etree.fromstring(
        f'<ds:Signature xmlns:ds="{DS}"><ds:SignedInfo><ds:CanonicalizationMethod Algorithm="{form.c14n}"/>'
        f'<ds:SignatureMethod Algorithm="{form.method}"/>'
        f"{''.join(_reference(uri, digest, form) for uri in form.references)}</ds:SignedInfo>"
        f"<ds:SignatureValue/><ds:KeyInfo><ds:X509Data>{_certificates(form)}</ds:X509Data></ds:KeyInfo></ds:Signature>"
    )
    root.append(signature)
    key = form.links[0].key if form.key is None else form.key
    made = raw_signature(key, _canonical(signature[0]), der=form.der)
    signature[1].text = base64.b64encode(made).decode()
    form.after(root)
    return etree.tostring(root.getroottree())


def sign_again(root: Any, key: int = SIGNER.key) -> None:
    """Give a document whose SignedInfo was changed a good signature over that SignedInfo, and a good digest."""
    signature = root.find(f"{{{DS}}}Signature")
    copy = etree.fromstring(etree.tostring(root.getroottree()))
    gone = copy.find(f"{{{DS}}}Signature")
    gone.getprevious().tail = (gone.getprevious().tail or "") + (gone.tail or "")
    copy.remove(gone)
    value = signature.find(f".//{{{DS}}}DigestValue")
    value.text = base64.b64encode(sha384(_canonical(copy.getroottree())).digest()).decode()
    made = raw_signature(key, _canonical(signature[0]))
    signature[1].text = base64.b64encode(made).decode()


def x509_sha256(links: Sequence[Link]) -> bytes:
    """SHA-256 of the last certificate of a chain."""
    return sha256(chain(links)[-1]).digest()
