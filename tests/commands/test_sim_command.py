"""``dokimos sim``: what it writes is what ``verify snp`` accepts, under a policy that names its root, and else not."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from dokimos.errors import ExitCode
from dokimos.measurements import snp
from dokimos.measurements.synthetic_ovmf import synthetic_ovmf

_MEASUREMENT = "ab" * 48


def _run(*arguments):
    command = [sys.executable, "-m", "dokimos", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=90)


@pytest.fixture(scope="module")
def state(tmp_path_factory):
    return tmp_path_factory.mktemp("sim")


def _policy(folder, root, **keys):
    lines = [f"{name} = {json.dumps(value)}" for name, value in keys.items()]
    path = folder / "policy.toml"
    path.write_text("\n".join(["schema = 1", "[snp]", f'simulated_roots = ["{root}"]', *lines]) + "\n")
    return path


def _verify(folder, *options, vlek=False):
    files = [
        "--vek",
        folder / "vek.der",
        "--ca",
        folder / ("asvk.der" if vlek else "ask.der"),
        "--ca",
        folder / "ark.der",
    ]
    ran = _run("verify", "snp", folder / "report.bin", *files, "--crl", folder / "crl.der", "--json", *options)
    return ran.returncode, json.loads(ran.stdout)


@pytest.mark.parametrize(
    ("product", "version", "vlek"),
    [("Milan", 2, False), ("Milan", 5, True), ("Genoa", 3, False), ("Bergamo", 4, False), ("Turin", 5, False)],
)
def test_a_simulated_report_is_accepted_only_where_its_root_is_named(state, tmp_path, product, version, vlek):
    options = ["--state", state, "--product", product]
    root = _run("sim", "init", *options)
    assert root.returncode == 0
    assert "SIMULATED" in root.stderr
    more = ["--vlek"] if vlek else []
    made = _run("sim", "report", *options, "--version", version, *more, "--measurement", _MEASUREMENT, "-o", tmp_path)
    assert made.returncode == 0
    assert "SIMULATED" in made.stderr
    policy = _policy(tmp_path, root.stdout.strip(), measurements=[_MEASUREMENT], revocation="require")
    extra = ["--allow-vlek"] if vlek else []
    code, document = _verify(tmp_path, "--policy", policy, *extra, vlek=vlek)
    assert (code, document["verdict"], document["simulated"]) == (0, "accepted", True)
    assert document["evidence"]["version"] == version
    code, document = _verify(tmp_path, "--measurement", _MEASUREMENT, *extra, vlek=vlek)
    assert (code, document["verdict"]) == (ExitCode.REJECTED, "rejected")
    assert [check["id"] for check in document["checks"] if check["status"] == "fail"] == ["snp.ca.pinned"]


def test_a_launch_from_files_carries_the_digest_that_measure_computes(state, tmp_path):
    (tmp_path / "ovmf").write_bytes(synthetic_ovmf())
    (tmp_path / "kernel").write_bytes(b"kernel")
    files = ["--ovmf", tmp_path / "ovmf", "--kernel", tmp_path / "kernel", "--append", "quiet", "--vcpus", 2]
    made = _run("sim", "report", "--state", state, *files, "-o", tmp_path / "out")
    launch = snp.SnpLaunch(ovmf=synthetic_ovmf(), kernel=b"kernel", append="quiet", vcpus=2)
    assert f"measurement {snp.launch_digest(launch).hex()}" in made.stdout
    report = (tmp_path / "out" / "report.bin").read_bytes()
    assert report[0x90:0xC0] == snp.launch_digest(launch)


@pytest.mark.parametrize(
    "options", [[], ["--measurement", "ab"], ["--measurement", _MEASUREMENT, "--report-data", "00"], ["--version", "6"]]
)
def test_misuse_writes_nothing(state, tmp_path, options):
    ran = _run("sim", "report", "--state", state, *options, "-o", tmp_path / "out")
    assert ran.returncode in (ExitCode.USAGE, ExitCode.MALFORMED)
    assert not (tmp_path / "out").exists()
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize("td15", [False, True])
def test_a_simulated_td_is_written_whole_and_its_collateral_can_be_inspected(state, tmp_path, td15):
    from dokimos.endorsements.collateral_bundle import parse_collateral  # noqa: PLC0415
    from dokimos.evidence.tdx import parse_quote  # noqa: PLC0415

    options = ["--rtmr", f"2={'cd' * 48}", "--report-data", "01" * 64, *(["--td15"] if td15 else [])]
    ran = _run("sim", "tdx", "--state", state, "--mrtd", _MEASUREMENT, *options, "-o", tmp_path / "td")
    assert ran.returncode == 0, ran.stderr
    assert "SIMULATED" in ran.stderr
    quote = parse_quote((tmp_path / "td/quote.bin").read_bytes())
    assert (quote.body.mrtd.hex(), quote.body.rtmrs[2].hex()) == (_MEASUREMENT, "cd" * 48)
    assert (quote.version, quote.body.tee_tcb_svn2 is not None) == ((5, True) if td15 else (4, False))
    assert parse_collateral((tmp_path / "td/collateral.json").read_bytes()).pck_crl
    assert _run("endorsements", "inspect", tmp_path / "td/collateral.json").returncode == 0


@pytest.mark.parametrize("wrong", [["--rtmr", "4=00"], ["--rtmr", "x"], ["--rtmr", "1=00"], ["--mrtd", "00"]])
def test_a_register_that_is_none_is_said_and_nothing_is_written(state, tmp_path, wrong):
    ran = _run("sim", "tdx", "--state", state, *wrong, "-o", tmp_path / "td")
    assert ran.returncode in (ExitCode.USAGE, ExitCode.MALFORMED)
    assert "Traceback" not in ran.stderr
    assert not (tmp_path / "td").exists()
