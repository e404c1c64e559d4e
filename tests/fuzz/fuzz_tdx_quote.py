"""Any bytes are a quote or a TD report, or one of our errors; what is a quote has parts that make it up again."""

from __future__ import annotations

import contextlib
import struct

from dokimos.errors import Error
from dokimos.evidence.tdx import BodyType, TdReport, parse_quote, parse_td_body

_TD10 = bytes(n % 251 for n in range(584))
_TD15 = bytes(n % 251 for n in range(648))


def _header(version: int) -> bytes:
    return struct.pack("<HHIHH16s20s", version, 2, 0x81, 0, 0, b"vendor", b"user data")


def _signature(auth_data: bytes, inner: int, chain: bytes) -> bytes:
    certified = bytes(384 + 64) + struct.pack("<H", len(auth_data)) + auth_data
    certified += struct.pack("<HI", inner, len(chain)) + chain
    data = bytes(128) + struct.pack("<HI", 6, len(certified)) + certified
    return struct.pack("<I", len(data)) + data


SEEDS: list[bytes] = [
    _header(4) + _TD10 + _signature(bytes(32), 5, b"-----BEGIN CERTIFICATE-----\0") + bytes(39),
    _header(5) + struct.pack("<HI", 2, 584) + _TD10 + _signature(b"", 4, b"PCK"),
    _header(5) + struct.pack("<HI", 3, 648) + _TD15 + _signature(b"auth", 3, bytes(404)),
    _TD10,
    _TD15,
]


def _touch(body: TdReport) -> None:
    for bits in (body.td_attributes, body.xfam):
        if sum(1 << bits.names()[name] for name in bits.set_names) | bits.unknown != bits:
            raise AssertionError("a bit is lost")


def one_input(data: bytes) -> None:
    """Parse, and put the parts together again."""
    for body_type in BodyType:
        with contextlib.suppress(Error):
            _touch(parse_td_body(data, body_type))
    with contextlib.suppress(Error):
        quote = parse_quote(data)
        if quote.raw != data[: len(data) - quote.trailing] or not quote.raw.startswith(quote.signed):
            raise AssertionError("the raw bytes are not those received")
        made = quote.signed + quote.raw[len(quote.signed) :][:4] + quote.signature + quote.attestation_key
        made += quote.raw[len(made) :][:6] + quote.qe_report.raw + quote.qe_report_signature
        made += struct.pack("<H", len(quote.qe_auth_data)) + quote.qe_auth_data
        made += struct.pack("<HI", quote.certification.type, len(quote.certification.data)) + quote.certification.data
        if made != quote.raw:
            raise AssertionError("the parts do not make up the quote")
        _touch(quote.body)
