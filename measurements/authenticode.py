"""The hash by which firmware measures a PE image before it starts it.

Sources: Microsoft, "Windows Authenticode Portable Executable Signature Format", "Calculating the PE Image Hash";
TianoCore EDK II, OvmfPkg/Tcg/TdTcg2Dxe/MeasureBootPeCoff.c, which is what measures a TD's boot.  The latter adds no
padding behind an image whose size is no multiple of 8, and neither does this.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple

from ..errors import MalformedEvidence

MAX_SECTIONS: Final = 96
"""PE/COFF specification, COFF file header, NumberOfSections: what loaders accept."""

_MZ: Final = b"MZ"
_SIGNATURE: Final = b"PE\0\0"
_LFANEW: Final = 0x3C
_COFF = struct.Struct("<2sHIIIHH")
_SECTION = struct.Struct("<8sIIIIIIHHI")
_PE32, _PE32_PLUS = 0x10B, 0x20B
_SIZE_OF_HEADERS, _CHECKSUM = 60, 64
_DIRECTORIES = {_PE32: 96, _PE32_PLUS: 112}
"""Where the data directories start in the optional header; their number stands in the four bytes before."""
_MAX_DIRECTORIES: Final = 16
_SECURITY: Final = 4


class PeSection(NamedTuple):
    """A section: name without NULs; size in memory, place in memory, size in the file, place in the file."""

    name: bytes
    virtual_size: int
    virtual_address: int
    raw_size: int
    raw_offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PeImage:
    """A PE image, as far as its hash and its sections go.

    Attributes:
        data: the file.
        headers: bytes of all headers.
        checksum: where the checksum's four bytes stand, which are not hashed.
        security: where the directory entry of the certificate table stands, which is not hashed; None without one.
        certificates: bytes of the certificate table, which ends the file and is not hashed.
        sections: in the order of the table.
    """

    data: bytes
    headers: int
    checksum: int
    security: int | None
    certificates: int
    sections: tuple[PeSection, ...]

    def section(self, name: bytes) -> bytes | None:
        """A section's content as it stands in memory, or None where there is no section of this name.

        Raises:
            MalformedEvidence: two sections have this name, or one that is larger in memory than any file.
        """
        found = [section for section in self.sections if section.name == name]
        if not found:
            return None
        if len(found) > 1 or found[0].virtual_size > max(2 * len(self.data), 1 << 20):
            raise _fail(f"sections {name!r} twice, or one of an impossible size")
        raw = self.data[found[0].raw_offset : found[0].raw_offset + found[0].raw_size]
        return raw[: found[0].virtual_size].ljust(found[0].virtual_size, b"\0")


def _fail(message: str) -> MalformedEvidence:
    return MalformedEvidence(f"PE image: {message}")


def parse_pe(data: bytes) -> PeImage:
    """Read the headers of a PE image for a 64-bit or 32-bit machine.

    Raises:
        MalformedEvidence: not one, or headers, sections or certificates that do not lie in the file.
    """
    if data[:2] != _MZ or len(data) < _LFANEW + 4:
        raise _fail("it does not start as one")
    coff = int.from_bytes(data[_LFANEW : _LFANEW + 4], "little")
    if data[coff : coff + 4] != _SIGNATURE or coff + 4 + _COFF.size > len(data):
        raise _fail("no signature where its header should be")
    _, count, _, _, _, optional_size, _ = _COFF.unpack_from(data, coff + 4)
    optional = coff + 4 + _COFF.size
    magic = int.from_bytes(data[optional : optional + 2], "little")
    if magic not in _DIRECTORIES or optional_size < _DIRECTORIES[magic] or optional + optional_size > len(data):
        raise _fail("an optional header of an unknown kind or an impossible size")
    if count > MAX_SECTIONS:
        raise _fail(f"{count} sections")
    headers = _u32(data, optional + _SIZE_OF_HEADERS)
    table = optional + optional_size
    if not table + count * _SECTION.size <= headers <= len(data):
        raise _fail("headers that do not lie in the file, or do not hold the section table")
    security, certificates = _certificates(data, optional + _DIRECTORIES[magic], table)
    sections = tuple(_section(data, table + number * _SECTION.size, headers) for number in range(count))
    hashed = headers + sum(section.raw_size for section in sections)
    if hashed > len(data) or (hashed < len(data) and hashed + certificates > len(data)):
        raise _fail("sections and certificates are larger than the file")
    return PeImage(
        data=data,
        headers=headers,
        checksum=optional + _CHECKSUM,
        security=security,
        certificates=certificates,
        sections=sections,
    )


def _u32(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "little")


def _certificates(data: bytes, directories: int, table: int) -> tuple[int | None, int]:
    """Place of the directory entry of the certificate table, and the table's size."""
    count = _u32(data, directories - 4)
    if count > _MAX_DIRECTORIES or directories + 8 * count > table:
        raise _fail("data directories that do not lie in the optional header")
    if count <= _SECURITY:
        return None, 0
    security = directories + 8 * _SECURITY
    return security, _u32(data, security + 4)


def _section(data: bytes, at: int, headers: int) -> PeSection:
    name, virtual_size, virtual_address, raw_size, raw_offset, *_ = _SECTION.unpack_from(data, at)
    if raw_size and not headers <= raw_offset <= len(data) - raw_size:
        raise _fail(f"section {name!r} does not lie in the file")
    return PeSection(name.rstrip(b"\0"), virtual_size, virtual_address, raw_size, raw_offset)


def authenticode(image: PeImage, algorithm: str = "sha384") -> bytes:
    """The hash of an image, without checksum and certificates.

    Args:
        image: what was read.
        algorithm: hashlib's name of the hash; a TD has SHA-384.
    """
    view = memoryview(image.data)
    digest = hashlib.new(algorithm, view[: image.checksum])
    if image.security is None:
        digest.update(view[image.checksum + 4 : image.headers])
    else:
        digest.update(view[image.checksum + 4 : image.security])
        digest.update(view[image.security + 8 : image.headers])
    hashed = image.headers
    for section in sorted(image.sections, key=lambda section: section.raw_offset):
        digest.update(view[section.raw_offset : section.raw_offset + section.raw_size])
        hashed += section.raw_size
    # What lies beyond is taken from the sum of all sizes on, whether or not sections leave gaps.
    digest.update(view[hashed : len(view) - image.certificates])
    return digest.digest()


@lru_cache(maxsize=1)  # one kernel is measured for every machine that boots it
def authenticode_sha384(data: bytes) -> bytes:
    """The SHA-384 of a file that is a PE image.

    Raises:
        MalformedEvidence: as :func:`parse_pe`.
    """
    return authenticode(parse_pe(data))
