"""A log beside its launch: equal where it is, and every planted difference called by its name."""

from __future__ import annotations

import dataclasses
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dokimos.attest.sim_ccel import LogEvent, registers, write_ccel
from dokimos.evidence.ccel import EventType, parse_ccel
from dokimos.evidence.tdx import BodyType, TdReport, parse_td_body
from dokimos.evidence.uefi import GLOBAL_VARIABLE, IMAGE_SECURITY_DATABASE
from dokimos.measurements.explain_tdx import Verdict, explain_tdx
from dokimos.measurements.firmware_profile import Generation
from dokimos.measurements.mrtd import PageOrder
from dokimos.measurements.ovmf import PAGE
from dokimos.measurements.qemu_kernel import KernelForm
from dokimos.measurements.rtmr import AcpiTables, Basis, ExpectedEvent, boot_variables, sha384, variable_data
from dokimos.measurements.synthetic_ovmf import synthetic_tdvf
from dokimos.measurements.synthetic_pe import synthetic_kernel
from dokimos.measurements.tdx import TdxLaunch, TdxMeasurements, page_order, tdx_measurements
from dokimos.measurements.variable_store import SecureBootVariables

_GIB = 1 << 30
_FIRMWARE = synthetic_tdvf(8 * PAGE)
_ACPI = AcpiTables(loader=b"loader", rsdp=b"rsdp", tables=b"tables")
_LAUNCH = TdxLaunch(
    firmware=_FIRMWARE,
    memory=2 * _GIB,
    kernel=synthetic_kernel(),
    initrd=b"initrd" * 1000,
    append="console=ttyS0 quiet",
    acpi=_ACPI,
)
_GUIDS = {"SecureBoot": GLOBAL_VARIABLE, "PK": GLOBAL_VARIABLE, "KEK": GLOBAL_VARIABLE}
_KERNEL_PATH = bytes.fromhex("0403140072f728144ab61e44b8c39ebdd7f893c7040412006b00650072006e0065006c0000007fff0400")
_BLOBS = {"td-hob": b"\x09TdxTable\0", "cfv": b"\x29Fv(XXXXXXXX-XXXX-XXXX-XXXX-XXXXXXXXXXXX)\0"}


def _data(event: ExpectedEvent, launch: TdxLaunch) -> tuple[EventType, bytes]:
    """What firmware and kernel write into a log beside the digest."""
    variables = launch.secure_boot or SecureBootVariables()
    contents = {"SecureBoot": variables.secure_boot, "PK": variables.pk, "KEK": variables.kek, "db": variables.db}
    contents["dbx"] = variables.dbx
    profile = tdx_measurements(launch).profile
    assert profile
    order, options = boot_variables(profile)
    boots = {"boot-order": ("BootOrder", order), **{label[:8].lower(): (label[:8], data) for label, data in options}}
    if event.id in contents:
        guid = _GUIDS.get(event.id, IMAGE_SECURITY_DATABASE)
        return EventType.EV_EFI_VARIABLE_DRIVER_CONFIG, variable_data(guid, event.id, contents[event.id])
    if event.id in boots:
        return EventType.EV_EFI_VARIABLE_BOOT, variable_data(GLOBAL_VARIABLE, *boots[event.id])
    if event.id.startswith("fw-cfg:"):
        data = b"QEMU FW CFG\0" + event.id.removeprefix("fw-cfg:").encode().ljust(56, b"\0")
        return EventType.EV_PLATFORM_CONFIG_FLAGS, data
    path = struct.pack("<QQQQ", 0, 0, 0, len(_KERNEL_PATH)) + _KERNEL_PATH
    tags = {"command-line": (0x8F3B22ED, b"LOADED_IMAGE::LoadOptions\0"), "initrd": (0x8F3B22EC, b"Linux initrd\0")}
    if event.id in tags:
        tag, name = tags[event.id]
        return EventType.EV_EVENT_TAG, struct.pack("<II", tag, len(name)) + name
    return {
        "td-hob": (EventType.EV_EFI_HANDOFF_TABLES2, _BLOBS["td-hob"]),
        "cfv": (EventType.EV_EFI_PLATFORM_FIRMWARE_BLOB2, _BLOBS["cfv"]),
        "separator": (EventType.EV_SEPARATOR, bytes(4)),
        "late-separator": (EventType.EV_SEPARATOR, bytes(4)),
        "smbios": (EventType.EV_EFI_HANDOFF_TABLES, bytes(32)),
        "authority": (EventType.EV_EFI_VARIABLE_AUTHORITY, variable_data(IMAGE_SECURITY_DATABASE, "db", b"key")),
        "kernel": (EventType.EV_EFI_BOOT_SERVICES_APPLICATION, path),
        **dict.fromkeys(
            ("acpi:loader", "acpi:rsdp", "acpi:tables"), (EventType.EV_PLATFORM_CONFIG_FLAGS, b"ACPI DATA")
        ),
        **dict.fromkeys(
            ("calling", "exit-invocation", "exit-success"), (EventType.EV_EFI_ACTION, event.label.encode())
        ),
    }[event.id]


def _written(launch: TdxLaunch) -> list[LogEvent]:
    """The log that a TD of this launch would write; what is open has some digest."""
    events = tdx_measurements(launch).events
    return [
        LogEvent(
            event.register + 1, *_swapped(_data(event, launch), event.digest or sha384(b"some " + event.id.encode()))
        )
        for event in events
    ]


def _swapped(data: tuple[EventType, bytes], digest: bytes) -> tuple[EventType, bytes, bytes]:
    return data[0], digest, data[1]


def _report(launch: TdxLaunch, written: list[LogEvent], order: PageOrder = PageOrder.SINGLE_PASS) -> TdReport:
    measured = tdx_measurements(launch)
    body = bytearray(584)
    body[136:184] = measured.mrtd_two_pass if order is PageOrder.TWO_PASS else measured.mrtd_single_pass
    body[328:520] = b"".join(registers(written))
    return parse_td_body(bytes(body), BodyType.TD10)


def _explain(launch: TdxLaunch, written: list[LogEvent], report: TdReport | None = None):
    return explain_tdx(launch, parse_ccel(write_ccel(written)), report)


def test_a_log_of_the_launch_is_equal_with_its_quote_and_without():
    written = _written(_LAUNCH)
    for order in PageOrder:
        for report in (None, _report(_LAUNCH, written, order)):
            found = _explain(_LAUNCH, written, report)
            assert found.verdict is Verdict.EQUAL
            assert (found.first, found.causes) == (None, ())
            assert {row.verdict for row in found.rows} == {Verdict.EQUAL}
            assert [row.name for row in found.registers][-4:] == ["RTMR0", "RTMR1", "RTMR2", "RTMR3"]


def test_what_nobody_gave_is_open_and_not_equal():
    launch = dataclasses.replace(_LAUNCH, acpi=None)
    found = _explain(launch, _written(launch))
    assert found.verdict is Verdict.OPEN
    assert [row.id for row in found.rows if row.verdict is Verdict.OPEN] == ["acpi:loader", "acpi:rsdp", "acpi:tables"]
    assert all(row.actual for row in found.rows)
    assert [row.verdict for row in found.registers[:3]] == [Verdict.OPEN, Verdict.EQUAL, Verdict.EQUAL]
    given = {row.id: row.actual for row in found.rows if row.verdict is Verdict.OPEN}
    assert _explain(dataclasses.replace(launch, digests=given), _written(launch)).verdict is Verdict.EQUAL


_MORE_KEYS = SecureBootVariables(db=b"key")
PLANTED = [
    ({"memory": 4 * _GIB}, "td-hob", "TD HOB: the TD has 4 GiB of memory, not 2 GiB"),
    ({"memory": 7777 * PAGE << 8}, "td-hob", "none of the usual ones"),
    ({"kernel": synthetic_kernel(tag=b"other")}, "kernel", "another kernel"),
    ({"kernel_form": KernelForm.RAW}, "kernel", "the expected one, and measured as it is"),
    ({"append": "console=ttyS0"}, "command-line", "another command line"),
    ({"initrd": b"other" * 1200}, "initrd", "another initial RAM disk"),
    ({"acpi": dataclasses.replace(_ACPI, loader=b"x")}, "acpi:loader", "other ACPI tables"),
    ({"acpi": dataclasses.replace(_ACPI, rsdp=b"x")}, "acpi:rsdp", "other ACPI tables"),
    ({"acpi": dataclasses.replace(_ACPI, tables=b"x")}, "acpi:tables", "other ACPI tables"),
    ({"secure_boot": _MORE_KEYS}, "db", "db: another content of the variable, 3 bytes"),
    ({"secure_boot": SecureBootVariables(secure_boot=b"\0")}, "SecureBoot", "Secure Boot is off"),
]


@pytest.mark.parametrize(("change", "name", "cause"), PLANTED, ids=[name for _, name, _ in PLANTED])
def test_a_planted_difference_is_the_first_and_named(change, name, cause):
    actual = dataclasses.replace(_LAUNCH, **change)
    written = _written(actual)
    found = _explain(_LAUNCH, written, _report(actual, written))
    assert found.verdict is Verdict.DIFFERENT
    assert found.first.id == name
    assert cause in found.causes[0]
    assert next(row.id for row in found.rows if row.verdict is not Verdict.EQUAL) == name


def test_a_kernel_that_qemu_patched_for_another_memory_is_recognised():
    kernel = dataclasses.replace(_LAUNCH, kernel_form=KernelForm.PATCHED)
    found = _explain(kernel, _written(dataclasses.replace(kernel, memory=1 * _GIB)))
    assert any("the kernel is the expected one, as QEMU patches it for 1 GiB" in cause for cause in found.causes)
    raw = dataclasses.replace(_LAUNCH, kernel_form=KernelForm.RAW)
    found = _explain(raw, _written(kernel))
    assert "as QEMU patches it (--kernel-form patched)" in found.causes[0]


def test_the_word_that_firmware_adds_to_the_command_line_is_recognised():
    written = _written(_LAUNCH)
    options = "initrd=initrd console=ttyS0 quiet\0".encode("utf-16-le")
    moved = [event._replace(digest=sha384(options)) if b"LoadOptions" in event.data else event for event in written]
    assert "the expected one, with initrd=initrd as prefix" in _explain(_LAUNCH, moved).causes[0]


def test_secure_boot_that_is_on_is_said():
    actual = dataclasses.replace(_LAUNCH, secure_boot=SecureBootVariables(secure_boot=b"\1", pk=b"pk", db=b"db"))
    found = _explain(_LAUNCH, _written(actual))
    assert any("SecureBoot: Secure Boot is on" in cause for cause in found.causes)
    assert any("authority" in cause and "not expected" in cause for cause in found.causes)
    relabelled = [
        event._replace(data=event.data + b"x" if event.data.endswith(b"d\0b\0") else event.data)
        for event in _written(dataclasses.replace(_LAUNCH, secure_boot=_MORE_KEYS))
    ]
    assert _explain(_LAUNCH, relabelled).verdict is Verdict.DIFFERENT


def test_another_variable_store_and_other_boot_options_are_named():
    written = _written(_LAUNCH)
    for name, cause in (
        ("cfv", "another variable store"),
        ("boot-order", "other boot options"),
        ("boot0000", "other boot"),
    ):
        events = tdx_measurements(_LAUNCH).events
        at = [event.id for event in events].index(name)
        changed = [*written[:at], written[at]._replace(digest=bytes(48)), *written[at + 1 :]]
        found = _explain(_LAUNCH, changed)
        assert found.first.id == name
        assert cause in found.causes[0]


def test_logs_of_other_generations_are_recognised_as_such():
    for generation in (Generation.PRE_202411, Generation.STABLE_202505):
        actual = dataclasses.replace(_LAUNCH, generation=generation)
        found = _explain(dataclasses.replace(_LAUNCH, generation=Generation.STABLE_202502), _written(actual))
        assert found.verdict is Verdict.DIFFERENT
        assert f"generation {generation}" in found.causes[0]


def test_what_is_missing_and_what_is_too_much_is_different():
    written = _written(_LAUNCH)
    for at in range(len(written)):
        found = _explain(_LAUNCH, written[:at] + written[at + 1 :])
        assert found.verdict is Verdict.DIFFERENT, at
        twice = _explain(_LAUNCH, [*written[: at + 1], *written[at:]])
        assert twice.verdict is Verdict.DIFFERENT, at
        assert any(row.verdict is Verdict.EXTRA for row in twice.rows)


def test_events_in_another_order_are_different():
    written = _written(_LAUNCH)
    for at in range(len(written) - 1):
        if written[at].mr == written[at + 1].mr and written[at] != written[at + 1]:
            swapped = [*written[:at], written[at + 1], written[at], *written[at + 2 :]]
            assert _explain(_LAUNCH, swapped).verdict is Verdict.DIFFERENT, at


def test_a_log_that_does_not_replay_to_the_quote_is_not_its_log():
    written = _written(_LAUNCH)
    other = _report(_LAUNCH, written[:-1])
    found = _explain(_LAUNCH, written, other)
    assert found.verdict is Verdict.DIFFERENT
    assert "does not replay to the quote" in found.causes[0]
    extended = dataclasses.replace(_report(_LAUNCH, written), rtmrs=(*other.rtmrs[:3], sha384(b"run time")))
    assert _explain(_LAUNCH, written, extended).verdict is Verdict.DIFFERENT


def test_other_firmware_shows_in_mrtd():
    written = _written(_LAUNCH)
    other = dataclasses.replace(_LAUNCH, firmware=synthetic_tdvf(8 * PAGE, tag=b"other"))
    found = _explain(_LAUNCH, written, _report(other, written))
    assert found.verdict is Verdict.DIFFERENT
    assert found.causes == ("MRTD: the TD was started with other firmware",)


def test_what_the_guest_extends_at_run_time_is_shown_and_does_not_count():
    written = [*_written(_LAUNCH), LogEvent(4, EventType.EV_EVENT_TAG, sha384(b"x"), b"\1\0\0\0\0\0\0\0")]
    found = _explain(_LAUNCH, written, _report(_LAUNCH, written))
    assert found.verdict is Verdict.EQUAL
    assert found.rows[-1].verdict is Verdict.RUN_TIME
    assert found.registers[-1].verdict is Verdict.RUN_TIME


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_any_change_of_a_digest_is_the_first_difference(data):
    written = _written(_LAUNCH)
    at = data.draw(st.integers(0, len(written) - 1))
    written[at] = written[at]._replace(digest=data.draw(st.binary(min_size=48, max_size=48)))
    found = _explain(_LAUNCH, written)
    assert found.verdict is Verdict.DIFFERENT
    assert found.first.actual == written[at].digest


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.builds(
            LogEvent,
            mr=st.integers(0, 4),
            type=st.sampled_from([kind for kind in EventType if kind is not EventType.EV_NO_ACTION]),
            digest=st.binary(min_size=48, max_size=48),
            data=st.binary(max_size=40),
        ),
        max_size=30,
    )
)
def test_any_log_is_explained(events):
    assert _explain(_LAUNCH, events).verdict is Verdict.DIFFERENT


def test_a_launch_of_firmware_alone_has_an_mrtd_and_no_registers():
    found = tdx_measurements(TdxLaunch(firmware=_FIRMWARE, memory=_GIB))
    assert isinstance(found, TdxMeasurements)
    assert (found.rtmr0, found.rtmr1, found.rtmr2, found.profile) == (None, None, None, None)
    assert found.basis(0) is Basis.OPEN
    assert found.mrtd == found.mrtd_single_pass != found.mrtd_two_pass


def test_the_order_of_pages_follows_the_hosts_qemu_and_can_be_named():
    assert [page_order(version) for version in (None, (8, 2), (9, 0), (10, 1))] == [
        PageOrder.SINGLE_PASS,
        PageOrder.TWO_PASS,
        PageOrder.SINGLE_PASS,
        PageOrder.SINGLE_PASS,
    ]
    old = tdx_measurements(TdxLaunch(firmware=_FIRMWARE, memory=_GIB, qemu=(8, 2)))
    assert old.mrtd == old.mrtd_two_pass
    named = tdx_measurements(TdxLaunch(firmware=_FIRMWARE, memory=_GIB, qemu=(8, 2), order=PageOrder.SINGLE_PASS))
    assert named.mrtd == named.mrtd_single_pass


def test_each_input_moves_its_register_and_no_other():
    base = tdx_measurements(_LAUNCH)
    changes = {
        "initrd": ({"initrd": b"other " * 1000}, {2}),
        "append": ({"append": "quiet"}, {2}),
        "kernel": ({"kernel": synthetic_kernel(tag=b"x")}, {1}),
        "memory": ({"memory": 4 * _GIB}, {0}),
        "acpi": ({"acpi": dataclasses.replace(_ACPI, tables=b"x")}, {0}),
        "vcpus": ({"vcpus": 2}, set()),
    }
    for name, (change, moved) in changes.items():
        other = tdx_measurements(dataclasses.replace(_LAUNCH, **change))
        assert other.mrtd == base.mrtd
        values = [(base.rtmr0, other.rtmr0), (base.rtmr1, other.rtmr1), (base.rtmr2, other.rtmr2)]
        assert {register for register, (old, new) in enumerate(values) if old != new} == moved, name
