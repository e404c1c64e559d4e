"""Events of a TD's event log: what each measures, and what part of it can be checked against its data.

Sources: TCG PC Client Platform Firmware Profile, section on event types; the sources of edk2 (OVMF), td-shim, shim,
GRUB, systemd-stub and of Linux' EFI stub for what each of them hashes and writes beside it.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from hashlib import sha384
from typing import TYPE_CHECKING, NamedTuple

from ..errors import MalformedEvidence
from .uefi import (
    GLOBAL_VARIABLE,
    IMAGE_SECURITY_DATABASE,
    QEMU_KERNEL_LOADER_FS,
    STUB_PAYLOAD,
    Variable,
    gpt,
    image_load,
    load_option,
    variable,
)

if TYPE_CHECKING:
    from collections.abc import Callable

LABEL_MAX = 100
"""Characters of a label; what is longer ends in an ellipsis."""
REGISTERS = ("MRTD", "RTMR0", "RTMR1", "RTMR2", "RTMR3")
"""Registers by the number that a log gives them."""


class EventType(IntEnum):
    """Event types, by the TCG's names."""

    EV_PREBOOT_CERT = 0x0
    EV_POST_CODE = 0x1
    EV_UNUSED = 0x2
    EV_NO_ACTION = 0x3
    EV_SEPARATOR = 0x4
    EV_ACTION = 0x5
    EV_EVENT_TAG = 0x6
    EV_S_CRTM_CONTENTS = 0x7
    EV_S_CRTM_VERSION = 0x8
    EV_CPU_MICROCODE = 0x9
    EV_PLATFORM_CONFIG_FLAGS = 0xA
    EV_TABLE_OF_DEVICES = 0xB
    EV_COMPACT_HASH = 0xC
    EV_IPL = 0xD
    EV_IPL_PARTITION_DATA = 0xE
    EV_NONHOST_CODE = 0xF
    EV_NONHOST_CONFIG = 0x10
    EV_NONHOST_INFO = 0x11
    EV_OMIT_BOOT_DEVICE_EVENTS = 0x12
    EV_POST_CODE2 = 0x13
    EV_EFI_VARIABLE_DRIVER_CONFIG = 0x80000001
    EV_EFI_VARIABLE_BOOT = 0x80000002
    EV_EFI_BOOT_SERVICES_APPLICATION = 0x80000003
    EV_EFI_BOOT_SERVICES_DRIVER = 0x80000004
    EV_EFI_RUNTIME_SERVICES_DRIVER = 0x80000005
    EV_EFI_GPT_EVENT = 0x80000006
    EV_EFI_ACTION = 0x80000007
    EV_EFI_PLATFORM_FIRMWARE_BLOB = 0x80000008
    EV_EFI_HANDOFF_TABLES = 0x80000009
    EV_EFI_PLATFORM_FIRMWARE_BLOB2 = 0x8000000A
    EV_EFI_HANDOFF_TABLES2 = 0x8000000B
    EV_EFI_VARIABLE_BOOT2 = 0x8000000C
    EV_EFI_GPT_EVENT2 = 0x8000000D
    EV_EFI_HCRTM_EVENT = 0x80000010
    EV_EFI_VARIABLE_AUTHORITY = 0x800000E0
    EV_EFI_SPDM_FIRMWARE_BLOB = 0x800000E1
    EV_EFI_SPDM_FIRMWARE_CONFIG = 0x800000E2
    EV_EFI_SPDM_DEVICE_POLICY = 0x800000E3
    EV_EFI_SPDM_DEVICE_AUTHORITY = 0x800000E4


class EventKind(StrEnum):
    """What an event measures, told by its register, type and data."""

    TD_HOB = "td-hob"
    CFV = "cfv"
    SECURE_BOOT_VARIABLE = "secure-boot-variable"
    SEPARATOR = "separator"
    FW_CFG = "fw-cfg"
    ACPI_LOADER = "acpi-loader"
    ACPI_RSDP = "acpi-rsdp"
    ACPI_TABLES = "acpi-tables"
    BOOT_ORDER = "boot-order"
    BOOT_VARIABLE = "boot-variable"
    BOOT_APPLICATION = "boot-application"
    EFI_ACTION = "efi-action"
    PAYLOAD = "payload"
    COMMAND_LINE = "command-line"
    INITRD = "initrd"
    GPT = "gpt"
    IPL = "ipl"
    MOK = "mok"
    VARIABLE_AUTHORITY = "variable-authority"
    RUNTIME = "runtime"
    OTHER = "other"


class DataCheck(StrEnum):
    """How the digest of an event stands to its data.

    MATCHES: it is the hash of the data, or of the part that this type hashes.  DIFFERS: it should be, and is not.
    DIGEST_ONLY: it is the hash of something that the log does not hold (an image, a blob, a table).
    """

    MATCHES = "matches"
    DIGEST_ONLY = "digest-only"
    DIFFERS = "differs"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One extension of a register.

    Attributes:
        number: place in the log from 1; records that extend nothing are counted.
        mr: 0 MRTD, 1 to 4 RTMR0 to RTMR3.
        type: a value of :class:`EventType`, or one that the TCG has not named.
        digest: SHA-384, what the register was extended with.
        data: what the log says about it.
        repeat: how many events before this one have the same register, type and data.
    """

    number: int
    mr: int
    type: int
    digest: bytes
    data: bytes
    repeat: int = 0

    @property
    def type_name(self) -> str:
        """The TCG's name of the type, or the number where it has none."""
        try:
            return EventType(self.type).name
        except ValueError:
            return f"{self.type:#010x}"


_SECURE_BOOT = frozenset(
    {(GLOBAL_VARIABLE, name) for name in ("SecureBoot", "PK", "KEK", "AuditMode", "DeployedMode")}
    | {(IMAGE_SECURITY_DATABASE, name) for name in ("db", "dbx", "dbt", "dbr")}
)
_BOOT_VARIABLE = re.compile(r"Boot[0-9A-F]{4}")
_ACPI_DATA = b"ACPI DATA"
_ACPI_ORDER = (EventKind.ACPI_LOADER, EventKind.ACPI_RSDP, EventKind.ACPI_TABLES)
_ACPI_FILES = dict(zip(("etc/table-loader", "etc/acpi/rsdp", "etc/acpi/tables"), _ACPI_ORDER, strict=True))
_FW_CFG = b"QEMU FW CFG\0"
_FW_CFG_NAME = 56
# td-shim specification, table "TD_SHIM_PLATFORM_CONFIG_INFO": 16 bytes of name, size, content; the content is hashed.
_SHIM_HEADER = struct.Struct("<16s I")
_SHIM_NAMES = frozenset({"td_hob", "td_payload_info", "td_payload_svn", "secure_policy_db", "secure_authority"})
_TAG = struct.Struct("<I I")
_TAG_INITRD = 0x8F3B22EC
_TAG_LOAD_OPTIONS = 0x8F3B22ED
_TAG_AAEL = 0x4141454C  # "AAEL": events that a guest's agent writes at run time; the whole tagged event is hashed
_MOK = frozenset({"MokList", "MokListX", "MokListTrusted"})
_GRUB = (b"grub_cmd ", b"grub_kernel_cmdline ", b"grub_cmd: ", b"kernel_cmdline: ", b"module_cmdline: ")
"""What GRUB writes before the text that it hashed."""

_HASHES_DATA = frozenset(
    {
        EventType.EV_SEPARATOR,
        EventType.EV_ACTION,
        EventType.EV_S_CRTM_VERSION,
        EventType.EV_EFI_ACTION,
        EventType.EV_EFI_GPT_EVENT,
        EventType.EV_EFI_VARIABLE_DRIVER_CONFIG,
        EventType.EV_EFI_VARIABLE_AUTHORITY,
    }
)
_HASHES_DATA_OR_PART = _HASHES_DATA | {EventType.EV_EFI_VARIABLE_BOOT, EventType.EV_EFI_VARIABLE_BOOT2}

_R0, _R1, _R2, _R3 = 1, 2, 3, 4
# Where such an event can come from firmware or boot loader; the same data in another register is nobody's.
_PLACES = {
    EventKind.TD_HOB: {_R0},
    EventKind.CFV: {_R0},
    EventKind.SECURE_BOOT_VARIABLE: {_R0},
    EventKind.SEPARATOR: {_R0, _R1},
    EventKind.FW_CFG: {_R0},
    EventKind.ACPI_LOADER: {_R0},
    EventKind.ACPI_RSDP: {_R0},
    EventKind.ACPI_TABLES: {_R0},
    EventKind.BOOT_ORDER: {_R0, _R1},
    EventKind.BOOT_VARIABLE: {_R0, _R1},
    EventKind.BOOT_APPLICATION: {_R1},
    EventKind.EFI_ACTION: {_R0, _R1},
    EventKind.PAYLOAD: {_R1},
    EventKind.COMMAND_LINE: {_R1, _R2},
    EventKind.INITRD: {_R2},
    EventKind.GPT: {_R1},
    EventKind.IPL: {_R2},
    EventKind.MOK: {_R2},
    EventKind.VARIABLE_AUTHORITY: {_R0},
    EventKind.RUNTIME: {_R2, _R3},
}


class _Reading(NamedTuple):
    """An event read.

    Attributes:
        kind: what it measures, as far as type and data tell.
        label: the same for people.
        hashed: what the digest may be the hash of, with a note; empty where the log does not hold it.
        sure: one of `hashed` must fit; else the data is a description in some writers and what was hashed in others.
    """

    kind: EventKind
    label: str
    hashed: tuple[tuple[bytes, str], ...] = ()
    sure: bool = True


def _ascii(raw: bytes) -> str:
    """Text up to the first NUL."""
    return raw.split(b"\0", 1)[0].decode("ascii", "replace")


def _utf16(raw: bytes) -> str | None:
    """ASCII text in UTF-16 that ends in a NUL, as systemd-stub writes it; None for anything else."""
    if len(raw) < 4 or len(raw) % 2 or any(raw[1::2]) or 0 in raw[:-2:2] or raw[-2]:
        return None
    return raw[:-2:2].decode("ascii", "replace")


def _whole(event: Event) -> tuple[tuple[bytes, str], ...]:
    return ((event.data, ""),)


def _secure_boot_variable(event: Event) -> _Reading:
    found = variable(event.data)
    if (found.guid, found.name) in _SECURE_BOOT:
        return _Reading(EventKind.SECURE_BOOT_VARIABLE, found.name, _whole(event))
    return _Reading(EventKind.OTHER, f"{found.name} of {found.guid}", _whole(event))


def _authority(event: Event) -> _Reading:
    return _Reading(EventKind.VARIABLE_AUTHORITY, f"authority {variable(event.data).name}", _whole(event))


def _boot_variable(event: Event) -> _Reading:
    # edk2 hashes the content only; older firmware hashed all of UEFI_VARIABLE_DATA.
    found = variable(event.data)
    hashed = ((found.data, "data only"), (event.data, "whole variable"))
    if found.guid == GLOBAL_VARIABLE and found.name == "BootOrder":
        return _Reading(EventKind.BOOT_ORDER, found.name, hashed)
    if found.guid == GLOBAL_VARIABLE and _BOOT_VARIABLE.fullmatch(found.name):
        return _Reading(EventKind.BOOT_VARIABLE, _boot_label(found), hashed)
    return _Reading(EventKind.OTHER, f"{found.name} of {found.guid}", hashed)


def _boot_label(found: Variable) -> str:
    try:
        return f"{found.name} {load_option(found.data).description}"
    except MalformedEvidence:
        return found.name


def _application(event: Event) -> _Reading:
    path = image_load(event.data).path
    if QEMU_KERNEL_LOADER_FS in path.vendor_media and path.file == "kernel":
        label = "kernel (direct boot)"
    elif STUB_PAYLOAD in path.vendor_media:
        label = "kernel (from a UKI)"
    else:
        label = f"boot application {path.file or ''}".rstrip()
    return _Reading(EventKind.BOOT_APPLICATION, label)


def _separator(event: Event) -> _Reading:
    fine = event.data in {b"\0\0\0\0", b"\xff\xff\xff\xff"}
    return _Reading(EventKind.SEPARATOR, "separator" if fine else "separator after an error", _whole(event))


def _action(event: Event) -> _Reading:
    return _Reading(EventKind.EFI_ACTION, _ascii(event.data), _whole(event))


def _partitions(event: Event) -> _Reading:
    return _Reading(EventKind.GPT, f"partition table, {len(gpt(event.data).partitions)} partitions", _whole(event))


def _handoff_tables(event: Event) -> _Reading:
    name = _blob_name(event.data)
    return _Reading(EventKind.TD_HOB, "TD HOB") if name == "TdxTable" else _other(event, name)


def _firmware_blob(event: Event) -> _Reading:
    name = _blob_name(event.data)
    if name == "td_payload":
        return _Reading(EventKind.PAYLOAD, "payload (td-shim)")
    # The only volume that TDVF measures at run time is the one with the variable store; MRTD has the code.
    return _Reading(EventKind.CFV, "CFV") if name.startswith("Fv(") else _other(event, name)


def _blob_name(raw: bytes) -> str:
    """The name in front of a blob's address: its length in one byte, then the text."""
    if not raw or len(raw) < 1 + raw[0]:
        raise MalformedEvidence("event: the name of a blob is cut off")
    return _ascii(raw[1 : 1 + raw[0]])


def _config_flags(event: Event) -> _Reading:
    raw = event.data
    if raw == _ACPI_DATA and event.repeat < len(_ACPI_ORDER):
        return _acpi(_ACPI_ORDER[event.repeat])
    named = raw.startswith(_FW_CFG) and len(raw) == len(_FW_CFG) + _FW_CFG_NAME
    name = _ascii(raw[len(_FW_CFG) :] if named else raw)
    if name in _ACPI_FILES:
        return _acpi(_ACPI_FILES[name])
    if named:
        return _Reading(EventKind.FW_CFG, f"fw_cfg {name}")
    if len(raw) >= _SHIM_HEADER.size and _ascii(raw[:16]) in _SHIM_NAMES:
        return _shim_config(raw)
    return _other(event, name)


def _acpi(what: EventKind) -> _Reading:
    names = {EventKind.ACPI_LOADER: "loader", EventKind.ACPI_RSDP: "RSDP", EventKind.ACPI_TABLES: "tables"}
    return _Reading(what, f"ACPI {names[what]}")


def _shim_config(raw: bytes) -> _Reading:
    field, size = _SHIM_HEADER.unpack_from(raw)
    name = _ascii(field)
    content = raw[_SHIM_HEADER.size :]
    if size != len(content):
        raise MalformedEvidence(f"event: {name} of {size} bytes announced, {len(content)} there")
    hashed = ((content, ""),)
    if name == "td_hob":
        return _Reading(EventKind.TD_HOB, "TD HOB (td-shim)", hashed)
    if name == "td_payload_info":
        return _Reading(EventKind.COMMAND_LINE, "kernel command line (td-shim)", hashed)
    return _Reading(EventKind.OTHER, name, hashed)


def _tagged(event: Event) -> _Reading:
    if len(event.data) < _TAG.size:
        raise MalformedEvidence("event: a tag is cut off")
    tag, size = _TAG.unpack_from(event.data)
    text = event.data[_TAG.size :]
    if size != len(text):
        raise MalformedEvidence(f"event: a tag of {size} bytes announced, {len(text)} there")
    if tag == _TAG_LOAD_OPTIONS:
        return _Reading(EventKind.COMMAND_LINE, "kernel command line")
    if tag == _TAG_INITRD:
        return _Reading(EventKind.INITRD, "initrd")
    if tag == _TAG_AAEL:
        return _Reading(EventKind.RUNTIME, text.decode("utf-8", "replace"), _whole(event))
    return _other(event, f"{tag:#010x} {_ascii(text)}")


def _ipl(event: Event) -> _Reading:
    name = _utf16(event.data)
    if name is not None:
        return _stub(event, name)
    if _ascii(event.data) in _MOK:
        return _Reading(EventKind.MOK, _ascii(event.data))
    for prefix in _GRUB:
        if event.data.startswith(prefix):
            # Behind the NUL stands what was left in the loader's memory.  Some builds hash the NUL too, some do not.
            text = event.data[len(prefix) :].split(b"\0", 1)[0]
            who = "GRUB" if b"cmdline" not in prefix else "GRUB command line of"
            hashed = ((text, ""), (text + b"\0", ""))
            return _Reading(EventKind.IPL, f"{who} {text.decode('ascii', 'replace')}", hashed)
    return _Reading(EventKind.IPL, _ascii(event.data))


def _stub(event: Event, name: str) -> _Reading:
    # systemd-stub extends twice for each section: by its name with a NUL, and by its content.
    if not name.startswith("."):
        return _Reading(EventKind.IPL, name, _whole(event), sure=False)
    if sha384(name.encode() + b"\0").digest() == event.digest:
        return _Reading(EventKind.IPL, f"UKI section name {name}", ((name.encode() + b"\0", ""),))
    return _Reading(EventKind.IPL, f"UKI section {name}")


def _other(event: Event, text: str = "") -> _Reading:
    hashed = _whole(event) if event.type in _HASHES_DATA_OR_PART else ()
    return _Reading(EventKind.OTHER, f"{event.type_name} {text}".rstrip(), hashed)


_READERS: dict[int, Callable[[Event], _Reading]] = {
    EventType.EV_SEPARATOR: _separator,
    EventType.EV_EVENT_TAG: _tagged,
    EventType.EV_PLATFORM_CONFIG_FLAGS: _config_flags,
    EventType.EV_IPL: _ipl,
    EventType.EV_EFI_VARIABLE_DRIVER_CONFIG: _secure_boot_variable,
    EventType.EV_EFI_VARIABLE_BOOT: _boot_variable,
    EventType.EV_EFI_VARIABLE_BOOT2: _boot_variable,
    EventType.EV_EFI_BOOT_SERVICES_APPLICATION: _application,
    EventType.EV_EFI_GPT_EVENT: _partitions,
    EventType.EV_EFI_ACTION: _action,
    EventType.EV_EFI_PLATFORM_FIRMWARE_BLOB2: _firmware_blob,
    EventType.EV_EFI_HANDOFF_TABLES2: _handoff_tables,
    EventType.EV_EFI_VARIABLE_AUTHORITY: _authority,
}


def _read(event: Event) -> _Reading:
    reader = _READERS.get(event.type)
    if reader is None:
        return _other(event, _ascii(event.data))
    try:
        return reader(event)
    except MalformedEvidence:
        return _other(event, "(malformed)")


def kind(event: Event) -> EventKind:
    """What the event measures, by its register, type and data; OTHER where nobody would measure it there."""
    found = _read(event).kind
    return found if event.mr in _PLACES.get(found, ()) else EventKind.OTHER


def check_data(event: Event) -> DataCheck:
    """Whether the digest is the hash of the data, where the type of the event says that it is."""
    found = _read(event)
    if any(sha384(part).digest() == event.digest for part, _ in found.hashed):
        return DataCheck.MATCHES
    return DataCheck.DIFFERS if found.hashed and found.sure else DataCheck.DIGEST_ONLY


def describe(event: Event) -> str:
    """One short label: "SecureBoot", "TD HOB", "kernel command line", "ACPI loader".

    A boot variable's label ends in what was hashed, "(data only)" or "(whole variable)", since firmware differs there.
    """
    found = _read(event)
    label = found.label or event.type_name
    if found.kind in _PLACES and event.mr not in _PLACES[found.kind]:
        label = f"{event.type_name} out of place in {REGISTERS[event.mr]}: {label}"
    note = next((f" ({note})" for part, note in found.hashed if note and sha384(part).digest() == event.digest), "")
    room = LABEL_MAX - len(note)
    if len(label) > room:
        label = label[: room - 1] + "\u2026"
    return "".join(c if c.isprintable() else "?" for c in label) + note
