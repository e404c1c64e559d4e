"""Interoperability with code that others wrote: hpke-js and its X-Wing module, and bhttp-js, under node."""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING, Any

import pytest

from dokimos.ohttp import bhttp
from dokimos.ohttp.keys import PREFERENCE, KeyConfig, generate_keys
from dokimos.ohttp.ohttp import Gateway, encapsulate

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from dokimos.ohttp.hpke import Suite

    Peer = Callable[..., dict[str, Any]]

SUITES = pytest.mark.parametrize("suite", PREFERENCE, ids=lambda suite: suite.kem.name)
CONTENT = bytes(range(256)) * 3


def header(key_id: int, suite: Suite) -> str:
    return struct.pack(">BHHH", key_id, suite.kem, suite.kdf, suite.aead).hex()


@SUITES
@pytest.mark.parametrize("size", [0, 1, 5000])
def test_the_peer_opens_our_request_and_we_its_answer(peer: Peer, suite: Suite, size: int) -> None:
    made = peer("make_key", header=header(9, suite))
    config = KeyConfig(
        key_id=9,
        kem=suite.kem,
        public_key=bytes.fromhex(made["public_key"]),
        symmetric=((suite.kdf, suite.aead),),
    )
    request = bytes(size)
    sealed, opener = encapsulate(config, request)
    opened = peer("open_request", id=made["id"], data=sealed.hex())
    assert opened["request"] == request.hex()
    answer = peer("seal_response", id=opened["id"], response=CONTENT.hex())
    assert opener.open(bytes.fromhex(answer["data"])) == CONTENT


@SUITES
@pytest.mark.parametrize("size", [0, 1, 5000])
def test_we_open_the_peers_request_and_it_our_answer(peer: Peer, suite: Suite, size: int) -> None:
    (key,) = (key for key in generate_keys(200) if key.config.suite == suite)
    sealed = peer(
        "seal_request",
        header=header(key.config.key_id, suite),
        public_key=key.config.public_key.hex(),
        request=CONTENT.hex(),
    )
    opened = Gateway([key]).open(bytes.fromhex(sealed["data"]))
    assert opened.request == CONTENT
    answer = peer("open_response", id=sealed["id"], data=opened.seal(bytes(size)).hex())
    assert answer["response"] == bytes(size).hex()


@SUITES
def test_the_peer_refuses_what_is_altered(peer: Peer, suite: Suite) -> None:
    made = peer("make_key", header=header(1, suite))
    public_key = bytes.fromhex(made["public_key"])
    config = KeyConfig(key_id=1, kem=suite.kem, public_key=public_key, symmetric=((suite.kdf, suite.aead),))
    sealed = bytearray(encapsulate(config, b"request")[0])
    sealed[-1] ^= 1
    assert "error" in peer("open_request", id=made["id"], data=sealed.hex())


@pytest.mark.parametrize("pad", [False, True])
def test_the_peer_reads_our_binary_http(peer: Peer, pad: bool) -> None:
    request = bhttp.Request(
        method="POST",
        authority="service.example",
        path="/v1/chat/completions",
        headers=(("content-type", "application/json"), ("x-long", "y" * 300)),
        content=CONTENT,
    )
    assert peer("decode_request", data=bhttp.encode_request(request, pad=pad).hex()) == {
        "method": "POST",
        "url": "https://service.example/v1/chat/completions",
        "headers": [list(field) for field in request.headers],
        "content": CONTENT.hex(),
    }
    response = bhttp.Response(
        status=404, headers=(("content-type", "text/plain"),), content=CONTENT, informational=((103, (("a", "b"),)),)
    )
    assert peer("decode_response", data=bhttp.encode_response(response, pad=pad).hex()) == {
        "status": 404,
        "headers": [["content-type", "text/plain"]],
        "content": CONTENT.hex(),
    }


def test_we_read_the_peers_binary_http(peer: Peer) -> None:
    made = peer(
        "encode_request",
        method="POST",
        url="https://service.example/v1/models",
        headers={"x-long": "y" * 300},
        content=CONTENT.hex(),
    )
    data = bytes.fromhex(made["data"])
    request = bhttp.decode_request(data)
    assert (request.method, request.scheme, request.path) == ("POST", "https", "/v1/models")
    assert request.authority == "service.example"
    assert dict(request.headers)["x-long"] == "y" * 300
    assert request.content == CONTENT
    assert bhttp.encode_request(request, pad=False) == data
    made = peer("encode_response", status=201, headers={"x-a": "b"}, content=CONTENT.hex())
    response = bhttp.decode_response(bytes.fromhex(made["data"]))
    assert (response.status, dict(response.headers)["x-a"], response.content) == (201, "b", CONTENT)
    assert bhttp.encode_response(response, pad=False) == bytes.fromhex(made["data"])


def test_the_peers_are_pinned_and_no_address_of_a_registry_is_kept(checkout: Path) -> None:
    folder = checkout / "tests" / "ohttp" / "peers"
    assert sorted(path.name for path in folder.iterdir()) == ["package.json", "peer.mjs"]
    manifest = (folder / "package.json").read_text()
    assert "://" not in manifest
    versions = re.findall(r'": "(.*)"', manifest.split("dependencies")[1])
    assert versions
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in versions)
