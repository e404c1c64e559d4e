"""Files of Debian packages, by the packages' SHA-256: real firmware and a real kernel, out of the builder's store.

No firmware is committed.  ``ovmf-amdsev``, QEMU and the kernel are in the locks of the built-in profiles, so that
``dokimos image fetch test`` brings them.  The others come into the store with a lock of one's own, whose profile names
them among the packages of its firmware; bookworm's is put there by hand, under its SHA-256.
"""

from __future__ import annotations

import tarfile
from typing import TYPE_CHECKING, NamedTuple

import pytest

from dokimos.cvm_image.assemble.deb import unpack
from dokimos.cvm_image.boot.machine import qemu_command
from dokimos.cvm_image.boot.tools import qemu_tools
from dokimos.cvm_image.lock import read_lock
from dokimos.cvm_image.profile import lock_path
from dokimos.cvm_image.store import Store
from dokimos.errors import MaterialUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable


class _Package(NamedTuple):
    """SHA-256 of a package, and which of its files is wanted: the end of its path."""

    sha256: str
    path: str


PACKAGES = {
    "bookworm": _Package("e73d3d1a8799f7f6fc16b73501d913edcdd86237556fbff30693e747e6dc262e", "ovmf/OVMF.fd"),
    "bookworm code": _Package("e73d3d1a8799f7f6fc16b73501d913edcdd86237556fbff30693e747e6dc262e", "OVMF_CODE.fd"),
    "trixie": _Package("78e0d54df11fc77406cb7a0bc9a39e5bca6d1cbe06556b91d9a73491c52decdf", "ovmf/OVMF.fd"),
    "trixie code": _Package("78e0d54df11fc77406cb7a0bc9a39e5bca6d1cbe06556b91d9a73491c52decdf", "OVMF_CODE_4M.fd"),
    "trixie vars": _Package("78e0d54df11fc77406cb7a0bc9a39e5bca6d1cbe06556b91d9a73491c52decdf", "OVMF_VARS_4M.fd"),
    "trixie ms vars": _Package(
        "78e0d54df11fc77406cb7a0bc9a39e5bca6d1cbe06556b91d9a73491c52decdf", "OVMF_VARS_4M.ms.fd"
    ),
    "sid": _Package("05c1593998ba58700ff86c062bde306321af1f5a2943ea9ceef6c2332f3f3374", "ovmf/OVMF.fd"),
    "sid inteltdx": _Package("87123a9bf4dc1af7bbc48257a9b3db5933ff695167476d4fa48b705da1011fb1", "OVMF.inteltdx.ms.fd"),
    "sid amdsev": _Package("92c9b6d15e4eeb371938c3f99080c1a8fc057dfd6bc0509d37f8b615e9edebfb", "OVMF.amdsev.fd"),
    "kernel": _Package(
        "07f23ba1de88377d700e1e2f5b2ee495ff89b0d0bb73fdbd3eac8f6b27609b9a", "vmlinuz-6.12.118+deb13-cloud-amd64"
    ),
}


@pytest.fixture(scope="session")
def debian(tmp_path_factory, loud_skip) -> Callable[[str], bytes]:
    """``debian("trixie")``: the bytes of a file of a Debian package, or a loud skip where the store has not got it."""
    archives = tmp_path_factory.mktemp("debian")
    read: dict[str, bytes] = {}

    def file(name: str) -> bytes:
        package = PACKAGES[name]
        deb = Store().path(package.sha256)
        if not deb.is_file():
            loud_skip("Debian packages are not in the store: real firmware and kernel NOT MEASURED", name)
        if name not in read:
            archive = archives / package.sha256
            if not archive.is_file():
                unpack(deb, archive)
            with tarfile.open(archive) as tar:
                member = next(member for member in tar if member.isfile() and member.name.endswith(package.path))
                content = tar.extractfile(member)
                assert content
                read[name] = content.read()
        return read[name]

    return file


@pytest.fixture(scope="session")
def qemu(loud_skip) -> list[str]:
    """How the image builder's QEMU is called, or a loud skip where it is not in the store."""
    try:
        tools = qemu_tools(read_lock(lock_path("cpu")), Store(), lambda *_: None)
    except MaterialUnavailable:
        tools = loud_skip("QEMU is not in the store: ACPI tables NOT READ", "test_acpi_qtest")
    return qemu_command(tools)
