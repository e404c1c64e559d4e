"""``dokimos measure image``: what a built image must measure, recomputed from its files alone."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import ExitCode, UsageError
from .model import progress
from .render import console, print_json, read_file
from .show_image import print_measurements
from .write_statement import write_statement

if TYPE_CHECKING:
    from ..cvm_image.layout import Manifest
    from ..measurements.image import Change, Measurements
    from ..measurements.image_tdx import TdxImage

_LIMIT = 256 << 20


@click.command()
@click.argument("folder", metavar="DIR")
@click.option("--diff", metavar="OLD", help="Folder of another image: tell which input moved a digest.")
@click.option("--store", metavar="DIR", help="Where the locked files lie; by default the user's cache.")
@click.option("-o", "--output", metavar="FILE", help="Write the image's statement, to be signed, if nothing differs.")
@click.option("--build", metavar="ROLE:VERSION:NUMBER", help="What the statement calls this build.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")
def image(
    folder: str, *, diff: str | None, store: str | None, output: str | None, build: str | None, as_json: bool
) -> None:
    """Recompute launch digests, registers and root hashes of the image in DIR and compare with what it says of itself.

    RTMR0 of a TD has the ACPI tables of its machine: they come from the QEMU of the image's lock, out of the store.
    Ends with 10 where they differ.
    """
    from ..cvm_image import layout  # noqa: PLC0415 - help need not pay
    from ..measurements.image import explain, parse_measurements  # noqa: PLC0415

    if (output is None) != (build is None):
        raise UsageError("--output and --build go together")
    place = Path(folder)
    manifest = layout.read_manifest(place)
    written = parse_measurements(_text(place / layout.MEASUREMENTS))
    found = _recompute(place, manifest, written, Path(store) if store else None)
    wrong = [*explain(written, found), *_volumes(place, manifest)]
    if output and build:
        wrong += _artifacts(place, manifest)
    changes: tuple[Change, ...] = ()
    if diff:
        old = Path(diff)
        lines = _text(old / layout.COMMAND_LINE), _text(place / layout.COMMAND_LINE)
        changes = explain(parse_measurements(_text(old / layout.MEASUREMENTS)), found, lines)
    if as_json:
        document = {**asdict(found), "wrong": [asdict(item) for item in wrong]}
        print_json({**document, "changes": [asdict(item) for item in changes]} if diff else document)
    else:
        _show(found, wrong, changes, compared=bool(diff))
    if wrong:
        raise click.exceptions.Exit(ExitCode.REJECTED)
    if output and build:
        write_statement(output, place, manifest, found, build)


def _text(path: Path) -> str:
    return read_file(str(path), path.name, _LIMIT).decode("utf-8", "replace")


def _recompute(place: Path, manifest: Manifest, written: Measurements, store: Path | None) -> Measurements:
    from ..cvm_image import layout  # noqa: PLC0415 - help need not pay
    from ..measurements.image import Measurements, snp_measurements  # noqa: PLC0415

    snp = snp_measurements(
        firmware=read_file(str(place / layout.FIRMWARE_SNP), "firmware", _LIMIT),
        kernel=read_file(str(place / layout.KERNEL), "kernel", _LIMIT),
        initrd=read_file(str(place / layout.INITRD), "initrd", _LIMIT),
        command_line=_text(place / layout.COMMAND_LINE),
        vcpus=list(dict.fromkeys(row.vcpus for row in written.snp.digests)),
        vcpu_types=list(dict.fromkeys(row.vcpu_type for row in written.snp.digests)),
    )
    return Measurements(snp=snp, tdx=_recompute_td(place, manifest, written.tdx, store) if written.tdx else None)


def _recompute_td(place: Path, manifest: Manifest, written: TdxImage, store: Path | None) -> TdxImage:
    from ..cvm_image import layout  # noqa: PLC0415 - help need not pay
    from ..cvm_image.boot.arguments import TD_MACHINE  # noqa: PLC0415
    from ..cvm_image.boot.tables import td_hosts  # noqa: PLC0415
    from ..cvm_image.boot.tools import qemu_tools  # noqa: PLC0415
    from ..cvm_image.lock import read_lock  # noqa: PLC0415
    from ..cvm_image.store import Store  # noqa: PLC0415
    from ..measurements.image_tdx import tdx_image  # noqa: PLC0415

    with progress() as told:
        tools = qemu_tools(read_lock(place / layout.LOCK), Store(store), told)
    machines = [(row.vcpus, row.memory) for row in written.machines]
    return tdx_image(
        firmware=read_file(str(place / layout.FIRMWARE_TDX), "firmware", _LIMIT),
        kernel=read_file(str(place / layout.KERNEL), "kernel", _LIMIT),
        initrd=read_file(str(place / layout.INITRD), "initrd", _LIMIT),
        command_line=_text(place / layout.COMMAND_LINE),
        machine=TD_MACHINE,
        hosts=td_hosts(tools, machines, disks=len(manifest.volumes), kernel=place / layout.KERNEL),
    )


def _volumes(place: Path, manifest: Manifest) -> list[Change]:
    """Root hashes that are not those of the files, or that the command line does not carry."""
    from ..cvm_image.assemble.volume import data_chunks, option  # noqa: PLC0415 - help need not pay
    from ..measurements.image import Change  # noqa: PLC0415
    from ..measurements.verity import root_hash  # noqa: PLC0415

    wrong = []
    line = _text(place / "cmdline")
    for volume in manifest.volumes:
        found = root_hash(data_chunks(place / volume.file, volume.data_blocks), bytes.fromhex(volume.salt)).hex()
        if found != volume.root_hash:
            wrong.append(Change(what=f"root hash of {volume.name}", old=volume.root_hash, new=found))
        if option(volume) not in line.split():
            wrong.append(Change(what="option", old=option(volume), new=None))
    return wrong


def _artifacts(place: Path, manifest: Manifest) -> list[Change]:
    """Files that are not those of the manifest, or that are none of its command line: no statement may name them."""
    from ..cvm_image import layout  # noqa: PLC0415 - help need not pay
    from ..measurements.image import Change  # noqa: PLC0415

    named = {item.name: item.sha256 for item in manifest.artifacts}
    named |= {layout.LOCK: manifest.lock_sha256, layout.PROFILE: manifest.profile_sha256}
    found = {name: layout.file_hash(place / name) for name in named}
    wrong = [Change(what=name, old=named[name], new=found[name]) for name in named if named[name] != found[name]]
    line = _text(place / layout.COMMAND_LINE)
    if line != manifest.command_line:
        wrong.append(Change(what="command line", old=manifest.command_line, new=line))
    return wrong


def _show(found: Measurements, wrong: list[Change], changes: tuple[Change, ...], *, compared: bool) -> None:
    out = console()
    print_measurements(out, found, ", recomputed")
    for item in wrong:
        out.print(f"[bold red]differs[/] {item.what}: the image says {item.old}, its files say {item.new}")
    if compared:
        for item in changes:
            out.print(f"{item.what}: {item.old or 'not there'} -> {item.new or 'not there'}", soft_wrap=True)
        out.print("[bold]no digest moved[/]" if not changes else "")
    out.print("[bold red]DIFFERENT[/]" if wrong else "[bold green]as the image says of itself[/]")
