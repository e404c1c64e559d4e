"""What changed between two images: packages, files, options, volumes and digests."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ...errors import MaterialUnavailable
from ...measurements.image import Change, Measurements, explain, parse_measurements
from .. import layout
from ..lock import Lock, read_lock
from .compare import Difference, file_differences


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageDiff:
    """What changed.

    Attributes:
        packages: packages, wheels and models by name: old and new version, None where there is none.
        files: of every volume and the initrd.
        measured: inputs of the measurement, options of the command line, root hashes and launch digests.
    """

    packages: tuple[Change, ...]
    files: tuple[Difference, ...]
    measured: tuple[Change, ...]

    @property
    def identical(self) -> bool:
        """Whether nothing changed."""
        return not (self.packages or self.files or self.measured)


def diff(old: Path, new: Path) -> ImageDiff:
    """Compare two images.

    Raises:
        MaterialUnavailable: one of them is not the folder of an image.
        MalformedEvidence: its documents do not read.
    """
    before, after = layout.read_manifest(old), layout.read_manifest(new)
    roots = [{f"root hash of {v.name}": v.root_hash for v in manifest.volumes} for manifest in (before, after)]
    measured = explain(_measured(old), _measured(new), (before.command_line, after.command_line))
    return ImageDiff(
        packages=_changes(_versions(read_lock(old / layout.LOCK)), _versions(read_lock(new / layout.LOCK))),
        files=tuple(file_differences(layout.read_files(old), layout.read_files(new))),
        measured=(*measured, *_changes(roots[0], roots[1])),
    )


def _measured(folder: Path) -> Measurements:
    try:
        return parse_measurements((folder / layout.MEASUREMENTS).read_text(encoding="utf-8", errors="replace"))
    except OSError as exc:
        raise MaterialUnavailable(f"{folder / layout.MEASUREMENTS}: {exc.strerror}") from exc


def _versions(lock: Lock) -> dict[str, str]:
    rows = {f"package {deb.name} ({', '.join(deb.why)})": deb.version for deb in lock.debs}
    rows |= {f"wheel {wheel.name}": wheel.version for wheel in lock.wheels}
    return rows | {f"model {model.alias}": model.sha256 for model in lock.models}


def _changes(old: dict[str, str], new: dict[str, str]) -> tuple[Change, ...]:
    names = [*old, *(name for name in new if name not in old)]
    return tuple(
        Change(what=name, old=old.get(name), new=new.get(name)) for name in names if old.get(name) != new.get(name)
    )
