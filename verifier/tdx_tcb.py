"""The TCB verdict of a TDX quote: which level a platform, its TDX module and its quoting enclave reach, and the whole.

The rules are those of Intel's quote verification library (QVL), its clause 4.1.2.4.17; a status is never simply the
worst of its parts.  Pure: numbers in, verdict out.  The order of levels in a file is not believed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final, NamedTuple

from ..endorsements.collateral import IsvLevel, ModuleIdentity, QeIdentity, TcbInfo, TcbLevel, TcbStatus
from ..errors import Check, MalformedEvidence

_ORDER: Final = (
    TcbStatus.UP_TO_DATE,
    TcbStatus.SW_HARDENING_NEEDED,
    TcbStatus.CONFIGURATION_NEEDED,
    TcbStatus.CONFIGURATION_AND_SW_HARDENING_NEEDED,
    TcbStatus.TD_RELAUNCH_ADVISED,
    TcbStatus.TD_RELAUNCH_ADVISED_CONFIGURATION_NEEDED,
    TcbStatus.OUT_OF_DATE,
    TcbStatus.OUT_OF_DATE_CONFIGURATION_NEEDED,
    TcbStatus.REVOKED,
    TcbStatus.NOT_SUPPORTED,
)
_CURRENT: Final = frozenset({TcbStatus.UP_TO_DATE, TcbStatus.SW_HARDENING_NEEDED})
_CONFIGURATION: Final = frozenset({TcbStatus.CONFIGURATION_NEEDED, TcbStatus.CONFIGURATION_AND_SW_HARDENING_NEEDED})
_OUT_OF_DATE: Final = frozenset({TcbStatus.OUT_OF_DATE, TcbStatus.OUT_OF_DATE_CONFIGURATION_NEEDED})
_MODULE_STATUSES: Final = frozenset({TcbStatus.UP_TO_DATE, TcbStatus.OUT_OF_DATE, TcbStatus.REVOKED})


class Part(StrEnum):
    """Whose level, or whose advisory."""

    PLATFORM = "platform"
    MODULE = "module"
    QE = "qe"
    RELAUNCH = "relaunch"
    """The question whether a newer module runs already, and only the TD is older; no part of the TCB."""


class Advisory(NamedTuple):
    """A security advisory and the parts whose level names it."""

    id: str
    parts: tuple[Part, ...]


class TraceEntry(NamedTuple):
    """One level that was looked at.

    Attributes:
        part: whose level.
        level: its number, the highest level is 1.
        status: Intel's verdict on it.
        failed: the first component that is too low, such as "sgx[7]" or "pcesvn"; "" if the level is reached.
        required: what the level demands of that component, None if the level is reached.
        actual: what there is.
        chosen: what the level was taken for: "sgx" (the platform without its TDX components) or a part; empty if for
            nothing.
    """

    part: Part
    level: int
    status: TcbStatus
    failed: str
    required: int | None
    actual: int | None
    chosen: tuple[str, ...]

    def __str__(self) -> str:
        where = f"{self.part} level {self.level} ({self.status})"
        if self.failed:
            where += f": {self.failed} is {self.actual}, {self.required} needed"
        elif not self.chosen:
            where += ": reached"
        return f"{where}: taken as {' and '.join(self.chosen)}" if self.chosen else where


@dataclass(frozen=True, slots=True, kw_only=True)
class TcbVerdict:
    """What Intel's rules say.

    Attributes:
        platform: status of the level that the platform reaches with its TDX components.
        sgx: status of the level that it reaches without them.
        module: status of the TDX module; None for version 1.0, whose SVNs are among the platform's components.
        qe: status of the quoting enclave.
        converged: the one that counts.
        platform_date: tcbDate of that level, None where none is reached; likewise the other two.
        advisories: every advisory once: those of the platform's level, then the module's, then the enclave's.
        trace: every level that was looked at, in order.
    """

    platform: TcbStatus
    sgx: TcbStatus
    module: TcbStatus | None
    qe: TcbStatus
    converged: TcbStatus
    platform_date: datetime | None
    module_date: datetime | None
    qe_date: datetime | None
    advisories: tuple[Advisory, ...]
    trace: tuple[TraceEntry, ...]

    def date(self) -> datetime | None:
        """The oldest tcbDate of the parts that are not up to date; of all parts where each of them is.

        None where a part reaches no level.
        """
        if self.converged is TcbStatus.NOT_SUPPORTED:
            return None
        parts = (
            (self.platform, self.platform_date),
            (self.module, self.module_date),
            (self.qe, self.qe_date),
        )
        dated = [(status, date) for status, date in parts if status is not None and date is not None]
        late = [date for status, date in dated if status is not TcbStatus.UP_TO_DATE]
        return min(late or [date for _, date in dated], default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Svns:
    """Security version numbers of one quote and of the certificate behind it.

    Attributes:
        components: the 16 SGX components of the PCK certificate.
        pcesvn: PCESVN of the PCK certificate.
        tee_tcb_svn: TEE_TCB_SVN of the TD report.
        tee_tcb_svn2: TEE_TCB_SVN2, None in a TD report of version 1.0.
        qe: ISVSVN of the quoting enclave.
    """

    components: tuple[int, ...]
    pcesvn: int
    tee_tcb_svn: bytes
    tee_tcb_svn2: bytes | None
    qe: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TcbTables:
    """The levels of a TCB info and a QE identity in the order in which they are looked at; :func:`prepare` makes it.

    Attributes:
        platform: platform levels, highest first.
        modules: module identities by their id in upper case, each with its levels, highest first.
        qe: levels of the quoting enclave, highest first.
    """

    platform: tuple[TcbLevel, ...]
    modules: Mapping[str, tuple[ModuleIdentity, tuple[IsvLevel, ...]]]
    qe: tuple[IsvLevel, ...]

    def module(self, version: int) -> ModuleIdentity | None:
        """The identity of the TDX module with this version, the second byte of TEE_TCB_SVN."""
        found = self.modules.get(module_id(version))
        return found[0] if found else None


def module_id(version: int) -> str:
    """How a TCB info names the module with this version, in upper case."""
    return f"TDX_{version:02X}"


def prepare(tcb_info: TcbInfo, qe_identity: QeIdentity) -> TcbTables:
    """Sort the levels, highest first; of levels with the same numbers the worse and older comes first.

    Raises:
        MalformedEvidence: two identities of one module.
    """
    modules = {identity.id.upper(): (identity, _descending(identity.levels)) for identity in tcb_info.module_identities}
    if len(modules) != len(tcb_info.module_identities):
        raise MalformedEvidence("TCB info: two identities of one TDX module", check=Check.TDX_COLLATERAL_FORMAT)
    return TcbTables(
        platform=tuple(
            sorted(
                tcb_info.levels,
                key=lambda level: (level.sgx, level.pcesvn, level.tdx, *_severity(level)),
                reverse=True,
            )
        ),
        modules=modules,
        qe=_descending(qe_identity.levels),
    )


def _descending(levels: Iterable[IsvLevel]) -> tuple[IsvLevel, ...]:
    return tuple(sorted(levels, key=lambda level: (level.isvsvn, *_severity(level)), reverse=True))


def _severity(level: TcbLevel | IsvLevel) -> tuple[int, float, tuple[str, ...]]:
    """What orders levels with the same numbers, so that the order of the file decides nothing."""
    return _ORDER.index(level.status), -level.date.timestamp(), level.advisories


def judge(tables: TcbTables, svns: Svns) -> TcbVerdict:
    """The verdict of these levels on these numbers."""
    trace: list[TraceEntry] = []
    sgx_level, tdx_level = _match(tables.platform, svns, trace)
    module_level, module = _module(tables, svns, trace)
    qe_level = _isv_level(tables.qe, svns.qe, Part.QE, trace)
    sgx = sgx_level.status if sgx_level else TcbStatus.NOT_SUPPORTED
    platform = tdx_level.status if tdx_level else TcbStatus.NOT_SUPPORTED
    qe = _qe_status(qe_level)
    return TcbVerdict(
        platform=platform,
        sgx=sgx,
        module=module,
        qe=qe,
        converged=_whole(tables, svns, (sgx, platform, module, qe), trace),
        platform_date=tdx_level.date if tdx_level else None,
        module_date=module_level.date if module_level else None,
        qe_date=qe_level.date if qe_level else None,
        advisories=_advisories({Part.PLATFORM: tdx_level, Part.MODULE: module_level, Part.QE: qe_level}),
        trace=tuple(trace),
    )


def _match(
    levels: tuple[TcbLevel, ...], svns: Svns, trace: list[TraceEntry]
) -> tuple[TcbLevel | None, TcbLevel | None]:
    """QVL 4.1.2.4.17.1 to .3: the first level that the SGX numbers reach, and the first that the TDX ones reach too."""
    first = None
    # A module of version 1.5 or later has levels of its own; its SVN and version (0 and 1) are then no components.
    start = 2 if svns.tee_tcb_svn[1] > 0 else 0
    for number, level in enumerate(levels, 1):
        failed = _below(svns.components, level.sgx, "sgx")
        if not failed and svns.pcesvn < level.pcesvn:
            failed = ("pcesvn", level.pcesvn, svns.pcesvn)
        if failed:
            trace.append(TraceEntry(Part.PLATFORM, number, level.status, *failed, ()))
            continue
        chosen: tuple[str, ...] = () if first else ("sgx",)
        first = first or level
        failed = _below(svns.tee_tcb_svn, level.tdx, "tdx", start)
        if failed:
            trace.append(TraceEntry(Part.PLATFORM, number, level.status, *failed, chosen))
            continue
        trace.append(TraceEntry(Part.PLATFORM, number, level.status, "", None, None, (*chosen, Part.PLATFORM)))
        return first, level
    return first, None


def _below(
    actual: bytes | tuple[int, ...], required: tuple[int, ...], name: str, start: int = 0
) -> tuple[str, int, int] | None:
    """The first component that is too low, with both values."""
    for index in range(start, 16):
        if actual[index] < required[index]:
            return f"{name}[{index}]", required[index], actual[index]
    return None


def _isv_level(levels: tuple[IsvLevel, ...], isvsvn: int, part: Part, trace: list[TraceEntry]) -> IsvLevel | None:
    """The first level whose SVN is reached."""
    for number, level in enumerate(levels, 1):
        if isvsvn >= level.isvsvn:
            trace.append(TraceEntry(part, number, level.status, "", None, None, (part,)))
            return level
        trace.append(TraceEntry(part, number, level.status, "isvsvn", level.isvsvn, isvsvn, ()))
    return None


def _module(tables: TcbTables, svns: Svns, trace: list[TraceEntry]) -> tuple[IsvLevel | None, TcbStatus | None]:
    """QVL 4.1.2.4.17.4.1; a status that Intel's library does not know of a module is none."""
    isvsvn, version = svns.tee_tcb_svn[:2]
    if version == 0:
        return None, None
    found = tables.modules.get(module_id(version))
    level = _isv_level(found[1], isvsvn, Part.MODULE, trace) if found else None
    if level is None or level.status not in _MODULE_STATUSES:
        return level, TcbStatus.NOT_SUPPORTED
    return level, level.status


def _qe_status(level: IsvLevel | None) -> TcbStatus:
    """QVL 4.1.2.9.9 to .11: an enclave is up to date, revoked, or out of date."""
    if level is None:
        return TcbStatus.NOT_SUPPORTED
    return level.status if level.status in (TcbStatus.UP_TO_DATE, TcbStatus.REVOKED) else TcbStatus.OUT_OF_DATE


def _whole(
    tables: TcbTables,
    svns: Svns,
    parts: tuple[TcbStatus, TcbStatus, TcbStatus | None, TcbStatus],
    trace: list[TraceEntry],
) -> TcbStatus:
    sgx, platform, module, qe = parts
    if TcbStatus.NOT_SUPPORTED in (sgx, platform, module):
        return TcbStatus.NOT_SUPPORTED
    status = converge(platform, module)
    if status is TcbStatus.REVOKED:
        return status
    if (
        svns.tee_tcb_svn2 is not None
        and qe is TcbStatus.UP_TO_DATE
        and sgx in _CURRENT | _CONFIGURATION
        and status in _OUT_OF_DATE
        and module is TcbStatus.OUT_OF_DATE
    ):
        status = _relaunch(tables, svns.tee_tcb_svn2, sgx, status, trace)
    return converge(status, qe)


def converge(status: TcbStatus, other: TcbStatus | None) -> TcbStatus:
    """What is left of a status beside that of a module or an enclave (QVL, convergeTcbStatusWith...)."""
    if other in (TcbStatus.REVOKED, TcbStatus.NOT_SUPPORTED):
        return other
    if other is TcbStatus.OUT_OF_DATE:
        if status in _CURRENT:
            return TcbStatus.OUT_OF_DATE
        if status in _CONFIGURATION:
            return TcbStatus.OUT_OF_DATE_CONFIGURATION_NEEDED
    return status


def _relaunch(tables: TcbTables, svn2: bytes, sgx: TcbStatus, status: TcbStatus, trace: list[TraceEntry]) -> TcbStatus:
    """QVL 4.1.2.4.17.4.3: the module that runs now is the latest, so launching the TD anew is all that is missing."""
    latest = tables.platform[0]
    if svn2[1] == 0:
        needed = latest.tdx[0]
    else:
        found = tables.modules.get(module_id(svn2[1]))
        if not found or not found[1]:
            # The library gives up here; a module that Intel does not know is not supported.
            trace.append(TraceEntry(Part.RELAUNCH, 1, TcbStatus.NOT_SUPPORTED, "tee_tcb_svn2[1]", None, svn2[1], ()))
            return TcbStatus.NOT_SUPPORTED
        needed = found[1][0].isvsvn
    for index, required in ((0, needed), (2, latest.tdx[2])):
        if svn2[index] < required:
            trace.append(TraceEntry(Part.RELAUNCH, 1, status, f"tee_tcb_svn2[{index}]", required, svn2[index], ()))
            return status
    configuration = sgx in _CONFIGURATION or status is TcbStatus.OUT_OF_DATE_CONFIGURATION_NEEDED
    advised = TcbStatus.TD_RELAUNCH_ADVISED_CONFIGURATION_NEEDED if configuration else TcbStatus.TD_RELAUNCH_ADVISED
    trace.append(TraceEntry(Part.RELAUNCH, 1, advised, "", None, None, (Part.RELAUNCH,)))
    return advised


def _advisories(levels: Mapping[Part, TcbLevel | IsvLevel | None]) -> tuple[Advisory, ...]:
    found: dict[str, list[Part]] = {}
    for part, level in levels.items():
        for name in level.advisories if level else ():
            parts = found.setdefault(name, [])
            if part not in parts:
                parts.append(part)
    return tuple(Advisory(name, tuple(parts)) for name, parts in found.items())
