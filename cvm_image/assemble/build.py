"""The build: stage after stage from the lock to the measurements, each stage with a hash of what it gave."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ... import __version__
from ...errors import MaterialUnavailable, UnsupportedEvidence, UsageError
from ...measurements.image import Measurements, format_measurements, snp_measurements
from ...measurements.image_tdx import TdxHost, TdxImage, tdx_image
from .. import layout
from ..boot.arguments import TD_MACHINE
from ..boot.tables import td_hosts
from ..boot.tools import unpack_qemu
from ..layout import Artifact, BootInfo, FileEntry, Manifest, Stage, VolumeInfo
from ..lock import Deb, Lock, format_lock
from ..profile import Profile, Volume, find_overlay
from ..sbom import cyclonedx
from ..store import Store, file_sha256
from .initrd import build_initrd, compile_dsdt, write_initrd
from .kernel import kernel_image
from .root import Told, build_root, ids, package_nodes, unpack_packages
from .toolbox import Toolbox
from .tree import Content, Kind, Node, Tree, entries, matches
from .uki import write_uki
from .volume import add_verity, option, volume_uuid, write_filesystem

_MAX_COMMAND_LINE: Final = 2047
"""Characters that the kernel takes (x86, COMMAND_LINE_SIZE less its NUL)."""
_MARKER: Final = layout.MANIFEST
_NO_TOOLS: Final = ("/usr/share/*", "/usr/lib/x86_64-linux-gnu/gconv/*", "/usr/lib/x86_64-linux-gnu/perl*")
"""What the packages of the tools bring beside programs and libraries."""


@dataclass(slots=True, kw_only=True)
class _Work:
    """What a build carries from stage to stage."""

    profile: Profile
    lock: Lock
    store: Store
    out: Path
    scratch: Path
    told: Told
    keep_archives: bool
    tools: Toolbox = field(init=False)
    stages: list[Stage] = field(default_factory=list)
    files: list[FileEntry] = field(default_factory=list)
    volumes: list[VolumeInfo] = field(default_factory=list)

    @property
    def identity(self) -> bytes:
        """What salts and UUIDs are derived from."""
        return hashlib.sha256(format_lock(self.lock).encode()).digest()

    def stage(self, name: str, sha256: str) -> None:
        self.stages.append(Stage(name=name, sha256=sha256))

    def archive(self, name: str) -> Path:
        folder = self.out if self.keep_archives else self.scratch
        return folder / f"archive.{name}.tar"


def build(
    profile: Profile,
    lock: Lock,
    store: Store,
    output: Path,
    *,
    told: Told,
    keep_archives: bool = False,
    append: Sequence[str] = (),
    uki: bool = False,
) -> Manifest:
    """Build an image.

    Args:
        profile: what it shall be.
        lock: every input; made for this very profile.
        store: where the inputs lie; nothing is fetched.
        output: folder to make; one that holds an image already is replaced once the new one is whole.
        told: progress: what is being done, how much of it, of how much (0 where nobody knows).
        keep_archives: whether the sorted archives that the file systems are made of are left in the folder.
        append: further options of the kernel, after the profile's.
        uki: whether a unified kernel image is made, also where the profile does not make one always.

    Raises:
        UsageError: the lock is of another profile, or `output` is something else than an image.
        MaterialUnavailable: an input is not in the store.
        Error: an input is of a wrong form, or a tool failed.
    """
    if (lock.profile, lock.profile_sha256) != (profile.name, profile.sha256):
        raise UsageError(f"the lock is not of this profile {profile.name}; lock it again")
    _refuse_foreign(output)
    output = output.absolute()  # tools work in folders of their own
    with _plain_umask(), ExitStack() as stack:
        output.parent.mkdir(parents=True, exist_ok=True)
        made = stack.enter_context(tempfile.TemporaryDirectory(dir=output.parent, prefix=".image-"))
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dk-build-")))
        folder = Path(made) / "image"
        folder.mkdir()
        work = _Work(
            profile=profile,
            lock=lock,
            store=store,
            out=folder,
            scratch=scratch,
            told=told,
            keep_archives=keep_archives,
        )
        manifest = _build(work, append, uki=uki or profile.uki.always)
        _replace(output, folder)
    return manifest


@contextmanager
def _plain_umask() -> Iterator[None]:
    """What tools make on the way has the same modes, whoever builds."""
    before = os.umask(0o022)
    try:
        yield
    finally:
        os.umask(before)


def _refuse_foreign(output: Path) -> None:
    if output.is_symlink() or (output.exists() and not output.is_dir()):
        raise UsageError(f"{output}: there, and not a folder")
    if output.is_dir() and any(output.iterdir()) and not (output / _MARKER).is_file():
        raise UsageError(f"{output}: there, not empty, and not an image; nothing was changed")


def _replace(output: Path, folder: Path) -> None:
    if output.exists():
        old = folder.with_name("old")
        output.replace(old)
        shutil.rmtree(old)
    folder.replace(output)


def _build(work: _Work, append: Sequence[str], *, uki: bool) -> Manifest:
    profile, lock = work.profile, work.lock
    work.stage("lock", hashlib.sha256(format_lock(lock).encode()).hexdigest())
    tools = [node for node in _nodes(work, "tools") if not matches(node.path, _NO_TOOLS)]
    work.tools = Toolbox(tools, work.scratch / "toolbox", epoch=lock.source_date_epoch)
    work.stage("packages", _packages_digest(lock.debs))
    numbers = ids(profile.root)
    # Kernel and further volumes need nothing of the root: they are made meanwhile, and come after it in every list.
    with ThreadPoolExecutor(1) as beside:
        kernel = beside.submit(_tree, work, "kernel")
        others = [beside.submit(_further_volume, work, volume, numbers) for volume in profile.volumes]
        hosts = beside.submit(_td_hosts, work, kernel) if profile.firmware.tdx else None
        root = build_root(
            profile.root,
            profile.overlays,
            lock,
            work.store,
            tools=work.tools,
            scratch=work.scratch,
            told=work.told,
        )
        volumes = [_volume(work, root, "root", profile.root.filesystem, profile.root.level, "/", numbers)]
        volumes += [other.result() for other in others]
    for stages, files, volume in volumes:
        work.stages += stages
        work.files += files
        work.volumes.append(volume)
    _write(work.out / layout.KERNEL, kernel_image(kernel.result()))
    work.stage("kernel", file_sha256(work.out / layout.KERNEL))
    _initrd(work, kernel.result())
    line = _command_line(work, append)
    if uki:
        work.told("making the unified kernel image", 0, 0)
        write_uki(work.out, _nodes(work, "uki"), work.scratch / "uki", epoch=lock.source_date_epoch)
        work.stage("uki", file_sha256(work.out / layout.UKI))
    _firmware(work)
    measured = _measure(work, line, hosts)
    (work.out / layout.MEASUREMENTS).write_text(format_measurements(measured))
    work.stage("measurements", file_sha256(work.out / layout.MEASUREMENTS))
    return _manifest(work, line)


def _td_hosts(work: _Work, kernel: Future[Tree]) -> list[TdxHost]:
    """The machines of a TD by their ACPI tables, which its firmware measures; nothing of the image is in them."""
    qemu = unpack_qemu(work.lock, work.store, work.scratch / "qemu", work.scratch / "debs", work.told)
    there = work.scratch / "kernel-for-tables"  # QEMU tells only that there is one
    _write(there, kernel_image(kernel.result()))
    measure = work.profile.measure
    machines = [(vcpus, memory) for vcpus in measure.vcpus for memory in measure.memory]
    return td_hosts(qemu, machines, disks=1 + len(work.profile.volumes), kernel=there)


def _nodes(work: _Work, group: str) -> list[Node]:
    archives = unpack_packages(work.lock.group(group), work.store, work.scratch / "debs", work.told)
    return list(_sorted(package_nodes(archives)))


def _sorted(nodes: object) -> Tree:
    tree = Tree()
    for node in nodes:  # type: ignore[attr-defined]
        tree.add(node)
    return tree


def _tree(work: _Work, group: str) -> Tree:
    return _sorted(_nodes(work, group))


def _packages_digest(debs: Sequence[Deb]) -> str:
    rows = "".join(f"{deb.name}={deb.version} {deb.sha256} {','.join(deb.why)}\n" for deb in debs)
    return hashlib.sha256(rows.encode()).hexdigest()


_Volume = tuple[list[Stage], list[FileEntry], VolumeInfo]


def _further_volume(work: _Work, volume: Volume, numbers: Mapping[str, int]) -> _Volume:
    tree = _model(work, volume)
    return _volume(work, tree, volume.name, volume.filesystem, volume.level, volume.mount, numbers)


def _volume(  # noqa: PLR0917 - what a volume is
    work: _Work, tree: Tree, name: str, filesystem: str, level: int, mount: str, numbers: Mapping[str, int]
) -> _Volume:
    work.told(f"writing the file system of {name}", 0, 0)
    image = work.out / f"{name}.img"
    digest = write_filesystem(
        tree,
        image,
        kind=filesystem,
        level=level,
        tools=work.tools,
        epoch=work.lock.source_date_epoch,
        ids=numbers,
        identifier=volume_uuid(work.identity, name),
        archive=work.out / f"archive.{name}.tar" if work.keep_archives else None,
    )
    stages = [Stage(name=f"archive.{name}", sha256=digest)]
    stages.append(Stage(name=f"filesystem.{name}", sha256=file_sha256(image)))
    work.told(f"sealing {name}", 0, 0)
    volume = add_verity(
        image,
        name=name,
        filesystem=filesystem,
        mount=mount,
        identity=work.identity,
        tools=work.tools,
    )
    stages.append(Stage(name=f"verity.{name}", sha256=volume.root_hash))
    return stages, list(entries(tree, name, numbers)), volume


def _model(work: _Work, volume: Volume) -> Tree:
    """The file system of a model: its weights and nothing else."""
    for model in work.lock.models:
        if model.alias == volume.model:
            content = Content(path=work.store.checked(model.sha256, model.alias), size=model.size)
            tree = Tree()
            path, origin = f"/{model.alias}.gguf", f"model:{model.alias}"
            tree.add(Node(path=path, kind=Kind.FILE, mode=0o644, content=content, origin=origin))
            return tree
    raise MaterialUnavailable(f"the lock has no model {volume.model}; lock it again")


def _initrd(work: _Work, kernel: Tree) -> None:
    work.told("writing the initrd", 0, 0)
    initrd, overlays = work.profile.initrd, work.profile.overlays
    tree = build_initrd(initrd, overlays, work.lock, work.store, kernel=kernel, scratch=work.scratch, told=work.told)
    dsdt = compile_dsdt(find_overlay(initrd.acpi, overlays), work.tools, work.scratch) if initrd.acpi else None
    image = work.out / layout.INITRD
    archive = work.archive("initrd").with_suffix(".cpio")
    digest = write_initrd(
        tree, dsdt, image, level=initrd.level, tools=work.tools, archive=archive, keep_archive=work.keep_archives
    )
    work.files += entries(tree, "initrd", {"root": 0})
    work.stage("archive.initrd", digest)
    work.stage("initrd", file_sha256(image))


def _command_line(work: _Work, append: Sequence[str]) -> str:
    options = [*work.profile.command_line, *append, *map(option, work.volumes)]
    line = " ".join(options)
    if len(line) > _MAX_COMMAND_LINE or not line.isascii():
        raise UnsupportedEvidence(f"the command line has more than {_MAX_COMMAND_LINE} characters, or not only ASCII")
    (work.out / layout.COMMAND_LINE).write_text(line)
    work.stage("command-line", hashlib.sha256(line.encode()).hexdigest())
    return line


def _write(path: Path, content: Content) -> None:
    with path.open("wb") as file:
        for chunk in content.chunks():
            file.write(chunk)


def _firmware(work: _Work) -> None:
    firmware, tree = work.profile.firmware, _tree(work, "firmware")
    named = {layout.FIRMWARE_SNP: ("firmware", firmware.snp), layout.FIRMWARE_TDX: ("firmware.tdx", firmware.tdx)}
    for name, (stage, path) in named.items():
        if not path:
            continue
        content = tree[path].content if path in tree else None
        if content is None:
            raise MaterialUnavailable(f"{path}: none of the locked packages of this group brings it")
        _write(work.out / name, content)
        work.stage(stage, file_sha256(work.out / name))


def _measure(work: _Work, line: str, hosts: Future[list[TdxHost]] | None) -> Measurements:
    work.told("measuring", 0, 0)
    measure = work.profile.measure
    kernel, initrd = (work.out / layout.KERNEL).read_bytes(), (work.out / layout.INITRD).read_bytes()
    snp = snp_measurements(
        firmware=(work.out / layout.FIRMWARE_SNP).read_bytes(),
        kernel=kernel,
        initrd=initrd,
        command_line=line,
        vcpus=measure.vcpus,
        vcpu_types=measure.vcpu_types,
    )
    return Measurements(snp=snp, tdx=_measure_td(work, kernel, initrd, line, hosts.result()) if hosts else None)


def _measure_td(work: _Work, kernel: bytes, initrd: bytes, line: str, hosts: list[TdxHost]) -> TdxImage:
    return tdx_image(
        firmware=(work.out / layout.FIRMWARE_TDX).read_bytes(),
        kernel=kernel,
        initrd=initrd,
        command_line=line,
        machine=TD_MACHINE,
        hosts=hosts,
    )


def _manifest(work: _Work, line: str) -> Manifest:
    """The manifest and the documents beside it, written last: a folder without one is not an image."""
    profile, lock, out = work.profile, work.lock, work.out
    (out / layout.LOCK).write_text(format_lock(lock))
    (out / layout.PROFILE).write_text(profile.text)
    (out / layout.FILES).write_text(layout.format_files(work.files))
    (out / layout.SBOM).write_text(
        cyclonedx(lock, profile=profile.name, dokimos_version=__version__, epoch=lock.source_date_epoch)
    )
    known = {stage.name: stage.sha256 for stage in work.stages}
    already = {layout.KERNEL: known["kernel"], layout.INITRD: known["initrd"]}
    artifacts = [
        Artifact(name=path.name, size=path.stat().st_size, sha256=already.get(path.name) or file_sha256(path))
        for path in sorted(out.iterdir())
    ]
    boot = profile.boot
    manifest = Manifest(
        profile=profile.name,
        dokimos=__version__,
        source_date_epoch=lock.source_date_epoch,
        lock_sha256=hashlib.sha256(format_lock(lock).encode()).hexdigest(),
        profile_sha256=profile.sha256,
        command_line=line,
        boot=BootInfo(memory=boot.memory, vcpus=boot.vcpus, vcpu_type=boot.vcpu_type, port=boot.port),
        volumes=tuple(work.volumes),
        stages=tuple(work.stages),
        artifacts=tuple(artifacts),
    )
    (out / layout.MANIFEST).write_text(layout.format_manifest(manifest))
    return manifest
