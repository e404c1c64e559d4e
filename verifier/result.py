"""The attestation result: a verdict, every check with what it found, and every field of the evidence.

As JSON it is one document, schema ``dokimos.result/v1``; ``docs/result.md`` describes it.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Self

from ..errors import Check, CheckResult, Error, Status, UnsupportedEvidence, Value, VerificationError
from ..evidence.snp import Product, SnpReport, Tcb, parse_report, product_of
from .policy_keys import Json
from .trust import RevocationState

if TYPE_CHECKING:
    from .policy import Policy
    from .verified import VerifiedSnp

SCHEMA: Final = "dokimos.result/v1"

_POLICY_BITS = (
    "smt",
    "migrate_ma",
    "debug",
    "single_socket",
    "cxl_allow",
    "mem_aes_256_xts",
    "rapl_dis",
    "ciphertext_hiding_dram",
    "page_swap_disable",
)
_PLATFORM_BITS = (
    "smt_en",
    "tsme_en",
    "ecc_en",
    "rapl_dis",
    "ciphertext_hiding_dram_en",
    "alias_check_complete",
    "tio_en",
)


_STALE = (
    Check.SNP_CRL_FRESH,
    Check.TDX_ROOT_CRL_STALE,
    Check.TDX_PCK_CRL_STALE,
    Check.GPU_CRL_STALE,
    Check.GPU_OCSP_STALE,
)
_LOOKED_UP = ("crl", "ocsp", "both")
"""What is said of a chain whose certificates were all looked up."""
_REVOKED = (Check.SNP_CRL_REVOKED, Check.TDX_PCK_REVOKED)
"""The last check that looks at a revocation list, of each TEE."""


class Verdict(StrEnum):
    """The one word that counts."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True, kw_only=True)
class AttestationResult:
    """What a verification and an appraisal came to; :meth:`of` makes one.

    Attributes:
        verdict: accepted only if there are checks and none of them failed.
        at: the time of verification, aware.
        simulated: the evidence is of a simulated platform and proves nothing about hardware.
        evidence: every field of the evidence, ready for JSON; empty where it could not be read.
        checks: every check in order.
        policy: what it was appraised by; None where verification ended before there was anything to appraise.

    Raises:
        ValueError: on construction, for a verdict that the checks do not bear out, or a time without zone.
    """

    verdict: Verdict
    at: datetime
    simulated: bool
    evidence: dict[str, Json]
    checks: tuple[CheckResult, ...]
    policy: Policy | None = None

    def __post_init__(self) -> None:
        if self.verdict is not _verdict(self.checks):
            raise ValueError("the verdict is not that of the checks")
        if self.at.tzinfo is None:
            raise ValueError("the time of verification needs a time zone")

    @classmethod
    def of(
        cls,
        checks: Iterable[CheckResult],
        *,
        at: datetime,
        simulated: bool,
        evidence: dict[str, Json],
        policy: Policy | None = None,
    ) -> Self:
        """The result of these checks; the verdict follows from them."""
        found = tuple(checks)
        return cls(verdict=_verdict(found), at=at, simulated=simulated, evidence=evidence, checks=found, policy=policy)

    @property
    def failures(self) -> tuple[CheckResult, ...]:
        """The checks that failed, in order."""
        return tuple(check for check in self.checks if check.status is Status.FAIL)

    def extended(self, checks: Iterable[CheckResult]) -> Self:
        """The same with more checks behind, such as those of the binding, and the verdict of all."""
        found = (*self.checks, *checks)
        return replace(self, verdict=_verdict(found), checks=found)

    def joined(self, other: AttestationResult, name: str) -> Self:
        """The same with another result about the same machine behind: its checks, and its evidence under `name`."""
        found = (*self.checks, *other.checks)
        return replace(
            self,
            verdict=_verdict(found),
            checks=found,
            simulated=self.simulated or other.simulated,
            evidence=self.evidence | {name: other.evidence},
        )

    def beside(self, other: AttestationResult, name: str) -> Self:
        """The same with another result's evidence under `name`, where both are of the same checks."""
        simulated = self.simulated or other.simulated
        return replace(self, simulated=simulated, evidence=self.evidence | {name: other.evidence})

    @property
    def revocation(self) -> RevocationState:
        """What is known of revocation, by the checks: a list that is looked at ends with the check of its serials.

        Where the evidence is of a processor and of GPUs, both must have been looked at.
        """
        ran = {check.id: check.status for check in self.checks if check.status is not Status.SKIP}
        if any(ran.get(check) is Status.FAIL for check in _STALE):
            return RevocationState.STALE
        states = []
        if any(not check.startswith(("gpu.", "nras.", "binding.")) for check in ran):
            states.append(not ran.keys().isdisjoint(_REVOKED))
        if any(check.subject for check in self.checks):
            states.append(_devices_looked_up(self.evidence))
        return RevocationState.CHECKED if states and all(states) else RevocationState.NOT_CHECKED

    def raise_for_verdict(self) -> None:
        """Do nothing if accepted.

        Raises:
            VerificationError: rejected; it carries the first failure and every check.
        """
        if self.verdict is Verdict.ACCEPTED:
            return
        failures = self.failures
        if not failures:
            raise ValueError("a result without any check")
        raise VerificationError(failures[0], self.checks)

    def to_json(self) -> dict[str, Json]:
        """The document ``dokimos.result/v1``; bytes are lower-case hex."""
        return {
            "schema": SCHEMA,
            "verdict": str(self.verdict),
            "at": timestamp(self.at),
            "simulated": self.simulated,
            "evidence": self.evidence,
            "checks": [check_json(check) for check in self.checks],
        }


def _verdict(checks: tuple[CheckResult, ...]) -> Verdict:
    failed = any(check.status is Status.FAIL for check in checks)
    return Verdict.REJECTED if failed or not checks else Verdict.ACCEPTED


def _devices_looked_up(evidence: dict[str, Json]) -> bool:
    """Whether the chains of all devices and of all their RIMs were looked up, each certificate of them."""
    part = evidence.get("gpu", evidence)
    devices = part.get("devices") if isinstance(part, dict) else None
    found: list[Json] = []
    for device in devices if isinstance(devices, list) else []:
        endorsement = device.get("endorsement") if isinstance(device, dict) else None
        if not isinstance(endorsement, dict):
            return False
        rims = endorsement["rims"]
        found += [endorsement["revocation"], *(rim["revocation"] for rim in _values(rims))]
    return bool(found) and all(isinstance(one, dict) and one["checked"] in _LOOKED_UP for one in found)


def _values(rims: Json) -> list[dict[str, Json]]:
    return [rim for rim in rims.values() if isinstance(rim, dict)] if isinstance(rims, dict) else []


def timestamp(at: datetime) -> str:
    """RFC 3339 in UTC."""
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def value_json(value: Value) -> Json:
    """A value of a check; bytes in lower-case hex."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, tuple):
        return [value_json(item) for item in value]
    return value


def check_json(check: CheckResult) -> dict[str, Json]:
    """One entry of ``checks``; it has a ``subject`` only where the evidence is of several devices."""
    return ({"subject": check.subject} if check.subject else {}) | {
        "id": str(check.id),
        "status": str(check.status),
        "expected": value_json(check.expected),
        "actual": value_json(check.actual),
        "reference": check.reference,
        "message": check.message,
    }


def rejected(
    error: VerificationError, *, at: datetime, report: bytes | None = None, simulated: bool = False
) -> AttestationResult:
    """The result for an error of verification, which ends before there is anything to appraise.

    Args:
        error: the error; its checks are the result's.
        at: the time of verification.
        report: the SNP report as received, or None; if it can be read, what it says is shown, though none of it is
            verified.
        simulated: whether the evidence was known to be of a simulated platform.
    """
    evidence: dict[str, Json] = {}
    if report is not None:
        with suppress(Error):
            evidence = snp_evidence(parse_report(report))
            if error.failed.id is Check.SNP_CRL_FRESH:
                evidence["endorsement"] = {"revocation": str(RevocationState.STALE)}
    return AttestationResult.of(error.checks, at=at, simulated=simulated, evidence=evidence)


def snp_evidence(report: SnpReport, verified: VerifiedSnp | None = None) -> dict[str, Json]:
    """Every field of a report, named as in AMD 56860 in lower case.

    Bit fields and TCBs come raw and decoded; ``endorsement`` is what verification adds.

    Args:
        report: the report.
        verified: what verification returned, or None where it failed; TCBs are then decoded by the product that the
            report itself claims.
    """
    product = verified.product if verified else _claimed(report)
    cpuid = report.fms or (None, None, None)
    return {
        "version": report.version,
        "guest_svn": report.guest_svn,
        "policy": _policy(report),
        "family_id": report.family_id.hex(),
        "image_id": report.image_id.hex(),
        "vmpl": report.vmpl,
        "signature_algo": report.signature_algo,
        "current_tcb": _tcb(report.current_tcb, product),
        "platform_info": _platform_info(report),
        "key_info": {
            "raw": f"{report.key_info:#010x}",
            "author_key_en": report.author_key_en,
            "mask_chip_key": report.mask_chip_key,
            "signing_key": report.signing_key,
        },
        "report_data": report.report_data.hex(),
        "measurement": report.measurement.hex(),
        "host_data": report.host_data.hex(),
        "id_key_digest": report.id_key_digest.hex(),
        "author_key_digest": report.author_key_digest.hex(),
        "report_id": report.report_id.hex(),
        "report_id_ma": report.report_id_ma.hex(),
        "reported_tcb": _tcb(report.reported_tcb, product),
        "cpuid_fam_id": cpuid[0],
        "cpuid_mod_id": cpuid[1],
        "cpuid_step": cpuid[2],
        "chip_id": report.chip_id.hex(),
        "committed_tcb": _tcb(report.committed_tcb, product),
        "current_build": report.current_version.build,
        "current_minor": report.current_version.minor,
        "current_major": report.current_version.major,
        "committed_build": report.committed_version.build,
        "committed_minor": report.committed_version.minor,
        "committed_major": report.committed_version.major,
        "launch_tcb": _tcb(report.launch_tcb, product),
        "launch_mit_vector": _vector(report.launch_mit_vector),
        "current_mit_vector": _vector(report.current_mit_vector),
        "signature": {"r": report.signature_r.hex(), "s": report.signature_s.hex()},
        "reserved": list(report.reserved),
        "endorsement": None if verified is None else _endorsement(verified),
    }


def _claimed(report: SnpReport) -> Product | None:
    if report.fms is None:
        return None
    try:
        return product_of(report.fms)
    except UnsupportedEvidence:
        return None


def _policy(report: SnpReport) -> dict[str, Json]:
    bits = report.policy
    return {
        "raw": f"{int(bits):#018x}",
        "abi_minor": bits.abi_minor,
        "abi_major": bits.abi_major,
        **{name: getattr(bits, name) for name in _POLICY_BITS},
        "reserved": f"{bits.reserved:#x}",
    }


def _platform_info(report: SnpReport) -> dict[str, Json]:
    bits = report.platform_info
    return {
        "raw": f"{int(bits):#018x}",
        **{name: getattr(bits, name) for name in _PLATFORM_BITS},
        "reserved": f"{bits.reserved:#x}",
    }


def _tcb(raw: bytes, product: Product | None) -> dict[str, Json]:
    levels = {} if product is None else Tcb.from_bytes(raw, product).components()
    return {"raw": raw.hex(), **levels}


def _vector(value: int | None) -> str | None:
    return None if value is None else f"{value:#018x}"


def _endorsement(verified: VerifiedSnp) -> dict[str, Json]:
    vek = verified.vek
    return {
        "product": str(verified.product),
        "code_name": None if verified.report.fms is None else verified.report.fms.code_name,
        "signer": verified.signer.name,
        "product_name": vek.product_name,
        "not_before": timestamp(vek.not_before),
        "not_after": timestamp(vek.not_after),
        "hwid": None if vek.hwid is None else vek.hwid.hex(),
        "csp_id": vek.csp_id,
        "chip_bound": verified.chip_bound,
        "revocation": str(verified.revocation),
        "root_sha256": verified.root_sha256.hex(),
    }
