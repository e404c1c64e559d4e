"""QEMU's arguments for an image: the same disks, kernel, initrd and command line on every platform."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from ...attest.sim_port import GPU_PORT_NAME, PORT_NAMES, Tee
from ...errors import UsageError
from .. import layout
from ..layout import Manifest

TD_MACHINE: Final = "pc-q35-10.0,smm=off,pic=off"
"""A named version: later QEMU make the same tables for it, and RTMR0 holds.  What is off, TDX switches off anyway."""
_SNP_POLICY: Final = 0x30000
"""Guest policy: the reserved bit 17 and SMT allowed; no debugging, no migration (AMD 56860, table "Guest Policy")."""
_QUOTING: Final = '"quote-generation-socket":{"type":"vsock","cid":"2","port":"4050"}'
"""Where Intel's quoting service listens on a host, as its packages set it up."""
_ADDRESS_BITS: Final = 46
"""Physical addresses of the emulated machine: with fewer, OVMF would place BARs elsewhere than on a host with TDX."""


def qemu_arguments(
    folder: Path,
    manifest: Manifest,
    *,
    port: int,
    secure_processor: Path | None,
    gpus: Path | None = None,
    tee: Tee = Tee.SNP,
    command_line: str | None = None,
    kernel: Path | None = None,
    initrd: Path | None = None,
    images: Sequence[Path] = (),
) -> list[str]:
    """Arguments after the program's name.

    Args:
        folder: of the image.
        manifest: its manifest.
        port: TCP port on loopback that leads to the guest's.
        secure_processor: UNIX socket of the simulated secure processor, for emulation in software; None for a host
            with the real one.
        gpus: UNIX socket of the machine's simulated GPUs, beside the secure processor; None for a machine without.
        tee: what the guest is started as, or what is simulated.
        command_line: another one than the image's, for showing what is refused.
        kernel: another one.
        initrd: another one.
        images: other disks, in the order of the manifest's volumes; empty for the image's own.

    Raises:
        UsageError: a path holds a comma, which QEMU's options cannot carry.
    """
    disks = list(images) or [folder / volume.file for volume in manifest.volumes]
    for path in (folder, *disks, *filter(None, (secure_processor, gpus))):
        if "," in str(path):
            raise UsageError(f"{path}: a path with a comma cannot be given to QEMU")
    boot = manifest.boot
    arguments = ["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]
    arguments += ["-smp", str(boot.vcpus), "-m", str(boot.memory)]
    if secure_processor:
        arguments += _emulated(folder, tee)
    else:
        arguments += _snp(folder, manifest) if tee is Tee.SNP else _tdx(folder)
    arguments += ["-kernel", str(kernel or folder / layout.KERNEL), "-initrd", str(initrd or folder / layout.INITRD)]
    arguments += ["-append", manifest.command_line if command_line is None else command_line]
    for number, disk in enumerate(disks):
        arguments += ["-drive", f"file={disk},if=none,id=disk{number},format=raw,readonly=on,cache.no-flush=on"]
    arguments += ["-netdev", f"user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:{port}-:{boot.port}"]
    arguments += _devices(len(disks))
    arguments += ["-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console"]
    if secure_processor:
        # Behind the devices of the real machine, which so have the places that they have there.
        arguments += _ports({PORT_NAMES[tee]: secure_processor} | ({GPU_PORT_NAME: gpus} if gpus else {}))
    return arguments


def _devices(disks: int) -> list[str]:
    """The machine's devices; their order is their place on the bus, which its ACPI tables tell."""
    devices = [part for number in range(disks) for part in ("-device", f"virtio-blk-pci,drive=disk{number}")]
    return [*devices, "-device", "virtio-net-pci,netdev=net,romfile="]


def td_machine(disks: int) -> list[str]:
    """The machine that a TD gets, with nothing behind its devices: what its firmware is told of it is the same.

    Args:
        disks: how many it has.
    """
    empty = [f"driver=null-co,node-name=disk{number},read-only=on" for number in range(disks)]
    return [
        *("-machine", TD_MACHINE),
        *(part for node in empty for part in ("-blockdev", node)),
        *("-netdev", "hubport,id=net,hubid=0"),
        *_devices(disks),
        *("-serial", "null"),
    ]


def _emulated(folder: Path, tee: Tee) -> list[str]:
    """Software emulation, named explicitly: a fall-back would take a half-working KVM where one is."""
    emulation = ["-accel", "tcg,thread=multi"]
    if tee is Tee.SNP:
        return ["-machine", "q35", *emulation, "-cpu", "max"]
    processor = f"max,phys-bits={_ADDRESS_BITS}"
    return ["-machine", TD_MACHINE, *emulation, "-cpu", processor, "-bios", str(folder / layout.FIRMWARE_TDX)]


def _ports(sockets: dict[str, Path]) -> list[str]:
    """One device for all ports; a console would be the first one."""
    arguments = ["-device", f"virtio-serial-pci,max_ports={len(sockets) + 1}"]
    for number, (name, path) in enumerate(sockets.items()):
        arguments += ["-chardev", f"socket,id=port{number},path={path}"]
        arguments += ["-device", f"virtserialport,chardev=port{number},name={name}"]
    return arguments


def _snp(folder: Path, manifest: Manifest) -> list[str]:
    """A host with SEV-SNP; not confirmed on hardware."""
    boot = manifest.boot
    guest = f"sev-snp-guest,id=sev0,cbitpos=51,reduced-phys-bits=1,kernel-hashes=on,policy={_SNP_POLICY:#x}"
    return [
        *("-machine", "q35,confidential-guest-support=sev0,memory-backend=ram"),
        *("-accel", "kvm", "-cpu", boot.vcpu_type),
        *("-object", f"memory-backend-memfd,id=ram,size={boot.memory}M,share=true"),
        *("-object", guest, "-bios", str(folder / layout.FIRMWARE_SNP)),
    ]


def _tdx(folder: Path) -> list[str]:
    """A host with TDX; not confirmed on hardware."""
    return [
        *("-machine", f"{TD_MACHINE},kernel-irqchip=split,confidential-guest-support=tdx0"),
        *("-accel", "kvm", "-cpu", "host"),
        *("-object", f'{{"qom-type":"tdx-guest","id":"tdx0",{_QUOTING}}}'),
        *("-bios", str(folder / layout.FIRMWARE_TDX)),
    ]
