"""``dokimos image build``."""

from __future__ import annotations

import json
import time
from pathlib import Path

import click

from .model import progress
from .render import console, print_json
from .show_image import print_measurements


@click.command()
@click.argument("profile")
@click.option("-o", "--output", metavar="DIR", help="Folder of the image; by default the profile's name.")
@click.option("--lock", metavar="FILE", help="The lock; by default the one beside the profile.")
@click.option("--store", metavar="DIR", help="Where the locked files lie; by default the user's cache.")
@click.option("--append", metavar="OPTION", multiple=True, help="One more option of the kernel's command line.")
@click.option("--uki", is_flag=True, help="Make a unified kernel image too, for machines that start one by UEFI.")
@click.option("--keep-archives", is_flag=True, help="Leave the archives that the file systems were made of.")
@click.option("--quiet", is_flag=True, help="Print nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the manifest on standard output.")
def build(  # noqa: PLR0917 - one parameter per option
    profile: str,
    output: str | None,
    lock: str | None,
    store: str | None,
    append: tuple[str, ...],
    uki: bool,
    keep_archives: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Build the image of PROFILE, a file or the name of a built-in one, out of locked files in the store.

    Needs no network, no root and no tool of this machine; whoever builds from the same lock gets the same bytes.
    """
    from ..cvm_image import layout  # noqa: PLC0415 - help need not pay
    from ..cvm_image.assemble.build import build as build_image  # noqa: PLC0415
    from ..cvm_image.lock import read_lock  # noqa: PLC0415
    from ..cvm_image.profile import load_profile, lock_path  # noqa: PLC0415
    from ..cvm_image.store import Store  # noqa: PLC0415

    declared = load_profile(profile)
    locked = read_lock(Path(lock) if lock else lock_path(profile))
    folder = Path(output or declared.name)
    started = time.monotonic()
    options = {"keep_archives": keep_archives, "append": append, "uki": uki}
    files = Store(Path(store) if store else None)
    if quiet:
        manifest = build_image(declared, locked, files, folder, told=lambda *_: None, **options)  # type: ignore[arg-type]
    else:
        with progress() as told:
            manifest = build_image(declared, locked, files, folder, told=told, **options)  # type: ignore[arg-type]
    if as_json:
        print_json(json.loads((folder / layout.MANIFEST).read_text()))
    elif not quiet:
        _show(folder, time.monotonic() - started, len(manifest.artifacts))


def _show(folder: Path, seconds: float, files: int) -> None:
    from rich.table import Table  # noqa: PLC0415 - help need not pay

    from ..cvm_image import layout  # noqa: PLC0415
    from ..measurements.image import parse_measurements  # noqa: PLC0415

    out = console()
    manifest = layout.read_manifest(folder)
    table = Table(title=f"Image {manifest.profile} in {folder}", title_justify="left", title_style="bold")
    for column in ("part", "size", "SHA-256 or root hash"):
        table.add_column(column, overflow="fold", justify="right" if column == "size" else "left")
    for volume in manifest.volumes:
        size = manifest.artifact(volume.file).size
        table.add_row(f"{volume.name} ({volume.filesystem}, dm-verity)", f"{size / 1e6:.1f} MB", volume.root_hash)
    measured = parse_measurements((folder / layout.MEASUREMENTS).read_text())
    firmware = (layout.FIRMWARE_SNP, layout.FIRMWARE_TDX) if measured.tdx else (layout.FIRMWARE_SNP,)
    for name in (layout.KERNEL, layout.INITRD, *firmware):
        part = manifest.artifact(name)
        table.add_row(name, f"{part.size / 1e6:.1f} MB", part.sha256)
    out.print(table)
    print_measurements(out, measured)
    out.print(f"[dim]{files} files, {seconds:.1f} s[/dim]")
