"""Any bytes are a report of a GPU or a switch, or one of our errors; what is a report is made of its fields again."""

from __future__ import annotations

import contextlib
import struct

from dokimos.errors import MalformedEvidence
from dokimos.evidence.gpu_arch import Kind
from dokimos.evidence.gpu_report import GpuReport, parse_gpu_report, serialize_gpu_report


def _report(blocks: int, entries: list[tuple[int, bytes]], tail: bytes = b"") -> bytes:
    record = b"".join(struct.pack("<BBHBH", n, 1, 51, 1, 48) + bytes([n]) * 48 for n in range(1, blocks + 1))
    opaque = b"".join(struct.pack("<HH", number, len(data)) + data for number, data in entries)
    head = bytes.fromhex("11e001ff") + bytes(range(32)) + b"\0" + bytes.fromhex("11600000")
    length = len(record).to_bytes(3, "little")
    return b"".join(
        (head, bytes([blocks]), length, record, bytes(32), struct.pack("<H", len(opaque)), opaque, b"S" * 96, tail)
    )


SEEDS: list[bytes] = [
    _report(
        4,
        [
            (6, bytes.fromhex("009f009601000000")),
            (15, b"882\0\0\0\0\0\0"),
            (17, b"1010\0"),
            (18, b"0200\0"),
            (3, b"550.90.07\0"),
            (11, b"\x55"),
            (20, bytes(48)),
            (21, b"\xaa"),
            (22, bytes(range(144))),
            (34, b"\x01\0"),
            (35, b"GB100\0"),
            (36, b"\x02\0"),
            (99, b"new"),
        ],
    ),
    _report(2, [(6, b"96.10.55.00.01"), (22, bytes(8)), (26, bytes(128)), (25, b"\x01\0")]),
    _report(1, [(3, b"1\0")], bytes(20)),
]


def _touch(report: GpuReport) -> None:
    """No property of a report that was read raises anything."""
    for name in (
        "driver_version",
        "vbios_version",
        "chip_info",
        "project",
        "project_sku",
        "chip_sku",
        "fwid",
        "nvdec0",
        "feature_flag",
        "protected_pcie",
        "opaque_version",
        "switch_pdis",
        "device_pdi",
        "gpu_pdis",
        "lock_switch",
        "unknown_types",
    ):
        getattr(report, name)
    for index in (-1, 0, 63, 255):
        report.value(index)


def one_input(data: bytes) -> None:
    """Read, look at everything, and write again."""
    for kind in (None, *Kind):
        with contextlib.suppress(MalformedEvidence):
            report = parse_gpu_report(data, kind, zero_padding=True)
            if report.raw != data[: len(report.raw)] or any(data[len(report.raw) :]):
                raise AssertionError("the raw bytes are not those received")
            if serialize_gpu_report(report) != report.raw or report.signed + report.signature != report.raw:
                raise AssertionError("the fields do not make up the report")
            _touch(report)
