"""RTMR1 and RTMR2: what OVMF, systemd-stub and the kernel's own EFI stub measure of what is booted.

Sources: TianoCore EDK II, OvmfPkg/Tcg/TdTcg2Dxe and Library/GenericQemuLoadImageLib; Linux,
drivers/firmware/efi/libstub/efi-stub-helper.c ("efi_measure_tagged_event"); systemd, src/boot/measure.c and the order
of sections in src/fundamental/uki.c; TCG PC Client Platform Firmware Profile, "UEFI_GPT_DATA".
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from ..errors import MalformedEvidence
from ..evidence.ccel import EventKind
from .authenticode import PeImage, authenticode, authenticode_sha384, parse_pe
from .firmware_profile import FirmwareProfile, InitrdOption
from .qemu_kernel import NAMED_FROM, UNPATCHED_FROM, KernelForm, patched_kernel
from .rtmr import SEPARATOR, Basis, ExpectedEvent, expected, sha384

CALLING: Final = b"Calling EFI Application from Boot Option"
EXIT_INVOCATION: Final = b"Exit Boot Services Invocation"
EXIT_SUCCESS: Final = b"Exit Boot Services Returned with Success"
UKI_SECTIONS: Final = (
    *(
        ".linux",
        ".osrel",
        ".cmdline",
        ".initrd",
        ".ucode",
        ".splash",
        ".dtb",
        ".uname",
        ".sbat",
        ".pcrpkey",
        ".profile",
    ),
    *(".dtbauto", ".hwids", ".efifw"),
)
"""Sections that systemd-stub measures where they are there, in this order; .pcrsig signs the result and is not."""
_CHOSEN = (".profile", ".dtbauto", ".hwids", ".efifw")
"""Of these an image may have several, and the stub takes what fits the machine."""
DISK_HEAD: Final = 1 << 20
"""Bytes from the start of a disk within which its partition table lies."""

_rtmr1 = partial(expected, register=1)
_rtmr2 = partial(expected, register=2)
_OPTIONS_MARK, _INITRD_MARK = b"LOADED_IMAGE::LoadOptions\0", b"Linux initrd\0"
_SECTOR, _GPT_HEADER, _GPT_ENTRY = 512, 92, 128
_GPT_FIELDS = struct.Struct("<QII")
_MAX_ENTRIES: Final = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectBoot:
    """A kernel that QEMU gives to the firmware.

    Attributes:
        kernel: the file.
        initrd: initial RAM disk, or None.
        append: command line.
        memory: bytes of the TD's memory.
        qemu: version of the host's QEMU, or None where it is not known.
        form: how the kernel is measured, where the caller knows; None to follow from firmware and QEMU.
    """

    kernel: bytes
    initrd: bytes | None
    append: str
    memory: int
    qemu: tuple[int, int] | None = None
    form: KernelForm | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UkiBoot:
    """A unified kernel image on a disk, started by the firmware.

    Attributes:
        image: the file.
        disk: start of the disk with its partition table, or None where it is not known.
    """

    image: bytes
    disk: bytes | None = None


def kernel_form(profile: FirmwareProfile, qemu: tuple[int, int] | None) -> tuple[KernelForm, str]:
    """How a directly booted kernel is measured, and what was assumed for it.

    Without a version of QEMU this follows the pairs that are in use: firmware of before edk2-stable202505 with an
    out-of-tree QEMU 8 or 9, which patches; later firmware with upstream QEMU, which offers the file as it is.
    """
    if qemu is None:
        form = KernelForm.RAW if profile.named_kernel and profile.boot_menu_app else KernelForm.PATCHED
        return form, f"{form} as with the QEMU that is usual for this firmware; its version would tell"
    if qemu >= UNPATCHED_FROM or (profile.named_kernel and qemu >= NAMED_FROM):
        return KernelForm.RAW, ""
    return KernelForm.PATCHED, ""


def load_options(profile: FirmwareProfile, append: str, *, initrd: bool) -> bytes | None:
    """What the firmware gives a kernel as its command line, in UTF-16 with its NUL; None where it gives nothing.

    The firmware widens bytes one by one, so that other than ASCII text does not become UTF-16 of the same text.
    """
    text = append.encode()
    if initrd:
        text = b"initrd=initrd " + text if profile.initrd_option is InitrdOption.PREFIX else text + b" initrd=initrd"
    return text.decode("latin-1").encode("utf-16-le") + b"\0\0" if text else None


def direct_events(profile: FirmwareProfile, boot: DirectBoot) -> list[ExpectedEvent]:
    """Events of RTMR1 and RTMR2 for a kernel that QEMU gives.

    Raises:
        MalformedEvidence: the kernel is no PE image, so that the firmware could not start it.
        UsageError: as :func:`dokimos.measurements.qemu_kernel.patched_kernel`.
    """
    form, note = (boot.form, "") if boot.form else kernel_form(profile, boot.qemu)
    kernel = boot.kernel
    if form is KernelForm.PATCHED:
        size = None if boot.initrd is None else len(boot.initrd)
        kernel = patched_kernel(kernel, initrd_size=size, memory=boot.memory, append=boot.append)
    digest = authenticode_sha384(kernel)
    events = [_rtmr1("kernel", EventKind.BOOT_APPLICATION, "kernel (direct boot)", digest, note=note)]
    events += [_action("calling", CALLING), *_late_separator(profile)]
    options = load_options(profile, boot.append, initrd=bool(boot.initrd))
    if options is not None:
        event = _rtmr2("command-line", EventKind.COMMAND_LINE, "kernel command line", sha384(options))
        events.append(_by_stub(event, boot.kernel, _OPTIONS_MARK))
    if boot.initrd:
        event = _rtmr2("initrd", EventKind.INITRD, "initrd", sha384(boot.initrd))
        events.append(_by_stub(event, boot.kernel, _INITRD_MARK))
    return [*events, *_exit_events()]


def uki_events(profile: FirmwareProfile, boot: UkiBoot) -> list[ExpectedEvent]:
    """Events of RTMR1 and RTMR2 for a unified kernel image that the firmware starts from a disk.

    Their order is that of a real log of such a boot, whose inputs were not at hand.

    Raises:
        MalformedEvidence: the image or its kernel is no PE image, or the disk has no partition table.
    """
    image = parse_pe(boot.image)
    kernel = image.section(b".linux")
    if kernel is None:
        raise MalformedEvidence("unified kernel image: it has no section .linux")
    events = [_action("calling", CALLING), *_late_separator(profile)]
    if boot.disk is None:
        events.append(_rtmr1("gpt", EventKind.GPT, "partition table", None, note="the disk's partition table"))
    else:
        events.append(_rtmr1("gpt", EventKind.GPT, "partition table", sha384(gpt_event(boot.disk))))
    events.append(_rtmr1("uki", EventKind.BOOT_APPLICATION, "boot application", authenticode(image)))
    events += _section_events(image)
    digest = authenticode_sha384(kernel)
    events.append(_rtmr1("uki-kernel", EventKind.BOOT_APPLICATION, "kernel (from a UKI)", digest))
    note = "the kernel's own EFI stub measures it as systemd-stub hands it over"
    if _OPTIONS_MARK in kernel:
        events.append(_rtmr2("command-line", EventKind.COMMAND_LINE, "kernel command line", None, note=note))
    if _INITRD_MARK in kernel:
        events.append(_rtmr2("initrd", EventKind.INITRD, "initrd", None, note=note))
    return [*events, *_exit_events()]


def _section_events(image: PeImage) -> list[ExpectedEvent]:
    """Two for each section: its name with a NUL, and its content."""
    events = []
    for name in UKI_SECTIONS:
        content = None if name in _CHOSEN else image.section(name.encode())
        if content is None and not any(section.name == name.encode() for section in image.sections):
            continue
        digest = sha384(name.encode() + b"\0")
        events.append(_rtmr2(f"{name}:name", EventKind.IPL, f"UKI section name {name}", digest))
        note = "" if content is not None else "which of these sections is taken depends on the machine"
        digest_of = None if content is None else sha384(content)
        events.append(_rtmr2(f"{name}:content", EventKind.IPL, f"UKI section {name}", digest_of, note=note))
    return events


def gpt_event(disk: bytes) -> bytes:
    """UEFI_GPT_DATA: header, number of used entries, used entries.

    Args:
        disk: its start, with sectors of 512 bytes.

    Raises:
        MalformedEvidence: no partition table, or one that does not lie in these bytes.
    """
    header = disk[_SECTOR : _SECTOR + _GPT_HEADER]
    if len(header) < _GPT_HEADER or header[:8] != b"EFI PART":
        raise MalformedEvidence("disk: no GPT in its second sector")
    sector, count, size = _GPT_FIELDS.unpack_from(header, 72)
    if size != _GPT_ENTRY or not count <= _MAX_ENTRIES or sector * _SECTOR + count * size > len(disk):
        raise MalformedEvidence("disk: partition entries of another size, or not at its start")
    entries = [disk[sector * _SECTOR + n * size : sector * _SECTOR + (n + 1) * size] for n in range(count)]
    used = [entry for entry in entries if any(entry[:16])]
    return header + len(used).to_bytes(8, "little") + b"".join(used)


def _action(name: str, text: bytes) -> ExpectedEvent:
    return _rtmr1(name, EventKind.EFI_ACTION, text.decode(), sha384(text), Basis.CONFIRMED)


def _late_separator(profile: FirmwareProfile) -> list[ExpectedEvent]:
    if profile.late_separator == 0:
        return []
    return [_rtmr1("late-separator", EventKind.SEPARATOR, "separator", sha384(SEPARATOR), Basis.CONFIRMED)]


def _exit_events() -> list[ExpectedEvent]:
    return [_action("exit-invocation", EXIT_INVOCATION), _action("exit-success", EXIT_SUCCESS)]


def _by_stub(event: ExpectedEvent, kernel: bytes, mark: bytes) -> ExpectedEvent:
    """An event of the kernel's EFI stub; open where the kernel has no sign of making it."""
    if mark in kernel:
        return event
    return replace(
        event, digest=None, basis=Basis.OPEN, note="the kernel's EFI stub has no sign of measuring it: then nobody does"
    )
