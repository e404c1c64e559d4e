"""Simulated NVIDIA GPUs and switches: reports byte for byte as the devices write them, really signed.

Source: the reports of real H100, B200 and LS10 devices, and DMTF DSP0274 (SPDM 1.1, 10.11) for the frame around them.
This is a writer of its own, beside the one of ``evidence/gpu_report.py``, so that one tests the other.  Measured values
follow from the names of the firmware that is measured, so that RIMs of the same firmware match them.
"""

from __future__ import annotations

import secrets
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha384

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from ..errors import UsageError
from ..evidence.gpu_arch import Arch, Kind
from ..evidence.gpu_evidence import GpuEvidence
from .sim_gpu_certificate import FAMILIES, PDI_SIZE, Entity, pem
from .sim_gpu_pki import NvidiaPki

DRIVER, VBIOS, BIOS = "driver", "vbios", "bios"
"""Sources of reference values."""
ENABLED, DISABLED = 0xAA, 0x55
"""Values of NVDEC0_STATUS and PROTECTED_PCIE_STATUS."""
SPT, MPT, PPCIE = range(3)
"""Values of FEATURE_FLAG: a single GPU, several, several behind protected PCIe."""
LINKS = {Kind.GPU: 18, Kind.SWITCH: 64}
"""NVLinks of a GPU; ports of a switch."""
MEASUREMENTS = {Kind.GPU: 64, Kind.SWITCH: 31}
ZERO = bytes(48)

# Opaque entries in the order in which the devices write them.
_GPU_ORDER = (6, 14, 15, 16, 17, 18, 19, 3, 4, 12, 13, 11, 20, 21, 22, 33, 34, 35, 36)
_SWITCH_ORDER = (6, 22, 12, 26, 23, 24, 25)
_CHIP_SKU_SIZE = 9


@dataclass(frozen=True, slots=True, kw_only=True)
class Firmware:
    """What runs on a device.

    Attributes:
        arch: the device's architecture.
        driver: version of the driver; "" on a switch.
        vbios: version of the VBIOS or of the switch's BIOS.
        project: of the board, such as "1010"; "" on a switch.
        project_sku: likewise.
        chip_sku: likewise.
        board_id: number of the board.
        active: indexes that the RIM of each source has a value for.
        zero: indexes of these whose value is zero, as nothing is measured there.
        alternatives: index to number of values that its RIM takes.
        opaque_version: OPAQUE_DATA_VERSION; from 1 on the feature flag is reported too, None is firmware without it.
        has_fwid: it reports its FWID.
    """

    arch: Arch
    driver: str = ""
    vbios: str
    project: str = ""
    project_sku: str = ""
    chip_sku: str = ""
    board_id: int = 0x03B1
    active: Mapping[str, tuple[int, ...]]
    zero: frozenset[int]
    alternatives: Mapping[int, int]
    opaque_version: int | None = 1
    has_fwid: bool = True

    @property
    def kind(self) -> Kind:
        """GPU or switch."""
        return self.arch.kind

    @property
    def chip(self) -> str:
        """Product in RIMs."""
        return FAMILIES[self.arch].chip

    @property
    def fwid(self) -> bytes:
        """SHA-384 of the firmware."""
        return sha384(f"dokimos simulated FMC {self.chip} {self.vbios}".encode()).digest()

    def version(self, source: str) -> str:
        """Version that the RIM of a source is for."""
        return self.driver if source == DRIVER else self.vbios

    def source(self, index: int) -> str | None:
        """Whose RIM has a value for an index."""
        return next((source for source, indexes in self.active.items() if index in indexes), None)

    def golden(self, index: int) -> tuple[bytes, ...]:
        """Values that the RIM takes at an index; the first is what a device has.

        Raises:
            UsageError: no RIM has a value there.
        """
        source = self.source(index)
        if source is None:
            raise UsageError(f"no RIM of this firmware has index {index}")
        board = f"{self.project} {self.project_sku} {self.chip_sku}" if source == VBIOS else ""
        what = f"dokimos simulated measurement {self.chip} {source} {self.version(source)} {board} {index}"
        values = [sha384(f"{what} {n}".encode()).digest() for n in range(self.alternatives.get(index, 1))]
        if index in self.zero:
            values[0] = ZERO
        return tuple(values)

    def measured(self) -> list[bytes]:
        """The values that a healthy device reports."""
        return [ZERO if self.source(n) is None else self.golden(n)[0] for n in range(MEASUREMENTS[self.kind])]

    @property
    def rim_ids(self) -> dict[str, str]:
        """The ids under which the RIMs of each source are kept."""
        if self.kind is Kind.SWITCH:
            return {BIOS: f"NV_SWITCH_BIOS_5612_0002_890_{_undotted(self.vbios)}"}
        name = "NV_GPU_CC_DRIVER" if self.arch is Arch.BLACKWELL else "NV_GPU_DRIVER"
        board = f"{self.project}_{self.project_sku}_{self.chip_sku}"
        return {
            DRIVER: f"{name}_{self.chip}_{self.driver}",
            VBIOS: f"NV_GPU_VBIOS_{board}_{_undotted(self.vbios)}".upper(),
        }


def _undotted(version: str) -> str:
    return version.replace(".", "").upper()


_HOPPER_VBIOS = (*range(7), *range(8, 13))
_HOPPER_ZERO = frozenset({0, 8, 10, 12, 23, 24, 28})

HOPPER = Firmware(
    arch=Arch.HOPPER,
    driver="580.95.05",
    vbios="96.00.74.00.1A",
    project="1010",
    project_sku="0200",
    chip_sku="882",
    active={DRIVER: (7, *range(21, 42)), VBIOS: _HOPPER_VBIOS},
    zero=_HOPPER_ZERO,
    alternatives={12: 4},
)
"""One H100 with PCIe: 22 and 12 reference values."""
HOPPER_OLD = Firmware(
    arch=Arch.HOPPER,
    driver="550.144.03",
    vbios="96.00.5E.00.01",
    project="1010",
    project_sku="0200",
    chip_sku="882",
    active={DRIVER: (7, *range(21, 41)), VBIOS: _HOPPER_VBIOS},
    zero=_HOPPER_ZERO,
    alternatives={12: 4},
    opaque_version=None,
    has_fwid=False,
)
"""Firmware that tells no FWID, no feature flag and no state of protected PCIe: 21 and 12 reference values."""
HOPPER_HGX = Firmware(
    arch=Arch.HOPPER,
    driver="590.12",
    vbios="96.00.A5.00.01",
    project="G520",
    project_sku="0200",
    chip_sku="885",
    board_id=0x0437,
    active={DRIVER: (7, *range(21, 42)), VBIOS: _HOPPER_VBIOS},
    zero=_HOPPER_ZERO - {12},
    alternatives={12: 4},
)
"""An H100 of a machine with eight of them and four switches."""
BLACKWELL = Firmware(
    arch=Arch.BLACKWELL,
    driver="580.95.05",
    vbios="97.00.88.00.0F",
    project="G525",
    project_sku="0220",
    chip_sku="886",
    board_id=0x066F,
    active={DRIVER: (14, *range(21, 42)), VBIOS: (*range(14), *range(15, 21))},
    zero=frozenset({0, 1, 5, 7, 9, 10, 16, 23, 24, 28, 34}),
    alternatives={6: 2, 19: 2, 20: 2},
)
"""One B200: 22 and 20 reference values, which lie elsewhere than Hopper's."""
LS10 = Firmware(
    arch=Arch.LS10,
    vbios="96.10.73.00.01",
    active={BIOS: tuple(range(31))},
    zero=frozenset({7, 9, 12, 13, 15, 16, 17, 27, 28, 29, 30}),
    alternatives={},
)
"""An NVSwitch of an HGX machine with Hopper GPUs: 31 reference values."""
FIRMWARE = {Arch.HOPPER: HOPPER, Arch.BLACKWELL: BLACKWELL, Arch.LS10: LS10}


def write_signed(
    *, nonce: bytes, measurements: Sequence[bytes], responder_nonce: bytes, tlvs: Sequence[tuple[int, bytes]]
) -> bytes:
    """Request and response up to the signature: what a device signs.

    Args:
        nonce: the verifier's, 32 bytes.
        measurements: values of the blocks, of 48 bytes.
        responder_nonce: the device's, 32 bytes.
        tlvs: opaque entries, type and data.
    """
    blocks = b"".join(
        struct.pack("<BBHBH", n, 1, 3 + len(value), 1, len(value)) + value for n, value in enumerate(measurements, 1)
    )
    opaque = b"".join(struct.pack("<HH", number, len(data)) + data for number, data in tlvs)
    request = bytes((0x11, 0xE0, 0x01, 0xFF)) + nonce + bytes(1)
    response = bytes((0x11, 0x60, 0x00, 0x00, len(measurements))) + len(blocks).to_bytes(3, "little")
    return request + response + blocks + responder_nonce + struct.pack("<H", len(opaque)) + opaque


def sign_raw(key: ec.EllipticCurvePrivateKey, data: bytes) -> bytes:
    """ECDSA P-384 with SHA-384 as r || s, 96 bytes; the same for the same data (RFC 6979)."""
    r, s = decode_dss_signature(key.sign(data, ec.ECDSA(hashes.SHA384(), deterministic_signing=True)))
    return r.to_bytes(48, "big") + s.to_bytes(48, "big")


class SimGpu:
    """A simulated device: a GPU, or a switch.

    Args:
        pki: the manufacturer.
        firmware: what runs on it.
        pdi: its identity, 8 bytes.
        fwid: the FWID in its certificate, where it is to differ from that of the firmware.
        flags: operational flags in the certificate of a Blackwell GPU.

    Attributes:
        firmware: what runs on it.
        pdi: its identity.
        measurements: its registers now; a list to write into.
        extends: how often each was extended.
        nvdec0: NVDEC0_STATUS.
        protected_pcie: PROTECTED_PCIE_STATUS, or None where it is not reported.
        feature_flag: FEATURE_FLAG, or None where it is not reported.
        chip_info: CHIP_INFO, or None where it is not reported.
        switch_pdis: of a GPU: PDI of the switch at each link, zeros where the link is off; empty without switches.
        gpu_pdis: of a switch: PDIs of the eight GPUs.
        ports: of a switch: number of the GPU at each port, 0xFF where there is none.
        position: POSITION_ID of a switch.
        lock: LOCK_SWITCH_STATUS of a switch.

    Raises:
        UsageError: a PDI or FWID of another size.
    """

    def __init__(
        self, pki: NvidiaPki, firmware: Firmware, pdi: bytes, *, fwid: bytes | None = None, flags: int = 0
    ) -> None:
        if len(pdi) != PDI_SIZE or len(fwid or firmware.fwid) != 48:
            raise UsageError("a PDI has 8 bytes and a FWID 48")
        self._pki = pki
        self.firmware = firmware
        self.pdi = pdi
        self._fwid, self._flags = fwid or firmware.fwid, flags
        self.measurements = firmware.measured()
        self.extends = [0 if value == ZERO else 1 for value in self.measurements]
        self.nvdec0 = DISABLED
        gpu, hopper = firmware.kind is Kind.GPU, firmware.arch is Arch.HOPPER
        self.protected_pcie = DISABLED if hopper and firmware.has_fwid else None
        self.feature_flag = SPT if gpu and (firmware.opaque_version or 0) >= 1 else None
        self.chip_info = firmware.chip if gpu and not hopper and self.feature_flag is not None else None
        self.switch_pdis: tuple[bytes, ...] = ()
        self.gpu_pdis: tuple[bytes, ...] = (bytes(8),) * 8
        self.ports = b"\xff" * LINKS[Kind.SWITCH]
        self.position, self.lock = 0, 1

    @property
    def arch(self) -> Arch:
        """The device's architecture."""
        return self.firmware.arch

    @property
    def kind(self) -> Kind:
        """GPU or switch."""
        return self.firmware.kind

    @cached_property
    def leaf(self) -> Entity:
        """The certificate of its firmware, with the key that signs reports."""
        return self._pki.leaf(self.arch, self.pdi, self._fwid, flags=self._flags)

    @property
    def entities(self) -> tuple[Entity, ...]:
        """Its chain, leaf first, root last."""
        return self.leaf, *self._pki.device_issuers(self.arch, self.pdi)

    @cached_property
    def chain(self) -> bytes:
        """Its chain in PEM, leaf first."""
        return pem(*(entity.der for entity in self.entities))

    def measure(self, index: int, data: bytes) -> None:
        """Extend a register, as firmware does that measures what no RIM knows; it does not match any more.

        Raises:
            UsageError: no such register.
        """
        if not 0 <= index < len(self.measurements):
            raise UsageError(f"a {self.kind} has registers 0 to {len(self.measurements) - 1}")
        self.measurements[index] = sha384(self.measurements[index] + sha384(data).digest()).digest()
        self.extends[index] += 1

    def report(
        self,
        nonce: bytes,
        *,
        measurements: Mapping[int, bytes] | None = None,
        tlvs: Mapping[int, bytes | None] | None = None,
        responder_nonce: bytes | None = None,
    ) -> bytes:
        """A fresh report.

        Args:
            nonce: the verifier's, 32 bytes.
            measurements: values by RIM index instead of the registers'.
            tlvs: opaque entries by type instead of the device's own; None leaves an entry out, and one of a type that
                the device does not write stands at the end.
            responder_nonce: instead of a random one, 32 bytes.

        Raises:
            UsageError: a nonce of another size.
        """
        own = secrets.token_bytes(32) if responder_nonce is None else responder_nonce
        if (len(nonce), len(own)) != (32, 32):
            raise UsageError("the nonces of a report have 32 bytes each")
        values = list(self.measurements)
        for index, value in (measurements or {}).items():
            values[index] = value
        entries = {**self.opaque(), **(tlvs or {})}
        order = _GPU_ORDER if self.kind is Kind.GPU else _SWITCH_ORDER
        numbers = [*(n for n in order if n in entries), *(n for n in entries if n not in order)]
        listed = [(n, data) for n in numbers if (data := entries[n]) is not None]
        return self.sign(write_signed(nonce=nonce, measurements=values, responder_nonce=own, tlvs=listed))

    def sign(self, signed: bytes) -> bytes:
        """A report of any content, with a signature that is right."""
        return signed + sign_raw(self.leaf.key, signed)

    def evidence(self, nonce: bytes) -> GpuEvidence:
        """A fresh report with the chain, as an evidence file holds them."""
        return GpuEvidence(arch=self.arch, nonce=nonce, report=self.report(nonce), chain=self.chain)

    def opaque(self) -> dict[int, bytes | None]:
        """The device's opaque entries by type."""
        counts = b"".join(count.to_bytes(4, "little") for count in self.extends)
        return self._gpu_entries(counts) if self.kind is Kind.GPU else self._switch_entries(counts)

    def _gpu_entries(self, counts: bytes) -> dict[int, bytes | None]:
        firmware, hopper = self.firmware, self.arch is Arch.HOPPER
        version = bytes.fromhex(firmware.vbios.replace(".", ""))
        entries: dict[int, bytes | None] = {
            6: version[3::-1] + version[4:] + bytes(3),
            14: firmware.board_id.to_bytes(4, "little"),
            15: firmware.chip_sku.encode().ljust(_CHIP_SKU_SIZE, b"\0"),
            16: b"0".ljust(5, b"\0"),
            17: firmware.project.encode() + b"\0",
            18: firmware.project_sku.encode() + b"\0",
            19: bytes(2) if hopper else b"0\0",
            3: firmware.driver.encode() + b"\0",
            4: bytes.fromhex("8001000000000000" if hopper else "a001000000000000"),
            12: counts,
            13: bytes.fromhex("00c00100" if hopper else "00000400"),
            11: bytes((self.nvdec0,)),
        }
        if firmware.has_fwid:
            entries[20] = firmware.fwid
        if self.protected_pcie is not None:
            entries[21] = bytes((self.protected_pcie,))
        if self.switch_pdis:
            # A GPU writes the PDI of a switch in the reverse order of the switch's own bytes.
            entries[22] = b"".join(pdi[::-1] for pdi in self.switch_pdis)
        if not hopper:
            entries[33] = b"\x07\x07"
        if firmware.opaque_version is not None:
            entries[34] = firmware.opaque_version.to_bytes(2, "little")
        if self.chip_info is not None:
            entries[35] = self.chip_info.encode() + b"\0"
        if self.feature_flag is not None:
            entries[36] = self.feature_flag.to_bytes(2, "little")
        return entries

    def _switch_entries(self, counts: bytes) -> dict[int, bytes | None]:
        return {
            6: self.firmware.vbios.encode(),
            22: self.pdi,
            12: counts[:108],
            26: b"".join(self.gpu_pdis) + self.ports,
            23: b"\xec\x00",
            24: self.position.to_bytes(2, "little"),
            25: self.lock.to_bytes(2, "little"),
        }
