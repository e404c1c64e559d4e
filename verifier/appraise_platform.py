"""Appraisal: how the guest was launched, on what machine, and with which firmware."""

from __future__ import annotations

from collections.abc import Callable

from ..errors import Check, Status
from ..evidence.snp import FirmwareVersion, GuestPolicy, PlatformInfo, Tcb
from .finding import ABI, Finding, Rule, Rules, Subject, held, not_asked, one_bit, reported
from .floors import AS_OF, SHIPPED, Floor, TcbMinimum, floors_for
from .policy_keys import Version
from .policy_rules import BitRule
from .snp_policy import FloorRule


def _policy_bit(check: Check, place: int, name: str) -> Rule:
    def find(subject: Subject) -> Finding:
        rule: BitRule = getattr(subject.policy.policy, name)
        return one_bit(rule, getattr(subject.report.policy, name), f"POLICY.{name.upper()}")

    return Rule(check, f"{ABI}, 0x008, bit {place}", find)


def _platform_bit(check: Check, place: int, name: str) -> Rule:
    def find(subject: Subject) -> Finding:
        rule: BitRule = getattr(subject.policy.platform_info, name)
        return one_bit(rule, getattr(subject.report.platform_info, name), f"PLATFORM_INFO.{name.upper()}")

    return Rule(check, f"{ABI}, 0x040, bit {place}", find)


def _policy_reserved(subject: Subject) -> Finding:
    bits: GuestPolicy = subject.report.policy
    wrong = [f"the bits {bits.reserved:#x} must be 0"] if bits.reserved else []
    wrong += [] if bits.reserved_1 else ["bit 17 must be 1"]
    return reported(subject.policy.policy.reserved, "; ".join(wrong), f"{int(bits):#x}")


def _platform_reserved(subject: Subject) -> Finding:
    bits: PlatformInfo = subject.report.platform_info
    message = f"the bits {bits.reserved:#x} have no published meaning" if bits.reserved else ""
    return reported(subject.policy.platform_info.reserved, message, f"{int(bits):#x}")


def _report_reserved(subject: Subject) -> Finding:
    regions = subject.report.reserved
    message = f"reserved fields are not zero: {', '.join(regions)}" if regions else ""
    return reported(subject.policy.reserved_fields, message, regions)


def _abi(subject: Subject) -> Finding:
    actual = Version(subject.report.policy.abi_major, subject.report.policy.abi_minor)
    return _version(subject.policy.minimum_policy_abi, actual, "the ABI version that POLICY demands")


def _version(lowest: Version | None, actual: Version, name: str) -> Finding:
    if lowest is None:
        return not_asked(str(actual))
    return held(actual >= lowest, f"{name} is below the minimum", expected=str(lowest), actual=str(actual))


def _tcb_text(tcb: Tcb) -> str:
    return ", ".join(f"{name} {level}" for name, level in tcb.components().items())


def _tcb_current(subject: Subject) -> Finding:
    above = subject.current.below(subject.reported)
    return held(
        not above,
        f"REPORTED_TCB is above CURRENT_TCB in {', '.join(above)}",
        expected=_tcb_text(subject.current),
        actual=_tcb_text(subject.reported),
    )


def _minimum(lowest: TcbMinimum | None, actual: Tcb, name: str) -> Finding:
    if lowest is None or not lowest.levels():
        return not_asked(_tcb_text(actual))
    unmet = lowest.unmet(actual)
    message = f"{name} is below the minimum in {', '.join(unmet)}"
    return held(not unmet, message, expected=str(lowest), actual=_tcb_text(actual))


def _tcb_reported(subject: Subject) -> Finding:
    return _minimum(subject.policy.minimum_tcb, subject.reported, "REPORTED_TCB")


def _tcb_launch(subject: Subject) -> Finding:
    return _minimum(subject.policy.minimum_launch_tcb, subject.launch, "LAUNCH_TCB")


def _tcb_floor(subject: Subject) -> Finding:
    policy, fms, actual = subject.policy, subject.report.fms, _tcb_text(subject.reported)
    shipped = policy.tcb_floor is FloorRule.SHIPPED
    if not shipped and not policy.floors:
        return not_asked(actual)
    if fms is None:
        message = "version 2 names no family, model and stepping, so no floor can be chosen; set a minimum_tcb instead"
        return Finding(Status.FAIL, None, actual, message)
    processor = f"family {fms.family:#x}, model {fms.model:#x}, stepping {fms.stepping}"
    own = tuple(row.floor() for row in policy.floors)
    rows: tuple[Floor, ...] = floors_for(fms, own) + (floors_for(fms) if shipped else ())
    if not rows:
        known = f"the floors of {AS_OF} or the policy's own" if shipped else "the policy's own floors"
        return Finding(Status.FAIL, None, actual, f"{processor}: no floor is known among {known}")
    missed = [(row, row.minimum.unmet(subject.reported)) for row in rows]
    reasons = [f"below {row.minimum} in {', '.join(unmet)}: {row.source}" for row, unmet in missed if unmet]
    expected = tuple(str(row.minimum) for row in rows)
    return held(not reasons, f"{processor}: {'; '.join(reasons)}", expected=expected, actual=actual)


def _provisional(subject: Subject) -> Finding:
    report, current, committed = subject.report, subject.current, subject.committed
    expected = f"{_tcb_text(current)}, firmware {report.current_version}"
    actual = f"{_tcb_text(committed)}, firmware {report.committed_version}"
    if subject.policy.permit_provisional_firmware:
        above = current.below(committed) or report.committed_version > report.current_version
        return held(not above, "COMMITTED is above CURRENT", expected=f"at most {expected}", actual=actual)
    same = report.current_tcb == report.committed_tcb and report.current_version == report.committed_version
    message = "the firmware is provisional: COMMITTED is not CURRENT, so the host may still go back"
    return held(same, message, expected=expected, actual=actual)


def _build(subject: Subject) -> Finding:
    actual, lowest = subject.report.current_version.build, subject.policy.minimum_build
    if lowest is None:
        return not_asked(actual)
    return held(actual >= lowest, "CURRENT_BUILD is below the minimum", expected=lowest, actual=actual)


def _firmware_version(subject: Subject) -> Finding:
    current: FirmwareVersion = subject.report.current_version
    return _version(subject.policy.minimum_version, Version(current.major, current.minor), "the firmware's version")


def _mit_vector(name: str) -> Callable[[Subject], Finding]:
    def find(subject: Subject) -> Finding:
        actual: int | None = getattr(subject.report, name)
        wanted: int | None = getattr(subject.policy, name)
        shown = None if actual is None else f"{actual:#x}"
        if not wanted:
            return not_asked(shown)
        if actual is None:
            message = f"version {subject.report.version} has no {name.upper()}"
            return Finding(Status.FAIL, f"{wanted:#x}", None, message)
        missing = wanted & ~actual
        message = f"{name.upper()} lacks the bits {missing:#x}"
        return held(not missing, message, expected=f"{wanted:#x}", actual=shown)

    return find


def _cert_table(subject: Subject) -> Finding:
    required, found = subject.policy.required_cert_table, subject.cert_table
    present = None if found is None else tuple(str(guid) for guid in found)
    if not required:
        return not_asked(present)
    expected = tuple(str(guid) for guid in required)
    if found is None:
        return Finding(Status.FAIL, expected, None, "the evidence came without a certificate table")
    lacking = [str(guid) for guid in required if not found.get(guid)]
    return held(not lacking, f"the table lacks {', '.join(lacking)}", expected=expected, actual=present)


GUEST: Rules = (
    Rule(Check.SNP_POLICY_ABI, f"{ABI}, 0x008, bits 15:0", _abi),
    _policy_bit(Check.SNP_POLICY_SMT, 16, "smt"),
    _policy_bit(Check.SNP_POLICY_MIGRATE_MA, 18, "migrate_ma"),
    _policy_bit(Check.SNP_POLICY_DEBUG, 19, "debug"),
    _policy_bit(Check.SNP_POLICY_SINGLE_SOCKET, 20, "single_socket"),
    _policy_bit(Check.SNP_POLICY_CXL_ALLOW, 21, "cxl_allow"),
    _policy_bit(Check.SNP_POLICY_MEM_AES_256_XTS, 22, "mem_aes_256_xts"),
    _policy_bit(Check.SNP_POLICY_RAPL_DIS, 23, "rapl_dis"),
    _policy_bit(Check.SNP_POLICY_CIPHERTEXT_HIDING_DRAM, 24, "ciphertext_hiding_dram"),
    _policy_bit(Check.SNP_POLICY_PAGE_SWAP_DISABLE, 25, "page_swap_disable"),
    Rule(Check.SNP_POLICY_RESERVED, f"{ABI}, 0x008, bits 17 and 63:26", _policy_reserved),
)
"""What the guest's launch allows."""

PLATFORM: Rules = (
    _platform_bit(Check.SNP_PLATFORM_SMT_EN, 0, "smt_en"),
    _platform_bit(Check.SNP_PLATFORM_TSME_EN, 1, "tsme_en"),
    _platform_bit(Check.SNP_PLATFORM_ECC_EN, 2, "ecc_en"),
    _platform_bit(Check.SNP_PLATFORM_RAPL_DIS, 3, "rapl_dis"),
    _platform_bit(Check.SNP_PLATFORM_CIPHERTEXT_HIDING_DRAM_EN, 4, "ciphertext_hiding_dram_en"),
    _platform_bit(Check.SNP_PLATFORM_ALIAS_CHECK_COMPLETE, 5, "alias_check_complete"),
    _platform_bit(Check.SNP_PLATFORM_TIO_EN, 7, "tio_en"),
    Rule(Check.SNP_PLATFORM_RESERVED, f"{ABI}, 0x040, bits 6 and 63:8", _platform_reserved),
    Rule(Check.SNP_REPORT_RESERVED, ABI, _report_reserved),
)
"""State of the machine."""

FIRMWARE: Rules = (
    Rule(Check.SNP_TCB_CURRENT, f"{ABI}, 0x038 and 0x180", _tcb_current),
    Rule(Check.SNP_TCB_REPORTED_MINIMUM, f"{ABI}, 0x180", _tcb_reported),
    Rule(Check.SNP_TCB_LAUNCH_MINIMUM, f"{ABI}, 0x1F0", _tcb_launch),
    Rule(Check.SNP_TCB_FLOOR, f"{ABI}, 0x180 and 0x188; floors of {AS_OF}, {len(SHIPPED)} rows", _tcb_floor),
    Rule(Check.SNP_FIRMWARE_PROVISIONAL, f"{ABI}, 0x1E0 to 0x1EF", _provisional),
    Rule(Check.SNP_FIRMWARE_BUILD, f"{ABI}, 0x1E8", _build),
    Rule(Check.SNP_FIRMWARE_VERSION, f"{ABI}, 0x1E9 and 0x1EA", _firmware_version),
    Rule(Check.SNP_LAUNCH_MIT_VECTOR, f"{ABI}, 0x1F8", _mit_vector("launch_mit_vector")),
    Rule(Check.SNP_CURRENT_MIT_VECTOR, f"{ABI}, 0x200", _mit_vector("current_mit_vector")),
    Rule(Check.SNP_CERT_TABLE, "56421, SNP Extended Guest Request", _cert_table),
)
"""Firmware, its patch levels, and what the host adds."""
