"""Options that describe the launch of a TD, shared by ``measure tdx`` and ``explain tdx``."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypedDict, TypeVar

import click

from ..codec import unhex
from ..errors import MaterialUnavailable, UsageError
from .render import read_file

if TYPE_CHECKING:
    from ..measurements.acpi_qtest import QemuTables
    from ..measurements.rtmr import AcpiTables
    from ..measurements.tdx import TdxLaunch
    from ..measurements.variable_store import SecureBootVariables

_FIRMWARE: Final = 64 << 20
_KERNEL: Final = 256 << 20
_INITRD: Final = 4 << 30
_UKI: Final = 1 << 30
_SMALL: Final = 4 << 20
_SIZE = re.compile(r"(\d{1,12})([KMGT])(?:i?B)?", re.IGNORECASE)
_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_VERSION = re.compile(r"(\d{1,3})\.(\d{1,3})(?:[.+-].*)?")
_GENERATIONS = ("pre202411", "202411", "202502", "202505", "202508")
_F = TypeVar("_F", bound=Callable[..., Any])


class LaunchOptions(TypedDict):
    """What click hands over for :data:`OPTIONS`."""

    firmware: str
    kernel: str | None
    initrd: str | None
    append: str | None
    uki: str | None
    disk: str | None
    memory: str | None
    vcpus: int
    qemu: str | None
    pci_window: str | None
    acpi: str | None
    secure_boot: str | None
    qemu_version: str | None
    kernel_form: str | None
    page_order: str | None
    firmware_profile: str | None
    digests: tuple[str, ...]
    machine: tuple[str, ...]


OPTIONS: Final = (
    click.option("--firmware", metavar="FILE", required=True, help="OVMF image, joined, with TDVF metadata."),
    click.option("--kernel", metavar="FILE", help="Kernel that QEMU gives to the firmware."),
    click.option("--initrd", metavar="FILE", help="Initial RAM disk beside the kernel."),
    click.option("--append", metavar="STR", help="Kernel command line, without what the firmware adds."),
    click.option("--uki", metavar="FILE", help="Unified kernel image on a disk, instead of a kernel."),
    click.option("--disk", metavar="FILE", help="That disk, for its partition table."),
    click.option("--memory", metavar="SIZE", help="Memory of the TD, as 2G or 2048M."),
    click.option("--vcpus", type=click.IntRange(1, 4096), default=1, show_default=True, help="Virtual processors."),
    click.option("--qemu", metavar="PATH", help="Take the ACPI tables from this QEMU; auto for the image builder's."),
    click.option("--pci-window", metavar="HEX", help="Lowest address of 64-bit BARs in the TD, for --qemu."),
    click.option("--acpi", metavar="DIR", help="Take the ACPI tables from files table-loader, rsdp and tables."),
    click.option(
        "--secure-boot", metavar="DIR", help="Files SecureBoot, PK, KEK, db, dbx, dbt instead of the image's."
    ),
    click.option("--qemu-version", metavar="X.Y", help="QEMU of the TD's host: page order, and what it patches."),
    click.option("--kernel-form", type=click.Choice(["raw", "patched"]), help="How the kernel is measured, if known."),
    click.option(
        "--page-order", type=click.Choice(["single-pass", "two-pass"]), help="Order of pages in MRTD, if known."
    ),
    click.option(
        "--firmware-profile", type=click.Choice(_GENERATIONS), help="Generation of edk2, if it cannot be told."
    ),
    click.option("--digest", "digests", metavar="EVENT=HEX", multiple=True, help="Digest of an event, by its id."),
)


def launch_options(function: _F) -> _F:
    """Add the options of a launch to a command, and QEMU's own arguments behind ``--``."""
    function = click.argument("machine", metavar="[-- QEMU_ARGUMENT...]", nargs=-1, type=click.UNPROCESSED)(function)
    for option in reversed(OPTIONS):
        function = option(function)
    return function


def read_launch(options: LaunchOptions) -> tuple[TdxLaunch, dict[str, str]]:
    """The launch that the options describe, and the SHA-256 of every file that went into it.

    Raises:
        MaterialUnavailable: a file, or QEMU, is not there.
        UsageError: options that do not go together.
    """
    from ..measurements.firmware_profile import Generation  # noqa: PLC0415 - help need not pay
    from ..measurements.mrtd import PageOrder  # noqa: PLC0415
    from ..measurements.qemu_kernel import KernelForm  # noqa: PLC0415
    from ..measurements.tdx import TdxLaunch  # noqa: PLC0415

    files: dict[str, bytes | None] = {
        "firmware": read_file(options["firmware"], "firmware", _FIRMWARE),
        "kernel": _file(options["kernel"], "kernel", _KERNEL),
        "initrd": _file(options["initrd"], "initrd", _INITRD),
        "uki": _file(options["uki"], "uki", _UKI),
    }
    boots = files["kernel"] is not None or files["uki"] is not None
    if boots and options["memory"] is None:
        raise UsageError("--memory is needed: the first event of RTMR0 depends on it")
    memory = _size(options["memory"]) if options["memory"] is not None else 1 << 30
    tables = _qemu_tables(options, memory)
    launch = TdxLaunch(
        firmware=files["firmware"] or b"",
        memory=memory,
        vcpus=options["vcpus"],
        kernel=files["kernel"],
        initrd=files["initrd"],
        append=options["append"],
        uki=files["uki"],
        disk=_head(options["disk"]),
        acpi=tables.acpi if tables else _acpi_folder(options["acpi"]),
        fw_cfg=tables.fw_cfg if tables else None,
        secure_boot=_variables(options["secure_boot"]),
        generation=Generation(options["firmware_profile"]) if options["firmware_profile"] else None,
        qemu=_version(options["qemu_version"]),
        kernel_form=KernelForm(options["kernel_form"]) if options["kernel_form"] else None,
        order=PageOrder(options["page_order"]) if options["page_order"] else None,
        digests=_digests(options["digests"]),
    )
    return launch, {f"{name}_sha256": sha256(data).hexdigest() for name, data in files.items() if data is not None}


def _file(path: str | None, what: str, limit: int) -> bytes | None:
    return None if path is None else read_file(path, what, limit)


def _size(text: str) -> int:
    match = _SIZE.fullmatch(text)
    if match is None:
        raise UsageError(f"--memory {text!r}: a number and a unit wanted, such as 2G or 2048M")
    return int(match.group(1)) * _UNITS[match.group(2).upper()]


def _version(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    match = _VERSION.fullmatch(text)
    if match is None:
        raise UsageError(f"--qemu-version {text!r}: a version wanted, such as 10.1")
    return int(match.group(1)), int(match.group(2))


def _digests(texts: tuple[str, ...]) -> dict[str, bytes]:
    found = {}
    for text in texts:
        name, equals, digits = text.partition("=")
        if not equals:
            raise UsageError(f"--digest {text!r}: EVENT=HEX wanted")
        found[name] = unhex(digits, f"--digest {name}", 48)
    return found


def _head(path: str | None) -> bytes | None:
    """The start of a disk; how long the disk is does not matter."""
    from ..measurements.rtmr_boot import DISK_HEAD  # noqa: PLC0415 - help need not pay

    if path is None:
        return None
    try:
        with Path(path).open("rb") as disk:
            return disk.read(DISK_HEAD)
    except OSError as exc:
        raise MaterialUnavailable(f"disk: {path}: {exc.strerror}") from exc


def _acpi_folder(path: str | None) -> AcpiTables | None:
    from ..measurements.rtmr import AcpiTables  # noqa: PLC0415 - help need not pay

    if path is None:
        return None
    loader, rsdp, tables = (
        read_file(str(Path(path) / name), f"ACPI {name}", _SMALL) for name in ("table-loader", "rsdp", "tables")
    )
    return AcpiTables(loader=loader, rsdp=rsdp, tables=tables)


def _variables(path: str | None) -> SecureBootVariables | None:
    from ..measurements.variable_store import SecureBootVariables  # noqa: PLC0415 - help need not pay

    if path is None:
        return None
    folder = Path(path)
    if not folder.is_dir():
        raise MaterialUnavailable(f"--secure-boot {path}: no folder")

    def content(name: str) -> bytes | None:
        return read_file(str(folder / name), name, _SMALL) if (folder / name).exists() else None

    return SecureBootVariables(
        secure_boot=content("SecureBoot") or b"",
        pk=content("PK") or b"",
        kek=content("KEK") or b"",
        db=content("db") or b"",
        dbx=content("dbx") or b"",
        dbt=content("dbt"),
    )


def _qemu_tables(options: LaunchOptions, memory: int) -> QemuTables | None:
    from ..measurements.acpi_qtest import qemu_arguments, read_tables  # noqa: PLC0415 - help need not pay

    if options["qemu"] is None:
        if options["machine"] or options["pci_window"]:
            raise UsageError("QEMU's arguments and --pci-window are for --qemu")
        return None
    if options["acpi"] is not None:
        raise UsageError("--qemu and --acpi both give the ACPI tables")
    arguments = qemu_arguments(memory=memory, vcpus=options["vcpus"], machine=options["machine"])
    if options["kernel"]:
        arguments += ["-kernel", options["kernel"]]
    window = options["pci_window"]
    try:
        address = int(window, 16) if window else None
    except ValueError as exc:
        raise UsageError(f"--pci-window {window!r} is not hex") from exc
    return read_tables([*_qemu_command(options["qemu"]), *arguments], window=address)


def _qemu_command(named: str) -> list[str]:
    """How QEMU is called: by path, or the image builder's where it is unpacked, or the one on the search path."""
    if named != "auto":
        return [named]
    from ..cvm_image.boot.machine import qemu_command  # noqa: PLC0415 - only who asks for it pays
    from ..cvm_image.boot.tools import qemu_tools  # noqa: PLC0415
    from ..cvm_image.lock import read_lock  # noqa: PLC0415
    from ..cvm_image.profile import lock_path  # noqa: PLC0415
    from ..cvm_image.store import Store  # noqa: PLC0415

    try:
        return qemu_command(qemu_tools(read_lock(lock_path("cpu")), Store(None), lambda *_: None))
    except MaterialUnavailable as exc:
        if shutil.which("qemu-system-x86_64"):
            return ["qemu-system-x86_64"]
        raise MaterialUnavailable(f"--qemu auto: {exc}, and there is no qemu-system-x86_64 on the path") from exc
