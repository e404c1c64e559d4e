"""mmdebstrap unpacks the locked packages too: the image must hold the same files with the same bytes, modes and owners.

What differs is named here with its reason; everything else is a mistake of ours.
"""

from __future__ import annotations

import hashlib
import lzma
import runpy
import shutil
import subprocess
import tarfile
from pathlib import Path, PurePosixPath

import pytest

from dokimos.cvm_image import layout
from dokimos.cvm_image.assemble.build import build
from dokimos.cvm_image.assemble.tree import matches, normal

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

MADE_BY_MMDEBSTRAP = {
    "/dev/*": "device nodes; the guest's kernel makes its own",
    "/etc/apt*": "settings of apt, which the guest does not have",
    "/var/lib/dpkg*": "the database of dpkg, which the guest does not have",
    "/var/*": "left by apt and dpkg; the profile leaves out /var",
}
"""Paths that mmdebstrap makes although no package brings them."""

DROPPED_BITS = {"/usr/bin/mount": "set-user-ID: nothing in an image may gain rights"}
"""Packages' files whose mode is another one in the image."""


_GENERATOR = runpy.run_path(str(Path(__file__).parents[1] / "generate/flat_repository.py"))


def _silent(*_):
    pass


@pytest.fixture(scope="module")
def built(tmp_path_factory, loud_skip, locked):
    if shutil.which("mmdebstrap") is None:
        loud_skip("mmdebstrap is not installed: what packages unpack to NOT COMPARED", "test_oracle")
    profile, lock, _, store = locked("cpu")
    folder = tmp_path_factory.mktemp("oracle")
    build(profile, lock, store, folder / "image", told=_silent)
    return profile, lock, store, folder


def _extracted(built, *groups):
    """Path -> (type, mode, uid, gid, content or target) of what mmdebstrap unpacks."""
    _, lock, store, folder = built
    packages = {package.name: package for group in groups for package in lock.group(group)}
    line = _GENERATOR["flat_repository"](
        packages.values(), store, folder / f"repository-{groups[0]}", dependencies=False
    )
    out = folder / f"{groups[0]}.tar"
    command = ["mmdebstrap", "--variant=extract", f"--include={','.join(packages)}", "", str(out), line]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    found = {}
    with tarfile.open(out) as tar:
        for member in tar:
            kind = "file" if member.isreg() or member.islnk() else "link" if member.issym() else "folder"
            content = tar.extractfile(member).read() if kind == "file" else member.linkname if kind == "link" else ""
            found[normal(member.name)] = (kind, f"{member.mode:04o}", member.uid, member.gid, content)
    return found


def _hashed(entry):
    return (*entry[:4], hashlib.sha256(entry[4]).hexdigest() if entry[0] == "file" else entry[4])


def test_the_root_holds_what_mmdebstrap_unpacks_of_the_same_packages_and_nothing_else_of_them(built):
    profile, *_, folder = built
    theirs = _extracted(built, "root")
    ours = {entry.path: entry for entry in layout.read_files(folder / "image") if entry.volume == "root"}
    wrong = {}
    for path, entry in ours.items():
        if entry.origin.startswith("package:"):
            mine = (entry.type, entry.mode, entry.uid, entry.gid, entry.sha256 or entry.target)
            other = _hashed(theirs[path]) if path in theirs else None
            if path in DROPPED_BITS and other is not None:
                assert other[1].startswith("4"), path
                other = (other[0], "0" + other[1][1:], *other[2:])
            if mine != other:
                wrong[path] = (mine, other)
    assert wrong == {}
    rules = profile.root
    left_out = [
        path
        for path in theirs
        if path not in ours
        and path != "/"
        and not (matches(path, rules.exclude) and not matches(path, rules.include))
        and not matches(path, tuple(MADE_BY_MMDEBSTRAP))
    ]
    assert left_out == []
    assert set(DROPPED_BITS) <= set(ours), "a name in the list without a use"


def test_kernel_and_initrd_hold_what_mmdebstrap_unpacks_of_the_same_packages(built):
    profile, *_, folder = built
    theirs = _extracted(built, "kernel", "initrd")
    kernels = [entry[4] for path, entry in theirs.items() if path.startswith("/boot/vmlinuz-")]
    assert kernels == [(folder / "image" / layout.KERNEL).read_bytes()]
    ours = {entry.path: entry for entry in layout.read_files(folder / "image") if entry.volume == "initrd"}
    # Kernel modules lie there unpacked, since the initrd's busybox reads no xz, and numbered by their order of loading.
    modules = {
        PurePosixPath(path).name.replace("-", "_"): entry[4]
        for path, entry in theirs.items()
        if path.endswith(".ko.xz")
    }
    compared = 0
    for path, entry in ours.items():
        if entry.type == "file" and entry.origin.startswith("package:"):
            module = path.endswith(".ko")
            name = PurePosixPath(path).name.partition("-")[2].replace("-", "_")
            content = lzma.decompress(modules[f"{name}.xz"]) if module else theirs[path][4]
            assert hashlib.sha256(content).hexdigest() == entry.sha256, path
            assert module or (entry.mode, entry.uid, entry.gid) == theirs[path][1:4], path
            compared += module
    assert compared >= len(profile.initrd.modules)
    wanted = [path for path, entry in theirs.items() if entry[0] == "file" and matches(path, profile.initrd.files)]
    assert set(wanted) <= set(ours)
