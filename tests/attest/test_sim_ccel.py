"""Simulated event logs read, replay and describe like real ones."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dokimos.attest.sim_ccel import LogEvent, ccel_table, direct_boot, registers, write_ccel
from dokimos.errors import UnsupportedEvidence, UsageError
from dokimos.evidence.ccel import (
    DataCheck,
    EventKind,
    EventType,
    check_data,
    describe,
    kind,
    parse_ccel,
    parse_ccel_table,
    replay,
)
from dokimos.measurements.firmware_profile import Generation, named_profile
from dokimos.measurements.rtmr import AcpiTables, register_value
from dokimos.measurements.synthetic_ovmf import TDX_MARKS, synthetic_tdvf
from dokimos.measurements.synthetic_pe import synthetic_kernel
from dokimos.measurements.tdx import TdxLaunch, tdx_measurements
from dokimos.measurements.variable_store import SecureBootVariables

_LAUNCH = TdxLaunch(
    firmware=synthetic_tdvf(4 << 20, variables=0x84000),
    memory=2 << 30,
    kernel=synthetic_kernel(),
    initrd=b"initrd",
    append="console=ttyS0",
    acpi=AcpiTables(loader=b"loader", rsdp=b"rsdp", tables=b"tables"),
)
FOUND, EVENTS = direct_boot(_LAUNCH)


def test_a_log_replays_to_the_registers_that_its_events_give():
    log = parse_ccel(write_ccel(EVENTS))
    assert [(event.mr, event.type, event.digest, event.data) for event in log.events] == [tuple(e) for e in EVENTS]
    assert replay(log) == registers(EVENTS)
    assert registers(EVENTS)[3] == bytes(48)


def test_the_registers_are_those_that_are_computed_for_the_launch():
    assert (FOUND.rtmr0, FOUND.rtmr1, FOUND.rtmr2, bytes(48)) == registers(EVENTS)
    assert (FOUND.rtmr0, FOUND.rtmr1, FOUND.rtmr2) == tuple(
        register_value(tdx_measurements(_LAUNCH).events, number) for number in (0, 1, 2)
    )


def test_each_event_of_a_direct_boot_is_what_a_real_one_is_called():
    log = parse_ccel(write_ccel(EVENTS))
    assert [kind(event) for event in log.events] == [
        EventKind.TD_HOB,
        EventKind.CFV,
        *[EventKind.SECURE_BOOT_VARIABLE] * 5,
        EventKind.SEPARATOR,
        EventKind.ACPI_LOADER,
        EventKind.ACPI_RSDP,
        EventKind.ACPI_TABLES,
        EventKind.BOOT_ORDER,
        EventKind.BOOT_VARIABLE,
        EventKind.BOOT_APPLICATION,
        EventKind.EFI_ACTION,
        EventKind.SEPARATOR,
        EventKind.COMMAND_LINE,
        EventKind.INITRD,
        EventKind.EFI_ACTION,
        EventKind.EFI_ACTION,
    ]
    assert DataCheck.DIFFERS not in {check_data(event) for event in log.events}


@pytest.mark.parametrize("generation", list(Generation))
def test_each_generation_of_firmware_has_a_log_or_the_reason_why_not(generation):
    launch = replace(_LAUNCH, firmware=synthetic_tdvf(marks=()), generation=generation)
    if named_profile(generation).smbios:
        with pytest.raises(UnsupportedEvidence, match="SMBIOS tables cannot be simulated"):
            direct_boot(launch)
        return
    found, events = direct_boot(launch)
    log = parse_ccel(write_ccel(events))
    assert replay(log)[:3] == (found.rtmr0, found.rtmr1, found.rtmr2)
    assert DataCheck.DIFFERS not in {check_data(event) for event in log.events}


def test_items_of_qemus_configuration_are_named():
    marks = (*TDX_MARKS, b"QEMU FW CFG")
    events = direct_boot(replace(_LAUNCH, firmware=synthetic_tdvf(marks=marks)))[1]
    labels = [describe(event) for event in parse_ccel(write_ccel(events)).events if kind(event) is EventKind.FW_CFG]
    assert labels == ["fw_cfg BootMenu", "fw_cfg bootorder"]


def test_keys_of_secure_boot_stand_in_the_log_as_they_are_measured():
    keys = SecureBootVariables(secure_boot=b"\0", pk=b"pk", kek=b"kek", db=b"db", dbx=b"dbx", dbt=b"dbt")
    events = direct_boot(replace(_LAUNCH, secure_boot=keys))[1]
    log = parse_ccel(write_ccel(events))
    found = [event for event in log.events if kind(event) is EventKind.SECURE_BOOT_VARIABLE]
    assert [check_data(event) for event in found] == [DataCheck.MATCHES] * 6


def test_what_nobody_can_know_is_not_simulated():
    with pytest.raises(UnsupportedEvidence, match="ACPI loader cannot be simulated: its digest is open"):
        direct_boot(replace(_LAUNCH, acpi=None))
    enforced = SecureBootVariables(secure_boot=b"\1", pk=b"pk")
    with pytest.raises(UnsupportedEvidence, match="authority db cannot be simulated"):
        direct_boot(replace(_LAUNCH, secure_boot=enforced))
    with pytest.raises(UnsupportedEvidence, match="record of it is not written"):
        direct_boot(replace(_LAUNCH, secure_boot=enforced, digests={"authority": bytes(48)}))
    with pytest.raises(UsageError, match="needs a kernel"):
        direct_boot(TdxLaunch(firmware=synthetic_tdvf(), memory=1 << 30))


def test_a_real_direct_boot_has_the_same_data_beside_the_same_events(vectors):
    real = parse_ccel(vectors("tdx/ccel_direct_boot_live2").bytes("ccel.bin"))
    ours = {(kind(event), event.repeat): event for event in parse_ccel(write_ccel(EVENTS)).events}
    for event in real.events:
        data = ours[kind(event), event.repeat].data
        if kind(event) is EventKind.BOOT_APPLICATION:
            assert event.data[24:] == data[24:], "the device path of QEMU's loader"
        elif kind(event) not in (EventKind.EFI_ACTION, EventKind.SECURE_BOOT_VARIABLE):
            assert event.data == data


def test_a_changed_event_changes_its_register_and_no_other():
    at = next(place for place, event in enumerate(EVENTS) if event.mr == 3)
    changed = [*EVENTS[:at], LogEvent(3, EventType.EV_EVENT_TAG, bytes(48), EVENTS[at].data), *EVENTS[at + 1 :]]
    pairs = zip(registers(EVENTS), registers(changed), strict=True)
    assert [a == b for a, b in pairs] == [True, True, False, True]


def test_the_acpi_table_reads():
    table = parse_ccel_table(ccel_table(65536, 0x7F000000))
    assert (table.cc_type, table.log_size, table.log_address) == (2, 65536, 0x7F000000)
