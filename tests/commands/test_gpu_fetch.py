"""``dokimos endorsements fetch gpu`` and ``verify gpu --fetch``, against NVIDIA's services on loopback."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from dokimos.attest.sim_gpu import HOPPER, LS10
from dokimos.commands.endorsements import command as endorsements
from dokimos.commands.verify import command as verify
from dokimos.errors import MaterialUnavailable, UsageError
from dokimos.evidence.gpu_evidence import encode_gpu_evidence
from tests.endorsements import fake_nvidia as fake

NONCE = bytes(range(32))
AT = ["--at", fake.NOW.isoformat()]
DRIVER = HOPPER.rim_ids["driver"]


@pytest.fixture(scope="module")
def platform(tmp_path_factory):
    return fake.SimulatedNvidia(tmp_path_factory.mktemp("nvidia"), clock=lambda: fake.NOW)


@pytest.fixture(scope="module")
def devices(platform):
    return [platform.gpu(HOPPER), platform.gpu(LS10)]


@pytest.fixture
def service(platform, devices):
    services = fake.Services(devices, platform)
    yield services
    services.close()


@pytest.fixture
def evidence(tmp_path, devices):
    path = tmp_path / "evidence.json"
    path.write_bytes(encode_gpu_evidence([device.evidence(NONCE) for device in devices]))
    return path


@pytest.fixture
def policy(tmp_path, platform):
    roots = ", ".join(f'"{root.hex()}"' for root in platform.root_sha256s)
    path = tmp_path / "policy.toml"
    # A Hopper and a switch are no machine; what is verified here is each by itself.
    path.write_text(f'schema = 1\n[gpu]\nrevocation = "both"\nsimulated_roots = [{roots}]\n')
    return path


def urls(service):
    pairs = (("--rim-url", "rim_url"), ("--ocsp-url", "ocsp_url"), ("--crl-url", "crl_url"))
    return [part for option, name in pairs for part in (option, service.urls[name])]


def run(command, *arguments):
    return CliRunner().invoke(command, [*map(str, arguments)], catch_exceptions=True)


def test_what_is_fetched_into_a_folder_verifies_offline(service, evidence, policy, tmp_path):
    folder = tmp_path / "material"
    made = run(endorsements, "fetch", "gpu", evidence, "-o", folder, *urls(service), "--json")
    assert (made.exit_code, made.exception) == (0, None)
    files = json.loads(made.stdout)
    assert files["verified"] is False
    assert sorted(path.name for path in folder.iterdir()) == files["files"]
    assert {f"{DRIVER}.xml", f"{LS10.rim_ids['bios']}.xml"} <= set(files["files"])
    service.close()
    ran = run(verify, "gpu", evidence, "--rim", folder, "--policy", policy, "--nonce", NONCE.hex(), *AT, "--json")
    result = json.loads(ran.stdout)
    failed = [check["id"] for check in result["checks"] if check["status"] == "fail"]
    assert failed == ["gpu.topology"]
    assert {one["endorsement"]["revocation"]["checked"] for one in result["evidence"]["devices"]} == {"both"}


def test_the_terminal_says_what_was_written_and_that_nothing_was_verified(service, evidence, tmp_path):
    made = run(endorsements, "fetch", "gpu", evidence, "-o", tmp_path / "m", *urls(service), "--no-ocsp")
    assert made.exit_code == 0
    assert f"{DRIVER}.xml" in made.stdout
    assert "NOT VERIFIED" in made.stdout
    assert not list((tmp_path / "m").glob("*.ocsp"))


def test_a_rim_that_nobody_has_is_named_and_nothing_is_written(service, evidence, tmp_path):
    del service.rims[DRIVER]
    made = run(endorsements, "fetch", "gpu", evidence, "-o", tmp_path / "m", *urls(service))
    assert isinstance(made.exception, MaterialUnavailable)
    assert DRIVER in str(made.exception)
    assert not (tmp_path / "m").exists()


def test_a_folder_that_is_a_file_is_a_usage_error(service, evidence, tmp_path):
    (tmp_path / "m").write_text("")
    made = run(endorsements, "fetch", "gpu", evidence, "-o", tmp_path / "m", *urls(service))
    assert isinstance(made.exception, UsageError)


def test_verify_fetches_live_answers_over_its_own_nonces(service, evidence, policy):
    options = ["--policy", policy, "--nonce", NONCE.hex(), *AT, "--json"]
    ran = run(verify, "gpu", evidence, "--fetch", *urls(service), *options)
    checks = [check for check in json.loads(ran.stdout)["checks"] if check["status"] != "skip"]
    assert [check["id"] for check in checks if check["status"] == "fail"] == ["gpu.topology"]
    assert any(check["id"] == "gpu.ocsp.nonce" and check["status"] == "pass" for check in checks)


def test_rims_at_hand_are_not_asked_for(service, evidence, policy, tmp_path):
    folder = tmp_path / "rims"
    folder.mkdir()
    for rim_id, data in service.rims.items():
        (folder / f"{rim_id}.xml").write_bytes(data)
    options = ["--rim", folder, "--policy", policy, "--nonce", NONCE.hex(), *AT, "--json"]
    ran = run(verify, "gpu", evidence, "--fetch", *urls(service), *options)
    assert json.loads(ran.stdout)["schema"] == "dokimos.result/v1"
    assert not [path for _, path in service.asked if path.startswith("/v1/rim/")]


def test_a_service_that_is_down_is_no_verdict(service, evidence, policy):
    service.close()
    ran = run(verify, "gpu", evidence, "--fetch", *urls(service), "--policy", policy, "--nonce", NONCE.hex(), *AT)
    assert isinstance(ran.exception, MaterialUnavailable)


def test_addresses_without_fetching_are_a_usage_error(evidence, policy):
    ran = run(verify, "gpu", evidence, "--rim-url", "http://127.0.0.1:1", "--policy", policy)
    assert ran.exit_code == 2
    assert "--fetch" in ran.output


def test_an_old_file_stays_whole_if_the_new_one_cannot_be_written(service, evidence, tmp_path, monkeypatch):
    folder = tmp_path / "material"
    folder.mkdir()
    (folder / f"{DRIVER}.xml").write_bytes(b"old")

    def full(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    made = run(endorsements, "fetch", "gpu", evidence, "-o", folder, *urls(service))
    assert isinstance(made.exception, UsageError)
    assert (folder / f"{DRIVER}.xml").read_bytes() == b"old"
    assert not list(folder.glob(".*"))
