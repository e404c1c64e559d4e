"""The certificate table of an extended report (GHCB specification, AMD 56421, "SNP Extended Guest Request").

The host fills it in; configfs-tsm hands it out as ``auxblob``.  Entries of 24 bytes (GUID as in RFC 4122, offset and
length as u32 little-endian) up to an all-zero one; offsets count from the start of the table.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Final
from uuid import UUID

from ..errors import Check, MalformedEvidence

MAX_SIZE: Final = 1 << 20
"""Largest table in bytes that is read; the GHCB protocol hands it over in pages, real ones are 8 to 16 KiB."""
MAX_ENTRIES: Final = 64

VCEK: Final = UUID("63da758d-e664-4564-adc5-f4b93be8accd")
VLEK: Final = UUID("a8074bc2-a25a-483e-aae6-39c045a0b8a1")
ASK: Final = UUID("4ab7b379-bbac-4fe4-a02f-05aef327c782")
"""ASK, or ASVK beside a VLEK."""
ARK: Final = UUID("c0b406a4-a803-4952-9743-3fb6014cd0ae")
CRL: Final = UUID("92f81bc3-5811-4d3d-97ff-d19f88dc67ea")

_ENTRY = struct.Struct("<16sII")
_END = bytes(_ENTRY.size)


def _fail(message: str) -> MalformedEvidence:
    return MalformedEvidence(f"certificate table: {message}", check=Check.SNP_CERT_TABLE)


def parse_cert_table(data: bytes) -> dict[UUID, bytes]:
    """Contents by GUID, in the order of the table; bytes that no entry names are padding.

    Raises:
        MalformedEvidence: no end marker, an entry that points outside of the table or into its header, or one GUID
            twice.
    """
    if len(data) > MAX_SIZE:
        raise _fail(f"larger than {MAX_SIZE} bytes")
    entries: list[tuple[UUID, int, int]] = []
    for start in range(0, _ENTRY.size * (MAX_ENTRIES + 1), _ENTRY.size):
        entry = data[start : start + _ENTRY.size]
        if len(entry) != _ENTRY.size:
            raise _fail("no end marker")
        if entry == _END:
            break
        guid, offset, length = _ENTRY.unpack(entry)
        entries.append((UUID(bytes=guid), offset, length))
    else:
        raise _fail(f"more than {MAX_ENTRIES} entries")
    header = _ENTRY.size * (len(entries) + 1)
    found: dict[UUID, bytes] = {}
    for uuid, offset, length in entries:
        # Python integers do not wrap: the sum of two u32 is what it says.
        if offset < header or offset + length > len(data):
            raise _fail(f"entry {uuid} points outside of the data")
        if uuid in found:
            raise _fail(f"entry {uuid} twice")
        found[uuid] = data[offset : offset + length]
    return found


def encode_cert_table(contents: Mapping[UUID, bytes]) -> bytes:
    """A table of these contents, in this order."""
    offset = _ENTRY.size * (len(contents) + 1)
    header, body = b"", b""
    for uuid, content in contents.items():
        header += _ENTRY.pack(uuid.bytes, offset + len(body), len(content))
        body += content
    return header + _END + body
