"""``dokimos sim gpu``: what it writes is whole, reads back, matches its reference values, and says SIMULATED."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime

import pytest

from dokimos.endorsements.rim import rim_ids
from dokimos.endorsements.rim_store import RimStore
from dokimos.errors import ExitCode
from dokimos.evidence.gpu_evidence import parse_gpu_evidence, subjects
from dokimos.verifier.checklist import Checklist
from dokimos.verifier.gpu import verify_gpu_report
from dokimos.verifier.gpu_compare import compare
from dokimos.verifier.gpu_revocation import DEVICE_INDEXES, RIM_INDEXES, Checked, RevocationMaterial, check_revocation
from dokimos.verifier.gpu_rim import verify_rim
from dokimos.verifier.trust import GpuRevocation, GpuTrust

NONCE = "cd" * 32


def _run(*arguments):
    command = [sys.executable, "-m", "dokimos", "sim", "gpu", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=90)


@pytest.fixture(scope="module")
def state(tmp_path_factory):
    return tmp_path_factory.mktemp("sim")


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ([], ["GPU-0"]),
        (["--arch", "blackwell", "--count", "2"], ["GPU-0", "GPU-1"]),
        (["--arch", "ls10"], ["SWITCH-0"]),
        (["--hgx"], [*(f"GPU-{n}" for n in range(8)), *(f"SWITCH-{n}" for n in range(4))]),
    ],
)
def test_its_devices_verify_with_the_material_beside_them_and_the_roots_that_it_prints(state, tmp_path, options, names):
    files = ["-o", tmp_path / "out/evidence.json", "--material", tmp_path / "material"]
    ran = _run("--state", state, "--nonce", NONCE, *options, *files)
    assert (ran.returncode, "SIMULATED" in ran.stderr) == (0, True), ran.stderr
    said = dict(line.rsplit(" ", 1) for line in ran.stdout.splitlines())
    assert list(said) == ["nonce", "device root", "RIM root"]
    assert said["nonce"] == NONCE
    roots = frozenset(bytes.fromhex(said[name]) for name in ("device root", "RIM root"))
    trust = GpuTrust(simulated_roots=roots, revocation=GpuRevocation.BOTH)
    found = {path.name: path.read_bytes() for path in (tmp_path / "material").iterdir()}
    store, material, at = RimStore.of(found), RevocationMaterial.of(found), datetime.now(UTC)
    devices = parse_gpu_evidence((tmp_path / "out/evidence.json").read_bytes())
    assert list(subjects(devices)) == names

    def looked_up(chain, indexes):
        finding = check_revocation(chain, indexes, material, trust=trust, hold=False, at=at, checks=Checklist())
        assert finding.checked is Checked.BOTH

    for device in devices:
        verified = verify_gpu_report(device, trust=trust, at=at)
        assert verified.report.nonce.hex() == NONCE
        looked_up(verified.chain.certificates, DEVICE_INDEXES)
        rims = {
            need.source: verify_rim(store.find(need)[0].data, trust=trust, at=at, checks=Checklist())
            for need in rim_ids(verified.report, verified.chain.chip)
        }
        for rim in rims.values():
            looked_up(rim.chain, RIM_INDEXES)
        assert compare(verified.report, {source: rim.rim for source, rim in rims.items()}).holds


@pytest.mark.parametrize("options", [[], ["--arch", "blackwell", "--count", "2"], ["--hgx"]])
def test_verify_gpu_accepts_it_only_under_a_policy_that_names_both_roots(state, tmp_path, options):
    files = ["-o", tmp_path / "evidence.json", "--material", tmp_path / "material"]
    ran = _run("--state", state, "--nonce", NONCE, *options, *files)
    roots = [line.rsplit(" ", 1)[1] for line in ran.stdout.splitlines()[1:]]

    def verdict(named):
        policy = tmp_path / "policy.toml"
        policy.write_text(f'schema = 1\n[gpu]\nrevocation = "both"\nsimulated_roots = {json.dumps(named)}\n')
        given = [tmp_path / "evidence.json", "--rim", tmp_path / "material", "--policy", policy, "--nonce", NONCE]
        command = [sys.executable, "-m", "dokimos", "verify", "gpu", *map(str, given), "--json"]
        checked = subprocess.run(command, capture_output=True, text=True, check=False, timeout=90)
        document = json.loads(checked.stdout)
        return checked.returncode, [c["id"] for c in document["checks"] if c["status"] == "fail"], document["simulated"]

    assert verdict(roots) == (0, [], True)
    assert verdict(roots[1:])[:2] == (ExitCode.REJECTED, ["gpu.root.pinned"])
    assert verdict(roots[:1])[:2] == (ExitCode.REJECTED, ["gpu.rim.root_pinned"])


def test_without_a_nonce_it_takes_a_random_one_and_says_which(state, tmp_path):
    said = [_run("--state", state, "-o", tmp_path / "evidence.json").stdout for _ in range(2)]
    nonces = [text.splitlines()[0].removeprefix("nonce ") for text in said]
    assert nonces[0] != nonces[1]
    assert [text.splitlines()[1:] for text in said] == [said[0].splitlines()[1:]] * 2
    (device,) = parse_gpu_evidence((tmp_path / "evidence.json").read_bytes())
    assert device.nonce.hex() == nonces[1]


@pytest.mark.parametrize(
    "wrong",
    [["--nonce", "00"], ["--arch", "volta"], ["--count", "0"], ["--hgx", "--count", "2"], ["--hgx", "--arch", "ls10"]],
)
def test_misuse_writes_nothing(state, tmp_path, wrong):
    ran = _run("--state", state, *wrong, "-o", tmp_path / "out/evidence.json", "--material", tmp_path / "out")
    assert ran.returncode in (ExitCode.USAGE, ExitCode.MALFORMED)
    assert "Traceback" not in ran.stderr
    assert not (tmp_path / "out").exists()
