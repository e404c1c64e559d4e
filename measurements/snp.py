"""The launch digest of an SEV-SNP guest: what its MEASUREMENT must be.

Source: AMD 56860, SNP_LAUNCH_UPDATE, table "PAGE_INFO Structure".  The initial state of the virtual processors, which
every virtual machine monitor sets in its own way, and the processor types are sev-snp-measure's; this module is the
only one that knows it.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Final, NamedTuple
from uuid import UUID

from ..errors import UnsupportedEvidence, UsageError
from .ovmf import PAGE, Ovmf, Section, SectionType, parse_ovmf

MAX_VCPUS: Final = 4096
SNP_ACTIVE: Final = 1
"""SEV_FEATURES of a plain SNP guest (APM volume 2, table B-3)."""
INITIAL: Final = bytes(48)
"""The launch digest before anything is measured."""

_NORMAL, _VMSA, _ZERO, _UNMEASURED, _SECRETS, _CPUID = 1, 2, 3, 4, 5, 6
# PAGE_INFO behind both digests: length, page type, and zeros for IMI_PAGE and the permissions of VMPL 3 to 1; address.
_PAGE_INFO = struct.Struct("<HBxxxxxQ")
_PAGE_INFO_SIZE = 0x70
_VMSA_GPA = 0xFFFFFFFFF000
_NO_CONTENTS = bytes(48)
# The hash table that the monitor puts into guest memory (QEMU, "SevHashTable").
_TABLE = UUID("9438d606-4f22-4cc9-b479-a793d411fd21")
_CMDLINE = UUID("97d02dd8-bd20-4c94-aa78-e7714d36ab2a")
_INITRD = UUID("44baf731-3a2f-4bd7-9af1-41e29169781d")
_KERNEL = UUID("4de79437-abd2-427f-b835-d5b172d2045b")
_TABLE_SIZE, _ENTRY_SIZE, _PADDED_SIZE = 168, 50, 176


class Vmm(StrEnum):
    """Virtual machine monitors whose initial processor state is known."""

    QEMU = "qemu"
    """QEMU on KVM of Linux 6.10 or later."""
    EC2 = "ec2"
    GCE = "gce"


class KernelHashes(NamedTuple):
    """SHA-256 of what the firmware compares before it boots a kernel that the host gave it."""

    cmdline: bytes
    initrd: bytes
    kernel: bytes

    @classmethod
    def of(cls, kernel: bytes, initrd: bytes | None, append: str | None) -> KernelHashes:
        """Of the files; no initrd counts as an empty one, and the command line ends in a NUL."""
        return cls(
            hashlib.sha256((append or "").encode() + b"\0").digest(),
            hashlib.sha256(initrd or b"").digest(),
            hashlib.sha256(kernel).digest(),
        )

    def table(self) -> bytes:
        """The hash table as it stands in guest memory, 176 bytes."""
        entries = zip((_CMDLINE, _INITRD, _KERNEL), self, strict=True)
        table = _TABLE.bytes_le + _TABLE_SIZE.to_bytes(2, "little")
        table += b"".join(guid.bytes_le + _ENTRY_SIZE.to_bytes(2, "little") + digest for guid, digest in entries)
        return table.ljust(_PADDED_SIZE, b"\0")


@dataclass(frozen=True, slots=True, kw_only=True)
class SnpLaunch:
    """Everything that decides a launch digest.

    Attributes:
        ovmf: firmware image.
        kernel: kernel that the host gives to the firmware, or None to boot from a disk.
        initrd: initial RAM disk beside the kernel, or None.
        append: kernel command line, or None for an empty one.
        vcpus: number of virtual processors.
        vcpu_type: QEMU's name of the processor model; only QEMU measures it.
        vmm: the virtual machine monitor.
        guest_features: SEV_FEATURES of the guest.
    """

    ovmf: bytes
    kernel: bytes | None = None
    initrd: bytes | None = None
    append: str | None = None
    vcpus: int = 1
    vcpu_type: str = "EPYC-v4"
    vmm: Vmm = Vmm.QEMU
    guest_features: int = SNP_ACTIVE

    def hashes(self) -> KernelHashes | None:
        """Hashes of the kernel and what belongs to it, or None without a kernel.

        Raises:
            UsageError: an initrd or a command line without a kernel: nobody would measure them.
        """
        if self.kernel is not None:
            return KernelHashes.of(self.kernel, self.initrd, self.append)
        if self.initrd is not None or self.append is not None:
            raise UsageError("initrd and command line are measured only beside a kernel")
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchState:
    """A launch as far as it does not depend on the virtual processors.

    Attributes:
        firmware_digest: launch digest after the firmware's pages, 48 bytes.
        sections: sections of the firmware's metadata, in its order.
        hash_table_gpa: where the kernel's hashes go, or None.
        reset_eip: where application processors start, or None.
        hashes: the kernel's hashes, or None without a kernel.
    """

    firmware_digest: bytes
    sections: tuple[Section, ...]
    hash_table_gpa: int | None
    reset_eip: int | None
    hashes: KernelHashes | None


class Digest(NamedTuple):
    """One row of a table of launch digests; vcpu_sig is CPUID(1).EAX."""

    vcpus: int
    vcpu_type: str
    vcpu_sig: int
    digest: bytes


def _extend(digest: bytes, kind: int, gpa: int, contents: bytes = _NO_CONTENTS) -> bytes:
    return hashlib.sha384(digest + contents + _PAGE_INFO.pack(_PAGE_INFO_SIZE, kind, gpa)).digest()


def firmware_digest(ovmf: Ovmf) -> bytes:
    """Launch digest after the firmware's pages; what others publish as "OVMF hash", 48 bytes."""
    digest, data, gpa = INITIAL, memoryview(ovmf.data), ovmf.gpa
    sha384, pack = hashlib.sha384, _PAGE_INFO.pack
    for offset in range(0, len(data), PAGE):  # written out: it is most of the time of a measurement
        contents = sha384(data[offset : offset + PAGE]).digest()
        digest = sha384(digest + contents + pack(_PAGE_INFO_SIZE, _NORMAL, gpa + offset)).digest()
    return digest


def _before_vcpus(state: LaunchState, vmm: Vmm) -> bytes:
    """The launch digest after firmware and sections."""
    hashes_page = _hashes_page(state)
    digest, late = state.firmware_digest, []
    for section in state.sections:
        kind, contents = _ZERO, _NO_CONTENTS
        if section.kind is SectionType.SEC_MEM and vmm is Vmm.GCE:
            kind = _UNMEASURED
        elif section.kind is SectionType.SECRETS:
            kind = _SECRETS
        elif section.kind is SectionType.CPUID:
            if vmm is Vmm.EC2:  # measures it after all others
                late.append(section)
                continue
            kind = _CPUID
        elif section.kind is SectionType.KERNEL_HASHES and hashes_page is not None:
            kind, contents = _NORMAL, hashlib.sha384(hashes_page).digest()
        for gpa in range(section.gpa, section.gpa + section.size, PAGE):
            digest = _extend(digest, kind, gpa, contents)
    for section in late:
        digest = _extend(digest, _CPUID, section.gpa)
    return digest


def _hashes_page(state: LaunchState) -> bytes | None:
    """The page with the kernel's hashes, or None without a kernel.

    Raises:
        UnsupportedEvidence: the firmware would not look at them, so that the host could boot any kernel.
    """
    if state.hashes is None:
        return None
    pages = [section.gpa for section in state.sections if section.kind is SectionType.KERNEL_HASHES]
    if len(pages) != 1 or state.hash_table_gpa is None:
        raise UnsupportedEvidence(
            "a kernel is given, but this firmware has no (live) hash table for it: it would boot any kernel unmeasured"
        )
    offset = state.hash_table_gpa - pages[0]
    if not 0 <= offset <= PAGE - _PADDED_SIZE:
        raise UnsupportedEvidence("a kernel is given, but the firmware's hash table lies outside of its measured page")
    return (bytes(offset) + state.hashes.table()).ljust(PAGE, b"\0")


def known_vcpu_types() -> dict[str, int]:
    """Names of processor models with their CPUID(1).EAX."""
    from sevsnpmeasure.vcpu_types import CPU_SIGS  # noqa: PLC0415 - only who measures pays

    return dict(CPU_SIGS)


@lru_cache(maxsize=256)
def _vmsa_digests(vmm: Vmm, vcpu_sig: int, features: int, reset_eip: int | None) -> tuple[bytes, bytes | None]:
    """SHA-384 of the VMSA pages of the boot processor and of all others, or None where the latter cannot start."""
    from sevsnpmeasure.sev_mode import SevMode  # noqa: PLC0415 - only who measures pays
    from sevsnpmeasure.vmm_types import VMMType  # noqa: PLC0415
    from sevsnpmeasure.vmsa import VMSA  # noqa: PLC0415

    kind = {Vmm.QEMU: VMMType.QEMU, Vmm.EC2: VMMType.ec2, Vmm.GCE: VMMType.gce}[vmm]
    vmsa = VMSA(SevMode.SEV_SNP, reset_eip or 0, vcpu_sig, features, kind)
    pages = [hashlib.sha384(page).digest() for page in vmsa.pages(2 if reset_eip else 1)]
    return pages[0], pages[1] if reset_eip else None


def launch_state(launch: SnpLaunch) -> LaunchState:
    """Measure firmware and kernel.

    Raises:
        MalformedEvidence: the firmware cannot be launched under SEV-SNP.
        UsageError: an initrd or a command line without a kernel.
    """
    ovmf = parse_ovmf(launch.ovmf)
    return LaunchState(
        firmware_digest=firmware_digest(ovmf),
        sections=ovmf.sections,
        hash_table_gpa=ovmf.hash_table_gpa,
        reset_eip=ovmf.reset_eip,
        hashes=launch.hashes(),
    )


def digests(
    state: LaunchState,
    *,
    vcpus: Sequence[int],
    vcpu_types: Sequence[tuple[str, int]],
    vmm: Vmm = Vmm.QEMU,
    guest_features: int = SNP_ACTIVE,
) -> list[Digest]:
    """Launch digests for numbers and types of virtual processors.

    Args:
        state: the launch.
        vcpus: numbers of virtual processors.
        vcpu_types: names with their CPUID(1).EAX.
        vmm: the virtual machine monitor.
        guest_features: SEV_FEATURES.

    Returns:
        One row for each type and number, types in the order given and numbers ascending.

    Raises:
        UsageError: a number out of range, or features that are no 64-bit number.
        UnsupportedEvidence: several processors, though the firmware does not say where they start, or a kernel that it
            would not measure.
    """
    counts = sorted(set(vcpus))
    if not counts or not 1 <= counts[0] <= counts[-1] <= MAX_VCPUS:
        raise UsageError(f"1 to {MAX_VCPUS} virtual processors are possible")
    if not 0 <= guest_features < 1 << 64:
        raise UsageError("guest features are a 64-bit number")
    if counts[-1] > 1 and state.reset_eip is None:
        raise UnsupportedEvidence("the firmware has no SEV-ES reset block: it can start one virtual processor only")
    start = _before_vcpus(state, vmm)
    rows = []
    for name, signature in vcpu_types:
        boot, other = _vmsa_digests(vmm, signature, guest_features, state.reset_eip)
        digest, done = _extend(start, _VMSA, _VMSA_GPA, boot), 1
        for count in counts:
            for _ in range(count - done):
                digest = _extend(digest, _VMSA, _VMSA_GPA, other or boot)
            done = count
            rows.append(Digest(count, name, signature, digest))
    return rows


def launch_digests(launch: SnpLaunch, vcpus: Sequence[int], types: Sequence[str]) -> list[Digest]:
    """The table for a launch, whose own number and type of processors do not count; firmware is hashed once.

    Raises:
        MalformedEvidence: the firmware cannot be launched under SEV-SNP.
        UsageError: as :func:`digests`, or an unknown type of processor.
        UnsupportedEvidence: as :func:`digests`.
    """
    known = known_vcpu_types()
    unknown = [name for name in types if name not in known]
    if unknown or not types:
        raise UsageError(f"unknown vCPU type {', '.join(unknown)!r}; known are {', '.join(known)}")
    pairs = [(name, known[name]) for name in dict.fromkeys(types)]
    state = launch_state(launch)
    return digests(state, vcpus=vcpus, vcpu_types=pairs, vmm=launch.vmm, guest_features=launch.guest_features)


def launch_digest(launch: SnpLaunch) -> bytes:
    """The launch digest of one launch, 48 bytes.

    Raises:
        MalformedEvidence: the firmware cannot be launched under SEV-SNP.
        UsageError: as :func:`launch_digests`.
        UnsupportedEvidence: as :func:`digests`.
    """
    return launch_digests(launch, (launch.vcpus,), (launch.vcpu_type,))[0].digest


def sev_launch_digest(launch: SnpLaunch, *, es: bool) -> bytes:
    """The launch digest of SEV or SEV-ES, 32 bytes: one SHA-256 over firmware, hash table and, for ES, the VMSAs.

    For owners of older machines and for comparison; dokimos verifies no reports of these.

    Raises:
        MalformedEvidence: the firmware cannot be read.
        UsageError: as :func:`launch_digests`.
        UnsupportedEvidence: a kernel that the firmware would not measure, or processors that it cannot start.
    """
    from sevsnpmeasure.sev_mode import SevMode  # noqa: PLC0415 - only who measures pays
    from sevsnpmeasure.vmsa import VMSA  # noqa: PLC0415

    ovmf, hashes = parse_ovmf(launch.ovmf), launch.hashes()
    if hashes is not None and ovmf.hash_table_gpa is None:
        raise UnsupportedEvidence("a kernel is given, but this firmware has no (live) hash table for it")
    digest = hashlib.sha256(ovmf.data + (hashes.table() if hashes else b""))
    if es:
        if launch.vcpus > 1 and ovmf.reset_eip is None:
            raise UnsupportedEvidence("the firmware has no SEV-ES reset block: it can start one virtual processor only")
        signature = known_vcpu_types().get(launch.vcpu_type)
        if signature is None or not 1 <= launch.vcpus <= MAX_VCPUS:
            raise UsageError("an unknown type or an impossible number of virtual processors")
        for page in VMSA(SevMode.SEV_ES, ovmf.reset_eip or 0, signature, 0).pages(launch.vcpus):
            digest.update(page)
    return digest.digest()
