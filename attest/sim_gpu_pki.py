"""The simulated NVIDIA manufacturer: roots, CAs, devices' certificates, signers of RIMs and OCSP responders.

All keys follow from one secret; certificates are the same bytes each time, so that a policy can name the roots' hashes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cached_property

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from pyasn1.codec.der import encoder
from pyasn1.type import char

from ..evidence.gpu_arch import Arch
from .sim_gpu_certificate import (
    COMPOSITE_DEVICE_ID,
    DEVICES_END,
    DICE_TCB_INFO,
    FAMILIES,
    MAKER,
    PERMANENT_ID,
    RIM_END,
    ROOT_MAKER,
    SIGNER_WINDOW,
    TCB_INFO_REST,
    CertificateFields,
    Entity,
    Window,
    authority_key,
    certificate,
    composite_device_id,
    crl_address,
    derive_p384,
    dice_tcb_info,
    key_id,
    key_usage,
    name,
    ocsp_address,
    positive,
    subject_key,
)

_CA = (x509.BasicConstraints(ca=True, path_length=None), True)
_CA_USAGE = (key_usage(certificates=True, crls=True), True)
_CN, _O, _C = NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME, NameOID.COUNTRY_NAME


class NvidiaPki:
    """Keys and certificates of a simulated manufacturer and of all its devices, all out of one secret.

    Args:
        secret: 32 bytes.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._made: dict[str, Entity] = {}

    def key(self, label: str) -> ec.EllipticCurvePrivateKey:
        """The key for a label."""
        return derive_p384(self._secret, label)

    @cached_property
    def root(self) -> Entity:
        """The root of device chains."""
        subject = name((_CN, "SIMULATED NVIDIA Device Identity CA"), (_O, ROOT_MAKER))
        key = self.key("device root")
        extensions = (_CA, _CA_USAGE, (subject_key(key), False), (authority_key(key), False))
        return self._self_signed(subject, key, Window(datetime(2021, 11, 5, tzinfo=UTC), DEVICES_END), extensions)

    @cached_property
    def rim_root(self) -> Entity:
        """The root of the chains of RIMs."""
        subject = name((_C, "US"), (_O, ROOT_MAKER), (_CN, "SIMULATED NVIDIA CoRIM signing Root CA"))
        key = self.key("RIM root")
        extensions = ((subject_key(key), False), (authority_key(key), False), _CA, _CA_USAGE)
        window = Window(datetime(2023, 3, 16, 15, 37, 34, tzinfo=UTC), RIM_END)
        return self._self_signed(subject, key, window, extensions)

    @property
    def root_sha256s(self) -> frozenset[bytes]:
        """SHA-256 of both roots, by which a policy names this platform."""
        return frozenset(hashlib.sha256(entity.der).digest() for entity in (self.root, self.rim_root))

    def identity(self, arch: Arch) -> Entity:
        """The Identity CA: one for Hopper and LS10, one for Blackwell."""
        chip = FAMILIES[arch].identity
        subject = name((_CN, f"NVIDIA {chip} Identity"), (_O, MAKER))
        start = datetime(2022, 1, 12, tzinfo=UTC) if chip == "GH100" else datetime(2023, 1, 1, tzinfo=UTC)
        extensions = (_CA, _CA_USAGE, (crl_address("crl/l1-root.crl"), False), (ocsp_address(), False))
        return self._issued(f"Identity {chip}", subject, lambda: self.root, Window(start, DEVICES_END), extensions)

    def provisioner(self, arch: Arch) -> Entity:
        """The Provisioner ICA."""
        family = FAMILIES[arch]
        subject = name((_CN, f"NVIDIA {family.label} Provisioner ICA {family.provisioner}"), (_O, MAKER), (_C, "US"))
        start = datetime(2022, 3, 1, tzinfo=UTC) if family.identity == "GH100" else family.start
        listed = crl_address(f"crl/l2-{family.identity.lower()}.crl")
        extensions = (_CA, _CA_USAGE, (listed, False), (ocsp_address(), False))
        window = Window(start, DEVICES_END)
        return self._issued(f"Provisioner {family.label}", subject, lambda: self.identity(arch), window, extensions)

    def brom(self, arch: Arch, pdi: bytes) -> Entity:
        """The certificate of a device's boot ROM; its serial number is a tag byte and the device's PDI.

        Args:
            arch: the device's architecture.
            pdi: 8 bytes.
        """
        family = FAMILIES[arch]
        serial = bytes((family.pdi_tag,)) + pdi
        subject = self._device_name(serial, f"{family.label} A01 {family.engine} BROM")
        extensions: tuple[tuple[x509.ExtensionType, bool], ...] = (_CA, (key_usage(certificates=True), True))
        if arch is Arch.BLACKWELL:
            extensions += ((ocsp_address(), False),)
        return self._issued(
            f"BROM {family.label} {pdi.hex()}",
            subject,
            lambda: self.provisioner(arch),
            Window(family.start, DEVICES_END),
            extensions,
            serial=int.from_bytes(serial, "big"),
        )

    def leaf_fields(self, arch: Arch, pdi: bytes, fwid: bytes, *, flags: int = 0) -> CertificateFields:
        """What the certificate of a device's firmware says; replace a part of it to write another one.

        Args:
            arch: the device's architecture.
            pdi: 8 bytes.
            fwid: SHA-384 of the firmware.
            flags: operational flags of Blackwell's DiceTcbInfo.
        """
        family, brom = FAMILIES[arch], self.brom(arch, pdi)
        # The firmware's key depends on the firmware, as DICE has it.
        key = self.key(f"FMC {family.label} {pdi.hex()} {fwid.hex()}")
        identifier = key_id(key)
        serial = positive(identifier).to_bytes(len(identifier), "big")
        if arch is Arch.BLACKWELL:
            model = f"{family.label} A01 {family.engine}"
            oid, value = DICE_TCB_INFO, dice_tcb_info(model, (fwid, bytes(48)), flags | TCB_INFO_REST)
        else:
            oid, value = COMPOSITE_DEVICE_ID, composite_device_id(brom.certificate, fwid)
        ecid = "48B02D" + hashlib.sha256(b"ecid" + pdi).hexdigest()[:10].upper()
        permanent = bytes(encoder.encode(char.UTF8String(f"NVIDIA:{family.label}:{ecid}")))
        other = x509.OtherName(x509.ObjectIdentifier(PERMANENT_ID), permanent)
        return CertificateFields(
            subject=self._device_name(serial, f"{family.label} A01 {family.engine} FMC LF"),
            issuer=brom.name,
            key=key,
            issuer_key=brom.key,
            window=Window(family.start, DEVICES_END),
            serial=int.from_bytes(serial, "big"),
            extensions=(
                (key_usage(data=True), True),
                (subject_key(key), False),
                (authority_key(brom.key), False),
                (x509.SubjectAlternativeName([other]), False),
                (x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), value), False),
            ),
        )

    def leaf(self, arch: Arch, pdi: bytes, fwid: bytes, *, flags: int = 0) -> Entity:
        """The certificate of a device's firmware; parameters as in :meth:`leaf_fields`."""
        label = f"leaf {arch} {pdi.hex()} {fwid.hex()} {flags}"
        if label not in self._made:
            fields = self.leaf_fields(arch, pdi, fwid, flags=flags)
            self._made[label] = Entity(fields.subject, fields.key, certificate(fields))
        return self._made[label]

    def device_issuers(self, arch: Arch, pdi: bytes) -> tuple[Entity, Entity, Entity, Entity]:
        """BROM, Provisioner ICA, Identity and root."""
        return self.brom(arch, pdi), self.provisioner(arch), self.identity(arch), self.root

    def rim_ca(self, arch: Arch) -> Entity:
        """The CA of an architecture's RIMs."""
        chip = FAMILIES[arch].chip
        subject = name((_CN, f"NVIDIA Reference Value {chip} CA"), (_O, MAKER), (_C, "US"))
        extensions = (_CA, _CA_USAGE, (crl_address("crl-corim/l1-corim"), False), (ocsp_address(), False))
        window = Window(datetime(2023, 5, 11, tzinfo=UTC), datetime(2052, 5, 11, 23, 59, 59, tzinfo=UTC))
        return self._issued(f"RIM CA {chip}", subject, lambda: self.rim_root, window, extensions)

    def rim_l3(self, arch: Arch) -> Entity:
        """The CA below it, which certifies signers."""
        chip = FAMILIES[arch].chip
        subject = name((_CN, f"NVIDIA Reference Value L3 {chip} 001"), (_O, MAKER), (_C, "US"))
        basic = (x509.BasicConstraints(ca=True, path_length=0), True)
        window = Window(datetime(2023, 5, 11, tzinfo=UTC), datetime(2051, 11, 11, 23, 59, 59, tzinfo=UTC))
        extensions = (basic, _CA_USAGE, (ocsp_address(), False))
        return self._issued(f"RIM L3 {chip}", subject, lambda: self.rim_ca(arch), window, extensions)

    def rim_signer(self, arch: Arch, issue: int = 0, window: Window = SIGNER_WINDOW) -> Entity:
        """The signer of RIMs.

        Args:
            arch: architecture.
            issue: number of the signer; each has a key of its own.
            window: validity.
        """
        family = FAMILIES[arch]
        subject = name(
            (_C, "US"),
            (NameOID.STATE_OR_PROVINCE_NAME, "CA"),
            (NameOID.LOCALITY_NAME, "Santa Clara"),
            (_O, MAKER),
            (_CN, family.rim_signer),
        )
        key, issuer = self.key(f"RIM signer {family.chip} {issue}"), self.rim_l3(arch)
        fields = CertificateFields(
            subject=subject,
            issuer=issuer.name,
            key=key,
            issuer_key=issuer.key,
            window=window,
            serial=positive(key_id(key)[:16]),
            extensions=(
                (subject_key(key), False),
                (authority_key(issuer.key), False),
                (x509.BasicConstraints(ca=False, path_length=None), True),
                (key_usage(data=True), True),
                (ocsp_address(), False),
            ),
        )
        return Entity(subject, key, certificate(fields))

    def rim_issuers(self, arch: Arch) -> tuple[Entity, Entity, Entity]:
        """L3, the CA and the root."""
        return self.rim_l3(arch), self.rim_ca(arch), self.rim_root

    def responder(
        self, issuer: Entity, *, may_sign: bool = True, window: Window = SIGNER_WINDOW, label: str = ""
    ) -> Entity:
        """A delegated OCSP responder of a CA.

        Args:
            issuer: the CA.
            may_sign: it has the extended key usage without which its answers are worth nothing.
            window: validity.
            label: another one makes another responder.
        """
        subject = name((_C, "US"), (_O, MAKER), (_CN, f"OCSP Responder {key_id(issuer.key).hex()[:8]}"))
        key = self.key(f"responder {key_id(issuer.key).hex()} {label}")
        usage = ExtendedKeyUsageOID.OCSP_SIGNING if may_sign else ExtendedKeyUsageOID.CODE_SIGNING
        fields = CertificateFields(
            subject=subject,
            issuer=issuer.name,
            key=key,
            issuer_key=issuer.key,
            window=window,
            serial=positive(key_id(key)[:16]),
            extensions=(
                (x509.BasicConstraints(ca=False, path_length=None), True),
                (key_usage(data=True), True),
                (x509.ExtendedKeyUsage([usage]), False),
                (x509.OCSPNoCheck(), False),
                (subject_key(key), False),
                (authority_key(issuer.key), False),
            ),
        )
        return Entity(subject, key, certificate(fields))

    @staticmethod
    def _device_name(serial: bytes, common_name: str) -> x509.Name:
        return name((NameOID.SERIAL_NUMBER, serial.hex().upper()), (_C, "US"), (_O, MAKER), (_CN, common_name))

    @staticmethod
    def _self_signed(
        subject: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        window: Window,
        extensions: tuple[tuple[x509.ExtensionType, bool], ...],
    ) -> Entity:
        fields = CertificateFields(
            subject=subject,
            issuer=subject,
            key=key,
            issuer_key=key,
            window=window,
            serial=positive(key_id(key)[:16]),
            extensions=extensions,
        )
        return Entity(subject, key, certificate(fields))

    def _issued(
        self,
        label: str,
        subject: x509.Name,
        issuer: Callable[[], Entity],
        window: Window,
        extensions: tuple[tuple[x509.ExtensionType, bool], ...],
        *,
        serial: int | None = None,
    ) -> Entity:
        """A CA's certificate with the identifiers of both keys at its end; made once."""
        if label not in self._made:
            key, above = self.key(label), issuer()
            fields = CertificateFields(
                subject=subject,
                issuer=above.name,
                key=key,
                issuer_key=above.key,
                window=window,
                serial=positive(key_id(key)[:16]) if serial is None else serial,
                extensions=(*extensions, (subject_key(key), False), (authority_key(above.key), False)),
            )
            self._made[label] = Entity(subject, key, certificate(fields))
        return self._made[label]
