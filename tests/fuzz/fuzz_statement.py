"""Any bytes are a binding statement, or one of our errors; only one encoding of each is taken."""

from __future__ import annotations

import contextlib
from dataclasses import replace

from dokimos.errors import Error
from dokimos.evidence.statement import PROFILE_OHTTP, ROLE_GATEWAY, Statement, gpu_nonce, parse_statement

_STATEMENT = Statement(
    profile=PROFILE_OHTTP,
    role=ROLE_GATEWAY,
    key_configs_sha256=bytes(32),
    tls_spki_sha256=None,
    nonce=bytes(32),
    epoch=None,
    not_before=1_800_000_000,
    expiry=1_800_000_600,
    gpu_digest=None,
    runtime_config_sha256=bytes(32),
    image_sha256=bytes(32),
)
SEEDS: list[bytes] = [
    _STATEMENT.to_cbor(),
    replace(_STATEMENT, epoch=bytes(40), tls_spki_sha256=bytes(32), gpu_digest=bytes(32)).to_cbor(),
]


def one_input(data: bytes) -> None:
    """What is read encodes to the very same bytes."""
    with contextlib.suppress(Error):
        found = parse_statement(data)
        assert found.to_cbor() == data
        assert len(gpu_nonce(found)) == 32
