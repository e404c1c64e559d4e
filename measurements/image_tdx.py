"""What a TD must report for an image: MRTD and RTMR0 to RTMR2 of every machine that it is meant for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from .rtmr import AcpiTables, Basis
from .tdvf import parse_tdvf
from .tdx import TdxLaunch, TdxMeasurements, boot_profile, launch_events, tdx_measurements

QEMU: Final = (10, 1)
"""The first QEMU that starts TDs as it is: it adds pages in a single pass and offers the kernel unpatched."""
PCI_WINDOW: Final = 0x380000000000
"""Where OVMF places the first 64-bit BAR: it uses at most 46 bits of physical addresses, and every host has those."""
MIB: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class TdxHost:
    """One machine, as the firmware finds it.

    Attributes:
        vcpus: virtual processors.
        memory: MiB.
        acpi: its ACPI tables.
        fw_cfg: what newer firmware measures of QEMU's configuration.
    """

    vcpus: int
    memory: int
    acpi: AcpiTables
    fw_cfg: Mapping[str, bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class TdxBasis:
    """What stands behind each register: the weakest of its events.

    Attributes:
        mrtd: of MRTD.
        rtmr0: of RTMR0.
        rtmr1: of RTMR1.
        rtmr2: of RTMR2.
    """

    mrtd: str
    rtmr0: str
    rtmr1: str
    rtmr2: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TdxRow:
    """The registers of one kind of machine.

    Attributes:
        vcpus: virtual processors.
        memory: MiB.
        rtmr0: 96 hex digits, or None where an event of it is open.
        rtmr1: likewise.
        rtmr2: likewise.
    """

    vcpus: int
    memory: int
    rtmr0: str | None
    rtmr1: str | None
    rtmr2: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TdxImage:
    """What a TD must report; kernel, initrd and command line are those of the image.

    Attributes:
        firmware_sha256: of the firmware, in hex.
        machine: QEMU's machine, whose ACPI tables RTMR0 has.
        vmm: whose launch is computed, "qemu".
        qemu: its version, the first that this is meant for.
        mrtd: 96 hex digits.
        basis: what stands behind the registers.
        machines: registers, one row for each machine.
    """

    firmware_sha256: str
    machine: str
    vmm: str
    qemu: str
    mrtd: str
    basis: TdxBasis
    machines: tuple[TdxRow, ...]


def image_launch(*, firmware: bytes, kernel: bytes, initrd: bytes, command_line: str, host: TdxHost) -> TdxLaunch:
    """The launch of an image as a TD on a machine.

    Args:
        firmware: that measures a boot.
        kernel: as it is given to QEMU.
        initrd: likewise.
        command_line: likewise, without a NUL.
        host: the machine.
    """
    return TdxLaunch(
        firmware=firmware,
        memory=host.memory * MIB,
        vcpus=host.vcpus,
        kernel=kernel,
        initrd=initrd,
        append=command_line,
        acpi=host.acpi,
        fw_cfg=host.fw_cfg,
        qemu=QEMU,
    )


def tdx_image(
    *, firmware: bytes, kernel: bytes, initrd: bytes, command_line: str, machine: str, hosts: Sequence[TdxHost]
) -> TdxImage:
    """Compute what a TD must report for an image.

    Args:
        firmware: as in :func:`image_launch`.
        kernel: as there.
        initrd: as there.
        command_line: as there.
        machine: QEMU's machine, for the record.
        hosts: the machines, at least one.

    Raises:
        UnsupportedEvidence: firmware that cannot start a TD, or that does not measure a boot.
        MalformedEvidence: firmware or kernel do not have their form.
        UsageError: impossible numbers.
    """
    launches = [
        image_launch(firmware=firmware, kernel=kernel, initrd=initrd, command_line=command_line, host=host)
        for host in hosts
    ]
    found = tdx_measurements(launches[0])
    # What the firmware is takes long to find out, and no machine changes it.
    tdvf, profile = parse_tdvf(firmware), found.profile or boot_profile(launches[0])
    rows = []
    for host, launch in zip(hosts, launches, strict=True):
        at = TdxMeasurements(
            mrtd_single_pass=found.mrtd_single_pass,
            mrtd_two_pass=found.mrtd_two_pass,
            order=found.order,
            profile=profile,
            events=launch_events(launch, tdvf, profile),
        )
        values = [value.hex() if value else None for value in (at.rtmr0, at.rtmr1, at.rtmr2)]
        rows.append(TdxRow(vcpus=host.vcpus, memory=host.memory, rtmr0=values[0], rtmr1=values[1], rtmr2=values[2]))
    return TdxImage(
        firmware_sha256=sha256(firmware).hexdigest(),
        machine=machine,
        vmm="qemu",
        qemu=".".join(map(str, QEMU)),
        mrtd=found.mrtd.hex(),
        basis=TdxBasis(
            mrtd=str(Basis.COMPUTED), rtmr0=str(found.basis(0)), rtmr1=str(found.basis(1)), rtmr2=str(found.basis(2))
        ),
        machines=tuple(rows),
    )
