"""``dokimos policy init --image``: an image's own measurements as a policy's reference values."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256

import pytest
from click.testing import CliRunner

from dokimos.commands.policy import command
from dokimos.cvm_image import layout
from dokimos.errors import MalformedEvidence, MaterialUnavailable, UnsupportedEvidence
from dokimos.measurements.image import Measurements, SnpDigest, SnpMeasurements, format_measurements
from dokimos.measurements.image_tdx import TdxBasis, TdxImage, TdxRow
from dokimos.verifier.policy import load_policy

_LINE = "quiet dokimos.volume=root"


def _hex(number, size=48):
    return (bytes([number]) * size).hex()


_SNP = SnpMeasurements(
    firmware_sha256=_hex(1, 32),
    kernel_sha256=_hex(2, 32),
    initrd_sha256=_hex(3, 32),
    command_line_sha256=_hex(4, 32),
    guest_features=1,
    vmm="qemu",
    digests=tuple(
        SnpDigest(vcpus=number, vcpu_type=kind, launch_digest=_hex(number))
        for number in (1, 2)
        for kind in ("EPYC-v4", "EPYC-Genoa")
    ),
)
_TDX = TdxImage(
    firmware_sha256=_hex(1, 32),
    machine="pc",
    vmm="qemu",
    qemu="10.1",
    mrtd=_hex(5),
    basis=TdxBasis(mrtd="computed", rtmr0="computed", rtmr1="computed", rtmr2="computed"),
    machines=tuple(
        TdxRow(vcpus=vcpus, memory=1024, rtmr0=_hex(16 + vcpus), rtmr1=_hex(6), rtmr2=_hex(7)) for vcpus in (1, 2)
    ),
)
_BOTH = Measurements(snp=_SNP, tdx=_TDX)


@pytest.fixture
def init(tmp_path):
    def run(measured, *options):
        text = measured if isinstance(measured, str) else format_measurements(measured)
        (tmp_path / layout.MEASUREMENTS).write_text(text)
        (tmp_path / layout.COMMAND_LINE).write_text(_LINE)
        return CliRunner().invoke(command, ["init", "--image", str(tmp_path), *options])

    return run


def test_a_policy_for_sev_snp_accepts_each_digest_of_the_image_and_no_other(init):
    found = init(_BOTH)
    assert found.exit_code == 0
    policy = load_policy(found.output)
    assert policy.snp.measurements == (bytes([1]) * 48, bytes([2]) * 48), "each once"
    assert policy.tdx.mrtd == ()
    assert policy.binding.image_sha256 == (sha256(_LINE.encode()).digest(),)


def test_a_policy_for_tdx_names_every_register_of_the_image(init):
    found = init(_BOTH, "--tee", "tdx", "--measurement", _hex(9), "--simulated-root", _hex(8, 32))
    policy = load_policy(found.output)
    assert policy.tdx.mrtd == (bytes([9]) * 48, bytes([5]) * 48)
    assert policy.tdx.rtmr0 == (bytes([17]) * 48, bytes([18]) * 48)
    assert (policy.tdx.rtmr1, policy.tdx.rtmr2) == ((bytes([6]) * 48,), (bytes([7]) * 48,))
    assert policy.tdx.simulated_roots == (bytes([8]) * 32,)
    assert policy.snp.measurements == ()
    assert policy.binding.image_sha256 == (sha256(_LINE.encode()).digest(),)


def test_without_an_image_nothing_is_named():
    policy = load_policy(CliRunner().invoke(command, ["init", "--tee", "tdx"]).output)
    assert (policy.tdx.rtmr0, policy.tdx.rtmr1, policy.tdx.rtmr2, policy.binding.image_sha256) == ((), (), (), ())


def test_what_an_image_does_not_say_is_not_made_up(init, tmp_path):
    assert isinstance(init(replace(_BOTH, tdx=None), "--tee", "tdx").exception, MaterialUnavailable)
    row = replace(_TDX.machines[0], rtmr0=None)
    open_register = replace(_BOTH, tdx=replace(_TDX, machines=(row, *_TDX.machines[1:])))
    refused = init(open_register, "--tee", "tdx").exception
    assert isinstance(refused, UnsupportedEvidence)
    assert "RTMR0 is event-level only" in str(refused)
    assert isinstance(init("{}").exception, MalformedEvidence)
    nowhere = CliRunner().invoke(command, ["init", "--image", str(tmp_path / "nowhere")])
    assert isinstance(nowhere.exception, MaterialUnavailable)
