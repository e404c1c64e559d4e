"""The allow-list of chat requests."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dokimos.cvm_image.service.chat import BadRequest, ChatLimits, encode_answer, parse_request
from dokimos.cvm_image.service.engine.base import ChatAnswer, EngineInfo

_INFO = EngineInfo(name="e", version="1", model="tiny", model_sha256="", max_context=64, isolation="process")
_LIMITS = ChatLimits()
_GOOD = {"messages": [{"role": "user", "content": "hi"}]}


def _parse(document):
    return parse_request(json.dumps(document).encode(), _INFO, _LIMITS)


def test_every_listed_field_is_taken():
    request = _parse(
        {
            "model": "tiny",
            "messages": [{"role": "system", "content": "be kind"}, {"role": "user", "content": "é😀"}],
            "max_tokens": 7,
            "temperature": 0.5,
            "top_p": 0.9,
            "stop": ["a", "b"],
            "seed": 3,
            "stream": False,
            "n": 1,
        }
    )
    assert request.messages == (("system", "be kind"), ("user", "é😀"))
    assert (request.max_tokens, request.temperature, request.top_p, request.stop, request.seed) == (
        7,
        0.5,
        0.9,
        ("a", "b"),
        3,
    )
    assert _parse(_GOOD | {"stop": "a"}).stop == ("a",)
    plain = _parse(_GOOD)
    assert (plain.max_tokens, plain.temperature, plain.seed) == (_LIMITS.default_tokens, 0.0, None)


@pytest.mark.parametrize(
    "change",
    [
        {"tools": []},
        {"logprobs": True},
        {"response_format": {}},
        {"cache_prompt": True},
        {"messages": []},
        {"messages": "hi"},
        {"messages": [{"role": "user", "content": "x"}] * 65},
        {"messages": [{"role": "tool", "content": "x"}]},
        {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
        {"messages": [{"role": "user", "content": "x", "name": "y"}]},
        {"messages": [{"role": "user"}]},
        {"messages": [{"role": ["user"], "content": "x"}]},
        {"max_tokens": 0},
        {"max_tokens": 513},
        {"max_tokens": True},
        {"max_tokens": 1.5},
        {"max_tokens": "1"},
        {"temperature": -0.1},
        {"temperature": 2.1},
        {"top_p": 1.1},
        {"seed": -1},
        {"seed": 1 << 32},
        {"stop": ["x"] * 5},
        {"stop": [""]},
        {"stop": ["x" * 65]},
        {"stop": [1]},
        {"stream": True},
        {"stream": "no"},
        {"n": 2},
        {"n": True},
        {"model": "other"},
        {"model": 1},
    ],
)
def test_everything_else_is_refused(change):
    with pytest.raises(BadRequest):
        _parse(_GOOD | change)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"1",
        b"\xff",
        b"{",
        b'{"messages": [{"role": "user", "content": "a"}], "messages": [{"role": "user", "content": "b"}]}',
        b'{"messages": [{"role": "user", "role": "user", "content": "a"}]}',
        b'{"messages": [{"role": "user", "content": "a"}], "temperature": NaN}',
        b'{"messages": [{"role": "user", "content": "a"}], "temperature": Infinity}',
        b'{"messages": [{"role": "user", "content": "a"}], "seed": ' + b"9" * 5000 + b"}",
        b'{"messages": [{"role": "user", "content": "\\ud800"}]}',
        b"[" * 60000,
        b'{"messages": [{"role": "user", "content": "' + b"a" * (64 << 10) + b'"}]}',
    ],
)
def test_what_is_no_such_document_is_refused(data):
    with pytest.raises(BadRequest):
        parse_request(data, _INFO, _LIMITS)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from(["messages", "max_tokens", "temperature", "stop", "seed", "model", "n", "stream"]), _JSON)
def test_any_value_of_any_field_gives_a_request_or_a_fixed_text(field, value):
    document = _GOOD | {field: value}
    try:
        _parse(document)
    except BadRequest as exc:
        text = exc.text
    else:
        return
    with pytest.raises(BadRequest) as caught:
        _parse(_GOOD | {"zzz-unknown-zzz": value})
    assert "zzz" not in caught.value.text
    assert len(text) < 120


def test_an_answer_shows_no_telemetry():
    answer = ChatAnswer(text="hi", finish_reason="stop", prompt_tokens=3, completion_tokens=4)
    document = json.loads(encode_answer(answer, _INFO))
    assert document == {
        "object": "chat.completion",
        "model": "tiny",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7},
    }
