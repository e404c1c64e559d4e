"""The root file system: packages, wheels, the project's own modules, overlays, and what the profile declares."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Final

from ...errors import MalformedEvidence, MaterialUnavailable
from ..lock import Deb, Lock
from ..profile import Root, find_overlay
from ..store import Store
from . import deb as debs
from .python import SITE, compile_all, own_nodes, wheel_nodes
from .toolbox import Toolbox, processors
from .tree import Content, Kind, Node, Tree, matches, normal, write_folder

_ROOT_IDS: Final = {"root": 0, "nogroup": 65534, "nobody": 65534}
# What Debian's packages may name as owner of a file, with the archive's own fixed numbers (base-passwd).
_DEBIAN_GROUPS: Final = {"adm": 4, "tty": 5, "disk": 6, "mail": 8, "shadow": 42, "utmp": 43, "staff": 50}
_STICKY: Final = 0o1777

Told = Callable[[str, int, int], None]
"""Progress: what is being done, how much of it, of how much."""


def unpack_packages(packages: Sequence[Deb], store: Store, scratch: Path, told: Told) -> dict[str, Path]:
    """Unpack packages side by side.

    Returns:
        For each package's name its ``data.tar`` below `scratch`, in the lock's order.

    Raises:
        Error: a package is not in the store, or is not one.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    done = 0

    def one(package: Deb) -> Path:
        nonlocal done
        archive = scratch / f"{package.sha256}.tar"
        if not archive.exists():
            debs.unpack(store.checked(package.sha256, package.name), archive)
        done += 1
        told("unpacking packages", done, len(packages))
        return archive

    with ThreadPoolExecutor(processors()) as pool:
        archives = list(pool.map(one, packages))
    return {package.name: archive for package, archive in zip(packages, archives, strict=True)}


def package_nodes(archives: Mapping[str, Path]) -> Iterator[Node]:
    """The nodes of unpacked packages; set-user-ID bits are dropped, since nothing in an image may gain rights."""
    for name, archive in archives.items():
        for node in debs.nodes(archive, f"package:{name}"):
            yield node if node.mode <= _STICKY else replace(node, mode=node.mode & _STICKY)


def overlay_nodes(names: Iterable[str], executable: Sequence[str], folders: Iterable[Path]) -> Iterator[Node]:
    """The files of overlays, the later over the earlier.

    Modes are declared, not read: what a checkout's umask left says nothing.

    Args:
        names: of the overlays.
        executable: paths with mode 0755 instead of 0644.
        folders: where overlays are looked for.

    Raises:
        MaterialUnavailable: there is no such overlay.
    """
    for name in names:
        top = find_overlay(name, folders)
        for file in sorted(top.rglob("*")):
            path = normal(file.relative_to(top).as_posix())
            mode = 0o755 if path in executable else 0o644
            if file.is_symlink():
                target = file.readlink().as_posix()
                yield Node(path=path, kind=Kind.LINK, mode=0o777, target=target, origin=f"overlay:{name}")
            elif file.is_file():
                content = Content.of(file.read_bytes())
                yield Node(path=path, kind=Kind.FILE, mode=mode, content=content, origin=f"overlay:{name}")


def declared(folders: Iterable[str], links: Mapping[str, str]) -> Iterator[Node]:
    """Folders and links that a profile declares."""
    for path, target in links.items():
        yield Node(path=normal(path), kind=Kind.LINK, mode=0o777, target=target, origin="profile")
    for path in folders:
        mode = _STICKY if path == "/tmp" else 0o755  # noqa: S108 - the guest's own, on a read-only root
        yield Node(path=normal(path), kind=Kind.FOLDER, mode=mode, origin="profile")


def ids(root: Root) -> dict[str, int]:
    """Numbers of users and groups by name.

    Raises:
        MalformedEvidence: two of one name or number.
    """
    known = _ROOT_IDS | _DEBIAN_GROUPS
    for user in root.users:
        if user.name in known or user.id in known.values():
            raise MalformedEvidence(f"profile: user {user.name!r} or its number {user.id} is taken")
        known = {**known, user.name: user.id}
    return known


def _accounts(root: Root) -> Iterator[Node]:
    """passwd, group and their shadows: declared, sorted by number, all locked, with no date in them."""
    users = [("root", 0, "/root"), *sorted((user.name, user.id, user.home) for user in root.users)]
    users += [("nobody", 65534, "/nonexistent")]
    groups = [(name, number) for name, number in ids(root).items() if name != "nobody"]
    groups.sort(key=lambda group: (group[1], group[0]))
    texts = {
        "/etc/passwd": "".join(f"{name}:x:{id_}:{id_}::{home}:/usr/sbin/nologin\n" for name, id_, home in users),
        "/etc/group": "".join(f"{name}:x:{id_}:\n" for name, id_ in groups),
        "/etc/shadow": "".join(f"{name}:!*:::::::\n" for name, _, _ in users),
        "/etc/gshadow": "".join(f"{name}:!::\n" for name, _ in groups),
        "/etc/machine-id": "",
    }
    for path, text in texts.items():
        mode = 0o640 if "shadow" in path else 0o644
        content = Content.of(text.encode())
        yield Node(path=path, kind=Kind.FILE, mode=mode, content=content, origin="profile")


def _ca_bundle(tree: Tree) -> Node:
    """All certificates of ca-certificates in the order of their paths."""
    certificates = [node for node in tree.under("/usr/share/ca-certificates/*.crt") if node.content]
    if not certificates:
        raise MaterialUnavailable("profile: a CA bundle is asked for, but no package brings certificates")
    data = b"".join(node.content.read().rstrip(b"\n") + b"\n" for node in certificates if node.content)
    path = "/etc/ssl/certs/ca-certificates.crt"
    return Node(path=path, kind=Kind.FILE, mode=0o644, content=Content.of(data), origin="step:ca-bundle")


def _ld_cache(tree: Tree, tools: Toolbox, folder: Path) -> Node:
    """The dynamic loader's cache, made by the locked ldconfig over the tree's libraries alone."""
    libraries = [
        node
        for node in tree.under("*/lib/*.so*", "/lib*", "/etc/ld.so.conf*")
        if node.kind is not Kind.FOLDER and not node.path.startswith(SITE)
    ]
    write_folder(libraries, folder)
    (folder / "etc").mkdir(exist_ok=True)
    tools.run("usr/sbin/ldconfig", ["-X", "-r", folder], static=True)
    cache = (folder / "etc/ld.so.cache").read_bytes()
    path = "/etc/ld.so.cache"
    return Node(path=path, kind=Kind.FILE, mode=0o644, content=Content.of(cache), origin="step:ld-cache")


def _kept(node: Node, root: Root) -> bool:
    """By the rules for all packages, and those that name the package or wheel before a colon."""
    names = (node.path, f"{node.origin.partition(':')[2]}:{node.path}")
    dropped, kept = (any(matches(name, rules) for name in names) for rules in (root.exclude, root.include))
    return kept or not dropped


def build_root(
    root: Root, overlays: Sequence[Path], lock: Lock, store: Store, *, tools: Toolbox, scratch: Path, told: Told
) -> Tree:
    """The root file system.

    Args:
        root: what the profile says of it.
        overlays: folders in which overlays are looked for.
        lock: every input.
        store: where the inputs lie.
        tools: tools of the build.
        scratch: folder for work; the tree's contents stay in it.
        told: progress.

    Raises:
        Error: an input is missing or of a wrong form, or two of them bring different files to one path.
    """
    tree = Tree()
    for node in declared((), root.links):
        tree.add(node)
    archives = unpack_packages(lock.group("root"), store, scratch / "debs", told)
    for node in package_nodes(archives):
        if _kept(node, root):
            tree.add(node)
    for number, wheel in enumerate(lock.wheels):
        told("unpacking wheels", number, len(lock.wheels))
        place = scratch / "wheels" / wheel.sha256
        place.mkdir(parents=True)
        for node in wheel_nodes(store.checked(wheel.sha256, wheel.filename), wheel, place):
            if _kept(node, root):
                tree.add(node)
    for node in own_nodes(root.modules) if root.modules else ():
        tree.add(node)
    for node in (
        *_accounts(root),
        *declared(root.folders, {}),
        *overlay_nodes(root.overlay, root.executable, overlays),
    ):
        tree.add(node, over=True)
    if root.ca_bundle:
        tree.add(_ca_bundle(tree), over=True)
    tree.close()
    if root.ld_cache:
        told("making the loader's cache", 0, 0)
        tree.add(_ld_cache(tree, tools, scratch / "ld-cache"), over=True)
    if root.precompile:
        told("compiling Python", 0, 0)
        compile_all(tree, root.precompile, root.python, scratch / "python", epoch=lock.source_date_epoch)
    tree.close()
    return tree
