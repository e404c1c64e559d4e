"""Any bytes are a superblock, a frame of the simulated port, or a refusal."""

from __future__ import annotations

import contextlib
from uuid import UUID

from dokimos.attest.provider import Quote
from dokimos.attest.sim_port import (
    HEADER,
    encode_answer,
    encode_request,
    encode_td_answer,
    encode_td_request,
    parse_answer,
    parse_header,
    parse_request,
    parse_td_answer,
    parse_td_request,
)
from dokimos.errors import Error
from dokimos.evidence.bundle import TdxEvidence
from dokimos.measurements.verity import Superblock, encode_superblock, parse_superblock

SEEDS: list[bytes] = [
    encode_superblock(Superblock(UUID(int=1), 24015, b"salt")),
    encode_request(7, bytes(64), 0),
    encode_request(7, bytes(64), 0)[HEADER.size :],
    encode_answer(7, Quote(bytes(1184), b"table")),
    encode_answer(7, None),
    encode_td_request(7, bytes(64)),
    encode_td_request(7, bytes(64))[HEADER.size :],
    encode_td_answer(7, TdxEvidence(quote=b"quote", collateral=b"collateral", event_log=b"log"))[HEADER.size :],
]


def one_input(data: bytes) -> None:
    """Read as each of them; a superblock that reads is written as it was but for what nobody reads."""
    for parse in (parse_request, parse_answer, lambda data: parse_header(data[: HEADER.size])):
        with contextlib.suppress(Error):
            parse(data)
    with contextlib.suppress(Error):
        assert encode_td_request(1, parse_td_request(data))[HEADER.size :] == data
    with contextlib.suppress(Error):
        assert encode_td_answer(1, parse_td_answer(data))[HEADER.size :] == data
    with contextlib.suppress(Error):
        block = parse_superblock(data)
        assert parse_superblock(encode_superblock(block)) == block
