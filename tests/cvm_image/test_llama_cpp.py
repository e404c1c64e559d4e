"""The real engine with the real model: structure of its answers, a process for each, and clean errors when it dies."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from dokimos.client import chat
from dokimos.client.session import Session
from dokimos.cvm_image.model import fetch_model
from dokimos.cvm_image.service.engine.base import Busy, ChatRequest, EngineFailed, TooLarge
from dokimos.cvm_image.service.engine.llama_cpp import LlamaCppEngine
from dokimos.cvm_image.service.server import Server
from dokimos.cvm_image.service.simulated import simulated_cvm
from dokimos.errors import MaterialUnavailable
from dokimos.verifier.policy import load_policy


@pytest.fixture(scope="module")
def model(loud_skip):
    try:
        return fetch_model()
    except MaterialUnavailable as exc:
        if os.environ.get("CI"):
            pytest.fail(f"CI has the model: {exc}")
        loud_skip("the model cannot be fetched: the real engine NOT TESTED", "test_llama_cpp")


@pytest.fixture
def engine(model):
    made = LlamaCppEngine(model)
    yield made
    made.close()


def _request(text="Make this shorter: I am afraid that I cannot come tomorrow.", tokens=16, **options):
    return ChatRequest(messages=(("user", text),), max_tokens=tokens, **options)


def _soon(condition, seconds=15.0):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return condition()


def _answering(engine):
    """Whether a request has gone to its process: the next process is started just before."""
    if len(engine.worker_pids) != 2:
        return False
    time.sleep(0.3)
    return True


def _ended(pid):
    """Whether a killed process has ended: one with a model in its memory takes a while to."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_the_answer_has_the_structure_and_the_bounds_that_were_asked_for(engine, model):
    answer = engine.chat(_request())
    assert answer.text.strip()
    assert 1 <= answer.completion_tokens <= 16
    assert answer.prompt_tokens > 5
    assert answer.finish_reason in ("stop", "length")
    assert engine.info.model_sha256 == model.sha256


def test_the_likeliest_answer_is_the_same_each_time(engine):
    assert engine.chat(_request()) == engine.chat(_request())
    assert engine.chat(_request(temperature=1.0, seed=5)) == engine.chat(_request(temperature=1.0, seed=5))


def test_messages_beyond_the_context_are_refused_and_the_next_request_works(engine):
    with pytest.raises(TooLarge):
        engine.chat(_request("word " * 5000))
    assert engine.chat(_request(tokens=2)).text


def test_each_request_has_a_process_of_its_own_that_then_ends(engine):
    seen = set()
    for _ in range(3):
        before = set(engine.worker_pids)
        engine.chat(_request(tokens=2))
        seen |= before
        assert not before & set(engine.worker_pids)
        assert not [pid for pid in before if Path(f"/proc/{pid}").exists()]
    assert len(seen) == 3


def test_an_engine_that_is_killed_in_the_middle_of_an_answer_gives_a_clean_error(engine):
    found = []

    def ask():
        try:
            found.append(engine.chat(_request("Tell me a very long story about a ship.", 500)))
        except EngineFailed as exc:
            found.append(exc)

    thread = threading.Thread(target=ask)
    thread.start()
    assert _soon(lambda: _answering(engine))
    for pid in engine.worker_pids:
        os.kill(pid, signal.SIGKILL)
    thread.join(20)
    assert isinstance(found[0], EngineFailed)
    assert _soon(lambda: all(_ended(pid) for pid in engine.worker_pids))
    assert engine.chat(_request(tokens=2)).text  # though the process that waited for it was killed too


def test_an_answer_that_takes_too_long_ends_with_its_process(model):
    engine = LlamaCppEngine(model, seconds=0.7)
    try:
        with pytest.raises(EngineFailed):
            engine.chat(_request("Tell me a very long story about a ship.", 500))
        assert len(engine.worker_pids) <= 1
    finally:
        engine.close()


def test_more_requests_than_allowed_are_busy(model):
    engine = LlamaCppEngine(model, active=1)

    def ask():
        with contextlib.suppress(EngineFailed):
            engine.chat(_request("Tell me a very long story about a ship.", 500))

    thread = threading.Thread(target=ask)
    try:
        for pid in engine.worker_pids:
            os.kill(pid, signal.SIGSTOP)  # so that it cannot end before the second request is asked
        thread.start()
        time.sleep(0.5)
        with pytest.raises(Busy):
            engine.chat(_request())
    finally:
        engine.close()
        thread.join()


def test_nothing_is_left_behind_whenever_a_process_is_killed(model, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    engine = LlamaCppEngine(model)
    engine.chat(_request(tokens=2))
    engine.close()  # while the next one loads
    assert list(tmp_path.iterdir()) == []


def _inodes(pid, table):
    lines = Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]
    return {line.split()[9] for line in lines}


def test_no_process_of_the_engine_has_a_tcp_socket_or_may_write_or_dump(engine):
    engine.chat(_request(tokens=2))
    (pid,) = engine.worker_pids
    assert _soon(lambda: b"xllamacpp" in Path(f"/proc/{pid}/maps").read_bytes())
    time.sleep(1.0)  # loaded, and whatever it opens is open
    sockets = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        target = os.readlink(entry)
        if target.startswith("socket:"):
            sockets.add(target.removeprefix("socket:[").rstrip("]"))
    for table in ("tcp", "tcp6", "udp", "udp6"):
        assert not sockets & _inodes(pid, table)
    limits = Path(f"/proc/{pid}/limits").read_text()
    for name in ("Max core file size", "Max file size"):
        line = next(line for line in limits.splitlines() if line.startswith(name))
        assert line.removeprefix(name).split()[:2] == ["0", "0"]


def test_closing_ends_every_process(model):
    engine = LlamaCppEngine(model)
    pids = engine.worker_pids
    assert pids
    engine.close()
    assert engine.worker_pids == ()
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
    with pytest.raises(EngineFailed):
        engine.chat(_request())


def test_an_engine_killed_behind_the_gateway_gives_the_client_a_clean_sealed_error(engine, tmp_path):
    cvm = simulated_cvm(engine, state_dir=tmp_path)
    found = []
    with Server(cvm.app) as server, Session.open(server.url, load_policy(cvm.policy())) as session:

        def ask():
            try:
                found.append(session.chat([chat.Message(role="user", content="Tell me a story.")], max_tokens=500))
            except MaterialUnavailable as exc:
                found.append(exc)

        thread = threading.Thread(target=ask)
        thread.start()
        assert _soon(lambda: _answering(engine))
        for pid in engine.worker_pids:
            os.kill(pid, signal.SIGKILL)
        thread.join(20)
    assert isinstance(found[0], MaterialUnavailable)
    assert "502 the engine gave no answer" in str(found[0])
