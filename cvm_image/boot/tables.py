"""The machines of a TD as its firmware finds them: ACPI tables out of the lock's QEMU, which never runs a guest."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ...measurements.acpi_qtest import qemu_arguments, read_tables
from ...measurements.image_tdx import MIB, PCI_WINDOW, TdxHost
from ..assemble.toolbox import Toolbox, processors
from .arguments import td_machine
from .machine import qemu_command


def td_hosts(tools: Toolbox, machines: Iterable[tuple[int, int]], *, disks: int, kernel: Path) -> list[TdxHost]:
    """The machines that ``image boot`` starts as TDs.

    Args:
        tools: QEMU, unpacked.
        machines: counts of virtual processors, and MiB of memory.
        disks: how many the machine has.
        kernel: the image's; that there is one is told in QEMU's configuration.

    Raises:
        MaterialUnavailable: QEMU does not start, or gives no tables.
    """
    # Never more at one time than there are processors: each start has a time limit.
    with ThreadPoolExecutor(processors()) as beside:
        return list(beside.map(lambda machine: _host(tools, *machine, disks=disks, kernel=kernel), machines))


def _host(tools: Toolbox, vcpus: int, memory: int, *, disks: int, kernel: Path) -> TdxHost:
    arguments = qemu_arguments(memory=memory * MIB, vcpus=vcpus, machine=td_machine(disks))
    found = read_tables([*qemu_command(tools), *arguments, "-kernel", str(kernel)], window=PCI_WINDOW)
    return TdxHost(vcpus=vcpus, memory=memory, acpi=found.acpi, fw_cfg=found.fw_cfg)
