"""Whether the GPUs and switches of a machine are wired to each other, and to nothing else (protected PCIe).

Every GPU lists the PDI (per-device identifier) of the switch at the end of each of its links, and every switch those of
its GPUs.  A PDI is only a number in a report; what makes it an identity is that the device's boot ROM certificate has
it for a serial number, behind one byte for the kind of device.  So each list is compared with certificates, not with
other lists alone: a device that is left out, added or exchanged is found even if all the others agree.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ..evidence.gpu_arch import Kind
from ..evidence.gpu_report import GpuReport

HGX_GPUS: Final = 8
HGX_SWITCHES: Final = 4

_NO_LINK = bytes(8)
_NO_GPU = (bytes(8), b"\xff" * 8)
"""Places of a switch's list that hold no GPU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One device of the machine.

    Attributes:
        subject: its name in the result.
        report: its verified report.
        pdi: the PDI in its boot ROM certificate, 8 bytes; None where the certificate has none.
    """

    subject: str
    report: GpuReport
    pdi: bytes | None


def topology_fault(nodes: tuple[Node, ...]) -> str:
    """What is wrong with the wiring, or "" where every list is the one that the certificates give.

    Args:
        nodes: every device of the machine.
    """
    gpus = [node for node in nodes if node.report.kind is Kind.GPU]
    switches = [node for node in nodes if node.report.kind is Kind.SWITCH]
    if (len(gpus), len(switches)) != (HGX_GPUS, HGX_SWITCHES):
        return (
            f"{len(gpus)} GPUs and {len(switches)} switches; a machine with protected PCIe has"
            f" {HGX_GPUS} and {HGX_SWITCHES}"
        )
    for node in nodes:
        if node.pdi is None:
            return f"{node.subject}: its boot ROM certificate names no PDI"
    fault = _switches(gpus, {node.pdi for node in switches}) or _gpus(switches, {node.pdi for node in gpus})
    return fault or _own(switches)


def _switches(gpus: list[Node], expected: set[bytes | None]) -> str:
    """Every GPU is linked to each of the switches, and to no other; the report has their PDIs byte-reversed."""
    for gpu in gpus:
        listed = gpu.report.switch_pdis
        if listed is None:
            return f"{gpu.subject}: the report lists no switches"
        found = {pdi[::-1] for pdi in listed if pdi != _NO_LINK}
        if found != expected:
            return f"{gpu.subject}: its links lead to other switches than those whose certificates are here"
    return ""


def _gpus(switches: list[Node], expected: set[bytes | None]) -> str:
    for switch in switches:
        listed = switch.report.gpu_pdis
        if listed is None:
            return f"{switch.subject}: the report lists no GPUs"
        if {pdi for pdi in listed if pdi not in _NO_GPU} != expected:
            return f"{switch.subject}: it connects other GPUs than those whose certificates are here"
    return ""


def _own(switches: list[Node]) -> str:
    for switch in switches:
        if switch.report.device_pdi != switch.pdi:
            return f"{switch.subject}: the PDI in its report is not that of its certificate"
    return ""
