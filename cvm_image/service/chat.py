"""Chat completions: which fields a request may have, and what an answer shows.

An allow-list: a field that is not known is refused, since an engine might read it.  No error text holds anything of the
request.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from ...errors import Error
from .engine.base import ChatAnswer, ChatRequest, EngineInfo

PATH: Final = "/v1/chat/completions"
ROLES: Final = frozenset({"system", "user", "assistant"})
_FIELDS = frozenset({"model", "messages", "max_tokens", "temperature", "top_p", "stop", "seed", "stream", "n"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatLimits:
    """Bounds of one request.

    Attributes:
        content: bytes of the whole JSON document.
        messages: number of messages.
        max_tokens: most tokens that may be asked for.
        default_tokens: tokens where none are asked for.
        stops: number of stop texts.
        stop_characters: characters of one of them.
    """

    content: int = 64 << 10
    messages: int = 64
    max_tokens: int = 512
    default_tokens: int = 128
    stops: int = 4
    stop_characters: int = 64


class BadRequest(Error):
    """A request that is answered with a fixed text.

    Attributes:
        status: HTTP status of the answer.
        text: the fixed text.
    """

    def __init__(self, text: str, status: int = 400) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise BadRequest("a field stands twice in the JSON document")
    return found


def _constant(_: str) -> float:
    raise BadRequest("the content is not JSON")


def _digits(text: str) -> int:
    if len(text) > 20:  # turning many digits into an integer takes quadratic time
        raise BadRequest("a number is out of range")
    return int(text)


def parse_request(data: bytes, info: EngineInfo, limits: ChatLimits) -> ChatRequest:
    """Read the content of a chat request.

    Args:
        data: the JSON document.
        info: the engine that will answer.
        limits: bounds.

    Raises:
        BadRequest: anything that is not on the list or out of its bounds.
    """
    if len(data) > limits.content:
        raise BadRequest("the request is too large", 413)
    try:
        document = json.loads(data.decode(), object_pairs_hook=_pairs, parse_int=_digits, parse_constant=_constant)
    except (ValueError, RecursionError):
        raise BadRequest("the content is not JSON") from None
    if not isinstance(document, dict):
        raise BadRequest("the content is not a JSON object")
    if not document.keys() <= _FIELDS:
        raise BadRequest("a field is not known; known are " + ", ".join(sorted(_FIELDS)))
    if document.get("stream") not in (None, False):
        raise BadRequest("streaming is not supported", 501)
    if document.get("n") not in (None, 1) or isinstance(document.get("n"), bool):
        raise BadRequest("one answer for one request")
    if document.get("model") not in (None, info.model):
        raise BadRequest("no such model", 404)
    return ChatRequest(
        messages=_messages(document.get("messages"), limits),
        max_tokens=int(_number(document, "max_tokens", limits.default_tokens, 1, limits.max_tokens, whole=True)),
        temperature=_number(document, "temperature", 0.0, 0, 2),
        top_p=_number(document, "top_p", 1.0, 0, 1),
        stop=_stop(document.get("stop"), limits),
        seed=_seed(document),
    )


def _messages(value: object, limits: ChatLimits) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, list) or not 1 <= len(value) <= limits.messages:
        raise BadRequest(f"messages is a list of 1 to {limits.messages}")
    found = []
    for message in value:
        if not isinstance(message, dict) or message.keys() != {"role", "content"}:
            raise BadRequest("a message has a role and a content, and nothing else")
        role, content = message["role"], message["content"]
        if not isinstance(role, str) or role not in ROLES or not isinstance(content, str) or not _encodable(content):
            raise BadRequest("a message has one of the roles system, user, assistant, and a text as content")
        found.append((role, content))
    return tuple(found)


def _encodable(text: str) -> bool:
    """JSON can write half of a surrogate pair, which no engine can read."""
    return not any(0xD800 <= ord(character) <= 0xDFFF for character in text)


def _number(
    document: dict[str, Any], name: str, default: float, low: float, high: float, *, whole: bool = False
) -> float:
    value = document.get(name)
    if value is None:
        return default
    kinds = (int,) if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or not low <= value <= high:
        raise BadRequest(f"{name} is a number from {low:g} to {high:g}")
    return value


def _seed(document: dict[str, Any]) -> int | None:
    if document.get("seed") is None:
        return None
    return int(_number(document, "seed", 0, 0, (1 << 32) - 1, whole=True))


def _stop(value: object, limits: ChatLimits) -> tuple[str, ...]:
    if value is None:
        return ()
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or len(texts) > limits.stops:
        raise BadRequest(f"stop is at most {limits.stops} texts")
    for text in texts:
        if not isinstance(text, str) or not 1 <= len(text) <= limits.stop_characters or not _encodable(text):
            raise BadRequest(f"stop is texts of 1 to {limits.stop_characters} characters")
    return tuple(texts)


def encode_answer(answer: ChatAnswer, info: EngineInfo) -> bytes:
    """An answer as JSON: text, why it ended, tokens.  No timings, no caches, no fingerprints, no paths, no ids."""
    document = {
        "object": "chat.completion",
        "model": info.model,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": answer.text},
                "finish_reason": answer.finish_reason,
            }
        ],
        "usage": {
            "prompt_tokens": answer.prompt_tokens,
            "completion_tokens": answer.completion_tokens,
            "total_tokens": answer.prompt_tokens + answer.completion_tokens,
        },
    }
    return json.dumps(document, ensure_ascii=False).encode("utf-8", "replace")


def encode_error(text: str) -> bytes:
    """A fixed text in the shape in which clients of this interface look for it."""
    return json.dumps({"error": {"message": text}}).encode()
