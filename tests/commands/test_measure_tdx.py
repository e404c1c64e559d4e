"""``dokimos measure tdx`` and ``dokimos explain tdx`` as a user starts them."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from click import Choice

from dokimos.attest.sim_ccel import LogEvent, direct_boot, write_ccel
from dokimos.commands.measure_tdx import tdx as measure_tdx
from dokimos.errors import ExitCode
from dokimos.evidence.ccel import EventType
from dokimos.measurements.firmware_profile import Generation
from dokimos.measurements.mrtd import PageOrder
from dokimos.measurements.ovmf import PAGE
from dokimos.measurements.qemu_kernel import KernelForm
from dokimos.measurements.rtmr import AcpiTables, sha384
from dokimos.measurements.synthetic_ovmf import synthetic_tdvf
from dokimos.measurements.synthetic_pe import synthetic_kernel, synthetic_uki
from dokimos.measurements.tdx import TdxLaunch, tdx_measurements

_FILES = {
    "fw": synthetic_tdvf(8 * PAGE),
    "kernel": synthetic_kernel(),
    "initrd": b"initrd" * 100,
    "uki": synthetic_uki(kernel=synthetic_kernel(), cmdline="quiet"),
    "acpi/table-loader": b"loader",
    "acpi/rsdp": b"rsdp",
    "acpi/tables": b"tables",
    "keys/PK": b"pk",
    "keys/SecureBoot": b"\1",
}
_LAUNCH = TdxLaunch(
    firmware=_FILES["fw"],
    memory=2 << 30,
    kernel=_FILES["kernel"],
    initrd=_FILES["initrd"],
    append="quiet",
    acpi=AcpiTables(loader=b"loader", rsdp=b"rsdp", tables=b"tables"),
)


def _run(*arguments) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "dokimos", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, check=False, timeout=120)


def _measure(*arguments) -> subprocess.CompletedProcess[bytes]:
    return _run("measure", "tdx", *arguments)


@pytest.fixture
def files(tmp_path):
    for name, data in _FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    return tmp_path


def _boot(files) -> list[object]:
    return [
        *("--firmware", files / "fw", "--kernel", files / "kernel", "--initrd", files / "initrd"),
        *("--append", "quiet", "--memory", "2G"),
    ]


def test_firmware_alone_gives_both_mrtds(files):
    ran = _measure("--firmware", files / "fw")
    assert ran.returncode == 0
    assert b"MRTD, single-pass" in ran.stdout
    assert b"MRTD, two-pass" in ran.stdout
    document = json.loads(_measure("--firmware", files / "fw", "--json").stdout)
    assert document["schema"] == "dokimos.measure.tdx/v1"
    found = tdx_measurements(TdxLaunch(firmware=_FILES["fw"], memory=1 << 30))
    assert document["mrtd"]["single_pass"] == found.mrtd_single_pass.hex()
    assert document["mrtd"]["two_pass"] == found.mrtd_two_pass.hex()
    assert (document["rtmr"], document["events"]) == ({}, [])


def test_a_boot_gives_registers_events_and_what_stands_behind_them(files):
    found = tdx_measurements(_LAUNCH)
    document = json.loads(_measure(*_boot(files), "--acpi", files / "acpi", "--json").stdout)
    values = {name: register["value"] for name, register in document["rtmr"].items()}
    assert values == {"rtmr0": found.rtmr0.hex(), "rtmr1": found.rtmr1.hex(), "rtmr2": found.rtmr2.hex()}
    assert document["rtmr"]["rtmr0"]["basis"] == "confirmed on real logs"
    assert document["rtmr"]["rtmr2"]["basis"] == "computed"
    assert [event["id"] for event in document["events"]] == [event.id for event in found.events]
    assert document["inputs"]["memory"] == 2 << 30
    ran = _measure(*_boot(files), "--acpi", files / "acpi")
    assert ran.returncode == 0
    assert b"event-level only" not in ran.stdout


def test_without_acpi_tables_rtmr0_is_event_level_only_and_a_digest_fills_it(files):
    ran = _measure(*_boot(files))
    assert ran.returncode == 0
    assert b"event-level" in ran.stdout
    document = json.loads(_measure(*_boot(files), "--json").stdout)
    assert document["rtmr"]["rtmr0"]["value"] is None
    assert document["rtmr"]["rtmr0"]["open"] == ["acpi:loader", "acpi:rsdp", "acpi:tables"]
    given = [f"--digest=acpi:{name}={sha384(name.encode()).hex()}" for name in ("loader", "rsdp", "tables")]
    filled = json.loads(_measure(*_boot(files), *given, "--json").stdout)
    assert filled["rtmr"]["rtmr0"]["value"] == tdx_measurements(_LAUNCH).rtmr0.hex()


def test_options_of_host_and_firmware_reach_the_computation(files):
    base = _measure(*_boot(files), "--json")
    for option in (
        ("--kernel-form", "raw"),
        ("--qemu-version", "10.2.1"),
        ("--firmware-profile", "202508"),
        ("--page-order", "two-pass"),
        ("--secure-boot", files / "keys"),
    ):
        other = _measure(*_boot(files), *option, "--json")
        assert other.returncode == 0, other.stderr
        assert json.loads(other.stdout) != json.loads(base.stdout), option


def test_the_choices_of_the_options_are_those_of_the_computation():
    choices = {option.name: option.type.choices for option in measure_tdx.params if isinstance(option.type, Choice)}
    assert list(choices["firmware_profile"]) == list(Generation)
    assert set(choices["kernel_form"]) == set(KernelForm)
    assert set(choices["page_order"]) == set(PageOrder)


def test_a_unified_image_is_measured(files):
    options = ["--firmware", files / "fw", "--uki", files / "uki", "--memory", "2048M", "--json"]
    document = json.loads(_measure(*options).stdout)
    assert {"uki", ".cmdline:content", "gpt"} <= {event["id"] for event in document["events"]}
    assert document["rtmr"]["rtmr1"]["open"] == ["gpt"]


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (["--kernel", "kernel"], ExitCode.USAGE),
        (["--memory", "2"], ExitCode.USAGE),
        (["--kernel", "kernel", "--memory", "two"], ExitCode.USAGE),
        (["--kernel", "kernel", "--memory", "2G", "--uki", "uki"], ExitCode.USAGE),
        (["--append", "quiet"], ExitCode.USAGE),
        (["--qemu-version", "new"], ExitCode.USAGE),
        (["--digest", "acpi:rsdp"], ExitCode.USAGE),
        (["--digest", "acpi:rsdp=00"], ExitCode.MALFORMED),
        (["--pci-window", "zz", "--qemu", "/nonexistent"], ExitCode.USAGE),
        (["--", "-serial", "null"], ExitCode.USAGE),
        (["--qemu", "/nonexistent", "--acpi", "acpi"], ExitCode.USAGE),
        (["--qemu", "/nonexistent"], ExitCode.UNAVAILABLE),
        (["--acpi", "nowhere"], ExitCode.UNAVAILABLE),
        (["--secure-boot", "nowhere"], ExitCode.UNAVAILABLE),
        (["--disk", "nowhere"], ExitCode.UNAVAILABLE),
        (["--kernel", "nowhere", "--memory", "2G"], ExitCode.UNAVAILABLE),
        (["--kernel", "initrd", "--memory", "2G"], ExitCode.MALFORMED),
    ],
)
def test_bad_options_have_their_exit_code(files, options, code):
    here = [files / option if (files / option).is_file() and option != "acpi" else option for option in options]
    ran = _measure("--firmware", files / "fw", *here)
    assert (ran.returncode, ran.stdout) == (code, b"")
    assert b"Traceback" not in ran.stderr


def test_firmware_that_cannot_be_measured_is_refused_with_the_remedy(files):
    (files / "half").write_bytes(synthetic_tdvf(40 * PAGE, variables=8 * PAGE)[8 * PAGE :])
    ran = _measure("--firmware", files / "half")
    assert (ran.returncode, ran.stdout) == (ExitCode.UNSUPPORTED, b"")
    assert b"cat OVMF_VARS" in ran.stderr
    (files / "silent").write_bytes(synthetic_tdvf(8 * PAGE, marks=(b"etc/boot/",)))
    ran = _measure("--firmware", files / "silent", "--kernel", files / "kernel", "--memory", "2G")
    assert (ran.returncode, ran.stdout) == (ExitCode.UNSUPPORTED, b"")
    assert b"TdTcg2Dxe" in ran.stderr


def _log(files) -> None:
    """A log with the events of what was booted alone; those of firmware and machine are missing."""
    events = [event for event in direct_boot(_LAUNCH)[1] if event.mr > 1]
    (files / "log").write_bytes(write_ccel(events))
    extra = LogEvent(1, EventType.EV_ACTION, sha384(b"[red]"), b"[red]markup[/]")
    (files / "longer").write_bytes(write_ccel([*events, extra]))


def test_explain_names_what_is_missing_and_ends_with_10(files):
    _log(files)
    ran = _run("explain", "tdx", "--event-log", files / "longer", *_boot(files), "--acpi", files / "acpi")
    assert ran.returncode == ExitCode.REJECTED
    words = " ".join(ran.stdout.decode().split())
    assert "first TD HOB: not in the log" in words
    assert "[red]markup[/]" in words
    assert words.endswith("DIFFERENT")
    document = json.loads(_run("explain", "tdx", "--event-log", files / "log", *_boot(files), "--json").stdout)
    assert document["schema"] == "dokimos.explain.tdx/v1"
    assert (document["verdict"], document["first"]["id"]) == ("different", "td-hob")


def test_explain_of_a_real_log_and_quote_names_the_kernel(files, vectors):
    (files / "fw").write_bytes(synthetic_tdvf(4 << 20, variables=0x84000))
    found = vectors("tdx/ccel_direct_boot_live2")
    (files / "ccel").write_bytes(found.bytes("ccel.bin"))
    (files / "quote").write_bytes(found.bytes("quote.bin"))
    ran = _run("explain", "tdx", "--event-log", files / "ccel", "--quote", files / "quote", *_boot(files), "--json")
    document = json.loads(ran.stdout)
    assert ran.returncode == ExitCode.REJECTED
    assert document["first"]["id"] == "kernel"
    assert [row["verdict"] for row in document["registers"]] == [
        "different",
        "open",
        "different",
        "different",
        "run-time",
    ]
    digests = [f"--digest={row['id']}={row['actual']}" for row in document["events"] if row["verdict"] != "equal"]
    ran = _run("explain", "tdx", "--event-log", files / "ccel", *_boot(files), *digests)
    assert ran.returncode == 0, ran.stdout
    assert ran.stdout.decode().split()[-1] == "EQUAL"
    acpi = [digest for digest in digests if "acpi" not in digest]
    assert (
        _run("explain", "tdx", "--event-log", files / "ccel", *_boot(files), *acpi).returncode == ExitCode.UNAVAILABLE
    )
    ran = _run("explain", "tdx", "--event-log", files / "ccel", *_boot(files), *digests, "--memory", "4G")
    assert "the TD has 2 GiB of memory, not 4 GiB" in " ".join(ran.stdout.decode().split())


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (["--event-log", "log"], ExitCode.USAGE),
        (["--event-log", "nowhere", "--kernel", "kernel", "--memory", "2G"], ExitCode.UNAVAILABLE),
        (["--event-log", "kernel", "--kernel", "kernel", "--memory", "2G"], ExitCode.MALFORMED),
        (["--event-log", "log", "--kernel", "kernel", "--memory", "2G", "--quote", "kernel"], ExitCode.UNSUPPORTED),
    ],
)
def test_bad_logs_and_quotes_have_their_exit_code(files, options, code):
    _log(files)
    here = [files / option if (files / option).is_file() else option for option in options]
    ran = _run("explain", "tdx", "--firmware", files / "fw", *here)
    assert (ran.returncode, ran.stdout) == (code, b"")
    assert b"Traceback" not in ran.stderr


@pytest.mark.slow
def test_a_real_td_is_recomputed_with_the_image_builders_qemu(files, vectors, loud_skip):
    (files / "fw").write_bytes(synthetic_tdvf(4 << 20, variables=0x84000))
    ran = _measure(*_boot(files), "--qemu", "auto", "--json", "--", "-serial", "null")
    if ran.returncode == ExitCode.UNAVAILABLE:
        loud_skip("QEMU is not in the store: ACPI tables NOT READ", "test_measure_tdx")
    expected = vectors("tdx/ccel_direct_boot_live2").manifest["expected"]["quote"]["rtmr"][0]
    assert json.loads(ran.stdout)["rtmr"]["rtmr0"]["value"] == expected
