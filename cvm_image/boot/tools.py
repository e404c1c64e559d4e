"""QEMU out of a lock: for booting an image, and for the ACPI tables that a machine of its would have."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from ..assemble.root import package_nodes, unpack_packages
from ..assemble.toolbox import Toolbox
from ..assemble.tree import Tree
from ..lock import Lock
from ..store import Store

Told = Callable[[str, int, int], None]

# The emulator, its libraries and its ROMs.  Documents, locales and the packages' other programs are two files in three,
# and making so many takes as long as unpacking them.
_KEPT = (
    "/usr/bin/qemu-system-x86_64",
    "/usr/lib/ipxe",
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib64",
    "/usr/share/qemu",
    "/usr/share/seabios",
)
_UNUSED = ("/usr/lib/x86_64-linux-gnu/gconv", "/usr/lib/x86_64-linux-gnu/perl")


def unpack_qemu(lock: Lock, store: Store, folder: Path, debs: Path, told: Told) -> Toolbox:
    """QEMU out of the lock, from packages whose hashes have just been checked.

    Args:
        lock: the image's lock.
        store: where the packages lie.
        folder: to unpack into; made.
        debs: for what the packages unpack to; what is there already is taken.
        told: progress.

    Raises:
        Error: a package is not in the store, or is not one.
    """
    tree = Tree()
    for node in package_nodes(unpack_packages(lock.group("boot"), store, debs, told)):
        if node.path.startswith(_KEPT) and not node.path.startswith(_UNUSED):
            tree.add(node)
    return Toolbox(tree, folder, epoch=lock.source_date_epoch)


def qemu_tools(lock: Lock, store: Store, told: Told) -> Toolbox:
    """The same, unpacked once and kept beside the store; half of it never stays.

    Args:
        lock: the image's lock.
        store: where the packages lie.
        told: progress.

    Raises:
        Error: a package is not in the store, or is not one.
    """
    name = hashlib.sha256("".join(package.sha256 for package in lock.group("boot")).encode()).hexdigest()
    place = store.folder / "tools" / name
    if not place.is_dir():
        with store.scratch() as scratch:
            unpack_qemu(lock, store, scratch / "tools", scratch / "debs", told)
            place.parent.mkdir(exist_ok=True)
            (scratch / "tools").rename(place)
    return Toolbox((), place, epoch=lock.source_date_epoch)
