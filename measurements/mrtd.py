"""MRTD: what the TDX module measures while the host builds a TD.

Source: Intel TDX Module Base Architecture Specification, "MRTD: Build-Time Measurement Register"; the buffers that are
hashed stand with TDH.MEM.PAGE.ADD and TDH.MR.EXTEND in the ABI specification.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from enum import StrEnum
from typing import Final

from ..errors import UnsupportedEvidence
from .ovmf import PAGE
from .tdvf import Tdvf, TdvfAttribute, TdvfSection, TdvfType

_CHUNK: Final = 256
"""Bytes that one TDH.MR.EXTEND takes."""
_BATCH: Final = 64
"""Pages for each update of the hash: few calls, and no second copy of the whole image."""
_ADD = b"MEM.PAGE.ADD".ljust(16, b"\0")
_EXTEND = b"MR.EXTEND".ljust(16, b"\0")
_REST = bytes(104)


class PageOrder(StrEnum):
    """In which order a host adds and extends the pages of a section; MRTD differs.

    SINGLE_PASS: each page is added and at once extended.  This is KVM_TDX_INIT_MEM_REGION of Linux 6.16 and later, so
    upstream QEMU (10.1 and later) and the out-of-tree QEMU 9; Google's hosts do the same.
    TWO_PASS: all pages of a section are added, then all are extended.  This is the out-of-tree QEMU 8.
    """

    SINGLE_PASS = "single-pass"
    TWO_PASS = "two-pass"


def mrtd(tdvf: Tdvf, order: PageOrder = PageOrder.SINGLE_PASS) -> bytes:
    """MRTD of a TD that starts with this firmware, 48 bytes.

    Args:
        tdvf: the firmware.
        order: of the host's pages.

    Raises:
        UnsupportedEvidence: the firmware's own code would not be measured, or a measured section is only in part in
            the image, where hosts differ.
    """
    if not any(section.measured and section.kind is TdvfType.BFV for section in tdvf.sections):
        raise UnsupportedEvidence("firmware: its own code (BFV) is not measured: MRTD would say nothing about it")
    digest = hashlib.sha384()
    for section in tdvf.sections:
        if section.measured and section.raw_size != section.size:
            raise UnsupportedEvidence(
                f"firmware: the measured section at {section.gpa:#x} is only in part in the image; hosts differ in "
                "what they put behind it"
            )
        adds = _adds(section)
        if not section.measured:
            digest.update(b"".join(adds))
        elif order is PageOrder.TWO_PASS:
            digest.update(b"".join(adds))
            _extend(digest.update, tdvf, section, [b""] * (section.size // PAGE))
        else:
            _extend(digest.update, tdvf, section, adds or [b""] * (section.size // PAGE))
    return digest.digest()


def _adds(section: TdvfSection) -> list[bytes]:
    """What TDH.MEM.PAGE.ADD hashes, one for each page; nothing where pages come later."""
    if TdvfAttribute.PAGE_AUG in section.attributes:
        return []
    return [_ADD + gpa.to_bytes(8, "little") + _REST for gpa in range(section.gpa, section.end, PAGE)]


def _extend(update: Callable[[bytes], None], tdvf: Tdvf, section: TdvfSection, before: list[bytes]) -> None:
    """What TDH.MR.EXTEND hashes, a header and 256 bytes at a time; `before` goes in front of each page."""
    content = tdvf.content(section)
    for first in range(0, section.size, _BATCH * PAGE):
        parts: list[bytes | memoryview] = []
        append = parts.append
        for at in range(first, min(first + _BATCH * PAGE, section.size), PAGE):
            append(before[at // PAGE])
            for offset in range(at, at + PAGE, _CHUNK):  # written out: it is all the time there is
                append(_EXTEND)
                append((section.gpa + offset).to_bytes(8, "little"))
                append(_REST)
                append(content[offset : offset + _CHUNK])
        update(b"".join(parts))
