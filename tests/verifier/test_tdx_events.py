"""Appraisal of event logs: no label of an event hides what was started, and every event is accounted for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dokimos.attest.sim_ccel import LogEvent, hashed, registers, write_ccel
from dokimos.errors import Check, MalformedEvidence, Status, UnsupportedEvidence
from dokimos.evidence.ccel import EventType
from dokimos.verifier.appraise_tdx import appraise_tdx
from dokimos.verifier.policy import Policy, load_policy
from dokimos.verifier.policy_rules import BitRule
from dokimos.verifier.tdx_policy import EventRules

OTHER = b"\xee"


@pytest.fixture(scope="module")
def full(full_tdx_policy_text) -> Policy:
    return load_policy(full_tdx_policy_text)


@pytest.fixture(scope="module")
def log(tdx_events) -> bytes:
    return write_ccel(tdx_events)


def found(result, check):
    (one,) = [item for item in result.checks if item.id is check]
    return one


def failures(result):
    return [item.id for item in result.failures]


def appraised(make, policy, events, rtmrs=None):
    """The quote has the registers of these events, whatever they are."""
    return appraise_tdx(make(body={"rtmrs": rtmrs or registers(events)}), policy, event_log=write_ccel(events))


def swapped(events, place, **changes):
    return (*events[:place], events[place]._replace(**changes), *events[place + 1 :])


def test_without_a_log_every_demand_on_events_fails(make_verified_tdx, full):
    result = appraise_tdx(make_verified_tdx(), full)
    assert set(failures(result)) == {Check.TDX_EVENT_LOG_REQUIRED, *EVENT_DEMANDS}
    assert found(result, Check.TDX_EVENT_LOG_REPLAY).status is Status.SKIP


EVENT_DEMANDS = {
    Check.TDX_EVENTS_FIRMWARE,
    Check.TDX_EVENTS_SECURE_BOOT,
    Check.TDX_EVENTS_ACPI,
    Check.TDX_EVENTS_TD_HOB,
    Check.TDX_EVENTS_BOOT,
    Check.TDX_EVENTS_KERNEL,
    Check.TDX_EVENTS_COMMAND_LINE,
    Check.TDX_EVENTS_INITRD,
}


def test_a_log_that_does_not_give_the_registers_is_believed_in_nothing(make_verified_tdx, full, tdx_events):
    other = swapped(tdx_events, -3, digest=OTHER * 48)
    result = appraised(make_verified_tdx, full, other, registers(tdx_events))
    assert set(failures(result)) == {Check.TDX_EVENT_LOG_REPLAY, *EVENT_DEMANDS}
    assert found(result, Check.TDX_EVENT_LOG_REPLAY).message == "the event log gives another RTMR2 than the quote"


def test_an_event_whose_data_do_not_hash_to_its_digest_is_named(make_verified_tdx, tdx_events):
    policy = Policy(schema=1).with_tdx(mrtd=(b"\x11" * 48,))
    bad = swapped(tdx_events, 7, data=b"\xff" * 4)
    item = found(appraised(make_verified_tdx, policy, bad), Check.TDX_EVENT_LOG_DATA)
    assert (item.status, item.message) == (Status.FAIL, "the data of event 8 do not hash to its digest")


BAD_EVENTS = [
    (Check.TDX_EVENTS_TD_HOB, 0),
    (Check.TDX_EVENTS_FIRMWARE, 1),
    (Check.TDX_EVENTS_ACPI, 8),
    (Check.TDX_EVENTS_ACPI, 9),
    (Check.TDX_EVENTS_ACPI, 10),
    (Check.TDX_EVENTS_KERNEL, 13),
    (Check.TDX_EVENTS_COMMAND_LINE, 16),
    (Check.TDX_EVENTS_INITRD, 17),
]


@pytest.mark.parametrize(("check", "place"), BAD_EVENTS)
def test_another_digest_fails_by_the_check_of_its_kind_alone(make_verified_tdx, full, tdx_events, check, place):
    result = appraised(make_verified_tdx, full, swapped(tdx_events, place, digest=OTHER * 48))
    assert failures(result) == [check]


@pytest.mark.parametrize("place", [3, 6])
def test_another_variable_of_secure_boot_is_refused(make_verified_tdx, full, tdx_events, place):
    data = tdx_events[place].data[:-1] + b"\xee"
    result = appraised(make_verified_tdx, full, swapped(tdx_events, place, data=data, digest=hashed(1, 0, data).digest))
    assert failures(result) == [Check.TDX_EVENTS_SECURE_BOOT]


@pytest.mark.parametrize(
    ("rule", "state", "fails"),
    [
        (BitRule.ONE, b"\x01", False),
        (BitRule.ONE, b"\x00", True),
        (BitRule.ONE, b"", True),
        (BitRule.ZERO, b"", False),
        (BitRule.ZERO, b"\x00", False),
        (BitRule.ZERO, b"\x01", True),
    ],
)
def test_secure_boot_is_on_only_if_the_variable_says_so(make_verified_tdx, tdx_events, rule, state, fails):
    head = tdx_events[2].data[:24] + len(state).to_bytes(8, "little") + "SecureBoot".encode("utf-16-le")
    data = head[:16] + (10).to_bytes(8, "little") + head[24:] + state
    events = swapped(tdx_events, 2, data=data, digest=hashed(1, 0, data).digest)
    policy = Policy(schema=1).with_tdx(events=EventRules(secure_boot=rule))
    item = found(appraised(make_verified_tdx, policy, events), Check.TDX_EVENTS_SECURE_BOOT)
    assert (item.status is Status.FAIL) is fails


def test_a_log_that_does_not_say_secure_boot_does_not_meet_a_demand_on_it(make_verified_tdx, tdx_events):
    policy = Policy(schema=1).with_tdx(events=EventRules(secure_boot=BitRule.ONE))
    result = appraised(make_verified_tdx, policy, (*tdx_events[:2], *tdx_events[3:]))
    assert Check.TDX_EVENTS_SECURE_BOOT in failures(result)


@pytest.mark.parametrize("place", [11, 12])
def test_another_boot_option_is_refused(make_verified_tdx, full, tdx_events, place):
    data = tdx_events[place].data[:-1] + b"\xee"
    event = tdx_events[place]._replace(data=data, digest=hashed(1, 0, data).digest)
    result = appraised(make_verified_tdx, full, (*tdx_events[:place], event, *tdx_events[place + 1 :]))
    assert failures(result) == [Check.TDX_EVENTS_BOOT]


EVIL = LogEvent(2, EventType.EV_EFI_BOOT_SERVICES_APPLICATION, OTHER * 48, b"")
TAG = b"\xec\x22\x3b\x8f\x0d\0\0\0Linux initrd\0"
RELABELLED = [
    # What was started is said to be something else, in a register whose events are all accounted for.
    ("another program before the kernel", 13, EVIL),
    (
        "a program as a payload",
        13,
        LogEvent(2, EventType.EV_EFI_PLATFORM_FIRMWARE_BLOB2, OTHER * 48, b"\x0atd_payload"),
    ),
    ("a program as a partition table", 13, LogEvent(2, EventType.EV_EFI_GPT_EVENT, OTHER * 48, b"")),
    ("a program as a boot option", 13, hashed(2, EventType.EV_EFI_VARIABLE_BOOT, bytes(32) + b"MZ")),
    ("a program as an action", 13, hashed(2, EventType.EV_EFI_ACTION, b"MZ")),
    ("a program as an initrd", 13, LogEvent(2, EventType.EV_EVENT_TAG, OTHER * 48, TAG)),
    ("a separator after an error", 14, hashed(2, EventType.EV_SEPARATOR, b"\xff" * 4)),
    ("something without a type", 13, LogEvent(2, EventType.EV_POST_CODE, OTHER * 48, b"")),
    ("another register's event", 16, LogEvent(3, EventType.EV_IPL, OTHER * 48, b"MokList\0")),
    ("an initrd more", 18, LogEvent(3, EventType.EV_EVENT_TAG, OTHER * 48, TAG)),
]


@pytest.mark.parametrize(("name", "place", "event"), RELABELLED, ids=[row[0] for row in RELABELLED])
def test_no_label_hides_what_was_started(make_verified_tdx, full, tdx_events, name, place, event):
    result = appraised(make_verified_tdx, full, (*tdx_events[:place], event, *tdx_events[place:]))
    started = {Check.TDX_EVENTS_OTHER, Check.TDX_EVENTS_KERNEL, Check.TDX_EVENTS_INITRD, Check.TDX_EVENT_LOG_DATA}
    assert set(failures(result)) & started
    assert set(failures(result)) <= started


def test_a_command_line_that_passes_for_an_initrd_is_refused(make_verified_tdx, full, tdx_events):
    """The host picks both: an initrd whose content is the accepted command line, and a command line of its own."""
    line, initrd = tdx_events[16], tdx_events[17]
    forged = swapped(
        swapped(tdx_events, 16, digest=OTHER * 48, data=initrd.data), 17, digest=line.digest, data=line.data
    )
    only = full.with_tdx(events=replace(full.tdx.events, initrd=()))
    for policy in (full, only):
        assert failures(appraised(make_verified_tdx, policy, forged)) == [Check.TDX_EVENTS_INITRD]


@pytest.mark.parametrize("name", ["kernel", "command_line", "initrd"])
def test_what_the_policy_does_not_name_must_not_have_been_started(make_verified_tdx, full, tdx_events, name):
    policy = full.with_tdx(events=replace(full.tdx.events, **{name: ()}))
    result = appraised(make_verified_tdx, policy, tdx_events)
    assert failures(result) == [Check(f"tdx.events.{name}")]
    assert "the policy names no" in result.failures[0].message


@pytest.mark.parametrize(("place", "check"), [(13, "kernel"), (16, "command_line"), (17, "initrd")])
def test_what_the_policy_names_must_have_been_started(make_verified_tdx, full, tdx_events, place, check):
    result = appraised(make_verified_tdx, full, (*tdx_events[:place], *tdx_events[place + 1 :]))
    assert failures(result) == [Check(f"tdx.events.{check}")]


def test_two_command_lines_are_one_too_many(make_verified_tdx, full, tdx_events):
    result = appraised(make_verified_tdx, full, (*tdx_events, tdx_events[16]))
    assert failures(result) == [Check.TDX_EVENTS_COMMAND_LINE]


def test_a_register_by_value_settles_its_events(make_verified_tdx, full, tdx_events):
    events = (*tdx_events[:13], EVIL, *tdx_events[13:])
    policy = full.with_tdx(rtmr1=(registers(events)[1],))
    result = appraised(make_verified_tdx, policy, events)
    assert failures(result) == []
    assert found(result, Check.TDX_EVENTS_KERNEL).message == "RTMR1 is named by value"


def test_a_further_digest_can_be_accepted_by_itself(make_verified_tdx, full, tdx_events):
    events = (*tdx_events[:13], EVIL, *tdx_events[13:])
    policy = full.with_tdx(events=replace(full.tdx.events, other=(OTHER * 48,)))
    assert failures(appraised(make_verified_tdx, policy, events)) == []


FW_CFG = LogEvent(1, EventType.EV_PLATFORM_CONFIG_FLAGS, OTHER * 48, b"QEMU FW CFG\0" + b"opt/x".ljust(56, b"\0"))


@pytest.mark.parametrize(
    "shuffle",
    [
        lambda e: (e[1], e[0], *e[2:]),  # CFV before the TD HOB
        lambda e: (e[0], *e[2:]),  # no CFV
        lambda e: (*e[:7], *e[8:13], e[7], *e[13:]),  # the separator behind the ACPI tables
        lambda e: (*e[:13], e[2], *e[13:]),  # SecureBoot again, at the end
        lambda e: (*e[:13], e[10], *e[13:]),  # ACPI tables again
        lambda e: (*e[:2], e[11], *e[2:]),  # a boot variable ends the firmware's part before it began
        lambda e: (*e[:2], FW_CFG, *e[2:]),  # host configuration that nobody accepted
        lambda e: (*e[:13], LogEvent(1, EventType.EV_POST_CODE, OTHER * 48, b""), *e[13:]),
    ],
)
def test_events_of_the_machine_stand_in_the_firmwares_order_or_none_counts(
    make_verified_tdx, full, tdx_events, shuffle
):
    result = appraised(make_verified_tdx, full, shuffle(tdx_events))
    assert Check.TDX_EVENTS_OTHER in failures(result)


def test_host_configuration_of_newer_firmware_can_be_accepted(make_verified_tdx, full, tdx_events):
    policy = full.with_tdx(events=replace(full.tdx.events, fw_cfg=(OTHER * 48,)))
    assert failures(appraised(make_verified_tdx, policy, (*tdx_events[:2], FW_CFG, *tdx_events[2:]))) == []


@pytest.mark.parametrize("form", ["{}", "initrd=initrd {}", "{} initrd=initrd"])
def test_a_command_line_is_the_same_with_what_firmware_adds(make_verified_tdx, full, tdx_events, form):
    digest = hashed(3, 0, form.format("console=ttyS0").encode("utf-16-le") + b"\0\0").digest
    assert failures(appraised(make_verified_tdx, full, swapped(tdx_events, 16, digest=digest))) == []


def test_rtmr3_is_zero_or_named_or_explained(make_verified_tdx, tdx_events):
    aael = b"AAEL"[::-1] + (5).to_bytes(4, "little") + b"hello"
    events = (*tdx_events, hashed(4, EventType.EV_EVENT_TAG, aael))
    rtmrs = registers(events)
    policy = Policy(schema=1).with_tdx(mrtd=(b"\x11" * 48,))
    body = {"rtmrs": rtmrs, **{name: bytes(48) for name in ("mrconfigid", "mrowner", "mrownerconfig", "mr_servicetd")}}
    verified = make_verified_tdx(body=body)
    assert failures(appraise_tdx(verified, policy)) == [Check.TDX_RTMR3]
    assert failures(appraise_tdx(verified, policy, event_log=write_ccel(events))) == []
    # A log that explains RTMR3 and not the others explains nothing.
    wrong = failures(appraise_tdx(verified, policy, event_log=write_ccel(events[1:])))
    assert wrong == [Check.TDX_RTMR3, Check.TDX_EVENT_LOG_REPLAY]
    assert failures(appraise_tdx(verified, policy.with_tdx(rtmr3=(rtmrs[3],)))) == []


def test_a_log_that_cannot_be_read_is_an_error_and_no_rejection(make_verified_tdx, full, log):
    with pytest.raises(MalformedEvidence) as caught:
        appraise_tdx(make_verified_tdx(), full, event_log=log[:-40])
    assert caught.value.check is Check.TDX_CCEL_FORMAT
    sm3 = log.replace(b"\x0c\0\x30\0", b"\x12\0\x20\0", 1)
    with pytest.raises(UnsupportedEvidence):
        appraise_tdx(make_verified_tdx(), full, event_log=sm3)
