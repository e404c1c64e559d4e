"""Whole images: built twice, measured, booted, attacked."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import sys
from dataclasses import astuple, replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from dokimos.attest.sim_port import Tee
from dokimos.cvm_image import layout
from dokimos.cvm_image.assemble.build import build
from dokimos.cvm_image.audit.compare import compare
from dokimos.cvm_image.audit.diff import diff
from dokimos.cvm_image.audit.lint import lint
from dokimos.cvm_image.boot import emulated
from dokimos.cvm_image.boot.arguments import td_machine
from dokimos.cvm_image.boot.emulated import EmulatedGuest
from dokimos.cvm_image.boot.tables import td_hosts
from dokimos.cvm_image.boot.tools import qemu_tools
from dokimos.cvm_image.lock import format_lock, read_lock
from dokimos.cvm_image.profile import load_profile
from dokimos.cvm_image.store import Store
from dokimos.errors import MaterialUnavailable, UnsupportedEvidence, UsageError
from dokimos.measurements import acpi_qtest
from dokimos.measurements.firmware_profile import detect_profile
from dokimos.measurements.image import explain, parse_measurements, snp_measurements
from dokimos.measurements.image_tdx import PCI_WINDOW
from dokimos.measurements.tdvf import TdvfType, parse_tdvf
from dokimos.measurements.variable_store import parse_variable_store, secure_boot_variables
from dokimos.measurements.verity import root_hash

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
_PROGRAM = [sys.executable, "-m", "dokimos"]


def _silent(*_):
    pass


@pytest.fixture(scope="module")
def image(locked, tmp_path_factory):
    profile, lock, _, store = locked("test")
    folder = tmp_path_factory.mktemp("image") / "test"
    build(profile, lock, store, folder, told=_silent, keep_archives=True)
    return folder


@pytest.mark.parametrize("name", ["test", "cpu"])
def test_two_builds_under_all_perturbations_are_identical_bytes(locked, name):
    command = [*_PROGRAM, "image", "check", name, "--lock", str(locked(name).file), "--json"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    document = json.loads(ran.stdout)
    assert document["identical"]
    assert {"timezone", "hash-seed", "umask", "home", "tmpdir", "path"} <= set(document["varied"])


def test_the_measurements_are_those_of_the_files_alone(image):
    manifest = layout.read_manifest(image)
    written = parse_measurements((image / layout.MEASUREMENTS).read_text())
    again = snp_measurements(
        firmware=(image / layout.FIRMWARE_SNP).read_bytes(),
        kernel=(image / layout.KERNEL).read_bytes(),
        initrd=(image / layout.INITRD).read_bytes(),
        command_line=(image / layout.COMMAND_LINE).read_text(),
        vcpus=[1, 2],
        vcpu_types=["EPYC-v4"],
    )
    assert explain(written, replace(written, snp=again)) == ()
    (root,) = manifest.volumes
    data = (image / root.file).read_bytes()[: root.data_blocks * 4096]
    assert root_hash([data], bytes.fromhex(root.salt)).hex() == root.root_hash
    assert f":{root.data_blocks}:{root.salt}:{root.root_hash}:/" in manifest.command_line


def test_the_registers_of_a_td_are_those_that_measure_tdx_predicts_for_the_same_files(image):
    """By the other command, from the files and the machine's arguments alone."""
    manifest = layout.read_manifest(image)
    tdx = parse_measurements((image / layout.MEASUREMENTS).read_text()).tdx
    assert [(row.vcpus, row.memory) for row in tdx.machines] == [(1, 512), (2, 512)]
    assert set(astuple(tdx.basis)) == {"computed"}
    for row in tdx.machines:
        files = ["--firmware", layout.FIRMWARE_TDX, "--kernel", layout.KERNEL, "--initrd", layout.INITRD]
        machine = ["--memory", f"{row.memory}M", "--vcpus", str(row.vcpus), "--qemu-version", tdx.qemu]
        tables = ["--qemu", "auto", "--pci-window", f"{PCI_WINDOW:x}"]
        command = [*_PROGRAM, "measure", "tdx", *files, *machine, *tables, "--append", manifest.command_line, "--json"]
        ran = subprocess.run(
            [*command, "--", *td_machine(len(manifest.volumes))], capture_output=True, text=True, cwd=image, check=True
        )
        found = json.loads(ran.stdout)
        assert found["mrtd"]["single_pass"] == tdx.mrtd
        values = [found["rtmr"][name]["value"] for name in ("rtmr0", "rtmr1", "rtmr2")]
        assert values == [row.rtmr0, row.rtmr1, row.rtmr2]
        assert found["rtmr"]["rtmr0"]["open"] == []


def test_the_firmware_for_a_td_measures_its_boot_and_enforces_no_keys(image):
    """With keys of others in it, a TD would refuse to start the image's own kernel."""
    firmware = (image / layout.FIRMWARE_TDX).read_bytes()
    profile = detect_profile(firmware)
    assert (profile.measured_boot, profile.smbios, profile.fw_cfg) == (True, False, False)
    tdvf = parse_tdvf(firmware)
    store = parse_variable_store(bytes(tdvf.content(tdvf.only(TdvfType.CFV))))
    assert store == {}
    assert not secure_boot_variables(store, supported=profile.secure_boot).enforced


def test_the_command_recomputes_an_image_and_finds_what_was_changed(image, tmp_path):
    run = [*_PROGRAM, "measure", "image"]
    good = subprocess.run([*run, str(image), "--json"], capture_output=True, text=True, check=True)
    assert json.loads(good.stdout)["wrong"] == []
    copy = tmp_path / "copy"
    shutil.copytree(image, copy)
    (copy / layout.COMMAND_LINE).write_text((copy / layout.COMMAND_LINE).read_text() + " debug")
    with (copy / "root.img").open("r+b") as file:
        file.write(b"X")
    bad = subprocess.run([*run, str(copy), "--diff", str(image), "--json"], capture_output=True, text=True, check=False)
    document = json.loads(bad.stdout)
    assert bad.returncode == 10
    wrong = {item["what"] for item in document["wrong"]}
    assert {"command_line", "root hash of root", "RTMR2 2 x 512 MiB"} <= wrong
    assert not {"MRTD", "RTMR0 2 x 512 MiB", "RTMR1 2 x 512 MiB"} & wrong
    assert {"what": "option", "old": None, "new": "debug"} in document["changes"]
    (copy / layout.KERNEL).unlink()
    gone = subprocess.run([*run, str(copy)], capture_output=True, text=True, check=False)
    assert (gone.returncode, "Traceback" in gone.stderr) == (40, False)


def test_the_commands_of_the_documents_build_measure_and_check_an_image(locked, image, tmp_path):
    lock = ["--lock", str(locked("test").file)]
    for command in (
        ["image", "fetch", "test", *lock],
        ["image", "build", "test", *lock, "--output", "my-image"],
        ["measure", "image", "my-image"],
        ["image", "check", "test", *lock],
        ["image", "bundle", "export", "test", "bundle.tar", *lock],
        ["image", "bundle", "import", "bundle.tar", "--store", "store", "--write-lock", "again.lock"],
        ["image", "build", "test", "--lock", "again.lock", "--store", "store", "--output", "offline"],
    ):
        ran = subprocess.run([*_PROGRAM, *command], capture_output=True, text=True, cwd=tmp_path, check=False)
        assert ran.returncode == 0, ran.stdout + ran.stderr
    manifests = [(folder / layout.MANIFEST).read_text() for folder in (tmp_path / "my-image", tmp_path / "offline")]
    assert manifests[0] == manifests[1]
    assert compare(tmp_path / "my-image", tmp_path / "offline").identical


def test_the_arguments_for_a_host_with_sev_snp_are_shown_and_start_nothing(image):
    ran = subprocess.run(
        [*_PROGRAM, "image", "boot", str(image), "--snp", "--print"], capture_output=True, text=True, check=True
    )
    assert "sev-snp-guest,id=sev0" in ran.stdout
    assert "kernel-hashes=on" in ran.stdout
    assert f"-bios {image / layout.FIRMWARE_SNP}" in ran.stdout
    assert "tcg" not in ran.stdout


def test_the_arguments_for_a_host_with_tdx_are_shown_and_start_nothing(image, tmp_path):
    run = [*_PROGRAM, "image", "boot", str(image)]
    ran = subprocess.run([*run, "--tdx", "--print"], capture_output=True, text=True, check=True)
    assert '"qom-type":"tdx-guest"' in ran.stdout
    assert f"-bios {image / layout.FIRMWARE_TDX}" in ran.stdout
    assert "tcg" not in ran.stdout
    shown = subprocess.run([*run, "--tee", "tdx", "--print"], capture_output=True, text=True, check=True)
    assert "tcg" in shown.stdout
    for wrong in (["--tdx", "--snp"], ["--tee", "tdx", "--snp"], ["--simulated", "--tdx"], []):
        refused = subprocess.run([*run, *wrong], capture_output=True, text=True, check=False)
        assert (refused.returncode, refused.stdout) == (2, "")
    if not Path("/sys/module/kvm_intel/parameters/tdx").exists():
        ran = subprocess.run([*run, "--tdx"], capture_output=True, text=True, check=False)
        assert (ran.returncode, "cannot start a confidential machine" in ran.stderr) == (40, True)


def test_an_image_without_firmware_for_a_td_is_built_measured_and_not_started_as_one(locked, tmp_path):
    text = load_profile("test").text
    without = re.sub(r"^(tdx|memory) = (?!512$).*\n", "", text, flags=re.MULTILINE)
    made = locked(without.replace('["ovmf", "ovmf-amdsev"]', '["ovmf-amdsev"]'))
    build(made.profile, made.lock, made.store, tmp_path / "image", told=_silent)
    assert parse_measurements((tmp_path / "image" / layout.MEASUREMENTS).read_text()).tdx is None
    run = [*_PROGRAM, "measure", "image", str(tmp_path / "image"), "--json"]
    document = json.loads(subprocess.run(run, capture_output=True, text=True, check=True).stdout)
    assert (document["tdx"], document["wrong"]) == (None, [])
    for options in (["--tee", "tdx"], ["--tdx", "--print"]):
        command = [*_PROGRAM, "image", "boot", str(tmp_path / "image"), *options]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (ran.returncode, "no firmware-tdx.fd" in ran.stderr) == (40, True)


def test_firmware_that_measures_no_boot_ends_the_build(locked, tmp_path):
    profile, lock, _, store = locked("test")
    silent = replace(profile, firmware=replace(profile.firmware, tdx=profile.firmware.snp))
    with pytest.raises(UnsupportedEvidence, match="TdTcg2Dxe"):
        build(silent, lock, store, tmp_path / "out", told=_silent)
    missing = replace(profile, firmware=replace(profile.firmware, tdx="/usr/share/ovmf/nothing.fd"))
    with pytest.raises(MaterialUnavailable, match=r"nothing\.fd"):
        build(missing, lock, store, tmp_path / "out", told=_silent)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["test", "cpu"])
def test_a_built_image_holds_every_rule_of_hardening(locked, image, tmp_path, name):
    folder = image
    if name != "test":
        folder = tmp_path / name
        made = locked(name)
        build(made.profile, made.lock, made.store, folder, told=_silent)
    found = {str(result.rule): result.findings for result in lint(folder) if result.findings}
    assert found == {}


def test_every_file_of_the_folder_is_what_the_manifest_says(image):
    manifest = layout.read_manifest(image)
    names = {artifact.name for artifact in manifest.artifacts} | {layout.MANIFEST}
    assert {path.name for path in image.iterdir()} == names
    assert all(layout.file_hash(image / item.name) == item.sha256 for item in manifest.artifacts)
    origins = {entry.origin.partition(":")[0] for entry in layout.read_files(image)}
    assert origins == {"package", "overlay", "profile", "step"}


def test_one_more_option_moves_the_command_line_and_every_digest_and_nothing_else(locked, image, tmp_path):
    profile, lock, _, store = locked("test")
    build(profile, lock, store, tmp_path / "other", told=_silent, append=["debug"])
    found = compare(image, tmp_path / "other")
    assert found.first == "command-line"
    changed = diff(image, tmp_path / "other")
    assert (changed.packages, changed.files, changed.identical) == ((), (), False)
    assert {"option", "command_line"} <= {change.what for change in changed.measured}
    assert diff(image, image).identical
    command = [*_PROGRAM, "image", "diff", str(image), str(tmp_path / "other"), "--exit-code"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ran.returncode, "option: not there -> debug" in ran.stdout) == (10, True)
    old, new = (parse_measurements((side / layout.MEASUREMENTS).read_text()) for side in (image, tmp_path / "other"))
    assert {change.what for change in explain(old, new)} == {
        "command_line",
        "digest 1 x EPYC-v4",
        "digest 2 x EPYC-v4",
        "RTMR2 1 x 512 MiB",
        "RTMR2 2 x 512 MiB",
    }


def test_an_own_profile_with_an_overlay_beside_it_builds_the_same_bytes_under_all_conditions(locked, tmp_path):
    profile, lock, _, store = locked("test")
    (tmp_path / "overlay/mine/etc").mkdir(parents=True)
    (tmp_path / "overlay/mine/etc/note").write_text("mine\n")
    file = tmp_path / "mine.toml"
    text = profile.text.replace('name = "test"', 'name = "mine"').replace(
        'overlay = ["test"]', 'overlay = ["test", "mine"]'
    )
    file.write_text(text)
    own = load_profile(str(file))
    (tmp_path / "mine.lock").write_text(format_lock(replace(lock, profile="mine", profile_sha256=own.sha256)))
    ran = subprocess.run([*_PROGRAM, "image", "check", str(file)], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    build(own, read_lock(tmp_path / "mine.lock"), store, tmp_path / "image", told=_silent)
    assert ("/etc/note", "overlay:mine") in {(e.path, e.origin) for e in layout.read_files(tmp_path / "image")}


def test_a_folder_that_is_no_image_is_never_overwritten(locked, tmp_path):
    profile, lock, _, store = locked("test")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/letter").write_text("dear")
    with pytest.raises(UsageError, match="nothing was changed"):
        build(profile, lock, store, tmp_path / "mine", told=_silent)
    assert (tmp_path / "mine/letter").read_text() == "dear"


def test_a_build_without_its_files_says_which_one_to_fetch(locked, tmp_path):
    profile, lock, *_ = locked("test")
    with pytest.raises(MaterialUnavailable, match="fetch it"):
        build(profile, lock, Store(tmp_path / "empty"), tmp_path / "out", told=_silent)
    assert not (tmp_path / "out").exists()


@pytest.fixture
def guest(image, locked, tmp_path, monkeypatch):
    """guest(extra QEMU arguments, **what differs) -> the console of the test image until it ended."""
    store = locked("test").store
    original = emulated.qemu_arguments

    def run(extra=(), during=None, without_port=False, **differing):
        def arguments(*given, **named):
            words = original(*given, **named)
            if without_port:
                words = words[: words.index("virtio-serial-pci,max_ports=2") - 1]
            return [*words, *extra]

        monkeypatch.setattr(emulated, "qemu_arguments", arguments)
        with EmulatedGuest(image, store, state_dir=tmp_path / "state", **differing) as machine:
            if during:
                assert machine.machine.wait_for("dokimos: initrd", 120)
                during()
                return ""
            assert machine.machine.wait_end(120), "the guest ends by itself"
            return "\n".join(machine.machine.console)

    return run


VERIFIED = "dokimos: test image verified"


def test_the_image_boots_through_the_firmware_that_a_td_measures(guest, image):
    line = layout.read_manifest(image).command_line.replace("quiet ", "")
    said = guest(command_line=line, tee=Tee.TDX)
    assert "efi: EFI v" in said, "SeaBIOS has no such services"
    assert "Table Upgrade: override [DSDT-BOCHS -BXPC    ]" in said
    assert f"{line} initrd=initrd" in said, "the firmware's own word, as the prediction of RTMR2 has it"
    assert VERIFIED in said


def test_the_firmware_is_given_the_very_tables_that_are_predicted_for_rtmr0(guest, image, tmp_path):
    """Asked of the running machine, after its firmware has placed every BAR; no prediction has a part in it."""
    manifest = layout.read_manifest(image)
    boot, found = manifest.boot, {}
    predicted = td_hosts(
        qemu_tools(read_lock(image / layout.LOCK), Store(), _silent),
        [(boot.vcpus, boot.memory)],
        disks=len(manifest.volumes),
        kernel=image / layout.KERNEL,
    )[0].acpi

    def ask():
        with socket.socket(socket.AF_UNIX) as monitor, socket.socket(socket.AF_UNIX) as link:
            monitor.connect(str(tmp_path / "m"))
            monitor.sendall(b"stop\n")
            while b"stop" not in monitor.recv(4096):  # it repeats what it was told
                continue
            link.connect(str(tmp_path / "q"))
            pipe = link.makefile("rwb")
            asked = acpi_qtest._Machine([], 10)
            asked.__dict__["_process"] = SimpleNamespace(stdin=pipe, stdout=pipe)
            directory = asked.directory()
            found.update({name: asked.file(*directory[name]) for name in acpi_qtest._FILES})

    # Its own device, the port of the secure processor, stands in no table of a real TD: it is taken out.
    sockets = {name: f"unix:{tmp_path / name},server=on,wait=off" for name in "qm"}
    guest(
        ["-qtest", sockets["q"], "-qtest-log", "/dev/null", "-monitor", sockets["m"]],
        tee=Tee.TDX,
        during=ask,
        without_port=True,
    )
    assert [found[name] for name in acpi_qtest._FILES] == [predicted.loader, predicted.rsdp, predicted.tables]


def test_the_image_boots_under_its_own_acpi_table_and_switches_off(guest, image):
    line = layout.read_manifest(image).command_line.replace("quiet ", "")
    said = guest(command_line=line)
    assert "Table Upgrade: override [DSDT-BOCHS -BXPC    ]" in said
    assert "ACPI: 1 ACPI AML tables successfully acquired and loaded" in said
    assert "Kernel is locked down" in said
    assert VERIFIED in said
    assert "reboot: Power down" in said


def test_an_acpi_table_of_the_hosts_that_dodges_ours_ends_the_guest(guest):
    said = guest(["-machine", "q35,x-oem-id=EVIL"])
    assert "dokimos: refused: the host's DSDT is live, not the measured one" in said
    assert VERIFIED not in said


@pytest.mark.parametrize("block", [0, -1])
def test_a_flipped_block_of_the_root_ends_the_guest_before_it_serves(guest, image, tmp_path, block):
    volume = layout.read_manifest(image).volumes[0]
    disk = tmp_path / "root.img"
    shutil.copyfile(image / volume.file, disk)
    at = (block % volume.data_blocks) * 4096 + 7
    with disk.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 0x40]))
    said = guest(images=(disk,))
    assert "is corrupted" in said
    assert VERIFIED not in said


@pytest.mark.parametrize(
    "change",
    [
        lambda line: line.replace("dokimos.volume=root:squashfs:", "dokimos.volume=root:squashfs:1"),
        lambda line: line[:-66] + ("1" if line[-66] == "0" else "0") + line[-65:],
        lambda line: line.partition("dokimos.volume=")[0],
        lambda line: line.replace("dokimos.init=/init", "init=/init"),
        lambda line: line.replace(":/", ""),
    ],
    ids=["size", "root hash", "no volume", "no program", "no mount"],
)
def test_a_command_line_that_names_another_root_or_none_ends_the_guest(guest, image, change):
    line = layout.read_manifest(image).command_line
    assert change(line) != line
    said = guest(command_line=change(line))
    assert "Kernel panic" in said
    assert VERIFIED not in said
