"""Any bytes are an answer of NVIDIA's attestation service, its key set, a token's parts, or one of our errors."""

from __future__ import annotations

import base64
import contextlib
import json

from dokimos.endorsements.nras import parse_nras, parse_nras_keys
from dokimos.errors import Error
from dokimos.verifier.nras import detached_digests


def b64(data: bytes) -> str:
    """Base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def token(claims: bytes, header: bytes = b'{"kid":"k","alg":"ES384"}') -> str:
    """A compact JWS, signed by nobody."""
    return ".".join(map(b64, (header, claims, b"s" * 96)))


def answer(overall: bytes, device: bytes, header: bytes = b'{"kid":"k","alg":"ES384"}') -> bytes:
    """An answer about one device."""
    return json.dumps([["JWT", token(overall, header)], {"GPU-0": token(device, header)}]).encode()


OVERALL = (
    b'{"iss":"https://nras.attestation.nvidia.com","iat":1,"nbf":1,"exp":2,"eat_nonce":"00",'
    b'"x-nvidia-overall-att-result":true,"submods":{"GPU-0":["DIGEST",["SHA-256","00"]]}}'
)
DEVICE = b'{"ueid":"1","measres":"success","x":{"y":[null,1,true]}}'
SEEDS: list[bytes] = [
    answer(OVERALL, DEVICE),
    answer(b"{}", b"{}", b'{"alg":"none"}'),
    json.dumps({"keys": [{"kid": "k", "x5c": ["MAA="], "x": "eA", "y": "eQ"}]}).encode(),
    OVERALL,
]


def one_input(data: bytes) -> None:
    """The bytes whole, and as header and payload of tokens, where a change of one bit is not hidden by base64."""
    for made in (data, answer(data, DEVICE), answer(OVERALL, DEVICE, data)):
        with contextlib.suppress(Error):
            detached_digests(parse_nras(made))
    with contextlib.suppress(Error):
        parse_nras_keys(data)
