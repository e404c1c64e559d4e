"""The unified kernel image: the very parts in one file, the same bytes each time, and no file without its tools."""

from __future__ import annotations

import struct

import pytest

from dokimos.cvm_image import layout
from dokimos.cvm_image.assemble.build import build
from dokimos.cvm_image.assemble.uki import write_uki
from dokimos.errors import MaterialUnavailable


def _silent(*_):
    pass


def _sections(data):
    """Contents by name, less the padding, after the PE/COFF specification, section 4."""
    (header,) = struct.unpack_from("<I", data, 0x3C)
    assert data[header : header + 4] == b"PE\0\0"
    count, optional = struct.unpack_from("<H", data, header + 6)[0], struct.unpack_from("<H", data, header + 20)[0]
    found = {}
    for number in range(count):
        name, size, _, length, offset = struct.unpack_from("<8s4I", data, header + 24 + optional + 40 * number)
        found[name.rstrip(b"\0").decode()] = data[offset : offset + min(size, length)]
    return found


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_unified_kernel_image_holds_the_very_parts_and_is_the_same_in_two_builds(locked, tmp_path):
    profile, lock, _, store = locked("test")
    assert profile.uki.always
    manifests = [build(profile, lock, store, tmp_path / name, told=_silent) for name in "ab"]
    assert manifests[0] == manifests[1]
    assert "uki" in {stage.name for stage in manifests[0].stages}
    found = _sections((tmp_path / "a" / layout.UKI).read_bytes())
    for section, part in ((".linux", layout.KERNEL), (".initrd", layout.INITRD), (".cmdline", layout.COMMAND_LINE)):
        assert found[section].rstrip(b"\0") == (tmp_path / "a" / part).read_bytes().rstrip(b"\0"), section


def test_a_unified_kernel_image_without_its_tools_is_an_error_that_names_them(tmp_path):
    with pytest.raises(MaterialUnavailable, match="systemd-ukify, systemd-boot-efi and python3"):
        write_uki(tmp_path, [], tmp_path / "scratch", epoch=0)
