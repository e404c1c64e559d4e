"""The attestation report of an NVIDIA GPU or NVSwitch: format only, no verdict.

A report is a GET_MEASUREMENTS request of SPDM 1.1 (DMTF DSP0274, 10.11) with the MEASUREMENTS response behind it, as
bytes; the device signs both together.  Integers are little-endian.  What the device says of itself stands in the
response's opaque data as NVIDIA's own entries of type, size and data.  The raw bytes are kept: the signature is checked
over them, never over a re-serialisation.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from ..errors import Check, MalformedEvidence
from .gpu_arch import Kind

REPORT_MAX = 0x2000
"""Longest report that is looked at, with zeros behind it: the size of the buffer that NVML fills."""
NONCE_SIZE = 32
SIGNATURE_SIZE = 96
"""r and s of ECDSA P-384, big-endian, 48 bytes each."""
DIGEST_SIZE = 48
"""Size of every measurement: SHA-384."""
FEATURE_FLAGS = ("SPT", "MPT", "PPCIE")
"""Names of the feature flag's values: a single GPU, several, several behind protected PCIe."""


class Measurement(NamedTuple):
    """One measurement block.

    Attributes:
        index: index of the reference value in a RIM, from 0; the block's own index on the wire is one more.
        spec: measurement specification; 1 (DMTF) always.
        value_type: DMTFSpecMeasurementValueType; below 0x80, so a digest.
        value: the digest, 48 bytes.
    """

    index: int  # type: ignore[assignment] # hides tuple.index; a dataclass is made three times slower, 64 times a report
    spec: int
    value_type: int
    value: bytes


class Opaque(NamedTuple):
    """One entry of the opaque data."""

    type: int
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuReport:
    """A report as received; nothing in it is verified.

    Attributes:
        raw: the report, without what followed it.
        signed: request and response up to the signature: what the device signed.
        signature: r || s, big-endian, 48 bytes each.
        nonce: the verifier's, from the request.
        responder_nonce: the device's own.
        slot: slot of the certificate chain that was asked for.
        kind: GPU or switch.
        measurements: the blocks in the order of the report.
        opaque: the entries of the opaque data in the order of the report.
    """

    raw: bytes
    signed: bytes
    signature: bytes
    nonce: bytes
    responder_nonce: bytes
    slot: int
    kind: Kind
    measurements: tuple[Measurement, ...]
    opaque: tuple[Opaque, ...]

    def value(self, index: int) -> bytes | None:
        """The measurement at this index of RIMs (from 0), or None if the report has none there."""
        # The blocks nearly always stand in order and without a gap.
        if 0 <= index < len(self.measurements) and self.measurements[index].index == index:
            return self.measurements[index].value
        return next((block.value for block in self.measurements if block.index == index), None)

    def entry(self, number: int) -> bytes | None:
        """Data of the opaque entry of this type, or None if there is none."""
        return next((entry.data for entry in self.opaque if entry.type == number), None)

    def _text(self, number: int) -> str | None:
        data = self.entry(number)
        return None if data is None else data.rstrip(b"\0").decode("ascii")

    def _number(self, number: int) -> int | None:
        data = self.entry(number)
        return None if data is None else int.from_bytes(data, "little")

    @property
    def driver_version(self) -> str | None:
        """Version of the driver, such as "550.90.07"; GPUs only."""
        return self._text(DRIVER_VERSION)

    @property
    def vbios_version(self) -> str | None:
        """Version of the VBIOS or of the switch's BIOS, such as "96.00.9F.00.01"."""
        data = self.entry(VBIOS_VERSION)
        if data is None or self.kind is Kind.SWITCH:
            return None if data is None else data.rstrip(b"\0").decode("ascii")
        return ".".join(f"{byte:02X}" for byte in (*data[3::-1], data[4]))

    @property
    def chip_info(self) -> str | None:
        """Name of the chip, such as "GB100"; on Blackwell with newer firmware."""
        return self._text(CHIP_INFO)

    @property
    def project(self) -> str | None:
        """Project of the board, such as "G520"; part of the VBIOS RIM's id."""
        return self._text(PROJECT)

    @property
    def project_sku(self) -> str | None:
        """SKU of the project, such as "0200"; part of the VBIOS RIM's id."""
        return self._text(PROJECT_SKU)

    @property
    def chip_sku(self) -> str | None:
        """SKU of the chip, such as "885"; part of the VBIOS RIM's id."""
        return self._text(CHIP_SKU)

    @property
    def fwid(self) -> bytes | None:
        """Firmware identifier, 48 bytes; switches and old firmware have none."""
        return self.entry(FWID)

    @property
    def nvdec0(self) -> int | None:
        """State of the video decoder 0: 0xAA enabled, 0x55 disabled."""
        return self._number(NVDEC0_STATUS)

    @property
    def feature_flag(self) -> int | None:
        """0 single GPU (SPT), 1 several (MPT), 2 protected PCIe (PPCIE)."""
        return self._number(FEATURE_FLAG)

    @property
    def protected_pcie(self) -> int | None:
        """State of protected PCIe: 0xAA enabled, 0x55 disabled."""
        return self._number(PROTECTED_PCIE_STATUS)

    @property
    def opaque_version(self) -> int | None:
        """Version of the opaque data: 0 or 1 in all that is known."""
        return self._number(OPAQUE_DATA_VERSION)

    @property
    def switch_pdis(self) -> tuple[bytes, ...] | None:
        """The switch at each NVLink of a GPU, as stored: byte-reversed, and zero where the link is disabled."""
        data = self.entry(PDI) if self.kind is Kind.GPU else None
        return None if data is None else _eights(data)

    @property
    def device_pdi(self) -> bytes | None:
        """A switch's own PDI, 8 bytes."""
        return self.entry(PDI) if self.kind is Kind.SWITCH else None

    @property
    def gpu_pdis(self) -> tuple[bytes, ...] | None:
        """The GPUs that a switch is connected to, by PDI in slot order."""
        data = self.entry(SWITCH_GPU_PDIS) if self.kind is Kind.SWITCH else None
        return None if data is None else _eights(data[:64])

    @property
    def lock_switch(self) -> int | None:
        """1 if a switch is locked; switches only."""
        return self._number(LOCK_SWITCH_STATUS) if self.kind is Kind.SWITCH else None

    @property
    def unknown_types(self) -> tuple[int, ...]:
        """Types of the opaque entries that have no name here."""
        return tuple(entry.type for entry in self.opaque if entry.type not in NAMES[self.kind])


def _eights(data: bytes) -> tuple[bytes, ...]:
    return tuple(data[i : i + 8] for i in range(0, len(data), 8))


DRIVER_VERSION = 3
VBIOS_VERSION = 6
NVDEC0_STATUS = 11
CHIP_SKU = 15
PROJECT = 17
PROJECT_SKU = 18
FWID = 20
PROTECTED_PCIE_STATUS = 21
PDI = 22
LOCK_SWITCH_STATUS = 25
SWITCH_GPU_PDIS = 26
OPAQUE_DATA_VERSION = 34
CHIP_INFO = 35
FEATURE_FLAG = 36

_COMMON = {
    1: "CERT_ISSUER_NAME",
    2: "CERT_AUTHORITY_KEY_IDENTIFIER",
    3: "DRIVER_VERSION",
    4: "GPU_INFO",
    5: "SKU",
    6: "VBIOS_VERSION",
    7: "MANUFACTURER_ID",
    8: "TAMPER_DETECTION",
    9: "SMC",
    10: "VPR",
    11: "NVDEC0_STATUS",
    12: "MSRSCNT",
    13: "CPRINFO",
    14: "BOARD_ID",
    15: "CHIP_SKU",
    16: "CHIP_SKU_MOD",
    17: "PROJECT",
    18: "PROJECT_SKU",
    19: "PROJECT_SKU_MOD",
    20: "FWID",
    21: "PROTECTED_PCIE_STATUS",
    32: "GPU_LINK_CONN",
    33: "SYS_ENABLE_STATUS",
    34: "OPAQUE_DATA_VERSION",
    35: "CHIP_INFO",
    36: "FEATURE_FLAG",
}
NAMES: Mapping[Kind, Mapping[int, str]] = {
    Kind.GPU: {
        **_COMMON,
        22: "SWITCH_PDI",
        23: "FLOORSWEPT_PORTS",
        24: "POSITION_ID",
        25: "LOCK_SWITCH_STATUS",
    },
    Kind.SWITCH: {
        **_COMMON,
        22: "DEVICE_PDI",
        23: "DISABLED_PORTS",
        24: "POSITION_ID",
        25: "LOCK_SWITCH_STATUS",
        26: "SWITCH_GPU_PDIS",
        27: "SWITCH_PORTS",
    },
}
"""NVIDIA's names of the opaque entries; GPUs and switches use the same numbers, some of them differently."""

# What the properties rely on is checked once, while reading.  A text becomes part of a RIM's id and so of file names
# and addresses: nothing but letters, digits and three marks may stand in it.
_text = re.compile(rb"[0-9A-Za-z][0-9A-Za-z._-]{0,63}\0*+").fullmatch
_text_or_none = re.compile(rb"(?:[0-9A-Za-z][0-9A-Za-z._-]{0,63})?\0*+").fullmatch


def _sized(size: int) -> Callable[[bytes], bool]:
    return lambda data: len(data) == size


_FORMS: Mapping[int, Callable[[bytes], object]] = {
    DRIVER_VERSION: _text,
    NVDEC0_STATUS: _sized(1),
    CHIP_SKU: _text_or_none,
    PROJECT: _text_or_none,
    PROJECT_SKU: _text_or_none,
    FWID: _sized(DIGEST_SIZE),
    PROTECTED_PCIE_STATUS: _sized(1),
    OPAQUE_DATA_VERSION: _sized(2),
    CHIP_INFO: _text_or_none,
    FEATURE_FLAG: _sized(2),
}
_FORMS_OF: Mapping[Kind, Mapping[int, Callable[[bytes], object]]] = {
    Kind.GPU: {**_FORMS, VBIOS_VERSION: _sized(8), PDI: lambda data: len(data) > 0 and len(data) % 8 == 0},
    Kind.SWITCH: {
        **_FORMS,
        VBIOS_VERSION: _text,
        PDI: _sized(8),
        LOCK_SWITCH_STATUS: _sized(2),
        SWITCH_GPU_PDIS: _sized(128),
    },
}

# Version, code and parameters of the request (1 = signed, 0xFF = all measurements), nonce, slot; then version, code,
# parameters and number of blocks of the response.
_HEAD = struct.Struct("<4s 32s B 3s B B")
_REQUEST = bytes((0x11, 0xE0, 0x01, 0xFF))
_RESPONSE = bytes((0x11, 0x60, 0x00))
_BLOCKS = _HEAD.size + 3
_BLOCK = struct.Struct("<B 3x B 2x 48s")
_BLOCK_FORM = struct.Struct("<B B H B H 48s")
_ENTRY = struct.Struct("<H H")
_SLOTS = 8
_RAW_VALUE = 0x80
_BLOCK_SIZE = 55
# Constant bytes of every block by offset: specification, size of the block, size of the value.
_CONSTANT = ((1, 1), (2, 51), (3, 0), (5, DIGEST_SIZE), (6, 0))
if (_BLOCKS, _BLOCK.size, _BLOCK_FORM.size) != (45, _BLOCK_SIZE, _BLOCK_SIZE):
    raise AssertionError("the layouts do not add up")


def _malformed(message: str) -> MalformedEvidence:
    return MalformedEvidence(f"NVIDIA report: {message}", check=Check.GPU_REPORT_FORMAT)


def parse_gpu_report(data: bytes, kind: Kind | None = None, *, zero_padding: bool = False) -> GpuReport:
    """Read the report of a GPU or a switch.

    Args:
        data: the report as received.
        kind: what it must be of; None takes either.
        zero_padding: zeros may follow the report, as in the buffer that NVML fills; anything else never may.

    Raises:
        MalformedEvidence: another form than SPDM and NVIDIA's opaque data have, or another kind of device
            (``gpu.report.format``).
    """
    size = len(data)
    if size > REPORT_MAX:
        raise _malformed(f"{size} bytes, more than {REPORT_MAX}")
    raw = bytes(data)
    if size < _BLOCKS:
        raise _malformed(f"{_BLOCKS} bytes up to the measurements wanted, {size} there")
    request, nonce, slot, response, response_slot, count = _HEAD.unpack_from(raw)
    if request != _REQUEST:
        raise _malformed(f"begins with {request.hex()}, not with a request for all measurements (11e001ff)")
    if response != _RESPONSE:
        raise _malformed(f"{response.hex()} behind the request, not a response with measurements (116000)")
    if slot >= _SLOTS or response_slot != slot:
        raise _malformed(f"slot {slot} was asked for, and the answer is for slot {response_slot}")
    measurements, end = _read_blocks(raw, count)
    opaque = end + NONCE_SIZE + 2
    if size < opaque:
        raise _malformed(f"{opaque} bytes up to the opaque data wanted, {size} there")
    signed = opaque + int.from_bytes(raw[opaque - 2 : opaque], "little")
    total = signed + SIGNATURE_SIZE
    if size < total:
        raise _malformed(f"its lengths make {total} bytes, {size} there")
    if size > total and not (zero_padding and not any(raw[total:])):
        what = "not all zero" if any(raw[total:]) else "all zero"
        raise _malformed(f"{size - total} bytes too many behind the report of {total} bytes, {what}")
    entries = _read_opaque(raw, opaque, signed)
    found = _kind_of(entries)
    if kind is not None and found is not kind:
        raise _malformed(f"the report is of a {found}, not of a {kind}")
    forms = _FORMS_OF[found]
    for number, content in entries.items():
        form = forms.get(number)
        if form is not None and not form(content):
            raise _malformed(f"{NAMES[found][number]} has another form: {content[:64].hex()}")
    return GpuReport(
        raw=raw[:total],
        signed=raw[:signed],
        signature=raw[signed:total],
        nonce=nonce,
        responder_nonce=raw[end : end + NONCE_SIZE],
        slot=slot,
        kind=found,
        measurements=measurements,
        opaque=tuple([Opaque(number, content) for number, content in entries.items()]),
    )


def _read_blocks(raw: bytes, count: int) -> tuple[tuple[Measurement, ...], int]:
    """The measurements, and the offset behind them."""
    length = int.from_bytes(raw[_BLOCKS - 3 : _BLOCKS], "little")
    if count == 0 or length != count * _BLOCK_SIZE:
        raise _malformed(f"{count} blocks of {_BLOCK_SIZE} bytes, and {length} bytes announced for them")
    end = _BLOCKS + length
    if end > len(raw):
        raise _malformed(f"{length} bytes of measurements announced, {len(raw) - _BLOCKS} there")
    for offset, value in _CONSTANT:
        if raw[_BLOCKS + offset : end : _BLOCK_SIZE] != bytes((value,)) * count:
            raise _malformed("a block that is not one DMTF measurement of 48 bytes")
    if max(raw[_BLOCKS + 4 : end : _BLOCK_SIZE]) >= _RAW_VALUE:
        raise _malformed("a block whose value is no digest")
    numbers = raw[_BLOCKS:end:_BLOCK_SIZE]
    # SPDM keeps 0 and 0xFF for questions: how many there are, and all of them.
    if 0 in numbers or 0xFF in numbers or len(set(numbers)) != count:
        raise _malformed("two blocks of the same index, or one of index 0 or 255")
    blocks = _BLOCK.iter_unpack(memoryview(raw)[_BLOCKS:end])
    return tuple([Measurement(number - 1, 1, kind, value) for number, kind, value in blocks]), end


def _read_opaque(raw: bytes, start: int, end: int) -> dict[int, bytes]:
    """Entries by type, in order; they must fill the opaque data."""
    entries: dict[int, bytes] = {}
    at = start
    while at < end:
        content = at + _ENTRY.size
        if content > end:
            raise _malformed("the opaque data ends within an entry")
        number, size = _ENTRY.unpack_from(raw, at)
        at = content + size
        if at > end:
            raise _malformed(f"opaque entry {number}: {size} bytes announced, {end - content} there")
        if number in entries:
            raise _malformed(f"opaque entry {number} twice")
        entries[number] = raw[content:at]
    return entries


def _kind_of(entries: Mapping[int, bytes]) -> Kind:
    """A GPU names its driver; a switch has none and names itself by its PDI."""
    if DRIVER_VERSION in entries:
        return Kind.GPU
    if len(entries.get(PDI, b"")) == 8:
        return Kind.SWITCH
    raise _malformed("neither of a GPU, which names its driver's version, nor of a switch, which names its PDI")


def encode_signed(
    *,
    nonce: bytes,
    measurements: Iterable[Measurement],
    responder_nonce: bytes,
    opaque: Iterable[Opaque],
    slot: int = 0,
) -> bytes:
    """Request and response up to the signature: what a device signs.

    Raises:
        struct.error: a value that has no room in its field.
        ValueError: a nonce or a measurement of another size.
    """
    blocks = [
        _BLOCK_FORM.pack(block.index + 1, block.spec, 3 + len(block.value), block.value_type, 48, block.value)
        for block in measurements
        if _require_size(block.value, DIGEST_SIZE)
    ]
    entries = b"".join([_ENTRY.pack(entry.type, len(entry.data)) + entry.data for entry in opaque])
    _require_size(nonce, NONCE_SIZE)
    _require_size(responder_nonce, NONCE_SIZE)
    head = _HEAD.pack(_REQUEST, nonce, slot, _RESPONSE, slot, len(blocks))
    length = (len(blocks) * _BLOCK_SIZE).to_bytes(3, "little")
    return b"".join((head, length, *blocks, responder_nonce, struct.pack("<H", len(entries)), entries))


def _require_size(value: bytes, size: int) -> bool:
    if len(value) != size:
        raise ValueError(f"{size} bytes wanted, {len(value)} given")
    return True


def serialize_gpu_report(report: GpuReport) -> bytes:
    """The report from its fields, without a look at the bytes it was read from."""
    signed = encode_signed(
        nonce=report.nonce,
        measurements=report.measurements,
        responder_nonce=report.responder_nonce,
        opaque=report.opaque,
        slot=report.slot,
    )
    return signed + report.signature
