"""Writes event logs of TDs (CCEL) byte for byte, and that of a direct boot on the simulated platform.

Sources: as :mod:`dokimos.evidence.ccel`, whose reader these writers do not share.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from hashlib import sha384
from typing import NamedTuple
from uuid import UUID

from ..errors import UnsupportedEvidence, UsageError
from ..evidence.ccel import EventKind, EventType
from ..evidence.uefi import GLOBAL_VARIABLE, IMAGE_SECURITY_DATABASE
from ..measurements.firmware_profile import FirmwareProfile
from ..measurements.rtmr import SEPARATOR, ExpectedEvent, boot_variables, variable_data
from ..measurements.tdvf import Tdvf, TdvfType, parse_tdvf
from ..measurements.tdx import TdxLaunch, TdxMeasurements, tdx_measurements
from ..measurements.variable_store import SecureBootVariables, parse_variable_store, secure_boot_variables

_SPEC_ID = struct.Struct("<16s I B B B B I H H B")
_DEVICE_PATH_KERNEL = bytes.fromhex("0403140072f728144ab61e44b8c39ebdd7f893c7") + b"\x04\x04\x12\0"
_TD_HOB = UUID("93bb96af-b9f2-4eb8-9462-e0ba74564236")


class LogEvent(NamedTuple):
    """One event: index of the register (1 to 4 are RTMR0 to RTMR3), type, SHA-384 that extends it, data beside it."""

    mr: int
    type: EventType
    digest: bytes
    data: bytes


def hashed(mr: int, kind: EventType, data: bytes) -> LogEvent:
    """An event whose digest is that of its data."""
    return LogEvent(mr, kind, sha384(data).digest(), data)


def write_ccel(events: Iterable[LogEvent]) -> bytes:
    """A log: the record that names the specification, one record for each event, and the end mark."""
    spec = _SPEC_ID.pack(b"Spec ID Event03\0", 0, 0, 2, 0, 2, 1, 0x000C, 48, 0)
    out = struct.pack("<I I 20x I", 1, EventType.EV_NO_ACTION, len(spec)) + spec
    for event in events:
        out += struct.pack("<I I I H", event.mr, event.type, 1, 0x000C) + event.digest
        out += struct.pack("<I", len(event.data)) + event.data
    return out + b"\xff" * 4


def ccel_table(size: int, address: int) -> bytes:
    """The ACPI table that points to a log of this size at this address."""
    head = struct.pack("<4s I B B 6s 8s I 4s I", b"CCEL", 56, 1, 0, b"SIMUL ", b"DOKIMOS ", 1, b"DOKI", 1)
    table = head + struct.pack("<B B H Q Q", 2, 0, 0, size, address)
    return table[:9] + bytes((-sum(table) & 0xFF,)) + table[10:]


def direct_boot(launch: TdxLaunch) -> tuple[TdxMeasurements, list[LogEvent]]:
    """What a direct boot extends RTMR0 to RTMR2 with, as it is computed, and the record that firmware writes of each.

    Args:
        launch: with a kernel; its ACPI tables must be known.

    Returns:
        The measurements, and the log that explains them.

    Raises:
        UnsupportedEvidence: an event whose digest is open, or of which no record is written here.
        Error: as :func:`dokimos.measurements.tdx.tdx_measurements`.
    """
    found = tdx_measurements(launch)
    if found.profile is None:
        raise UsageError("the log of a boot needs a kernel")
    contents = _Contents(launch, found.profile)
    log = [contents.record(event) for event in found.events]
    # As a real log has them: the kernel's own events come before it leaves the firmware's services.
    end = [event for event in log if event.data.startswith(b"Exit Boot Services")]
    return found, [event for event in log if event not in end] + end


class _Contents:
    """The data beside each event of a launch."""

    def __init__(self, launch: TdxLaunch, profile: FirmwareProfile) -> None:
        self._tdvf = parse_tdvf(launch.firmware)
        self._kernel = launch.kernel or b""
        self._variables = launch.secure_boot or _variables(self._tdvf, profile)
        self._boot = boot_variables(profile)

    def record(self, event: ExpectedEvent) -> LogEvent:
        """The record of an event.

        Raises:
            UnsupportedEvidence: the digest is open, or nobody here writes such a record.
        """
        if event.digest is None:
            raise UnsupportedEvidence(f"{event.label} cannot be simulated: its digest is open ({event.note})")
        writer = _WRITERS.get(event.kind)
        if writer is None:
            raise UnsupportedEvidence(f"{event.label} cannot be simulated: the record of it is not written here")
        kind, data = writer(self, event)
        return LogEvent(event.register + 1, kind, event.digest, data)

    def hob(self, _event: ExpectedEvent) -> tuple[EventType, bytes]:
        """UEFI_HANDOFF_TABLE_POINTERS2."""
        place = struct.pack("<Q16sQ", 1, _TD_HOB.bytes_le, self._tdvf.only(TdvfType.TD_HOB).gpa)
        return EventType.EV_EFI_HANDOFF_TABLES2, _named(b"TdxTable\0") + place

    def cfv(self, _event: ExpectedEvent) -> tuple[EventType, bytes]:
        """UEFI_PLATFORM_FIRMWARE_BLOB2; OVMF leaves its own placeholder of the volume's GUID in the name."""
        cfv = self._tdvf.only(TdvfType.CFV)
        name = b"Fv(XXXXXXXX-XXXX-XXXX-XXXX-XXXXXXXXXXXX)\0"
        return EventType.EV_EFI_PLATFORM_FIRMWARE_BLOB2, _named(name) + struct.pack("<QQ", cfv.gpa, cfv.size)

    def secure_boot(self, event: ExpectedEvent) -> tuple[EventType, bytes]:
        """UEFI_VARIABLE_DATA of a variable of Secure Boot."""
        found = self._variables
        globals_ = {"SecureBoot": found.secure_boot, "PK": found.pk, "KEK": found.kek}
        databases = {"db": found.db, "dbx": found.dbx, "dbt": found.dbt or b""}
        guid = GLOBAL_VARIABLE if event.id in globals_ else IMAGE_SECURITY_DATABASE
        data = variable_data(guid, event.id, (globals_ | databases)[event.id])
        return EventType.EV_EFI_VARIABLE_DRIVER_CONFIG, data

    def boot(self, event: ExpectedEvent) -> tuple[EventType, bytes]:
        """UEFI_VARIABLE_DATA of BootOrder or a boot option."""
        order, options = self._boot
        name = event.label.partition(" ")[0]
        content = dict(options)[event.label] if event.kind is EventKind.BOOT_VARIABLE else order
        return EventType.EV_EFI_VARIABLE_BOOT, variable_data(GLOBAL_VARIABLE, name, content)

    def acpi(self, _event: ExpectedEvent) -> tuple[EventType, bytes]:
        """The same text for each of the three."""
        return EventType.EV_PLATFORM_CONFIG_FLAGS, b"ACPI DATA"

    def fw_cfg(self, event: ExpectedEvent) -> tuple[EventType, bytes]:
        """Name of an item of QEMU's configuration."""
        name = event.id.partition(":")[2].encode()
        return EventType.EV_PLATFORM_CONFIG_FLAGS, b"QEMU FW CFG\0" + name.ljust(56, b"\0")

    def separator(self, _event: ExpectedEvent) -> tuple[EventType, bytes]:
        """What is hashed."""
        return EventType.EV_SEPARATOR, SEPARATOR

    def action(self, event: ExpectedEvent) -> tuple[EventType, bytes]:
        """What is hashed."""
        return EventType.EV_EFI_ACTION, event.label.encode()

    def kernel(self, _event: ExpectedEvent) -> tuple[EventType, bytes]:
        """UEFI_IMAGE_LOAD_EVENT; where the image was loaded to is not known here."""
        path = _DEVICE_PATH_KERNEL + "kernel\0".encode("utf-16-le") + b"\x7f\xff\x04\0"
        head = struct.pack("<Q Q Q Q", 0, len(self._kernel), 0, len(path))
        return EventType.EV_EFI_BOOT_SERVICES_APPLICATION, head + path

    def tagged(self, event: ExpectedEvent) -> tuple[EventType, bytes]:
        """Tag and name of what the kernel's EFI stub measures."""
        tag, name = _TAGS[event.kind]
        return EventType.EV_EVENT_TAG, struct.pack("<I I", tag, len(name)) + name


_TAGS = {
    EventKind.COMMAND_LINE: (0x8F3B22ED, b"LOADED_IMAGE::LoadOptions\0"),
    EventKind.INITRD: (0x8F3B22EC, b"Linux initrd\0"),
}
_WRITERS: dict[EventKind, Callable[[_Contents, ExpectedEvent], tuple[EventType, bytes]]] = {
    EventKind.TD_HOB: _Contents.hob,
    EventKind.CFV: _Contents.cfv,
    EventKind.SECURE_BOOT_VARIABLE: _Contents.secure_boot,
    EventKind.SEPARATOR: _Contents.separator,
    EventKind.FW_CFG: _Contents.fw_cfg,
    EventKind.ACPI_LOADER: _Contents.acpi,
    EventKind.ACPI_RSDP: _Contents.acpi,
    EventKind.ACPI_TABLES: _Contents.acpi,
    EventKind.BOOT_ORDER: _Contents.boot,
    EventKind.BOOT_VARIABLE: _Contents.boot,
    EventKind.BOOT_APPLICATION: _Contents.kernel,
    EventKind.EFI_ACTION: _Contents.action,
    EventKind.COMMAND_LINE: _Contents.tagged,
    EventKind.INITRD: _Contents.tagged,
}


def _named(name: bytes) -> bytes:
    return bytes((len(name),)) + name


def _variables(tdvf: Tdvf, profile: FirmwareProfile) -> SecureBootVariables:
    store = parse_variable_store(bytes(tdvf.content(tdvf.only(TdvfType.CFV))))
    return secure_boot_variables(store, supported=profile.secure_boot)


def registers(events: Iterable[LogEvent]) -> tuple[bytes, bytes, bytes, bytes]:
    """RTMR0 to RTMR3 as these events extend them."""
    found = [bytes(48)] * 5
    for event in events:
        found[event.mr] = sha384(found[event.mr] + event.digest).digest()
    return found[1], found[2], found[3], found[4]
