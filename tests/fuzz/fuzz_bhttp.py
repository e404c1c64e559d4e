"""Fuzz target: Binary HTTP."""

from __future__ import annotations

import contextlib

from dokimos.errors import Error
from dokimos.ohttp import bhttp

SEEDS: list[bytes] = [
    bhttp.encode_request(
        bhttp.Request(method="POST", authority="a.example", path="/", headers=(("a", "b"),), content=b"c"), pad=False
    ),
    bhttp.encode_response(bhttp.Response(status=200, content=b"c", informational=((103, (("a", "b"),)),)), pad=False),
    bytes.fromhex("02 03474554 056874747073 00 012f 0161 0162 00 0163 0278 79 00 0164 0165 00 0000"),
    bytes.fromhex("03 4066 0161 0162 00 40c8 00 0178 00 00"),
]


def one_input(data: bytes) -> None:
    """Any bytes are a message, which then survives being written and read again, or an error of ours."""
    for decode, encode in (
        (bhttp.decode_request, bhttp.encode_request),
        (bhttp.decode_response, bhttp.encode_response),
    ):
        with contextlib.suppress(Error):
            message = decode(data)
            try:
                again = decode(encode(message))
            except Error as exc:
                raise AssertionError("what was read cannot be written") from exc
            assert again == message
