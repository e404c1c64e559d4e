"""Any bytes are a PE image with a hash, a kernel that QEMU patches, a disk with partitions, or one of our errors."""

from __future__ import annotations

import contextlib

from dokimos.errors import Error
from dokimos.measurements.authenticode import authenticode, parse_pe
from dokimos.measurements.qemu_kernel import patched_kernel
from dokimos.measurements.rtmr_boot import UKI_SECTIONS, gpt_event
from dokimos.measurements.synthetic_pe import synthetic_kernel, synthetic_pe, synthetic_uki

_KERNEL = synthetic_kernel(size=0x800)
_DISK = (bytes(512) + b"EFI PART" + bytes(64) + b"\2\0\0\0\0\0\0\0\2\0\0\0\x80\0\0\0").ljust(1024, b"\0") + b"x" * 256
SEEDS: list[bytes] = [
    _KERNEL,
    synthetic_uki(kernel=_KERNEL, cmdline="quiet", initrd=b"initrd"),
    synthetic_pe(((b".text", b"x"),), plus=False, tail=b"tail", certificates=b"certificates"),
    _DISK,
]


def one_input(data: bytes) -> None:
    """Hash it, look for every section, patch it, and read it as a disk."""
    with contextlib.suppress(Error):
        image = parse_pe(data)
        assert len(authenticode(image)) == 48
        for name in UKI_SECTIONS:
            with contextlib.suppress(Error):
                image.section(name.encode())
    with contextlib.suppress(Error):
        assert len(patched_kernel(data, initrd_size=100, memory=1 << 30, append="vga=1")) == len(data)
    with contextlib.suppress(Error):
        assert gpt_event(data).startswith(b"EFI PART")
