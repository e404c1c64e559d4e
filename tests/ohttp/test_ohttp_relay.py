"""The relay between real servers on loopback: what passes, what does not, and that nothing of the client goes on."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import socket
import threading
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
import requests
from starlette.applications import Starlette
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from dokimos.errors import UsageError
from dokimos.ohttp.keys import choose, generate_keys, parse_key_configs
from dokimos.ohttp.ohttp import DATE_PROBLEM, KEY_PROBLEM, Gateway, UnknownKey, encapsulate
from dokimos.ohttp.relay import RelayLimits, relay_app

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from starlette.requests import Request

    Serve = Callable[..., str]

REQ, RES = "message/ohttp-req", "message/ohttp-res"
FAST = RelayLimits(request=10_000, response=10_000, receive=1, connect=1, answer=2, in_flight=2)
IDENTIFYING = {
    "User-Agent": "IDENTIFYING/1.0",
    "Cookie": "who=IDENTIFYING",
    "Authorization": "Bearer IDENTIFYING",
    "Accept-Language": "en-IDENTIFYING",
    "Forwarded": "for=IDENTIFYING",
    "X-Forwarded-For": "192.0.2.77",
    "X-Real-IP": "192.0.2.77",
    "Via": "1.1 IDENTIFYING",
    "Referer": "https://IDENTIFYING.example/",
    "If-None-Match": '"IDENTIFYING"',
    "X-Anything": "IDENTIFYING",
}


class Upstream:
    """A gateway that keeps what it got and answers as told."""

    def __init__(self) -> None:
        self.reset()
        paths = ("/gateway", "/.well-known/ohttp-gateway", "/dokimos/v1/bundle", "/dokimos/v1/challenge")
        self.app = Starlette(routes=[Route(path, self.serve, methods=["GET", "POST"]) for path in paths])

    def reset(self) -> None:
        self.seen: list[tuple[str, str, list[tuple[bytes, bytes]], bytes]] = []
        self.answer: Callable[[bytes], Response] = lambda body: Response(b"an answer", media_type=RES)

    async def serve(self, request: Request) -> Response:
        body = await request.body()
        self.seen.append((request.method, str(request.url.path), list(request.scope["headers"]), body))
        assert not request.url.query
        return await asyncio.to_thread(self.answer, body)

    @property
    def field_names(self) -> set[bytes]:
        return {name for _, _, headers, _ in self.seen for name, _ in headers}


@pytest.fixture(scope="module")
def gateway_server() -> Upstream:
    return Upstream()


@pytest.fixture(scope="module")
def gateway_url(serve: Serve, gateway_server: Upstream) -> str:
    return serve(gateway_server.app)


@pytest.fixture(scope="module")
def relayed(serve: Serve, gateway_url: str) -> str:
    """URL of a relay in front of ``upstream``."""
    return serve(relay_app({"/": f"{gateway_url}/gateway"}, origin=gateway_url, limits=FAST))


@pytest.fixture
def upstream(gateway_server: Upstream, gateway_url: str) -> Upstream:
    """The gateway as new; it is served already."""
    gateway_server.reset()
    return gateway_server


def call(url: str, method: str = "POST", content: bytes | None = b"sealed", **headers: str) -> requests.Response:
    names = {"Content-Type": REQ} | {name.replace("_", "-"): value for name, value in headers.items()}
    with requests.Session() as http:
        http.trust_env = False
        return http.request(method, url, data=content, headers=names, timeout=10, allow_redirects=False)


def raw(url: str, head: str, body: bytes = b"") -> bytes:
    """The answer to hand-made bytes."""
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port), timeout=10) as sock:
        sock.sendall(head.replace("\n", "\r\n").encode() + body)
        answer = b""
        while chunk := sock.recv(65536):
            answer += chunk
        return answer


def assert_plain(response: requests.Response, status: int) -> None:
    assert response.status_code == status
    assert set(map(str.lower, response.headers)) <= {"content-type", "content-length", "allow"}
    assert response.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert len(response.content) < 60
    assert b"IDENTIFYING" not in response.content


def test_nothing_that_identifies_the_client_reaches_the_gateway(relayed: str, upstream: Upstream) -> None:
    for path, method, kind in (
        ("/", "POST", REQ),
        ("/dokimos/v1/challenge", "POST", "application/octet-stream"),
        ("/dokimos/v1/bundle", "GET", None),
        ("/.well-known/ohttp-gateway", "GET", None),
    ):
        headers = IDENTIFYING | ({"Content-Type": f"{kind}; tag=IDENTIFYING"} if kind else {})
        content = b"sealed" if kind else None
        requests.request(method, relayed + path, data=content, headers=headers, timeout=10)
    assert [(method, path, body) for method, path, _, body in upstream.seen] == [
        ("POST", "/gateway", b"sealed"),
        ("POST", "/dokimos/v1/challenge", b"sealed"),
        ("GET", "/dokimos/v1/bundle", b""),
        ("GET", "/.well-known/ohttp-gateway", b""),
    ]
    assert upstream.field_names == {b"host", b"content-type", b"content-length"}
    assert b"IDENTIFYING" not in repr(upstream.seen).encode()
    assert b"192.0.2.77" not in repr(upstream.seen).encode()


def test_nothing_but_type_and_content_comes_back(relayed: str, upstream: Upstream) -> None:
    marks = {
        "Set-Cookie": "who=IDENTIFYING",
        "ETag": '"IDENTIFYING"',
        "Server": "IDENTIFYING",
        "X-Trace": "IDENTIFYING",
    }
    upstream.answer = lambda body: Response(b"answer", media_type=f"{RES}; tag=IDENTIFYING", headers=marks)
    for _ in range(2):
        response = call(relayed)
        assert (response.status_code, response.content) == (200, b"answer")
        assert {name.lower(): value for name, value in response.headers.items()} == {
            "content-type": RES,
            "content-length": "6",
        }
    # A cookie that the gateway set for one client must not come with the next.
    assert b"cookie" not in upstream.field_names


def test_a_sealed_exchange_passes_the_relay_whole(relayed: str, upstream: Upstream) -> None:
    gateway = Gateway(generate_keys())
    clear: list[bytes] = []

    def answer(body: bytes) -> Response:
        try:
            opened = gateway.open(body)
        except UnknownKey:
            problem = json.dumps({"type": KEY_PROBLEM, "title": "IDENTIFYING"})
            return Response(problem, 422, media_type="application/problem+json")
        clear.append(opened.request)
        return Response(opened.seal(b"answer" * 1000), media_type=RES)

    upstream.answer = lambda body: Response(gateway.key_configs, media_type="application/ohttp-keys")
    fetched = call(relayed + "/.well-known/ohttp-gateway", "GET", None)
    config = choose(parse_key_configs(fetched.content))
    upstream.answer = answer
    sealed, opener = encapsulate(config, b"question")
    assert opener.open(call(relayed, content=sealed).content) == b"answer" * 1000
    assert clear == [b"question"]
    other = choose(parse_key_configs(Gateway(generate_keys(config.key_id + 2 & 255)).key_configs))
    refused = call(relayed, content=encapsulate(other, b"")[0])
    assert (refused.status_code, refused.json()) == (422, {"type": KEY_PROBLEM})


def test_evidence_and_its_absence_pass(relayed: str, upstream: Upstream) -> None:
    upstream.answer = lambda body: Response(b"{}", media_type="application/cmw+json")
    nonce = call(relayed + "/dokimos/v1/challenge", content=bytes(32), Content_Type="application/octet-stream")
    assert (nonce.status_code, nonce.content) == (200, b"{}")
    upstream.answer = lambda body: Response(b"IDENTIFYING", 404)
    assert_plain(call(relayed + "/dokimos/v1/bundle", "GET", None), 404)


def test_without_an_origin_only_sealed_requests_pass(serve: Serve, upstream: Upstream, gateway_url: str) -> None:
    relay = serve(relay_app({"/a": f"{gateway_url}/gateway"}))
    assert call(relay + "/a").status_code == 200
    assert_plain(call(relay + "/.well-known/ohttp-gateway", "GET", None), 404)
    assert_plain(call(relay + "/", "POST"), 404)


@pytest.mark.parametrize(
    ("method", "path", "kind", "status"),
    [
        ("POST", "/other", REQ, 404),
        ("POST", "//", REQ, 404),
        ("POST", "/gateway", REQ, 404),
        ("GET", "/dokimos/v1/challenge/", REQ, 404),
        ("GET", "/", REQ, 405),
        ("PUT", "/", REQ, 405),
        ("POST", "/dokimos/v1/bundle", REQ, 405),
        ("POST", "/", "text/plain", 415),
        ("POST", "/", "message/ohttp-chunked-req", 415),
        ("POST", "/", "", 415),
        ("POST", "/dokimos/v1/challenge", REQ, 415),
        ("POST", "/?who=IDENTIFYING", REQ, 400),
        ("GET", "/dokimos/v1/bundle?who=IDENTIFYING", REQ, 400),
    ],
)
def test_what_is_not_listed_is_refused_and_never_forwarded(
    relayed: str, upstream: Upstream, method: str, path: str, kind: str, status: int
) -> None:
    assert_plain(call(relayed + path, method, None if method == "GET" else b"x", Content_Type=kind), status)
    assert upstream.seen == []


def test_too_much_content_is_refused_declared_or_not(relayed: str, upstream: Upstream) -> None:
    assert call(relayed, content=bytes(10_000)).status_code == 200
    assert len(upstream.seen[0][3]) == 10_000
    upstream.seen.clear()
    assert_plain(call(relayed, content=bytes(10_001)), 413)
    assert_plain(call(relayed + "/dokimos/v1/bundle", "GET", b"x"), 413)
    head = f"POST / HTTP/1.1\nHost: x\nContent-Type: {REQ}\nConnection: close\n"
    for declared in ("9" * 19, "10001"):
        assert raw(relayed, f"{head}Content-Length: {declared}\n\n").startswith(b"HTTP/1.1 413 ")
    chunked = b"2710\r\n" + bytes(10_000) + b"\r\n1\r\nx\r\n0\r\n\r\n"
    assert raw(relayed, f"{head}Transfer-Encoding: chunked\n\n", chunked).startswith(b"HTTP/1.1 413 ")
    assert upstream.seen == []


def test_a_slow_or_vanishing_client_is_let_go(relayed: str, upstream: Upstream) -> None:
    head = f"POST / HTTP/1.1\nHost: x\nContent-Type: {REQ}\nContent-Length: 100\nConnection: close\n\n"
    assert raw(relayed, head, b"half").startswith(b"HTTP/1.1 408 ")
    parts = urlsplit(relayed)
    for _ in range(FAST.in_flight + 1):
        with socket.create_connection((parts.hostname, parts.port)) as sock:
            sock.sendall(head.replace("\n", "\r\n").encode() + b"half")
    deadline = time.monotonic() + 10
    while call(relayed).status_code != 200:  # none of them keeps a place
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert {body for _, _, _, body in upstream.seen} == {b"sealed"}


def test_more_requests_than_allowed_at_one_time_are_refused(relayed: str, upstream: Upstream) -> None:
    entered, release = threading.Semaphore(0), threading.Event()

    def held(body: bytes) -> Response:
        entered.release()
        release.wait(5)
        return Response(b"", media_type=RES)

    upstream.answer = held
    threads = [threading.Thread(target=call, args=(relayed,)) for _ in range(FAST.in_flight)]
    for thread in threads:
        thread.start()
    for _ in threads:
        assert entered.acquire(timeout=5)
    assert_plain(call(relayed), 503)
    release.set()
    for thread in threads:
        thread.join()
    assert call(relayed).status_code == 200


def slowly(parts: int) -> AsyncIterator[bytes]:
    async def stream() -> AsyncIterator[bytes]:
        for _ in range(parts):
            yield b"x"
            await asyncio.sleep(0.15)

    return stream()


def cut_off() -> AsyncIterator[bytes]:
    async def stream() -> AsyncIterator[bytes]:
        yield b"half"
        await asyncio.sleep(3)  # longer than the relay waits

    return stream()


@pytest.mark.parametrize(
    ("what", "answer", "status"),
    [
        ("another type", lambda: Response(b"IDENTIFYING", media_type="text/html"), 502),
        ("no type", lambda: Response(b"IDENTIFYING"), 502),
        ("another success", lambda: Response(b"IDENTIFYING", 201, media_type=RES), 502),
        ("a redirect", lambda: RedirectResponse("/dokimos/v1/bundle", 307), 502),
        ("too long", lambda: Response(bytes(10_001), media_type=RES), 502),
        ("a coding", lambda: Response(b"x", media_type=RES, headers={"Content-Encoding": "gzip"}), 502),
        ("dripping", lambda: StreamingResponse(slowly(20), media_type=RES), 504),
        ("stuck", lambda: StreamingResponse(cut_off(), media_type=RES), 504),
        ("an error", lambda: Response(b"IDENTIFYING", 400, media_type=RES), 400),
        ("a failure", lambda: Response(b"IDENTIFYING", 500), 500),
        ("another problem", lambda: problem({"type": "https://IDENTIFYING.example"}), 403),
        ("a problem that is none", lambda: problem(["IDENTIFYING"]), 403),
        ("a problem of another shape", lambda: problem({"type": {}}), 403),
        ("no JSON", lambda: Response(b"IDENTIFYING", 403, media_type="application/problem+json"), 403),
        ("deep JSON", lambda: Response(b"[" * 60000, 403, media_type="application/problem+json"), 403),
        ("long problem", lambda: Response(b" " * 70000, 403, media_type="application/problem+json"), 403),
    ],
)
def test_an_answer_that_is_none_becomes_a_fixed_text(
    relayed: str, upstream: Upstream, what: str, answer: Callable[[], Response], status: int
) -> None:
    upstream.answer = lambda body: answer()
    assert_plain(call(relayed), status)
    assert len(upstream.seen) == 1


def problem(document: object) -> Response:
    return Response(json.dumps(document), 403, media_type="application/problem+json")


@pytest.mark.parametrize("kind", [KEY_PROBLEM, DATE_PROBLEM])
def test_problems_that_a_client_can_act_on_pass_without_their_rest(relayed: str, upstream: Upstream, kind: str) -> None:
    upstream.answer = lambda body: problem({"type": kind, "title": "IDENTIFYING", "instance": "IDENTIFYING"})
    response = call(relayed)
    assert (response.status_code, response.headers["Content-Type"]) == (403, "application/problem+json")
    assert response.json() == {"type": kind}


def test_a_short_answer_is_not_passed_off_as_whole(serve: Serve) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(f"HTTP/1.1 200 OK\r\nContent-Type: {RES}\r\nContent-Length: 9\r\n\r\nshort".encode())

        thread = threading.Thread(target=answer)
        thread.start()
        relay = serve(relay_app({"/": f"http://127.0.0.1:{listener.getsockname()[1]}/"}, limits=FAST))
        assert_plain(call(relay), 502)
        thread.join()
    assert_plain(call(relay), 502)  # nobody listens any more


def test_a_proxy_of_the_environment_is_not_used(
    relayed: str, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert call(relayed).status_code == 200


def test_nothing_of_client_or_content_is_logged(
    relayed: str, upstream: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    upstream.answer = lambda body: Response(body, media_type=RES)
    for thread in (threads := [threading.Thread(target=call, args=(relayed,)) for _ in range(4)]):
        thread.start()
    for thread in threads:
        thread.join()
    call(relayed, content=b"SEALED", **{name.replace("-", "_"): value for name, value in IDENTIFYING.items()})
    call(relayed + "/?IDENTIFYING")
    # The server's own log is not the relay's, and the test's client talks to the relay by its address.
    port = str(urlsplit(relayed).port)
    texts = [r.getMessage() for r in caplog.records if not r.name.startswith("uvicorn")]
    assert not [r for r in caplog.records if r.name.startswith("dokimos")]
    assert not [text for text in texts if port not in text and re.search("IDENTIFYING|SEALED|192.0.2.77", text)]


@pytest.mark.parametrize(
    ("targets", "origin"),
    [
        ({}, None),
        ({"x": "https://gateway.example/"}, None),
        ({"/{x}": "https://gateway.example/"}, None),
        ({"/": "gateway.example"}, None),
        ({"/": "ftp://gateway.example/"}, None),
        ({"/": "https://user@gateway.example/"}, None),
        ({"/": "https://gateway.example/?q"}, None),
        ({"/": "https://"}, None),
        ({"/": "https://[::1/"}, None),
        ({"/": "https://gateway.example/"}, "https://gateway.example/path"),
        ({"/": "https://gateway.example/"}, "https://gateway.example/#f"),
    ],
)
def test_a_relay_without_clear_targets_does_not_start(targets: dict[str, str], origin: str | None) -> None:
    with pytest.raises(UsageError):
        relay_app(targets, origin=origin)
