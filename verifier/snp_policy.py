"""What an SNP report must be: the table ``[snp]`` of the policy, each field with its meaning beside it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from uuid import UUID

from ..evidence import cert_table
from ..evidence.id_block import encode_key, key_digest
from ..evidence.snp import Product, SigningKey
from .floors import Floor, TcbMinimum
from .policy_keys import (
    BITS64,
    BOOLEAN,
    VERSION,
    Kind,
    Version,
    choice,
    choices,
    digests,
    guids,
    hex_bytes,
    hex_prefix,
    integer,
    integers,
    key,
    padded,
    refuse,
    shown,
    table,
    tables,
    text,
    texts,
)
from .policy_rules import NO_CHECK, REPORT_DATA, RESERVED, BitRule, ReservedRule, bit
from .trust import Revocation


class FloorRule(StrEnum):
    """Which TCB floors are demanded."""

    SHIPPED = "shipped"
    OFF = "off"


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestPolicyRules:
    """Bits of POLICY, ``[snp.policy]``; names and places are those of AMD 56860, table "Guest Policy Structure"."""

    smt: BitRule = field(default=BitRule.ANY, metadata=bit("bit 16, simultaneous multithreading is allowed"))
    migrate_ma: BitRule = field(default=BitRule.ZERO, metadata=bit("bit 18, a migration agent is allowed", "must be 0"))
    debug: BitRule = field(
        default=BitRule.ZERO, metadata=bit("bit 19, the host may read and write the guest's memory", "must be 0")
    )
    single_socket: BitRule = field(default=BitRule.ANY, metadata=bit("bit 20, the guest runs on one socket only"))
    cxl_allow: BitRule = field(default=BitRule.ANY, metadata=bit("bit 21, CXL memory is allowed"))
    mem_aes_256_xts: BitRule = field(default=BitRule.ANY, metadata=bit("bit 22, memory is encrypted by AES-256-XTS"))
    rapl_dis: BitRule = field(default=BitRule.ANY, metadata=bit("bit 23, running average power limit is off"))
    ciphertext_hiding_dram: BitRule = field(
        default=BitRule.ANY, metadata=bit("bit 24, the DRAM's ciphertext is hidden from the host")
    )
    page_swap_disable: BitRule = field(default=BitRule.ANY, metadata=bit("bit 25, the host may not swap pages"))
    reserved: ReservedRule = field(
        default=ReservedRule.REPORT,
        metadata=key(RESERVED, "bit 17 must be 1, the bits 63:26 must be 0", "reported, not fatal"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PlatformInfoRules:
    """Bits of PLATFORM_INFO, ``[snp.platform_info]``; AMD 56860, table "PLATFORM_INFO Field"."""

    smt_en: BitRule = field(default=BitRule.ANY, metadata=bit("bit 0, simultaneous multithreading is on"))
    tsme_en: BitRule = field(default=BitRule.ANY, metadata=bit("bit 1, transparent memory encryption is on"))
    ecc_en: BitRule = field(default=BitRule.ANY, metadata=bit("bit 2, memory has error correction"))
    rapl_dis: BitRule = field(default=BitRule.ANY, metadata=bit("bit 3, running average power limit is off"))
    ciphertext_hiding_dram_en: BitRule = field(
        default=BitRule.ANY, metadata=bit("bit 4, the DRAM's ciphertext is hidden from the host")
    )
    alias_check_complete: BitRule = field(
        default=BitRule.ANY, metadata=bit("bit 5, memory was found free of aliases (BadRAM, AMD-SB-3015)")
    )
    tio_en: BitRule = field(default=BitRule.ANY, metadata=bit("bit 7, trusted I/O is on"))
    reserved: ReservedRule = field(
        default=ReservedRule.REPORT,
        metadata=key(RESERVED, "no other bit is set; real Turin machines set bit 6", "reported, not fatal"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class FloorRow(TcbMinimum):
    """A TCB floor of the policy's own, ``[[snp.floors]]``: the levels, and the processor they are for."""

    family: int = field(metadata=key(integer(0, 0x10E), "combined CPUID family, such as 0x19", "an error"))
    model: int = field(metadata=key(integer(0, 255), "combined CPUID model, such as 0x01", "an error"))
    stepping: int | None = field(default=None, metadata=key(integer(0, 15), "CPUID stepping", "every stepping"))
    source: str = field(default="policy", metadata=key(text(), "why, shown with a failure", "the word policy"))

    def floor(self) -> Floor:
        """The row in the form of the shipped ones."""
        minimum = TcbMinimum(fmc=self.fmc, bl=self.bl, tee=self.tee, snp=self.snp, ucode=self.ucode)
        return Floor(family=self.family, model=self.model, stepping=self.stepping, minimum=minimum, source=self.source)


def _public_key(value: object, path: str) -> bytes:
    """AMD's digest of a key that is given in PEM, as a certificate or bare."""
    from cryptography import x509  # noqa: PLC0415 - 60 ms that a policy without such keys need not pay
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import load_pem_public_key  # noqa: PLC0415

    wanted = "a P-384 key in PEM (PUBLIC KEY or CERTIFICATE) wanted"
    if not isinstance(value, str) or not value.isascii():
        raise refuse(path, f"{wanted}, not {shown(value)}")
    try:
        pem = value.encode()
        certificate = "BEGIN CERTIFICATE" in value
        public: object = x509.load_pem_x509_certificate(pem).public_key() if certificate else load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm) as exc:
        raise refuse(path, f"{wanted}, not {shown(value)}") from exc
    if not isinstance(public, ec.EllipticCurvePublicKey) or not isinstance(public.curve, ec.SECP384R1):
        raise refuse(path, f"{wanted}, not one of another kind")
    numbers = public.public_numbers()
    return key_digest(encode_key(numbers.x, numbers.y))


def _public_keys(value: object, path: str) -> tuple[bytes, ...]:
    if not isinstance(value, list):
        raise refuse(path, f"a list wanted, not {shown(value)}")
    return tuple(dict.fromkeys(_public_key(item, f"{path}[{n}]") for n, item in enumerate(value)))


_PUBLIC_KEYS = Kind("list of P-384 keys in PEM", _public_keys, lambda found: [item.hex() for item in found])
_GUIDS = {
    "VCEK": cert_table.VCEK,
    "VLEK": cert_table.VLEK,
    "ASK": cert_table.ASK,
    "ARK": cert_table.ARK,
    "CRL": cert_table.CRL,
}
_MINIMUM = table(TcbMinimum)


@dataclass(frozen=True, slots=True, kw_only=True)
class SnpPolicy:
    """What an SNP report must be, ``[snp]``; each field is one key of the file, with its meaning beside it."""

    # Which code
    measurements: tuple[bytes, ...] = field(
        default=(),
        metadata=key(digests(48), "accepted values of MEASUREMENT", "no measurement is accepted; see reference values"),
    )
    require_id_block: bool = field(
        default=False, metadata=key(BOOLEAN, "the launch must have had an ID block", "false")
    )
    id_key_digests: tuple[bytes, ...] = field(
        default=(), metadata=key(digests(48), "accepted values of ID_KEY_DIGEST", NO_CHECK)
    )
    id_keys: tuple[bytes, ...] = field(
        default=(), metadata=key(_PUBLIC_KEYS, "ID keys whose digests are accepted as well", "none")
    )
    require_author_key: bool = field(default=False, metadata=key(BOOLEAN, "AUTHOR_KEY_EN must be 1", "false"))
    author_key_digests: tuple[bytes, ...] = field(
        default=(), metadata=key(digests(48), "accepted values of AUTHOR_KEY_DIGEST", NO_CHECK)
    )
    author_keys: tuple[bytes, ...] = field(
        default=(), metadata=key(_PUBLIC_KEYS, "author keys whose digests are accepted as well", "none")
    )
    family_id: bytes | None = field(default=None, metadata=key(hex_bytes(16), "FAMILY_ID", NO_CHECK))
    image_id: bytes | None = field(default=None, metadata=key(hex_bytes(16), "IMAGE_ID", NO_CHECK))
    minimum_guest_svn: int | None = field(
        default=None, metadata=key(integer(0, 0xFFFFFFFF), "lowest GUEST_SVN", NO_CHECK)
    )
    vmpl: tuple[int, ...] = field(
        default=(0, 1, 2, 3),
        metadata=key(integers(0, 3), "accepted values of VMPL", "0 to 3: a report that the host asked for is refused"),
    )
    # What it says
    report_data: bytes | None = field(
        default=None,
        metadata=key(
            REPORT_DATA,
            'REPORT_DATA; "binding": the caller must give the value, such as the hash of a statement',
            "what the caller gives is compared; if it gives none, not looked at",
        ),
    )
    report_data_prefix: bytes | None = field(
        default=None, metadata=key(hex_prefix(64), "first bytes of REPORT_DATA; all others must be zero", NO_CHECK)
    )
    host_data: bytes | None = field(default=None, metadata=key(hex_bytes(32), "HOST_DATA", NO_CHECK))
    report_id: bytes | None = field(default=None, metadata=key(hex_bytes(32), "REPORT_ID", NO_CHECK))
    report_id_ma: bytes | None = field(
        default=None, metadata=key(hex_bytes(32), "REPORT_ID_MA, all ff without migration agent", NO_CHECK)
    )
    # Who signed
    signers: tuple[SigningKey, ...] = field(
        default=(SigningKey.VCEK,),
        metadata=key(choices(SigningKey, without=(SigningKey.NONE,)), "kinds of keys that may sign", "VCEK only"),
    )
    products: tuple[Product, ...] = field(
        default=tuple(Product),
        metadata=key(choices(Product), "accepted products; Bergamo and Siena are Genoa", "every supported product"),
    )
    denied_products: tuple[Product, ...] = field(
        default=(), metadata=key(choices(Product, empty=True), "refused products", "none")
    )
    require_chip_bound: bool = field(
        default=False,
        metadata=key(
            BOOLEAN, "the report must carry its chip's id: no masked CHIP_ID, no VLEK", "false; the result says it"
        ),
    )
    chip_ids: tuple[bytes, ...] = field(
        default=(),
        metadata=key(
            padded((8, 64), 64), "accepted chips, by hwID of the VCEK; a VLEK then needs csp_ids", "every chip"
        ),
    )
    denied_chip_ids: tuple[bytes, ...] = field(
        default=(),
        metadata=key(padded((8, 64), 64), "refused chips; a VLEK, which names none, then needs csp_ids", "none"),
    )
    csp_ids: tuple[str, ...] = field(
        default=(),
        metadata=key(texts(), "accepted providers, by cspID of the VLEK; a VCEK then needs chip_ids", "every provider"),
    )
    denied_csp_ids: tuple[str, ...] = field(default=(), metadata=key(texts(), "refused providers", "none"))
    maximum_vek_age_days: int | None = field(
        default=None,
        metadata=key(
            integer(1, 36500), "days since the VCEK or VLEK certificate was issued", "any age within its validity"
        ),
    )
    required_cert_table: tuple[UUID, ...] = field(
        default=(),
        metadata=key(guids(_GUIDS), "entries that the extended report's certificate table must have", NO_CHECK),
    )
    revocation: Revocation = field(
        default=Revocation.IF_PRESENT,
        metadata=key(
            choice(Revocation),
            "whether revocation lists are demanded; one that is looked at must be signed and fresh",
            "if-present: the result says when none was checked",
        ),
    )
    simulated_roots: tuple[bytes, ...] = field(
        default=(),
        metadata=key(digests(32), "SHA-256 of accepted root certificates of simulated platforms", "only AMD's roots"),
    )
    # How it was launched, and on what
    minimum_policy_abi: Version | None = field(
        default=None, metadata=key(VERSION, "lowest ABI version in POLICY, bits 15:0", NO_CHECK)
    )
    policy: GuestPolicyRules = field(
        default_factory=GuestPolicyRules, metadata=key(table(GuestPolicyRules), "bits of POLICY", "as its keys say")
    )
    platform_info: PlatformInfoRules = field(
        default_factory=PlatformInfoRules,
        metadata=key(table(PlatformInfoRules), "bits of PLATFORM_INFO", "as its keys say"),
    )
    reserved_fields: ReservedRule = field(
        default=ReservedRule.REPORT,
        metadata=key(RESERVED, "reserved fields of the report must be zero", "reported, not fatal"),
    )
    # Firmware
    tcb_floor: FloorRule = field(
        default=FloorRule.OFF,
        metadata=key(
            choice(FloorRule),
            "shipped: REPORTED_TCB must reach the dated floor of its family, model and stepping; where none is known"
            " it fails",
            "off, and the result says so",
        ),
    )
    floors: tuple[FloorRow, ...] = field(
        default=(),
        metadata=key(tables(FloorRow), "floors of one's own, beside the shipped; all that fit must be reached", "none"),
    )
    minimum_tcb: TcbMinimum | None = field(
        default=None, metadata=key(_MINIMUM, "lowest levels of REPORTED_TCB, each by itself", NO_CHECK)
    )
    minimum_launch_tcb: TcbMinimum | None = field(
        default=None, metadata=key(_MINIMUM, "lowest levels of LAUNCH_TCB, each by itself", NO_CHECK)
    )
    # Large clouds run like that for months; a default that refused it would refuse them.
    permit_provisional_firmware: bool = field(
        default=True,
        metadata=key(
            BOOLEAN, "COMMITTED may be below CURRENT, so the host may still roll back", "true; the result says both"
        ),
    )
    minimum_build: int | None = field(default=None, metadata=key(integer(0, 255), "lowest CURRENT_BUILD", NO_CHECK))
    minimum_version: Version | None = field(
        default=None, metadata=key(VERSION, "lowest CURRENT_MAJOR and CURRENT_MINOR", NO_CHECK)
    )
    launch_mit_vector: int | None = field(
        default=None, metadata=key(BITS64, "bits that LAUNCH_MIT_VECTOR must have", NO_CHECK)
    )
    current_mit_vector: int | None = field(
        default=None, metadata=key(BITS64, "bits that CURRENT_MIT_VECTOR must have", NO_CHECK)
    )

    def accepted_id_keys(self) -> tuple[bytes, ...]:
        """Digests of all accepted ID keys."""
        return self.id_key_digests + self.id_keys

    def accepted_author_keys(self) -> tuple[bytes, ...]:
        """Digests of all accepted author keys."""
        return self.author_key_digests + self.author_keys

    def wants_binding(self) -> bool:
        """Whether the caller must give the expected REPORT_DATA."""
        return self.report_data == b""


def consistent(snp: SnpPolicy) -> None:
    """Refuse what no report could ever meet, or what would quietly win over something else.

    Raises:
        UsageError: the keys contradict each other.
    """
    if snp.report_data is not None and snp.report_data_prefix is not None:
        raise refuse("snp.report_data_prefix", "not beside snp.report_data")
    for name in ("chip_ids", "csp_ids"):
        if set(getattr(snp, name)) & set(getattr(snp, f"denied_{name}")):
            raise refuse(f"snp.denied_{name}", f"names one that is also in snp.{name}")
    if set(snp.products) <= set(snp.denied_products):
        raise refuse("snp.denied_products", "leaves no product")
    for number, row in enumerate(snp.floors):
        if not row.levels():
            raise refuse(f"snp.floors[{number}]", "demands no level")
