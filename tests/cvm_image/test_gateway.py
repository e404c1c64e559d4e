"""The gateway on real connections: what it opens, what it refuses, and that it says nothing while doing so."""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
import requests

from dokimos.cvm_image.service.app import build_app
from dokimos.cvm_image.service.chat import ChatLimits
from dokimos.cvm_image.service.engine.base import Busy, ChatAnswer, EngineFailed, EngineInfo, TooLarge
from dokimos.cvm_image.service.gateway import GATEWAY_PATH, Gateway, GatewayLimits
from dokimos.cvm_image.service.server import Server
from dokimos.errors import Error, MalformedEvidence
from dokimos.ohttp import bhttp, keys, ohttp

_MARKER = "xylophonic-marker-7391"
_ERRORS = {"busy": Busy, "too large": TooLarge, "die": EngineFailed}
_LIMITS = GatewayLimits(request=16 << 10, receive=0.6, in_flight=4, chat=ChatLimits(content=4096))


class FakeEngine:
    """Says back what it was asked; waits, or fails, if it is asked to."""

    info = EngineInfo(name="fake", version="1", model="fake", model_sha256="", max_context=64, isolation="shared")

    def __init__(self):
        self.release = threading.Event()
        self.asked = 0

    def chat(self, request):
        self.asked += 1
        text = request.messages[-1][1]
        if text in _ERRORS:
            raise _ERRORS[text]
        if text == "wait":
            self.release.wait(10)
        return ChatAnswer(text=f"you said {text}", finish_reason="stop", prompt_tokens=1, completion_tokens=3)

    def close(self):
        self.release.set()


@pytest.fixture
def engine():
    made = FakeEngine()
    yield made
    made.close()


@pytest.fixture
def clock():
    """Seconds by which the gateway's clock is ahead."""
    return {"ahead": 0.0}


@pytest.fixture
def gateway(engine, clock):
    return Gateway(keys.generate_keys(1), engine, limits=_LIMITS, clock=lambda: time.time() + clock["ahead"])


@pytest.fixture
def url(gateway):
    with Server(build_app(gateway, ())) as server:
        yield server.url


@pytest.fixture
def config(gateway):
    return keys.choose(keys.parse_key_configs(gateway.key_configs))


def _inner(text="hello", *, date="now", path="/v1/chat/completions", method="POST", headers=(), **fields):
    dates = [format_datetime(datetime.now(UTC), usegmt=True)] if date == "now" else date
    document = {"messages": [{"role": "user", "content": text}], **fields}
    return bhttp.encode_request(
        bhttp.Request(
            method=method,
            authority="cvm.example",
            path=path,
            headers=(*(("date", value) for value in dates), *headers),
            content=json.dumps(document).encode(),
        )
    )


def _post(url, data, kind=ohttp.REQUEST_TYPE, **options):
    return requests.post(url + GATEWAY_PATH, data=data, headers={"Content-Type": kind}, timeout=15, **options)


def _ask(url, config, inner=None, **changes):
    sealed, opener = ohttp.encapsulate(config, inner or _inner(**changes))
    reply = _post(url, sealed)
    assert reply.status_code == 200, reply.status_code
    assert reply.headers["content-type"] == ohttp.RESPONSE_TYPE
    return bhttp.decode_response(opener.open(reply.content))


def test_a_sealed_request_is_answered_under_seal(url, config):
    for own in keys.parse_key_configs(requests.get(url + GATEWAY_PATH, timeout=5).content):
        answer = _ask(url, own)
        assert answer.status == 200
        document = json.loads(answer.content)
        assert document["choices"][0]["message"]["content"] == "you said hello"
        assert set(document) == {"object", "model", "choices", "usage"}
        assert set(document["usage"]) == {"prompt_tokens", "completion_tokens", "total_tokens"}
    assert config in keys.parse_key_configs(requests.get(url + GATEWAY_PATH, timeout=5).content)


def test_the_key_list_is_served_byte_for_byte(url, gateway):
    reply = requests.get(url + GATEWAY_PATH, timeout=5)
    assert reply.content == gateway.key_configs
    assert reply.headers["content-type"] == "application/ohttp-keys"


def test_no_field_of_a_reply_tells_of_the_server(url, config):
    sealed, _ = ohttp.encapsulate(config, _inner())
    for reply in (_post(url, sealed), _post(url, b"x"), requests.get(url + "/nowhere", timeout=5)):
        assert {name.lower() for name in reply.headers} <= {"content-type", "content-length", "connection"}


@pytest.mark.parametrize("text", sorted(_ERRORS))
def test_an_engine_that_fails_gives_a_sealed_error_of_fixed_text(url, config, text):
    answer = _ask(url, config, text=text)
    assert answer.status == _ERRORS[text].status
    assert json.loads(answer.content) == {"error": {"message": _ERRORS[text].text}}


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"path": "/v1/models"}, 404),
        ({"path": "/props"}, 404),
        ({"path": "/v1/chat/completions?x=1"}, 404),
        ({"method": "GET"}, 405),
        ({"headers": (("expect", "100-continue"),)}, 417),
        ({"tools": []}, 400),
        ({"stream": True}, 501),
        ({"model": "another"}, 404),
        ({"text": "x" * 4000}, 200),
    ],
)
def test_what_the_inner_request_may_not_ask_is_refused_under_seal(url, config, engine, changes, status):
    answer = _ask(url, config, **changes)
    assert answer.status == status
    assert engine.asked == (status == 200)


def test_other_paths_are_not_there_and_say_nothing(url):
    for path in ("/", "/props", "/slots", "/metrics", "/invocations", "/v1/chat/completions", "/docs", "/openapi.json"):
        for method in ("GET", "POST"):
            reply = requests.request(method, url + path, timeout=5)
            assert (reply.status_code, reply.content) == (404, b""), path
    assert requests.put(url + GATEWAY_PATH, timeout=5).status_code == 405


def test_another_content_type_is_refused_unread(url, engine):
    assert _post(url, b"x", "application/json").status_code == 415
    assert _post(url, b"x", "message/ohttp-res").status_code == 415
    assert engine.asked == 0


def test_an_oversized_request_is_refused_declared_or_not(url):
    big = bytes(_LIMITS.request + 1)
    assert _post(url, big).status_code == 413
    assert _post(url, (big[i : i + 1000] for i in range(0, len(big), 1000))).status_code == 413


def test_a_slow_request_is_given_up(url):
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        head = [
            f"POST {GATEWAY_PATH} HTTP/1.1",
            "Host: x",
            f"Content-Type: {ohttp.REQUEST_TYPE}",
            "Content-Length: 100",
        ]
        connection.sendall("\r\n".join([*head, "", ""]).encode())
        start = time.monotonic()
        connection.settimeout(10)
        for _ in range(4):
            connection.sendall(b"x")
            time.sleep(0.05)
        reply = connection.recv(4096)
    assert b" 408 " in reply.split(b"\r\n")[0]
    assert time.monotonic() - start < 8


def test_every_fault_of_opening_looks_the_same(url, config):
    sealed, _ = ohttp.encapsulate(config, _inner())
    faults = [b"", sealed[:5], sealed[:-1], sealed + b"x", bytes([*sealed[:-1], sealed[-1] ^ 1])]
    faults.append(sealed[:10] + bytes([sealed[10] ^ 1]) + sealed[11:])
    faults.append(ohttp.encapsulate(config, b"no bhttp")[0])
    replies = {(reply.status_code, reply.content) for reply in (_post(url, fault) for fault in faults)}
    assert replies == {(400, b"")}


def test_an_unknown_key_is_named_as_the_problem(url, config):
    sealed, _ = ohttp.encapsulate(config, _inner())
    reply = _post(url, bytes([sealed[0] ^ 0x80]) + sealed[1:])
    assert reply.status_code == 401
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.json() == {"type": ohttp.KEY_PROBLEM}


@pytest.mark.parametrize(
    "date",
    [
        [],
        ["yesterday"],
        ["Thu, 01 Jan 1970 00:00:00 GMT"],
        ["Thu, 01 Jan 99999 00:00:00 GMT"],
        [format_datetime(datetime.now(UTC), usegmt=True)] * 2,
    ],
)
def test_a_request_without_one_date_of_now_is_refused_for_that(url, config, engine, date):
    reply = _post(url, ohttp.encapsulate(config, _inner(date=date))[0])
    assert (reply.status_code, reply.json()) == (400, {"type": ohttp.DATE_PROBLEM})
    assert engine.asked == 0


def test_a_replayed_request_is_answered_once(url, config, engine, clock):
    sealed, _ = ohttp.encapsulate(config, _inner())
    assert _post(url, sealed).status_code == 200
    assert [_post(url, sealed).status_code for _ in range(3)] == [400, 400, 400]
    clock["ahead"] = _LIMITS.window - 5.0
    assert _post(url, sealed).status_code == 400
    clock["ahead"] = 2 * _LIMITS.window + 10.0
    assert _post(url, sealed).json() == {"type": ohttp.DATE_PROBLEM}  # forgotten, but too old
    assert engine.asked == 1


def test_the_memory_of_replays_is_bounded_and_full_means_refused(engine):
    limits = GatewayLimits(remembered=2)
    now = time.time()
    gateway = Gateway(keys.generate_keys(), engine, limits=limits, clock=lambda: now)
    config = keys.choose(keys.parse_key_configs(gateway.key_configs))
    for _ in range(2):
        gateway.answer(ohttp.encapsulate(config, _inner())[0])
    with pytest.raises(Error):
        gateway.answer(ohttp.encapsulate(config, _inner())[0])
    now += 2 * limits.window + 2
    fresh = [format_datetime(datetime.fromtimestamp(now, UTC), usegmt=True)]
    gateway.answer(ohttp.encapsulate(config, _inner(date=fresh))[0])


def test_more_requests_than_allowed_at_one_time_are_refused_and_the_others_answered(url, config, engine):
    found = []

    def ask():
        sealed, _ = ohttp.encapsulate(config, _inner(text="wait"))
        found.append(_post(url, sealed).status_code)

    threads = [threading.Thread(target=ask) for _ in range(_LIMITS.in_flight)]
    for thread in threads:
        thread.start()
    end = time.monotonic() + 5
    while engine.asked < _LIMITS.in_flight and time.monotonic() < end:
        time.sleep(0.02)
    assert _post(url, ohttp.encapsulate(config, _inner())[0]).status_code == 503
    engine.release.set()
    for thread in threads:
        thread.join()
    assert found == [200] * _LIMITS.in_flight


def test_answers_of_nearly_the_same_length_look_the_same_on_the_wire(url, config):
    sizes = {len(_post(url, ohttp.encapsulate(config, _inner(text="a" * n))[0]).content) for n in (1, 2, 30, 61)}
    assert len(sizes) == 1


def test_no_content_is_written_anywhere(url, config, engine, capfd, caplog):
    caplog.set_level(logging.DEBUG)
    _ask(url, config, text=_MARKER)
    _ask(url, config, text=_MARKER, path=f"/{_MARKER}")
    _ask(url, config, text=_MARKER, **{_MARKER: 1})
    sealed, _ = ohttp.encapsulate(config, _inner(text=_MARKER, date=[]))
    _post(url, sealed)
    requests.get(f"{url}/{_MARKER}", timeout=5)
    engine.chat = None  # an unforeseen fault
    reply = _post(url, ohttp.encapsulate(config, _inner(text=_MARKER))[0])
    assert (reply.status_code, reply.content) == (500, b"")
    out, err = capfd.readouterr()
    records = [record.getMessage() for record in caplog.records if not record.name.startswith("urllib3")]
    assert _MARKER not in out + err + "".join(records)


def test_two_answers_to_one_request_are_impossible(config, gateway):
    opened = ohttp.Gateway(keys.generate_keys()).key_configs
    assert opened != gateway.key_configs
    sealed, opener = ohttp.encapsulate(config, _inner())
    assert opener.open(gateway.answer(sealed))
    with pytest.raises(Error):
        gateway.answer(sealed)
    other, second = ohttp.encapsulate(config, _inner())
    answer = gateway.answer(other)
    with pytest.raises(MalformedEvidence):
        ohttp.encapsulate(config, _inner())[1].open(answer)
    assert second.open(answer)
