"""What a TDX quote must be: the table ``[tdx]`` of the policy, each field with its meaning beside it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NamedTuple

from ..endorsements.collateral import TcbStatus
from ..endorsements.pck import PckCa
from ..evidence.tdx import BodyType
from .module_versions import BY_NAME
from .policy_keys import (
    BITS64,
    BOOLEAN,
    Json,
    Key,
    Kind,
    choice,
    choices,
    digests,
    hex_bytes,
    hex_prefix,
    integer,
    key,
    refuse,
    shown,
    table,
    tables,
    text,
    texts,
    values,
)
from .policy_rules import NO_CHECK, REPORT_DATA, RESERVED, BitRule, ReservedRule, bit
from .tdx_tcb import Part

_ZERO = "zero"
_ZERO_OR = "; all zero counts as a value"
_ONE = "must be 1"
_NIL = "must be 0"


class SgxType(StrEnum):
    """How a platform protects memory, in the order of the numbers of PCK certificates."""

    STANDARD = "standard"
    SCALABLE = "scalable"
    SCALABLE_WITH_INTEGRITY = "scalable-with-integrity"


class AdvisoryRule(NamedTuple):
    """An advisory in the policy: by its id, from one part or from any."""

    id: str
    part: Part | None

    def __str__(self) -> str:
        return f"{self.part}:{self.id}" if self.part else self.id


_PARTS: Final = {str(part): part for part in (Part.PLATFORM, Part.MODULE, Part.QE)}


def _advisory(value: object, path: str) -> AdvisoryRule:
    word: str = text(64).read(value, path)
    part, colon, name = word.rpartition(":")
    if colon and part not in _PARTS:
        raise refuse(path, f"one of {', '.join(_PARTS)} wanted in front of the colon, not {shown(part)}")
    if not name:
        raise refuse(path, f"the id of an advisory wanted, not {shown(value)}")
    return AdvisoryRule(name, _PARTS.get(part))


def _advisories(value: object, path: str) -> tuple[AdvisoryRule, ...]:
    if not isinstance(value, list):
        raise refuse(path, f"a list wanted, not {shown(value)}")
    return tuple(dict.fromkeys(_advisory(item, f"{path}[{n}]") for n, item in enumerate(value)))


def _show_advisories(rules: tuple[AdvisoryRule, ...] | None) -> Json:
    return None if rules is None else [str(rule) for rule in rules]


_ADVISORIES = Kind(
    'list of advisory ids, such as "INTEL-SA-00837" or "module:INTEL-SA-00837"', _advisories, _show_advisories
)


def _modules(value: object, path: str) -> tuple[bytes, ...]:
    if not isinstance(value, list):
        raise refuse(path, f"a list wanted, not {shown(value)}")
    found = []
    for number, item in enumerate(value):
        if isinstance(item, str) and item in BY_NAME:
            found.append(BY_NAME[item].mrseam)
        elif isinstance(item, str) and len(item) == 96:
            found.append(hex_bytes(48).read(item, f"{path}[{number}]"))
        else:
            raise refuse(f"{path}[{number}]", f"96 hex digits or a listed version wanted, not {shown(item)}")
    return tuple(dict.fromkeys(found))


_MODULES = Kind(
    'list of hex, 48 bytes each, or versions such as "1.5.24"', _modules, lambda found: [item.hex() for item in found]
)
_LATE = (TcbStatus.OUT_OF_DATE, TcbStatus.OUT_OF_DATE_CONFIGURATION_NEEDED, TcbStatus.REVOKED)
_RELAUNCH = (TcbStatus.TD_RELAUNCH_ADVISED, TcbStatus.TD_RELAUNCH_ADVISED_CONFIGURATION_NEEDED)
_ACCEPTED = choices(TcbStatus, without=(*_LATE, TcbStatus.NOT_SUPPORTED))
_PLATFORM = choices(TcbStatus, without=(*_RELAUNCH, TcbStatus.NOT_SUPPORTED))
_THREE = choices(
    TcbStatus, without=tuple(set(TcbStatus) - {TcbStatus.UP_TO_DATE, TcbStatus.OUT_OF_DATE, TcbStatus.REVOKED})
)
_APART = "not looked at apart from the whole"


@dataclass(frozen=True, slots=True, kw_only=True)
class Grace:
    """A status that is accepted for a while, ``[[tdx.tcb.grace]]``: all three keys must be there."""

    status: TcbStatus = field(
        metadata=key(choice(TcbStatus, without=(TcbStatus.NOT_SUPPORTED,)), "the converged status", "an error")
    )
    advisories: tuple[AdvisoryRule, ...] = field(
        metadata=key(_ADVISORIES, "every advisory that may apply; an empty list accepts none", "an error")
    )
    maximum_age_days: int = field(
        metadata=key(
            integer(1, 3650), "days since tcbDate, the oldest of the parts that are not up to date", "an error"
        )
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TcbRules:
    """What Intel must say of the TCB, ``[tdx.tcb]``."""

    accepted: tuple[TcbStatus, ...] = field(
        default=(TcbStatus.UP_TO_DATE,),
        metadata=key(_ACCEPTED, "converged statuses that are accepted without further ado", "UpToDate only"),
    )
    grace: tuple[Grace, ...] = field(
        default=(),
        metadata=key(tables(Grace), "statuses that are accepted for these advisories and this long", "none"),
    )
    platform: tuple[TcbStatus, ...] = field(
        default=(), metadata=key(_PLATFORM, "accepted statuses of the platform, beside the whole", _APART)
    )
    module: tuple[TcbStatus, ...] = field(
        default=(), metadata=key(_THREE, "accepted statuses of the TDX module, beside the whole", _APART)
    )
    qe: tuple[TcbStatus, ...] = field(
        default=(), metadata=key(_THREE, "accepted statuses of the quoting enclave, beside the whole", _APART)
    )
    advisories: tuple[AdvisoryRule, ...] | None = field(
        default=None,
        metadata=key(
            _ADVISORIES, "every advisory that may apply, whatever the status", "any, if the status is accepted"
        ),
    )
    denied_advisories: tuple[AdvisoryRule, ...] = field(
        default=(), metadata=key(_ADVISORIES, "advisories that must not apply", "none")
    )
    minimum_evaluation_data_number: int | None = field(
        default=None,
        metadata=key(integer(1, 0xFFFFFFFF), "lowest tcbEvaluationDataNumber of TCB info and QE identity", NO_CHECK),
    )
    maximum_collateral_age_days: int | None = field(
        default=None,
        metadata=key(
            integer(1, 3650),
            "days since the oldest of TCB info, QE identity and revocation lists was issued",
            "any age within its validity",
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TdAttributeRules:
    """Bits of ATTRIBUTES, ``[tdx.td_attributes]``; names and places are those of Intel's TDX module ABI."""

    debug: BitRule = field(
        default=BitRule.ZERO, metadata=bit("bit 0, the host may read and write the TD's memory and state", _NIL)
    )
    hgs_plus_prof: BitRule = field(
        default=BitRule.ZERO, metadata=bit("bit 4, the host may profile the TD by hardware feedback", _NIL)
    )
    perf_prof: BitRule = field(
        default=BitRule.ZERO, metadata=bit("bit 5, the host may profile the TD by performance counters", _NIL)
    )
    pmt_prof: BitRule = field(
        default=BitRule.ZERO, metadata=bit("bit 6, the host may profile the TD by platform telemetry", _NIL)
    )
    icssd: BitRule = field(default=BitRule.ANY, metadata=bit("bit 16, single-stepping by counting is defended against"))
    servtd_ext: BitRule = field(default=BitRule.ANY, metadata=bit("bit 17, extended binding of service TDs"))
    lass: BitRule = field(default=BitRule.ANY, metadata=bit("bit 27, linear address space separation"))
    sept_ve_disable: BitRule = field(
        default=BitRule.ONE, metadata=bit("bit 28, pages that the host takes away raise no #VE in the TD", _ONE)
    )
    migratable: BitRule = field(
        default=BitRule.ZERO, metadata=bit("bit 29, a migration TD may move the TD elsewhere", _NIL)
    )
    pks: BitRule = field(default=BitRule.ANY, metadata=bit("bit 30, supervisor protection keys"))
    kl: BitRule = field(default=BitRule.ANY, metadata=bit("bit 31, key locker"))
    tpa: BitRule = field(default=BitRule.ANY, metadata=bit("bit 62, the TD is a TDX provisioning agent"))
    perfmon: BitRule = field(default=BitRule.ANY, metadata=bit("bit 63, the TD may use performance monitoring"))
    fixed0: int | None = field(
        default=None, metadata=key(BITS64, "bits that may be 1; every other must be 0 (Intel's FIXED0)", NO_CHECK)
    )
    fixed1: int | None = field(default=None, metadata=key(BITS64, "bits that must be 1 (Intel's FIXED1)", NO_CHECK))
    unknown: ReservedRule = field(
        default=ReservedRule.REPORT,
        metadata=key(
            RESERVED, "bits without a name are 0; of the bits 15:0, debug and profiling, always", "reported, not fatal"
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class XfamRules:
    """Bits of XFAM, ``[tdx.xfam]``."""

    fixed0: int = field(
        default=0x6DBE7,
        metadata=key(BITS64, "features that may be enabled; no other may (Intel's FIXED0)", "0x6dbe7"),
    )
    fixed1: int = field(
        default=0x3, metadata=key(BITS64, "features that must be enabled (Intel's FIXED1)", "0x3, x87 and SSE")
    )
    unknown: ReservedRule = field(
        default=ReservedRule.REPORT,
        metadata=key(RESERVED, "bits without a name are 0", "reported, not fatal, where fixed0 allows them"),
    )


def _events(meaning: str, absent: str) -> dict[str, Key]:
    return key(digests(48), meaning, absent)


_OPEN = "not looked at; only where it stands in the log"
_ABSENT = "none is accepted, once kernel, command_line or initrd is named"


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRules:
    """What the event log must say, ``[tdx.events]``; a log counts only if it gives the RTMRs of the quote."""

    td_hob: tuple[bytes, ...] = field(default=(), metadata=_events("accepted digests of the TD HOB", _OPEN))
    firmware: tuple[bytes, ...] = field(
        default=(), metadata=_events("accepted digests of the firmware's configuration volume (CFV)", _OPEN)
    )
    fw_cfg: tuple[bytes, ...] = field(
        default=(),
        metadata=_events(
            "accepted digests of QEMU's configuration, which newer firmware measures",
            "none is accepted, once another key of RTMR0 is named",
        ),
    )
    secure_boot: BitRule = field(default=BitRule.ANY, metadata=bit("the variable SecureBoot; 1 is on"))
    secure_boot_variables: tuple[bytes, ...] = field(
        default=(), metadata=_events("accepted digests of PK, KEK, db, dbx and the like; each must be one", _OPEN)
    )
    acpi: tuple[bytes, ...] = field(
        default=(), metadata=_events("accepted digests of ACPI loader, RSDP and tables; each must be one", _OPEN)
    )
    boot: tuple[bytes, ...] = field(
        default=(), metadata=_events("accepted digests of BootOrder and boot options; each must be one", _OPEN)
    )
    kernel: tuple[bytes, ...] = field(
        default=(),
        metadata=_events("accepted programs that firmware starts: Authenticode SHA-384 of kernel, UKI, shim", _ABSENT),
    )
    command_line: tuple[str, ...] = field(
        default=(),
        metadata=key(
            texts(4096), "accepted command lines of the kernel, without what the firmware adds for an initrd", _ABSENT
        ),
    )
    initrd: tuple[bytes, ...] = field(default=(), metadata=_events("accepted initrds, SHA-384 of the file", _ABSENT))
    other: tuple[bytes, ...] = field(
        default=(),
        metadata=_events("digests of further events that are accepted, such as partitions and sections", "none"),
    )

    def machine(self) -> bool:
        """Whether a key about RTMR0 is named: what the host gave the firmware."""
        named = (self.td_hob, self.firmware, self.fw_cfg, self.secure_boot_variables, self.acpi, self.boot)
        return any(named) or self.secure_boot is not BitRule.ANY

    def code(self) -> bool:
        """Whether a key about RTMR1 and RTMR2 is named: what was started."""
        return bool(self.kernel or self.command_line or self.initrd)


@dataclass(frozen=True, slots=True, kw_only=True)
class TdxPolicy:
    """What a TDX quote must be, ``[tdx]``; each field is one key of the file, with its meaning beside it."""

    # What runs
    mrtd: tuple[bytes, ...] = field(
        default=(), metadata=key(digests(48), "accepted values of MRTD", "no MRTD is accepted; see reference values")
    )
    rtmr0: tuple[bytes, ...] = field(
        default=(), metadata=key(values(48), f"accepted values of RTMR0{_ZERO_OR}", NO_CHECK)
    )
    rtmr1: tuple[bytes, ...] = field(
        default=(), metadata=key(values(48), f"accepted values of RTMR1{_ZERO_OR}", NO_CHECK)
    )
    rtmr2: tuple[bytes, ...] = field(
        default=(), metadata=key(values(48), f"accepted values of RTMR2{_ZERO_OR}", NO_CHECK)
    )
    rtmr3: tuple[bytes, ...] = field(
        default=(),
        metadata=key(values(48), f"accepted values of RTMR3{_ZERO_OR}", "zero, or what the event log explains"),
    )
    require_event_log: bool = field(
        default=False,
        metadata=key(BOOLEAN, "an event log must come along", "false, unless a key of tdx.events needs it"),
    )
    events: EventRules = field(
        default_factory=EventRules, metadata=key(table(EventRules), "what the event log must say", "as its keys say")
    )
    # What it says
    report_data: bytes | None = field(
        default=None,
        metadata=key(
            REPORT_DATA,
            'REPORTDATA; "binding": the caller must give the value, such as the hash of a statement',
            "what the caller gives is compared; if it gives none, not looked at",
        ),
    )
    report_data_prefix: bytes | None = field(
        default=None, metadata=key(hex_prefix(64), "first bytes of REPORTDATA; all others must be zero", NO_CHECK)
    )
    mrconfigid: tuple[bytes, ...] = field(default=(), metadata=key(values(48), "accepted values of MRCONFIGID", _ZERO))
    mrowner: tuple[bytes, ...] = field(default=(), metadata=key(values(48), "accepted values of MROWNER", _ZERO))
    mrownerconfig: tuple[bytes, ...] = field(
        default=(), metadata=key(values(48), "accepted values of MROWNERCONFIG", _ZERO)
    )
    mr_servicetd: tuple[bytes, ...] = field(
        default=(), metadata=key(values(48), "accepted values of MR_SERVICETD", "zero; a TD of version 1.0 has none")
    )
    # Who signed
    body_types: tuple[BodyType, ...] = field(
        default=tuple(BodyType), metadata=key(choices(BodyType), "accepted kinds of TD report", "every supported kind")
    )
    fmspcs: tuple[bytes, ...] = field(default=(), metadata=key(digests(6), "accepted FMSPCs", "every FMSPC"))
    denied_fmspcs: tuple[bytes, ...] = field(default=(), metadata=key(digests(6), "refused FMSPCs", "none"))
    ppids: tuple[bytes, ...] = field(
        default=(), metadata=key(digests(16), "accepted platforms, by PPID of the PCK certificate", "every platform")
    )
    denied_ppids: tuple[bytes, ...] = field(default=(), metadata=key(digests(16), "refused platforms, by PPID", "none"))
    platform_instance_ids: tuple[bytes, ...] = field(
        default=(),
        metadata=key(digests(16), "accepted platforms, by instance id; the Processor CA writes none", "every platform"),
    )
    denied_platform_instance_ids: tuple[bytes, ...] = field(
        default=(), metadata=key(digests(16), "refused platforms, by instance id; one without is refused", "none")
    )
    pck_cas: tuple[PckCa, ...] = field(
        default=tuple(PckCa), metadata=key(choices(PckCa), "accepted CAs of PCK certificates", "both")
    )
    sgx_types: tuple[SgxType, ...] = field(
        default=tuple(SgxType), metadata=key(choices(SgxType), "accepted ways of protecting memory", "every way")
    )
    dynamic_platform: BitRule = field(
        default=BitRule.ANY, metadata=bit("packages can be added to the platform, by the PCK certificate")
    )
    cached_keys: BitRule = field(
        default=BitRule.ANY, metadata=bit("Intel keeps the platform's root keys, by the PCK certificate")
    )
    smt: BitRule = field(default=BitRule.ANY, metadata=bit("simultaneous multithreading is on, by the PCK certificate"))
    maximum_pck_age_days: int | None = field(
        default=None,
        metadata=key(integer(1, 36500), "days since the PCK certificate was issued", "any age within its validity"),
    )
    simulated_roots: tuple[bytes, ...] = field(
        default=(),
        metadata=key(digests(32), "SHA-256 of accepted root certificates of simulated platforms", "only Intel's root"),
    )
    # How it was launched
    td_attributes: TdAttributeRules = field(
        default_factory=TdAttributeRules, metadata=key(table(TdAttributeRules), "bits of ATTRIBUTES", "as its keys say")
    )
    xfam: XfamRules = field(
        default_factory=XfamRules, metadata=key(table(XfamRules), "bits of XFAM", "as its keys say")
    )
    # TCB
    mrseam: tuple[bytes, ...] = field(
        default=(),
        metadata=key(_MODULES, "accepted TDX modules, by MRSEAM or by their version", "every module that Intel signs"),
    )
    minimum_tee_tcb_svn: bytes | None = field(
        default=None, metadata=key(hex_bytes(16), "lowest TEE_TCB_SVN, each of the 16 bytes by itself", NO_CHECK)
    )
    tcb: TcbRules = field(
        default_factory=TcbRules, metadata=key(table(TcbRules), "what Intel must say of the TCB", "as its keys say")
    )

    def registers(self) -> tuple[tuple[bytes, ...], ...]:
        """Accepted values of RTMR0 to RTMR3."""
        return self.rtmr0, self.rtmr1, self.rtmr2, self.rtmr3

    def wants_binding(self) -> bool:
        """Whether the caller must give the expected REPORTDATA."""
        return self.report_data == b""

    def wants_log(self) -> bool:
        """Whether an event log must come along."""
        return self.require_event_log or self.events.machine() or self.events.code()


def consistent(tdx: TdxPolicy) -> None:
    """Refuse what no quote could ever meet, or what would quietly win over something else.

    Raises:
        UsageError: the keys contradict each other.
    """
    if tdx.report_data is not None and tdx.report_data_prefix is not None:
        raise refuse("tdx.report_data_prefix", "not beside tdx.report_data")
    for name in ("fmspcs", "ppids", "platform_instance_ids"):
        if set(getattr(tdx, name)) & set(getattr(tdx, f"denied_{name}")):
            raise refuse(f"tdx.denied_{name}", f"names one that is also in tdx.{name}")
    if tdx.xfam.fixed1 & ~tdx.xfam.fixed0:
        raise refuse("tdx.xfam.fixed1", "demands a feature that tdx.xfam.fixed0 forbids")
    may, must = tdx.td_attributes.fixed0, tdx.td_attributes.fixed1
    if may is not None and must is not None and must & ~may:
        raise refuse("tdx.td_attributes.fixed1", "demands a bit that tdx.td_attributes.fixed0 forbids")
    if tdx.events.other and not (tdx.events.machine() or tdx.events.code()):
        raise refuse("tdx.events.other", "means nothing without another key of tdx.events")
    denied = set(tdx.tcb.denied_advisories)
    if denied & set(tdx.tcb.advisories or ()):
        raise refuse("tdx.tcb.denied_advisories", "names one that is also in tdx.tcb.advisories")
