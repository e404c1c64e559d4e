"""Any bytes are a chat request within its bounds, or an error with a fixed text."""

from __future__ import annotations

import contextlib

from dokimos.cvm_image.service.chat import BadRequest, ChatLimits, parse_request
from dokimos.cvm_image.service.engine.base import EngineInfo

_INFO = EngineInfo(name="e", version="1", model="m", model_sha256="", max_context=2048, isolation="process")
_LIMITS = ChatLimits(content=4096)
SEEDS: list[bytes] = [
    b'{"messages":[{"role":"user","content":"hi"}]}',
    b'{"model":"m","messages":[{"role":"system","content":"\\ud83d\\ude00"}],"max_tokens":5,"temperature":0.5,'
    b'"top_p":1,"stop":["a"],"seed":7,"stream":false,"n":1}',
    b"[" * 100,
]


def one_input(data: bytes) -> None:
    """Nothing but a request within its bounds or BadRequest comes out."""
    with contextlib.suppress(BadRequest):
        request = parse_request(data, _INFO, _LIMITS)
        assert 1 <= len(request.messages) <= _LIMITS.messages
        assert 1 <= request.max_tokens <= _LIMITS.max_tokens
        "".join(content for _, content in request.messages).encode()
