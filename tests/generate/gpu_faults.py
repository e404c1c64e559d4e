"""What may be wrong with machines of several devices, none of which any device alone shows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from dokimos.attest.sim_gpu import LS10, MPT, Firmware
from dokimos.attest.sim_hgx import SimHgx
from tests.generate.gpu_machines import EVERY, OTHER, Machine, device, machine


def pair(
    first: int | None,
    second: int | None,
    *,
    other: Firmware = EVERY,
    numbers: tuple[int, int] = (0, 1),
    **options: Any,
) -> Machine:
    """Two GPUs with their feature flags."""
    settings = zip((EVERY, other), numbers, (first, second), strict=True)
    return machine(*(device(f, n, feature_flag=flag) for f, n, flag in settings), **options)


def same_report() -> Machine:
    """One report stands there twice."""
    made = machine()
    return Machine(made.devices * 2, made.evidence * 2, made.rims)


def two_firmwares_of_one_device() -> Machine:
    """Both certificates are below the one of the device's boot ROM."""
    old = replace(EVERY, has_fwid=False)
    devices = (device(old), device(old, fwid=bytes(48)))
    return machine(*devices)


def drop_link(made: SimHgx) -> None:
    """A GPU has no link to one of the switches."""
    made.drop_link(3, 2)


def other_gpu(made: SimHgx) -> None:
    """A GPU of another machine stands in the place of one; all lists still name the old one."""
    made.swap_gpu(4, device(made.gpus[0].firmware, 99))


def other_switch(made: SimHgx) -> None:
    """A switch of another machine stands in the place of one."""
    made.switches[1] = device(LS10, 99, gpu_pdis=made.switches[1].gpu_pdis, ports=made.switches[1].ports)


def one_list_of_gpus(made: SimHgx) -> None:
    """One switch names another GPU than its peers do."""
    made.switches[3].gpu_pdis = (OTHER * 8, *made.switches[3].gpu_pdis[1:])


def a_gpu_missing_in_one_list(made: SimHgx) -> None:
    """One switch names seven GPUs."""
    made.switches[3].gpu_pdis = (bytes(8), *made.switches[3].gpu_pdis[1:])


def a_gpu_wired_elsewhere(made: SimHgx) -> None:
    """A GPU has one link to a switch that is not there."""
    made.gpus[0].switch_pdis = (OTHER * 8, *made.gpus[0].switch_pdis[1:])


def no_list_of_switches(made: SimHgx) -> None:
    """A GPU says nothing of switches."""
    made.gpus[7].switch_pdis = ()


def lists_agree_but_certificates_do_not(made: SimHgx) -> None:
    """A switch says another PDI than its certificate, and every GPU says the same of it."""
    switch = made.switches[2]
    old, _, _ = switch.pdi, switch.chain, switch.leaf
    switch.pdi = OTHER * 8
    for gpu in made.gpus:
        gpu.switch_pdis = tuple(switch.pdi if pdi == old else pdi for pdi in gpu.switch_pdis)


def a_switch_says_another_pdi(made: SimHgx) -> None:
    """One switch says another PDI than its certificate, and all GPUs name the one of the certificate."""
    switch = made.switches[2]
    _, _ = switch.chain, switch.leaf
    switch.pdi = OTHER * 8


def all_switches_name_a_gpu_that_is_not_there(made: SimHgx) -> None:
    """All switches agree on eight GPUs, one of which did not attest."""
    gone = made.gpus[5].pdi
    for switch in made.switches:
        switch.gpu_pdis = tuple(OTHER * 8 if pdi == gone else pdi for pdi in switch.gpu_pdis)


def not_protected(made: SimHgx) -> None:
    """A GPU says that PCIe is not protected."""
    made.gpus[6].protected_pcie = 0x55


def protection_not_told(made: SimHgx) -> None:
    """A GPU says nothing of protected PCIe."""
    made.gpus[6].protected_pcie = None


def one_unlocked(made: SimHgx) -> None:
    """A switch is not locked."""
    made.switches[0].lock = 0


def without_two_switches(made: SimHgx) -> None:
    """Two switches did not attest."""
    del made.switches[2:]


def duplicate_switch(made: SimHgx) -> None:
    """One switch stands in the place of another too."""
    made.duplicate_switch(0, 3)


def one_gpu_in_another_mode(made: SimHgx) -> None:
    """One GPU is used without protected PCIe."""
    made.gpus[0].feature_flag, made.gpus[0].protected_pcie = MPT, 0x55


TOPOLOGY = (
    drop_link,
    other_gpu,
    other_switch,
    one_list_of_gpus,
    a_gpu_missing_in_one_list,
    a_gpu_wired_elsewhere,
    no_list_of_switches,
    lists_agree_but_certificates_do_not,
    a_switch_says_another_pdi,
    all_switches_name_a_gpu_that_is_not_there,
)
