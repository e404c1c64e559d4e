"""Verified reports without signatures: appraisal starts where verification ended.

``make_verified_snp(**changes)`` gives a report that meets FULL_POLICY in every point; the changes break one of them.
"""

from __future__ import annotations

import struct
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from dokimos.endorsements.vek import Vek
from dokimos.errors import Check, CheckResult, Status
from dokimos.evidence import cert_table
from dokimos.evidence.snp import Product, SigningKey, SnpReport, Tcb, parse_report
from dokimos.verifier.trust import RevocationState
from dokimos.verifier.verified import VerifiedSnp, make_verified

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

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
