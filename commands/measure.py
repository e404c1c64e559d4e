"""``dokimos measure``: what a platform must report for given files."""

from __future__ import annotations

import re
from hashlib import sha256
from importlib.metadata import version
from typing import TYPE_CHECKING

import click

from ..errors import UsageError
from .measure_gpu import gpu
from .measure_image import image
from .measure_tdx import tdx
from .render import console, print_digests, print_json, read_file

if TYPE_CHECKING:
    from ..measurements import snp

_FIRMWARE = 64 << 20
_KERNEL = 256 << 20
_INITRD = 4 << 30
_COUNTS = re.compile(r"(\d{1,4})(?:-(\d{1,4}))?")


@click.group()
def command() -> None:
    """Compute the measurement that a platform must report."""


command.add_command(gpu)
command.add_command(image)
command.add_command(tdx)


@command.command("snp")
@click.option("--ovmf", metavar="FILE", required=True, help="Firmware image with SEV metadata.")
@click.option("--kernel", metavar="FILE", help="Kernel that the host hands to the firmware.")
@click.option("--initrd", metavar="FILE", help="Initial RAM disk beside the kernel.")
@click.option("--append", metavar="STR", help="Kernel command line.")
@click.option("--vcpus", metavar="N[,M,...|A-B]", required=True, help="Numbers of virtual processors.")
@click.option("--vcpu-type", "types", metavar="T[,T...]", default="EPYC-v4", show_default=True, help="QEMU's -cpu.")
@click.option("--vmm", type=click.Choice(["qemu", "ec2", "gce"]), default="qemu", show_default=True, help="Monitor.")
@click.option("--guest-features", metavar="HEX", default="0x1", show_default=True, help="SEV_FEATURES of the guest.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")
def _snp(  # noqa: PLR0917 - one parameter per option
    ovmf: str,
    kernel: str | None,
    initrd: str | None,
    append: str | None,
    vcpus: str,
    types: str,
    vmm: str,
    guest_features: str,
    as_json: bool,
) -> None:
    """The launch digest (MEASUREMENT) of an SEV-SNP guest.

    One number and type of processors gives one digest; several give a table, for which the firmware is hashed once.
    """
    from ..measurements import snp  # noqa: PLC0415 - help need not pay

    launch = snp.SnpLaunch(
        ovmf=read_file(ovmf, "firmware", _FIRMWARE),
        kernel=read_file(kernel, "kernel", _KERNEL) if kernel else None,
        initrd=read_file(initrd, "initrd", _INITRD) if initrd else None,
        append=append,
        vmm=snp.Vmm(vmm),
        guest_features=_features(guest_features),
    )
    rows = snp.launch_digests(launch, _counts(vcpus), [name.strip() for name in types.split(",")])
    if as_json:
        print_json(_document(launch, rows))
    elif len(rows) == 1:
        click.echo(rows[0].digest.hex())
    else:
        title = f"Launch digests, {vmm} as modelled by sev-snp-measure {_tool_version()}"
        print_digests(console(), title, ((row.vcpus, row.vcpu_type, row.digest.hex()) for row in rows))


def _tool_version() -> str:
    """Version of sev-snp-measure: its model of a monitor is part of what a digest means."""
    return version("sev-snp-measure")


def _features(text: str) -> int:
    try:
        return int(text, 16)
    except ValueError as exc:
        raise UsageError(f"--guest-features {text!r} is not hex") from exc


def _counts(text: str) -> list[int]:
    counts: set[int] = set()
    for part in text.split(","):
        match = _COUNTS.fullmatch(part.strip())
        if match is None:
            raise UsageError(f"--vcpus {text!r}: numbers and ranges wanted, such as 1,2,4-8")
        first, last = int(match.group(1)), int(match.group(2) or match.group(1))
        if last < first:
            raise UsageError(f"--vcpus {text!r}: the range {part!r} is empty")
        counts |= set(range(first, last + 1))
    return sorted(counts)


def _document(launch: snp.SnpLaunch, rows: list[snp.Digest]) -> dict[str, object]:
    files = {"ovmf": launch.ovmf, "kernel": launch.kernel, "initrd": launch.initrd}
    return {
        "schema": "dokimos.measure.snp/v1",
        "inputs": {
            **{f"{name}_sha256": data and sha256(data).hexdigest() for name, data in files.items()},
            "append": launch.append,
        },
        "vmm": str(launch.vmm),
        "guest_features": f"{launch.guest_features:#x}",
        "sev_snp_measure": _tool_version(),
        "digests": [
            {
                "vcpus": row.vcpus,
                "vcpu_type": row.vcpu_type,
                "vcpu_sig": f"{row.vcpu_sig:#x}",
                "digest": row.digest.hex(),
            }
            for row in rows
        ],
    }
