"""Chat completions inside of an encrypted request: what is asked, and a strict reading of what comes back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime

from ..errors import MalformedEvidence, MaterialUnavailable
from ..ohttp import bhttp

PATH = "/v1/chat/completions"
MAX_ANSWER = 1 << 20
"""Bytes that the content of an answer may have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message of a chat.

    Attributes:
        role: "system", "user" or "assistant".
        content: the text.
    """

    role: str
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the model answered.

    Attributes:
        text: the answer's text.
        model: the model's alias, as the service names it.
        finish_reason: "stop" or "length".
        prompt_tokens: tokens of the prompt, or None if the service does not say.
        completion_tokens: tokens of the answer, or None if the service does not say.
    """

    text: str
    model: str
    finish_reason: str
    prompt_tokens: int | None
    completion_tokens: int | None


def encode(messages: Sequence[Message], *, at: datetime, authority: str, **options: object) -> bytes:
    """A chat request in Binary HTTP, padded to a bucket.

    Args:
        messages: the chat so far.
        at: time for the Date field, by which the gateway bounds its memory of replays; cut to whole seconds.
        authority: host and port that the inner request names.
        options: further fields of the request, such as ``max_tokens``; those that are None are left out.
    """
    document: dict[str, object] = {"messages": [{"role": m.role, "content": m.content} for m in messages]}
    document |= {name: value for name, value in options.items() if value is not None}
    request = bhttp.Request(
        method="POST",
        authority=authority,
        path=PATH,
        headers=(
            ("content-type", "application/json"),
            ("date", format_datetime(at.astimezone(UTC), usegmt=True)),
        ),
        content=json.dumps(document, ensure_ascii=False).encode(),
    )
    return bhttp.encode_request(request)


def decode(data: bytes) -> Answer:
    """Read the answer to a chat request.

    Raises:
        MaterialUnavailable: the service answered with an error of its own; its text is one of a fixed list.
        MalformedEvidence: not such an answer.
    """
    response = bhttp.decode_response(data, max_content=MAX_ANSWER)
    try:
        document = json.loads(response.content)
    except (ValueError, RecursionError) as exc:
        raise MalformedEvidence("the service's answer is not JSON") from exc
    if response.status != 200:
        raise MaterialUnavailable(f"the service refused the request: {response.status} {_reason(document)}")
    try:
        choice = document["choices"][0]
        text, finish = choice["message"]["content"], choice["finish_reason"]
        model, usage = document["model"], document.get("usage") or {}
        counts = usage.get("prompt_tokens"), usage.get("completion_tokens")
    except (KeyError, IndexError, TypeError, AttributeError) as exc:
        raise MalformedEvidence("the service's answer is no chat completion") from exc
    if not all(isinstance(value, str) for value in (text, finish, model)) or not all(
        count is None or type(count) is int for count in counts
    ):
        raise MalformedEvidence("the service's answer is no chat completion")
    return Answer(text=text, model=model, finish_reason=finish, prompt_tokens=counts[0], completion_tokens=counts[1])


def _reason(document: object) -> str:
    error = document.get("error") if isinstance(document, dict) else None
    message = error.get("message") if isinstance(error, dict) else None
    return message[:200] if isinstance(message, str) and message.isprintable() else "(no reason)"
