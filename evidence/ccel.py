"""The event log of a TD (CCEL): what the firmware and the boot loader measured, in the order of their extensions.

Sources: ACPI 6.5, section "Confidential Computing Event Log"; TCG PC Client Platform Firmware Profile, sections on
TCG_PCR_EVENT and TCG_PCR_EVENT2.  A log is not evidence by itself: it is believed once :func:`replay` gives the
registers of a verified quote.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

LOG_MAX = 16 << 20
EVENTS_MAX = 4096
DATA_MAX = 1 << 20
SHA384 = 0x000C


class EventKind(StrEnum):
    """What an event measures, told by its type and data."""

    TD_HOB = "td-hob"
    CFV = "cfv"
    SECURE_BOOT_VARIABLE = "secure-boot-variable"
    SEPARATOR = "separator"
    ACPI_LOADER = "acpi-loader"
    ACPI_RSDP = "acpi-rsdp"
    ACPI_TABLES = "acpi-tables"
    BOOT_ORDER = "boot-order"
    BOOT_VARIABLE = "boot-variable"
    BOOT_APPLICATION = "boot-application"
    EFI_ACTION = "efi-action"
    COMMAND_LINE = "command-line"
    INITRD = "initrd"
    GPT = "gpt"
    IPL = "ipl"
    VARIABLE_AUTHORITY = "variable-authority"
    OTHER = "other"


class DataCheck(StrEnum):
    """How the digest of an event stands to its data."""

    MATCHES = "matches"
    DIGEST_ONLY = "digest-only"
    DIFFERS = "differs"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One extension of a register.

    Attributes:
        number: place in the log from 1; records that extend nothing are counted.
        mr: 0 MRTD, 1 to 4 RTMR0 to RTMR3.
        type: the TCG event type.
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
        """The TCG's name of the type, or "0x........" where it has none."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True, kw_only=True)
class EventLog:
    """A log as received.

    Attributes:
        events: what extended a register, in order; EV_NO_ACTION records are left out.
        no_action: number of EV_NO_ACTION records left out, the first record of the log not among them.
        algorithms: TCG ids of the digests that each record carries.
        size: bytes used, without the tail.
    """

    events: tuple[Event, ...]
    no_action: int
    algorithms: tuple[int, ...]
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CcelTable:
    """The ACPI table that points to the log.

    Attributes:
        cc_type: kind of confidential computing; 2 is TDX.
        log_size: LAML, the size of the log's area.
        log_address: LASA, its guest physical address.
    """

    cc_type: int
    cc_subtype: int
    log_size: int
    log_address: int


def parse_ccel_table(data: bytes) -> CcelTable:
    """Read the ACPI table CCEL.

    Raises:
        MalformedEvidence: another form, or a wrong checksum (``tdx.ccel.format``).
        UnsupportedEvidence: not the table of a TD.
    """
    raise NotImplementedError


def parse_ccel(data: bytes) -> EventLog:
    """Read an event log as the firmware left it, with or without its unused tail.

    Raises:
        MalformedEvidence: another form (``tdx.ccel.format``).
        UnsupportedEvidence: digests other than SHA-384 only.
    """
    raise NotImplementedError


def replay(log: EventLog) -> tuple[bytes, bytes, bytes, bytes]:
    """RTMR0 to RTMR3 as the events of the log extend them from zero."""
    raise NotImplementedError


def kind(event: Event) -> EventKind:
    """What the event measures, by its type and data."""
    raise NotImplementedError


def check_data(event: Event) -> DataCheck:
    """Whether the digest is the hash of the data, where the type of the event says that it is."""
    raise NotImplementedError


def describe(event: Event) -> str:
    """One short label: "SecureBoot", "TD HOB", "kernel command line", "ACPI loader"."""
    raise NotImplementedError
