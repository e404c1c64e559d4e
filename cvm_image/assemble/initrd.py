"""The initrd: a cpio archive in the kernel's "newc" form, after an uncompressed one with the trusted ACPI table.

Format: Linux, Documentation/driver-api/early-userspace/buffer-format.rst; the table's place:
Documentation/admin-guide/acpi/initrd_table_override.rst.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Final

from ..lock import Lock
from ..profile import Initrd
from ..store import Store
from .kernel import modules
from .root import Told, declared, overlay_nodes, package_nodes, unpack_packages
from .toolbox import Toolbox
from .tree import Content, Kind, Node, Tree, matches, number

DSDT: Final = "kernel/firmware/acpi/dsdt.aml"
"""Where the kernel looks for a table that shall take the place of the host's."""
DSDT_COPY: Final = "/dsdt.aml"
"""The same table for /init, which compares the live one with it."""
_FOLDERS: Final = ("/dev", "/newroot", "/proc", "/root", "/run", "/sys", "/usr/lib/modules")
_IASL: Final = "usr/bin/iasl"
_ZSTD: Final = "usr/bin/zstd"
_TYPES: Final = {Kind.FILE: 0o100000, Kind.FOLDER: 0o040000, Kind.LINK: 0o120000, Kind.DEVICE: 0o020000}
_CONSOLE: Final = Node(path="/dev/console", kind=Kind.DEVICE, mode=0o600, device=(5, 1), origin="profile")


def build_initrd(
    initrd: Initrd, overlays: Sequence[Path], lock: Lock, store: Store, *, kernel: Tree, scratch: Path, told: Told
) -> Tree:
    """What the initrd holds.

    Args:
        initrd: what the profile says of it.
        overlays: folders in which overlays are looked for.
        lock: every input.
        store: where the inputs lie.
        kernel: the kernel's package.
        scratch: folder for work; the tree's contents stay in it.
        told: progress.

    Raises:
        Error: an input is missing or of a wrong form.
    """
    tree = Tree()
    for node in declared(_FOLDERS, initrd.links):
        tree.add(node)
    archives = unpack_packages(lock.group("initrd"), store, scratch / "debs", told)
    for node in package_nodes(archives):
        if node.kind is not Kind.FOLDER and matches(node.path, initrd.files):
            tree.add(node)
    for node in (
        *modules(kernel, initrd.modules),
        *overlay_nodes(initrd.overlay, initrd.executable, overlays),
        _CONSOLE,
    ):
        tree.add(node, over=True)
    tree.close()
    return tree


def compile_dsdt(source: Path, tools: Toolbox, scratch: Path) -> bytes:
    """Compile the trusted DSDT.

    Args:
        source: the ASL source.
        tools: tools of the build.
        scratch: folder for work.

    Raises:
        Error: the compiler refused it.
    """
    copy = scratch / "dsdt.asl"  # the compiler writes the source's name into what it says
    copy.write_bytes(source.read_bytes())
    tools.run(_IASL, ["-p", scratch / "dsdt", copy])
    return (scratch / "dsdt.aml").read_bytes()


def write_initrd(
    tree: Tree, dsdt: bytes | None, out: Path, *, level: int, tools: Toolbox, archive: Path, keep_archive: bool = False
) -> str:
    """Write the initrd.

    Args:
        tree: what goes in.
        dsdt: the trusted ACPI table; None for none.
        out: file to write.
        level: of zstd.
        tools: tools of the build.
        archive: where the uncompressed archive is put while it is needed.
        keep_archive: whether it stays there.

    Returns:
        SHA-256 of the uncompressed archive in hex.

    Raises:
        Error: a tool failed.
    """
    if dsdt is not None:
        tree.add(Node(path=DSDT_COPY, kind=Kind.FILE, mode=0o644, content=Content.of(dsdt), origin="step:dsdt"))
    with archive.open("wb") as file:
        digest = write_newc(tree, file, ids={"root": 0})
    with out.open("wb") as file:
        if dsdt is not None:
            write_newc(_acpi(dsdt), file, ids={"root": 0})
        file.flush()
        with archive.open("rb") as source:
            # One thread: with several, zstd's output depends on how many there are.
            tools.run(_ZSTD, ["-q", "--single-thread", f"-{level}", "-c"], stdin=source, stdout=file)
    if not keep_archive:
        archive.unlink()
    return digest


def _acpi(dsdt: bytes) -> Tree:
    tree = Tree()
    tree.add(Node(path=f"/{DSDT}", kind=Kind.FILE, mode=0o644, content=Content.of(dsdt), origin="step:dsdt"))
    tree.close()
    return tree


def write_newc(nodes: Iterable[Node], out: IO[bytes], *, ids: Mapping[str, int]) -> str:
    """A sorted cpio archive: inodes by counter, no time, owners by number, padded to 512 bytes.

    Returns:
        Its SHA-256 in hex.
    """
    digest, written = hashlib.sha256(), 0

    def put(data: bytes) -> None:
        nonlocal written
        out.write(data)
        digest.update(data)
        written += len(data)

    def pad(block: int) -> None:
        put(bytes(-written % block))

    for inode, node in enumerate(nodes, start=1):
        size = len(node.target.encode()) if node.kind is Kind.LINK else node.content.size if node.content else 0
        mode = _TYPES[node.kind] | (0o777 if node.kind is Kind.LINK else node.mode)
        owner, group = number(node.owner, node, ids), number(node.group, node, ids)
        put(_header(node.path[1:], inode=inode, mode=mode, uid=owner, gid=group, size=size, device=node.device))
        pad(4)
        if node.kind is Kind.LINK:
            put(node.target.encode())
        for chunk in node.content.chunks() if node.content else ():
            put(chunk)
        pad(4)
    put(_header("TRAILER!!!"))
    pad(512)
    return digest.hexdigest()


def _header(
    name: str,
    *,
    inode: int = 0,
    mode: int = 0,
    uid: int = 0,
    gid: int = 0,
    size: int = 0,
    device: tuple[int, int] = (0, 0),
) -> bytes:
    raw = name.encode() + b"\0"
    fields = (inode, mode, uid, gid, 1, 0, size, 0, 0, device[0], device[1], len(raw), 0)
    return b"070701" + b"".join(b"%08X" % field for field in fields) + raw
