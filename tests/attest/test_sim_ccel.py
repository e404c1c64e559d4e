"""Simulated event logs read, replay and describe like real ones."""

from __future__ import annotations

from hashlib import sha384

from dokimos.attest.sim_ccel import LogEvent, ccel_table, direct_boot, registers, write_ccel
from dokimos.evidence.ccel import (
    DataCheck,
    EventKind,
    EventType,
    check_data,
    kind,
    parse_ccel,
    parse_ccel_table,
    replay,
)

EVENTS = direct_boot(sha384(b"kernel").digest(), "console=ttyS0", b"initrd")


def test_a_log_replays_to_the_registers_that_its_events_give():
    log = parse_ccel(write_ccel(EVENTS))
    assert [(event.mr, event.type, event.digest, event.data) for event in log.events] == [tuple(e) for e in EVENTS]
    assert replay(log) == registers(EVENTS)
    assert registers(EVENTS)[3] == bytes(48)


def test_each_event_of_a_direct_boot_is_what_a_real_one_is_called():
    kinds = [kind(event) for event in parse_ccel(write_ccel(EVENTS)).events]
    assert kinds == [
        EventKind.SEPARATOR,
        EventKind.BOOT_APPLICATION,
        EventKind.EFI_ACTION,
        EventKind.SEPARATOR,
        EventKind.COMMAND_LINE,
        EventKind.INITRD,
        EventKind.EFI_ACTION,
        EventKind.EFI_ACTION,
    ]
    checks = {check_data(event) for event in parse_ccel(write_ccel(EVENTS)).events}
    assert DataCheck.DIFFERS not in checks


def test_a_real_direct_boot_has_the_same_data_beside_the_same_kinds(vectors):
    real = parse_ccel(vectors("tdx/ccel_direct_boot_live2").bytes("ccel.bin"))
    ours = {kind(event): event for event in parse_ccel(write_ccel(EVENTS)).events}
    for event in real.events:
        if kind(event) in (EventKind.COMMAND_LINE, EventKind.INITRD, EventKind.SEPARATOR):
            assert event.data == ours[kind(event)].data
        if kind(event) is EventKind.BOOT_APPLICATION:
            assert event.data[32:] == ours[kind(event)].data[32:], "the device path of QEMU's loader"


def test_a_changed_event_changes_its_register_and_no_other():
    changed = [*EVENTS[:4], LogEvent(3, EventType.EV_EVENT_TAG, bytes(48), EVENTS[4].data), *EVENTS[5:]]
    pairs = zip(registers(EVENTS), registers(changed), strict=True)
    assert [a == b for a, b in pairs] == [True, True, False, True]


def test_the_acpi_table_reads():
    table = parse_ccel_table(ccel_table(65536, 0x7F000000))
    assert (table.cc_type, table.log_size, table.log_address) == (2, 65536, 0x7F000000)
