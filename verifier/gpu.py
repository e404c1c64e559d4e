"""Authenticity of the report of an NVIDIA GPU or switch: an ordered list of checks; the first failure ends it.

Revocation, reference values and everything that a policy may decide are appraised elsewhere, from what this module
returns.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from ..endorsements.gpu_certificate import GpuCertificate, split_chain
from ..endorsements.p384 import verify_raw
from ..errors import Check, CheckResult, MalformedEvidence
from ..evidence.gpu_evidence import GpuEvidence
from ..evidence.gpu_report import GpuReport, parse_gpu_report
from .checklist import Checklist
from .gpu_chain import VerifiedChain, arch_of, verify_chain
from .trust import GpuTrust

_REPORT = "SPDM 1.1, 10.11"
_TOKEN = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedDevice:
    """A genuine report of a GPU or a switch; only :func:`verify_gpu_report` makes one.

    Attributes:
        report: the report.
        chain: the verified chain of the device.
        evidence: what the device handed over, as received.
        checks: every check that ran, in order.
        at: the time of verification.
        subject: name of the device in results, such as "GPU-0", or "".
    """

    report: GpuReport
    chain: VerifiedChain
    evidence: GpuEvidence
    checks: tuple[CheckResult, ...]
    at: datetime
    subject: str
    token: object

    def __post_init__(self) -> None:
        if self.token is not _TOKEN:
            raise TypeError("only verify_gpu_report() makes a VerifiedDevice")

    @property
    def simulated(self) -> bool:
        """The root is one that the policy names, not NVIDIA's."""
        return self.chain.simulated

    @property
    def ueid(self) -> str:
        """NVIDIA's claim of that name: the serial number of the device's certificate, decimal."""
        return str(self.chain.certificates[0].serial)

    @property
    def hwmodel(self) -> str:
        """NVIDIA's claim of that name: common name of the BROM's certificate."""
        return self.chain.certificates[1].subject_cn


def verify_gpu_report(
    evidence: GpuEvidence, *, trust: GpuTrust, at: datetime, subject: str = "", zero_padding: bool = False
) -> VerifiedDevice:
    """Verify that a report is genuine.

    Args:
        evidence: what the device handed over.
        trust: roots of simulated devices.
        at: the time of verification, aware.
        subject: name of the device, which stands in every result.
        zero_padding: zeros may follow the report.

    Returns:
        The report with all that was verified; the one input that appraisal takes.

    Raises:
        VerificationError: a check failed.
        MalformedEvidence: report or certificates cannot be read.
        ValueError: `at` has no time zone.
    """
    if at.tzinfo is None:
        raise ValueError("the time of verification needs a time zone")
    checks = Checklist(subject=subject)
    try:
        report = parse_gpu_report(evidence.report, zero_padding=zero_padding)
        checks.passed(Check.GPU_REPORT_FORMAT, reference=_REPORT)
        _as_stated(report, evidence, checks)
        chain = verify_chain(_certificates(evidence), evidence.arch, trust=trust, at=at, checks=checks)
    except MalformedEvidence as exc:
        raise MalformedEvidence(f"{subject}: {exc}" if subject else str(exc), check=exc.check) from exc
    leaf = chain.certificates[0]
    checks.require(
        verify_raw(leaf.public_point, report.signature, report.signed),
        Check.GPU_REPORT_SIGNATURE,
        "the report is not signed by the device's key",
        reference=f"{_REPORT}.1; signed are request and response as received",
    )
    _firmware(report, leaf, checks)
    return VerifiedDevice(
        report=report,
        chain=chain,
        evidence=evidence,
        checks=checks.done(),
        at=at,
        subject=subject,
        token=_TOKEN,
    )


def _as_stated(report: GpuReport, evidence: GpuEvidence, checks: Checklist) -> None:
    """What the evidence says beside the report, against the report; the certificates' chip comes with the chain."""
    chip = report.chip_info
    checks.require(
        report.kind is evidence.arch.kind and (not chip or arch_of(chip) is evidence.arch),
        Check.GPU_EVIDENCE_ARCH,
        "the evidence names another architecture than the report is of",
        expected=(evidence.arch.kind.value, evidence.arch.value),
        actual=(report.kind.value, chip or ""),
        reference="evidence file, arch; TLV 35",
    )
    checks.require(
        report.nonce == evidence.nonce,
        Check.GPU_EVIDENCE_NONCE,
        "the evidence names another nonce than the report",
        expected=evidence.nonce,
        actual=report.nonce,
        reference="evidence file, nonce; report, 4",
    )


def _certificates(evidence: GpuEvidence) -> tuple[bytes, ...]:
    try:
        return split_chain(evidence.chain)
    except MalformedEvidence as exc:
        raise MalformedEvidence(str(exc), check=Check.GPU_CHAIN_FORMAT) from exc


def _firmware(report: GpuReport, leaf: GpuCertificate, checks: Checklist) -> None:
    if report.fwid is None:
        checks.skipped(Check.GPU_FWID, "the report carries no firmware identifier", "TLV 20")
        return
    checks.require(
        report.fwid == leaf.fwid,
        Check.GPU_FWID,
        "the firmware identifier in the report is not the one in the device's certificate",
        expected=leaf.fwid,
        actual=report.fwid,
        reference="TLV 20; DICE",
    )
