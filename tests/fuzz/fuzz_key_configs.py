"""Fuzz target: lists of OHTTP key configurations."""

from __future__ import annotations

import contextlib

from dokimos.errors import Error
from dokimos.ohttp.keys import choose, encode_key_configs, generate_keys, parse_key_configs

_KEYS = generate_keys(1)

SEEDS: list[bytes] = [
    encode_key_configs([key.config for key in _KEYS]),
    encode_key_configs([_KEYS[1].config]),
    b"\x00\x04\x63\x00\x10\x00" + encode_key_configs([_KEYS[1].config]),
]


def one_input(data: bytes) -> None:
    """Any bytes are a list, which then survives being written and read again, or an error of ours."""
    with contextlib.suppress(Error):
        configs = parse_key_configs(data)
        if configs:
            try:
                again = parse_key_configs(encode_key_configs(configs))
            except Error as exc:
                raise AssertionError("what was read cannot be written") from exc
            assert again == configs
        choose(configs)
