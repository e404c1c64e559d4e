"""A simulated HGX machine: eight Hopper GPUs and four switches with protected PCIe, whose reports name each other."""

from __future__ import annotations

from hashlib import sha256

from ..errors import UsageError
from ..evidence.gpu_arch import Kind
from ..evidence.gpu_evidence import GpuEvidence
from .sim_gpu import ENABLED, HOPPER_HGX, LINKS, LS10, PPCIE, Firmware, SimGpu
from .sim_gpu_pki import NvidiaPki

GPUS, SWITCHES = 8, 4
_LINKS_OF = (5, 4, 4, 5)
"""Links of a GPU to each of the four switches."""
OFF = bytes(8)
"""PDI where a link is off."""


def derive_pdi(label: str) -> bytes:
    """A device's PDI."""
    return sha256(f"dokimos simulated PDI {label}".encode()).digest()[:8]


class SimHgx:
    """A machine with eight GPUs and four switches.

    Args:
        pki: the manufacturer.
        number: another machine has other devices.
        gpu: firmware of the GPUs.
        switch: firmware of the switches.

    Attributes:
        gpus: the GPUs; each names the switches that its links end at.
        switches: the switches; each names all GPUs.
    """

    def __init__(self, pki: NvidiaPki, *, number: int = 0, gpu: Firmware = HOPPER_HGX, switch: Firmware = LS10) -> None:
        self.gpus = [SimGpu(pki, gpu, derive_pdi(f"HGX {number} GPU {n}")) for n in range(GPUS)]
        self.switches = [SimGpu(pki, switch, derive_pdi(f"HGX {number} switch {n}")) for n in range(SWITCHES)]
        for n, device in enumerate(self.gpus):
            device.feature_flag, device.protected_pcie = PPCIE, ENABLED
            links = [s.pdi for s, count in zip(self.switches, _LINKS_OF, strict=True) for _ in range(count)]
            # The order differs from GPU to GPU, as the wires do.
            device.switch_pdis = tuple(links[n:] + links[:n])
        for n, device in enumerate(self.switches):
            device.position = n
            # Each switch numbers the GPUs in an order of its own, and says at which ports they are.
            device.gpu_pdis = tuple(self.gpus[(n + k) % GPUS].pdi for k in range(GPUS))
            ports = bytes(k for k in range(GPUS) for _ in range(_LINKS_OF[n]))
            device.ports = ports.rjust(LINKS[Kind.SWITCH], b"\xff")

    @property
    def devices(self) -> list[SimGpu]:
        """GPUs, then switches."""
        return [*self.gpus, *self.switches]

    def swap_gpu(self, number: int, other: SimGpu) -> None:
        """Put another GPU in a slot: it reports the links of the old one, and the switches still name the old one."""
        self._place(number, GPUS)
        old = self.gpus[number]
        other.switch_pdis, other.feature_flag, other.protected_pcie = old.switch_pdis, PPCIE, ENABLED
        self.gpus[number] = other

    def duplicate_switch(self, number: int, over: int) -> None:
        """Show one switch in the place of another too."""
        self._place(number, SWITCHES)
        self._place(over, SWITCHES)
        self.switches[over] = self.switches[number]

    def drop_link(self, gpu: int, switch: int) -> None:
        """Turn off all links between a GPU and a switch."""
        self._place(gpu, GPUS)
        self._place(switch, SWITCHES)
        gone, device = self.switches[switch].pdi, self.gpus[gpu]
        device.switch_pdis = tuple(OFF if pdi == gone else pdi for pdi in device.switch_pdis)

    def evidence(self, nonce: bytes) -> tuple[GpuEvidence, ...]:
        """Fresh reports of all devices, GPUs first."""
        return tuple(device.evidence(nonce) for device in self.devices)

    @staticmethod
    def _place(number: int, count: int) -> None:
        if not 0 <= number < count:
            raise UsageError(f"device {number}: the machine has {count} of this kind")
