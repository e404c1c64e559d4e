"""The appraisal policy: a TOML file, ``schema = 1``, in which every key says what its absence means.

Unknown keys and wrong types are refused.  ``docs/policy.md`` has the table of keys; a test compares it with this
module.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from base64 import urlsafe_b64encode
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Final, Self
from uuid import UUID

from ..errors import UsageError
from ..evidence import cert_table
from ..evidence.id_block import encode_key, key_digest
from ..evidence.snp import Product, SigningKey
from ..evidence.statement import MAX_LIFETIME, ROLE_GATEWAY
from .floors import Floor, TcbMinimum
from .policy_keys import (
    BITS64,
    BOOLEAN,
    VERSION,
    Json,
    Key,
    Kind,
    Version,
    choice,
    choices,
    digests,
    dump_table,
    guids,
    hex_bytes,
    hex_prefix,
    integer,
    integers,
    key,
    padded,
    read_table,
    refuse,
    shown,
    table,
    tables,
    text,
    texts,
)
from .trust import Revocation, SnpTrust

SCHEMA: Final = 1
MAX_SIZE: Final = 1 << 18
"""Characters of the largest file that is read."""

# tomllib takes time that grows with the square of the parts of one dotted key; no key here has more than three.
_MOST_DOTS = 32


class BitRule(StrEnum):
    """What a single bit must be."""

    ZERO = "must-be-0"
    ONE = "must-be-1"
    ANY = "any"

    def allows(self, bit: bool) -> bool:
        """Whether a bit of this value is accepted."""
        return self is BitRule.ANY or bit is (self is BitRule.ONE)


class ReservedRule(StrEnum):
    """What is done about reserved bits that are not as the ABI says."""

    REPORT = "report"
    FAIL = "fail"


class FloorRule(StrEnum):
    """Which TCB floors are demanded."""

    SHIPPED = "shipped"
    OFF = "off"


_BIT = choice(BitRule)
_RESERVED = choice(ReservedRule)
_TOLD = "both are accepted, and the result says so"
_NO_CHECK = "not looked at"


def _bit(meaning: str, absent: str = _TOLD) -> dict[str, Key]:
    return key(_BIT, meaning, absent)


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestPolicyRules:
    """Bits of POLICY, ``[snp.policy]``; names and places are those of AMD 56860, table "Guest Policy Structure"."""

    smt: BitRule = field(default=BitRule.ANY, metadata=_bit("bit 16, simultaneous multithreading is allowed"))
    migrate_ma: BitRule = field(
        default=BitRule.ZERO, metadata=_bit("bit 18, a migration agent is allowed", "must be 0")
    )
    debug: BitRule = field(
        default=BitRule.ZERO, metadata=_bit("bit 19, the host may read and write the guest's memory", "must be 0")
    )
    single_socket: BitRule = field(default=BitRule.ANY, metadata=_bit("bit 20, the guest runs on one socket only"))
    cxl_allow: BitRule = field(default=BitRule.ANY, metadata=_bit("bit 21, CXL memory is allowed"))
    mem_aes_256_xts: BitRule = field(default=BitRule.ANY, metadata=_bit("bit 22, memory is encrypted by AES-256-XTS"))
    rapl_dis: BitRule = field(default=BitRule.ANY, metadata=_bit("bit 23, running average power limit is off"))
    ciphertext_hiding_dram: BitRule = field(
        default=BitRule.ANY, metadata=_bit("bit 24, the DRAM's ciphertext is hidden from the host")
    )
    page_swap_disable: BitRule = field(default=BitRule.ANY, metadata=_bit("bit 25, the host may not swap pages"))
    reserved: ReservedRule = field(
        default=ReservedRule.REPORT,
        metadata=key(_RESERVED, "bit 17 must be 1, the bits 63:26 must be 0", "reported, not fatal"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PlatformInfoRules:
    """Bits of PLATFORM_INFO, ``[snp.platform_info]``; AMD 56860, table "PLATFORM_INFO Field"."""

    smt_en: BitRule = field(default=BitRule.ANY, metadata=_bit("bit 0, simultaneous multithreading is on"))
    tsme_en: BitRule = field(default=BitRule.ANY, metadata=_bit("bit 1, transparent memory encryption is on"))
    ecc_en: BitRule = field(default=BitRule.ANY, metadata=_bit("bit 2, memory has error correction"))
    rapl_dis: BitRule = field(default=BitRule.ANY, metadata=_bit("bit 3, running average power limit is off"))
    ciphertext_hiding_dram_en: BitRule = field(
        default=BitRule.ANY, metadata=_bit("bit 4, the DRAM's ciphertext is hidden from the host")
    )
    alias_check_complete: BitRule = field(
        default=BitRule.ANY, metadata=_bit("bit 5, memory was found free of aliases (BadRAM, AMD-SB-3015)")
    )
    tio_en: BitRule = field(default=BitRule.ANY, metadata=_bit("bit 7, trusted I/O is on"))
    reserved: ReservedRule = field(
        default=ReservedRule.REPORT,
        metadata=key(_RESERVED, "no other bit is set; real Turin machines set bit 6", "reported, not fatal"),
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


_BINDING = "binding"


def _report_data(value: object, path: str) -> bytes | None:
    if value == _BINDING:
        return b""
    found: bytes = hex_bytes(64).read(value, path)
    return found


def _show_report_data(value: bytes | None) -> Json:
    return None if value is None else value.hex() or _BINDING


_REPORT_DATA = Kind('hex, 64 bytes, or "binding"', _report_data, _show_report_data)


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
        default=(), metadata=key(digests(48), "accepted values of ID_KEY_DIGEST", _NO_CHECK)
    )
    id_keys: tuple[bytes, ...] = field(
        default=(), metadata=key(_PUBLIC_KEYS, "ID keys whose digests are accepted as well", "none")
    )
    require_author_key: bool = field(default=False, metadata=key(BOOLEAN, "AUTHOR_KEY_EN must be 1", "false"))
    author_key_digests: tuple[bytes, ...] = field(
        default=(), metadata=key(digests(48), "accepted values of AUTHOR_KEY_DIGEST", _NO_CHECK)
    )
    author_keys: tuple[bytes, ...] = field(
        default=(), metadata=key(_PUBLIC_KEYS, "author keys whose digests are accepted as well", "none")
    )
    family_id: bytes | None = field(default=None, metadata=key(hex_bytes(16), "FAMILY_ID", _NO_CHECK))
    image_id: bytes | None = field(default=None, metadata=key(hex_bytes(16), "IMAGE_ID", _NO_CHECK))
    minimum_guest_svn: int | None = field(
        default=None, metadata=key(integer(0, 0xFFFFFFFF), "lowest GUEST_SVN", _NO_CHECK)
    )
    vmpl: tuple[int, ...] = field(
        default=(0, 1, 2, 3),
        metadata=key(integers(0, 3), "accepted values of VMPL", "0 to 3: a report that the host asked for is refused"),
    )
    # What it says
    report_data: bytes | None = field(
        default=None,
        metadata=key(
            _REPORT_DATA,
            'REPORT_DATA; "binding": the caller must give the value, such as the hash of a statement',
            "what the caller gives is compared; if it gives none, not looked at",
        ),
    )
    report_data_prefix: bytes | None = field(
        default=None, metadata=key(hex_prefix(64), "first bytes of REPORT_DATA; all others must be zero", _NO_CHECK)
    )
    host_data: bytes | None = field(default=None, metadata=key(hex_bytes(32), "HOST_DATA", _NO_CHECK))
    report_id: bytes | None = field(default=None, metadata=key(hex_bytes(32), "REPORT_ID", _NO_CHECK))
    report_id_ma: bytes | None = field(
        default=None, metadata=key(hex_bytes(32), "REPORT_ID_MA, all ff without migration agent", _NO_CHECK)
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
        metadata=key(guids(_GUIDS), "entries that the extended report's certificate table must have", _NO_CHECK),
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
        default=None, metadata=key(VERSION, "lowest ABI version in POLICY, bits 15:0", _NO_CHECK)
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
        metadata=key(_RESERVED, "reserved fields of the report must be zero", "reported, not fatal"),
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
        default=None, metadata=key(_MINIMUM, "lowest levels of REPORTED_TCB, each by itself", _NO_CHECK)
    )
    minimum_launch_tcb: TcbMinimum | None = field(
        default=None, metadata=key(_MINIMUM, "lowest levels of LAUNCH_TCB, each by itself", _NO_CHECK)
    )
    # Large clouds run like that for months; a default that refused it would refuse them.
    permit_provisional_firmware: bool = field(
        default=True,
        metadata=key(
            BOOLEAN, "COMMITTED may be below CURRENT, so the host may still roll back", "true; the result says both"
        ),
    )
    minimum_build: int | None = field(default=None, metadata=key(integer(0, 255), "lowest CURRENT_BUILD", _NO_CHECK))
    minimum_version: Version | None = field(
        default=None, metadata=key(VERSION, "lowest CURRENT_MAJOR and CURRENT_MINOR", _NO_CHECK)
    )
    launch_mit_vector: int | None = field(
        default=None, metadata=key(BITS64, "bits that LAUNCH_MIT_VECTOR must have", _NO_CHECK)
    )
    current_mit_vector: int | None = field(
        default=None, metadata=key(BITS64, "bits that CURRENT_MIT_VECTOR must have", _NO_CHECK)
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


@dataclass(frozen=True, slots=True, kw_only=True)
class BindingPolicy:
    """What the statement must say that binds an endpoint's keys to the report, ``[binding]``."""

    role: str = field(default=ROLE_GATEWAY, metadata=key(text(64), "the role of the machine", "gateway"))
    image_sha256: tuple[bytes, ...] = field(
        default=(), metadata=key(digests(32), "accepted digests of the image", _NO_CHECK)
    )
    runtime_config_sha256: tuple[bytes, ...] = field(
        default=(), metadata=key(digests(32), "accepted digests of the run-time configuration", _NO_CHECK)
    )
    maximum_lifetime_seconds: int = field(
        default=3600, metadata=key(integer(1, MAX_LIFETIME), "longest time from not_before to expiry", "one hour")
    )
    clock_skew_seconds: int = field(
        default=60, metadata=key(integer(0, 3600), "how far both clocks may differ", "one minute")
    )
    require_nonce: bool = field(
        default=True,
        metadata=key(
            BOOLEAN,
            "the statement must carry the client's own nonce; false: an epoch may do, once logs are checked",
            "true",
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """An appraisal policy; :func:`load_policy` reads one, ``Policy(schema=1)`` is the one with every default."""

    schema: int = field(metadata=key(integer(SCHEMA, SCHEMA), "version of this format", "an error"))
    name: str = field(default="", metadata=key(text(), "a name for people", "no name"))
    snp: SnpPolicy = field(
        default_factory=SnpPolicy, metadata=key(table(SnpPolicy), "what an SNP report must be", "as its keys say")
    )
    binding: BindingPolicy = field(
        default_factory=BindingPolicy,
        metadata=key(table(BindingPolicy), "what an endpoint's statement must say", "as its keys say"),
    )

    def trust(self) -> SnpTrust:
        """What verification needs of the policy."""
        return SnpTrust(simulated_roots=frozenset(self.snp.simulated_roots), revocation=self.snp.revocation)

    def with_snp(self, **changes: Any) -> Self:
        """The same with other values of ``[snp]``, by field name."""
        return replace(self, snp=replace(self.snp, **changes))

    def effective(self) -> dict[str, Json]:
        """Every key with the value that is in effect; what :meth:`id` is the digest of."""
        return dump_table(self)

    def id(self) -> str:
        """An RFC 6920 name of the effective policy: SHA-256 of its RFC 8785 form (only ASCII keys, small integers)."""
        canonical = json.dumps(self.effective(), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        digest = hashlib.sha256(canonical.encode("utf-8", "surrogatepass")).digest()
        return f"ni:///sha-256;{urlsafe_b64encode(digest).rstrip(b'=').decode()}"


def load_policy(text: str) -> Policy:
    """Read a policy file.

    Raises:
        UsageError: not TOML, an unknown key, a wrong type, or keys that contradict each other.
    """
    if len(text) > MAX_SIZE:
        raise UsageError(f"policy: larger than {MAX_SIZE} characters")
    for number, line in enumerate(text.splitlines(), 1):
        if line.count(".") > _MOST_DOTS and not line.lstrip().startswith("#"):
            raise UsageError(f"policy: line {number}: more than {_MOST_DOTS} dots")
    try:
        document = tomllib.loads(text)
    except RecursionError:
        raise UsageError("policy: nested too deeply") from None
    except tomllib.TOMLDecodeError as exc:
        raise UsageError(f"policy: not TOML: {str(exc)[:200]}") from exc
    except ValueError as exc:
        raise UsageError("policy: an integer of thousands of digits") from exc
    policy = read_table(Policy, document, "")
    _consistent(policy.snp)
    return policy


def _consistent(snp: SnpPolicy) -> None:
    """Refuse what no report could ever meet, or what would quietly win over something else."""
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
