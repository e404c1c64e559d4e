"""Why an event of a TD's log has another digest than expected: what can be found out by trying."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final

from ..errors import Error, MalformedEvidence
from ..evidence.ccel import DataCheck, Event, check_data
from ..evidence.uefi import variable
from .authenticode import authenticode_sha384
from .firmware_profile import InitrdOption
from .qemu_kernel import KernelForm, patched_kernel
from .rtmr import sha384
from .rtmr_boot import load_options
from .td_hob import USUAL_SIZES, find_memory
from .tdvf import parse_tdvf
from .tdx import TdxLaunch, boot_profile

_GIB: Final = 1 << 30
_MIB: Final = 1 << 20
_ALIKE: Final = 8
"""Kernels that are hashed at most: it takes 10 ms each, and their form depends on memory in a few steps only."""


def cause(launch: TdxLaunch, name: str, event: Event) -> str:
    """What a differing event comes from, in a few words.

    Args:
        launch: what was expected.
        name: id of the expected event.
        event: of the log.
    """
    tell = _CAUSES.get(name)
    if tell is not None:
        return tell(launch, event)
    for prefix, text in _BY_PREFIX.items():
        if name.startswith(prefix):
            return text
    return "another content"


def size_text(size: int) -> str:
    """A memory size as people write it."""
    if size % _GIB == 0:
        return f"{size // _GIB} GiB"
    return f"{size // _MIB} MiB" if size % _MIB == 0 else f"{size} bytes"


def _memory(launch: TdxLaunch, event: Event) -> str:
    size = find_memory(parse_tdvf(launch.firmware), event.digest)
    if size is None:
        return "another memory size, none of the usual ones, or firmware with other sections"
    return f"the TD has {size_text(size)} of memory, not {size_text(launch.memory)}"


def _variables(launch: TdxLaunch, event: Event) -> str:
    del launch
    if check_data(event) is not DataCheck.MATCHES:
        return "another content of the variable; the log's data is not what was measured"
    try:
        found = variable(event.data)
    except MalformedEvidence:
        return "another content of the variable"
    if found.name == "SecureBoot":
        return "Secure Boot is on" if found.data == b"\x01" else "Secure Boot is off or not built in"
    return f"another content of the variable, {len(found.data)} bytes"


def _kernel(launch: TdxLaunch, event: Event) -> str:
    for form, memory, digest in _kernels(launch):
        if digest == event.digest:
            if form is KernelForm.RAW:
                return (
                    "the kernel is the expected one, and measured as it is: QEMU has not patched it (--kernel-form raw)"
                )
            where = "" if memory == launch.memory else f" for {size_text(memory)} of memory"
            return f"the kernel is the expected one, as QEMU patches it{where} (--kernel-form patched)"
    return "another kernel, or one that QEMU patched for another initial RAM disk"


def _kernels(launch: TdxLaunch) -> Iterator[tuple[KernelForm, int, bytes]]:
    """The launch's kernel in every form that it may have been measured in."""
    kernel = launch.kernel or b""
    yield KernelForm.RAW, launch.memory, authenticode_sha384(kernel)
    size = None if launch.initrd is None else len(launch.initrd)
    seen: set[bytes] = set()
    for memory in (launch.memory, *USUAL_SIZES):
        try:
            patched = patched_kernel(kernel, initrd_size=size, memory=memory, append=launch.append or "")
        except Error:
            continue
        header = patched[:0x1000]
        if header not in seen and len(seen) < _ALIKE:
            seen.add(header)
            yield KernelForm.PATCHED, memory, authenticode_sha384(patched)


def _command_line(launch: TdxLaunch, event: Event) -> str:
    profile, append = boot_profile(launch), launch.append or ""
    for option in InitrdOption:
        other = replace(profile, initrd_option=option)
        for initrd in (True, False):
            options = load_options(other, append, initrd=initrd)
            if options is not None and sha384(options) == event.digest:
                where = f"initrd=initrd as {option}" if initrd else "no initrd"
                return f"the command line is the expected one, with {where}"
    return "another command line"


def _initrd(launch: TdxLaunch, event: Event) -> str:
    del launch, event
    return "another initial RAM disk"


_Tell = Callable[[TdxLaunch, Event], str]
_CAUSES: dict[str, _Tell] = {
    "td-hob": _memory,
    "kernel": _kernel,
    "command-line": _command_line,
    "initrd": _initrd,
    **dict.fromkeys(("SecureBoot", "PK", "KEK", "db", "dbx", "dbt"), _variables),
}
_BY_PREFIX: Final = {
    "cfv": "another variable store in the firmware image",
    "fw-cfg:": "another setting of the host's QEMU",
    "acpi:": "other ACPI tables: another QEMU, other devices, processors or memory",
    "smbios": "other SMBIOS tables: another QEMU, other processors or memory",
    "authority": "another key by which the image was allowed",
    "boot": "other boot options: other disks or network cards, or other firmware",
    "gpt": "another partition table",
    "uki-kernel": "another kernel in the unified kernel image",
    "uki": "another unified kernel image",
    ".": "another content of this section of the unified kernel image",
    "late-separator": "an error before the boot",
    "separator": "an error before the boot",
}
