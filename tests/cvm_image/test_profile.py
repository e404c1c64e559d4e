from __future__ import annotations

import re
from dataclasses import fields, is_dataclass
from typing import get_args, get_type_hints

import pytest

from dokimos.cvm_image import profile as module
from dokimos.cvm_image.profile import (
    BUILTIN,
    OVERLAYS,
    Profile,
    find_overlay,
    load_profile,
    lock_path,
    parse_profile,
)
from dokimos.errors import MalformedEvidence, MaterialUnavailable, UsageError

TEXT = (BUILTIN / "cpu.toml").read_text()


def test_the_built_in_profiles_read_and_name_every_group():
    profile = load_profile("cpu")
    assert profile.text == TEXT
    assert set(profile.groups()) == {"boot", "firmware", "initrd", "kernel", "root", "tools", "uki"}
    assert load_profile(str(BUILTIN / "cpu.toml")) == profile


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("schema = 1", "schema = 2"),
        ('name = "cpu"', 'name = "cpu"\ntypo = 1'),
        ('name = "cpu"', "name = 1"),
        ('name = "cpu"\n', ""),
        ('filesystem = "squashfs"', 'filesystem = "ext4"'),
        ("level = 3", 'level = "6"'),
        ('"panic=-1",', '"panic=-1 init=/bin/sh",'),
        ('python = "3.13"\n', ""),
        ('mount = "/usr/share', 'mount = "usr/share'),
        ('mount = "/usr/share', 'mount = "/../share'),
        ('links."/bin"', 'links."bin"'),
        ("vcpus = [1, 2, 4, 8, 16]", "vcpus = []"),
        ("memory = [1024, 4096]", "memory = [4096]"),
        ("memory = [1024, 4096]", ""),
        ("memory = [1024, 4096]", 'memory = ["1G"]'),
        ("vcpus = [1, 2, 4, 8, 16]", "vcpus = [1]"),
        ('tdx = "/usr/share/ovmf/OVMF.fd"', "tdx = true"),
        ('links."/bin" = "usr/bin"', 'links."/bin" = 1'),
        ("[measure]", "[other]"),
        ('name = "cpu"', 'name = "cpu"\ntext = "x"'),
        ('name = "cpu"', 'name = "cpu"\noverlays = []'),
        ('overlay = ["cpu"]', 'overlay = ["/etc"]'),
        ("[uki] ", "[uki]\nalways = true\npackages = []\n[other]"),
        ('overlay = ["cpu"]', 'overlay = ["cpu/../../.."]'),
        ('acpi = "acpi/dsdt.asl"', 'acpi = "../acpi/dsdt.asl"'),
    ],
)
def test_a_profile_with_a_misspelt_rule_is_refused_and_never_half_read(old, new):
    assert old in TEXT
    with pytest.raises(MalformedEvidence):
        parse_profile(TEXT.replace(old, new, 1))


def test_an_image_need_not_be_for_tdx():
    text = TEXT.replace('tdx = "/usr/share/ovmf/OVMF.fd"', "").replace("memory = [1024, 4096]", "")
    profile = parse_profile(text)
    assert (profile.firmware.tdx, profile.measure.memory) == ("", ())


def test_an_unknown_profile_names_the_known_ones(tmp_path):
    for name in ("nothing", "x" * 5000):
        with pytest.raises(MaterialUnavailable, match="cpu, test"):
            load_profile(name)
    (tmp_path / "x.txt").write_text(TEXT)
    with pytest.raises(UsageError):
        lock_path(str(tmp_path / "x.txt"))


def test_an_overlay_beside_the_profile_stands_before_the_projects_and_a_missing_one_is_named(tmp_path):
    (tmp_path / "overlay/mine").mkdir(parents=True)
    (tmp_path / "mine.toml").write_text(TEXT)
    profile = load_profile(str(tmp_path / "mine.toml"))
    assert find_overlay("mine", profile.overlays) == tmp_path / "overlay/mine"
    assert find_overlay("cpu", profile.overlays) == OVERLAYS / "cpu"
    (tmp_path / "overlay/cpu").mkdir()
    assert find_overlay("cpu", profile.overlays) == tmp_path / "overlay/cpu"
    with pytest.raises(MaterialUnavailable, match="overlay 'other'"):
        find_overlay("other", profile.overlays)


def _keys(kind):
    for item in fields(kind):
        yield item.name
        hint = get_type_hints(kind)[item.name]
        for inner in (hint, *get_args(hint)):
            if is_dataclass(inner):
                yield from _keys(inner)


def test_every_key_of_a_profile_is_documented(checkout):
    page = (checkout / "docs/profile.md").read_text()
    missing = {key for key in set(_keys(Profile)) - {"text", "overlays"} if not re.search(rf"\b{key}\b", page)}
    assert missing == set()


def test_the_initrd_gives_devices_to_the_services_own_user():
    (user,) = load_profile("cpu").root.users
    init = (module.HERE / "overlay/initrd/init").read_text()
    assert f"chown {user.id}:{user.id} " in init
