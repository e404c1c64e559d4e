"""The quote of a TPM 2.0: what it says of its PCRs, in the form in which its key signs it.

Source: TCG, TPM 2.0 Library, part 2, "TPMS_ATTEST" and "TPML_PCR_SELECTION".  Integers are big-endian.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..codec import Reader
from ..errors import MalformedEvidence, UnsupportedEvidence

MAX_SIZE = 4096
"""Largest quote in bytes that is read; real ones have some 150."""
SHA256 = 0x000B
"""TPM_ALG_SHA256."""
_MAGIC = 0xFF544347
_QUOTE = 0x8018
_MAX_NAME = 128
_MAX_BANKS = 8
_MAX_SELECT = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class TpmQuote:
    """A quote; nothing in it is verified.

    Attributes:
        raw: what the key signs.
        extra_data: the nonce of whoever asked.
        pcrs: numbers of the PCRs of the SHA-256 bank that it covers, ascending.
        pcr_digest: SHA-256 over their values, in this order.
        firmware_version: of the TPM.
        reset_count: resets of the machine.
    """

    raw: bytes
    extra_data: bytes
    pcrs: tuple[int, ...]
    pcr_digest: bytes
    firmware_version: int
    reset_count: int


def parse_tpm_quote(data: bytes) -> TpmQuote:
    """Read a quote (TPMS_ATTEST).

    Raises:
        MalformedEvidence: not of that form.
        UnsupportedEvidence: something else than a quote of PCRs of the SHA-256 bank alone.
    """
    if len(data) > MAX_SIZE:
        raise MalformedEvidence(f"TPM quote: larger than {MAX_SIZE} bytes")
    reader = Reader(bytes(data), "TPM quote")
    if reader.u32("big") != _MAGIC:
        raise reader.fail("not made by a TPM (TPM_GENERATED_VALUE)")
    kind = reader.u16("big")
    if kind != _QUOTE:
        raise UnsupportedEvidence(f"TPM attestation of type {kind:#06x}; only quotes (0x8018) are supported")
    _sized(reader)  # name of the key, which the caller knows better
    extra_data = _sized(reader)
    reader.take(8)  # clock
    reset_count = reader.u32("big")
    reader.take(5)  # restart count, safe
    firmware_version = reader.u64("big")
    pcrs = _selection(reader)
    pcr_digest = _sized(reader)
    reader.end()
    if len(pcr_digest) != 32:
        raise reader.fail("a PCR digest of another size than SHA-256's")
    return TpmQuote(
        raw=bytes(data),
        extra_data=extra_data,
        pcrs=pcrs,
        pcr_digest=pcr_digest,
        firmware_version=firmware_version,
        reset_count=reset_count,
    )


def _sized(reader: Reader) -> bytes:
    size = reader.u16("big")
    if size > _MAX_NAME:
        raise reader.fail(f"a value of {size} bytes")
    return reader.take(size)


def _selection(reader: Reader) -> tuple[int, ...]:
    banks = reader.u32("big")
    if not 1 <= banks <= _MAX_BANKS:
        raise reader.fail(f"{banks} banks of PCRs")
    if banks != 1:
        raise UnsupportedEvidence("TPM quote of several banks of PCRs")
    algorithm, size = reader.u16("big"), reader.u8()
    if algorithm != SHA256:
        raise UnsupportedEvidence(f"TPM quote of a bank of PCRs with algorithm {algorithm:#06x}, not SHA-256")
    if size > _MAX_SELECT:
        raise reader.fail(f"a selection of {size} bytes")
    bits = int.from_bytes(reader.take(size), "little")
    return tuple(number for number in range(8 * size) if bits >> number & 1)
