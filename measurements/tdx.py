"""The measurements of a TD: MRTD and RTMR0 to RTMR2 for given firmware, kernel and machine.

RTMR3 stays zero unless the guest extends it; no firmware or boot loader does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from ..errors import UnsupportedEvidence, UsageError
from .firmware_profile import FirmwareProfile, Generation, detect_profile
from .mrtd import PageOrder, mrtd
from .qemu_kernel import KernelForm
from .rtmr import AcpiTables, Basis, ExpectedEvent, register_value, rtmr0_events, with_given
from .rtmr_boot import DirectBoot, UkiBoot, direct_events, uki_events
from .tdvf import Tdvf, parse_tdvf
from .variable_store import SecureBootVariables

REGISTERS: Final = (0, 1, 2)
MAX_VCPUS: Final = 4096
_TWO_PASS_BEFORE: Final = (9, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class TdxLaunch:
    """Everything that decides the measurements of a TD.

    Attributes:
        firmware: a joined OVMF image.
        memory: bytes of memory, QEMU's -m.
        vcpus: virtual processors; of what is measured only the host's ACPI tables depend on them.
        kernel: kernel that QEMU gives to the firmware, or None.
        initrd: initial RAM disk beside it, or None.
        append: its command line, or None for an empty one.
        uki: unified kernel image on a disk, instead of a kernel; or None.
        disk: start of that disk with its partition table, or None.
        acpi: the host's ACPI tables, or None to leave them open.
        fw_cfg: what newer firmware measures of QEMU's configuration, by name; None for a machine without boot devices.
        secure_boot: variables of Secure Boot, or None for those that the firmware brings with it.
        generation: of edk2, or None to tell it from the firmware.
        qemu: version of the host's QEMU, or None where it is not known.
        kernel_form: how the kernel is measured, where that is known otherwise; None to follow from the above.
        order: of the host's pages, or None to follow from the version of QEMU.
        digests: digests of events by their ids, for what is known from elsewhere.
    """

    firmware: bytes
    memory: int
    vcpus: int = 1
    kernel: bytes | None = None
    initrd: bytes | None = None
    append: str | None = None
    uki: bytes | None = None
    disk: bytes | None = None
    acpi: AcpiTables | None = None
    fw_cfg: Mapping[str, bytes] | None = None
    secure_boot: SecureBootVariables | None = None
    generation: Generation | None = None
    qemu: tuple[int, int] | None = None
    kernel_form: KernelForm | None = None
    order: PageOrder | None = None
    digests: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class TdxMeasurements:
    """What a TD must measure.

    Attributes:
        mrtd_single_pass: MRTD on a host that adds and extends page by page.
        mrtd_two_pass: MRTD on a host that adds all pages of a section first.
        order: which of both the launch has.
        profile: how the firmware measures; None where nothing but the firmware was given.
        events: of RTMR0 to RTMR2, each register's in its order.
    """

    mrtd_single_pass: bytes
    mrtd_two_pass: bytes
    order: PageOrder
    profile: FirmwareProfile | None
    events: tuple[ExpectedEvent, ...]

    @property
    def mrtd(self) -> bytes:
        """MRTD of this launch."""
        return self.mrtd_two_pass if self.order is PageOrder.TWO_PASS else self.mrtd_single_pass

    @property
    def rtmr0(self) -> bytes | None:
        """RTMR0, or None as long as an event of it is open."""
        return register_value(self.events, 0) if self.profile else None

    @property
    def rtmr1(self) -> bytes | None:
        """RTMR1, or None as long as an event of it is open."""
        return register_value(self.events, 1) if self.profile else None

    @property
    def rtmr2(self) -> bytes | None:
        """RTMR2, or None as long as an event of it is open."""
        return register_value(self.events, 2) if self.profile else None

    def register_events(self, register: int) -> tuple[ExpectedEvent, ...]:
        """Events of one RTMR."""
        return tuple(event for event in self.events if event.register == register)

    def basis(self, register: int) -> Basis:
        """What stands behind a register: the weakest of its events."""
        order = (Basis.OPEN, Basis.COMPUTED, Basis.GIVEN, Basis.CONFIRMED)
        found = {event.basis for event in self.register_events(register)}
        return next((basis for basis in order if basis in found), Basis.OPEN)


def page_order(qemu: tuple[int, int] | None) -> PageOrder:
    """The order of pages on a host with this QEMU: two passes were those of the out-of-tree QEMU 8."""
    return PageOrder.TWO_PASS if qemu and qemu < _TWO_PASS_BEFORE else PageOrder.SINGLE_PASS


def tdx_measurements(launch: TdxLaunch) -> TdxMeasurements:
    """Compute what a TD must measure.

    Raises:
        MalformedEvidence: firmware, kernel or image that do not have their form.
        UnsupportedEvidence: firmware that nobody can start as a TD, or that does not measure a boot although one is
            given; a split image; a generation of edk2 that cannot be told.
        UsageError: arguments that do not go together.
    """
    _check(launch)
    tdvf = parse_tdvf(launch.firmware)
    found = TdxMeasurements(
        mrtd_single_pass=mrtd(tdvf, PageOrder.SINGLE_PASS),
        mrtd_two_pass=mrtd(tdvf, PageOrder.TWO_PASS),
        order=launch.order or page_order(launch.qemu),
        profile=None,
        events=(),
    )
    if launch.kernel is None and launch.uki is None:
        return found
    profile = boot_profile(launch)
    return replace(found, profile=profile, events=launch_events(launch, tdvf, profile))


def boot_profile(launch: TdxLaunch) -> FirmwareProfile:
    """How the firmware of a launch measures its boot.

    Raises:
        UnsupportedEvidence: it does not, or its generation cannot be told.
    """
    profile = detect_profile(launch.firmware, launch.generation)
    if not profile.measured_boot:
        raise UnsupportedEvidence(
            "firmware: it has no driver that measures a boot (TdTcg2Dxe): RTMR0 to RTMR2 stay zero whatever it boots, "
            "and say nothing about the kernel. Take other firmware"
        )
    return profile


def launch_events(launch: TdxLaunch, tdvf: Tdvf, profile: FirmwareProfile) -> tuple[ExpectedEvent, ...]:
    """Events of RTMR0 to RTMR2; errors as :func:`tdx_measurements`."""
    events = rtmr0_events(
        tdvf,
        profile,
        memory=launch.memory,
        acpi=launch.acpi,
        secure_boot=launch.secure_boot,
        fw_cfg=launch.fw_cfg,
        direct=launch.kernel is not None,
    )
    if launch.kernel is not None:
        boot = DirectBoot(
            kernel=launch.kernel,
            initrd=launch.initrd,
            append=launch.append or "",
            memory=launch.memory,
            qemu=launch.qemu,
            form=launch.kernel_form,
        )
        events += direct_events(profile, boot)
    elif launch.uki is not None:
        events += uki_events(profile, UkiBoot(image=launch.uki, disk=launch.disk))
    return with_given(sorted(events, key=lambda event: event.register), launch.digests)


def _check(launch: TdxLaunch) -> None:
    if launch.kernel is not None and launch.uki is not None:
        raise UsageError("a TD boots a kernel of the host's or a unified kernel image, not both")
    if launch.kernel is None and (launch.initrd is not None or launch.append is not None):
        raise UsageError("initrd and command line are measured only beside a kernel")
    if launch.uki is None and launch.disk is not None:
        raise UsageError("a disk is looked at only beside a unified kernel image")
    if launch.append is not None and "\0" in launch.append:
        raise UsageError("a command line has no NUL")
    if not 1 <= launch.vcpus <= MAX_VCPUS:
        raise UsageError(f"1 to {MAX_VCPUS} virtual processors are possible")
