"""A guest with simulated GPUs on a real connection: what can be reached before, while and after the gate is open."""

from __future__ import annotations

import gc
import json
import os
import signal
import threading
import weakref
from datetime import UTC, datetime
from email.utils import format_datetime

import pynvml
import pytest
import requests
from cryptography.hazmat.primitives.asymmetric import ec

from dokimos.attest.attester import SnpSource
from dokimos.attest.service import BUNDLE_PATH, CHALLENGE_PATH
from dokimos.attest.sim_gpu import sign_raw
from dokimos.attest.sim_nvidia import SimulatedNvidia
from dokimos.attest.sim_nvml import SimGpus, SimNvmlLibrary
from dokimos.client.session import Session
from dokimos.cvm_image.assemble.python import own_nodes
from dokimos.cvm_image.profile import load_profile
from dokimos.cvm_image.service import gpu_guest, gpu_verify, guest
from dokimos.cvm_image.service.config import runtime_config, runtime_config_sha256
from dokimos.cvm_image.service.engine import llama_cpp
from dokimos.cvm_image.service.engine.base import ChatAnswer
from dokimos.cvm_image.service.gateway import GATEWAY_PATH, Gateway, GatewayLimits
from dokimos.cvm_image.service.gpu_gate import LEASE, GateClosed, GpuGate, Reason
from dokimos.cvm_image.service.server import Server
from dokimos.errors import Check, Error, MalformedEvidence, MaterialUnavailable, VerificationError
from dokimos.ohttp import bhttp, keys, ohttp
from dokimos.verifier.policy import load_policy
from tests.cvm_image.gpu_running import IMAGE, FakeEngine, Running


@pytest.fixture(scope="module")
def state(tmp_path_factory):
    return tmp_path_factory.mktemp("sim")


@pytest.fixture(scope="module")
def nvidia(state):
    return SimulatedNvidia(state / "nvidia")


@pytest.fixture
def make(nvidia, state, tmp_path):
    made = []

    def one(**changes):
        made.append(Running(nvidia, state, **changes))
        return made[-1]

    yield one
    for running in made:
        if running.thread.is_alive():
            running.stop()
        running.listening.close()


@pytest.fixture
def running(make, tmp_path):
    started = make().start(tmp_path)
    assert started.opened.wait(20)
    return started


def sealed_request(config, text="hello", tokens=8):
    document = {"messages": [{"role": "user", "content": text}], "max_tokens": tokens}
    inner = bhttp.encode_request(
        bhttp.Request(
            method="POST",
            authority="cvm.example",
            path="/v1/chat/completions",
            headers=(("date", format_datetime(datetime.now(UTC), usegmt=True)),),
            content=json.dumps(document).encode(),
        )
    )
    return ohttp.encapsulate(config, inner)


def post(url, sealed):
    headers = {"Content-Type": ohttp.REQUEST_TYPE}
    return requests.post(url + GATEWAY_PATH, data=sealed, headers=headers, timeout=15)


def nothing_there(url):
    """Every path answers 503, and gives no key and no evidence."""
    replies = [requests.get(url + path, timeout=5) for path in (GATEWAY_PATH, BUNDLE_PATH, "/")]
    nonce = {"data": bytes(32), "headers": {"Content-Type": "application/octet-stream"}}
    replies += [requests.post(url + CHALLENGE_PATH, timeout=5, **nonce), post(url, b"x")]
    return {(reply.status_code, reply.content) for reply in replies} == {(503, b"")}


def test_a_client_verifies_processor_and_gpus_and_is_answered(running):
    with Session.open(running.url, load_policy(running.policy)) as session:
        assert session.result.simulated
        assert Check.GPU_GUEST_READY in {check.id for check in session.result.checks}
        assert {check.subject for check in session.result.checks} >= {"GPU-0", "GPU-1"}
    config = keys.choose(keys.parse_key_configs(requests.get(running.url + GATEWAY_PATH, timeout=5).content))
    sealed, opener = sealed_request(config)
    assert bhttp.decode_response(opener.open(post(running.url, sealed).content)).status == 200
    running.stop()
    assert running.error is None
    assert not running.system.is_ready
    assert running.engines[0].closed.is_set()


def test_nothing_is_there_before_the_gpus_are_verified(make, tmp_path):
    reached, go_on = threading.Event(), threading.Event()
    running = make()
    verify = running.parts(tmp_path).verify

    def slow(devices, nonce):
        reached.set()
        assert go_on.wait(10)
        return verify(devices, nonce)

    (tmp_path / "again").mkdir()
    running.changes = {"verify": slow}
    running.start(tmp_path / "again")
    assert reached.wait(10)
    assert nothing_there(running.url)
    assert not running.system.is_ready
    assert running.engines == []
    go_on.set()
    assert running.opened.wait(10)
    assert requests.get(running.url + GATEWAY_PATH, timeout=5).status_code == 200


def test_a_loss_takes_keys_and_engine_away_while_a_request_is_being_answered(running):
    config = keys.choose(keys.parse_key_configs(requests.get(running.url + GATEWAY_PATH, timeout=5).content))
    replies = []
    sealed, _ = sealed_request(config, "wait")
    asking = threading.Thread(target=lambda: replies.append(post(running.url, sealed)))
    asking.start()
    assert running.engines[0].asked.wait(5)
    running.system.devtools = True
    running.look.set()
    running.thread.join(10)
    asking.join(10)
    assert isinstance(running.error, GateClosed)
    assert running.error.reason is Reason.DEVTOOLS
    assert [(reply.status_code, reply.content) for reply in replies] == [(503, b"")]
    assert running.engines[0].closed.is_set()
    assert not running.system.is_ready


def _swap(running):
    """The chain of one device with the report of the other."""
    first, second = running.system.devices
    first.chain, second.chain = second.chain, first.chain


def _replay(running):
    """Genuine reports of an earlier pass."""
    for device in running.system.devices:
        old = device.report(bytes(32))
        device.report = lambda nonce, old=old: old


def _twice(running):
    """One device under two names."""
    first, second = running.system.devices
    second.report, second.chain = first.report, first.chain


def _forge(running):
    """One device is not the manufacturer's; only its signature is wrong."""
    device = running.system.devices[1]
    genuine = device.report

    def forged(nonce):
        report = genuine(nonce)
        key = ec.generate_private_key(ec.SECP384R1())
        return report[:-96] + sign_raw(key, report[:-96])

    device.report = forged


def _no_rims(running):
    running.files = {name: data for name, data in running.files.items() if not name.endswith(".xml")}


@pytest.mark.parametrize(
    ("spoil", "reason", "found"),
    [
        (lambda running: setattr(running.system, "devtools", True), Reason.DEVTOOLS, "DevTools"),
        (lambda running: running.system.devices.pop(), Reason.DEVICES, "NVML has 1"),
        (_swap, Reason.VERIFICATION, Check.GPU_REPORT_SIGNATURE),
        (_replay, Reason.VERIFICATION, Check.GPU_EVIDENCE_NONCE),
        (_twice, Reason.VERIFICATION, Check.GPU_DEVICES_DISTINCT),
        (_forge, Reason.VERIFICATION, Check.GPU_REPORT_SIGNATURE),
        (_no_rims, Reason.VERIFICATION, "no RIM for"),
    ],
)
def test_gpus_that_the_verifier_does_not_accept_leave_nothing_to_reach(make, tmp_path, spoil, reason, found):
    running = make()
    spoil(running)
    running.start(tmp_path)
    running.thread.join(20)
    assert isinstance(running.error, GateClosed), running.error
    assert running.error.reason is reason
    assert found in str(running.error)
    assert not running.opened.is_set()
    assert running.engines == []
    assert not running.system.is_ready


def test_the_guests_policy_is_what_counts_for_its_gpus(make, tmp_path):
    running = make()
    running.rules = running.rules.replace("[gpu]\n", '[gpu]\ndriver_minimum = "999.0"\n')
    running.start(tmp_path)
    running.thread.join(20)
    assert running.error.reason is Reason.VERIFICATION
    assert str(Check.GPU_DRIVER_MINIMUM) in str(running.error)
    assert isinstance(running.error.__cause__, VerificationError)


def opened_gate():
    """A gate, open, with a service behind it that no server serves."""
    now = [0.0]
    system = SimGpus()
    service = gpu_guest.GpuService(
        source=None,
        gpus=None,
        count=1,
        make_engine=FakeEngine,
        limits=GatewayLimits(),
        image_sha256=IMAGE,
    )
    gate = GpuGate(
        system=system,
        display=system.display_devices,
        service=service,
        verify=lambda devices, nonce: None,
        gpus=1,
        clock=lambda: now[0],
    )
    gate.open()
    return gate, service, now


def test_nothing_is_shown_from_the_moment_on_at_which_no_look_holds():
    _, service, now = opened_gate()
    with Server(service.app) as server:
        config = keys.choose(keys.parse_key_configs(requests.get(server.url + GATEWAY_PATH, timeout=5).content))
        gateway = service._gateway
        now[0] = LEASE - 0.01
        assert gateway.answer(sealed_request(config)[0])
        now[0] = LEASE
        assert nothing_there(server.url)
        # One that came in before, and is opened only now.
        service._engine.asked.clear()
        with pytest.raises(Error, match="503"):
            gateway.answer(sealed_request(config)[0])
        assert not service._engine.asked.is_set()


def test_an_answer_that_the_engine_gave_after_the_last_look_is_not_sealed():
    _, service, now = opened_gate()
    gateway = service._gateway
    config = keys.choose(keys.parse_key_configs(gateway.key_configs))

    def late(request):
        now[0] = LEASE
        return ChatAnswer(text="late", finish_reason="stop", prompt_tokens=1, completion_tokens=1)

    service._engine.chat = late
    with pytest.raises(Error, match="503"):
        gateway.answer(sealed_request(config)[0])


def test_dropped_keys_are_held_by_nobody():
    gate, service, _ = opened_gate()
    gateway, engine = weakref.ref(service._gateway), weakref.ref(service._engine)
    assert gateway() is not None
    gate.close()
    gc.collect()
    assert (gateway(), engine()) == (None, None)
    assert service._keys is None


def test_an_application_is_shown_for_a_genuine_pass_only():
    class Pretended:
        holds = True

        def spend(self, key_configs):
            return None

    app = gpu_guest.GatedApp()
    with pytest.raises(TypeError):
        app.show(None, b"keys", Pretended())


def test_a_retired_gateway_opens_nothing():
    gateway = Gateway(keys.generate_keys(), FakeEngine())
    config = keys.choose(keys.parse_key_configs(gateway.key_configs))
    gateway.answer(sealed_request(config)[0])
    gateway.retire()
    with pytest.raises(Error, match="503"):
        gateway.answer(sealed_request(config)[0])


def test_the_number_of_gpus_is_part_of_the_configuration_that_is_hashed():
    info, limits = FakeEngine.info, GatewayLimits()
    assert len({runtime_config(info, limits, gpus=n) for n in range(3)}) == 3
    assert runtime_config_sha256(info, limits, gpus=0) == runtime_config_sha256(info, limits)


def test_a_configuration_names_a_possible_number_of_gpus():
    text = 'model = "m"\nalias = "a"\nmodel_sha256 = "00"\n'
    assert guest.parse_config(text).gpus == 0
    assert guest.parse_config(f"{text}gpus = 8\n").gpus == 8
    for value in ("-1", "65", "true", '"1"', "1.0"):
        with pytest.raises(MalformedEvidence):
            guest.parse_config(f"{text}gpus = {value}\n")


def test_a_root_without_policy_or_reference_values_is_refused(tmp_path):
    with pytest.raises(MaterialUnavailable):
        gpu_verify.on_root(tmp_path / "policy.toml", tmp_path)
    (tmp_path / "policy.toml").write_text("schema = 1\n[gpu]\ngpus = 1\n")
    with pytest.raises(MaterialUnavailable):
        gpu_verify.on_root(tmp_path / "policy.toml", tmp_path / "nothing")
    (tmp_path / "many").mkdir()
    for n in range(257):
        (tmp_path / "many" / f"{n}.crl").write_bytes(b"")
    with pytest.raises(MalformedEvidence, match="more than 256 files"):
        gpu_verify.on_root(tmp_path / "policy.toml", tmp_path / "many")
    (tmp_path / "large").mkdir()
    (tmp_path / "large" / "a.xml").write_bytes(bytes((1 << 20) + 1))
    with pytest.raises(MalformedEvidence, match="longer"):
        gpu_verify.on_root(tmp_path / "policy.toml", tmp_path / "large")


@pytest.mark.parametrize("name", ["cpu", "test"])
def test_images_without_gpus_hold_no_gate_no_nvml_and_no_verifier(name):
    modules = [node.path for node in own_nodes(load_profile(name).root.modules)]
    assert not [path for path in modules if "gpu_g" in path or "nvml" in path or "/verifier/" in path]


@pytest.fixture
def program(make, tmp_path, monkeypatch):
    """The guest's whole program on stand-ins for the driver's library, the platform and the engine."""
    made = make()
    root = made.root(tmp_path)
    monkeypatch.setattr(pynvml, "nvmlLib", SimNvmlLibrary(made.system))
    monkeypatch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})
    monkeypatch.setattr(gpu_guest, "on_root", lambda: root)
    monkeypatch.setattr(gpu_guest, "display_devices", made.system.display_devices)
    monkeypatch.setattr(guest, "detect", lambda: SnpSource(made.launched.guest, made.launched.guest))
    monkeypatch.setattr(llama_cpp, "LlamaCppEngine", lambda model, **settings: made._engine())
    for name in ("CONFIG", "COMMAND_LINE"):
        monkeypatch.setattr(guest, name, tmp_path / name)
    (tmp_path / "CONFIG").write_text(f'model = "{tmp_path}/CONFIG"\nalias = "m"\nmodel_sha256 = "00"\ngpus = 2\n')
    (tmp_path / "COMMAND_LINE").write_text("measured\n")
    handler = signal.getsignal(signal.SIGTERM)
    yield made
    signal.signal(signal.SIGTERM, handler)


def test_the_program_serves_behind_its_gate_until_its_manager_ends_it(program, monkeypatch, capfd):
    found = []

    def told(_environment, state):
        reply = requests.get(program.url + GATEWAY_PATH, timeout=5)
        found.append((state, reply.status_code, program.system.is_ready))
        with Session.open(program.url, load_policy(program.policy)) as session:
            assert session.result.simulated
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(guest, "tell_manager", told)
    guest._run(program.listening, {})
    assert found == [(b"READY=1", 200, True)]
    assert capfd.readouterr().out == "dokimos: serving\n"
    assert not program.system.is_ready
    assert program.engines[0].closed.is_set()


def test_the_program_ends_with_the_reason_where_the_gate_does_not_open(program, monkeypatch):
    program.system.devtools = True
    monkeypatch.setattr(guest, "tell_manager", lambda *_: pytest.fail("told its manager that it serves"))
    with pytest.raises(GateClosed, match="devtools"):
        guest._run(program.listening, {})
    assert program.engines == []
