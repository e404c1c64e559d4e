"""Compares two images stage by stage, and names the first difference with its likely cause and cure."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Final

from .. import layout
from ..layout import FileEntry

_LISTED: Final = 50
_CAUSES: Final = (
    # (what of a file differs, words in its path or origin, cause, cure)
    (
        "sha256",
        ".pyc",
        "compiled Python: a time, a path or the order of a set",
        "compile with an unchecked hash and a seed",
    ),
    ("sha256", "hostname", "the host's name was copied in", "write a fixed one in an overlay"),
    ("sha256", "resolv.conf", "the host's resolver was copied in", "write a fixed one in an overlay"),
    ("sha256", "shadow", "a date in the last-change field", "declare users in the profile"),
    ("sha256", "ld.so", "ldconfig's auxiliary cache, or libraries in another order", "keep ld.so.cache only"),
    ("sha256", "step:", "a step of the build that depends on the machine", "make the step read its inputs alone"),
    (
        "sha256",
        "",
        "a time, a path, a random number or an unsorted list in the content",
        "look at both with diffoscope",
    ),
    ("mode", "", "the umask of whoever built, or of a checkout", "declare modes, never read them"),
    ("uid", "", "numbers of the building host's users", "declare users in the profile"),
    ("gid", "", "numbers of the building host's groups", "declare users in the profile"),
    ("target", "", "a link to a path of the building host", "link relatively, or declare the link"),
    ("origin", "", "another package brings the file", "build both from one lock"),
    ("missing", "", "the order of a folder's files, or a file of the host", "sort, and list what goes in"),
)
_STAGES: Final = {
    "lock": ("two different locks", "build both from one lock"),
    "packages": ("two different sets of packages", "build both from one lock"),
    "archive": ("the order or the times of an archive, while its files are the same", "sort by path, one time for all"),
    "filesystem": ("a UUID or a time in the file system, or another tool", "fix both; tools from the lock"),
    "verity": ("a random salt or UUID of the hash tree", "derive both from the lock"),
    "initrd": ("the compressor's version or number of threads", "one thread, and the tool from the lock"),
    "uki": ("a time or a path in the unified kernel image", "SOURCE_DATE_EPOCH, and the tool from the lock"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One thing that differs.

    Attributes:
        path: of the file, "VOLUME:/path", or the name of a file of the folder.
        field: "sha256", "mode", "uid", "gid", "target", "origin", "size" or "missing".
        a: what it is in the first image.
        b: in the second.
        cause: likely cause.
        cure: what helps against it.
    """

    path: str
    field: str
    a: str
    b: str
    cause: str
    cure: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What a comparison found.

    Attributes:
        stages: name and both hashes of each stage, in order.
        first: the first stage that differs, or None.
        differences: of files, the first 50; the cause of everything later is among the earliest.
    """

    stages: tuple[tuple[str, str, str], ...]
    first: str | None
    differences: tuple[Difference, ...]

    @property
    def identical(self) -> bool:
        """Whether every stage, and every file of both folders, is the same."""
        return self.first is None and not self.differences


def compare(a: Path, b: Path) -> Comparison:
    """Compare the folders of two images.

    Raises:
        MaterialUnavailable: one of them is not the folder of an image.
        MalformedEvidence: its documents do not read.
    """
    first, second = layout.read_manifest(a), layout.read_manifest(b)
    hashes = [{stage.name: stage.sha256 for stage in manifest.stages} for manifest in (first, second)]
    names = [*hashes[0], *(name for name in hashes[1] if name not in hashes[0])]
    stages = tuple((name, hashes[0].get(name, ""), hashes[1].get(name, "")) for name in names)
    differing = next((name for name, was, is_ in stages if was != is_), None)
    found = file_differences(layout.read_files(a), layout.read_files(b))
    if not found and differing:
        cause, cure = _STAGES.get(differing.partition(".")[0], ("unknown", "look at both with diffoscope"))
        was, is_ = hashes[0].get(differing, ""), hashes[1].get(differing, "")
        found = [Difference(path=differing, field="sha256", a=was, b=is_, cause=cause, cure=cure)]
    found += _artifacts(a, b)
    return Comparison(stages=stages, first=differing, differences=tuple(found[:_LISTED]))


def file_differences(a: tuple[FileEntry, ...], b: tuple[FileEntry, ...]) -> list[Difference]:
    """What differs between two lists of files, sorted by volume and path."""
    sides = [{(entry.volume, entry.path): entry for entry in side} for side in (a, b)]
    found = []
    for key in sorted(sides[0].keys() | sides[1].keys()):
        was, is_ = sides[0].get(key), sides[1].get(key)
        path = ":".join(key)
        if was is None or is_ is None:
            there = was or is_
            if there:
                found.append(_difference(path, "missing", "there" if was else "", "there" if is_ else "", there.origin))
            continue
        for item in fields(FileEntry):
            values = str(getattr(was, item.name)), str(getattr(is_, item.name))
            if values[0] != values[1] and item.name != "size":
                found.append(_difference(path, item.name, *values, was.origin))
    return found


def _difference(path: str, field: str, a: str, b: str, origin: str) -> Difference:
    for name, word, cause, cure in _CAUSES:
        if name == field and (word in path or word in origin):
            return Difference(path=path, field=field, a=a, b=b, cause=cause, cure=cure)
    return Difference(path=path, field=field, a=a, b=b, cause="unknown", cure="look at both")


def _artifacts(a: Path, b: Path) -> list[Difference]:
    """Files of the folders themselves, whatever the manifests say of them."""
    names = sorted({path.name for side in (a, b) for path in side.iterdir()})
    found = []
    for name in names:
        hashes = [layout.file_hash(side / name) for side in (a, b)]
        if hashes[0] != hashes[1]:
            field = "sha256" if all(hashes) else "missing"
            found.append(_difference(name, field, hashes[0], hashes[1], ""))
    return found


def document(comparison: Comparison) -> dict[str, object]:
    """The comparison for machines."""
    return {"identical": comparison.identical, **asdict(comparison)}
