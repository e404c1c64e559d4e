from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from dokimos.cvm_image import apt as module
from dokimos.cvm_image.apt import Apt, Mirrors, given_mirrors, host_mirrors
from dokimos.cvm_image.profile import Suite
from dokimos.errors import MaterialUnavailable

INDEX = """\
Package: a
Version: 1:2-3
Architecture: amd64
Source: asrc (2)
Filename: pool/a_2-3_amd64.deb
Size: 5
SHA256: 1111
Depends: b
"""


def test_both_forms_of_the_hosts_settings_give_mirrors_and_foreign_archives_are_left_alone(tmp_path):
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list.d/a.sources").write_text(
        "Types: deb\nURIs: http://one.example/debian/\nSuites: bookworm bookworm-updates\nComponents: main\n\n"
        "Types: deb\nURIs: http://sec.example/debian-security\nSuites: bookworm-security\nComponents: main\n\n"
        "Types: deb\nURIs: https://other.example/tools\nSuites: x\nComponents: main\n"
    )
    (tmp_path / "sources.list").write_text(
        "# deb http://no.example/debian x main\ndeb [a=b] http://two.example/debian x main\n"
    )
    found = host_mirrors(tmp_path)
    assert found.main == ("http://one.example/debian", "http://two.example/debian")
    assert found.of("trixie-security") == ("http://sec.example/debian-security",)
    assert found.of("trixie") == found.main
    assert found.all == (*found.main, *found.security)


def test_a_host_without_a_mirror_says_that_one_can_be_given(tmp_path):
    with pytest.raises(MaterialUnavailable, match="--mirror"):
        host_mirrors(tmp_path)
    assert given_mirrors(["http://x/debian/"]) == Mirrors(main=("http://x/debian",), security=("http://x/debian",))


@pytest.fixture
def archive(tmp_path):
    """A flat archive on the local file system, unsigned."""
    folder = tmp_path / "archive/dists/trixie"
    (folder / "main/binary-amd64").mkdir(parents=True)
    (folder / "main/binary-amd64/Packages").write_text(INDEX)
    (folder / "Release").write_text("Suite: trixie\nCodename: trixie\nComponents: main\nArchitectures: amd64\n")
    return f"file:{tmp_path}/archive"


@pytest.mark.skipif(shutil.which("apt-get") is None, reason="no apt here")
def test_an_archive_without_a_signature_is_refused(tmp_path, archive):
    keyring = tmp_path / "keys.gpg"
    keyring.write_bytes(b"")
    with pytest.raises(MaterialUnavailable, match="apt: E:"):
        Apt(tmp_path / "apt", [Suite(suite="trixie")], given_mirrors([archive]), keyring=keyring)


def test_a_missing_keyring_or_apt_is_said_and_never_worked_around(tmp_path, monkeypatch):
    with pytest.raises(MaterialUnavailable, match="--keyring"):
        Apt(tmp_path / "a", [], given_mirrors([]), keyring=tmp_path / "none")
    (tmp_path / "keys").touch()
    monkeypatch.setattr(module.subprocess, "run", _no_such_program)
    with pytest.raises(MaterialUnavailable, match="building from one needs none"):
        Apt(tmp_path / "b", [], given_mirrors([]), keyring=tmp_path / "keys")


def _no_such_program(*_, **__):
    raise FileNotFoundError


def test_an_index_past_its_time_is_refused_by_name_with_the_option_that_accepts_it():
    said = "E: Release file for http://x/debian/dists/sid/InRelease is expired (invalid since 18d)."
    assert "--allow-expired sid" in module._why(said, [Suite(suite="trixie"), Suite(suite="sid")])
    assert "x/debian" not in module._why("E: broken http://x/debian/y", [])


def test_the_private_configuration_checks_validity_and_reads_nothing_of_the_host(tmp_path):
    text = module._configuration(tmp_path)
    assert 'Acquire::Check-Valid-Until "true";' in text
    assert "/etc/apt" not in text.replace(str(tmp_path), "")


def test_a_suite_for_named_packages_brings_no_other():
    pins = module._pins(Suite(suite="sid", priority=100, packages=("ovmf-amdsev",)))
    assert "Package: ovmf-amdsev\nPin: release n=sid\nPin-Priority: 100" in pins
    assert "Package: *\nPin: release n=sid\nPin-Priority: -1" in pins


class _Known(Apt):
    """apt's answers, recorded."""

    def __init__(self, answers):
        self._answers = answers
        self._suites = [Suite(suite=name) for name in ("trixie", "trixie-security", "sid")]

    def _run(self, *command):
        return self._answers[command[1]]


def test_packages_are_read_from_what_apt_prints():
    printed = "'http://x/pool/a_1%3a2-3_amd64.deb' a_1%3a2-3_amd64.deb 5 SHA256:11\n'x' b_1_all.deb 6 SHA256:22\n"
    listed = (
        " a | 1:2-3 | http://x/s trixie-security/main amd64 Packages\n"
        " a | 1:1 | http://x/d trixie/main amd64 Packages\n"
        " b | 1 | http://x/debian trixie/main amd64 Packages\n b | 1 | http://x/debian sid/main amd64 Packages\n"
    )
    apt = _Known({"install": printed, "show": INDEX, "madison": listed})
    assert apt.closure(["a"]) == [("a", "1:2-3", "amd64"), ("b", "1", "all")]
    assert apt.show([("a", "1:2-3", "amd64")])[0]["Filename"] == "pool/a_2-3_amd64.deb"
    with pytest.raises(MaterialUnavailable, match="no description of b"):
        apt.show([("b", "1", "all")])
    found = apt.suite_of([("a", "1:2-3", "amd64"), ("b", "1", "all")])
    assert found == ["trixie-security", "trixie"], "the first suite that lists the very version"
    with pytest.raises(MaterialUnavailable, match="no index lists b 2"):
        apt.suite_of([("b", "2", "all")])
    with pytest.raises(MaterialUnavailable, match="nothing to take"):
        _Known({"install": ""}).closure(["a"])


@pytest.mark.slow
def test_the_real_archive_resolves_the_test_profile_without_touching_the_host(tmp_path):
    from dokimos.cvm_image.profile import load_profile  # noqa: PLC0415 - slow tests only
    from dokimos.cvm_image.resolve import resolve  # noqa: PLC0415
    from dokimos.cvm_image.store import Store  # noqa: PLC0415

    profile = load_profile("test")
    before = sorted(
        (path, path.stat().st_mtime_ns) for path in Path("/var/lib/apt").rglob("*") if os.access(path, os.R_OK)
    )
    made = resolve(
        profile,
        mirrors=host_mirrors(),
        store=Store(tmp_path),
        allow_expired={"sid"},
        progress=lambda *_: None,
    )
    assert {"busybox-static", "ovmf-amdsev", "qemu-system-x86"} <= {deb.name for deb in made.debs}
    assert [suite.valid_until_checked for suite in made.suites] == [False, True, True]
    after = sorted(
        (path, path.stat().st_mtime_ns) for path in Path("/var/lib/apt").rglob("*") if os.access(path, os.R_OK)
    )
    assert before == after
