"""Binary HTTP: the figures of RFC 9292, round trips, limits, and what makes a message invalid."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dokimos.errors import MalformedEvidence, UsageError
from dokimos.ohttp import bhttp
from dokimos.ohttp.bhttp import (
    Request,
    Response,
    decode_request,
    decode_response,
    encode_request,
    encode_response,
    padded_size,
)

# RFC 9292, section 5.
FIGURE_8 = bytes.fromhex(
    "00034745540568747470 73000a2f68656c6c6f2e747874 406c0a757365722d6167656e74346375726c2f372e31362e33206c6962"
    "6375726c2f372e31362e33204f70656e53534c2f302e392e376c207a6c69622f312e322e3304686f73740f7777772e6578616d706c65"
    "2e636f6d0f6163636570742d6c616e677561676506656e2c206d690000"
)
FIGURE_9 = bytes.fromhex(
    "02034745540568747470 73000a2f68656c6c6f2e747874 0a757365722d6167656e74346375726c2f372e31362e33206c6962"
    "6375726c2f372e31362e33204f70656e53534c2f302e392e376c207a6c69622f312e322e3304686f73740f7777772e6578616d706c65"
    "2e636f6d0f6163636570742d6c616e677561676506656e2c206d69 00000000000000000000000000"
)
FIGURE_11 = bytes.fromhex(
    "034066 0772756e6e696e670a22736c6565702031352200 4067 046c696e6b233c2f7374796c652e6373733e3b2072656c3d7072656c"
    "6f61643b2061733d7374796c65 046c696e6b243c2f7363726970742e6a733e3b2072656c3d7072656c6f61643b2061733d7363726970"
    "7400 40c8 04646174651d4d6f6e2c203237204a756c20323030392031323a32383a353320474d54 06736572766572064170616368 65"
    "0d6c6173742d6d6f6469666965641d5765642c203232204a756c20323030392031393a31353a353620474d54 0465746167142233346161"
    "3338372d642d313536386562303022 0d6163636570742d72616e676573056279746573 0e636f6e74656e742d6c656e677468023531"
    "04766172790f4163636570742d456e636f64696e67 0c636f6e74656e742d747970650a746578742f706c61696e00"
    "3348656c6c6f20576f726c6421204d7920636f6e74656e7420696e636c75646573206120747261696c696e672043524c462e0d0a0000"
)
FIGURE_13 = bytes.fromhex(
    "0140c8001d5468697320636f6e74656e7420636f6e7461696e732043524c462e0d0a0d07747261696c65720474657874"
)
RFC_REQUEST = Request(
    method="GET",
    authority="",
    path="/hello.txt",
    headers=(
        ("user-agent", "curl/7.16.3 libcurl/7.16.3 OpenSSL/0.9.7l zlib/1.2.3"),
        ("host", "www.example.com"),
        ("accept-language", "en, mi"),
    ),
)
RFC_RESPONSE = Response(
    status=200,
    headers=(
        ("date", "Mon, 27 Jul 2009 12:28:53 GMT"),
        ("server", "Apache"),
        ("last-modified", "Wed, 22 Jul 2009 19:15:56 GMT"),
        ("etag", '"34aa387-d-1568eb00"'),
        ("accept-ranges", "bytes"),
        ("content-length", "51"),
        ("vary", "Accept-Encoding"),
        ("content-type", "text/plain"),
    ),
    content=b"Hello World! My content includes a trailing CRLF.\r\n",
    informational=(
        (102, (("running", '"sleep 15"'),)),
        (103, (("link", "</style.css>; rel=preload; as=style"), ("link", "</script.js>; rel=preload; as=script"))),
    ),
)

NAMES = st.text("abcdefghijklmnopqrstuvwxyz0123456789-_!~", min_size=1, max_size=12).filter(
    lambda name: name not in bhttp.FORBIDDEN_FIELDS
)
VALUES = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=90).map(
    lambda value: "".join(c for c in value if not "\x80" <= c <= "\x9f").strip(" ")
)
FIELDS = st.lists(st.tuples(NAMES, VALUES), max_size=5).map(tuple)
CONTENT = st.binary(max_size=200)
REQUESTS = st.builds(
    Request,
    method=st.sampled_from(["GET", "POST", "M-SEARCH"]),
    scheme=st.sampled_from(["https", "http", "a+b-c.1"]),
    authority=st.sampled_from(["", "example.com", "[::1]:8080"]),
    path=st.sampled_from(["/", "/v1/chat/completions?a=b&c=%20"]),
    headers=FIELDS,
    content=CONTENT,
    trailers=FIELDS,
)
RESPONSES = st.builds(
    Response,
    status=st.integers(200, 599),
    headers=FIELDS,
    content=CONTENT,
    trailers=FIELDS,
    informational=st.lists(st.tuples(st.integers(100, 199), FIELDS), max_size=3).map(tuple),
)


def varint(value: int, size: int) -> bytes:
    return (value | {1: 0, 2: 1, 4: 2, 8: 3}[size] << (8 * size - 2)).to_bytes(size)


def text(value: str) -> bytes:
    return varint(len(value), 2) + value.encode("latin-1")


def control(method: str = "GET", scheme: str = "https", authority: str = "a.example", path: str = "/") -> bytes:
    return text(method) + text(scheme) + text(authority) + text(path)


def known(line: bytes, before: bytes = b"\x00" + control()) -> bytes:
    return before + varint(len(line), 4) + line


def test_figure_8_known_length_request() -> None:
    assert len(FIGURE_8) == 135
    assert decode_request(FIGURE_8) == RFC_REQUEST
    assert encode_request(RFC_REQUEST, pad=False) == FIGURE_8
    for cut in (1, 2):
        assert decode_request(FIGURE_8[:-cut]) == RFC_REQUEST


def test_figure_9_indeterminate_length_request_with_padding() -> None:
    assert len(FIGURE_9) == 144
    for cut in range(13):
        assert decode_request(FIGURE_9[: len(FIGURE_9) - cut]) == RFC_REQUEST
    with pytest.raises(MalformedEvidence):
        decode_request(FIGURE_9[:-13])


def test_figure_11_indeterminate_length_response_with_informational_ones() -> None:
    assert len(FIGURE_11) == 368
    assert decode_response(FIGURE_11) == decode_response(FIGURE_11[:-1]) == RFC_RESPONSE
    assert decode_response(encode_response(RFC_RESPONSE)) == RFC_RESPONSE


def test_figure_13_known_length_response_with_trailer() -> None:
    response = Response(status=200, content=b"This content contains CRLF.\r\n", trailers=(("trailer", "text"),))
    assert len(FIGURE_13) == 48
    assert decode_response(FIGURE_13) == response
    assert encode_response(response, pad=False) == FIGURE_13


def test_trailing_empty_sections_may_be_missing_from_the_headers_on() -> None:
    bare = bytes.fromhex("00034745540568747470730b6578616d706c652e636f6d012f")
    wanted = Request(method="GET", authority="example.com", path="/")
    for end in (b"", b"\0", b"\0\0", b"\0\0\0", bytes(1000)):
        assert decode_request(bare + end) == wanted
        assert decode_request(b"\x02" + bare[1:] + end) == wanted
        assert decode_response(b"\x01\x40\xc8" + end) == decode_response(b"\x03\x40\xc8" + end) == Response(status=200)


@settings(max_examples=150, deadline=None)
@given(REQUESTS, st.booleans())
def test_every_request_comes_back_as_written(request: Request, pad: bool) -> None:
    data = encode_request(request, pad=pad)
    assert decode_request(data) == request
    if pad:
        assert len(data) == padded_size(len(encode_request(request, pad=False)))


@settings(max_examples=150, deadline=None)
@given(RESPONSES, st.booleans())
def test_every_response_comes_back_as_written(response: Response, pad: bool) -> None:
    assert decode_response(encode_response(response, pad=pad)) == response


@settings(max_examples=100, deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=50), max_size=5), FIELDS, FIELDS, st.sampled_from([2, 4, 8]))
def test_indeterminate_content_is_the_sum_of_its_chunks(
    chunks: list[bytes], headers: bhttp.Fields, trailers: bhttp.Fields, size: int
) -> None:
    def section(fields: bhttp.Fields) -> bytes:
        return b"".join(text(name) + text(value) for name, value in fields) + varint(0, size)

    content = b"".join(varint(len(chunk), size) + chunk for chunk in chunks) + varint(0, size)
    data = varint(3, size) + varint(204, size) + section(headers) + content + section(trailers) + bytes(9)
    assert decode_response(data) == Response(status=204, headers=headers, content=b"".join(chunks), trailers=trailers)


@pytest.mark.parametrize(
    ("data", "decode"),
    [
        (FIGURE_8, decode_request),
        (FIGURE_9, decode_request),
        (FIGURE_11, decode_response),
        (FIGURE_13, decode_response),
    ],
)
def test_truncation_within_a_part_is_refused_at_each_length(data: bytes, decode: object) -> None:
    whole = decode(data)
    for size in range(len(data)):
        try:
            part = decode(data[:size])
        except MalformedEvidence:
            continue
        # What remains valid ended between two parts: nothing of a part that began may be lost silently.
        assert part == whole or (part.trailers == () and (part.content in (b"", whole.content)))
        assert part.headers in ((), whole.headers)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 3), st.binary(max_size=120), st.booleans())
def test_any_bytes_are_a_message_or_malformed(framing: int, rest: bytes, as_request: bool) -> None:
    data = bytes([framing]) + (control() if as_request else b"\x40\xc8") + rest
    for decode, encode in ((decode_request, encode_request), (decode_response, encode_response)):
        try:
            message = decode(data)
        except MalformedEvidence:
            continue
        assert decode(encode(message)) == message


def test_one_flipped_bit_anywhere_gives_another_message_or_none() -> None:
    same = []
    for bit in range(len(FIGURE_11) * 8):
        data = bytearray(FIGURE_11)
        data[bit // 8] ^= 1 << bit % 8
        try:
            if decode_response(bytes(data)) == RFC_RESPONSE:
                same.append(bit)
        except MalformedEvidence:
            continue
    # The end of the content becomes a zero of two bytes, the trailers are cut: RFC 9292 does not demand short forms.
    assert same == [(len(FIGURE_11) - 2) * 8 + 6]


@pytest.mark.parametrize("framing", [0, 1, 2, 3, 4, 63])
def test_a_message_of_the_other_kind_is_refused(framing: int) -> None:
    if framing not in (0, 2):
        with pytest.raises(MalformedEvidence):
            decode_request(bytes([framing]) + control())
    if framing not in (1, 3):
        with pytest.raises(MalformedEvidence):
            decode_response(bytes([framing]) + b"\x40\xc8")


def test_padding_that_is_not_zero_is_refused() -> None:
    for data in (FIGURE_8, FIGURE_9):
        for where in (0, 5, 999):
            padding = bytearray(1000)
            padding[where] = 1
            with pytest.raises(MalformedEvidence, match="padding"):
                decode_request(data + bytes(padding))
    with pytest.raises(MalformedEvidence, match="padding"):
        decode_response(FIGURE_13 + b"\x01")


@pytest.mark.parametrize("name", sorted(bhttp.FORBIDDEN_FIELDS))
def test_fields_that_act_on_a_connection_are_neither_read_nor_written(name: str) -> None:
    line = text(name) + text("x")
    for data in (known(line), b"\x02" + control() + line + b"\0", known(line, b"\x00" + control() + b"\0\0")):
        with pytest.raises(MalformedEvidence):
            decode_request(data)
    for fields in ({"headers": ((name, "x"),)}, {"trailers": ((name, "x"),)}):
        with pytest.raises(UsageError):
            encode_request(Request(method="GET", authority="", path="/", **fields))
        with pytest.raises(UsageError):
            encode_response(Response(status=200, **fields))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("", "x"),
        ("Upper", "x"),
        (":method", "GET"),
        (":protocol", "x"),
        ("a b", "x"),
        ("a:", "x"),
        ("\xe4", "x"),
        ("a\0", "x"),
        ("a", "x\r\nb: c"),
        ("a", "x\ny"),
        ("a", "x\0"),
        ("a", "\x7f"),
        ("a", " x"),
        ("a", "x "),
        ("a", "\tx"),
        ("a", "x\t"),
    ],
)
def test_a_bad_field_line_is_neither_read_nor_written(name: str, value: str) -> None:
    line = text(name) + text(value)
    with pytest.raises(MalformedEvidence):
        decode_request(known(line))
    with pytest.raises(MalformedEvidence):
        decode_response(known(line, b"\x01\x40\xc8"))
    with pytest.raises(UsageError):
        encode_response(Response(status=200, headers=((name, value),)))


def test_field_values_are_bytes_one_for_one() -> None:
    value = "a\tb \xe4\xff\x80z"
    assert decode_response(known(text("a") + text(value), b"\x01\x40\xc8")).headers == (("a", value),)
    with pytest.raises(UsageError):
        encode_response(Response(status=200, headers=(("a", "\u20ac"),)))


@pytest.mark.parametrize(
    "change",
    [
        {"method": ""},
        {"method": "GE T"},
        {"method": "CONNECT"},
        {"method": "G\xe4T"},
        {"scheme": ""},
        {"scheme": "HTTPS"},
        {"scheme": "1a"},
        {"authority": "user@host"},
        {"authority": "host/x"},
        {"authority": "a b"},
        {"authority": "\xe4"},
        {"path": ""},
        {"path": "*"},
        {"path": "x"},
        {"path": "/#f"},
        {"path": "/ "},
        {"path": "/\r\nx"},
        {"path": "/\xe4"},
        {"path": "/" + "x" * bhttp.MAX_CONTROL},
    ],
)
def test_bad_control_data_is_neither_read_nor_written(change: dict[str, str]) -> None:
    good = {"method": "GET", "scheme": "https", "authority": "a.example", "path": "/"}
    assert decode_request(b"\x00" + control(**good))
    with pytest.raises(MalformedEvidence):
        decode_request(b"\x00" + control(**good | change))
    with pytest.raises(UsageError):
        encode_request(Request(**good | change))


def test_options_may_ask_for_the_server_as_a_whole() -> None:
    request = Request(method="OPTIONS", authority="a.example", path="*")
    assert decode_request(encode_request(request)) == request


@pytest.mark.parametrize("status", [0, 99, 600, 65535])
def test_a_status_out_of_range_is_neither_read_nor_written(status: int) -> None:
    with pytest.raises(MalformedEvidence):
        decode_response(b"\x01" + varint(status, 4))
    with pytest.raises(UsageError):
        encode_response(Response(status=status))
    with pytest.raises(UsageError):
        encode_response(Response(status=200, informational=((status, ()),)))


def test_informational_responses_alone_are_no_response() -> None:
    for data in (b"\x01\x40\x64", b"\x01\x40\x64\x00", b"\x03\x40\x64\x00", b"\x01\x40\x64\x40\xc8"):
        with pytest.raises(MalformedEvidence):
            decode_response(data)
    with pytest.raises(UsageError):
        encode_response(Response(status=150))


@pytest.mark.parametrize("size", [1 << 20, (1 << 30) - 1, (1 << 62) - 1])
def test_a_length_bomb_is_refused_before_anything_is_allocated(size: int) -> None:
    bomb = varint(size, 8)
    head, answer = control(), b"\x40\xc8"
    for data in (
        b"\x00" + bomb,
        b"\x00" + head + bomb,
        b"\x00" + head + b"\0" + bomb,
        b"\x00" + head + b"\0\0" + bomb,
        b"\x02" + head + bomb,
        b"\x02" + head + text("a") + bomb,
        b"\x02" + head + b"\0" + bomb,
    ):
        with pytest.raises(MalformedEvidence):
            decode_request(data + bytes(64), max_content=1000)
    with pytest.raises(MalformedEvidence):
        decode_response(b"\x01" + answer + bomb)


def test_the_limits_hold_for_both_framings() -> None:
    line = text("a") + text("b")
    many = line * bhttp.MAX_LINES
    long = text("a") + text("b" * 16000)
    for ok, bad in ((many, many + line), (long * 4, long * 5)):
        assert decode_request(known(ok)).headers == decode_request(b"\x02" + control() + ok + b"\0").headers
        for data in (known(bad), b"\x02" + control() + bad + b"\0"):
            with pytest.raises(MalformedEvidence):
                decode_request(data)
    content = varint(10, 1) + bytes(10)
    assert decode_request(b"\x00" + control() + b"\0" + content, max_content=10).content == bytes(10)
    assert decode_request(b"\x02" + control() + b"\0" + content + b"\0", max_content=10).content == bytes(10)
    for data in (b"\x00" + control() + b"\0" + content, b"\x02" + control() + b"\0" + content + b"\0"):
        with pytest.raises(MalformedEvidence):
            decode_request(data, max_content=9)
    chunks = b"\x02" + control() + b"\0" + (varint(1, 1) + b"x") * 11 + b"\0"
    with pytest.raises(MalformedEvidence):
        decode_request(chunks, max_content=10)
    interim = (b"\x40\x64\x00") * bhttp.MAX_INFORMATIONAL
    assert len(decode_response(b"\x01" + interim + b"\x40\xc8").informational) == bhttp.MAX_INFORMATIONAL
    with pytest.raises(MalformedEvidence):
        decode_response(b"\x01" + interim + b"\x40\x64\x00\x40\xc8")


def test_what_our_reader_would_refuse_for_its_size_is_not_written() -> None:
    many = (("a", "b"),) * (bhttp.MAX_LINES + 1)
    for fields in (many, (("a", "b" * 40000),) * 2):
        with pytest.raises(UsageError):
            encode_response(Response(status=200, headers=fields))
    with pytest.raises(UsageError):
        encode_response(Response(status=200, informational=((100, ()),) * (bhttp.MAX_INFORMATIONAL + 1)))


def test_a_field_line_must_end_with_its_section() -> None:
    line = text("a") + text("bcd")
    for size in range(1, len(line)):
        with pytest.raises(MalformedEvidence):
            decode_request(b"\x00" + control() + varint(size, 1) + line + bytes(20))


def test_padding_hides_all_but_a_few_lengths() -> None:
    assert {padded_size(size) for size in range(1025)} == {1024}
    sizes = {padded_size(size) for size in range(1 << 16)}
    assert len(sizes) < 180
    for size in [*range(1024, 5000), 1 << 20, (1 << 20) + 1, 123456789]:
        assert size <= padded_size(size) <= size * 1.12
        assert padded_size(padded_size(size)) == padded_size(size)
