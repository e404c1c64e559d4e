"""The profile: what an image shall be, declared in a short TOML file; ``docs/profile.md`` documents it key by key.

A profile names packages; a lock (:mod:`dokimos.cvm_image.lock`) fixes which bytes they are.
"""

from __future__ import annotations

import hashlib
import tomllib
import types
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import MISSING, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Final, Union, get_args, get_origin, get_type_hints

from ..errors import MalformedEvidence, MaterialUnavailable, UsageError

SCHEMA: Final = 1
HERE: Final = Path(__file__).resolve().parent
BUILTIN: Final = HERE / "profiles"
"""Profiles and locks that come with the project."""
OVERLAYS: Final = HERE / "overlay"
"""Overlays that come with the project."""
_MAX_TEXT = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """An index of the Debian archive that packages may come from.

    Attributes:
        suite: for example "trixie".
        component: for example "main".
        priority: apt's pin; the release with the highest wins.
        packages: only these may come from it; empty for any.
    """

    suite: str
    component: str = "main"
    priority: int = 500
    packages: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Packages:
    """Packages of one group.

    Attributes:
        packages: names to resolve, with what they depend on.
        only: shell patterns: of what was resolved only these are kept; empty keeps all.
        leave_out: names that are not taken although something depends on them.
    """

    packages: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    leave_out: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """A user with a group of the same name and number, no password and no shell.

    Attributes:
        name: its name.
        id: number of user and group.
        home: its home folder; never made.
    """

    name: str
    id: int
    home: str = "/nonexistent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Root:
    """The root file system.

    Attributes:
        packages: as in :class:`Packages`.
        only: as there.
        leave_out: as there.
        filesystem: "squashfs" or "erofs".
        level: of zstd; 0 stores without compression.
        exclude: shell patterns of paths that no package or wheel brings in; "*" crosses folders. "NAME:/path" is for
            one package or wheel.
        include: patterns that win over `exclude`.
        wheels: requirements of Python wheels, for the guest's Python.
        python: version of the guest's Python, for example "3.13"; needed with `wheels`.
        modules: modules and sub-packages of dokimos itself that go in; empty for none.
        precompile: patterns of paths below which Python is compiled into unchecked-hash pyc files.
        overlay: folders of files that go in last, in this order; each is looked for in the folder ``overlay`` beside
            the profile, then among the project's.
        executable: paths of the overlays with mode 0755 instead of 0644.
        folders: empty folders that are made, with mode 0755.
        links: path to target of symbolic links.
        users: beside root and nobody.
        ca_bundle: whether /etc/ssl/certs/ca-certificates.crt is made of what ca-certificates brings.
        ld_cache: whether /etc/ld.so.cache is made.
    """

    packages: tuple[str, ...]
    only: tuple[str, ...] = ()
    leave_out: tuple[str, ...] = ()
    filesystem: str = "squashfs"
    level: int = 3
    exclude: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    wheels: tuple[str, ...] = ()
    python: str = ""
    modules: tuple[str, ...] = ()
    precompile: tuple[str, ...] = ()
    overlay: tuple[str, ...] = ()
    executable: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()
    links: Mapping[str, str] = field(default_factory=dict)
    users: tuple[User, ...] = ()
    ca_bundle: bool = False
    ld_cache: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Initrd:
    """What runs before the root file system is there.

    Attributes:
        packages: as in :class:`Packages`.
        only: as there.
        leave_out: as there.
        files: shell patterns of the packages' files that go in.
        links: as in :class:`Root`.
        modules: kernel modules by name, in the order of loading; what they depend on comes before them by itself.
        overlay: as in :class:`Root`; holds /init.
        executable: as in :class:`Root`.
        acpi: source of a trusted DSDT in an archive of its own at the very start, a path below an overlay folder; or
            empty for none.
        level: of zstd.
    """

    packages: tuple[str, ...]
    only: tuple[str, ...] = ()
    leave_out: tuple[str, ...] = ()
    files: tuple[str, ...]
    links: Mapping[str, str] = field(default_factory=dict)
    modules: tuple[str, ...]
    overlay: tuple[str, ...]
    executable: tuple[str, ...] = ("/init",)
    acpi: str = ""
    level: int = 9


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """A further read-only file system on a disk of its own, its root hash on the measured command line.

    Attributes:
        name: its name; the disk's file is ``NAME.img``.
        mount: folder of the root file system where it is mounted.
        model: alias of a model whose weights it holds as ``ALIAS.gguf``.
        filesystem: "squashfs" or "erofs".
        level: of zstd; 0 stores without compression.
    """

    name: str
    mount: str
    model: str
    filesystem: str = "erofs"
    level: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Firmware:
    """Firmware of a platform, out of a package.

    Attributes:
        packages: as in :class:`Packages`.
        only: as there.
        leave_out: as there.
        snp: path of the firmware that AMD SEV-SNP measures.
        tdx: path of the firmware that Intel TDX measures, and that measures a boot; empty for an image that starts no
            TD.
    """

    packages: tuple[str, ...]
    only: tuple[str, ...] = ()
    leave_out: tuple[str, ...] = ()
    snp: str
    tdx: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Uki:
    """The unified kernel image: kernel, initrd and command line in one file that UEFI starts.

    Attributes:
        packages: ukify, its Python and the boot stub, as in :class:`Packages`; empty where none can be made.
        only: as there.
        leave_out: as there.
        always: whether every build makes one; else only those that ask for it.
    """

    packages: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    leave_out: tuple[str, ...] = ()
    always: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """For which machines measurements are computed.

    Attributes:
        vcpus: counts of virtual processors.
        vcpu_types: types of them, by QEMU's names; only SEV-SNP measures them.
        memory: sizes of memory in MiB; only TDX measures them.
    """

    vcpus: tuple[int, ...]
    vcpu_types: tuple[str, ...]
    memory: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Boot:
    """How the image is started by ``dokimos image boot``.

    Attributes:
        packages: packages of QEMU, as in :class:`Packages`.
        only: as there.
        leave_out: as there.
        memory: MiB of the guest.
        vcpus: its virtual processors.
        vcpu_type: type of them, for the measurement.
        port: TCP port of the service in the guest.
    """

    packages: tuple[str, ...]
    only: tuple[str, ...] = ()
    leave_out: tuple[str, ...] = ()
    memory: int
    vcpus: int
    vcpu_type: str
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A profile.

    Attributes:
        name: its name.
        description: one line.
        suites: indexes of the archive.
        root: the root file system.
        initrd: what runs before it.
        kernel: the package of the kernel; `only` leaves out what builds an initrd on a usual machine.
        firmware: firmware to measure.
        tools: packages of the build's own tools.
        measure: machines for which launch digests are computed.
        boot: how it is started.
        command_line: fixed options of the kernel, to which the root hashes are added.
        volumes: further file systems.
        uki: the unified kernel image.
        text: the profile's text, whose hash the lock carries.
        overlays: folders in which overlays are looked for by name; the first that has one wins.
    """

    name: str
    description: str
    suites: tuple[Suite, ...]
    root: Root
    initrd: Initrd
    kernel: Packages
    firmware: Firmware
    tools: Packages
    measure: Measure
    boot: Boot
    command_line: tuple[str, ...]
    volumes: tuple[Volume, ...] = ()
    uki: Uki = Uki()
    text: str = ""
    overlays: tuple[Path, ...] = (OVERLAYS,)

    @property
    def sha256(self) -> str:
        """SHA-256 of the profile's text, in hex."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def groups(self) -> dict[str, Packages | Root | Initrd | Firmware | Uki | Boot]:
        """What is resolved for each of :data:`dokimos.cvm_image.lock.GROUPS`."""
        uki: dict[str, Uki] = {"uki": self.uki} if self.uki.packages else {}
        return {
            **uki,
            "boot": self.boot,
            "firmware": self.firmware,
            "initrd": self.initrd,
            "kernel": self.kernel,
            "root": self.root,
            "tools": self.tools,
        }


def find_profile(name: str) -> Path:
    """The file of a profile: a path, or the name of one that comes with the project.

    Raises:
        MaterialUnavailable: there is none.
    """
    for path in (Path(name), BUILTIN / f"{name}.toml"):
        with suppress(OSError):  # a name that no file system takes
            if path.is_file():
                return path
    known = ", ".join(sorted(path.stem for path in BUILTIN.glob("*.toml")))
    raise MaterialUnavailable(f"no profile {name[:80]!r}: not a file, and not one of {known}")


def find_overlay(name: str, folders: Iterable[Path]) -> Path:
    """The first of these that is there: a folder of files, or a file, of this name.

    Raises:
        MaterialUnavailable: none of the folders has it.
    """
    for folder in folders:
        if (folder / name).exists():
            return folder / name
    raise MaterialUnavailable(f"overlay {name!r}: not in the folder beside the profile, and not of the project's")


def load_profile(name: str) -> Profile:
    """Read a profile by path or name.

    An ``overlay`` folder beside a profile's file holds overlays of its own.

    Raises:
        MaterialUnavailable: there is none.
        MalformedEvidence: it does not read as a profile.
    """
    path = find_profile(name)
    try:
        profile = parse_profile(path.read_text(encoding="utf-8"))
        return replace(profile, overlays=(path.resolve().parent / OVERLAYS.name, OVERLAYS))
    except (OSError, UnicodeDecodeError) as exc:
        raise MaterialUnavailable(f"{path}: {exc}") from exc


def parse_profile(text: str) -> Profile:
    """Read a profile.

    Args:
        text: TOML, schema 1.

    Raises:
        MalformedEvidence: not TOML, an unknown or missing key, or a value of another type.
    """
    if len(text) > _MAX_TEXT:
        raise MalformedEvidence(f"profile: longer than {_MAX_TEXT} characters")
    try:
        data = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as exc:
        raise MalformedEvidence(f"profile: {exc}") from exc
    if data.pop("schema", None) != SCHEMA:
        raise MalformedEvidence(f"profile: schema is not {SCHEMA}")
    for name in ("text", "overlays"):  # fields that are not the file's to say
        if name in data:
            raise MalformedEvidence(f"profile: unknown key {name!r}")
    profile: Profile = _read(Profile, {**data, "text": text}, "profile")
    _judge(profile)
    return profile


def _judge(profile: Profile) -> None:
    """What types cannot say."""
    for filesystem in (profile.root.filesystem, *(volume.filesystem for volume in profile.volumes)):
        if filesystem not in ("squashfs", "erofs"):
            raise MalformedEvidence(f"profile: file system {filesystem!r} is neither squashfs nor erofs")
    if profile.root.wheels and not profile.root.python:
        raise MalformedEvidence("profile: wheels need the version of the guest's python")
    absolute = [
        *profile.root.links,
        *profile.initrd.links,
        *profile.root.folders,
        *(volume.mount for volume in profile.volumes),
    ]
    for path in absolute:
        if not path.startswith("/") or ".." in path.split("/"):
            raise MalformedEvidence(f"profile: {path!r} is not an absolute path")
    for name in (*profile.root.overlay, *profile.initrd.overlay, profile.initrd.acpi):
        if name.startswith("/") or ".." in name.split("/"):
            raise MalformedEvidence(f"profile: {name!r} leads out of the folders of overlays")
    if profile.uki.always and not profile.uki.packages:
        raise MalformedEvidence("profile: a unified kernel image needs the packages of ukify and its stub")
    if not profile.measure.vcpus or not profile.measure.vcpu_types:
        raise MalformedEvidence("profile: nothing to measure for")
    boot, measure = profile.boot, profile.measure
    if profile.firmware.tdx and not (boot.vcpus in measure.vcpus and boot.memory in measure.memory):
        raise MalformedEvidence("profile: a TD's registers depend on its machine: measure that of boot too")
    bad = [option for option in profile.command_line if not option.isascii() or any(c.isspace() for c in option)]
    if bad:
        raise MalformedEvidence(f"profile: {bad[0]!r} is not one option of a command line")


def _read(kind: Any, data: object, where: str) -> Any:
    """Strictly: no unknown key, none missing, no other type."""
    if not isinstance(data, dict):
        raise MalformedEvidence(f"{where}: not a table")
    hints = get_type_hints(kind)
    known = {item.name: item for item in fields(kind)}
    for name in data:
        if name not in known:
            raise MalformedEvidence(f"{where}: unknown key {name!r}")
    for name, item in known.items():
        if name not in data and item.default is MISSING and item.default_factory is MISSING:
            raise MalformedEvidence(f"{where}: {name} is missing")
    return kind(**{name: _value(hints[name], value, f"{where}.{name}") for name, value in data.items()})


def _value(hint: Any, value: object, where: str) -> Any:
    if is_dataclass(hint):
        return _read(hint, value, where)
    origin = get_origin(hint)
    if origin is tuple:
        if not isinstance(value, list):
            raise MalformedEvidence(f"{where}: not a list")
        return tuple(_value(get_args(hint)[0], item, where) for item in value)
    if origin in (Union, types.UnionType):
        raise AssertionError(where)
    if origin is not None:  # a mapping of strings
        if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
            raise MalformedEvidence(f"{where}: not a table of strings")
        return types.MappingProxyType(dict(value))
    if type(value) is not hint:
        raise MalformedEvidence(f"{where}: not of type {hint.__name__}")
    return value


def lock_path(profile: str) -> Path:
    """The lock beside a profile.

    Raises:
        MaterialUnavailable: there is no such profile.
        UsageError: the profile's file is not named ``*.toml``.
    """
    path = find_profile(profile)
    if path.suffix != ".toml":
        raise UsageError(f"{path}: a profile's name ends with .toml")
    return path.with_suffix(".lock")
