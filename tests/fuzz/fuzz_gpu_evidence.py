"""Any bytes are an evidence file, a guest's state, or one of our errors; what is read is written again."""

from __future__ import annotations

import contextlib
import json

from dokimos.errors import Error
from dokimos.evidence.gpu_evidence import (
    encode_gpu_evidence,
    gpu_digest,
    parse_gpu_evidence,
    parse_guest_state,
    subjects,
)

_DEVICE = {"arch": "HOPPER", "nonce": "ab" * 32, "evidence": "UkVQT1JU", "certificate": "UEVN"}
_STATE = b'{"cc_feature":true,"devtools":false,"driver_version":"590.12","environment":"production","ready":true}'
SEEDS: list[bytes] = [
    json.dumps([_DEVICE]).encode(),
    json.dumps(
        [
            _DEVICE | {"version": "1.0", "driver_version": "590.12", "vbios_version": "96.00.A5.00.01"},
            _DEVICE | {"arch": "LS10", "more": [1, 2.5, None, {}]},
            _DEVICE | {"arch": "BLACKWELL"},
        ],
        indent=4,
    ).encode(),
    _STATE,
    b"[" * 500,
]


def one_input(data: bytes) -> None:
    """Both readers get the same bytes."""
    with contextlib.suppress(Error):
        devices = parse_gpu_evidence(data)
        if parse_gpu_evidence(encode_gpu_evidence(devices)) != devices or len(set(subjects(devices))) != len(devices):
            raise AssertionError("a device is lost")
        gpu_digest(devices, None)
    with contextlib.suppress(Error):
        if parse_guest_state(data).to_json() != data:
            raise AssertionError("two encodings of one state")
