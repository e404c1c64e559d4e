"""ACPI tables out of a halted QEMU: those of a real TD, and every way in which a QEMU can fail."""

from __future__ import annotations

import sys
import time

import pytest

from dokimos.errors import MaterialUnavailable
from dokimos.evidence.ccel import EventKind, kind, parse_ccel
from dokimos.measurements.acpi_qtest import QemuTables, qemu_arguments, read_tables
from dokimos.measurements.rtmr import KERNEL_BOOT_ORDER, sha384
from dokimos.measurements.synthetic_ovmf import synthetic_tdvf
from dokimos.measurements.synthetic_pe import synthetic_kernel
from dokimos.measurements.tdx import TdxLaunch, tdx_measurements

_GIB = 1 << 30
# What is known of the TD of a published log: its loader tells the lengths of its tables, which are those of a machine
# with one processor, a serial port, an HPET and no PCI devices.
_LIVE2 = ("-serial", "null")

# A QEMU as far as the test protocol goes: it answers as its first argument says.
_FAKE = r"""
import base64, struct, sys
how = sys.argv[1]
names = {"etc/table-loader": (0x20, b"loader"), "etc/acpi/rsdp": (0x21, b"rsdp"), "etc/acpi/tables": (0x22, b"tables"),
         "bootorder": (0x23, b""), "etc/boot-menu-wait": (0x24, b"\2\0")}
if how == "missing":
    del names["etc/acpi/rsdp"]
directory = struct.pack(">I", 1 << 30 if how == "many" else len(names))
for name, (key, data) in names.items():
    size = 1 << 30 if how == "huge" else len(data)
    directory += struct.pack(">IHH56s", size, key, 0, name.encode())
files = {key: data for key, data in names.values()} | {0x19: directory, 0x0E: b"\0\0"}
memory = {}
if how == "die":
    sys.stderr.write("no such machine\n")
    sys.exit(1)
for line in sys.stdin:
    words = line.split()
    if how == "silent":
        continue
    answer = "OK"
    if how == "interrupts":
        sys.stdout.write("IRQ raise 3\n")
    if words[0] == "write":
        memory[int(words[1], 0)] = bytes.fromhex(words[3][2:])
    elif words[0] == "inl":
        answer = "OK what" if how == "words" else "OK 0xffffffff"
    elif words[0] == "outl" and words[1] == "0x518":
        at = int.from_bytes(int(words[2], 0).to_bytes(4, "little"), "big")
        control, size, buffer = struct.unpack(">IIQ", memory[at])
        memory[buffer] = files.get(control >> 16, b"")[:size].ljust(size, b"\0")
        memory[at] = (1 if how == "refused" else 0).to_bytes(4, "big")
    elif words[0] == "b64read":
        data = memory[int(words[1], 0)][: int(words[2], 0)]
        answer = "OK " + base64.b64encode(data).decode()
        if how == "short":
            answer = "OK AAAA"
        if how == "base64":
            answer = "OK ????"
    if how == "fail":
        answer = "FAIL unknown command"
    if how == "endless":
        sys.stdout.write("OK" + "A" * (1 << 20))
    sys.stdout.write(answer + "\n")
    sys.stdout.flush()
"""


def _fake(how: str, seconds: float = 20.0, window: int | None = None) -> QemuTables:
    return read_tables([sys.executable, "-c", _FAKE, how], seconds=seconds, window=window)


@pytest.mark.parametrize("how", ["good", "interrupts"])
def test_files_are_read_by_name_and_what_is_empty_is_not_there(how):
    found = _fake(how)
    assert (found.acpi.loader, found.acpi.rsdp, found.acpi.tables) == (b"loader", b"rsdp", b"tables")
    assert found.fw_cfg == {"etc/boot-menu-wait": b"\2\0", "BootMenu": b"\0\0"}


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("missing", "it has no etc/acpi/rsdp"),
        ("many", "files"),
        ("huge", "a file of"),
        ("die", "no such machine"),
        ("words", "not a number"),
        ("refused", "cannot be read"),
        ("short", "bytes instead of"),
        ("base64", "not base64"),
        ("fail", "not OK"),
        ("endless", "not OK"),
    ],
)
def test_a_qemu_that_does_not_follow_the_protocol_is_an_error_that_says_so(how, said):
    with pytest.raises(MaterialUnavailable, match=said):
        _fake(how)


def test_a_qemu_that_does_not_answer_is_ended_in_time():
    start = time.monotonic()
    with pytest.raises(MaterialUnavailable, match=r"no answer within 0\.5 s"):
        _fake("silent", seconds=0.5)
    assert time.monotonic() - start < 10


def test_a_qemu_that_is_not_there_is_an_error():
    with pytest.raises(MaterialUnavailable, match="No such file"):
        read_tables(["/nonexistent/qemu"])


def test_arguments_keep_the_callers_machine():
    assert qemu_arguments(memory=_GIB, vcpus=2)[-2:] == ["-machine", "q35,smm=off,pic=off"]
    assert "q35,smm=off,pic=off" not in qemu_arguments(memory=_GIB, vcpus=2, machine=("-machine", "q35"))


@pytest.mark.slow
def test_a_stock_qemu_gives_the_acpi_tables_and_rtmr0_of_a_real_td(vectors, qemu):
    found = vectors("tdx/ccel_direct_boot_live2")
    tables = read_tables([*qemu, *qemu_arguments(memory=2 * _GIB, vcpus=1, machine=_LIVE2)])
    log = parse_ccel(found.bytes("ccel.bin"))
    actual = {kind(event): event.digest for event in log.events}
    assert sha384(tables.acpi.loader) == actual[EventKind.ACPI_LOADER]
    assert sha384(tables.acpi.rsdp) == actual[EventKind.ACPI_RSDP]
    assert sha384(tables.acpi.tables) == actual[EventKind.ACPI_TABLES]
    firmware = synthetic_tdvf(4 << 20, variables=0x84000)
    launch = TdxLaunch(firmware=firmware, memory=2 * _GIB, kernel=synthetic_kernel(), acpi=tables.acpi)
    assert tdx_measurements(launch).rtmr0.hex() == found.manifest["expected"]["quote"]["rtmr"][0]


@pytest.mark.slow
def test_processors_memory_and_devices_move_the_tables(qemu):
    def digests(memory: int = 2 * _GIB, vcpus: int = 1, machine: tuple[str, ...] = _LIVE2) -> tuple[bytes, ...]:
        acpi = read_tables([*qemu, *qemu_arguments(memory=memory, vcpus=vcpus, machine=machine)]).acpi
        return tuple(map(sha384, (acpi.loader, acpi.rsdp, acpi.tables)))

    base = digests()
    assert digests() == base
    others = [
        digests(vcpus=2),
        digests(memory=4 * _GIB),
        digests(machine=()),
        digests(machine=("-device", "ich9-usb-uhci1")),
    ]
    assert len({base[2], *(other[2] for other in others)}) == 5


@pytest.mark.slow
def test_devices_with_64_bit_bars_leave_the_tables_open_until_their_place_is_named(qemu):
    command = [*qemu, *qemu_arguments(memory=2 * _GIB, vcpus=1, machine=("-device", "virtio-rng-pci"))]
    without = read_tables(command)
    assert without.acpi.tables is None
    assert without.acpi.loader
    low, high = (read_tables(command, window=window).acpi for window in (0x800000000, 0x380000000000))
    assert low.loader == high.loader == without.acpi.loader
    assert low.tables != high.tables
    assert (0x380000000000).to_bytes(8, "little") in high.tables
    bridge = [*qemu, *qemu_arguments(memory=2 * _GIB, vcpus=1, machine=("-device", "pcie-root-port"))]
    assert read_tables(bridge).acpi.tables is None
    with pytest.raises(MaterialUnavailable, match="behind a bridge"):
        read_tables(bridge, window=0x380000000000)


@pytest.mark.slow
def test_a_kernel_makes_qemu_offer_its_own_loader_first(qemu, tmp_path):
    (tmp_path / "kernel").write_bytes(synthetic_kernel(size=0x10000))
    command = [*qemu, *qemu_arguments(memory=2 * _GIB, vcpus=1), "-kernel", str(tmp_path / "kernel")]
    assert read_tables(command).fw_cfg == {"bootorder": KERNEL_BOOT_ORDER, "BootMenu": b"\0\0"}


@pytest.mark.slow
def test_an_argument_that_qemu_refuses_is_reported_in_its_words(qemu):
    with pytest.raises(MaterialUnavailable, match="nonsense"):
        read_tables([*qemu, *qemu_arguments(memory=2 * _GIB, vcpus=1, machine=("-device", "nonsense"))])
