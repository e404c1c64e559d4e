"""Verified reports without signatures: appraisal starts where verification ended.

``make_verified_snp(**changes)`` gives a report that meets FULL_POLICY in every point; the changes break one of them.
``make_verified_tdx(**changes)`` does the same for a quote and FULL_TDX_POLICY.
"""

from __future__ import annotations

import struct
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from hashlib import sha256, sha384
from typing import TYPE_CHECKING, Any

import pytest

from dokimos.attest.sim_ccel import LogEvent, direct_boot, hashed, registers
from dokimos.attest.sim_quote import QuoteFields, TdFields
from dokimos.attest.sim_tdx import TdxHierarchy, current_documents
from dokimos.endorsements.vek import Vek
from dokimos.errors import Check, CheckResult, Status
from dokimos.evidence import cert_table
from dokimos.evidence.ccel import EventType
from dokimos.evidence.snp import Product, SigningKey, SnpReport, Tcb, parse_report
from dokimos.evidence.tdx import BodyType
from dokimos.evidence.tdx_bits import TdAttributes, Xfam
from dokimos.evidence.uefi import GLOBAL_VARIABLE, IMAGE_SECURITY_DATABASE
from dokimos.measurements.rtmr import AcpiTables
from dokimos.measurements.synthetic_ovmf import synthetic_tdvf
from dokimos.measurements.synthetic_pe import synthetic_kernel
from dokimos.measurements.tdx import TdxLaunch
from dokimos.verifier.tdx import verify_tdx
from dokimos.verifier.trust import RevocationState, TdxTrust
from dokimos.verifier.verified import VerifiedSnp, make_verified

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from dokimos.verifier.verified_tdx import VerifiedTdx

AT = datetime(2026, 7, 1, tzinfo=UTC)
TCB = bytes.fromhex("0a00000000001754")
CHIP = bytes(range(64))
ROOT = b"\x77" * 32

# Every key of [snp] is demanded, with values that the report below has.
FULL_POLICY = f"""
schema = 1
name = "everything"
[snp]
measurements = ["{"11" * 48}"]
require_id_block = true
id_key_digests = ["{"22" * 48}"]
require_author_key = true
author_key_digests = ["{"33" * 48}"]
family_id = "{"44" * 16}"
image_id = "{"55" * 16}"
minimum_guest_svn = 65547
vmpl = [0]
report_data = "{"66" * 64}"
host_data = "{"77" * 32}"
report_id = "{"88" * 32}"
report_id_ma = "{"ff" * 32}"
signers = ["VCEK"]
products = ["Genoa", "Turin"]
require_chip_bound = true
chip_ids = ["{CHIP.hex()}"]
denied_chip_ids = ["{"99" * 64}"]
maximum_vek_age_days = 365
required_cert_table = ["VCEK", "9f4116cd-c503-4f5a-8f6f-fb68882f4ce2"]
minimum_policy_abi = "1.55"
reserved_fields = "fail"
tcb_floor = "shipped"
minimum_tcb = {{ bl = 10, snp = 23 }}
minimum_launch_tcb = {{ bl = 10, snp = 23, ucode = 0x54 }}
permit_provisional_firmware = false
minimum_build = 40
minimum_version = "1.55"
launch_mit_vector = 0x3
current_mit_vector = 0xb
[snp.policy]
smt = "must-be-1"
migrate_ma = "must-be-0"
debug = "must-be-0"
single_socket = "must-be-1"
cxl_allow = "must-be-0"
mem_aes_256_xts = "must-be-1"
rapl_dis = "must-be-1"
ciphertext_hiding_dram = "must-be-1"
page_swap_disable = "must-be-1"
reserved = "fail"
[snp.platform_info]
smt_en = "must-be-0"
tsme_en = "must-be-0"
ecc_en = "must-be-1"
rapl_dis = "must-be-1"
ciphertext_hiding_dram_en = "must-be-1"
alias_check_complete = "must-be-1"
tio_en = "must-be-0"
reserved = "fail"
"""

GUEST_POLICY = 0x0137 | 1 << 16 | 1 << 17 | 1 << 20 | 0xF << 22
PLATFORM_INFO = 0x3C


def make_report(**changes: Any) -> SnpReport:
    """A report of version 5 with other values for some fields, by their names in SnpReport; written here by offset."""
    fields: dict[str, Any] = {
        "version": 5,
        "guest_svn": 65547,
        "policy": GUEST_POLICY,
        "family_id": b"\x44" * 16,
        "image_id": b"\x55" * 16,
        "vmpl": 0,
        "signature_algo": 1,
        "current_tcb": TCB,
        "platform_info": PLATFORM_INFO,
        "key_info": 1,
        "report_data": b"\x66" * 64,
        "measurement": b"\x11" * 48,
        "host_data": b"\x77" * 32,
        "id_key_digest": b"\x22" * 48,
        "author_key_digest": b"\x33" * 48,
        "report_id": b"\x88" * 32,
        "report_id_ma": b"\xff" * 32,
        "reported_tcb": TCB,
        "fms": b"\x19\x11\x01",
        "chip_id": CHIP,
        "committed_tcb": TCB,
        "current_version": b"\x28\x37\x01",
        "committed_version": b"\x28\x37\x01",
        "launch_tcb": TCB,
        "launch_mit_vector": 0xB,
        "current_mit_vector": 0xB,
        "reserved_208": bytes(152),
    }
    assert changes.keys() <= fields.keys()
    f = fields | changes
    raw = struct.pack(
        "<IIQ16s16sII8sQI4x64s48s32s48s48s32s32s8s3s21x64s8s3sx3sx8sQQ152s72s72s368x",
        *(f[name] for name in ("version", "guest_svn", "policy", "family_id", "image_id", "vmpl", "signature_algo")),
        *(f[name] for name in ("current_tcb", "platform_info", "key_info", "report_data", "measurement", "host_data")),
        *(f[name] for name in ("id_key_digest", "author_key_digest", "report_id", "report_id_ma", "reported_tcb")),
        *(f[name] for name in ("fms", "chip_id", "committed_tcb", "current_version", "committed_version")),
        *(f[name] for name in ("launch_tcb", "launch_mit_vector", "current_mit_vector", "reserved_208")),
        b"\x01" * 48,
        b"\x02" * 48,
    )
    return parse_report(raw)


_VEK = Vek(
    raw=b"",
    tbs=b"",
    signature_algorithm=b"",
    signature=b"",
    kind=SigningKey.VCEK,
    subject_cn="SEV-VCEK",
    issuer=(),
    issuer_cn="SEV-Genoa",
    not_before=datetime(2026, 1, 1, tzinfo=UTC),
    not_after=datetime(2033, 1, 1, tzinfo=UTC),
    spki=b"",
    struct_version=0,
    product_name="Genoa",
    tcb=Tcb.from_bytes(TCB, Product.GENOA),
    hwid=CHIP,
    csp_id=None,
)


def _make(
    *,
    product: Product = Product.GENOA,
    signer: SigningKey = SigningKey.VCEK,
    vek: dict[str, Any] | None = None,
    simulated: bool = False,
    chip_bound: bool = True,
    **report: Any,
) -> VerifiedSnp:
    signed = CheckResult(Check.SNP_REPORT_SIGNATURE, Status.PASS, reference="not looked at in this test")
    return make_verified(
        report=make_report(**report),
        product=product,
        signer=signer,
        vek=replace(_VEK, kind=signer, **(vek or {})),
        endorsement=None,
        simulated=simulated,
        chip_bound=chip_bound,
        revocation=RevocationState.NOT_CHECKED,
        root_sha256=ROOT,
        checks=(signed,),
        at=AT,
    )


@pytest.fixture(scope="session")
def make_verified_snp() -> Callable[..., VerifiedSnp]:
    return _make


@pytest.fixture(scope="session")
def make_snp_report() -> Callable[..., SnpReport]:
    return make_report


@pytest.fixture(scope="session")
def full_policy_text() -> str:
    return FULL_POLICY


@pytest.fixture(scope="session")
def full_cert_table() -> dict[UUID, bytes]:
    from uuid import UUID  # noqa: PLC0415

    return {cert_table.VCEK: b"\x30", UUID("9f4116cd-c503-4f5a-8f6f-fb68882f4ce2"): b"\x0a"}


# TDX: a quote of the simulated platform, verified once, whose parts are then changed behind the verifier's back.

TDX_AT = datetime(2026, 3, 1, tzinfo=UTC)
TDX_KERNEL, TDX_INITRD, TDX_LINE = sha384(b"kernel").digest(), b"initrd", "console=ttyS0"


def _variable(mr: int, kind: EventType, guid: UUID, name: str, data: bytes, *, whole: bool = True) -> LogEvent:
    """UEFI_VARIABLE_DATA; of boot variables only the content is hashed."""
    raw = guid.bytes_le + struct.pack("<QQ", len(name), len(data)) + name.encode("utf-16-le") + data
    return LogEvent(mr, kind, sha384(raw if whole else data).digest(), raw)


def _machine_events() -> list[LogEvent]:
    """RTMR0 as OVMF of before 2025 writes it."""
    config, boot = EventType.EV_EFI_VARIABLE_DRIVER_CONFIG, EventType.EV_EFI_VARIABLE_BOOT
    named = [("SecureBoot", b"\x01"), ("PK", b"pk"), ("KEK", b"kek")]
    databases = [("db", b"db"), ("dbx", b"dbx")]
    option = struct.pack("<IH", 1, 4) + "UiApp\0".encode("utf-16-le") + b"\x7f\xff\x04\0"
    acpi = [
        LogEvent(1, EventType.EV_PLATFORM_CONFIG_FLAGS, sha384(part).digest(), b"ACPI DATA")
        for part in (b"loader", b"rsdp", b"tables")
    ]
    return [
        LogEvent(1, EventType.EV_EFI_HANDOFF_TABLES2, sha384(b"hob").digest(), b"\x09TdxTable\0" + bytes(32)),
        LogEvent(1, EventType.EV_EFI_PLATFORM_FIRMWARE_BLOB2, sha384(b"cfv").digest(), b"\x04Fv(X" + bytes(16)),
        *(_variable(1, config, GLOBAL_VARIABLE, name, data) for name, data in named),
        *(_variable(1, config, IMAGE_SECURITY_DATABASE, name, data) for name, data in databases),
        hashed(1, EventType.EV_SEPARATOR, bytes(4)),
        *acpi,
        _variable(1, boot, GLOBAL_VARIABLE, "BootOrder", b"\0\0", whole=False),
        _variable(1, boot, GLOBAL_VARIABLE, "Boot0000", option, whole=False),
    ]


def _booted_events() -> list[LogEvent]:
    """RTMR1 and RTMR2 of a direct boot."""
    tables = AcpiTables(loader=b"loader", rsdp=b"rsdp", tables=b"tables")
    launch = TdxLaunch(
        firmware=synthetic_tdvf(),
        memory=1 << 30,
        kernel=synthetic_kernel(),
        initrd=TDX_INITRD,
        append=TDX_LINE,
        acpi=tables,
        digests={"kernel": TDX_KERNEL},
    )
    return [event for event in direct_boot(launch)[1] if event.mr > 1]


TDX_EVENTS = (*_machine_events(), *_booted_events())
TDX_RTMRS = registers(TDX_EVENTS)


def _digests(events: Any, *places: int) -> list[str]:
    return [events[place].digest.hex() for place in places]


# Every key of [tdx] is demanded, with values that the quote below has; registers stand there by their events.
FULL_TDX_POLICY = f"""
schema = 1
name = "everything of TDX"
[tdx]
mrtd = ["{"11" * 48}"]
rtmr3 = ["{"00" * 48}"]
require_event_log = true
report_data = "{"66" * 64}"
mrconfigid = ["{"22" * 48}"]
mrowner = ["{"33" * 48}"]
mrownerconfig = ["{"44" * 48}"]
mr_servicetd = ["{"55" * 48}"]
body_types = ["TD15"]
fmspcs = ["d0c100000000"]
denied_fmspcs = ["ffffffffffff"]
ppids = ["{bytes(range(16)).hex()}"]
denied_ppids = ["{"ff" * 16}"]
platform_instance_ids = ["{bytes(range(16, 32)).hex()}"]
denied_platform_instance_ids = ["{"ff" * 16}"]
pck_cas = ["platform"]
sgx_types = ["scalable"]
dynamic_platform = "must-be-1"
cached_keys = "must-be-0"
smt = "must-be-1"
maximum_pck_age_days = 1000
mrseam = ["{"5e" * 48}", "1.5.24"]
minimum_tee_tcb_svn = "{bytes((5, 1, 6, *[0] * 13)).hex()}"
[tdx.events]
td_hob = {_digests(TDX_EVENTS, 0)}
firmware = {_digests(TDX_EVENTS, 1)}
secure_boot = "must-be-1"
secure_boot_variables = {_digests(TDX_EVENTS, 3, 4, 5, 6)}
acpi = {_digests(TDX_EVENTS, 8, 9, 10)}
boot = {_digests(TDX_EVENTS, 11, 12)}
kernel = ["{TDX_KERNEL.hex()}"]
command_line = ["{TDX_LINE}"]
initrd = ["{sha384(TDX_INITRD).hexdigest()}"]
[tdx.td_attributes]
debug = "must-be-0"
hgs_plus_prof = "must-be-0"
perf_prof = "must-be-0"
pmt_prof = "must-be-0"
icssd = "must-be-0"
servtd_ext = "must-be-0"
lass = "must-be-0"
sept_ve_disable = "must-be-1"
migratable = "must-be-0"
pks = "must-be-1"
kl = "must-be-0"
tpa = "must-be-0"
perfmon = "must-be-0"
fixed0 = 0x50000000
fixed1 = 0x50000000
unknown = "fail"
[tdx.xfam]
fixed0 = 0x602e7
fixed1 = 0x602e7
unknown = "fail"
[tdx.tcb]
accepted = ["UpToDate"]
platform = ["UpToDate"]
module = ["UpToDate"]
qe = ["UpToDate"]
advisories = ["INTEL-SA-00001"]
denied_advisories = ["INTEL-SA-00002"]
minimum_evaluation_data_number = 17
maximum_collateral_age_days = 30
"""
_TDX_FIELDS = TdFields(
    td_attributes=1 << 28 | 1 << 30,
    mrtd=b"\x11" * 48,
    mrconfigid=b"\x22" * 48,
    mrowner=b"\x33" * 48,
    mrownerconfig=b"\x44" * 48,
    rtmrs=TDX_RTMRS,
    report_data=b"\x66" * 64,
    tee_tcb_svn2=bytes((5, 1, 6, *[0] * 13)),
    mr_servicetd=b"\x55" * 48,
)


@cache
def _genuine_tdx() -> VerifiedTdx:
    made = TdxHierarchy(bytes(range(32)))
    info, identity = current_documents(made.pck_fields, _TDX_FIELDS, TDX_AT)
    quote = made.quote(QuoteFields(version=5, td=_TDX_FIELDS, certification=(5, made.pck_chain)))
    trust = TdxTrust(simulated_roots=frozenset({sha256(made.root).digest()}))
    return verify_tdx(quote, made.collateral(info, identity, TDX_AT), trust=trust, at=TDX_AT)


def _make_tdx(
    *,
    body: dict[str, Any] | None = None,
    pck: dict[str, Any] | None = None,
    verdict: dict[str, Any] | None = None,
    tcb_info: dict[str, Any] | None = None,
    body_type: BodyType = BodyType.TD15,
    simulated: bool = False,
    at: datetime = TDX_AT,
) -> VerifiedTdx:
    """The genuine quote with other values; the real root's word is taken for it unless it is to be simulated."""
    base = _genuine_tdx()
    changed = {"body": replace(base.quote.body, **_typed(body or {})), "body_type": body_type}
    signed = CheckResult(Check.TDX_QUOTE_SIGNATURE, Status.PASS, reference="not looked at in this test")
    return replace(
        base,
        quote=replace(base.quote, **changed),
        pck=replace(base.pck, **(pck or {})),
        collateral=replace(base.collateral, tcb_info=replace(base.collateral.tcb_info, **(tcb_info or {}))),
        verdict=replace(base.verdict, **(verdict or {})),
        simulated=simulated,
        checks=(signed,),
        at=at,
    )


def _typed(body: dict[str, Any]) -> dict[str, Any]:
    kinds = {"td_attributes": TdAttributes, "xfam": Xfam}
    return {name: kinds[name](value) if name in kinds else value for name, value in body.items()}


@pytest.fixture(scope="session")
def make_verified_tdx() -> Callable[..., VerifiedTdx]:
    return _make_tdx


@pytest.fixture(scope="session")
def full_tdx_policy_text() -> str:
    return FULL_TDX_POLICY


@pytest.fixture(scope="session")
def tdx_events() -> tuple[LogEvent, ...]:
    """The events that the RTMRs of the quote are of: 13 of RTMR0, then those of a direct boot."""
    return TDX_EVENTS
