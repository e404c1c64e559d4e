"""``dokimos image lock``, ``fetch`` and ``bundle``: from a profile to exact files."""

from __future__ import annotations

from pathlib import Path

import click

from ..errors import UsageError
from .model import progress

_MIRROR = click.option(
    "--mirror",
    metavar="URL",
    multiple=True,
    help="A Debian mirror; several are asked in turn. By default those of this host's apt settings.",
)
_STORE = click.option("--store", metavar="DIR", help="Where the files lie; by default the user's cache.")
_LOCK = click.option("--lock", metavar="FILE", help="The lock; by default the one beside the profile.")


@click.command()
@click.argument("profile")
@click.option("-o", "--output", metavar="FILE", help="The lock; by default beside the profile.")
@_MIRROR
@_STORE
@click.option("--allow-expired", metavar="SUITE", multiple=True, help="Accept this suite's index past its Valid-Until.")
@click.option("--keyring", metavar="FILE", help="Keys of the Debian archive; by default this host's.")
def lock(  # noqa: PLR0917 - one parameter per option
    profile: str,
    output: str | None,
    mirror: tuple[str, ...],
    store: str | None,
    allow_expired: tuple[str, ...],
    keyring: str | None,
) -> None:
    """Resolve PROFILE, a file or the name of a built-in one, to exact files, and write its lock.

    Needs apt, which runs in a private root: this host is not touched, and the archive's signatures are verified.
    """
    from ..cvm_image.apt import KEYRING, given_mirrors, host_mirrors  # noqa: PLC0415 - help need not pay
    from ..cvm_image.lock import format_lock  # noqa: PLC0415
    from ..cvm_image.profile import load_profile, lock_path  # noqa: PLC0415
    from ..cvm_image.resolve import resolve  # noqa: PLC0415
    from ..cvm_image.store import Store  # noqa: PLC0415

    declared = load_profile(profile)
    unknown = set(allow_expired) - {suite.suite for suite in declared.suites}
    if unknown:
        raise UsageError(f"--allow-expired {min(unknown)}: the profile has no such suite")
    place = Path(output) if output else lock_path(profile)
    with progress() as told:
        made = resolve(
            declared,
            mirrors=given_mirrors(mirror) if mirror else host_mirrors(),
            store=Store(Path(store) if store else None),
            allow_expired=allow_expired,
            keyring=Path(keyring) if keyring else KEYRING,
            progress=told,
        )
    try:
        place.write_text(format_lock(made))
    except OSError as exc:
        raise UsageError(f"{place}: {exc.strerror}") from exc
    size = sum(deb.size for deb in made.debs) + sum(wheel.size for wheel in made.wheels)
    click.echo(f"{place}: {len(made.debs)} packages, {len(made.wheels)} wheels, {size / 1e6:.0f} MB")


@click.command()
@click.argument("profile")
@_LOCK
@_MIRROR
@_STORE
@click.option("--jobs", type=click.IntRange(1, 32), default=8, show_default=True, help="Downloads at one time.")
def fetch(profile: str, lock: str | None, mirror: tuple[str, ...], store: str | None, jobs: int) -> None:
    """Fetch what the lock of PROFILE names into the store; whatever comes is accepted by size and SHA-256 only."""
    from ..cvm_image.fetch import fetch as fetch_all  # noqa: PLC0415 - help need not pay
    from ..cvm_image.lock import read_lock  # noqa: PLC0415
    from ..cvm_image.profile import lock_path  # noqa: PLC0415
    from ..cvm_image.store import Store  # noqa: PLC0415

    locked = read_lock(Path(lock) if lock else lock_path(profile))
    files = Store(Path(store) if store else None)
    with progress() as told:
        fetch_all(locked, files, progress=told, mirrors=mirror or None, jobs=jobs)
    click.echo(f"all files of {locked.profile} are in {files.folder}")


@click.group()
def bundle() -> None:
    """Carry all locked files as one file, to rebuild offline when no mirror has them any more."""


@bundle.command("export")
@click.argument("profile")
@click.argument("file")
@_LOCK
@_STORE
def _export(profile: str, file: str, lock: str | None, store: str | None) -> None:
    """Write everything that the lock of PROFILE names, and the lock, into FILE."""
    from ..cvm_image.lock import read_lock  # noqa: PLC0415 - help need not pay
    from ..cvm_image.profile import lock_path  # noqa: PLC0415
    from ..cvm_image.store import Store  # noqa: PLC0415
    from ..cvm_image.store_bundle import export_bundle  # noqa: PLC0415

    locked = read_lock(Path(lock) if lock else lock_path(profile))
    with progress() as told:
        export_bundle(locked, Store(Path(store) if store else None), Path(file), progress=told)
    click.echo(f"{file}: {Path(file).stat().st_size / 1e6:.0f} MB")


@bundle.command("import")
@click.argument("file")
@click.option("--write-lock", metavar="FILE", help="Write the bundle's lock.")
@_STORE
def _import(file: str, write_lock: str | None, store: str | None) -> None:
    """Bring the files of the bundle FILE into the store, each by its hash."""
    from ..cvm_image.lock import format_lock  # noqa: PLC0415 - help need not pay
    from ..cvm_image.store import Store  # noqa: PLC0415
    from ..cvm_image.store_bundle import import_bundle  # noqa: PLC0415

    with progress() as told:
        locked = import_bundle(Path(file), Store(Path(store) if store else None), progress=told)
    if write_lock:
        try:
            Path(write_lock).write_text(format_lock(locked))
        except OSError as exc:
            raise UsageError(f"{write_lock}: {exc.strerror}") from exc
    click.echo(f"{locked.profile}: {len(locked.debs)} packages, {len(locked.wheels)} wheels")
