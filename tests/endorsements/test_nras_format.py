"""The form of the attestation service's answers and key sets: what others may read otherwise is refused."""

from __future__ import annotations

import base64
import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dokimos.endorsements.nras import MAX_ANSWER, MAX_DEVICES, MAX_KEYS, MAX_TOKEN, parse_nras, parse_nras_keys
from dokimos.errors import Check, MalformedEvidence


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def token(claims=b'{"a":1}', header=b'{"alg":"ES384","kid":"k"}', signature=b"s" * 96):
    return ".".join(map(b64, (header, claims, signature)))


def answer(overall=None, devices=None):
    return json.dumps([["JWT", token() if overall is None else overall], devices or {"GPU-0": token()}]).encode()


def refused(data, match=None):
    with pytest.raises(MalformedEvidence, match=match) as caught:
        parse_nras(data)
    assert caught.value.check is Check.NRAS_TOKEN_FORMAT


def refused_token(compact, match=None):
    refused(answer(compact), match)
    refused(answer(devices={"GPU-0": compact}), match)


def test_an_answer_is_read_with_all_its_parts():
    found = parse_nras(answer(devices={"SWITCH-0": token(), "GPU-17": token(b"{}", b'{"alg":"none"}', b"")}))
    assert list(found.devices) == ["SWITCH-0", "GPU-17"]
    assert list(found.tokens) == ["overall", "SWITCH-0", "GPU-17"]
    assert (found.overall.algorithm, found.overall.kid, found.overall.signature) == ("ES384", "k", b"s" * 96)
    assert found.overall.signed == token().rpartition(".")[0].encode()
    unsigned = found.devices["GPU-17"]
    assert (unsigned.algorithm, unsigned.kid, unsigned.signature, unsigned.claims) == ("none", "", b"", {})


WRONG_NAMES = ("", "GPU", "GPU-", "GPU-00", "GPU-0\n", "gpu-0", "overall", "GPU-1000")


def test_the_most_that_is_read_is_read():
    full = answer(devices={f"GPU-{n}": token() for n in range(MAX_DEVICES)})
    assert len(parse_nras(full).devices) == MAX_DEVICES
    claims = {"least": -(1 << 63), "most": (1 << 63) - 1, "nothing": None, "truth": [True, False]}
    assert parse_nras(answer(token(json.dumps(claims).encode()))).overall.claims == claims
    refused_token(token(json.dumps({"less": -(1 << 63) - 1}).encode()))


@pytest.mark.parametrize(
    "value",
    [
        None,
        {},
        [],
        token(),
        [["JWT", token()]],
        [["JWT", token()], {}],
        [["JWT", token()], {"GPU-0": token()}, 1],
        [["JWS", token()], {"GPU-0": token()}],
        [["JWT"], {"GPU-0": token()}],
        [["JWT", token(), 1], {"GPU-0": token()}],
        ["JWT", {"GPU-0": token()}],
        [["JWT", token()], [token()]],
        [["JWT", 1], {"GPU-0": token()}],
        [["JWT", token()], {"GPU-0": None}],
        [["JWT", token()], {f"GPU-{n}": token() for n in range(MAX_DEVICES + 1)}],
        *(
            [["JWT", token()], {name: token()}]
            for name in ("", "GPU", "GPU-", "GPU-00", "gpu-0", "overall", "GPU-1000")
        ),
    ],
)
def test_another_form_of_answer_is_refused(value):
    refused(json.dumps(value).encode())


def test_a_device_twice_is_refused():
    refused(b'[["JWT","%s"],{"GPU-0":"%s","GPU-0":"%s"}]' % ((token().encode(),) * 3), "twice")


@pytest.mark.parametrize("data", [b"", b"nothing", b"\xff", b"[" * 4000, answer() + b"x", b" " * MAX_ANSWER + answer()])
def test_what_is_no_json_of_a_usual_size_is_refused(data):
    refused(data)


@pytest.mark.parametrize(
    "compact",
    ["", "..", "a.b", f"{token()}.x", f"{token()}.", token().replace(".", ",", 1), "é.é.é", "a" * (MAX_TOKEN + 1)],
)
def test_what_is_no_compact_jws_is_refused(compact):
    refused_token(compact)


@pytest.mark.parametrize("part", range(3))
@pytest.mark.parametrize("change", [lambda p: p + "=", lambda p: p + "+", lambda p: p + "\n", lambda p: p + " ", "odd"])
def test_base64_that_is_not_strictly_base64url_is_refused(part, change):
    parts = token(b'{"a":12}', b'{"alg":"ES384","kid":"kk"}', b"s" * 95).split(".")
    if change == "odd":
        # The last character of each has bits that no byte uses.
        last = parts[part][-1]
        others = [c for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_" if c != last]
        size = len(parts[part]) % 4
        if size == 0:
            return
        alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
        keep = 0b111100 if size == 3 else 0b110000
        same = [c for c in others if alphabet.index(c) & keep == alphabet.index(last) & keep]
        parts[part] = parts[part][:-1] + same[0]
    else:
        parts[part] = change(parts[part])
    refused_token(".".join(parts), "base64url")


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"[]",
        b"{}",
        b'{"alg":1}',
        b'{"alg":null,"kid":"k"}',
        b'{"alg":"ES384","kid":5}',
        b'{"alg":"ES384","alg":"none"}',
        b'{"alg":"ES384","crit":["b64"],"b64":false}',
        b'{"alg":"ES384","crit":[]}',
        b'{"alg":"ES384","b64":true}',
        b'{"alg":"' + b"x" * 300 + b'"}',
        b'{"alg":"ES384","kid":"\xff"}',
    ],
)
def test_a_header_of_another_form_is_refused(header):
    refused_token(token(header=header))


@pytest.mark.parametrize(
    "claims",
    [
        b"",
        b"[]",
        b"null",
        b'"text"',
        b'{"a":1,"a":2}',
        b'{"a":{"b":1,"b":1}}',
        b'{"exp":1.0}',
        b'{"exp":1e3}',
        b'{"a":[{"b":0.5}]}',
        b'{"a":1e999}',
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":9223372036854775808}',
        b'{"a":' + b"9" * 5000 + b"}",
        b'{"a":"\\ud800"}',
        b'{"\\ud800":1}',
        b'{"a":' + b"[" * 50 + b"]" * 50 + b"}",
        b'{"a":1}x',
        b'\xef\xbb\xbf{"a":1}',
    ],
)
def test_claims_that_others_may_read_otherwise_are_refused(claims):
    refused_token(token(claims))


@given(st.binary(max_size=200))
def test_any_bytes_are_an_answer_or_malformed(data):
    with contextlib.suppress(MalformedEvidence):
        parse_nras(data)
    with contextlib.suppress(MalformedEvidence):
        parse_nras_keys(data)


@given(st.text(max_size=60))
def test_any_text_is_a_token_or_malformed(text):
    with contextlib.suppress(MalformedEvidence):
        parse_nras(answer(text))


def keys_refused(value, match=None):
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    with pytest.raises(MalformedEvidence, match=match) as caught:
        parse_nras_keys(data)
    assert caught.value.check is Check.NRAS_SIGNER_CHAIN


def test_keys_are_read_by_name_and_those_without_certificates_left_out():
    x = b64(b"x" * 48)
    entries = [{"kid": "a", "x5c": ["MAA="]}, {"kid": "b", "x5c": [], "x": x, "y": x}, {"kid": "c", "kty": "RSA"}]
    found = parse_nras_keys(json.dumps({"keys": entries}).encode())
    assert list(found) == ["a", "b"]
    assert (found["a"].x5c, found["a"].point) == ((b"0\0",), None)
    assert (found["b"].x5c, found["b"].point) == ((), b"x" * 96)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        [],
        {},
        {"keys": {}},
        {"keys": [1]},
        {"keys": [{"x5c": []}]},
        {"keys": [{"kid": 1, "x5c": []}]},
        {"keys": [{"kid": "k", "x5c": "MAA="}]},
        {"keys": [{"kid": "k", "x5c": [1]}]},
        {"keys": [{"kid": "k", "x5c": [""]}]},
        {"keys": [{"kid": "k", "x5c": ["M"]}]},
        {"keys": [{"kid": "k", "x5c": ["MAA=\n"]}]},
        {"keys": [{"kid": "k", "x5c": ["é"]}]},
        {"keys": [{"kid": "k", "x5c": ["A" * 20_000]}]},
        {"keys": [{"kid": "k", "x5c": ["MAA="] * 5}]},
        {"keys": [{"kid": "k", "x5c": [], "x": b64(b"x" * 48)}]},
        {"keys": [{"kid": "k", "x5c": [], "x": b64(b"x" * 32), "y": b64(b"x" * 32)}]},
        {"keys": [{"kid": "k", "x5c": []}] * 2},
        {"keys": [{"kid": str(n), "x5c": []} for n in range(MAX_KEYS + 1)]},
    ],
)
def test_another_form_of_key_set_is_refused(value):
    keys_refused(value)
