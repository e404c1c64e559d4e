"""A synthetic image that every rule accepts, and one planted violation for each rule."""

from __future__ import annotations

import hashlib
import io
import json
import re
from dataclasses import replace

import pytest
from click.testing import CliRunner

from dokimos.cli import root as cli
from dokimos.cvm_image import layout
from dokimos.cvm_image.assemble.initrd import _acpi, write_newc
from dokimos.cvm_image.assemble.volume import option
from dokimos.cvm_image.audit import lint as module
from dokimos.cvm_image.audit.lint import LintRule, lint
from dokimos.cvm_image.layout import Artifact, BootInfo, FileEntry, Manifest, VolumeInfo
from dokimos.cvm_image.profile import OVERLAYS
from dokimos.errors import MaterialUnavailable

VOLUME = VolumeInfo(
    name="root",
    file="root.img",
    filesystem="squashfs",
    mount="/",
    data_blocks=1,
    salt="11" * 32,
    root_hash="22" * 32,
    uuid="x",
)
LINE = (
    "panic=-1 init_on_alloc=1 init_on_free=1 module.sig_enforce=1 acpi_no_static_ssdt systemd.import_credentials=no "
    + option(VOLUME)
)
UNIT = "/etc/systemd/system/dokimos.service"


def entry(path, *, volume="root", origin="package:x", data=b"x", **more):
    fields = {"type": "file", "mode": "0644", "uid": 0, "gid": 0, "size": len(data), "target": ""}
    sha256 = hashlib.sha256(data).hexdigest()
    return FileEntry(**{**fields, "volume": volume, "path": path, "sha256": sha256, "origin": origin, **more})


def overlay(name, path, volume="root", data=None):
    content = (OVERLAYS / name / path.lstrip("/")).read_bytes() if data is None else data
    return entry(path, volume=volume, origin=f"overlay:{name}", data=content)


def good_files():
    return [
        entry("/usr/lib/systemd/systemd", mode="0755"),
        entry("/etc/machine-id", data=b"", origin="profile"),
        entry("/tmp", type="folder", mode="1777", sha256="", origin="profile"),
        entry("/a/__pycache__/b.pyc", origin="step:pyc"),
        overlay("cpu", UNIT),
        overlay("cpu", "/etc/sysctl.conf"),
        overlay("initrd", "/init", "initrd"),
        overlay("initrd", "/etc/nftables.conf", "initrd"),
    ]


@pytest.fixture
def image(tmp_path):
    """image(files=, line=, initrd=) -> folder; what is not given is as every rule wants it."""

    def make(files=None, line=LINE, initrd=None, port=8443):
        folder = tmp_path / "image"
        folder.mkdir(exist_ok=True)
        out = io.BytesIO()
        write_newc(_acpi(b"DSDT"), out, ids={"root": 0})
        (folder / layout.INITRD).write_bytes(out.getvalue() if initrd is None else initrd)
        (folder / layout.COMMAND_LINE).write_text(line)
        (folder / layout.FILES).write_text(layout.format_files(good_files() if files is None else files))
        artifacts = tuple(
            Artifact(name=path.name, size=path.stat().st_size, sha256=layout.file_hash(path))
            for path in sorted(folder.iterdir())
            if path.name != layout.MANIFEST
        )
        manifest = Manifest(
            profile="x",
            dokimos="0",
            source_date_epoch=1,
            lock_sha256="1" * 64,
            profile_sha256="1" * 64,
            command_line=line,
            boot=BootInfo(memory=1, vcpus=1, vcpu_type="x", port=port),
            volumes=(VOLUME,),
            stages=(),
            artifacts=artifacts,
        )
        (folder / layout.MANIFEST).write_text(layout.format_manifest(manifest))
        return folder

    return make


def offended(folder):
    return {str(result.rule) for result in lint(folder) if result.findings}


def test_the_good_image_holds_every_rule(image):
    results = lint(image())
    assert [result.rule for result in results] == list(LintRule)
    assert [result for result in results if not result.passed] == []


def changed(name, path, old, new, volume="root"):
    """The good files with other bytes in one text, which the overlay then holds no more."""
    text = (OVERLAYS / name / path.lstrip("/")).read_text()
    assert old in text
    data = text.replace(old, new).encode()
    kept = [item for item in good_files() if item.path != path]
    return [*kept, overlay(name, path, volume, data)], (name, path, data)


FILES = {
    "image.set_id": entry("/usr/bin/x", mode="4755"),
    "image.owner": entry("/x", uid=1000),
    "image.world_writable": entry("/x", mode="0666"),
    "image.shell": entry("/usr/bin/bash"),
    "image.login": entry("/usr/sbin/agetty"),
    "image.package_manager": entry("/usr/bin/dpkg"),
    "image.compiler": entry("/usr/bin/gcc-14"),
    "image.unsafe_weights": entry("/model.pkl", volume="model"),
    "image.stray_python": entry("/x.pyc"),
    "image.machine_id": entry("/etc/machine-id", data=b"abc", origin="profile"),
    "image.persistence": entry("/etc/fstab"),
    "image.origin": entry("/x", origin="somewhere"),
    "image.core_dumps": entry("/usr/lib/systemd/systemd-coredump"),
    "image.unmeasured_input": entry("/usr/lib/systemd/system-generators/x"),
}
LINES = {
    "image.verity": LINE.replace("22" * 32, "33" * 32),
    "image.command_line.options": LINE.replace("init_on_free=1 ", ""),
    "image.command_line.dangerous": f"{LINE} systemd.debug_shell=1",
    "image.command_line.mitigations": f"{LINE} mitigations=off",
}
TEXTS = {
    "image.lockdown": ("initrd", "/init", "echo integrity >", "echo none >", "initrd"),
    "image.unmeasured_input": ("cpu", UNIT, "[Service]", "[Service]\nEnvironmentFile=-/run/env", "root"),
    "image.unit_order": ("cpu", UNIT, "FailureAction=poweroff-immediate", "FailureAction=none", "root"),
    "image.firewall": ("initrd", "/etc/nftables.conf", "tcp dport 8443", "tcp dport { 22, 8443 }", "initrd"),
    "image.sysctl": ("cpu", "/etc/sysctl.conf", "ptrace_scope = 3", "ptrace_scope = 0", "root"),
    "image.core_dumps": ("cpu", UNIT, "LimitCORE=0", "LimitCORE=infinity", "root"),
}


@pytest.mark.parametrize("rule", FILES)
def test_a_planted_file_turns_its_rule_red(image, rule):
    kept = [item for item in good_files() if (item.volume, item.path) != (FILES[rule].volume, FILES[rule].path)]
    assert offended(image([*kept, FILES[rule]])) == {rule}


@pytest.mark.parametrize("rule", LINES)
def test_a_planted_option_turns_its_rule_red(image, rule):
    assert offended(image(line=LINES[rule])) == {rule}


@pytest.mark.parametrize("rule", TEXTS)
def test_a_planted_line_in_a_text_turns_its_rule_red(image, rule, tmp_path, monkeypatch):
    name, path, old, new, volume = TEXTS[rule]
    files, (_, _, data) = changed(name, path, old, new, volume)
    place = tmp_path / "overlay"
    for item in files:
        if item.origin.startswith("overlay:"):
            kind = item.origin.partition(":")[2]
            target = place / kind / item.path.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data if item.path == path else (OVERLAYS / kind / item.path.lstrip("/")).read_bytes())
    monkeypatch.setattr(module, "OVERLAYS", place)
    assert offended(image(files)) == {rule}


def test_a_text_that_is_not_the_images_own_is_no_pass(image):
    """The overlay on this machine says one thing, the image holds another: nobody knows what."""
    files = [replace(item, sha256="00" * 32) if item.origin.startswith("overlay:") else item for item in good_files()]
    found = offended(image(files))
    assert {"image.lockdown", "image.firewall", "image.sysctl", "image.unit_order"} <= found


def test_the_text_of_an_overlay_beside_an_own_profile_is_read_where_the_caller_names_the_folder(image, tmp_path):
    text = (OVERLAYS / "cpu" / UNIT.lstrip("/")).read_bytes() + b"# mine\n"
    place = tmp_path / "overlay/mine" / UNIT.lstrip("/")
    place.parent.mkdir(parents=True)
    place.write_bytes(text)
    folder = image([*(item for item in good_files() if item.path != UNIT), overlay("mine", UNIT, data=text)])
    assert "image.unit_order" in offended(folder), "nobody knows what it says"
    assert [item for item in lint(folder, [tmp_path / "overlay"]) if not item.passed] == []


def test_an_initrd_without_the_trusted_table_at_its_start_is_red(image):
    assert offended(image(initrd=b"\x28\xb5\x2f\xfd" + b"kernel/firmware/acpi/dsdt.aml")) == {"image.acpi"}


def test_a_changed_added_or_missing_file_of_the_folder_is_red(image):
    folder = image()
    (folder / "extra").touch()
    assert offended(folder) == {"image.artifacts"}
    (folder / "extra").unlink()
    with (folder / layout.INITRD).open("ab") as file:
        file.write(b"x")
    assert offended(folder) == {"image.artifacts"}


def test_every_rule_has_a_planted_violation_and_a_row_in_the_table(checkout):
    planted = {*FILES, *LINES, *TEXTS, "image.acpi", "image.artifacts"}
    assert planted == {str(rule) for rule in LintRule}
    rows = re.findall(r"^\| `(image\.[a-z_.]+)` \|", (checkout / "docs/image-lint.md").read_text(), re.MULTILINE)
    assert rows == [str(rule) for rule in LintRule]


def test_an_image_without_systemd_skips_what_is_about_it_and_says_so(image):
    files = [item for item in good_files() if item.path not in ("/usr/lib/systemd/systemd", UNIT)]
    skipped = {str(result.rule): result.skipped for result in lint(image(files)) if result.skipped}
    assert skipped["image.sysctl"] == "the first program is not systemd"
    assert "image.set_id" not in skipped


def test_the_command_ends_with_10_on_a_violation_and_40_without_an_image(image, tmp_path):
    runner = CliRunner()
    good = runner.invoke(cli, ["image", "lint", str(image()), "--json"])
    assert (good.exit_code, len(json.loads(good.output))) == (0, len(LintRule))
    bad = runner.invoke(cli, ["image", "lint", str(image([*good_files(), FILES["image.shell"]]))])
    assert bad.exit_code == 10
    assert "/usr/bin/bash" in bad.output
    with pytest.raises(MaterialUnavailable):
        lint(tmp_path / "nothing")
