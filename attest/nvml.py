"""Evidence of the GPUs, collected in the guest through NVML, the library of NVIDIA's driver.

What NVML says of the machine (confidential computing, DevTools, ready state) nobody signs: it holds as far as the guest
that asks is measured.  What it hands over of a device (report and chain) the device has signed, over the nonce.

NVSwitches are not among NVML's devices.  Their evidence takes another library (NSCQ), so that a machine in protected
PCIe mode, where the switches see plain data, cannot be attested with what is collected here.

Source: NVIDIA, NVML API reference, "Confidential Computing definitions" and its queries; structures as in nvidia-ml-py.
Not confirmed on hardware in confidential mode: tested against a stand-in for the library.
"""

from __future__ import annotations

import contextlib
import ctypes
import re
import threading
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Final, NamedTuple, Protocol, Self, TypeVar

from ..errors import Error, MaterialUnavailable, UnsupportedEvidence, UsageError
from ..evidence.gpu_arch import Arch
from ..evidence.gpu_evidence import DEVICES_MAX, GpuEvidence, GuestState
from ..evidence.gpu_part import GpuPart

NONCE_SIZE: Final = 32
PCI_DEVICES: Final = Path("/sys/bus/pci/devices")
"""Where Linux lists the devices on the PCI bus."""

_T = TypeVar("_T")
_NONCE_AT: Final = slice(4, 36)  # SPDM 1.1 GET_MEASUREMENTS, which the report repeats
_ARCHITECTURES: Final = MappingProxyType({9: Arch.HOPPER, 10: Arch.BLACKWELL})
_NVIDIA: Final = "0x10de"
_DISPLAY: Final = "0x03"  # the class; a GPU of a server is 0x0302, "3D controller"
_BUS_ID: Final = re.compile(r"([0-9a-f]{4,8}):([0-9a-f]{2}):([0-9a-f]{2})\.([0-7])", re.ASCII)
_ATTRIBUTE_MAX: Final = 64
_TEXT_MAX: Final = 64

_NOT_SUPPORTED: Final = 3
_NO_PERMISSION: Final = 4
_FUNCTION_NOT_FOUND: Final = 13
_VERSION_MISMATCH: Final = 25
_TEXTS: Final = MappingProxyType(
    {
        1: "the library is not initialised",
        2: "an argument was refused",
        _NOT_SUPPORTED: "not supported by this device in the mode that it is in",
        _NO_PERMISSION: "this takes root's rights",
        6: "not found",
        7: "a buffer is too small",
        9: "the driver is not loaded",
        10: "no answer in time",
        12: "the driver's library libnvidia-ml.so.1 is not there",
        _FUNCTION_NOT_FOUND: "the driver is too old for this",
        15: "the device is lost",
        16: "the device needs a reset",
        17: "the operating system refused",
        18: "driver and library are of different versions",
        19: "in use",
        _VERSION_MISMATCH: "the driver knows another version of the structure",
        27: "not ready",
        28: "no such device",
        29: "not in this state",
        999: "an unknown error of the driver",
    }
)


class Environment(StrEnum):
    """Where confidential computing takes place, by the names of :class:`~dokimos.evidence.gpu_evidence.GuestState`."""

    UNAVAILABLE = "unavailable"
    SIMULATION = "simulation"
    PRODUCTION = "production"


class MultiGpu(StrEnum):
    """How several GPUs work together."""

    NONE = "none"
    PROTECTED_PCIE = "protected PCIe"
    """Plain data between GPUs through the switches, which must be attested too; the CC feature may read as off."""
    NVLE = "NVLink encryption"


_ENVIRONMENTS: Final = (Environment.UNAVAILABLE, Environment.SIMULATION, Environment.PRODUCTION)
_MULTI_GPU: Final = (MultiGpu.NONE, MultiGpu.PROTECTED_PCIE, MultiGpu.NVLE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the driver says of confidential computing.

    Attributes:
        cc_feature: it is on.
        environment: where.
        devtools: the mode for developers is on, in which data can be looked at.
        multi_gpu: how several GPUs work together; None where the driver is too old to say.
    """

    cc_feature: bool
    environment: Environment
    devtools: bool
    multi_gpu: MultiGpu | None


class Device(NamedTuple):
    """What NVML calls a device by.

    Attributes:
        arch: its architecture.
        uuid: NVIDIA's name for it.
        bus_id: its PCI address, written as in sysfs.
    """

    arch: Arch
    uuid: str
    bus_id: str


class GpuSystem(Protocol):
    """The GPUs of this machine; every call may raise UnsupportedEvidence or MaterialUnavailable."""

    def driver_version(self) -> str:
        """Version of the driver."""

    def settings(self) -> Settings:
        """The mode of the machine."""

    def ready(self) -> bool:
        """Whether the GPUs take work."""

    def set_ready(self, ready: bool) -> None:
        """Have the GPUs take work, or refuse it; takes root's rights."""

    def count(self) -> int:
        """Number of GPUs."""

    def device(self, index: int) -> Device:
        """One of them, from 0."""

    def report(self, index: int, nonce: bytes) -> bytes:
        """Its attestation report over a nonce of 32 bytes."""

    def chain(self, index: int) -> bytes:
        """Its certificate chain, PEM, the leaf first."""


def _error(what: str, code: int) -> Error:
    """The typed error for a return value of NVML."""
    message = f"nvml: {what}: {_TEXTS.get(code, f'error {code}')}"
    if code in (_NOT_SUPPORTED, _FUNCTION_NOT_FOUND, _VERSION_MISMATCH):
        return UnsupportedEvidence(message)
    return MaterialUnavailable(message)


def _binding() -> Any:
    try:
        import pynvml  # noqa: PLC0415 - an optional extra that only a guest with GPUs has
    except ImportError as exc:
        raise MaterialUnavailable("nvidia-ml-py is not installed: pip install 'dokimos[gpu]'") from exc
    return pynvml


class Nvml:
    """The real GPUs; usable between ``with`` and its end, from any thread.

    Args:
        library: stands for pynvml; None for the real one.

    Raises:
        MaterialUnavailable: nvidia-ml-py is not installed.
    """

    def __init__(self, library: Any = None) -> None:
        self._library = _binding() if library is None else library

    def __enter__(self) -> Self:
        self._call("start", "nvmlInit")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(UnsupportedEvidence, MaterialUnavailable):
            self._call("end", "nvmlShutdown")

    def _call(self, what: str, name: str, *arguments: Any) -> Any:
        """One function of the library.

        Raises:
            UnsupportedEvidence: the device, the driver or the binding does not offer it.
            MaterialUnavailable: any other error.
        """
        function = getattr(self._library, name, None)
        if function is None:
            raise UnsupportedEvidence(f"nvml: {what}: the installed nvidia-ml-py is too old for this")
        try:
            return function(*arguments)
        except self._library.NVMLError as exc:
            raise _error(what, exc.value) from exc
        except UnicodeDecodeError as exc:
            raise MaterialUnavailable(f"nvml: {what}: not printable ASCII characters") from exc

    def driver_version(self) -> str:
        """See :class:`GpuSystem`."""
        return _text("driver version", self._call("driver version", "nvmlSystemGetDriverVersion"))

    def settings(self) -> Settings:
        """See :class:`GpuSystem`."""
        try:
            found = self._settings()
        except UnsupportedEvidence:  # a driver before the structure with the mode of several GPUs
            found = self._call("state", "nvmlSystemGetConfComputeState")
            multi_gpu = None
        else:
            multi_gpu = _one_of(_MULTI_GPU, found.multiGpuMode, "multi-GPU mode")
        return Settings(
            cc_feature=_flag(found.ccFeature, "CC feature"),
            environment=_one_of(_ENVIRONMENTS, found.environment, "CC environment"),
            devtools=_flag(found.devToolsMode, "DevTools mode"),
            multi_gpu=multi_gpu,
        )

    def _settings(self) -> Any:
        structure = getattr(self._library, "c_nvmlSystemConfComputeSettings_v1_t", None)
        if structure is None:
            raise UnsupportedEvidence("nvml: settings: the installed nvidia-ml-py is too old for this")
        settings = structure()
        # This one function of the binding neither takes the reference itself nor looks at the return value: a
        # structure by value crashes the process, and an unseen error would leave zeros, which mean "off" and "none".
        code = self._call("settings", "nvmlSystemGetConfComputeSettings", ctypes.byref(settings))
        if code != 0:
            raise _error("settings", code)
        return settings

    def ready(self) -> bool:
        """See :class:`GpuSystem`."""
        return _flag(self._call("ready state", "nvmlSystemGetConfComputeGpusReadyState"), "ready state")

    def set_ready(self, ready: bool) -> None:
        """See :class:`GpuSystem`."""
        self._call("setting the ready state", "nvmlSystemSetConfComputeGpusReadyState", int(ready))

    def count(self) -> int:
        """See :class:`GpuSystem`."""
        return int(self._call("number of devices", "nvmlDeviceGetCount"))

    def _handle(self, index: int) -> Any:
        return self._call(f"GPU {index}", "nvmlDeviceGetHandleByIndex", index)

    def device(self, index: int) -> Device:
        """See :class:`GpuSystem`."""
        handle, what = self._handle(index), f"GPU {index}"
        number = self._call(f"{what}, architecture", "nvmlDeviceGetArchitecture", handle)
        arch = _ARCHITECTURES.get(number)
        if arch is None:
            raise UnsupportedEvidence(f"nvml: {what}: architecture {number} is not one whose reports are verified")
        uuid = _text(f"{what}, uuid", self._call(f"{what}, uuid", "nvmlDeviceGetUUID", handle))
        pci = self._call(f"{what}, PCI address", "nvmlDeviceGetPciInfo", handle)
        return Device(arch, uuid, _bus_id(pci.busId))

    def report(self, index: int, nonce: bytes) -> bytes:
        """See :class:`GpuSystem`.

        Raises:
            UsageError: a nonce of another size.
            UnsupportedEvidence: the GPU is not in confidential mode.
            MaterialUnavailable: no report, or one of another nonce.
        """
        if len(nonce) != NONCE_SIZE:
            raise UsageError(f"a GPU takes a nonce of {NONCE_SIZE} bytes")
        what = f"GPU {index}, attestation report"
        made = self._call(what, "nvmlDeviceGetConfComputeGpuAttestationReport", self._handle(index), bytes(nonce))
        report = _cut(made.attestationReport, made.attestationReportSize, what)
        if report[_NONCE_AT] != nonce:
            raise MaterialUnavailable(f"nvml: {what}: it carries another nonce")
        return report

    def chain(self, index: int) -> bytes:
        """See :class:`GpuSystem`."""
        what = f"GPU {index}, certificate chain"
        made = self._call(what, "nvmlDeviceGetConfComputeGpuCertificate", self._handle(index))
        return _cut(made.attestationCertChain, made.attestationCertChainSize, what)


def _cut(array: Any, size: int, what: str) -> bytes:
    """The used part of a structure's array."""
    if not 0 < size <= len(array):
        raise MaterialUnavailable(f"nvml: {what}: a size of {size} bytes, of {len(array)}")
    return bytes(array[:size])


def _flag(value: int, what: str) -> bool:
    return _one_of((False, True), value, what)


def _one_of(values: tuple[_T, ...], number: int, what: str) -> _T:
    """A number's meaning; one that is not known is no reason to guess."""
    if not 0 <= number < len(values):
        raise MaterialUnavailable(f"nvml: {what}: {number} is not a value that is known")
    return values[number]


def _text(what: str, value: object) -> str:
    if type(value) is not str or not 0 < len(value) <= _TEXT_MAX or not value.isascii() or not value.isprintable():
        raise MaterialUnavailable(f"nvml: {what}: not 1 to {_TEXT_MAX} printable ASCII characters")
    return value


def _bus_id(value: bytes | str) -> str:
    """A PCI address as sysfs writes it: NVML's has eight digits of the domain, in capitals."""
    text = value.decode("ascii", "replace") if isinstance(value, bytes) else value
    found = _BUS_ID.fullmatch(text.lower())
    if found is None:
        raise MaterialUnavailable("nvml: what it gives is not a PCI address")
    domain, bus, device, function = found.groups()
    return f"{int(domain, 16):04x}:{bus}:{device}.{function}"


def display_devices(root: Path = PCI_DEVICES) -> tuple[str, ...]:
    """PCI addresses of NVIDIA's display devices, whether or not the driver knows them.

    A GPU that the driver leaves out, or that another driver holds, is in the machine all the same.

    Args:
        root: where the devices are listed.

    Raises:
        MaterialUnavailable: the list or a device's attribute cannot be read.
    """
    try:
        return tuple(sorted(folder.name for folder in root.iterdir() if _is_display(folder)))
    except (OSError, UnicodeDecodeError) as exc:
        raise MaterialUnavailable(f"{root}: the devices on the PCI bus cannot be listed: {exc}") from exc


def _is_display(folder: Path) -> bool:
    return _attribute(folder / "vendor") == _NVIDIA and _attribute(folder / "class").startswith(_DISPLAY)


def _attribute(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(_ATTRIBUTE_MAX).decode("ascii").strip().lower()


def collect(system: GpuSystem, nonce: bytes) -> tuple[GpuEvidence, ...]:
    """Fresh evidence of every GPU, in NVML's order.

    Args:
        system: the GPUs.
        nonce: 32 bytes that each report must carry.

    Raises:
        UsageError: a nonce of another size.
        UnsupportedEvidence: a GPU that is not in confidential mode, or of an architecture that is not verified.
        MaterialUnavailable: no GPU, too many of them, or one that gives no evidence.
    """
    if len(nonce) != NONCE_SIZE:
        raise UsageError(f"a GPU takes a nonce of {NONCE_SIZE} bytes")
    count = system.count()
    if not 1 <= count <= DEVICES_MAX:
        raise MaterialUnavailable(f"nvml: {count} devices, where 1 to {DEVICES_MAX} can be attested")
    return tuple(
        GpuEvidence(
            arch=system.device(index).arch,
            nonce=nonce,
            report=system.report(index, nonce),
            chain=system.chain(index),
        )
        for index in range(count)
    )


def guest_state(system: GpuSystem) -> GuestState:
    """What the guest says of its GPUs, and no GPU signs.

    Raises:
        UnsupportedEvidence: the driver does not tell.
        MaterialUnavailable: it could not be asked.
    """
    settings = system.settings()
    return GuestState(
        cc_feature=settings.cc_feature,
        environment=settings.environment.value,
        devtools=settings.devtools,
        ready=system.ready(),
        driver_version=system.driver_version(),
    )


class NvmlSource:
    """A :class:`~dokimos.attest.attester.GpuSource` on NVML: evidence of every GPU with what the guest says of them.

    Args:
        system: the GPUs.
        rims: reference integrity manifests that are handed out beside.
        crls: revocation lists in DER.
        ocsp: stored OCSP responses in DER.
    """

    def __init__(
        self,
        system: GpuSystem,
        *,
        rims: tuple[bytes, ...] = (),
        crls: tuple[bytes, ...] = (),
        ocsp: tuple[bytes, ...] = (),
    ) -> None:
        self._system = system
        self._rims, self._crls, self._ocsp = rims, crls, ocsp
        self._lock = threading.Lock()

    def collect(self, nonce: bytes) -> GpuPart:
        """See :class:`~dokimos.attest.attester.GpuSource`; errors as of :func:`collect` and :func:`guest_state`."""
        # One after the other, so that many clients at once do not keep the watch of the gate from asking.
        with self._lock:
            devices, state = collect(self._system, nonce), guest_state(self._system)
        return GpuPart(
            devices=devices,
            state=state,
            rims=self._rims,
            crls=self._crls,
            ocsp=self._ocsp,
        )
