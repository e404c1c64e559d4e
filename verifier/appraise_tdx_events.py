"""Appraisal of an event log: what a policy says of events, judged only once the log gives the RTMRs of the quote.

Only the digests of a log are measured; type and data of an event are its writer's word.  So no event is picked by its
label while others are passed over: in a register that the policy speaks of, every event must be accounted for, and in
RTMR0, parts of which may stay open, the events must stand in the order in which firmware writes them.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha384
from typing import Final

from ..errors import Check, Status
from ..evidence.ccel import DataCheck, Event, EventKind, EventLog, check_data, describe, kind
from ..evidence.uefi import variable
from ..measurements.rtmr import SEPARATOR
from ..measurements.rtmr_boot import CALLING, EXIT_INVOCATION, EXIT_SUCCESS
from .finding import Finding, held, not_asked, skipped
from .policy_rules import BitRule
from .tdx_policy import EventRules, TdxPolicy

_RETURNING: Final = b"Returning from EFI Application from Boot Option"
CONSTANTS: Final = frozenset(
    sha384(data).digest() for data in (SEPARATOR, CALLING, _RETURNING, EXIT_INVOCATION, EXIT_SUCCESS)
)
"""What firmware measures of every boot in the same way: separators without an error, and its actions."""
EVENT_CHECKS: Final = (
    Check.TDX_EVENTS_FIRMWARE,
    Check.TDX_EVENTS_SECURE_BOOT,
    Check.TDX_EVENTS_ACPI,
    Check.TDX_EVENTS_TD_HOB,
    Check.TDX_EVENTS_BOOT,
    Check.TDX_EVENTS_KERNEL,
    Check.TDX_EVENTS_COMMAND_LINE,
    Check.TDX_EVENTS_INITRD,
    Check.TDX_EVENTS_OTHER,
)

_RTMR0, _RTMR1, _RTMR2 = 1, 2, 3
# The first part of RTMR0, in order; each kind but those that may repeat stands there once.
_ORDER = (
    EventKind.TD_HOB,
    EventKind.CFV,
    EventKind.FW_CFG,
    EventKind.SECURE_BOOT_VARIABLE,
    EventKind.SEPARATOR,
    EventKind.ACPI_LOADER,
    EventKind.ACPI_RSDP,
    EventKind.ACPI_TABLES,
)
_REPEATED = frozenset({EventKind.FW_CFG, EventKind.SECURE_BOOT_VARIABLE})
_ACPI = frozenset({EventKind.ACPI_LOADER, EventKind.ACPI_RSDP, EventKind.ACPI_TABLES})
_BOOT = frozenset({EventKind.BOOT_ORDER, EventKind.BOOT_VARIABLE})
_NO_LOG = "there is no event log"
_NOT_BELIEVED = "the event log does not give the RTMRs of the quote, so no event of it is believed"


def command_line_digests(text: str) -> frozenset[bytes]:
    """Digests of a kernel's command line: alone, and with what firmware adds where there is an initrd.

    Linux' EFI stub hashes its load options in UTF-16 with their NUL; firmware widens the bytes of the text one by one.
    """
    forms = (text, f"initrd=initrd {text}", f"{text} initrd=initrd")
    wide = (form.encode().decode("latin-1").encode("utf-16-le") + b"\0\0" for form in forms)
    return frozenset(sha384(form).digest() for form in wide)


def event_findings(log: EventLog | None, policy: TdxPolicy, *, believed: bool) -> dict[Check, Finding]:
    """What every check of events finds."""
    rules = policy.events
    if log is None or not believed:
        why = _NO_LOG if log is None else _NOT_BELIEVED
        return {check: _unread(check, rules, why) for check in EVENT_CHECKS}
    faults: list[str] = []
    machine = _machine([event for event in log.events if event.mr == _RTMR0], rules, faults)
    code = _code([event for event in log.events if event.mr in (_RTMR1, _RTMR2)], policy, faults)
    other = skipped("the policy does not speak of events")
    if rules.machine() or rules.code():
        other = held(not faults, "; ".join(faults), expected=rules.other or None)
    return machine | code | {Check.TDX_EVENTS_OTHER: other}


def _unread(check: Check, rules: EventRules, why: str) -> Finding:
    """Without a log that is believed, what the policy asks fails and what it does not ask is a skip."""
    asked: dict[Check, object] = {
        Check.TDX_EVENTS_FIRMWARE: rules.firmware,
        Check.TDX_EVENTS_SECURE_BOOT: rules.secure_boot_variables or rules.secure_boot is not BitRule.ANY,
        Check.TDX_EVENTS_ACPI: rules.acpi,
        Check.TDX_EVENTS_TD_HOB: rules.td_hob,
        Check.TDX_EVENTS_BOOT: rules.boot,
        Check.TDX_EVENTS_KERNEL: rules.kernel,
        Check.TDX_EVENTS_COMMAND_LINE: rules.command_line,
        Check.TDX_EVENTS_INITRD: rules.initrd,
        Check.TDX_EVENTS_OTHER: rules.fw_cfg or rules.other,
    }
    return Finding(Status.FAIL, None, None, why) if asked[check] else skipped(f"{why}; the policy does not ask")


def _label(event: Event) -> str:
    return f"event {event.number} ({describe(event)})"


def _digests(events: Iterable[Event]) -> tuple[bytes, ...]:
    return tuple(event.digest for event in events)


def _machine(events: list[Event], rules: EventRules, faults: list[str]) -> dict[Check, Finding]:
    """RTMR0: what the host gave the firmware."""
    kinds = [(event, kind(event)) for event in events]
    if rules.machine():
        faults += _out_of_order(kinds)
        known = {*_ORDER, *_BOOT, EventKind.EFI_ACTION}
        for event, what in kinds:
            constant = what not in (EventKind.SEPARATOR, EventKind.EFI_ACTION) or event.digest in CONSTANTS
            accepted = event.digest in rules.fw_cfg if what is EventKind.FW_CFG else what in known and constant
            if not accepted and event.digest not in rules.other:
                faults.append(f"{_label(event)} is none that the policy accepts in RTMR0")

    def each(what: Iterable[EventKind], accepted: tuple[bytes, ...]) -> Finding:
        found = _digests(event for event, name in kinds if name in what)
        if not accepted:
            return not_asked(found)
        holds = bool(found) and set(found) <= set(accepted)
        message = "a digest is none of the accepted" if found else "the event log has no such event"
        return held(holds, message, expected=accepted, actual=found)

    return {
        Check.TDX_EVENTS_FIRMWARE: each((EventKind.CFV,), rules.firmware),
        Check.TDX_EVENTS_SECURE_BOOT: _secure_boot(
            [event for event, name in kinds if name is EventKind.SECURE_BOOT_VARIABLE], rules
        ),
        Check.TDX_EVENTS_ACPI: each(_ACPI, rules.acpi),
        Check.TDX_EVENTS_TD_HOB: each((EventKind.TD_HOB,), rules.td_hob),
        Check.TDX_EVENTS_BOOT: each(_BOOT, rules.boot),
    }


def _out_of_order(kinds: list[tuple[Event, EventKind]]) -> list[str]:
    """Events that stand where firmware writes none such: another event could pass for them."""
    place, faults = 0, []
    for event, what in kinds:
        if place < len(_ORDER) and what in _ORDER[place:]:
            index = _ORDER.index(what, place)
            lacking = [name for name in _ORDER[place:index] if name not in _REPEATED]
            if lacking:
                faults.append(f"{_label(event)} stands before {' and '.join(lacking)}")
            place = index if what in _REPEATED else index + 1
        elif what in _ORDER and what is not EventKind.SEPARATOR:
            faults.append(f"{_label(event)} stands where firmware writes none such")
        else:
            place = len(_ORDER)
    return faults


def _secure_boot(events: list[Event], rules: EventRules) -> Finding:
    """The variable SecureBoot by its content, the others by digest."""
    states, others = [], []
    for event in events:
        # The content is the event's own word unless the digest is that of it.
        content = variable(event.data) if check_data(event) is DataCheck.MATCHES else None
        if content is not None and content.name == "SecureBoot":
            states.append(content.data == b"\x01")
        else:
            others.append(event.digest)
    actual: tuple[str | bytes, ...] = (*(f"SecureBoot {int(state)}" for state in states), *others)
    if rules.secure_boot is BitRule.ANY and not rules.secure_boot_variables:
        return not_asked(actual)
    if rules.secure_boot is not BitRule.ANY and (len(states) != 1 or not rules.secure_boot.allows(states[0])):
        message = (
            f"SecureBoot is {int(states[0])}" if len(states) == 1 else "the event log does not say SecureBoot once"
        )
        return Finding(Status.FAIL, str(rules.secure_boot), actual, message)
    accepted = rules.secure_boot_variables
    if accepted and not (others and set(others) <= set(accepted)):
        return Finding(Status.FAIL, accepted, actual, "a variable of Secure Boot is none of the accepted")
    return Finding(Status.PASS, accepted or str(rules.secure_boot), actual)


def _code(events: list[Event], policy: TdxPolicy, faults: list[str]) -> dict[Check, Finding]:
    """RTMR1 and RTMR2: what was started; every event of both must be accounted for."""
    rules = policy.events
    kinds = [(event, kind(event)) for event in events]
    by_value = {_RTMR1: bool(policy.rtmr1), _RTMR2: bool(policy.rtmr2)}
    found: dict[Check, Finding] = {}
    texts = {digest for line in rules.command_line for digest in command_line_digests(line)}
    for check, name, register, accepted, shown in (
        (Check.TDX_EVENTS_KERNEL, EventKind.BOOT_APPLICATION, _RTMR1, set(rules.kernel), rules.kernel),
        (Check.TDX_EVENTS_COMMAND_LINE, EventKind.COMMAND_LINE, _RTMR2, texts, rules.command_line),
        (Check.TDX_EVENTS_INITRD, EventKind.INITRD, _RTMR2, set(rules.initrd), rules.initrd),
    ):
        mine = [event for event, what in kinds if what is name and event.mr == register]
        digests = _digests(event for event in mine if event.digest not in rules.other)
        if not rules.code():
            found[check] = not_asked(digests)
        elif by_value[register]:
            found[check] = skipped(f"RTMR{register - 1} is named by value", actual=digests)
        else:
            found[check] = _started(name, digests, accepted, expected=shown)
    if rules.code():
        own = {EventKind.BOOT_APPLICATION: _RTMR1, EventKind.COMMAND_LINE: _RTMR2, EventKind.INITRD: _RTMR2}
        for event, what in kinds:
            judged = own.get(what) == event.mr or by_value[event.mr]
            if not judged and event.digest not in CONSTANTS and event.digest not in rules.other:
                faults.append(f"{_label(event)} is none that the policy accepts in RTMR{event.mr - 1}")
    return found


def _started(
    name: EventKind, digests: tuple[bytes, ...], accepted: set[bytes], *, expected: tuple[bytes, ...] | tuple[str, ...]
) -> Finding:
    if not accepted:
        message = f"the policy names no {name}, and one was measured"
        return held(not digests, message, expected=(), actual=digests)
    message = ""
    if not digests:
        message = f"the event log has no {name}"
    elif not set(digests) <= accepted:
        message = f"a {name} is none of the accepted"
    elif name is EventKind.COMMAND_LINE and len(digests) > 1:
        message = "a kernel has one command line, and the event log has several"
    return held(not message, message, expected=expected, actual=digests)
