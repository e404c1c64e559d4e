"""The SEV-SNP attestation report: format only, no verdict.

Source: AMD 56860 (SEV-SNP firmware ABI), table "ATTESTATION_REPORT Structure"; report versions 2 to 5.  Integers are
little-endian.  The raw bytes are kept: a signature is checked over them, never over a re-serialisation.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, fields
from enum import IntEnum, StrEnum
from typing import NamedTuple, Self

from ..errors import Check, MalformedEvidence, UnsupportedEvidence

REPORT_SIZE = 0x4A0
"""Size of every report in bytes."""
SIGNED_SIZE = 0x2A0
"""The signature covers this many bytes from the start."""
VERSIONS = range(2, 6)
"""Report versions that this module reads."""
VMPL_HOST = 0xFFFFFFFF
"""VMPL of a report that the host asked for, not the guest."""
SIGNATURE_ALGO_P384 = 1
"""ECDSA P-384 with SHA-384, the only algorithm that the ABI defines."""


class Product(StrEnum):
    """Product names as AMD's key distribution service spells them; Bergamo and Siena are Genoa there."""

    MILAN = "Milan"
    GENOA = "Genoa"
    TURIN = "Turin"


class _Models(NamedTuple):
    family: int
    first: int
    last: int
    code_name: str
    product: Product | None


_MODELS = (
    _Models(0x19, 0x00, 0x0F, "Milan", Product.MILAN),
    _Models(0x19, 0x10, 0x1F, "Genoa", Product.GENOA),
    _Models(0x19, 0xA0, 0xAF, "Bergamo/Siena", Product.GENOA),
    _Models(0x1A, 0x00, 0x0F, "Turin", Product.TURIN),
    _Models(0x1A, 0x10, 0x1F, "Turin dense", Product.TURIN),
    _Models(0x1A, 0x50, 0x57, "Venice", None),
    _Models(0x1A, 0x90, 0xAF, "Venice", None),
    _Models(0x1A, 0xC0, 0xC7, "Venice", None),
)


class Fms(NamedTuple):
    """CPUID family, model and stepping, each with its extended part added in."""

    family: int
    model: int
    stepping: int

    @property
    def code_name(self) -> str:
        """Marketing name of the model range, or "unknown"."""
        found = _models(self)
        return found.code_name if found else "unknown"


def _models(fms: Fms) -> _Models | None:
    for row in _MODELS:
        if row.family == fms.family and row.first <= fms.model <= row.last:
            return row
    return None


def product_of(fms: Fms) -> Product:
    """The product whose keys sign for this processor.

    Raises:
        UnsupportedEvidence: a processor without published keys (Venice), or an unknown one.
    """
    found = _models(fms)
    if found is None or found.product is None:
        name = found.code_name if found else "an unknown processor"
        raise UnsupportedEvidence(
            f"family {fms.family:#x}, model {fms.model:#x} is {name}: AMD's keys for it are not pinned here",
            check=Check.SNP_PRODUCT_SUPPORTED,
        )
    return found.product


class SigningKey(IntEnum):
    """KEY_INFO.SIGNING_KEY: which key signed the report."""

    VCEK = 0
    VLEK = 1
    NONE = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Tcb:
    """TCB_VERSION, one security patch level per component.

    It has an equality and no order: components are compared one by one (:meth:`below`), since neither the 64-bit
    number nor a tuple of them is ordered as the components are.

    Attributes:
        bl: boot loader.
        tee: TEE, the PSP operating system.
        snp: SNP firmware.
        ucode: low byte of the microcode patch level; comparable within one family/model/stepping only.
        fmc: first mutable code; Turin and later, else None.
        reserved: the reserved bytes in memory order (4 of them; 3 on Turin).
    """

    bl: int
    tee: int
    snp: int
    ucode: int
    fmc: int | None = None
    reserved: bytes = bytes(4)

    @classmethod
    def from_bytes(cls, raw: bytes, product: Product) -> Self:
        """Decode 8 bytes in memory order; Turin has a layout of its own (structVersion 1).

        Raises:
            MalformedEvidence: not 8 bytes.
        """
        if len(raw) != 8:
            raise MalformedEvidence(f"TCB_VERSION: 8 bytes wanted, {len(raw)} given")
        if product is Product.TURIN:
            return cls(fmc=raw[0], bl=raw[1], tee=raw[2], snp=raw[3], reserved=raw[4:7], ucode=raw[7])
        return cls(bl=raw[0], tee=raw[1], reserved=raw[2:6], snp=raw[6], ucode=raw[7])

    def to_bytes(self) -> bytes:
        """The 8 bytes in memory order; the layout follows from whether there is an FMC level."""
        if self.fmc is not None:
            return bytes((self.fmc, self.bl, self.tee, self.snp)) + self.reserved + bytes((self.ucode,))
        return bytes((self.bl, self.tee)) + self.reserved + bytes((self.snp, self.ucode))

    def components(self) -> dict[str, int]:
        """Every component that this layout has, by name."""
        levels = {"bl": self.bl, "tee": self.tee, "snp": self.snp, "ucode": self.ucode}
        return levels if self.fmc is None else {"fmc": self.fmc, **levels}

    def below(self, floor: Tcb) -> tuple[str, ...]:
        """Names of the components that are lower than in `floor`, or that only one of both has."""
        mine, theirs = self.components(), floor.components()
        return tuple(name for name in theirs | mine if mine.get(name, -1) < theirs.get(name, 256))


class _Bits(int):
    """An unsigned integer whose bits have names."""

    def bit(self, n: int) -> bool:
        """Bit n."""
        return bool(self >> n & 1)


class GuestPolicy(_Bits):
    """POLICY, set by whoever launched the guest (56860, table "Guest Policy Structure")."""

    @property
    def abi_minor(self) -> int:
        """Lowest ABI minor version that may run the guest."""
        return self & 0xFF

    @property
    def abi_major(self) -> int:
        """Lowest ABI major version that may run the guest."""
        return self >> 8 & 0xFF

    @property
    def smt(self) -> bool:
        """Bit 16: simultaneous multithreading is allowed."""
        return self.bit(16)

    @property
    def reserved_1(self) -> bool:
        """Bit 17: must be one."""
        return self.bit(17)

    @property
    def migrate_ma(self) -> bool:
        """Bit 18: a migration agent is allowed."""
        return self.bit(18)

    @property
    def debug(self) -> bool:
        """Bit 19: the host may decrypt the guest's memory."""
        return self.bit(19)

    @property
    def single_socket(self) -> bool:
        """Bit 20: the guest may run on one socket only."""
        return self.bit(20)

    @property
    def cxl_allow(self) -> bool:
        """Bit 21: CXL memory may be given to the guest."""
        return self.bit(21)

    @property
    def mem_aes_256_xts(self) -> bool:
        """Bit 22: AES-256-XTS memory encryption is demanded."""
        return self.bit(22)

    @property
    def rapl_dis(self) -> bool:
        """Bit 23: running average power limit must be off."""
        return self.bit(23)

    @property
    def ciphertext_hiding_dram(self) -> bool:
        """Bit 24: the host must not see the DRAM's ciphertext."""
        return self.bit(24)

    @property
    def page_swap_disable(self) -> bool:
        """Bit 25: the host must not swap pages in and out."""
        return self.bit(25)

    @property
    def reserved(self) -> int:
        """Bits 63:26, which must be zero, in place."""
        return self >> 26 << 26


class PlatformInfo(_Bits):
    """PLATFORM_INFO, the state of the machine (56860, table "PLATFORM_INFO Field")."""

    @property
    def smt_en(self) -> bool:
        """Bit 0: SMT is on."""
        return self.bit(0)

    @property
    def tsme_en(self) -> bool:
        """Bit 1: transparent memory encryption is on."""
        return self.bit(1)

    @property
    def ecc_en(self) -> bool:
        """Bit 2: the memory has error correction."""
        return self.bit(2)

    @property
    def rapl_dis(self) -> bool:
        """Bit 3: running average power limit is off."""
        return self.bit(3)

    @property
    def ciphertext_hiding_dram_en(self) -> bool:
        """Bit 4: the DRAM's ciphertext is hidden from the host."""
        return self.bit(4)

    @property
    def alias_check_complete(self) -> bool:
        """Bit 5: memory was found free of aliases since the last reset (the mitigation of BadRAM)."""
        return self.bit(5)

    @property
    def tio_en(self) -> bool:
        """Bit 7: trusted I/O is on."""
        return self.bit(7)

    @property
    def reserved(self) -> int:
        """Bits without a published meaning, in place; bit 6 is set on real Turin machines."""
        return self & ~0xBF


class FirmwareVersion(NamedTuple):
    """Version of the SNP firmware."""

    major: int
    minor: int
    build: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.build}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SnpReport:
    """An attestation report as received; nothing in it is verified.

    TCBs are 8 raw bytes, since their layout depends on the product (:meth:`Tcb.from_bytes`).

    Attributes:
        raw: the 1184 bytes.
        fms: family, model and stepping; None in version 2, which has no such field.
        launch_mit_vector: mitigations at launch; None before version 5.
        current_mit_vector: mitigations now; None before version 5.
        signature_r: R, 72 bytes, little-endian.
        signature_s: S, 72 bytes, little-endian.
        reserved: offsets, as "0x208", of the reserved regions that are not zero.
    """

    raw: bytes
    version: int  # 0x000
    guest_svn: int  # 0x004
    policy: GuestPolicy  # 0x008
    family_id: bytes  # 0x010
    image_id: bytes  # 0x020
    vmpl: int  # 0x030
    signature_algo: int  # 0x034
    current_tcb: bytes  # 0x038
    platform_info: PlatformInfo  # 0x040
    key_info: int  # 0x048
    report_data: bytes  # 0x050
    measurement: bytes  # 0x090
    host_data: bytes  # 0x0C0
    id_key_digest: bytes  # 0x0E0
    author_key_digest: bytes  # 0x110
    report_id: bytes  # 0x140
    report_id_ma: bytes  # 0x160
    reported_tcb: bytes  # 0x180
    fms: Fms | None  # 0x188
    chip_id: bytes  # 0x1A0
    committed_tcb: bytes  # 0x1E0
    current_version: FirmwareVersion  # 0x1E8
    committed_version: FirmwareVersion  # 0x1EC
    launch_tcb: bytes  # 0x1F0
    launch_mit_vector: int | None  # 0x1F8
    current_mit_vector: int | None  # 0x200
    signature_r: bytes  # 0x2A0
    signature_s: bytes  # 0x2E8
    reserved: tuple[str, ...]

    @property
    def author_key_en(self) -> bool:
        """KEY_INFO bit 0: author_key_digest is valid."""
        return bool(self.key_info & 1)

    @property
    def mask_chip_key(self) -> bool:
        """KEY_INFO bit 1: the firmware was told not to sign."""
        return bool(self.key_info & 2)

    @property
    def signing_key(self) -> int:
        """KEY_INFO bits 4:2, a value of :class:`SigningKey` or one that is reserved."""
        return self.key_info >> 2 & 7

    @property
    def chip_id_masked(self) -> bool:
        """CHIP_ID is all zero: MaskChipId is on, or a VLEK signed."""
        return not any(self.chip_id)


# One pass over the fixed layout; "reserved" fields come out as bytes and are only looked at, never dropped.
_LAYOUT = struct.Struct(
    "<I I Q 16s 16s I I 8s Q I 4s 64s 48s 32s 48s 48s 32s 32s 8s BBB 21s 64s 8s BBBB BBBB 8s QQ 152s 72s 72s 368s"
)
if _LAYOUT.size != REPORT_SIZE:
    raise AssertionError("the layout does not add up")

_ZERO = {n: bytes(n) for n in (4, 21, 152, 368)}
_KEY_INFO_RESERVED = 0xFFFFFFE0


def parse_report(data: bytes) -> SnpReport:
    """Read a report of version 2 to 5.

    Raises:
        MalformedEvidence: another size (``snp.report.size``).
        UnsupportedEvidence: another version (``snp.report.version``).
    """
    if len(data) != REPORT_SIZE:
        raise MalformedEvidence(
            f"SNP report: {REPORT_SIZE} bytes wanted, {len(data)} given", check=Check.SNP_REPORT_SIZE
        )
    raw = bytes(data)
    # fmt: off
    (version, guest_svn, policy, family_id, image_id, vmpl, signature_algo, current_tcb, platform_info, key_info,
     reserved_04c, report_data, measurement, host_data, id_key_digest, author_key_digest, report_id, report_id_ma,
     reported_tcb, family, model, stepping, reserved_18b, chip_id, committed_tcb, current_build, current_minor,
     current_major, reserved_1eb, committed_build, committed_minor, committed_major, reserved_1ef, launch_tcb,
     launch_mit, current_mit, reserved_208, signature_r, signature_s, reserved_330) = _LAYOUT.unpack(raw)
    # fmt: on
    if version not in VERSIONS:
        raise UnsupportedEvidence(
            f"SNP report version {version}; {VERSIONS[0]} to {VERSIONS[-1]} are supported",
            check=Check.SNP_REPORT_VERSION,
        )
    reserved = []
    if key_info & _KEY_INFO_RESERVED:
        reserved.append("0x048")
    if reserved_04c != _ZERO[4]:
        reserved.append("0x04c")
    if version == 2 and (family or model or stepping):
        reserved.append("0x188")
    if reserved_18b != _ZERO[21]:
        reserved.append("0x18b")
    if reserved_1eb:
        reserved.append("0x1eb")
    if reserved_1ef:
        reserved.append("0x1ef")
    if version < 5 and (launch_mit or current_mit):
        reserved.append("0x1f8")
    if reserved_208 != _ZERO[152]:
        reserved.append("0x208")
    if reserved_330 != _ZERO[368]:
        reserved.append("0x330")
    return SnpReport(
        raw=raw,
        version=version,
        guest_svn=guest_svn,
        policy=GuestPolicy(policy),
        family_id=family_id,
        image_id=image_id,
        vmpl=vmpl,
        signature_algo=signature_algo,
        current_tcb=current_tcb,
        platform_info=PlatformInfo(platform_info),
        key_info=key_info,
        report_data=report_data,
        measurement=measurement,
        host_data=host_data,
        id_key_digest=id_key_digest,
        author_key_digest=author_key_digest,
        report_id=report_id,
        report_id_ma=report_id_ma,
        reported_tcb=reported_tcb,
        fms=Fms(family, model, stepping) if version > 2 else None,
        chip_id=chip_id,
        committed_tcb=committed_tcb,
        current_version=FirmwareVersion(current_major, current_minor, current_build),
        committed_version=FirmwareVersion(committed_major, committed_minor, committed_build),
        launch_tcb=launch_tcb,
        launch_mit_vector=launch_mit if version >= 5 else None,
        current_mit_vector=current_mit if version >= 5 else None,
        signature_r=signature_r,
        signature_s=signature_s,
        reserved=tuple(reserved),
    )


FIELDS = tuple(field.name for field in fields(SnpReport) if field.name not in {"raw", "reserved"})
"""Names of the fields of a report, in the order of their offsets."""
