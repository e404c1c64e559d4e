"""Readers of UEFI data that a boot's event log carries: variables, load options, device paths, partition tables.

Source: UEFI 2.10, sections 3.1.3 (load options), 5.3 (GPT) and 10.3 (device paths); TCG PC Client Platform Firmware
Profile, sections on UEFI_VARIABLE_DATA, UEFI_IMAGE_LOAD_EVENT and UEFI_GPT_DATA.
"""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from ..codec import Reader

GLOBAL_VARIABLE = UUID("8be4df61-93ca-11d2-aa0d-00e098032b8c")
IMAGE_SECURITY_DATABASE = UUID("d719b2cb-3d3a-4596-a3bc-dad00e67656f")
QEMU_KERNEL_LOADER_FS = UUID("1428f772-b64a-441e-b8c3-9ebdd7f893c7")
"""Vendor media node of the file system in which OVMF shows what QEMU was given by -kernel and -initrd."""
STUB_PAYLOAD = UUID("55c5d1f8-04cd-46b5-8a20-e56cbb3052d0")
"""Vendor media node under which systemd-stub starts the kernel of a unified kernel image."""

_MEDIA, _VENDOR, _FILE = 4, 3, 4
_END, _END_ENTIRE = 0x7F, 0xFF
_GPT_HEADER, _GPT_ENTRY = 92, 128
# Far beyond what firmware writes; so that a log of many broken events costs no time.
_NODES_MAX = 64
_DESCRIPTION_MAX = 2048
_PARTITIONS_MAX = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Variable:
    """UEFI_VARIABLE_DATA."""

    guid: UUID
    name: str
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class DevicePath:
    """A device path, as far as it is looked into here.

    Attributes:
        nodes: type, subtype and data of each node, the end left out.
        vendor_media: GUIDs of the vendor-defined media nodes.
        file: the file path nodes, joined; None where there is none.
    """

    nodes: tuple[tuple[int, int, bytes], ...]
    vendor_media: tuple[UUID, ...]
    file: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOption:
    """EFI_LOAD_OPTION, the content of a Boot#### variable."""

    attributes: int
    description: str
    path: DevicePath
    optional_data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageLoad:
    """UEFI_IMAGE_LOAD_EVENT: a PE image that the firmware was about to start."""

    location: int
    length: int
    link_time_address: int
    path: DevicePath


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpt:
    """UEFI_GPT_DATA.

    Attributes:
        partitions: type and unique GUID of each partition.
    """

    disk: UUID
    partitions: tuple[tuple[UUID, UUID], ...]


def _guid(raw: bytes) -> UUID:
    return UUID(bytes_le=raw)


def _text(raw: bytes, r: Reader) -> str:
    try:
        return raw.decode("utf-16-le")
    except UnicodeDecodeError as exc:
        raise r.fail("text that is not UTF-16") from exc


def variable(raw: bytes) -> Variable:
    """Read UEFI_VARIABLE_DATA: GUID, lengths of name (in characters) and data, name without NUL, data.

    Raises:
        MalformedEvidence: lengths that do not add up, or a name that is not UTF-16.
    """
    r = Reader(raw, "UEFI variable")
    guid = _guid(r.take(16))
    characters, size = r.u64(), r.u64()
    name = _text(r.take(2 * characters), r)
    data = r.take(size)
    r.end()
    return Variable(guid=guid, name=name, data=data)


def device_path(raw: bytes) -> DevicePath:
    """Read a device path; empty bytes are the empty path (an image that came from memory).

    Raises:
        MalformedEvidence: a node that is too short or too long, or no end.
    """
    r = Reader(raw, "device path")
    nodes: list[tuple[int, int, bytes]] = []
    while r.remaining:
        kind, subtype, size = r.u8(), r.u8(), r.u16()
        if size < 4 or len(nodes) == _NODES_MAX:
            raise r.fail(f"a node of {size} bytes, or more than {_NODES_MAX} nodes")
        node = r.take(size - 4)
        if kind == _END and subtype == _END_ENTIRE:
            r.end()
            break
        nodes.append((kind, subtype, node))
    else:
        if raw:
            raise r.fail("no end")
    files = [_text(node, r).rstrip("\0") for kind, subtype, node in nodes if (kind, subtype) == (_MEDIA, _FILE)]
    vendors = [node for kind, subtype, node in nodes if (kind, subtype) == (_MEDIA, _VENDOR)]
    if any(len(node) < 16 for node in vendors):
        raise r.fail("a vendor node without GUID")
    return DevicePath(
        nodes=tuple(nodes),
        vendor_media=tuple(_guid(node[:16]) for node in vendors),
        file="\\".join(files) if files else None,
    )


def load_option(raw: bytes) -> LoadOption:
    """Read EFI_LOAD_OPTION.

    Raises:
        MalformedEvidence: no NUL behind the description, or a broken device path.
    """
    r = Reader(raw, "load option")
    attributes, path_size = r.u32(), r.u16()
    start = r.offset
    end = start
    while raw[end : end + 2] != b"\0\0":
        if end + 2 > len(raw) or end - start > _DESCRIPTION_MAX:
            raise r.fail("a description without end")
        end += 2
    description = _text(r.take(end - start), r)
    r.take(2)
    path = device_path(r.take(path_size))
    return LoadOption(attributes=attributes, description=description, path=path, optional_data=r.rest())


def image_load(raw: bytes) -> ImageLoad:
    """Read UEFI_IMAGE_LOAD_EVENT.

    Raises:
        MalformedEvidence: lengths that do not add up, or a broken device path.
    """
    r = Reader(raw, "image load event")
    location, length, link_time_address, path_size = r.u64(), r.u64(), r.u64(), r.u64()
    path = device_path(r.take(path_size))
    r.end()
    return ImageLoad(location=location, length=length, link_time_address=link_time_address, path=path)


def gpt(raw: bytes) -> Gpt:
    """Read UEFI_GPT_DATA: the partition table's header, the number of partitions, their entries.

    Raises:
        MalformedEvidence: another header, or lengths that do not add up.
    """
    r = Reader(raw, "partition table")
    header = r.take(_GPT_HEADER)
    if header[:8] != b"EFI PART":
        raise r.fail("no GPT header")
    number = r.u64()
    if number > _PARTITIONS_MAX or number * _GPT_ENTRY != r.remaining:
        raise r.fail(f"{number} partitions announced, {r.remaining} bytes there")
    entries = [r.take(_GPT_ENTRY) for _ in range(number)]
    return Gpt(
        disk=_guid(header[56:72]), partitions=tuple((_guid(entry[:16]), _guid(entry[16:32])) for entry in entries)
    )
