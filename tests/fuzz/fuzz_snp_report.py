"""Any bytes are a report, or one of our errors; what is a report has every derived value."""

from __future__ import annotations

import contextlib

from dokimos.errors import Error
from dokimos.evidence.snp import REPORT_SIZE, Product, Tcb, parse_report, product_of


def _seed(version: int, fms: bytes) -> bytes:
    report = bytearray(REPORT_SIZE)
    report[0x000] = version
    report[0x008:0x00B] = b"\x00\x00\x03"  # policy with bits 16 and 17
    report[0x034] = 1
    report[0x188:0x18B] = fms
    report[0x2A0:0x2D0] = bytes(range(1, 49))
    report[0x2E8:0x318] = bytes(range(49, 97))
    return bytes(report)


SEEDS: list[bytes] = [
    _seed(2, b"\0\0\0"),
    _seed(3, b"\x19\x01\x01"),
    _seed(4, b"\x19\x11\x01"),
    _seed(5, b"\x1a\x02\x01"),
]


def one_input(data: bytes) -> None:
    """Parse; then touch what is computed from the parsed fields."""
    with contextlib.suppress(Error):
        report = parse_report(data)
        if report.raw != data:
            raise AssertionError("the raw bytes are not those received")
        for value in (report.policy, report.platform_info):
            for name in dir(type(value)):
                if not name.startswith("_") and isinstance(getattr(type(value), name), property):
                    getattr(value, name)
        for product in Product:
            tcb = Tcb.from_bytes(report.reported_tcb, product)
            if tcb.to_bytes() != report.reported_tcb:
                raise AssertionError("a TCB changed on its way")
        if report.fms is not None:
            product_of(report.fms)
