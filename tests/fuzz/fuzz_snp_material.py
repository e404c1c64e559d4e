"""Any bytes are what stands around a report (certificate table, HCL report, vTPM quote, ID block), or our error."""

from __future__ import annotations

import contextlib
import struct
from uuid import UUID

from dokimos.errors import Error
from dokimos.evidence.azure_hcl import parse_hcl_report
from dokimos.evidence.cert_table import encode_cert_table, parse_cert_table
from dokimos.evidence.id_block import encode_key, parse_auth_info, parse_id_block, parse_key, parse_signature
from dokimos.evidence.tpm_quote import parse_tpm_quote

_KEY = encode_key(1, 2)
_SIGNATURE = bytes(range(48)).ljust(72, b"\0") * 2 + bytes(368)
_HCL = b"HCLA" + struct.pack("<III16s", 2, 1184, 2, b"") + bytes(1184) + struct.pack("<IIIII", 22, 1, 2, 1, 2) + b"{}"

_TPM = struct.pack(">IHHH8xI5xQIHB3sH", 0xFF544347, 0x8018, 0, 0, 1, 1, 1, 11, 3, b"\xff\xff\xff", 32) + bytes(32)

SEEDS: list[bytes] = [
    _TPM,
    encode_cert_table({UUID(int=1): b"one", UUID(int=2): b"two"}),
    _HCL,
    bytes(80) + struct.pack("<IIQ", 1, 0, 0x30000),
    _KEY,
    _SIGNATURE,
    struct.pack("<II56x", 1, 1) + _SIGNATURE + _KEY + bytes(60) + _SIGNATURE + _KEY + bytes(892),
]


def one_input(data: bytes) -> None:
    """Every format gets the same bytes; what is read as a table is written and read again."""
    with contextlib.suppress(Error):
        table = parse_cert_table(data)
        if parse_cert_table(encode_cert_table(table)) != table:
            raise AssertionError("a table changed on its way")
    with contextlib.suppress(Error):
        parse_hcl_report(data).expected_report_data()
    for parse in (parse_id_block, parse_key, parse_auth_info, parse_signature, parse_tpm_quote):
        with contextlib.suppress(Error):
            parse(data)
