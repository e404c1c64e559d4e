"""What an appraisal check of NVIDIA devices looks at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from ..endorsements.rim import RimNeed
from ..evidence.gpu_evidence import GuestState
from ..evidence.gpu_report import GpuReport
from .finding import RuleOf
from .gpu import VerifiedDevice
from .gpu_compare import Comparison
from .gpu_policy import GpuPolicy
from .gpu_rim import VerifiedRim


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceSubject:
    """One device, and what it is appraised by.

    Attributes:
        device: the verified device.
        report: its report.
        needs: which RIMs the device needs, by its report.
        rims: the RIMs that were compared with, by their source; empty where none was asked for.
        comparison: what the comparison came to; None where there was nothing to compare with.
        token: a token of the remote attestation service stands in place of RIMs.
        policy: the policy's part for GPUs.
        nonce: the 32 bytes that the caller expects, or None.
    """

    device: VerifiedDevice
    report: GpuReport
    needs: tuple[RimNeed, ...]
    rims: Mapping[str, VerifiedRim]
    comparison: Comparison | None
    token: bool
    policy: GpuPolicy
    nonce: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineSubject:
    """All devices of a machine together.

    Attributes:
        devices: all of them, in the order of the evidence.
        policy: the policy's part for GPUs.
        state: what the guest says beside, or None.
    """

    devices: tuple[VerifiedDevice, ...]
    policy: GpuPolicy
    state: GuestState | None


DeviceRule: TypeAlias = RuleOf[DeviceSubject]
MachineRule: TypeAlias = RuleOf[MachineSubject]
