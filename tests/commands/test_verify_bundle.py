"""``dokimos verify bundle`` and ``verify URL --save``: an endpoint's evidence, kept and verified again offline."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from click.testing import CliRunner

from dokimos.attest.attester import Attester, SnpSource
from dokimos.attest.service import attestation_routes
from dokimos.attest.sim_nvidia import SimulatedNvidia
from dokimos.attest.sim_tdx import SimulatedTdx
from dokimos.attest.simulator import SimulatedPlatform
from dokimos.commands.verify import command
from dokimos.cvm_image.service.server import Server
from dokimos.cvm_image.simulated_launch import launch_tdx
from dokimos.cvm_image.stand_in import stand_in_td
from dokimos.errors import Check, MalformedEvidence, MaterialUnavailable
from dokimos.evidence.bundle import encode_bundle, parse_bundle
from dokimos.evidence.statement import gpu_nonce, parse_statement
from dokimos.ohttp import keys

_MEASUREMENT = bytes(range(48))
_NONCE = bytes(range(32))


@pytest.fixture(scope="module")
def nvidia(tmp_path_factory):
    return SimulatedNvidia(tmp_path_factory.mktemp("nvidia"))


@pytest.fixture(scope="module")
def guest(tmp_path_factory):
    return SimulatedPlatform(tmp_path_factory.mktemp("snp"), product="Genoa").launch(_MEASUREMENT)


@pytest.fixture(scope="module")
def attester(guest, nvidia):
    return Attester(
        SnpSource(guest, guest),
        key_configs=keys.encode_key_configs([key.config for key in keys.generate_keys()]),
        runtime_config_sha256=bytes([1]) * 32,
        image_sha256=bytes([2]) * 32,
        gpus=nvidia.source(),
    )


@pytest.fixture(scope="module")
def made(attester):
    return parse_bundle(attester.challenge(_NONCE))


@pytest.fixture
def policy(tmp_path, guest, nvidia):
    roots = ", ".join(f'"{root.hex()}"' for root in nvidia.root_sha256s)
    path = tmp_path / "policy.toml"
    path.write_text(
        f'schema = 1\n[snp]\nmeasurements = ["{_MEASUREMENT.hex()}"]\n'
        f'simulated_roots = ["{guest.platform.root_sha256.hex()}"]\n'
        f"[gpu]\ngpus = 1\nrequire_guest_state = true\nsimulated_roots = [{roots}]\n"
    )
    return path


@pytest.fixture
def verify(tmp_path, policy):
    def verify(bundle, *options):
        path = tmp_path / "bundle.json"
        path.write_bytes(encode_bundle(bundle))
        return CliRunner().invoke(
            command, ["bundle", str(path), "--policy", str(policy), "--nonce", _NONCE.hex(), *options]
        )

    return verify


def failed(ran):
    return [check["id"] for check in json.loads(ran.stdout)["checks"] if check["status"] == "fail"]


def test_processor_and_gpu_are_accepted_in_one_document(made, verify):
    ran = verify(made, "--json")
    document = json.loads(ran.stdout)
    assert (ran.exit_code, document["verdict"], document["simulated"]) == (0, "accepted", True)
    assert document["evidence"]["gpu"]["devices"][0]["subject"] == "GPU-0"
    shown = verify(made).stdout
    assert "SIMULATED" in shown
    assert "GPU-0" in shown
    ear = json.loads(verify(made, "--ear").stdout)
    assert sorted(ear["submods"]) == ["cpu0", "gpu0"]


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        (lambda made, nvidia, nonce: nvidia.source([nvidia.gpu(number=1)]).collect(nonce), ["binding.gpu"]),
        (lambda made, nvidia, nonce: nvidia.source().collect(bytes(32)), ["gpu.nonce", "binding.gpu"]),
        (lambda made, nvidia, nonce: None, ["gpu.devices.count", "binding.gpu"]),
        (
            lambda made, nvidia, nonce: nvidia.source([nvidia.gpu(), nvidia.gpu(number=1)]).collect(nonce),
            ["gpu.devices.count", "binding.gpu"],
        ),
    ],
    ids=["swapped", "replayed", "left out", "added"],
)
def test_a_gpu_that_is_not_the_one_of_the_statement_is_refused(made, verify, nvidia, change, wanted):
    nonce = gpu_nonce(parse_statement(made.statement))
    ran = verify(replace(made, gpu=change(made, nvidia, nonce)), "--json")
    assert (ran.exit_code, failed(ran)) == (10, wanted)


def test_a_forged_report_of_a_gpu_is_shown_with_all_that_was_found_before_and_claims_nothing(made, verify):
    device = made.gpu.devices[0]
    report = bytearray(device.report)
    report[110] ^= 1
    forged = replace(made.gpu, devices=(replace(device, report=bytes(report)),))
    ran = verify(replace(made, gpu=forged), "--json")
    document = json.loads(ran.stdout)
    assert (ran.exit_code, failed(ran)) == (10, [Check.GPU_REPORT_SIGNATURE])
    passed = {check["id"] for check in document["checks"] if check["status"] == "pass"}
    assert Check.SNP_REPORT_SIGNATURE in passed
    assert document["evidence"]["gpu"]["devices"][0]["subject"] == "GPU-0"
    assert "claims" not in document["evidence"]["gpu"]["devices"][0]


def test_without_the_nonce_that_was_sent_nothing_shows_when_it_was_made(made, verify, tmp_path, policy):
    verify(made)
    ran = CliRunner().invoke(command, ["bundle", str(tmp_path / "bundle.json"), "--policy", str(policy), "--json"])
    assert (ran.exit_code, failed(ran)) == (10, ["binding.freshness"])
    ran = verify(made, "--nonce", "00" * 32, "--json")
    assert failed(ran) == ["binding.freshness"]


def test_a_rim_that_the_bundle_lacks_may_come_from_a_file(made, verify, tmp_path):
    bare = replace(made, gpu=replace(made.gpu, rims=()))
    assert isinstance(verify(bare).exception, MaterialUnavailable)
    folder = tmp_path / "rims"
    folder.mkdir()
    for number, data in enumerate(made.gpu.rims):
        (folder / f"{number}.xml").write_bytes(data)
    assert verify(bare, "--rim", str(folder)).exit_code == 0


def test_collateral_that_a_td_cannot_hand_out_comes_from_a_file(tmp_path):
    launched = launch_tdx(SimulatedTdx(tmp_path / "state"), stand_in_td())
    attester = Attester(
        launched.guest, key_configs=b"keys", runtime_config_sha256=bytes([1]) * 32, image_sha256=bytes([2]) * 32
    )
    whole = parse_bundle(attester.challenge(_NONCE))
    (tmp_path / "bundle.json").write_bytes(encode_bundle(replace(whole, cpu=replace(whole.cpu, collateral=None))))
    (tmp_path / "collateral.json").write_bytes(whole.cpu.collateral)
    (tmp_path / "policy.toml").write_text(f"schema = 1\n{launched.rules}")
    command_line = ["bundle", str(tmp_path / "bundle.json"), "--policy", str(tmp_path / "policy.toml")]
    command_line += ["--nonce", _NONCE.hex(), "--json"]
    assert isinstance(CliRunner().invoke(command, command_line).exception, MaterialUnavailable)
    own = ["--collateral", str(tmp_path / "collateral.json")]
    ran = CliRunner().invoke(command, [*command_line, *own])
    assert (ran.exit_code, failed(ran)) == (0, [])
    both = CliRunner().invoke(command, [*command_line, *own, "--fetch"])
    assert (both.exit_code, "exclude each other" in both.output) == (2, True)


def test_bad_input_is_told_apart(tmp_path, policy):
    path = tmp_path / "bundle.json"
    path.write_bytes(b"{}")
    assert isinstance(
        CliRunner().invoke(command, ["bundle", str(path), "--policy", str(policy)]).exception, MalformedEvidence
    )
    ran = CliRunner().invoke(command, ["bundle", str(path)])
    assert (ran.exit_code, "--policy is needed" in ran.output) == (2, True)


def test_what_an_endpoint_answered_is_kept_and_gives_the_same_verdict_again(attester, policy, tmp_path):
    from starlette.applications import Starlette  # noqa: PLC0415 - only here

    kept = tmp_path / "kept.json"
    with Server(Starlette(routes=attestation_routes(attester))) as server:
        live = CliRunner().invoke(command, [server.url, "--policy", str(policy), "--save", str(kept), "--json"])
    assert live.exit_code == 0
    nonce = (tmp_path / "kept.json.nonce").read_text().strip()
    again = CliRunner().invoke(command, ["bundle", str(kept), "--policy", str(policy), "--nonce", nonce, "--json"])
    documents = [json.loads(ran.stdout) for ran in (live, again)]
    for document in documents:
        del document["at"]
        document["checks"] = [(check["id"], check["status"]) for check in document["checks"]]
    assert documents[0] == documents[1]
