"""``demo``, ``serve``, ``verify URL`` and ``request`` as real processes over real connections, with the real model."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dokimos.cvm_image.model import fetch_model
from dokimos.errors import ExitCode, MaterialUnavailable

_PROGRAM = [sys.executable, "-m", "dokimos"]


def _run(*arguments, seconds=90, **options):
    command = [*_PROGRAM, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds, **options)


def _children(pid: int) -> set[int]:
    """Processes below a process, by the kernel's own list."""
    found = set()
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            found |= {child} | _children(child)
    return found


def _alive(pids: set[int]) -> set[int]:
    return {pid for pid in pids if Path(f"/proc/{pid}").exists()}


def _wait_for(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.05)
    return condition()


@pytest.fixture(scope="module", autouse=True)
def _model(loud_skip):
    try:
        fetch_model()
    except MaterialUnavailable as exc:
        if os.environ.get("CI"):
            pytest.fail(f"CI has the model: {exc}")
        loud_skip("the model cannot be fetched: live commands NOT TESTED", "demo, serve, request")


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    """URL and policy of a running ``serve cvm --simulated``."""
    folder = tmp_path_factory.mktemp("serve")
    options = ["--port", "0", "--state", folder / "sim", "--write-policy", folder / "policy.toml"]
    command = [*_PROGRAM, "serve", "cvm", "--simulated", *map(str, options)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline(), process.stdout.readline()]
        assert "SIMULATED" in lines[0]
        yield lines[1].strip(), folder / "policy.toml"
        below = _children(process.pid)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        assert _wait_for(lambda: not _alive(below))
        rest = process.stdout.read() + process.stderr.read()
    assert rest == "", "a service says nothing while it serves"


def test_verify_url_shows_the_verdict_and_says_simulated(service):
    url, policy = service
    ran = _run("verify", url, "--policy", policy)
    assert ran.returncode == 0, ran.stderr
    assert "ACCEPTED" in ran.stdout
    assert "SIMULATED" in ran.stdout
    document = json.loads(_run("verify", url, "--policy", policy, "--json").stdout)
    assert (document["schema"], document["verdict"], document["simulated"]) == ("dokimos.result/v1", "accepted", True)
    assert {"binding.key_config", "binding.freshness"} <= {check["id"] for check in document["checks"]}
    ear = json.loads(_run("verify", url, "--policy", policy, "--ear").stdout)
    assert ear["submods"]["cpu0"]["ear_status"] != "affirming"


def test_verify_url_rejects_what_the_policy_does_not_name(service, tmp_path):
    url, policy = service
    text = policy.read_text()
    changed = re.sub(r'measurements = \["[0-9a-f]+"\]', f'measurements = ["{"01" * 48}"]', text)
    (tmp_path / "other.toml").write_text(changed)
    ran = _run("verify", url, "--policy", tmp_path / "other.toml", "--json")
    document = json.loads(ran.stdout)
    failed = [check["id"] for check in document["checks"] if check["status"] == "fail"]
    assert (ran.returncode, failed) == (ExitCode.REJECTED, ["snp.measurement"])
    (tmp_path / "real.toml").write_text('schema = 1\n[snp]\nmeasurements = ["' + "01" * 48 + '"]\n')
    ran = _run("verify", url, "--policy", tmp_path / "real.toml", "--json")
    failed = [check["id"] for check in json.loads(ran.stdout)["checks"] if check["status"] == "fail"]
    assert (ran.returncode, failed) == (ExitCode.REJECTED, ["snp.ca.pinned"])


def test_verify_url_as_of_another_day_finds_the_evidence_expired(service):
    url, policy = service
    ran = _run("verify", url, "--policy", policy, "--at", "2031-01-01", "--json")
    assert ran.returncode == ExitCode.REJECTED


def test_request_prints_the_models_answer_and_nothing_else(service):
    url, policy = service
    options = ["--policy", policy, "--max-tokens", 24]
    ran = _run("request", url, *options, "Make this shorter: I am afraid that I cannot come tomorrow.")
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip()
    assert "SIMULATED" in ran.stderr
    ran = _run("request", url, *options, "--json", "-", input="Say hello.")
    document = json.loads(ran.stdout)
    assert document["schema"] == "dokimos.request/v1"
    assert document["answer"].strip()
    assert document["result"]["verdict"] == "accepted"


def test_request_sends_nothing_to_an_endpoint_that_is_refused(service, tmp_path):
    url, _ = service
    (tmp_path / "real.toml").write_text('schema = 1\n[snp]\nmeasurements = ["' + "01" * 48 + '"]\n')
    ran = _run("request", url, "--policy", tmp_path / "real.toml", "hello")
    assert (ran.returncode, ran.stdout) == (ExitCode.REJECTED, "")
    assert "snp.ca.pinned" in ran.stderr


def test_request_through_a_relay_that_is_served(service):
    url, policy = service
    command = [*_PROGRAM, "serve", "relay", "--gateway", url, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        relay = process.stdout.readline().strip()
        try:
            ran = _run("request", url, "--policy", policy, "--relay", relay, "--max-tokens", 8, "Say hello.")
            assert ran.returncode == 0, ran.stderr
            assert ran.stdout.strip()
        finally:
            process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
        assert process.stdout.read() == ""


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["verify", "http://127.0.0.1:9", "--policy", "POLICY"], ExitCode.UNAVAILABLE),
        (["request", "http://127.0.0.1:9", "--policy", "POLICY", "x"], ExitCode.UNAVAILABLE),
        (["verify", "http://127.0.0.1:9"], ExitCode.USAGE),
        (["verify", "ftp://127.0.0.1", "--policy", "POLICY"], ExitCode.USAGE),
        (["serve", "cvm"], ExitCode.USAGE),
        (["serve", "relay", "--gateway", "nonsense"], ExitCode.USAGE),
        (["serve", "cvm", "--simulated", "--host", "203.0.113.1"], ExitCode.UNAVAILABLE),
        (["nonsense"], ExitCode.USAGE),
    ],
)
def test_what_cannot_be_done_has_its_exit_code(service, arguments, code):
    _, policy = service
    ran = _run(*[policy if argument == "POLICY" else argument for argument in arguments])
    assert (ran.returncode, ran.stdout) == (code, "")
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize(
    ("tee", "checks"),
    [("snp", ("snp.report.signature", "snp.measurement")), ("tdx", ("tdx.quote.signature", "tdx.rtmr2"))],
)
def test_the_demo_holds_in_all_its_parts_and_leaves_nothing_behind(tmp_path, tee, checks):
    environment = {**os.environ, "TMPDIR": str(tmp_path), "COLUMNS": "100", "NO_COLOR": "1"}
    ran = _run("demo", "--quick", "--tee", tee, env=environment)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    for word in ("SIMULATED", "ACCEPTED", "All of it held.", *checks):
        assert word in ran.stdout
    assert "binding.key_config" in ran.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_the_demo_cleans_up_when_it_is_interrupted_or_ended(tmp_path, number, code):
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    command = [*_PROGRAM, "demo", "--quick"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as demo:
        below = _wait_for(lambda: _children(demo.pid))
        assert below, "the demo starts an engine"
        assert _wait_for(lambda: list(tmp_path.glob("dokimos-demo-*")))
        # While it waits for the answer: an interrupt in the middle of an import may get lost in Python itself.
        assert any(line.startswith("3 ") for line in demo.stdout)
        below |= _children(demo.pid)
        demo.send_signal(number)
        assert demo.wait(20) == code
        assert "Traceback" not in demo.communicate()[1]
    assert _wait_for(lambda: not _alive(below))
    assert list(tmp_path.iterdir()) == []


def test_the_demo_fails_when_one_refusal_does_not_happen(monkeypatch):
    """The demo's exit code must depend on what it shows."""
    from click.testing import CliRunner  # noqa: PLC0415 - in this process, to take one check out

    from dokimos.cli import root  # noqa: PLC0415
    from dokimos.commands import demo_quick  # noqa: PLC0415

    def impostors(stack, engine, state, tee, cvm):
        from dokimos.cvm_image.service.server import Server  # noqa: PLC0415

        server = stack.enter_context(Server(cvm.app))
        yield "nothing wrong with it", "snp.measurement", server.url

    monkeypatch.setattr(demo_quick, "_impostors", impostors)
    found = CliRunner().invoke(root, ["demo", "--quick"])  # by the root: click keeps what a command saw first
    assert found.exit_code == ExitCode.REJECTED
    assert "Not all of it held" in found.output


def test_the_demo_locks_anew_and_says_so_where_no_mirror_serves_the_lock(monkeypatch, tmp_path):
    from rich.console import Console  # noqa: PLC0415 - in this process, to take the network away

    from dokimos.commands import demo_vm  # noqa: PLC0415
    from dokimos.cvm_image import fetch, resolve  # noqa: PLC0415
    from dokimos.cvm_image.profile import load_profile  # noqa: PLC0415
    from dokimos.cvm_image.store import Store  # noqa: PLC0415

    asked, new = [], object()

    def fetched(lock, store, *, progress, mirrors):
        if lock is not new:
            raise MaterialUnavailable("linux-image 6.12: no mirror serves what the lock names")

    def resolved(profile, *, mirrors, allow_expired, store, progress):
        asked.append((profile.name, mirrors.main, allow_expired))
        return new

    monkeypatch.setattr(fetch, "fetch", fetched)
    monkeypatch.setattr(resolve, "resolve", resolved)
    out = Console(record=True, width=200)
    with pytest.raises(AttributeError):  # the stand-in is no lock, and nothing is built of it
        demo_vm._locked(out, load_profile("cpu"), "cpu", Store(tmp_path), ["http://mirror.example/debian"])
    said = out.export_text()
    assert "linux-image 6.12" in said
    assert "digest will differ from the released one" in said
    assert asked == [("cpu", ("http://mirror.example/debian",), {"sid"})]


def test_model_commands_name_the_file_and_its_hash():
    ran = _run("model", "fetch", "--json")
    document = json.loads(ran.stdout)
    assert ran.returncode == 0
    assert Path(document["path"]).is_file()
    if not os.environ.get("DOKIMOS_MODEL"):
        assert _run("model", "path").stdout.strip() == document["path"]
        assert Path(document["path"]).name == document["sha256"]
