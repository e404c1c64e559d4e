"""The pinned session on real connections: what it sends, what it refuses, and that no key changes in silence."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from datetime import UTC, datetime, timedelta

import pytest
from starlette.applications import Starlette
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from dokimos.client import chat
from dokimos.client.session import CHALLENGE_PATH, GATEWAY_PATH, Session
from dokimos.client.transport import Transport, check_origin
from dokimos.cvm_image.service.engine.base import ChatAnswer, EngineFailed, EngineInfo
from dokimos.cvm_image.service.server import Server
from dokimos.cvm_image.service.simulated import simulated_cvm
from dokimos.errors import Check, MalformedEvidence, MaterialUnavailable, UsageError, VerificationError
from dokimos.evidence.bundle import MAX_SIZE, MEDIA_TYPE
from dokimos.ohttp import bhttp, keys, ohttp
from dokimos.ohttp.relay import relay_app
from dokimos.verifier.policy import load_policy

_HELLO = [chat.Message(role="user", content="hello")]


class Echo:
    """An engine that says what it was asked."""

    info = EngineInfo(name="echo", version="1", model="echo", model_sha256="", max_context=64, isolation="shared")

    def chat(self, request):
        text = request.messages[-1][1]
        if text == "die":
            raise EngineFailed
        return ChatAnswer(text=f"you said {text}", finish_reason="stop", prompt_tokens=1, completion_tokens=3)

    def close(self):
        """Nothing to end."""


@pytest.fixture(scope="module")
def state(tmp_path_factory):
    return tmp_path_factory.mktemp("sim")


@pytest.fixture
def cvm(state):
    return simulated_cvm(Echo(), state_dir=state)


@pytest.fixture
def policy(cvm):
    return load_policy(cvm.policy())


@pytest.fixture
def service(cvm):
    with Server(cvm.app) as server:
        yield server.url


class _Switch:
    """One address behind which the application can change, and that remembers what came."""

    def __init__(self, app):
        self.app = app
        self.seen = []

    async def __call__(self, scope, receive, send):
        if scope["type"] == "http":
            self.seen.append((scope["method"], scope["path"], dict(scope["headers"])))
        await self.app(scope, receive, send)


@contextlib.contextmanager
def _switched(app):
    switch = _Switch(app)
    with Server(switch) as server:
        yield server.url, switch


def test_a_verified_session_answers_directly_and_through_a_relay(service, policy):
    with Session.open(service, policy) as session:
        assert session.chat(_HELLO).text == "you said hello"
        assert session.verifications == 1
        assert session.result.verdict == "accepted"
    app = relay_app({GATEWAY_PATH: service + GATEWAY_PATH}, origin=service)
    with Server(app) as relay, Session.open(service, policy, relay=relay.url) as session:
        assert session.chat(_HELLO).text == "you said hello"
        assert session.url == relay.url


def test_nothing_but_a_nonce_is_sent_to_an_endpoint_that_is_refused(cvm, policy):
    other = policy.with_snp(measurements=(bytes(48),))
    with _switched(cvm.app) as (url, switch):
        with pytest.raises(VerificationError) as caught:
            Session.open(url, other)
        assert [(method, path) for method, path, _ in switch.seen] == [("POST", CHALLENGE_PATH)]
    assert caught.value.failed.id is Check.SNP_MEASUREMENT


def test_no_request_carries_what_tells_clients_apart(cvm, policy):
    with _switched(cvm.app) as (url, switch), Session.open(url, policy) as session:
        session.chat(_HELLO)
        assert len(switch.seen) == 2
        for _, _, headers in switch.seen:
            assert set(headers) <= {b"host", b"content-type", b"content-length", b"connection", b"accept"}


def test_each_verification_uses_a_nonce_of_its_own(cvm, policy):
    with _switched(cvm.app) as (url, _), Session.open(url, policy) as session:
        first = session.bundle.statement.nonce
        session.renew()
        assert session.bundle.statement.nonce != first
        assert session.verifications == 2


def test_a_changed_key_leads_to_a_new_verification(state, cvm, policy):
    successor = simulated_cvm(Echo(), state_dir=state)
    with _switched(cvm.app) as (url, switch), Session.open(url, policy) as session:
        before = session.bundle.key_configs
        switch.app = successor.app
        assert session.chat(_HELLO).text == "you said hello"
        assert session.verifications == 2
        assert session.bundle.key_configs != before


def test_a_changed_key_behind_another_measurement_is_an_error_and_nothing_is_sent_to_it(state, cvm, policy):
    from dokimos.cvm_image.stand_in import stand_in_launch  # noqa: PLC0415 - only here

    other = simulated_cvm(Echo(), state_dir=state, launch=stand_in_launch("evil"))
    with _switched(cvm.app) as (url, switch), Session.open(url, policy) as session:
        switch.app = other.app
        with pytest.raises(VerificationError) as caught:
            session.chat(_HELLO)
        assert caught.value.failed.id is Check.SNP_MEASUREMENT
        assert [path for _, path, _ in switch.seen].count(GATEWAY_PATH) == 1  # sealed to the old key, opened by nobody


def test_a_gateway_that_always_changes_its_key_is_given_up_after_one_new_verification(cvm, policy):
    async def problem(request):
        return Response(f'{{"type": "{ohttp.KEY_PROBLEM}"}}', 401, media_type="application/problem+json")

    async def inner(scope, receive, send):
        if scope["path"] == GATEWAY_PATH:
            await problem(None)
            await Response(f'{{"type": "{ohttp.KEY_PROBLEM}"}}', 401, media_type="application/problem+json")(
                scope, receive, send
            )
        else:
            await cvm.app(scope, receive, send)

    with _switched(inner) as (url, _), Session.open(url, policy) as session:
        with pytest.raises(MaterialUnavailable, match="401"):
            session.chat(_HELLO)
        assert session.verifications == 2


def test_an_expired_statement_is_renewed_before_the_next_request(service, policy):
    offset = timedelta()
    with Session.open(service, policy, clock=lambda: datetime.now(UTC) + offset) as session:
        offset = timedelta(seconds=700)
        # The service's clock did not move, so that the new evidence has expired as well.
        with pytest.raises(VerificationError) as caught:
            session.chat(_HELLO)
        assert caught.value.failed.id is Check.BINDING_VALIDITY
        assert session.verifications == 1


def test_a_clock_that_differs_is_named_as_the_cause(service, policy):
    offset = timedelta()
    with Session.open(service, policy, clock=lambda: datetime.now(UTC) + offset) as session:
        offset = timedelta(seconds=200)
        with pytest.raises(MaterialUnavailable, match="clock"):
            session.chat(_HELLO)


def test_a_pin_whose_keys_were_exchanged_in_memory_is_noticed(service, policy):
    with Session.open(service, policy) as session:
        own = keys.encode_key_configs([key.config for key in keys.generate_keys()])
        session._pin = dataclasses.replace(session._pin, key_configs=own)
        with pytest.raises(VerificationError) as caught:
            session.chat(_HELLO)
        assert caught.value.failed.id is Check.BINDING_KEY_CONFIG


def test_an_answer_to_another_request_does_not_open(cvm, policy):
    kept = []

    async def replaying(scope, receive, send):
        if scope["path"] != GATEWAY_PATH:
            await cvm.app(scope, receive, send)
            return
        body = []

        async def hold(message):
            body.append(message)

        await cvm.app(scope, receive, hold)
        kept.append(body)
        for message in kept[0]:
            await send(message)

    with _switched(replaying) as (url, _), Session.open(url, policy) as session:
        assert session.chat(_HELLO).text == "you said hello"
        with pytest.raises(MalformedEvidence):
            session.chat(_HELLO)


def test_an_answer_in_the_clear_is_never_taken_for_one(cvm, policy):
    async def clear(scope, receive, send):
        if scope["path"] == GATEWAY_PATH:
            await Response("SECRETLY EVIL", 500)(scope, receive, send)
        else:
            await cvm.app(scope, receive, send)

    with _switched(clear) as (url, _), Session.open(url, policy) as session:
        with pytest.raises(MaterialUnavailable) as caught:
            session.chat(_HELLO)
        assert "EVIL" not in str(caught.value)


def test_an_engine_that_dies_gives_a_clean_error(service, policy):
    with Session.open(service, policy) as session:
        with pytest.raises(MaterialUnavailable, match="502"):
            session.chat([chat.Message(role="user", content="die")])
        assert session.chat(_HELLO).text == "you said hello"


def _app(*routes):
    return Starlette(routes=list(routes))


def test_a_redirect_is_not_followed(cvm, policy):
    async def away(request):
        return RedirectResponse("http://127.0.0.1:9/", 307)

    with _switched(_app(Route(CHALLENGE_PATH, away, methods=["POST"]))) as (url, switch):
        with pytest.raises(MaterialUnavailable, match="307"):
            Session.open(url, policy)
        assert len(switch.seen) == 1


def test_evidence_that_is_endless_or_slow_is_given_up(policy):
    async def endless(request):
        return Response(bytes(MAX_SIZE + 1), media_type=MEDIA_TYPE)

    async def slow(request):
        await request.body()
        import asyncio  # noqa: PLC0415 - only here

        await asyncio.sleep(3)
        return Response(b"late")

    for endpoint, message in ((endless, "more than"), (slow, "in time")):
        server = Server(_app(Route(CHALLENGE_PATH, endpoint, methods=["POST"])))
        with server, pytest.raises(MaterialUnavailable, match=message):
            Session.open(server.url, policy, timeout=1)


def test_a_server_that_is_not_there_is_material_not_available(policy):
    server = Server(_app())
    url = server.url
    with server:
        pass
    with pytest.raises(MaterialUnavailable, match="no connection"):
        Session.open(url, policy)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost",
        "ftp://localhost",
        "http://",
        "http://user@localhost",
        "http://localhost/x",
        "http://h?q",
        "http://[::1",
    ],
)
def test_what_is_no_url_of_a_service_is_a_usage_error(policy, url):
    with pytest.raises(UsageError):
        check_origin(url)
    with pytest.raises(UsageError):
        Session.open(url, policy)


def test_proxies_of_the_environment_are_not_used(service, policy, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with Session.open(service, policy) as session:
        assert session.chat(_HELLO).text == "you said hello"


def test_many_requests_at_one_time_each_get_their_own_answer(service, policy):
    found = {}
    with Session.open(service, policy) as session:

        def ask(number):
            found[number] = session.chat([chat.Message(role="user", content=str(number))]).text

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == {number: f"you said {number}" for number in range(8)}


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"{}", b'{"choices": []}', b'{"choices": [{"message": {}}]}', b'{"choices": 1, "model": 2}', b"\xff"],
)
def test_an_answer_that_is_no_chat_completion_is_malformed(content):
    with pytest.raises(MalformedEvidence):
        chat.decode(bhttp.encode_response(bhttp.Response(status=200, content=content)))


def test_the_transport_notices_an_answer_that_is_cut_off():
    import socket  # noqa: PLC0415 - a server that lies about its length

    listener = socket.create_server(("127.0.0.1", 0))

    def lie():
        connection, _ = listener.accept()
        connection.recv(4096)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort")
        connection.close()

    thread = threading.Thread(target=lie)
    thread.start()
    transport = Transport(f"http://127.0.0.1:{listener.getsockname()[1]}")
    with pytest.raises(MaterialUnavailable):
        transport.post("/", b"", "text/plain", limit=1000)
    thread.join()
    listener.close()
    transport.close()
