"""What an engine is: it turns a chat into an answer, and knows neither network nor keys."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ....errors import Error


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model file that is there.

    Attributes:
        path: the file.
        alias: name under which the service offers it.
        sha256: of its content, in hex.
    """

    path: Path
    alias: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """A checked request; every field is within its bounds.

    Attributes:
        messages: (role, content) in order.
        max_tokens: most tokens of the answer.
        temperature: 0 for the likeliest token.
        top_p: nucleus of the choice.
        stop: texts that end the answer.
        seed: makes the choice repeatable, or None.
    """

    messages: tuple[tuple[str, str], ...]
    max_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    stop: tuple[str, ...] = ()
    seed: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatAnswer:
    """An answer, without any telemetry.

    Attributes:
        text: what the model wrote.
        finish_reason: "stop" or "length".
        prompt_tokens: tokens of the prompt.
        completion_tokens: tokens of the answer.
    """

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineInfo:
    """What an engine is; it goes into the measured configuration.

    Attributes:
        name: of the engine.
        version: of the engine.
        model: alias of the model.
        model_sha256: SHA-256 of the model's file, in hex, or "" where the engine alone knows it.
        max_context: tokens of prompt and answer together.
        isolation: "process": a process of its own for each request, which then ends; "shared": one for all.
    """

    name: str
    version: str
    model: str
    model_sha256: str
    max_context: int
    isolation: str


class EngineError(Error):
    """Base of what an engine answers instead; the texts are fixed and hold nothing of the request."""

    status = 500
    text = "the engine failed"

    def __init__(self) -> None:
        super().__init__(self.text)


class TooLarge(EngineError):
    """Prompt and answer do not fit into the model's context."""

    status = 413
    text = "the messages do not fit into the model's context"


class Busy(EngineError):
    """No engine is free."""

    status = 429
    text = "the service is busy"


class EngineFailed(EngineError):
    """The engine gave no answer, or died."""

    status = 502
    text = "the engine gave no answer"


class Engine(Protocol):
    """Answers chats, from any thread."""

    @property
    def info(self) -> EngineInfo:
        """What it is."""

    def chat(self, request: ChatRequest) -> ChatAnswer:
        """Answer one chat.

        Raises:
            EngineError: no answer, for one of the fixed reasons.
        """

    def close(self) -> None:
        """End everything that it started."""
