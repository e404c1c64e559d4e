"""``dokimos measure snp`` as a user starts it."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import version

import pytest

from dokimos.errors import ExitCode
from dokimos.measurements import snp
from dokimos.measurements.synthetic_ovmf import synthetic_ovmf


def _run(*arguments) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "dokimos", "measure", "snp", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, check=False, timeout=60)


@pytest.fixture
def files(tmp_path):
    for name, data in (("ovmf", synthetic_ovmf(8192)), ("kernel", b"kernel"), ("initrd", b"initrd")):
        (tmp_path / name).write_bytes(data)
    return tmp_path


def test_one_number_and_type_prints_one_digest(files):
    options = [
        "--ovmf",
        files / "ovmf",
        "--kernel",
        files / "kernel",
        "--initrd",
        files / "initrd",
        "--append",
        "quiet",
    ]
    ran = _run(*options, "--vcpus", 2)
    launch = snp.SnpLaunch(ovmf=synthetic_ovmf(8192), kernel=b"kernel", initrd=b"initrd", append="quiet", vcpus=2)
    assert ran.returncode == 0
    assert ran.stdout.decode() == snp.launch_digest(launch).hex() + "\n"


def test_several_print_a_table_and_json_names_the_model_of_the_monitor(files):
    options = ["--ovmf", files / "ovmf", "--vcpus", "1,2,4-6", "--vcpu-type", "EPYC-v4,EPYC-Milan"]
    ran = _run(*options)
    assert ran.returncode == 0
    assert "sev-snp-measure" in ran.stdout.decode()
    document = json.loads(_run(*options, "--json").stdout)
    assert document["schema"] == "dokimos.measure.snp/v1"
    assert document["sev_snp_measure"] == version("sev-snp-measure")
    assert [(row["vcpus"], row["vcpu_type"]) for row in document["digests"]] == [
        (count, name) for name in ("EPYC-v4", "EPYC-Milan") for count in (1, 2, 4, 5, 6)
    ]


def test_firmware_without_sev_metadata_is_refused_and_no_digest_printed(files):
    (files / "plain").write_bytes(bytes(8192))
    ran = _run("--ovmf", files / "plain", "--vcpus", 1)
    assert (ran.returncode, ran.stdout) == (ExitCode.MALFORMED, b"")
    assert b"Traceback" not in ran.stderr


def test_a_kernel_beside_firmware_with_a_dead_hash_table_is_refused(files):
    (files / "dead").write_bytes(synthetic_ovmf(8192, hash_table_gpa=0))
    ran = _run("--ovmf", files / "dead", "--kernel", files / "kernel", "--vcpus", 1)
    assert (ran.returncode, ran.stdout) == (ExitCode.UNSUPPORTED, b"")
    assert b"unmeasured" in ran.stderr


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (["--vcpus", "0"], ExitCode.USAGE),
        (["--vcpus", "5-2"], ExitCode.USAGE),
        (["--vcpus", "two"], ExitCode.USAGE),
        (["--vcpus", "1", "--append", "quiet"], ExitCode.USAGE),
        (["--vcpus", "1", "--vcpu-type", "Xeon"], ExitCode.USAGE),
        (["--vcpus", "1", "--guest-features", "xyz"], ExitCode.USAGE),
        (["--vcpus", "1", "--kernel", "no-such-file"], ExitCode.UNAVAILABLE),
    ],
)
def test_bad_options_have_their_exit_code(files, options, code):
    ran = _run("--ovmf", files / "ovmf", *options)
    assert (ran.returncode, ran.stdout) == (code, b"")
    assert b"Traceback" not in ran.stderr
