"""RTMR0: what OVMF measures of the machine and of its own configuration, event by event.

Sources: TianoCore EDK II, OvmfPkg (Library/TdxHelperLib: TD HOB and CFV; Tcg/TdTcg2Dxe: variables, separators, actions;
AcpiPlatformDxe: ACPI tables; Library/QemuFwCfgLib: configuration); TCG PC Client Platform Firmware Profile, sections on
UEFI_VARIABLE_DATA and event types.  Where an event's content depends on what this side does not know, its digest is
left open and so is the register; nothing is guessed.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final
from uuid import UUID

from ..errors import MalformedEvidence, UsageError
from ..evidence.ccel import EventKind
from ..evidence.uefi import GLOBAL_VARIABLE, IMAGE_SECURITY_DATABASE
from .firmware_profile import FirmwareProfile
from .td_hob import td_hob_digest
from .tdvf import Tdvf, TdvfType
from .variable_store import SecureBootVariables, parse_variable_store, secure_boot_variables

DIGEST_SIZE: Final = 48
SEPARATOR: Final = bytes(4)
KERNEL_BOOT_ORDER: Final = b"/rom@genroms/linuxboot_dma.bin\0"
"""QEMU's file "bootorder" where a kernel is given and no device has a bootindex: the option ROM of QEMU's loader."""
FIRMWARE_VOLUME: Final = UUID("7cb8bdc9-f8eb-4f34-aaea-3ee4af6516a1")
UI_APP: Final = UUID("462caa21-7614-4503-836e-8ab6f4662331")
BOOT_MENU_APP: Final = UUID("eec25bdc-67f2-4d95-b1d5-f81b2039d11d")

_END_NODE = b"\x7f\xff\x04\0"
_ACTIVE, _HIDDEN, _APPLICATION = 0x1, 0x8, 0x100


class Basis(StrEnum):
    """What stands behind a digest.

    CONFIRMED: computed this way it equals events of real logs.  COMPUTED: by the sources; no real log with known inputs
    was at hand.  GIVEN: by the caller.  OPEN: nothing; there is no digest.
    """

    CONFIRMED = "confirmed on real logs"
    COMPUTED = "computed"
    GIVEN = "given"
    OPEN = "open"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedEvent:
    """One extension that a register should get.

    Attributes:
        id: its name among the events of a launch, for giving its digest by hand.
        register: number of the RTMR.
        kind: what it measures.
        label: the same for people, as :func:`dokimos.evidence.ccel.describe` says it of a log.
        digest: SHA-384, or None where it is open.
        basis: what stands behind the digest.
        note: what was assumed, or why it is open; else empty.
    """

    id: str
    register: int
    kind: EventKind
    label: str
    digest: bytes | None
    basis: Basis
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AcpiTables:
    """The three files that QEMU's firmware configuration has for ACPI, as the firmware reads them.

    Attributes:
        loader: ``etc/table-loader``.
        rsdp: ``etc/acpi/rsdp``.
        tables: ``etc/acpi/tables``; None where only the others are known.
        placed: whether the tables depend on where the firmware places 64-bit BARs, and somebody said where that is.
    """

    loader: bytes
    rsdp: bytes
    tables: bytes | None
    placed: bool = False


def sha384(data: bytes) -> bytes:
    """What an event with this data extends a register with."""
    return hashlib.sha384(data).digest()


def extend(digests: Iterable[bytes]) -> bytes:
    """A register that starts at zero and gets these extensions."""
    register = bytes(DIGEST_SIZE)
    for digest in digests:
        register = hashlib.sha384(register + digest).digest()
    return register


def register_value(events: Iterable[ExpectedEvent], register: int) -> bytes | None:
    """The register that the events give, or None as long as one of them is open."""
    digests = [event.digest for event in events if event.register == register]
    known = [digest for digest in digests if digest is not None]
    return extend(known) if len(known) == len(digests) else None


def expected(
    name: str,
    kind: EventKind,
    label: str,
    digest: bytes | None,
    basis: Basis = Basis.COMPUTED,
    *,
    register: int = 0,
    note: str = "",
) -> ExpectedEvent:
    """An event; without a digest it is open, whatever the basis of others."""
    basis = Basis.OPEN if digest is None else basis
    return ExpectedEvent(id=name, register=register, kind=kind, label=label, digest=digest, basis=basis, note=note)


def variable_data(guid: UUID, name: str, data: bytes) -> bytes:
    """UEFI_VARIABLE_DATA, what is hashed of a variable of Secure Boot."""
    return guid.bytes_le + struct.pack("<QQ", len(name), len(data)) + name.encode("utf-16-le") + data


def load_option(attributes: int, description: str, volume: UUID, file: UUID) -> bytes:
    """EFI_LOAD_OPTION of an application in a firmware volume, the content of a Boot#### variable."""
    path = b"\x04\x07\x14\0" + volume.bytes_le + b"\x04\x06\x14\0" + file.bytes_le + _END_NODE
    return struct.pack("<IH", attributes, len(path)) + description.encode("utf-16-le") + b"\0\0" + path


def boot_variables(profile: FirmwareProfile) -> tuple[bytes, tuple[tuple[str, bytes], ...]]:
    """BootOrder and the boot options, names with contents, that firmware without disks has made by itself."""
    if not profile.boot_menu_app:
        ui_app = load_option(_APPLICATION | _HIDDEN | _ACTIVE, "UiApp", FIRMWARE_VOLUME, UI_APP)
        return b"\0\0", (("Boot0000 UiApp", ui_app),)
    menu = load_option(_APPLICATION | _HIDDEN | _ACTIVE, "BootManagerMenuApp", FIRMWARE_VOLUME, BOOT_MENU_APP)
    setup = load_option(_APPLICATION | _ACTIVE, "EFI Firmware Setup", FIRMWARE_VOLUME, UI_APP)
    return b"\0\0\1\0", (("Boot0000 BootManagerMenuApp", menu), ("Boot0001 EFI Firmware Setup", setup))


def rtmr0_events(
    tdvf: Tdvf,
    profile: FirmwareProfile,
    *,
    memory: int,
    acpi: AcpiTables | None,
    secure_boot: SecureBootVariables | None,
    fw_cfg: Mapping[str, bytes] | None,
    direct: bool,
) -> list[ExpectedEvent]:
    """Events of RTMR0 in their order.

    Args:
        tdvf: the firmware.
        profile: how it measures.
        memory: bytes of the TD's memory.
        acpi: the host's tables, or None to leave them open.
        secure_boot: the variables, or None for those that the firmware brings with it.
        fw_cfg: items of QEMU's configuration that newer firmware measures, by name and without those that are not
            there; None for those of a machine with a kernel and without boot devices.
        direct: whether QEMU gives the kernel; boot options of disks are not known here.

    Raises:
        UnsupportedEvidence: as :func:`dokimos.measurements.td_hob.td_hob`.
        UsageError: likewise.
    """
    cfv = tdvf.only(TdvfType.CFV)
    variables = secure_boot or _own_variables(tdvf, profile)
    events = [
        expected("td-hob", EventKind.TD_HOB, "TD HOB", td_hob_digest(tdvf, memory), Basis.CONFIRMED),
        expected("cfv", EventKind.CFV, "CFV", hashlib.sha384(tdvf.content(cfv)).digest(), Basis.CONFIRMED),
    ]
    if profile.fw_cfg:
        events += _fw_cfg_events(fw_cfg, direct=direct)
    events += _variable_events(variables)
    events.append(_separator("separator"))
    events += _acpi_events(acpi)
    if variables is not None and variables.enforced:
        note = "the entry of db by which the image was allowed"
        events.append(expected("authority", EventKind.VARIABLE_AUTHORITY, "authority db", None, note=note))
    if profile.smbios:
        note = "the SMBIOS tables that QEMU makes of machine and host processor, filtered by the firmware"
        events.append(expected("smbios", EventKind.OTHER, "SMBIOS tables", None, note=note))
    events += _boot_events(profile, direct=direct)
    if profile.late_separator == 0:
        events.append(_separator("late-separator"))
    return events


def _separator(name: str) -> ExpectedEvent:
    return expected(name, EventKind.SEPARATOR, "separator", sha384(SEPARATOR), Basis.CONFIRMED)


def _own_variables(tdvf: Tdvf, profile: FirmwareProfile) -> SecureBootVariables | None:
    """Those of the image's variable store; None where it cannot be read."""
    try:
        store = parse_variable_store(bytes(tdvf.content(tdvf.only(TdvfType.CFV))))
    except MalformedEvidence:
        return None
    return secure_boot_variables(store, supported=profile.secure_boot)


def _variable_events(variables: SecureBootVariables | None) -> list[ExpectedEvent]:
    rows = [("SecureBoot", GLOBAL_VARIABLE), ("PK", GLOBAL_VARIABLE), ("KEK", GLOBAL_VARIABLE)]
    rows += [("db", IMAGE_SECURITY_DATABASE), ("dbx", IMAGE_SECURITY_DATABASE)]
    if variables is None:
        note = "the image's variable store cannot be read"
        return [expected(name, EventKind.SECURE_BOOT_VARIABLE, name, None, note=note) for name, _ in rows]
    contents = [variables.secure_boot, variables.pk, variables.kek, variables.db, variables.dbx]
    if variables.dbt is not None:
        rows.append(("dbt", IMAGE_SECURITY_DATABASE))
        contents.append(variables.dbt)
    return [
        expected(
            name,
            EventKind.SECURE_BOOT_VARIABLE,
            name,
            sha384(variable_data(guid, name, content)),
            Basis.CONFIRMED,
        )
        for (name, guid), content in zip(rows, contents, strict=True)
    ]


FW_CFG_ITEMS: Final = (
    "etc/extra-pci-roots",
    "BootMenu",
    "etc/boot-menu-wait",
    "etc/reserved-memory-end",
    "opt/ovmf/X-PciMmio64Mb",
    "bootorder",
)
"""Items that are measured where they are there, in this order."""


def _fw_cfg_events(items: Mapping[str, bytes] | None, *, direct: bool) -> list[ExpectedEvent]:
    note = ""
    if items is None:
        note = "for a machine without boot menu and without bootindex"
        items = {"BootMenu": b"\0\0"} | ({"bootorder": KERNEL_BOOT_ORDER} if direct else {})
    events = [
        expected(f"fw-cfg:{name}", EventKind.FW_CFG, f"fw_cfg {name}", sha384(items[name]), note=note)
        for name in FW_CFG_ITEMS
        if name in items
    ]
    if not direct and note:
        events.append(
            expected(
                "fw-cfg:bootorder", EventKind.FW_CFG, "fw_cfg bootorder", None, note="the boot devices of the machine"
            )
        )
    return events


def _acpi_events(acpi: AcpiTables | None) -> list[ExpectedEvent]:
    rows = (
        ("acpi:loader", EventKind.ACPI_LOADER, "ACPI loader"),
        ("acpi:rsdp", EventKind.ACPI_RSDP, "ACPI RSDP"),
        ("acpi:tables", EventKind.ACPI_TABLES, "ACPI tables"),
    )
    if acpi is None:
        note = "the host's tables: they come with its QEMU, its devices and processors"
        return [expected(name, kind, label, None, note=note) for name, kind, label in rows]
    note = "it depends on where the firmware places 64-bit BARs of the machine's devices"
    events = []
    for (name, kind, label), part in zip(rows, (acpi.loader, acpi.rsdp, acpi.tables), strict=True):
        digest = None if part is None else sha384(part)
        # No log of a TD with such devices was at hand.
        basis = Basis.COMPUTED if acpi.placed and kind is EventKind.ACPI_TABLES else Basis.CONFIRMED
        events.append(expected(name, kind, label, digest, basis, note=note if part is None else ""))
    return events


def _boot_events(profile: FirmwareProfile, *, direct: bool) -> list[ExpectedEvent]:
    if not direct:
        note = "the boot options that the firmware makes of the machine's disks"
        return [expected("boot-order", EventKind.BOOT_ORDER, "BootOrder", None, note=note)]
    basis = Basis.COMPUTED if profile.boot_menu_app else Basis.CONFIRMED
    order, options = boot_variables(profile)
    events = [expected("boot-order", EventKind.BOOT_ORDER, "BootOrder", sha384(order), basis)]
    for label, content in options:
        events.append(expected(label[:8].lower(), EventKind.BOOT_VARIABLE, label, sha384(content), basis))
    return events


def with_given(events: Sequence[ExpectedEvent], given: Mapping[str, bytes]) -> tuple[ExpectedEvent, ...]:
    """The events with digests that the caller knows from elsewhere.

    Raises:
        UsageError: a name that no event has, or no SHA-384.
    """
    names = {event.id for event in events}
    unknown = sorted(given.keys() - names)
    if unknown:
        raise UsageError(f"no event {unknown[0]!r}; events are {', '.join(event.id for event in events)}")
    if any(len(digest) != DIGEST_SIZE for digest in given.values()):
        raise UsageError(f"a digest of an event has {DIGEST_SIZE} bytes")
    return tuple(
        replace(event, digest=given[event.id], basis=Basis.GIVEN, note="") if event.id in given else event
        for event in events
    )
