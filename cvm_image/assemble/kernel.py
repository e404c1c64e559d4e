"""The kernel and its modules, taken out of their package; dependencies are read from the modules themselves.

A module names what it needs in its ``.modinfo`` section (ELF64, little-endian), so that neither depmod is needed nor a
file that a maintainer script would have made.
"""

from __future__ import annotations

import lzma
import struct
from collections.abc import Iterable
from typing import Final

from ...errors import MalformedEvidence, MaterialUnavailable
from .tree import Content, Kind, Node, Tree

_MAX_SECTIONS: Final = 4096
_MAX_MODULE: Final = 64 << 20
_ELF: Final = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION: Final = struct.Struct("<IIQQQQIIQQ")


def kernel_image(tree: Tree) -> Content:
    """The kernel in a tree of its package: in /boot, or beside the modules where newer packages put it.

    Raises:
        MaterialUnavailable: none, or several.
    """
    found = [node.content for node in tree.under("/boot/vmlinuz-*", "/usr/lib/modules/*/vmlinuz") if node.content]
    if len(found) != 1:
        raise MaterialUnavailable(f"the kernel's packages bring {len(found)} kernels, not one")
    return found[0]


def modules(tree: Tree, wanted: Iterable[str]) -> list[Node]:
    """The wanted modules and what they need, in an order in which they load, uncompressed.

    Args:
        tree: the kernel's package.
        wanted: names of modules; "-" and "_" are the same, as for the kernel.  One that is built in is left out.

    Returns:
        Nodes below /lib/modules, named by number and module so that their order is the order of loading.

    Raises:
        MaterialUnavailable: the kernel has no such module.
        MalformedEvidence: a module does not read as one, or modules need each other in a circle.
    """
    files = {_name(node.path): node for node in tree.under("/usr/lib/modules/*.ko", "/usr/lib/modules/*.ko.xz")}
    builtin = {
        _name(line)
        for node in tree.under("/usr/lib/modules/*/modules.builtin")
        if node.content
        for line in node.content.read().decode("utf-8", "replace").splitlines()
    }
    order: dict[str, bytes] = {}
    for name in wanted:
        _load(_canonical(name), files, builtin, order, ())
    return [
        Node(
            path=f"/lib/modules/{number:02d}-{name}.ko",
            kind=Kind.FILE,
            mode=0o644,
            content=Content.of(data),
            origin=files[name].origin,
        )
        for number, (name, data) in enumerate(order.items())
    ]


def _load(
    name: str, files: dict[str, Node], builtin: set[str], order: dict[str, bytes], above: tuple[str, ...]
) -> None:
    if name in order or name in builtin:
        return
    if name in above:
        raise MalformedEvidence(f"kernel module {name} needs itself")
    if name not in files:
        raise MaterialUnavailable(f"the kernel has no module {name}")
    content = files[name].content
    data = content.read() if content else b""
    if files[name].path.endswith(".xz"):
        try:
            data = lzma.LZMADecompressor().decompress(data, _MAX_MODULE)
        except lzma.LZMAError as exc:
            raise MalformedEvidence(f"kernel module {name}: {exc}") from exc
    for needed in _needs(data, name):
        _load(needed, files, builtin, order, (*above, name))
    order[name] = data


def _needs(data: bytes, name: str) -> list[str]:
    fields = [entry.partition(b"=") for entry in _modinfo(data, name).split(b"\0")]
    needs = [value.decode("ascii", "replace").split(",") for key, _, value in fields if key == b"depends"]
    return [_canonical(item) for group in needs for item in group if item]


def _modinfo(data: bytes, name: str) -> bytes:
    """The section .modinfo of a module."""
    try:
        header = _ELF.unpack_from(data)
        table, size, count, names = header[6], header[11], header[12], header[13]
        if header[0][:6] != b"\x7fELF\x02\x01" or size != _SECTION.size or not names < count <= _MAX_SECTIONS:
            raise MalformedEvidence(f"kernel module {name}: not a 64-bit ELF file")
        if table + count * size > len(data):  # said here: a large offset is no struct.error
            raise MalformedEvidence(f"kernel module {name}: truncated")
        sections = [_SECTION.unpack_from(data, table + index * size) for index in range(count)]
    except struct.error as exc:
        raise MalformedEvidence(f"kernel module {name}: truncated") from exc
    strings = data[sections[names][4] : sections[names][4] + sections[names][5]]
    for section in sections:
        if strings[section[0] : strings.find(b"\0", section[0])] == b".modinfo":
            return data[section[4] : section[4] + section[5]]
    raise MalformedEvidence(f"kernel module {name}: no .modinfo")


def _name(path: str) -> str:
    return _canonical(path.rpartition("/")[2].removesuffix(".xz").removesuffix(".ko"))


def _canonical(name: str) -> str:
    return name.replace("-", "_")
