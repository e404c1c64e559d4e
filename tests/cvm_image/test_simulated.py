"""The simulated confidential machine and its server: what is measured, and what a policy of it refuses."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from dokimos.client.session import Session
from dokimos.cvm_image import stand_in
from dokimos.cvm_image.service.config import runtime_config_sha256
from dokimos.cvm_image.service.engine.base import EngineInfo
from dokimos.cvm_image.service.gateway import GatewayLimits
from dokimos.cvm_image.service.server import Server
from dokimos.cvm_image.service.simulated import simulated_cvm, simulated_td
from dokimos.errors import Check, MaterialUnavailable, VerificationError
from dokimos.verifier.policy import load_policy


class Mute:
    """An engine that nobody asks."""

    def __init__(self, **changes):
        fields = {
            "name": "mute",
            "version": "1",
            "model": "m",
            "model_sha256": "",
            "max_context": 1,
            "isolation": "shared",
        }
        self.info = EngineInfo(**fields | changes)


@pytest.fixture(scope="module")
def state(tmp_path_factory):
    return tmp_path_factory.mktemp("sim")


@pytest.fixture(scope="module")
def policy(state):
    return load_policy(simulated_cvm(Mute(), state_dir=state).policy())


def _refused_by(cvm, policy):
    with Server(cvm.app) as server, pytest.raises(VerificationError) as caught:
        Session.open(server.url, policy)
    return caught.value.failed.id


def test_its_own_policy_accepts_it_and_a_restart_with_new_keys(state, policy):
    for _ in range(2):
        cvm = simulated_cvm(Mute(), state_dir=state)
        with Server(cvm.app) as server, Session.open(server.url, policy) as session:
            assert session.bundle.key_configs == cvm.key_configs
            assert session.result.simulated


def test_another_command_line_model_limit_or_root_is_refused_by_its_check(state, policy, tmp_path):
    launch = stand_in.stand_in_launch("console=ttyS0")
    assert _refused_by(simulated_cvm(Mute(), state_dir=state, launch=launch), policy) is Check.SNP_MEASUREMENT
    other = simulated_cvm(Mute(model_sha256="ff" * 32), state_dir=state)
    assert _refused_by(other, policy) is Check.BINDING_RUNTIME_CONFIG
    lax = simulated_cvm(Mute(), state_dir=state, limits=GatewayLimits(window=9999))
    assert _refused_by(lax, policy) is Check.BINDING_RUNTIME_CONFIG
    assert _refused_by(simulated_cvm(Mute(), state_dir=tmp_path), policy) is Check.SNP_CA_PINNED


def test_a_simulated_td_is_accepted_by_its_own_policy_and_by_no_other(state, policy):
    own = load_policy(simulated_td(Mute(), state_dir=state).policy())
    again = simulated_td(Mute(), state_dir=state)
    with Server(again.app) as server, Session.open(server.url, own) as session:
        assert session.bundle.key_configs == again.key_configs
        assert session.result.simulated
    assert _refused_by(simulated_td(Mute(), state_dir=state, command_line="console=ttyS0"), own) is Check.TDX_RTMR2
    assert _refused_by(simulated_cvm(Mute(), state_dir=state), own) is Check.SNP_CA_PINNED
    assert _refused_by(again, policy) is Check.TDX_ROOT_PINNED


def test_every_limit_and_every_word_about_the_engine_moves_the_configurations_digest():
    info, limits = Mute().info, GatewayLimits()
    found = {runtime_config_sha256(info, limits)}
    changed = [dataclasses.replace(info, **{field.name: "other"}) for field in dataclasses.fields(info)]
    found |= {runtime_config_sha256(other, limits) for other in changed}
    names = [field.name for field in dataclasses.fields(limits) if field.name != "chat"]
    found |= {runtime_config_sha256(info, dataclasses.replace(limits, **{name: 77})) for name in names}
    chat = [dataclasses.replace(limits.chat, **{field.name: 77}) for field in dataclasses.fields(limits.chat)]
    found |= {runtime_config_sha256(info, dataclasses.replace(limits, chat=other)) for other in chat}
    assert len(found) == 1 + len(changed) + len(names) + len(chat)


def test_the_manifest_of_the_code_covers_every_module_of_the_package(tracked):
    lines = stand_in.code_manifest().decode().splitlines()
    names = [line.split("  ")[1] for line in lines]
    modules = [name for name in tracked if name.endswith(".py") and not name.startswith(("tests/", "benchmarks/"))]
    assert names == sorted(modules)


def test_one_changed_line_of_code_changes_the_manifest(tmp_path, monkeypatch):
    package = tmp_path / "dokimos"
    for name in ("__init__.py", "cli.py", "cvm_image/__init__.py", "cvm_image/stand_in.py"):
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(f"# {name}\n")
    monkeypatch.setattr(stand_in, "__file__", str(package / "cvm_image" / "stand_in.py"))
    before = stand_in.code_manifest()
    assert len(before.splitlines()) == 4
    (package / "cli.py").write_text("# changed\n")
    assert stand_in.code_manifest() != before


def test_an_address_that_is_taken_is_material_not_available():
    async def nothing(scope, receive, send):
        """Never asked."""

    with Server(nothing) as server:
        port = int(server.url.rpartition(":")[2])
        with pytest.raises(MaterialUnavailable):
            Server(nothing, port=port)


def test_a_server_ends_with_its_block_and_frees_its_address(capfd):
    async def nothing(scope, receive, send):
        """Never asked."""

    with Server(nothing) as server:
        port = int(server.url.rpartition(":")[2])
        assert not server.wait(0)
    assert server.wait(0)
    with Server(nothing, port=port):
        pass
    assert capfd.readouterr() == ("", "")
    assert Path("/proc/self").exists()
