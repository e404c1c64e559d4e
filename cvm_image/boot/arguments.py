"""QEMU's arguments for an image: the same disks, kernel, initrd and command line on every platform."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from ...attest.sim_port import PORT_NAME
from ...errors import UsageError
from .. import layout
from ..layout import Manifest

_SNP_POLICY: Final = 0x30000
"""Guest policy: the reserved bit 17 and SMT allowed; no debugging, no migration (AMD 56860, table "Guest Policy")."""


def qemu_arguments(
    folder: Path,
    manifest: Manifest,
    *,
    port: int,
    secure_processor: Path | None,
    command_line: str | None = None,
    initrd: Path | None = None,
    images: Sequence[Path] = (),
) -> list[str]:
    """Arguments after the program's name.

    Args:
        folder: of the image.
        manifest: its manifest.
        port: TCP port on loopback that leads to the guest's.
        secure_processor: UNIX socket of the simulated secure processor, for emulation in software; None for a host with
            SEV-SNP.
        command_line: another one than the image's, for showing what is refused.
        initrd: another one.
        images: other disks, in the order of the manifest's volumes; empty for the image's own.

    Raises:
        UsageError: a path holds a comma, which QEMU's options cannot carry.
    """
    disks = list(images) or [folder / volume.file for volume in manifest.volumes]
    for path in (folder, *disks, *((secure_processor,) if secure_processor else ())):
        if "," in str(path):
            raise UsageError(f"{path}: a path with a comma cannot be given to QEMU")
    boot = manifest.boot
    arguments = ["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]
    arguments += ["-smp", str(boot.vcpus), "-m", str(boot.memory)]
    arguments += _emulated(secure_processor) if secure_processor else _snp(folder, manifest)
    arguments += ["-kernel", str(folder / layout.KERNEL), "-initrd", str(initrd or folder / layout.INITRD)]
    arguments += ["-append", manifest.command_line if command_line is None else command_line]
    for number, disk in enumerate(disks):
        arguments += ["-drive", f"file={disk},if=none,id=disk{number},format=raw,readonly=on,cache.no-flush=on"]
        arguments += ["-device", f"virtio-blk-pci,drive=disk{number}"]
    arguments += ["-netdev", f"user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:{port}-:{boot.port}"]
    arguments += ["-device", "virtio-net-pci,netdev=net,romfile="]
    arguments += ["-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console"]
    return arguments


def _emulated(secure_processor: Path) -> list[str]:
    """Software emulation, named explicitly: a fall-back would take a half-working KVM where one is."""
    return [
        *("-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "max"),
        *("-device", "virtio-serial-pci,max_ports=2"),
        *("-chardev", f"socket,id=sp,path={secure_processor}"),
        *("-device", f"virtserialport,chardev=sp,name={PORT_NAME}"),
    ]


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
