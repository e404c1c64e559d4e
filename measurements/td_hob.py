"""The TD HOB: what the host tells the firmware of the memory, and the firmware measures before anything else.

Source: QEMU, hw/i386/tdvf-hob.c and target/i386/kvm/tdx.c (order of the entries), hw/i386/pc_q35.c (memory below
4 GiB); Intel TDX Virtual Firmware Design Guide, "TD HOB"; PI specification, volume 3, "HOB Design Discussion".
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable
from typing import Final

from ..errors import UnsupportedEvidence, UsageError
from .ovmf import FOUR_GIB, PAGE
from .tdvf import Tdvf, TdvfType

LOW_MEMORY: Final = 0x80000000
"""Memory below 4 GiB of a q35 machine that has more than fits there."""
SPLIT_FROM: Final = 0xB0000000
"""From this size on, a q35 machine has only :data:`LOW_MEMORY` below 4 GiB."""
MAX_MEMORY: Final = 1 << 46
USUAL_SIZES: Final = tuple(
    sorted(
        {mib << 20 for mib in (256, 512, 768, 1536, 2560, 3072)}
        | {gib << 30 for gib in range(1, 129)}
        | {gib << 30 for gib in (*range(136, 513, 8), *range(528, 1025, 16), 1280, 1536, 1792, 2048, 3072, 4096)}
        | {gigabyte * 1000**3 // PAGE * PAGE for gigabyte in (1, 2, 4, 8, 16, 32, 64, 128, 256)}
        | {mib << 20 for mib in (2000, 4000, 8000, 16000, 32000, 64000)}
    )
)
"""Memory sizes that machines usually have, for finding the one that a TD was started with."""

_HANDOFF = struct.Struct("<HHIII5Q")
_HANDOFF_TYPE, _HANDOFF_VERSION = 1, 9
_RESOURCE = struct.Struct("<HHI16xIIQQ")
_RESOURCE_TYPE = 3
_SYSTEM_MEMORY, _UNACCEPTED = 0, 7
_ATTRIBUTES = 7
"""Present, initialized, tested."""
_END_SIZE = 8


def low_memory(memory: int) -> int:
    """Bytes of memory below 4 GiB in a q35 machine."""
    return LOW_MEMORY if memory >= SPLIT_FROM else memory


def td_hob(tdvf: Tdvf, memory: int) -> bytes:
    """The bytes that are measured: the list without the HOB that ends it.

    Args:
        tdvf: the firmware; its sections that the host adds empty are accepted memory, the rest is not accepted.
        memory: bytes that the TD has, QEMU's -m.

    Raises:
        UsageError: no whole pages, or more than any machine has.
        UnsupportedEvidence: the firmware's sections do not lie in this memory, or it has not one place for the list.
    """
    if not 0 < memory <= MAX_MEMORY or memory % PAGE:
        raise UsageError(f"memory of {memory} bytes: whole pages up to {MAX_MEMORY} bytes wanted")
    place = tdvf.only(TdvfType.TD_HOB)
    low = low_memory(memory)
    entries = [(0, low, _UNACCEPTED)]
    if memory > low:
        entries.append((FOUR_GIB, memory - low, _UNACCEPTED))
    for section in tdvf.sections:
        if section.kind in (TdvfType.TD_HOB, TdvfType.TEMP_MEM):
            _accept(entries, section.gpa, section.size)
    entries.sort()
    size = _HANDOFF.size + len(entries) * _RESOURCE.size
    if size + _END_SIZE > place.size:
        raise UnsupportedEvidence(f"firmware: a TD HOB of {size + _END_SIZE} bytes does not fit into its section")
    end = place.gpa + size + _END_SIZE
    return _HANDOFF.pack(_HANDOFF_TYPE, _HANDOFF.size, 0, _HANDOFF_VERSION, 0, 0, 0, 0, 0, end) + b"".join(
        _RESOURCE.pack(_RESOURCE_TYPE, _RESOURCE.size, 0, kind, _ATTRIBUTES, start, length)
        for start, length, kind in entries
    )


def _accept(entries: list[tuple[int, int, int]], gpa: int, size: int) -> None:
    """Cut a range out of the one that holds it."""
    for number, (start, length, kind) in enumerate(entries):
        if start <= gpa and gpa + size <= start + length and kind == _UNACCEPTED:
            entries[number] = (gpa, size, _SYSTEM_MEMORY)
            if gpa > start:
                entries.append((start, gpa - start, _UNACCEPTED))
            if gpa + size < start + length:
                entries.append((gpa + size, start + length - gpa - size, _UNACCEPTED))
            return
    raise UnsupportedEvidence(f"firmware: its section at {gpa:#x} does not lie in the TD's memory")


def td_hob_digest(tdvf: Tdvf, memory: int) -> bytes:
    """What RTMR0 is extended with first; arguments and errors as :func:`td_hob`."""
    return hashlib.sha384(td_hob(tdvf, memory)).digest()


def find_memory(tdvf: Tdvf, digest: bytes, sizes: Iterable[int] = USUAL_SIZES) -> int | None:
    """The memory size that gives a digest of the TD HOB, by trying sizes; None where none of them does."""
    for size in sizes:
        try:
            if td_hob_digest(tdvf, size) == digest:
                return size
        except UnsupportedEvidence:  # too small for this firmware
            continue
    return None
