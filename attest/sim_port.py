"""The words between a booted guest and the simulated secure processor: frames over a virtio-serial port.

A request carries 64 bytes of report_data and a VMPL, an answer the report and the host's certificate table.  A TD's
request carries 64 bytes, its answer the quote with collateral and event log.  On a port of their own, simulated GPUs
answer a nonce with their part of the evidence bundle.  All carry a number, so that a late answer to an earlier request
is never taken for this one's.  Our own format, since the hardware has none: there the guest's
memory is the channel.
"""

from __future__ import annotations

import struct
from enum import StrEnum
from typing import Final, NamedTuple

from ..errors import MalformedEvidence
from ..evidence.bundle import MAX_COLLATERAL, MAX_EVENT_LOG, TdxEvidence
from ..evidence.cert_table import MAX_SIZE
from ..evidence.gpu_part import MAX_SIZE as GPU_PART_MAX
from ..evidence.gpu_part import GpuPart, encode_gpu_part
from ..evidence.snp import REPORT_SIZE
from ..evidence.tdx import QUOTE_MAX
from .provider import REPORT_DATA_SIZE, VMPLS, Quote


class Tee(StrEnum):
    """What the simulated secure processor plays."""

    SNP = "snp"
    TDX = "tdx"


GPU_PORT_NAME: Final = "org.dokimos.gpus"
"""Name of the port by which a guest tells that its machine has simulated GPUs."""
PORT_NAMES: Final = {Tee.SNP: "org.dokimos.secure-processor", Tee.TDX: "org.dokimos.secure-processor.tdx"}
"""Names of the virtio-serial port, by which a guest tells what it is."""
MAGIC: Final = b"DKSP"
HEADER: Final = struct.Struct(">4sBB2xQI")
REQUEST: Final = 1
ANSWER: Final = 2
REFUSAL: Final = 3
TD_REQUEST: Final = 4
TD_ANSWER: Final = 5
GPU_REQUEST: Final = 6
GPU_ANSWER: Final = 7
GPU_NONCE_SIZE: Final = 32
_VERSION: Final = 1
_BODY: Final = struct.Struct(f">{REPORT_DATA_SIZE}sI")
_SIZES: Final = struct.Struct(">II")
_MAX_BODY: Final = {
    REQUEST: _BODY.size,
    ANSWER: REPORT_SIZE + MAX_SIZE,
    REFUSAL: 0,
    TD_REQUEST: REPORT_DATA_SIZE,
    TD_ANSWER: _SIZES.size + QUOTE_MAX + MAX_COLLATERAL + MAX_EVENT_LOG,
    GPU_REQUEST: GPU_NONCE_SIZE,
    GPU_ANSWER: GPU_PART_MAX,
}


class Header(NamedTuple):
    """Start of a frame: its kind, its number, and the bytes that follow."""

    kind: int
    number: int
    size: int


class Request(NamedTuple):
    """What a guest asks: 64 bytes of report_data, and a VMPL."""

    report_data: bytes
    vmpl: int


def parse_header(data: bytes) -> Header:
    """Read the start of a frame.

    Raises:
        MalformedEvidence: not a frame, or one that would be longer than its kind may be.
    """
    if len(data) != HEADER.size:
        raise MalformedEvidence(f"simulated port: a header has {HEADER.size} bytes")
    magic, version, kind, number, size = HEADER.unpack(data)
    if (magic, version) != (MAGIC, _VERSION) or size > _MAX_BODY.get(kind, -1):
        raise MalformedEvidence("simulated port: not a frame of this version")
    return Header(kind, number, size)


def parse_request(data: bytes) -> Request:
    """Read the body of a request.

    Raises:
        MalformedEvidence: another length, or a VMPL that is none.
    """
    if len(data) != _BODY.size:
        raise MalformedEvidence(f"simulated port: a request has {_BODY.size} bytes")
    request = Request(*_BODY.unpack(data))
    if request.vmpl not in VMPLS:
        raise MalformedEvidence("simulated port: a VMPL is 0 to 3")
    return request


def parse_answer(data: bytes) -> Quote:
    """Read the body of an answer.

    Raises:
        MalformedEvidence: shorter than a report.
    """
    if not REPORT_SIZE <= len(data) <= _MAX_BODY[ANSWER]:
        raise MalformedEvidence("simulated port: an answer holds a report and a certificate table")
    return Quote(data[:REPORT_SIZE], data[REPORT_SIZE:] or None)


def encode_request(number: int, report_data: bytes, vmpl: int) -> bytes:
    """A request's frame; the caller has checked both values."""
    return HEADER.pack(MAGIC, _VERSION, REQUEST, number, _BODY.size) + _BODY.pack(report_data, vmpl)


def encode_answer(number: int, quote: Quote | None) -> bytes:
    """An answer's frame, or a refusal's without a quote."""
    body = quote.report + (quote.cert_table or b"") if quote else b""
    return HEADER.pack(MAGIC, _VERSION, ANSWER if quote else REFUSAL, number, len(body)) + body


def parse_td_request(data: bytes) -> bytes:
    """Read the body of a TD's request: its report_data.

    Raises:
        MalformedEvidence: another length.
    """
    if len(data) != REPORT_DATA_SIZE:
        raise MalformedEvidence(f"simulated port: a TD's request has {REPORT_DATA_SIZE} bytes")
    return data


def parse_td_answer(data: bytes) -> TdxEvidence:
    """Read the body of an answer to a TD.

    Raises:
        MalformedEvidence: the parts do not fill it, or one of them is empty or larger than a bundle takes.
    """
    if len(data) < _SIZES.size:
        raise MalformedEvidence("simulated port: an answer to a TD is cut off")
    quote, collateral = _SIZES.unpack_from(data)
    parts = _SIZES.size + quote, _SIZES.size + quote + collateral
    log = len(data) - parts[1]
    if not (0 < quote <= QUOTE_MAX and 0 < collateral <= MAX_COLLATERAL and 0 <= log <= MAX_EVENT_LOG):
        raise MalformedEvidence("simulated port: an answer holds a quote, its collateral and its event log")
    return TdxEvidence(
        quote=data[_SIZES.size : parts[0]],
        collateral=data[parts[0] : parts[1]],
        event_log=data[parts[1] :] or None,
    )


def encode_td_request(number: int, report_data: bytes) -> bytes:
    """The frame of a TD's request; the caller has checked the value."""
    return HEADER.pack(MAGIC, _VERSION, TD_REQUEST, number, len(report_data)) + report_data


def encode_td_answer(number: int, evidence: TdxEvidence | None) -> bytes:
    """The frame of an answer to a TD, or a refusal's without evidence."""
    if evidence is None:
        return encode_answer(number, None)
    collateral = evidence.collateral or b""  # the simulated platform always has some
    body = _SIZES.pack(len(evidence.quote), len(collateral))
    body += evidence.quote + collateral + (evidence.event_log or b"")
    return HEADER.pack(MAGIC, _VERSION, TD_ANSWER, number, len(body)) + body


def parse_gpu_request(data: bytes) -> bytes:
    """Read the body of a request to the GPUs: a nonce.

    Raises:
        MalformedEvidence: another length.
    """
    if len(data) != GPU_NONCE_SIZE:
        raise MalformedEvidence(f"simulated port: a request to GPUs has {GPU_NONCE_SIZE} bytes")
    return data


def encode_gpu_request(number: int, nonce: bytes) -> bytes:
    """The frame of a request to the GPUs; the caller has checked the nonce."""
    return HEADER.pack(MAGIC, _VERSION, GPU_REQUEST, number, len(nonce)) + nonce


def encode_gpu_answer(number: int, part: GpuPart | None) -> bytes:
    """The frame of the GPUs' answer, or a refusal's without one."""
    if part is None:
        return encode_answer(number, None)
    body = encode_gpu_part(part)
    return HEADER.pack(MAGIC, _VERSION, GPU_ANSWER, number, len(body)) + body
