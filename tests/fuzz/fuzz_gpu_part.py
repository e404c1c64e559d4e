"""Any bytes are the GPUs' part of a bundle, or a request to simulated GPUs, or one of our errors."""

from __future__ import annotations

import contextlib

from dokimos.attest.sim_port import HEADER, encode_gpu_request, parse_gpu_request
from dokimos.errors import Error
from dokimos.evidence.gpu_arch import Arch
from dokimos.evidence.gpu_evidence import GpuEvidence, GuestState
from dokimos.evidence.gpu_part import GpuPart, encode_gpu_part, parse_gpu_part

_DEVICE = GpuEvidence(arch=Arch.HOPPER, nonce=bytes(32), report=b"\x11\xe0", chain=b"-----BEGIN CERTIFICATE-----")
_STATE = GuestState(cc_feature=True, environment="production", devtools=False, ready=True, driver_version="580.95.05")
SEEDS: list[bytes] = [
    encode_gpu_part(GpuPart(devices=(_DEVICE,))),
    encode_gpu_part(GpuPart(devices=(_DEVICE, _DEVICE), state=_STATE, rims=(b"<r/>",), crls=(b"0",), ocsp=(b"0",))),
    b'{"__cmwc_t":"urn:dokimos:gpu:v1","gpu":[],"endorsements":{"rim/0":[]}}',
    bytes(32),
]


def one_input(data: bytes) -> None:
    """What is read is written as the same again."""
    with contextlib.suppress(Error):
        found = parse_gpu_part(data)
        assert parse_gpu_part(encode_gpu_part(found)) == found
    with contextlib.suppress(Error):
        assert encode_gpu_request(1, parse_gpu_request(data))[HEADER.size :] == data
