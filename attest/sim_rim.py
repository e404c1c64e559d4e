"""Simulated reference integrity manifests (RIMs): NVIDIA's SWID tags, really signed.

Source: RIMs that NVIDIA published; W3C, "XML Signature Syntax and Processing" 1.1 and "Canonical XML" 1.1.  Every
element is written in two forms from one description: as NVIDIA's files have it, and as Canonical XML has it
(namespaces, then attributes in order, no empty-element tags).  The latter is what is hashed, so no XML library is
needed to sign, and those that verify are independent of this writer.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha384
from typing import NamedTuple

from cryptography.hazmat.primitives.asymmetric import ec

from ..errors import UsageError
from ..evidence.gpu_arch import Arch, Kind
from .sim_gpu import BIOS, DRIVER, VBIOS, ZERO, Firmware, sign_raw
from .sim_gpu_certificate import SIGNER_WINDOW, Entity, Window
from .sim_gpu_pki import NvidiaPki

_SWID = "http://standards.iso.org/iso/19770/-2/2015/schema.xsd"
_SHA384 = "http://www.w3.org/2001/04/xmlenc#sha384"
_TCG = "https://trustedcomputinggroup.org/resource/tcg-reference-integrity-manifest-rim-information-model/"
_DS = "http://www.w3.org/2000/09/xmldsig#"
_C14N11 = "http://www.w3.org/2006/12/xml-c14n11"
_MORE = "http://www.w3.org/2001/04/xmldsig-more#"
_NAMESPACES = {"": _SWID, "ns0": _SWID, "ns1": _TCG, "ns2": _SHA384, "SHA384": _SHA384, "ds": _DS}
_COMPANY = "SIMULATED NVIDIA Corporation"
_VENDOR_ID = "5703"
"""NVIDIA's number at IANA, which a RIM states as the firmware's manufacturer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """One reference value of a RIM.

    Attributes:
        index: from 0.
        active: it counts.
        values: the alternatives, 48 bytes each.
        name: what NVIDIA calls it.
    """

    index: int
    active: bool
    values: tuple[bytes, ...]
    name: str


class _Tag(NamedTuple):
    """A start tag: its name, the prefixes that it declares, and attributes with prefixed names."""

    name: str
    declares: tuple[str, ...] = ()
    attributes: tuple[tuple[str, str], ...] = ()

    def write(self, *, canonical: bool, empty: bool = False, inherited: tuple[str, ...] = ()) -> str:
        """The tag in one of the two forms.

        Args:
            canonical: as Canonical XML has it; else as NVIDIA's files do.
            empty: nothing stands in the element.
            inherited: prefixes that are declared around it, where the canonical form begins here.
        """
        declares, attributes = self.declares, self.attributes
        end = "/>" if empty else ">"
        if canonical:
            # The default namespace first, then prefixes by name; attributes by namespace and name (C14N 2.2).
            declares = tuple(sorted({*declares, *inherited}))
            attributes = tuple(sorted(attributes, key=_place))
            end = f"></{self.name}>" if empty else ">"
        names = [(f"xmlns:{prefix}" if prefix else "xmlns", _NAMESPACES[prefix]) for prefix in declares]
        written = (f' {name}="{_escaped(value)}"' for name, value in (*names, *attributes))
        return f"<{self.name}{''.join(written)}{end}"


def _escaped(value: str) -> str:
    """Text of an attribute as Canonical XML has it, which does not escape ">" (C14N 2.3)."""
    return value.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")


def _place(attribute: tuple[str, str]) -> tuple[str, str]:
    """Namespace and local name of an attribute; one without a prefix has no namespace."""
    prefix, colon, local = attribute[0].partition(":")
    return (_NAMESPACES[prefix], local) if colon else ("", prefix)


@dataclass(frozen=True, slots=True, kw_only=True)
class SimRim:
    """What a RIM says, and who is to sign it.

    Attributes:
        arch: architecture; its signer signs.
        id: the id under which RIMs are kept.
        version: colloquialVersion: of the driver, the VBIOS or the switch's BIOS.
        references: its values, in order.
        product: chip.
        issue: number of the signer.
        window: validity of the signer's certificate.
        revision: such as "r1".
    """

    arch: Arch
    id: str
    version: str
    references: tuple[Reference, ...]
    product: str
    issue: int = 0
    window: Window = SIGNER_WINDOW
    revision: str = "r1"

    @classmethod
    def of(cls, firmware: Firmware, source: str) -> SimRim:
        """The RIM of a source for a firmware.

        Args:
            firmware: what runs on the device.
            source: "driver" or "vbios" for a GPU, "bios" for a switch.

        Raises:
            UsageError: a source that this firmware has no RIM of.
        """
        if source not in firmware.active:
            raise UsageError(f"{firmware.chip} has RIMs for {' and '.join(firmware.active)}, not for {source}")
        count = 64 if firmware.kind is Kind.GPU else len(firmware.active[source])
        return cls(
            arch=firmware.arch,
            id=firmware.rim_ids[source],
            version=firmware.version(source),
            references=tuple(_reference(firmware, source, index) for index in range(count)),
            product=firmware.chip,
        )

    @classmethod
    def driver(cls, firmware: Firmware) -> SimRim:
        """The RIM of a GPU's driver."""
        return cls.of(firmware, DRIVER)

    @classmethod
    def vbios(cls, firmware: Firmware) -> SimRim:
        """The RIM of a GPU's VBIOS."""
        return cls.of(firmware, VBIOS)

    @classmethod
    def bios(cls, firmware: Firmware) -> SimRim:
        """The RIM of a switch's BIOS."""
        return cls.of(firmware, BIOS)

    def reissue(self, index: int = 9) -> SimRim:
        """Another issue under the same id and tag, as NVIDIA made some: another signer, another value at one index.

        Raises:
            UsageError: no such index.
        """
        if index not in {reference.index for reference in self.references}:
            raise UsageError(f"the RIM has no index {index}")
        changed = tuple(
            replace(reference, values=tuple(sha384(b"reissued" + value).digest() for value in reference.values))
            if reference.index == index
            else reference
            for reference in self.references
        )
        return replace(self, references=changed, issue=self.issue + 1)

    @property
    def tag_id(self) -> str:
        """96 hex digits; the same for all issues."""
        return sha384(f"dokimos simulated RIM {self.id}".encode()).hexdigest()

    def sign(self, pki: NvidiaPki) -> bytes:
        """The file, signed; the same bytes each time."""
        entities = self.signers(pki)
        return self.write(entities[0].key, [entity.der for entity in entities])

    def signers(self, pki: NvidiaPki) -> tuple[Entity, ...]:
        """Its chain, the signer first, the root last."""
        return pki.rim_signer(self.arch, self.issue, self.window), *pki.rim_issuers(self.arch)

    def write(self, key: ec.EllipticCurvePrivateKey, chain: Sequence[bytes]) -> bytes:
        """The file, signed by any key.

        Args:
            key: signs.
            chain: certificates in DER that the file holds, the signer's first.
        """
        file, canonical = (self.document(canonical=form) for form in (False, True))
        end = "</SoftwareIdentity>"
        digest = sha384((canonical + end).encode()).digest()
        info, signed_info = (_signed_info(digest, canonical=form) for form in (False, True))
        signature = base64.b64encode(sign_raw(key, signed_info.encode())).decode()
        certificates = "".join(f"<ds:X509Certificate>{base64_lines(der)}</ds:X509Certificate>" for der in chain)
        signed = (
            f"{_Tag('ds:Signature', ('ds',)).write(canonical=False)}{info}"
            f"<ds:SignatureValue>{signature}</ds:SignatureValue><ds:KeyInfo><ds:X509Data>{certificates}</ds:X509Data></ds:KeyInfo></ds:Signature>"
        )
        return f"{file}{signed}{end}\n".encode()

    def document(self, *, canonical: bool) -> str:
        """The document up to the end tag of its root, without a signature."""
        root = _Tag(
            "SoftwareIdentity",
            ("", "ns0", "ns2"),
            (
                ("corpus", "false"),
                ("name", self.product),
                ("patch", "false"),
                ("supplemental", "false"),
                ("tagId", self.tag_id),
                ("version", "1.0"),
                ("tagVersion", "0"),
            ),
        )
        entity = _Tag("ns0:Entity", (), (("name", _COMPANY), ("role", "softwareCreator tagCreator")))
        payload = _Tag("ns0:Payload", ("SHA384",))
        resources = [_resource(reference) for reference in self.references]
        lines = [
            root.write(canonical=canonical),
            f"    {entity.write(canonical=canonical, empty=True)}",
            f"    {self._meta().write(canonical=canonical, empty=True)}",
            f"    {payload.write(canonical=canonical)}",
            *(f"        {resource.write(canonical=canonical, empty=True)}" for resource in resources),
            "    </ns0:Payload>",
            "",
        ]
        return "\n".join(lines)

    def _meta(self) -> _Tag:
        return _Tag(
            "ns0:Meta",
            ("ns1",),
            (
                ("colloquialVersion", self.version),
                ("edition", self.arch.kind.upper()),
                ("product", self.product),
                ("revision", self.revision),
                ("PayloadType", "direct"),
                ("ns1:BindingSpec", "RIMIM"),
                ("ns1:BindingSpecVersion", "1.01"),
                ("ns1:PlatformManufacturerId", _VENDOR_ID),
                ("ns1:PlatformManufacturerStr", _COMPANY),
                ("ns1:PlatformModel", self.product),
                ("ns1:FirmwareManufacturer", _COMPANY),
                ("ns1:FirmwareManufacturerId", _VENDOR_ID),
            ),
        )


def base64_lines(der: bytes) -> str:
    """Base64 with 64 characters in a line, as between the lines of PEM."""
    text = base64.b64encode(der).decode()
    return "".join(f"{text[at : at + 64]}\n" for at in range(0, len(text), 64))


def _reference(firmware: Firmware, source: str, index: int) -> Reference:
    active = index in firmware.active[source]
    if not active:
        return Reference(index=index, active=False, values=(ZERO,), name=f"Measurement_{index}")
    gpu, driver = firmware.kind is Kind.GPU, source == DRIVER
    if index in firmware.zero:
        name = f"Measurement_{index}"
    elif driver:
        name = f"HashedMeasurement_{index}_GSP" if 32 <= index <= 38 else f"MixedMeasurement_{index}"
    else:
        hashed = 1 <= index <= 6 if gpu else index <= 3
        name = f"HashedMeasurement_{index}_FSP" if hashed else f"Measurement_{index}"
    return Reference(index=index, active=True, values=firmware.golden(index), name=name)


def _resource(reference: Reference) -> _Tag:
    hashes = tuple((f"ns2:Hash{n}", value.hex()) for n, value in enumerate(reference.values))
    return _Tag(
        "ns0:Resource",
        (),
        (
            ("type", "Measurement"),
            ("index", str(reference.index)),
            ("active", str(reference.active)),
            ("alternatives", str(len(reference.values))),
            *hashes,
            ("name", reference.name),
            ("size", "48"),
        ),
    )


def _signed_info(digest: bytes, *, canonical: bool) -> str:
    """SignedInfo; its canonical form declares what is in scope around it."""

    def empty(name: str, algorithm: str) -> str:
        tag = _Tag(f"ds:{name}", (), (("Algorithm", algorithm),))
        return tag.write(canonical=canonical, empty=True)

    start = _Tag("ds:SignedInfo")
    return "".join(
        (
            start.write(canonical=canonical, inherited=("", "ds", "ns0", "ns2")),
            empty("CanonicalizationMethod", _C14N11),
            empty("SignatureMethod", f"{_MORE}ecdsa-sha384"),
            '<ds:Reference URI=""><ds:Transforms>',
            empty("Transform", f"{_DS}enveloped-signature"),
            empty("Transform", _C14N11),
            "</ds:Transforms>",
            empty("DigestMethod", f"{_MORE}sha384"),
            f"<ds:DigestValue>{base64.b64encode(digest).decode()}</ds:DigestValue>",
            "</ds:Reference></ds:SignedInfo>",
        )
    )
