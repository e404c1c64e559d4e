"""A device's measurements against the reference values of its RIMs: what matches, what does not, and likely why.

Pure comparison; whether the RIMs are genuine, and of this device, is checked elsewhere.  Rules: NVIDIA, as both of its
verifiers compare (reference, 3.2), but an index in two RIMs, a RIM without any value and an index without a measurement
are never passed over.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from ..endorsements.rim import DRIVER, VBIOS, Rim, sources
from ..evidence.gpu_arch import Kind
from ..evidence.gpu_report import GpuReport

NVDEC0_INDEX = 35
"""The measurement that exists only where the video decoder 0 is enabled."""
NVDEC0_ENABLED = 0xAA
NVDEC0_DISABLED = 0x55

HBM3_ADVISORY = frozenset({"550.54.14", "550.54.15", "550.90.07", "550.90.12", "550.113"})
"""Drivers that may fail to attest on boards with HBM3, by NVIDIA's advisory."""
HBM3_FIXED = "550.127.05"
VBIOS_ISSUE_INDEX = 9
"""Where issues of one VBIOS RIM are known to differ."""
CC_TOGGLE_INDEX = 52
"""A measurement that appears once confidential computing was switched over."""


class Outcome(StrEnum):
    """What the comparison of one index found."""

    MATCHED = "matched"
    MISMATCHED = "mismatched"
    MISSING = "missing"
    """The report has no measurement there, which counts like a wrong one."""
    SKIPPED = "skipped"


class Record(NamedTuple):
    """One index of one RIM.

    Attributes:
        index: which measurement; a plain number, as in reports.
        source: the RIM that demands it.
        golden: the values that are right.
        actual: the device's value, or None if its report has none.
        outcome: what the comparison found.
        reason: why it did not match or was skipped, or "".
        hint: a cause that is known for this, or "".
    """

    index: int  # type: ignore[assignment] # hides tuple.index, as in reports
    source: str
    golden: tuple[bytes, ...]
    actual: bytes | None
    outcome: Outcome
    reason: str
    hint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What the comparison of one device found.

    Attributes:
        records: one for each active index of each RIM, by index.
        unmeasured: indexes of the report for which no RIM has a value.
        conflicts: indexes that are active in more than one RIM.
        golden: how many indexes have reference values, with a skipped one.
        lacking: RIMs that the device needs, and that are not there or have no active index.
        nvdec0_fault: why it is unknown whether index 35 counts, or "".
    """

    records: tuple[Record, ...]
    unmeasured: tuple[int, ...]
    conflicts: tuple[int, ...]
    golden: int
    lacking: tuple[str, ...]
    nvdec0_fault: str

    def indexes(self, outcome: Outcome) -> tuple[int, ...]:
        """The indexes with this outcome."""
        return tuple(record.index for record in self.records if record.outcome is outcome)

    @property
    def holds(self) -> bool:
        """Every index that counts has a right value, and nothing was in doubt."""
        doubt = self.lacking or self.conflicts or self.nvdec0_fault
        return not doubt and all(record.outcome in {Outcome.MATCHED, Outcome.SKIPPED} for record in self.records)


def compare(report: GpuReport, rims: Mapping[str, Rim]) -> Comparison:
    """Compare a device's measurements with reference values.

    Args:
        report: the device's report.
        rims: the RIMs by their source; one that the device needs and that is not given counts as lacking.

    Raises:
        ValueError: a RIM of a source that this kind of device does not have.
    """
    needed = sources(report.kind)
    if rims.keys() - set(needed):
        raise ValueError(f"a {report.kind} has RIMs of {', '.join(needed)} only")
    active = [(index, source, values) for source, rim in rims.items() for index, values in rim.active.items()]
    indexes = [index for index, _, _ in active]
    golden = set(indexes)
    conflicts = {index for index in golden if indexes.count(index) > 1} if len(golden) < len(indexes) else set()
    fault = _nvdec0_fault(report)
    found = [
        _record(report, index, source, values, conflict=index in conflicts, fault=fault)
        for index, source, values in sorted(active)
    ]
    return Comparison(
        records=tuple(_hinted(found, report, rims)),
        unmeasured=tuple(block.index for block in report.measurements if block.index not in golden),
        conflicts=tuple(sorted(conflicts)),
        golden=len(golden),
        lacking=tuple(source for source in needed if source not in rims or not rims[source].active),
        nvdec0_fault=fault,
    )


def _nvdec0_fault(report: GpuReport) -> str:
    """Index 35 is skipped or demanded by what the device signed of its decoder; no other value decides that."""
    if report.kind is Kind.SWITCH or report.nvdec0 in {NVDEC0_ENABLED, NVDEC0_DISABLED}:
        return ""
    if report.nvdec0 is None:
        return "the report does not say whether NVDEC0 is enabled"
    return f"the state of NVDEC0 is {report.nvdec0:#04x}, neither enabled (0xaa) nor disabled (0x55)"


def _record(
    report: GpuReport, index: int, source: str, golden: tuple[bytes, ...], *, conflict: bool, fault: str
) -> Record:
    actual = report.value(index)
    outcome, reason = Outcome.MATCHED, ""
    if conflict:
        outcome, reason = Outcome.MISMATCHED, "the index is active in more than one RIM"
    elif index == NVDEC0_INDEX and report.kind is Kind.GPU and report.nvdec0 == NVDEC0_DISABLED:
        outcome, reason = Outcome.SKIPPED, "NVDEC0 is disabled (0x55)"
    elif index == NVDEC0_INDEX and fault:
        outcome, reason = Outcome.MISMATCHED, fault
    elif actual is None:
        outcome, reason = Outcome.MISSING, "the report has no measurement at this index"
    elif actual not in golden:  # values have one size, by the form of a report and of a RIM
        outcome, reason = Outcome.MISMATCHED, "the measurement is none of the reference values"
    return Record(index, source, golden, actual, outcome, reason, "")


def _hinted(found: list[Record], report: GpuReport, rims: Mapping[str, Rim]) -> list[Record]:
    wrong = {Outcome.MISMATCHED, Outcome.MISSING}
    indexes = [record.index for record in found if record.outcome in wrong]
    if not indexes:
        return found
    alone = indexes == [VBIOS_ISSUE_INDEX]
    return [
        record._replace(hint=_hint(record, report, rims, alone)) if record.outcome in wrong else record
        for record in found
    ]


def _hint(record: Record, report: GpuReport, rims: Mapping[str, Rim], alone: bool) -> str:
    """The most telling of the causes that are known."""
    driver = record.source == DRIVER
    said = report.driver_version if driver else report.vbios_version
    version = rims[record.source].version
    if said is not None and said.lower() != version.lower():
        return f"the {record.source} RIM is for version {version}, and the device runs {said}: use the RIM of that"
    if alone and record.source == VBIOS:
        return (
            "index 9 alone differs between issues of one VBIOS RIM, which share id and tag: use the other issue, or the"
            " newest one of the service"
        )
    if record.index == CC_TOGGLE_INDEX:
        return "index 52 changes when confidential computing is switched over: reset the GPU and attest again"
    if report.driver_version in HBM3_ADVISORY:
        return f"driver {report.driver_version} may fail to attest on boards with HBM3: use {HBM3_FIXED} or newer"
    return ""
