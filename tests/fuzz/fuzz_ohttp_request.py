"""Fuzz target: encapsulated requests at the gateway, and encapsulated responses at the client."""

from __future__ import annotations

import contextlib

from dokimos.errors import Error
from dokimos.ohttp.keys import generate_keys
from dokimos.ohttp.ohttp import Gateway, encapsulate

_KEYS = generate_keys(1)
_GATEWAY = Gateway(_KEYS)
_HEADERS = [encapsulate(key.config, b"")[0][:7] for key in _KEYS]

SEEDS: list[bytes] = [encapsulate(key.config, b"seed")[0] for key in _KEYS] + [bytes(60)]


def one_input(data: bytes) -> None:
    """Any bytes open or give an error of ours; behind a header that is right, too."""
    for request in (data, *(header + data for header in _HEADERS)):
        with contextlib.suppress(Error):
            _GATEWAY.open(request).seal(b"")
    _, opener = encapsulate(_KEYS[1].config, b"")
    with contextlib.suppress(Error):
        opener.open(data)
