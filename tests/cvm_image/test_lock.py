from __future__ import annotations

from dataclasses import replace

import pytest

from dokimos.cvm_image.lock import Deb, Lock, Suite, Wheel, format_lock, parse_lock, read_lock
from dokimos.cvm_image.model import SMOLLM2
from dokimos.cvm_image.profile import BUILTIN, load_profile
from dokimos.errors import MalformedEvidence, MaterialUnavailable

DEB = Deb(
    name="libc6",
    version="1:2.41-12+deb13u5",
    arch="amd64",
    suite="trixie",
    path="pool/main/g/glibc/libc6_2.41_amd64.deb",
    size=10,
    sha256="11" * 32,
    source="glibc",
    source_version="2.41",
    why=("root", "tools"),
)
LOCK = Lock(
    profile="x",
    profile_sha256="22" * 32,
    source_date_epoch=1,
    suites=(Suite(suite="sid", component="main", inrelease_sha256="33" * 32, date=1, valid_until_checked=False),),
    debs=(DEB, replace(DEB, name="a", sha256="44" * 32)),
    wheels=(Wheel(name="w", version="1", filename="w-1-py3-none-any.whl", size=1, sha256="55" * 32),),
    models=(SMOLLM2,),
)


def test_a_lock_reads_as_it_was_written_sorted_and_one_line_each():
    text = format_lock(LOCK)
    assert parse_lock(text) == replace(LOCK, debs=tuple(sorted(LOCK.debs)))
    assert format_lock(parse_lock(text)) == text
    assert [line.split('"')[1] for line in text.splitlines() if "why" in line] == ["a", "libc6"]


def test_a_group_gives_its_packages_only():
    assert [deb.name for deb in LOCK.group("tools")] == ["libc6", "a"]
    assert LOCK.group("kernel") == ()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("schema = 1", "schema = 2"),
        ("source_date_epoch = 1", "source_date_epoch = -1"),
        ("source_date_epoch = 1", 'source_date_epoch = "1"'),
        ('profile = "x"', 'profile = "x"\nmore = 1'),
        ('profile = "x"\n', ""),
        ("pool/main/g/glibc", "pool/../../etc"),
        ('path = "pool', 'path = "/pool'),
        ('path = "pool', 'path = "http://host/pool'),
        ("11" * 32, "11" * 31),
        ("11" * 32, "1G" * 32),
        ("size = 10", "size = 0"),
        ("size = 10", "size = 99999999999"),
        ("size = 10", "size = true"),
        ('why = ["root", "tools"]', 'why = ["everything"]'),
        ('why = ["root", "tools"]', "why = []"),
        ('name = "libc6"', 'name = "-libc6"'),
        ('name = "libc6"', 'name = "libc6", host = "x"'),
        ('arch = "amd64", ', ""),
        ("debs = [", "debs = 3 #"),
    ],
)
def test_a_lock_with_anything_odd_in_it_is_refused(old, new):
    text = format_lock(LOCK)
    assert old in text
    with pytest.raises(MalformedEvidence):
        parse_lock(text.replace(old, new))


def test_a_package_that_stands_twice_is_refused():
    text = format_lock(LOCK)
    line = next(line for line in text.splitlines() if "libc6" in line)
    with pytest.raises(MalformedEvidence, match="twice"):
        parse_lock(text.replace(line, line + "\n" + line))


@pytest.mark.parametrize("name", sorted(path.stem for path in BUILTIN.glob("*.toml")))
def test_each_committed_lock_is_of_its_profile_and_names_no_host(name):
    text = (BUILTIN / f"{name}.lock").read_text()
    lock, profile = parse_lock(text), load_profile(name)
    assert "://" not in text
    assert format_lock(lock) == text
    assert (lock.profile, lock.profile_sha256) == (profile.name, profile.sha256)
    for group in profile.groups():
        assert lock.group(group), f"{group} has packages"
    assert {model.alias for model in lock.models} == {volume.model for volume in profile.volumes}


def test_a_lock_that_is_not_there_says_how_to_write_one(tmp_path):
    with pytest.raises(MaterialUnavailable, match="image lock"):
        read_lock(tmp_path / "x.lock")
    (tmp_path / "x.lock").write_bytes(b"\xff")
    with pytest.raises(MalformedEvidence):
        read_lock(tmp_path / "x.lock")
