"""Any bytes are an evidence bundle, or one of our errors."""

from __future__ import annotations

import contextlib

from dokimos.errors import Error
from dokimos.evidence.bundle import Bundle, SnpEvidence, encode_bundle, parse_bundle

_BUNDLE = Bundle(
    cpu=SnpEvidence(report=bytes(1184), vek=b"\x30\x00", cas=(b"\x30\x01",), crls=(b"\x30\x02",)),
    statement=b"s",
    key_configs=b"k",
)
SEEDS: list[bytes] = [encode_bundle(_BUNDLE), b'{"__cmwc_t":"urn:dokimos:bundle:v1","cpu":["x","AA",4]}', b"[" * 50]


def one_input(data: bytes) -> None:
    """What is read is written as the same bundle again."""
    with contextlib.suppress(Error):
        found = parse_bundle(data)
        assert parse_bundle(encode_bundle(found)) == found
