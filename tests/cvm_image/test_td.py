"""The inference image as a TD: booted, verified against its own measurements, attacked."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest

from dokimos.attest.sim_port import Tee
from dokimos.client.session import Session
from dokimos.cvm_image import layout
from dokimos.cvm_image.assemble.build import build
from dokimos.cvm_image.boot.emulated import EmulatedGuest
from dokimos.errors import Check, UnsupportedEvidence, VerificationError
from dokimos.measurements.firmware_profile import SMBIOS_MEASUREMENT
from dokimos.measurements.image import parse_measurements
from dokimos.measurements.synthetic_ovmf import TDX_MARKS, synthetic_tdvf
from dokimos.verifier.policy import load_policy

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def store(locked):
    return locked("cpu").store


@pytest.fixture(scope="module")
def image(locked, tmp_path_factory):
    made = locked("cpu")
    folder = tmp_path_factory.mktemp("td") / "cpu"
    build(made.profile, made.lock, made.store, folder, told=lambda *_: None)
    return folder


@pytest.fixture
def launched(store, tmp_path):
    """launched(image, **what differs) -> a guest that is measured and not yet started."""
    return lambda image, **differing: EmulatedGuest(
        image, store, state_dir=tmp_path / "state", tee=Tee.TDX, **differing
    )


@pytest.fixture
def others(image, tmp_path):
    """Another kernel, which starts, and another initrd."""
    kernel, initrd = tmp_path / "kernel", tmp_path / "initrd"
    kernel.write_bytes((image / layout.KERNEL).read_bytes() + bytes(8))
    initrd.write_bytes((image / layout.INITRD).read_bytes() + bytes(512))
    return {"kernel": kernel, "initrd": initrd, "command_line": layout.read_manifest(image).command_line + " debug"}


def _copy(image, folder, change):
    shutil.copytree(image, folder, copy_function=os.link)
    manifest = folder / layout.MANIFEST
    document = json.loads(manifest.read_text())
    change(document)
    manifest.unlink()
    manifest.write_text(json.dumps(document))
    return folder


def _measured(guest):
    return dict(guest.launch.measured)


def _moved(guest, before):
    return {name for name, value in _measured(guest).items() if value != before[name]}


def test_what_is_simulated_is_what_the_image_says_of_itself(image, launched):
    tdx = parse_measurements((image / layout.MEASUREMENTS).read_text()).tdx
    boot = layout.read_manifest(image).boot
    (row,) = [row for row in tdx.machines if (row.vcpus, row.memory) == (boot.vcpus, boot.memory)]
    expected = {"MRTD": tdx.mrtd, "RTMR0": row.rtmr0, "RTMR1": row.rtmr1, "RTMR2": row.rtmr2}
    assert _measured(launched(image)) == expected
    assert {(row.vcpus, row.memory) for row in tdx.machines} >= {(1, 1024), (16, 4096)}


def test_each_thing_that_is_changed_moves_its_own_register(image, launched, others, tmp_path):
    before = _measured(launched(image))
    assert _moved(launched(image, kernel=others["kernel"]), before) == {"RTMR1"}
    assert _moved(launched(image, initrd=others["initrd"]), before) == {"RTMR2"}
    assert _moved(launched(image, command_line=others["command_line"]), before) == {"RTMR2"}
    for number, (key, value) in enumerate((("memory", 2048), ("vcpus", 3))):
        other = _copy(image, tmp_path / str(number), lambda d, key=key, value=value: d["boot"].update({key: value}))
        assert _moved(launched(other), before) == {"RTMR0"}
    fewer = _copy(image, tmp_path / "fewer", lambda document: document["volumes"].pop())
    assert _moved(launched(fewer), before) == {"RTMR0"}
    other = _copy(image, tmp_path / "firmware", lambda document: None)
    firmware = (image / layout.FIRMWARE_TDX).read_bytes()
    (other / layout.FIRMWARE_TDX).unlink()
    at = len(firmware) - 0x20000
    (other / layout.FIRMWARE_TDX).write_bytes(firmware[:at] + bytes([firmware[at] ^ 1]) + firmware[at + 1 :])
    assert _moved(launched(other), before) == {"MRTD"}


def test_firmware_whose_registers_cannot_be_known_is_not_simulated(image, launched, tmp_path):
    other = _copy(image, tmp_path / "firmware", lambda document: None)
    for marks, why in ((TDX_MARKS[1:], "TdTcg2Dxe"), ((*TDX_MARKS, SMBIOS_MEASUREMENT.bytes_le), "SMBIOS tables")):
        (other / layout.FIRMWARE_TDX).unlink()
        (other / layout.FIRMWARE_TDX).write_bytes(synthetic_tdvf(marks=marks))
        with pytest.raises(UnsupportedEvidence, match=why):
            launched(other)


def test_the_command_boots_it_and_its_policy_accepts_it_and_no_other(image, launched, others, store, tmp_path):
    command = [sys.executable, "-m", "dokimos", "image", "boot", str(image), "--tee", "tdx", "--exit"]
    command += ["--store", str(store.folder), "--state", str(tmp_path / "state"), "--timeout", "240"]
    command += ["--write-policy", str(tmp_path / "policy.toml")]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "SIMULATED" in ran.stdout
    assert f"MRTD {parse_measurements((image / layout.MEASUREMENTS).read_text()).tdx.mrtd}" in ran.stdout
    assert "endpoint verified" in ran.stderr
    policy = load_policy((tmp_path / "policy.toml").read_text())
    with launched(image, kernel=others["kernel"]) as guest:
        guest.wait_serving(240)
        with pytest.raises(VerificationError) as refused:
            Session.open(guest.url, policy)
    assert refused.value.failed.id is Check.TDX_RTMR1


def test_a_policy_written_of_the_image_alone_accepts_it_under_the_simulated_root(image, launched):
    td = launched(image)
    options = ["--tee", "tdx", "--image", str(image), "--simulated-root", td.launch.root_sha256.hex()]
    command = [sys.executable, "-m", "dokimos", "policy", "init", *options]
    written = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    with td:
        td.wait_serving(240)
        with Session.open(td.url, load_policy(written)) as session:
            assert session.result.verdict == "accepted"
        with pytest.raises(VerificationError) as refused:
            Session.open(td.url, load_policy(written.replace(td.launch.root_sha256.hex(), "11" * 32)))
    assert refused.value.failed.id is Check.TDX_ROOT_PINNED


def test_the_policy_of_sev_snp_does_not_accept_a_td_nor_the_other_way_round(image, launched, store, tmp_path):
    snp = EmulatedGuest(image, store, state_dir=tmp_path / "state")
    td = launched(image)
    with td:
        td.wait_serving(240)
        with Session.open(td.url, load_policy(td.policy())) as session:
            assert session.result.verdict == "accepted"
            assert session.result.simulated
        with pytest.raises(VerificationError) as refused:
            Session.open(td.url, load_policy(snp.policy()))
    assert str(refused.value.failed.id).startswith("tdx.")
