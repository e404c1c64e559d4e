"""Writer of SNP attestation reports, byte-exact in versions 2 to 5 (AMD 56860, table "ATTESTATION_REPORT Structure").

Every field can be set, also to what no firmware would write, and bytes can be patched before the signature: a report
with a valid signature and a wrong meaning is the case that a verifier must be tested with.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import NamedTuple

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from ..errors import UsageError
from ..evidence.snp import (
    REPORT_SIZE,
    SIGNATURE_ALGO_P384,
    SIGNED_SIZE,
    VERSIONS,
    FirmwareVersion,
    Fms,
    Product,
    SigningKey,
    Tcb,
)

P384_ORDER = int("ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973", 16)
"""Number of points of P-384; its private keys are 1 to this minus 1."""
FIRMWARE = FirmwareVersion(1, 55, 29)
"""SNP firmware that writes reports up to version 4."""
FIRMWARE_V5 = FirmwareVersion(1, 58, 1)
"""SNP firmware that writes reports of version 5."""
DEFAULT_POLICY = 0x30000
"""Guest policy: SMT allowed, bit 17 as it must be, nothing else."""


class Machine(NamedTuple):
    """A processor that the platform plays, with values as real machines show them.

    Attributes:
        code_name: marketing name.
        product: whose keys sign.
        fms: family, model, stepping.
        product_name: as in a VCEK certificate.
        tcb: the patch levels of all four TCB fields.
        mit_vector: mitigations in version 5.
    """

    code_name: str
    product: Product
    fms: Fms
    product_name: str
    tcb: Tcb
    mit_vector: int


MACHINES = {
    machine.code_name: machine
    for machine in (
        Machine("Milan", Product.MILAN, Fms(0x19, 0x01, 1), "Milan-B1", Tcb(bl=4, tee=0, snp=0x18, ucode=0xDB), 0x0B),
        Machine("Genoa", Product.GENOA, Fms(0x19, 0x11, 1), "Genoa", Tcb(bl=10, tee=0, snp=0x17, ucode=0x54), 0x0B),
        Machine("Bergamo", Product.GENOA, Fms(0x19, 0xA0, 2), "Genoa", Tcb(bl=10, tee=0, snp=0x17, ucode=0x19), 0x0B),
        Machine(
            "Turin",
            Product.TURIN,
            Fms(0x1A, 0x02, 1),
            "Turin",
            Tcb(fmc=1, bl=2, tee=3, snp=4, ucode=0x55, reserved=bytes(3)),
            0x3F,
        ),
    )
}
"""What can be played, by name; Bergamo has a name of its own and Genoa's keys."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportFields:
    """A report before its signature; TCBs are 8 bytes in memory order, since nothing must hold for them here.

    Attributes:
        version: any 32-bit number; 2 to 5 are laid out as the ABI says.
        fms: written from version 3 on.
        mit_vectors: at launch and now; written from version 5 on.
        author_key_en: KEY_INFO bit 0.
        mask_chip_key: KEY_INFO bit 1.
        signing_key: KEY_INFO bits 4:2, 0 to 7.
        patches: offset and bytes, written last over whatever stands there, before the signature.
    """

    version: int
    fms: Fms
    chip_id: bytes
    current_tcb: bytes
    reported_tcb: bytes
    committed_tcb: bytes
    launch_tcb: bytes
    measurement: bytes = bytes(48)
    report_data: bytes = bytes(64)
    host_data: bytes = bytes(32)
    guest_svn: int = 0
    policy: int = DEFAULT_POLICY
    family_id: bytes = bytes(16)
    image_id: bytes = bytes(16)
    vmpl: int = 0
    signature_algo: int = SIGNATURE_ALGO_P384
    platform_info: int = 0x25
    author_key_en: bool = False
    mask_chip_key: bool = False
    signing_key: int = SigningKey.VCEK
    id_key_digest: bytes = bytes(48)
    author_key_digest: bytes = bytes(48)
    report_id: bytes = bytes(32)
    report_id_ma: bytes = b"\xff" * 32
    current_version: FirmwareVersion = FIRMWARE
    committed_version: FirmwareVersion = FIRMWARE
    mit_vectors: tuple[int, int] = (0, 0)
    patches: tuple[tuple[int, bytes], ...] = ()


def machine_fields(machine: Machine, version: int, chip_id: bytes) -> ReportFields:
    """The fields of an ordinary report of this machine; the measurement is still zero.

    Args:
        machine: what is played.
        version: 2 to 5.
        chip_id: as in the certificate: 64 bytes, or 8 from Turin on; empty where the report must not tell it.

    Raises:
        UsageError: another version.
    """
    if version not in VERSIONS:
        raise UsageError(f"report version {version}; {VERSIONS[0]} to {VERSIONS[-1]} can be written")
    tcb = machine.tcb.to_bytes()
    firmware = FIRMWARE_V5 if version >= 5 else FIRMWARE
    return ReportFields(
        version=version,
        fms=machine.fms,
        chip_id=chip_id.ljust(64, b"\x00"),
        current_tcb=tcb,
        reported_tcb=tcb,
        committed_tcb=tcb,
        launch_tcb=tcb,
        # SMT and ECC; ALIAS_CHECK_COMPLETE came with version 3.
        platform_info=0x25 if version >= 3 else 0x05,
        current_version=firmware,
        committed_version=firmware,
        mit_vectors=(machine.mit_vector, machine.mit_vector),
    )


def _le(value: int, size: int) -> bytes:
    return value.to_bytes(size, "little")


def _firmware(version: FirmwareVersion) -> bytes:
    return bytes((version.build, version.minor, version.major))  # build comes first


def report_body(fields: ReportFields) -> bytes:
    """The signed part of a report, 0x2A0 bytes.

    Raises:
        UsageError: a field that does not fit into its place.
    """
    key_info = fields.author_key_en | fields.mask_chip_key << 1 | fields.signing_key << 2
    try:
        places = [
            (0x000, 4, _le(fields.version, 4)),
            (0x004, 4, _le(fields.guest_svn, 4)),
            (0x008, 8, _le(fields.policy, 8)),
            (0x010, 16, fields.family_id),
            (0x020, 16, fields.image_id),
            (0x030, 4, _le(fields.vmpl, 4)),
            (0x034, 4, _le(fields.signature_algo, 4)),
            (0x038, 8, fields.current_tcb),
            (0x040, 8, _le(fields.platform_info, 8)),
            (0x048, 4, _le(key_info, 4)),
            (0x050, 64, fields.report_data),
            (0x090, 48, fields.measurement),
            (0x0C0, 32, fields.host_data),
            (0x0E0, 48, fields.id_key_digest),
            (0x110, 48, fields.author_key_digest),
            (0x140, 32, fields.report_id),
            (0x160, 32, fields.report_id_ma),
            (0x180, 8, fields.reported_tcb),
            (0x1A0, 64, fields.chip_id),
            (0x1E0, 8, fields.committed_tcb),
            (0x1E8, 3, _firmware(fields.current_version)),
            (0x1EC, 3, _firmware(fields.committed_version)),
            (0x1F0, 8, fields.launch_tcb),
        ]
        if fields.version >= 3:
            places.append((0x188, 3, bytes(fields.fms)))
        if fields.version >= 5:
            places += [(0x1F8, 8, _le(fields.mit_vectors[0], 8)), (0x200, 8, _le(fields.mit_vectors[1], 8))]
    except (OverflowError, ValueError) as exc:
        raise UsageError("a number is too large for its field in the report") from exc
    body = bytearray(SIGNED_SIZE)
    for offset, size, value in places:
        if len(value) != size:
            raise UsageError(f"the report's field at {offset:#05x} has {size} bytes, not {len(value)}")
        body[offset : offset + size] = value
    for offset, value in fields.patches:
        if not 0 <= offset <= SIGNED_SIZE - len(value):
            raise UsageError(f"a patch at {offset:#x} lies outside of the signed part")
        body[offset : offset + len(value)] = value
    return bytes(body)


def signature_block(r: int, s: int) -> bytes:
    """R and S as the ABI stores them: 72 bytes each, little-endian, then zeros up to 512 bytes."""
    return _le(r, 72) + _le(s, 72) + bytes(REPORT_SIZE - SIGNED_SIZE - 144)


def write_report(fields: ReportFields, key: ec.EllipticCurvePrivateKey, *, deterministic: bool = False) -> bytes:
    """A signed report, 1184 bytes.

    Args:
        fields: what stands in it.
        key: P-384 key whose certificate is the VCEK or VLEK.
        deterministic: take the ECDSA nonce from RFC 6979, for test vectors that can be made again.

    Raises:
        UsageError: a field that does not fit into its place.
    """
    body = report_body(fields)
    algorithm = ec.ECDSA(hashes.SHA384(), deterministic_signing=deterministic)
    return body + signature_block(*decode_dss_signature(key.sign(body, algorithm)))


def derive_key(secret: bytes, label: str, tcb: bytes) -> ec.EllipticCurvePrivateKey:
    """The key that a chip uses at a TCB: another TCB is another key, as on the real platform.

    Args:
        secret: the chip's own, 32 bytes.
        label: "VCEK" or "VLEK".
        tcb: REPORTED_TCB, 8 bytes.
    """
    # 64 bits more than the order: the remainder is as good as uniform (FIPS 186-5 A.2.1).
    material = hashlib.shake_256(b"dokimos simulated " + label.encode() + b"\x00" + tcb + secret).digest(56)
    return ec.derive_private_key(int.from_bytes(material, "big") % (P384_ORDER - 1) + 1, ec.SECP384R1())


def derive_chip_id(secret: bytes, product: Product) -> bytes:
    """The chip's id: 64 bytes, or 8 on Turin."""
    return hashlib.shake_256(b"dokimos simulated chip id\x00" + secret).digest(8 if product is Product.TURIN else 64)
