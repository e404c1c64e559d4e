"""The attester and its endpoints on real connections: what is bound, what is refused, and one bundle for all."""

from __future__ import annotations

import http.client
import threading
import time
from hashlib import sha256

import pytest
import requests
from starlette.applications import Starlette

from dokimos.attest.attester import CHALLENGE_SECONDS, EPOCH_SECONDS, Attester, SnpSource
from dokimos.attest.service import BUNDLE_PATH, CHALLENGE_PATH, NONCE_TYPE, attestation_routes
from dokimos.attest.simulator import SimulatedPlatform
from dokimos.cvm_image.service.server import Server
from dokimos.errors import MaterialUnavailable, UsageError
from dokimos.evidence.bundle import MEDIA_TYPE, parse_bundle
from dokimos.evidence.snp import parse_report
from dokimos.evidence.statement import epoch_marker, parse_statement, report_data

_KEYS = b"the exact bytes of the key list"
_EPOCH = epoch_marker(bytes(32), 7)


@pytest.fixture(scope="module")
def guest(tmp_path_factory):
    return SimulatedPlatform(tmp_path_factory.mktemp("sim"), product="Turin").launch(bytes(48))


class _Clock:
    def __init__(self):
        self.now = 1_800_000_000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return _Clock()


def _attester(guest, clock, provider=None, **options):
    return Attester(
        SnpSource(provider or guest, guest),
        key_configs=_KEYS,
        runtime_config_sha256=bytes([1]) * 32,
        image_sha256=bytes([2]) * 32,
        clock=clock,
        **options,
    )


def _serve(attester):
    return Server(Starlette(routes=attestation_routes(attester)))


def _challenge(url, content=bytes(32), kind=NONCE_TYPE):
    return requests.post(url + CHALLENGE_PATH, data=content, headers={"Content-Type": kind}, timeout=15)


def test_the_report_signs_the_statement_that_carries_nonce_and_keys(guest, clock):
    nonce = bytes(range(32))
    with _serve(_attester(guest, clock)) as server:
        reply = _challenge(server.url, nonce)
    assert (reply.status_code, reply.headers["content-type"]) == (200, MEDIA_TYPE)
    bundle = parse_bundle(reply.content)
    statement = parse_statement(bundle.statement)
    assert parse_report(bundle.cpu.report).report_data == report_data(bundle.statement)
    assert statement.nonce == nonce
    assert statement.key_configs_sha256 == sha256(_KEYS).digest()
    assert (statement.runtime_config_sha256, statement.image_sha256) == (bytes([1]) * 32, bytes([2]) * 32)
    assert statement.not_before < clock.now < statement.expiry <= clock.now + CHALLENGE_SECONDS
    assert statement.epoch is None
    assert bundle.key_configs == _KEYS
    assert (bundle.cpu.vek, bundle.cpu.cas, bundle.cpu.crls) == guest.endorsements()


@pytest.mark.parametrize("size", [0, 1, 31, 33, 64, 100_000])
def test_a_nonce_of_another_size_is_refused(guest, clock, size):
    with _serve(_attester(guest, clock)) as server:
        reply = _challenge(server.url, bytes(size))
    assert reply.status_code in (400, 413)
    assert reply.content == b""


def test_another_content_type_or_method_is_refused(guest, clock):
    with _serve(_attester(guest, clock)) as server:
        assert _challenge(server.url, kind="text/plain").status_code == 415
        assert requests.get(server.url + CHALLENGE_PATH, timeout=5).status_code == 405
        assert requests.post(server.url + BUNDLE_PATH, timeout=5).status_code == 405


def test_a_nonce_that_comes_slowly_is_given_up_and_keeps_no_place(guest, clock, monkeypatch):
    monkeypatch.setattr("dokimos.attest.service._RECEIVE_SECONDS", 0.3)
    with _serve(_attester(guest, clock)) as server:
        connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=10)
        connection.putrequest("POST", CHALLENGE_PATH)
        connection.putheader("Content-Type", NONCE_TYPE)
        connection.putheader("Content-Length", "32")
        connection.endheaders(b"x")
        assert _challenge(server.url).status_code == 200
        assert connection.getresponse().status == 408
        connection.close()


class _Slow:
    """A provider that takes its time, or fails."""

    name = "slow"
    simulated = True

    def __init__(self, guest):
        self.guest = guest
        self.release = threading.Event()
        self.asked = 0

    def report(self, data, *, vmpl=0):
        self.asked += 1
        if not self.release.wait(10):
            raise MaterialUnavailable("never")
        return self.guest.report(data, vmpl=vmpl)


def test_more_challenges_at_one_time_than_allowed_are_refused_and_the_others_answered(guest, clock):
    provider, found = _Slow(guest), []
    with _serve(_attester(guest, clock, provider)) as server:
        threads = [threading.Thread(target=lambda: found.append(_challenge(server.url).status_code)) for _ in range(8)]
        for thread in threads:
            thread.start()
        end = time.monotonic() + 5
        while provider.asked < 8 and time.monotonic() < end:
            time.sleep(0.02)
        assert _challenge(server.url).status_code == 503
        provider.release.set()
        for thread in threads:
            thread.join()
    assert found == [200] * 8


def test_a_platform_that_gives_no_report_is_a_bare_503(guest, clock):
    class Broken(_Slow):
        def report(self, data, *, vmpl=0):
            raise MaterialUnavailable("SECRET PATH")

    with _serve(_attester(guest, clock, Broken(guest))) as server:
        reply = _challenge(server.url)
    assert (reply.status_code, reply.content) == (503, b"")


def test_there_is_no_bundle_for_all_without_a_log(guest, clock):
    with _serve(_attester(guest, clock)) as server:
        reply = requests.get(server.url + BUNDLE_PATH, timeout=5)
    assert (reply.status_code, reply.content) == (404, b"")
    with pytest.raises(MaterialUnavailable):
        _attester(guest, clock).epoch_bundle()


def test_the_bundle_for_all_is_the_same_for_all_and_short_lived(guest, clock):
    attester = _attester(guest, clock, epoch=_EPOCH)
    with _serve(attester) as server:
        first = requests.get(server.url + BUNDLE_PATH, timeout=5).content
        assert requests.get(server.url + BUNDLE_PATH, headers={"Cookie": "a=b"}, timeout=5).content == first
        statement = parse_statement(parse_bundle(first).statement)
        assert (statement.nonce, statement.epoch) == (None, _EPOCH)
        assert statement.expiry - statement.not_before <= EPOCH_SECONDS
        clock.now += EPOCH_SECONDS / 2 - 1
        assert requests.get(server.url + BUNDLE_PATH, timeout=5).content == first
        clock.now += 2
        assert requests.get(server.url + BUNDLE_PATH, timeout=5).content != first


def test_sizes_are_checked_where_the_library_is_called(guest, clock):
    with pytest.raises(UsageError):
        _attester(guest, clock).challenge(bytes(31))
    with pytest.raises(UsageError):
        _attester(guest, clock, epoch=bytes(39))
