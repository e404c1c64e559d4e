"""ACPI tables of a machine, out of a stock QEMU that never runs a guest.

QEMU makes the tables when the firmware asks for them, and from the machine alone: no hardware of a TD's host and no
patch is needed.  The machine is started halted under software emulation; over its test protocol this side does what
firmware does before it reads the tables (OVMF, PlatformPei: PCI Express window and power management base) and then
reads ``etc/table-loader``, ``etc/acpi/rsdp`` and ``etc/acpi/tables`` by DMA.

The tables of a real TD come out of this byte for byte.  What firmware does later and the tables tell is one thing only:
where it places 64-bit BARs of PCI devices, for which the caller may name the address.

Sources: QEMU, docs/specs/fw_cfg.rst and the comment on the test protocol in system/qtest.c; hw/pci-host/q35.c for the
64-bit window; PCI Local Bus Specification 3.0, section 6.2, for the configuration space.  This is the only module of
measurements that starts a process, and no other of them imports it.
"""

from __future__ import annotations

import base64
import subprocess
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import IO, Final, Self

from ..errors import MaterialUnavailable
from .rtmr import FW_CFG_ITEMS, AcpiTables

SECONDS: Final = 30.0
"""Longest time that a QEMU may take; it takes a tenth of a second."""
MAX_FILE: Final = 4 << 20
MAX_FILES: Final = 1024

_CONFIG_ADDRESS, _CONFIG_DATA = 0xCF8, 0xCFC
_DMA_HIGH, _DMA_LOW = 0x514, 0x518
_READ = 0x0A
"""FW_CFG_DMA_CTL_SELECT and FW_CFG_DMA_CTL_READ."""
_ERROR = 0x01
_DIRECTORY, _BOOT_MENU = 0x19, 0x0E
_ENTRY = 64
# Guest memory that is there in every machine and that nobody else uses, since no guest runs.
_COMMAND, _BUFFER = 0x8000, 0x100000
_PCI = (
    (0x80000060, 0xE0000001),  # host bridge, PCIEXBAR: enabled, 256 MiB at 3.5 GiB
    (0x80000064, 0),
    (0x8000F840, 0x601),  # LPC bridge, PMBASE: I/O port 0x600
    (0x8000F844, 0x80),  # and ACPI_CNTL: enabled
)
_BUS_SLOTS, _FUNCTIONS, _BARS = 32, 8, 6
_VENDOR, _COMMAND_REGISTER, _HEADER_TYPE, _FIRST_BAR = 0x00, 0x04, 0x0C, 0x10
_ABSENT, _BRIDGE, _MEMORY_ON = 0xFFFF, 1, 2
_BAR_KIND, _BAR_64 = 0x7, 0x4
_FILES: Final = ("etc/table-loader", "etc/acpi/rsdp", "etc/acpi/tables")
_TAIL: Final = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class QemuTables:
    """What firmware would read from a machine.

    Attributes:
        acpi: the three files of ACPI tables; the tables themselves are None where they depend on where the firmware
            places 64-bit BARs, and the caller did not say.
        fw_cfg: other items that newer firmware measures, as far as the machine has them.
    """

    acpi: AcpiTables
    fw_cfg: Mapping[str, bytes]


def qemu_arguments(*, memory: int, vcpus: int, machine: Sequence[str] = ()) -> list[str]:
    """Arguments for a machine like a TD.

    Args:
        memory: bytes.
        vcpus: virtual processors.
        machine: further arguments: the devices of the TD in their order, and where it is not the default its -machine.
            What only a host with TDX can do (``-accel kvm``, ``-object tdx-guest``, ``confidential-guest-support``)
            does not belong here: all that it changes of the tables is what the default -machine says.
    """
    arguments = ["-nodefaults", "-no-user-config", "-m", f"{memory}B", "-smp", str(vcpus)]
    if "-machine" not in machine and "-M" not in machine:
        arguments += ["-machine", "q35,smm=off,pic=off"]
    return [*arguments, *machine]


def read_tables(command: Sequence[str], *, window: int | None = None, seconds: float = SECONDS) -> QemuTables:
    """Start a machine, read its tables and end it.

    Args:
        command: how QEMU is called, with the arguments of the machine.
        window: the lowest address that the firmware gives to a 64-bit BAR, or None where that is not known.
        seconds: how long it may take.

    Raises:
        MaterialUnavailable: QEMU does not start, refuses an argument, says something else than the protocol, or takes
            too long.
    """
    with _Machine(command, seconds) as machine:
        for address, value in _PCI:
            machine.outl(_CONFIG_ADDRESS, address)
            machine.outl(_CONFIG_DATA, value)
        # QEMU makes the tables once, when the first of them is read: a BAR has to be placed before.
        wide = machine.wide_bars()
        if wide and window is not None:
            machine.place(wide[0], window)
        directory = machine.directory()
        missing = [name for name in _FILES if name not in directory]
        if missing:
            raise machine.error(f"it has no {missing[0]}")
        loader, rsdp, tables = (machine.file(*directory[name]) for name in _FILES)
        fw_cfg = {name: machine.file(*directory[name]) for name in FW_CFG_ITEMS if directory.get(name, (0, 0))[1]}
        fw_cfg["BootMenu"] = machine.file(_BOOT_MENU, 2)
    known = not wide or window is not None
    acpi = AcpiTables(loader=loader, rsdp=rsdp, tables=tables if known else None, placed=bool(wide) and known)
    return QemuTables(acpi=acpi, fw_cfg=fw_cfg)


class _Machine:
    """A halted machine and its test protocol, one line for each request and answer."""

    def __init__(self, command: Sequence[str], seconds: float) -> None:
        self._command = [
            *command,
            "-accel",
            "tcg",
            "-S",
            "-display",
            "none",
            "-qtest",
            "stdio",
            "-qtest-log",
            "/dev/null",
        ]
        self._seconds = seconds
        self._late = threading.Event()

    def __enter__(self) -> Self:
        self._errors: IO[bytes] = tempfile.TemporaryFile()
        try:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors
            )
        except OSError as exc:
            self._errors.close()
            raise MaterialUnavailable(f"QEMU: {self._command[0]}: {exc.strerror}") from exc
        self._timer = threading.Timer(self._seconds, self._stop)
        self._timer.daemon = True
        self._timer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        self._process.kill()  # it holds nothing that could be lost
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._errors):
            if pipe:
                try:
                    pipe.close()
                except BrokenPipeError:
                    continue

    def _stop(self) -> None:
        self._late.set()
        self._process.kill()

    def error(self, what: str) -> MaterialUnavailable:
        """An error with QEMU's last words."""
        if self._late.is_set():
            return MaterialUnavailable(f"QEMU: no answer within {self._seconds:g} s")
        self._process.kill()
        self._process.wait()
        self._errors.seek(0)
        said = " ".join(self._errors.read(1 << 16).decode("utf-8", "replace").split())[-_TAIL:]
        return MaterialUnavailable(f"QEMU: {what}{': ' + said if said else ''}")

    def _ask(self, request: str, room: int = 256) -> str:
        """Send a request, and return what follows OK in its answer."""
        assert self._process.stdin  # noqa: S101 - for the type checker
        assert self._process.stdout  # noqa: S101
        try:
            self._process.stdin.write(request.encode() + b"\n")
            self._process.stdin.flush()
            while (line := self._process.stdout.readline(room)).startswith(b"IRQ "):
                continue
        except OSError as exc:
            raise self.error("it ended") from exc
        if not line:
            raise self.error("it ended")
        if not line.startswith(b"OK") or not line.endswith(b"\n"):
            raise self.error(f"an answer that is not OK: {line[:80]!r}")
        return line[2:].decode("ascii", "replace").strip()

    def outl(self, port: int, value: int) -> None:
        """Write to an I/O port."""
        self._ask(f"outl {port:#x} {value:#x}")

    def _config(self, address: int) -> int:
        """Four bytes of a configuration space."""
        self.outl(_CONFIG_ADDRESS, address)
        try:
            return int(self._ask(f"inl {_CONFIG_DATA:#x}"), 16)
        except ValueError as exc:
            raise self.error("an answer that is not a number") from exc

    def wide_bars(self) -> list[int]:
        """Configuration addresses of 64-bit memory BARs on the first bus, and of bridges, behind which any may be."""
        found = []
        for slot in range(_BUS_SLOTS):
            for function in range(_FUNCTIONS):
                base = 1 << 31 | slot << 11 | function << 8
                if self._config(base | _VENDOR) & _ABSENT == _ABSENT:
                    if function == 0:
                        break
                    continue
                bridge = self._config(base | _HEADER_TYPE) >> 16 & 0x7F == _BRIDGE
                bars = [base | _FIRST_BAR + 4 * number for number in range(2 if bridge else _BARS)]
                wide = [bar for bar in bars if self._config(bar) & _BAR_KIND == _BAR_64]
                found += wide or ([base] if bridge else [])
        return found

    def place(self, bar: int, address: int) -> None:
        """Give a 64-bit BAR its place, as firmware does.

        Raises:
            MaterialUnavailable: there are devices behind a bridge, and none on the first bus to stand for them.
        """
        if bar & 0xFC < _FIRST_BAR:
            raise self.error("devices behind a bridge: where the firmware places them is not known to this side")
        self.outl(_CONFIG_ADDRESS, bar)
        self.outl(_CONFIG_DATA, address & 0xFFFFFFFF)
        self.outl(_CONFIG_ADDRESS, bar + 4)
        self.outl(_CONFIG_DATA, address >> 32)
        self.outl(_CONFIG_ADDRESS, bar & ~0xFF | _COMMAND_REGISTER)
        self.outl(_CONFIG_DATA, _MEMORY_ON)

    def file(self, key: int, size: int) -> bytes:
        """An item of the firmware configuration."""
        if size > MAX_FILE:
            raise self.error(f"a file of {size} bytes")
        command = (key << 16 | _READ).to_bytes(4, "big") + size.to_bytes(4, "big") + _BUFFER.to_bytes(8, "big")
        self._ask(f"write {_COMMAND:#x} {len(command)} 0x{command.hex()}")
        self.outl(_DMA_HIGH, 0)
        self.outl(_DMA_LOW, int.from_bytes(_COMMAND.to_bytes(4, "big"), "little"))
        if int.from_bytes(self._read(_COMMAND, 4), "big") & _ERROR:
            raise self.error(f"item {key:#x} cannot be read")
        return self._read(_BUFFER, size)

    def _read(self, address: int, size: int) -> bytes:
        if not size:
            return b""
        try:
            data = base64.b64decode(self._ask(f"b64read {address:#x} {size:#x}", 2 * size + 256), validate=True)
        except ValueError as exc:
            raise self.error("an answer that is not base64") from exc
        if len(data) != size:
            raise self.error(f"{len(data)} bytes instead of {size}")
        return data

    def directory(self) -> dict[str, tuple[int, int]]:
        """Key and size of every named item."""
        count = int.from_bytes(self.file(_DIRECTORY, 4), "big")
        if count > MAX_FILES:
            raise self.error(f"{count} files")
        raw = self.file(_DIRECTORY, 4 + count * _ENTRY)[4:]
        found = {}
        for at in range(0, len(raw), _ENTRY):
            size, key = int.from_bytes(raw[at : at + 4], "big"), int.from_bytes(raw[at + 4 : at + 6], "big")
            found[raw[at + 8 : at + _ENTRY].split(b"\0", 1)[0].decode("ascii", "replace")] = key, size
        return found
