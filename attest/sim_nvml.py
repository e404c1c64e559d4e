"""A machine with GPUs that are not there: the interface of :mod:`.nvml`, and below it the C functions of the library.

:class:`SimGpus` plays the machine.  Every call can be made to fail, and every state set, so that all that can go wrong
in front of real GPUs can be tried without one.  :class:`SimNvmlLibrary` offers the same machine as ``libnvidia-ml``
does, in C functions that write structures through pointers, so that the binding (pynvml) and the reading of its
structures are tried too.  The layouts here are written down by offsets, independently of the binding's.

Nothing of it proves anything about hardware.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from ..errors import MaterialUnavailable, UnsupportedEvidence
from ..evidence.gpu_arch import Arch
from .nvml import Device, Environment, MultiGpu, Settings

HOPPER: Final = 9
"""NVML's number of the architecture."""
BLACKWELL: Final = 10
_SUCCESS: Final = 0
_INVALID_ARGUMENT: Final = 2
_NOT_SUPPORTED: Final = 3
_UNKNOWN: Final = 999
_REPORT_MAX: Final = 0x2000
_CEC_MAX: Final = 0x1000
_CERT_MAX: Final = 0x1000
_CHAIN_MAX: Final = 0x1400
_SETTINGS_VERSION: Final = 0x1000014
_FIRST_HANDLE: Final = 0x1000
_ENVIRONMENTS: Final = tuple(Environment)
_MODES: Final = tuple(MultiGpu)


def bare_report(nonce: bytes) -> bytes:
    """A report without measurements and without a signature, over this nonce; for tests of the transport."""
    request = b"\x11\xe0\x01\xff" + nonce + b"\x00"
    answer = b"\x11\x60\x00\x00\x00\x00\x00\x00" + bytes(32) + b"\x00\x00"
    return request + answer + bytes(96)


@dataclass(slots=True, kw_only=True)
class SimDevice:
    """One GPU.

    Attributes:
        uuid: NVIDIA's name for it.
        bus_id: its PCI address, written as in sysfs.
        architecture: NVML's number.
        report: makes its report over a nonce.
        chain: its certificate chain, PEM.
    """

    uuid: str = "GPU-00000000-0000-0000-0000-000000000000"
    bus_id: str = "0000:01:00.0"
    architecture: int = HOPPER
    report: Callable[[bytes], bytes] = bare_report
    chain: bytes = b"-----BEGIN CERTIFICATE-----\n"


@dataclass(slots=True, kw_only=True)
class SimGpus:
    """A machine with GPUs: a :class:`~dokimos.attest.nvml.GpuSystem` whose every answer can be set.

    Attributes:
        devices: its GPUs.
        cc_feature: confidential computing is on.
        environment: where.
        devtools: the mode for developers is on.
        multi_gpu: how several GPUs work together; None for a driver that does not know the question.
        is_ready: the GPUs take work.
        version: of the driver.
        faults: what a call raises, by its name; an entry is taken before anything else happens.
        stuck: setting the ready state does nothing, and says that all is well.
        on_call: told the name of each call before it is answered; may change the machine.
    """

    devices: list[SimDevice] = field(default_factory=lambda: [SimDevice()])
    cc_feature: bool = True
    environment: Environment = Environment.PRODUCTION
    devtools: bool = False
    multi_gpu: MultiGpu | None = MultiGpu.NONE
    is_ready: bool = False
    version: str = "580.95.05"
    faults: dict[str, Exception] = field(default_factory=dict)
    stuck: bool = False
    on_call: Callable[[str], None] = lambda _name: None

    def display_devices(self) -> tuple[str, ...]:
        """PCI addresses of the GPUs, as :func:`~dokimos.attest.nvml.display_devices` gives them."""
        self._called("display_devices")
        return tuple(sorted(device.bus_id for device in self.devices))

    def _called(self, name: str) -> None:
        self.on_call(name)
        if name in self.faults:
            raise self.faults[name]

    def _device(self, index: int) -> SimDevice:
        if not 0 <= index < len(self.devices):
            raise MaterialUnavailable(f"nvml: GPU {index}: not there")
        return self.devices[index]

    def driver_version(self) -> str:
        """See :class:`~dokimos.attest.nvml.GpuSystem`."""
        self._called("driver_version")
        return self.version

    def settings(self) -> Settings:
        """See :class:`~dokimos.attest.nvml.GpuSystem`."""
        self._called("settings")
        return Settings(
            cc_feature=self.cc_feature,
            environment=self.environment,
            devtools=self.devtools,
            multi_gpu=self.multi_gpu,
        )

    def ready(self) -> bool:
        """See :class:`~dokimos.attest.nvml.GpuSystem`."""
        self._called("ready")
        return self.is_ready

    def set_ready(self, ready: bool) -> None:
        """See :class:`~dokimos.attest.nvml.GpuSystem`."""
        self._called(f"set_ready {int(ready)}")
        if not self.stuck:
            self.is_ready = ready

    def count(self) -> int:
        """See :class:`~dokimos.attest.nvml.GpuSystem`."""
        self._called("count")
        return len(self.devices)

    def device(self, index: int) -> Device:
        """See :class:`~dokimos.attest.nvml.GpuSystem`."""
        self._called("device")
        found = self._device(index)
        arch = {HOPPER: Arch.HOPPER, BLACKWELL: Arch.BLACKWELL}.get(found.architecture)
        if arch is None:
            raise UnsupportedEvidence(f"nvml: GPU {index}: architecture {found.architecture}")
        return Device(arch, found.uuid, found.bus_id)

    def report(self, index: int, nonce: bytes) -> bytes:
        """See :class:`~dokimos.attest.nvml.GpuSystem`."""
        self._called("report")
        return self._device(index).report(nonce)

    def chain(self, index: int) -> bytes:
        """See :class:`~dokimos.attest.nvml.GpuSystem`."""
        self._called("chain")
        return self._device(index).chain


class SimNvmlLibrary:
    """The C functions of ``libnvidia-ml`` over a machine; stands where pynvml keeps the loaded library (``nvmlLib``).

    Args:
        machine: what is behind it.

    Attributes:
        machine: what is behind it.
        errors: return value of a function, by its name, in place of what it does.
        missing: functions that this driver does not have.
        numbers: numbers that are written in place of the machine's: environment, ccFeature, devToolsMode, multiGpuMode,
            ready.
        report_size: what is given as the size of a report, in place of the true one.
        chain_size: the same of a chain.
    """

    def __init__(self, machine: SimGpus) -> None:
        self.machine = machine
        self.errors: dict[str, int] = {}
        self.missing: set[str] = set()
        self.numbers: dict[str, int] = {}
        self.report_size: int | None = None
        self.chain_size: int | None = None
        word, pointer = ctypes.c_uint, ctypes.c_void_p
        self._functions: dict[str, tuple[Callable[..., int], tuple[Any, ...]]] = {
            "nvmlInitWithFlags": (self._nothing, (word,)),
            "nvmlShutdown": (self._nothing, ()),
            "nvmlSystemGetDriverVersion": (self._driver_version, (pointer, word)),
            "nvmlSystemGetConfComputeState": (self._state, (pointer,)),
            "nvmlSystemGetConfComputeSettings": (self._settings, (pointer,)),
            "nvmlSystemGetConfComputeGpusReadyState": (self._get_ready, (pointer,)),
            "nvmlSystemSetConfComputeGpusReadyState": (self._set_ready, (word,)),
            "nvmlDeviceGetCount_v2": (self._count, (pointer,)),
            "nvmlDeviceGetHandleByIndex_v2": (self._handle, (word, pointer)),
            "nvmlDeviceGetArchitecture": (self._architecture, (pointer, pointer)),
            "nvmlDeviceGetUUID": (self._uuid, (pointer, pointer, word)),
            "nvmlDeviceGetPciInfo_v3": (self._pci, (pointer, pointer)),
            "nvmlDeviceGetConfComputeGpuAttestationReport": (self._report, (pointer, pointer)),
            "nvmlDeviceGetConfComputeGpuCertificate": (self._certificate, (pointer, pointer)),
        }
        self._made: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in self._functions or name in self.missing:
            raise AttributeError(name)
        if name not in self._made:
            function, types = self._functions[name]
            self._made[name] = ctypes.CFUNCTYPE(ctypes.c_uint, *types)(self._guarded(name, function))
        return self._made[name]

    def _guarded(self, name: str, function: Callable[..., int]) -> Callable[..., int]:
        def called(*arguments: Any) -> int:
            self.machine.on_call(name)
            return self.errors[name] if name in self.errors else function(*arguments)

        return called

    def _nothing(self, *_arguments: Any) -> int:
        return _SUCCESS

    def _driver_version(self, out: int, size: int) -> int:
        return _write(out, self.machine.version.encode() + b"\x00", size)

    def _mode(self) -> tuple[int, int, int]:
        """Environment, ccFeature, devToolsMode: as the structures have them, side by side."""
        machine = self.machine
        return (
            self.numbers.get("environment", _ENVIRONMENTS.index(machine.environment)),
            self.numbers.get("ccFeature", int(machine.cc_feature)),
            self.numbers.get("devToolsMode", int(machine.devtools)),
        )

    def _state(self, out: int) -> int:
        return _write(out, struct.pack("<3I", *self._mode()), 12)

    def _settings(self, out: int) -> int:
        if self.machine.multi_gpu is None:
            return _NOT_SUPPORTED
        if struct.unpack("<I", ctypes.string_at(out, 4)) != (_SETTINGS_VERSION,):
            return _INVALID_ARGUMENT
        mode = self.numbers.get("multiGpuMode", _MODES.index(self.machine.multi_gpu))
        return _write(out + 4, struct.pack("<4I", *self._mode(), mode), 16)

    def _get_ready(self, out: int) -> int:
        return _write(out, struct.pack("<I", self.numbers.get("ready", int(self.machine.is_ready))), 4)

    def _set_ready(self, state: int) -> int:
        if not self.machine.stuck:
            self.machine.is_ready = bool(state)
        return _SUCCESS

    def _count(self, out: int) -> int:
        return _write(out, struct.pack("<I", len(self.machine.devices)), 4)

    def _handle(self, index: int, out: int) -> int:
        if index >= len(self.machine.devices):
            return _INVALID_ARGUMENT
        return _write(out, struct.pack("<Q", _FIRST_HANDLE + index), 8)

    def _device(self, handle: int) -> SimDevice:
        return self.machine.devices[handle - _FIRST_HANDLE]

    def _architecture(self, handle: int, out: int) -> int:
        return _write(out, struct.pack("<I", self._device(handle).architecture), 4)

    def _uuid(self, handle: int, out: int, size: int) -> int:
        return _write(out, self._device(handle).uuid.encode() + b"\x00", size)

    def _pci(self, handle: int, out: int) -> int:
        bus_id = self._device(handle).bus_id.upper()
        domain, bus, device = (int(part, 16) for part in bus_id.rpartition(".")[0].split(":"))
        numbers = (domain, bus, device, 0x233110DE, 0)
        return _write(out, struct.pack("<16s5I32s", bus_id.encode(), *numbers, b"0000" + bus_id.encode()), 68)

    def _report(self, handle: int, out: int) -> int:
        report = self._device(handle).report(ctypes.string_at(out + 12, 32))
        size = len(report) if self.report_size is None else self.report_size
        ctypes.memmove(out, struct.pack("<3I", 0, size, 0), 12)  # the nonce stands behind these three
        return _write(out + 44, report.ljust(_REPORT_MAX, b"\x00") + bytes(_CEC_MAX), _REPORT_MAX + _CEC_MAX)

    def _certificate(self, handle: int, out: int) -> int:
        chain = self._device(handle).chain
        size = len(chain) if self.chain_size is None else self.chain_size
        data = struct.pack("<2I", 0, size) + bytes(_CERT_MAX) + chain.ljust(_CHAIN_MAX, b"\x00")
        return _write(out, data, 8 + _CERT_MAX + _CHAIN_MAX)


def _write(out: int, data: bytes, limit: int) -> int:
    """Write through a pointer of the caller's; never past what the caller has there."""
    if not out or len(data) > limit:
        return _UNKNOWN
    ctypes.memmove(out, data, len(data))
    return _SUCCESS
