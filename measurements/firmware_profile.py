"""How a build of OVMF measures a boot: told by marks that its generation of edk2 leaves in the image.

Sources: TianoCore EDK II, OvmfPkg, at the tags edk2-stable202211 to edk2-stable202508: Tcg/TdTcg2Dxe (events and
separators), QemuKernelLoaderFsDxe (which kernel is taken), Library/GenericQemuLoadImageLib (the command line),
Library/QemuFwCfgLib (measured configuration), Library/PlatformBootManagerLib (boot options).

Two builds with the same section table may measure differently, and two with other tables alike, so that the table alone
does not tell.  The drivers lie in an LZMA-compressed volume, and what they name stands there as text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final
from uuid import UUID

from ..errors import UnsupportedEvidence

LZMA_SECTION: Final = UUID("ee4e5898-3914-4259-9d6e-dc7bd79403cf")
"""PI specification: GUID of a section that is compressed with LZMA."""
MEASURED_BOOT: Final = UUID("f062221e-c607-44c2-b0b4-c3886331d351")
"""File of TdTcg2Dxe, the only driver that extends RTMRs; without it a TD boots anything unmeasured."""
SMBIOS_MEASUREMENT: Final = UUID("d27fed59-abb4-4fed-bead-2a878c7e4a7e")
"""File of SmbiosMeasurementDxe."""

_MAX_UNPACKED: Final = 96 << 20
"""Bytes that all volumes together may unpack to; OVMF's has 16 MiB."""
_MAX_VOLUMES: Final = 8
_MAX_MEMORY: Final = 160 << 20
_MAX_HEADER: Final = 64
_GUIDED: Final = 2
_VERSION = re.compile(
    rb"(?:edk2-stable(20\d\d)(\d\d)|2\x000\x00(\d)\x00(\d)\x00[.]\x00(\d)\x00(\d)\x00(?=[-~+]\x00|\x00\x00))"
)
_SEPARATOR_FIXED: Final = (2024, 11)
_NAMED_KERNEL: Final = b"etc/boot/\0"
_FW_CFG: Final = b"QEMU FW CFG\0"
_BOOT_MENU: Final = "BootManagerMenuApp\0".encode("utf-16-le")
_PREFIX: Final = b"\0initrd=initrd \0"
_SECURE_BOOT: Final = "SecureBootEnable\0".encode("utf-16-le")


class InitrdOption(StrEnum):
    """Where the firmware names the initial RAM disk on the kernel's command line."""

    SUFFIX = "suffix"
    PREFIX = "prefix"


class Generation(StrEnum):
    """A release of edk2 from which on boots were measured in another way; the names of ``--firmware-profile``."""

    PRE_202411 = "pre202411"
    STABLE_202411 = "202411"
    STABLE_202502 = "202502"
    STABLE_202505 = "202505"
    STABLE_202508 = "202508"


@dataclass(frozen=True, slots=True, kw_only=True)
class FirmwareProfile:
    """How a build measures.

    Attributes:
        name: the nearest generation.
        measured_boot: it has the driver that extends RTMRs.
        late_separator: RTMR of the separator before the boot: 0 before edk2-stable202411, by mistake; else 1.
        named_kernel: it takes ``etc/boot/kernel`` where QEMU has it (10.0 and later), which nobody patched.
        initrd_option: where it writes ``initrd=initrd``.
        fw_cfg: it measures BootMenu, bootorder and other items of QEMU's configuration.
        smbios: it measures the SMBIOS tables.
        boot_menu_app: Boot0000 is BootManagerMenuApp and Boot0001 the setup; else Boot0000 is UiApp alone.
        secure_boot: it was built with Secure Boot, so that the variable SecureBoot is there even without keys.
        version: of edk2, "2025.02", as the image says; None where it does not, or the profile was given by name.
    """

    name: Generation
    measured_boot: bool = True
    late_separator: int = 1
    named_kernel: bool = False
    initrd_option: InitrdOption = InitrdOption.SUFFIX
    fw_cfg: bool = False
    smbios: bool = False
    boot_menu_app: bool = False
    secure_boot: bool = False
    version: str | None = None


def named_profile(generation: Generation) -> FirmwareProfile:
    """The profile of OVMF as edk2 builds it at this release or later, up to the next one listed."""
    order = list(Generation)
    at_least = {known: order.index(generation) >= order.index(known) for known in Generation}
    return FirmwareProfile(
        name=generation,
        late_separator=1 if at_least[Generation.STABLE_202411] else 0,
        named_kernel=at_least[Generation.STABLE_202502],
        fw_cfg=at_least[Generation.STABLE_202505],
        smbios=at_least[Generation.STABLE_202505],
        boot_menu_app=at_least[Generation.STABLE_202505],
        initrd_option=InitrdOption.PREFIX if at_least[Generation.STABLE_202508] else InitrdOption.SUFFIX,
    )


def detect_profile(image: bytes, generation: Generation | None = None) -> FirmwareProfile:
    """Tell the profile from the image.

    Args:
        image: the firmware.
        generation: what the caller knows of its age; then only the drivers that are in it are looked for.

    Raises:
        UnsupportedEvidence: no volume of it can be read, or its age cannot be told; the caller may name a generation.
    """
    parts = [*volumes(image)]
    if not parts:
        if generation:
            return named_profile(generation)
        raise UnsupportedEvidence("firmware: no compressed volume in it can be read; name its profile")
    parts.append(image)

    def has(mark: bytes) -> bool:
        return any(mark in part for part in parts)

    version = next((found for part in parts if (found := _version(part))), None)
    told = generation or _generation(has, version)
    profile = named_profile(told)
    if generation is None:
        profile = replace(
            profile,
            named_kernel=has(_NAMED_KERNEL),
            fw_cfg=has(_FW_CFG),
            boot_menu_app=has(_BOOT_MENU),
            initrd_option=InitrdOption.PREFIX if has(_PREFIX) else InitrdOption.SUFFIX,
        )
    return replace(
        profile,
        measured_boot=has(MEASURED_BOOT.bytes_le),
        smbios=has(SMBIOS_MEASUREMENT.bytes_le),
        secure_boot=has(_SECURE_BOOT),
        version=f"{version[0]}.{version[1]:02}" if version else None,
    )


def _generation(has: Callable[[bytes], bool], version: tuple[int, int] | None) -> Generation:
    """The latest generation of which the image has a mark."""
    if has(_PREFIX):
        return Generation.STABLE_202508
    if has(_FW_CFG) or has(_BOOT_MENU):
        return Generation.STABLE_202505
    if has(_NAMED_KERNEL):
        return Generation.STABLE_202502
    if version is None and has(MEASURED_BOOT.bytes_le):
        raise UnsupportedEvidence(
            "firmware: it is older than edk2-stable202502 and does not say its version, so that the register of its "
            f"second separator cannot be told; name its profile, {Generation.PRE_202411} or {Generation.STABLE_202411}"
        )
    old = version is None or version < _SEPARATOR_FIXED
    return Generation.PRE_202411 if old else Generation.STABLE_202411


def _version(part: bytes) -> tuple[int, int] | None:
    """Year and month of edk2, from the text of a distribution ("2025.02-8+deb13u1") or of a tag."""
    for match in _VERSION.finditer(part):
        year, month, *digits = match.groups()
        found = (int(year), int(month)) if year else (2000 + int(digits[0] + digits[1]), int(digits[2] + digits[3]))
        if found[0] > 2015 and 1 <= found[1] <= 12:
            return found
    return None


def volumes(image: bytes) -> Iterator[bytes]:
    """Contents of the LZMA-compressed sections of an image; what cannot be unpacked within bounds is left out.

    PI specification, volume 3, "EFI_SECTION_GUID_DEFINED": size in three bytes, type, GUID, offset of the data,
    attributes.
    """
    import lzma  # noqa: PLC0415 - MRTD alone need not pay

    guid, at, found, room = LZMA_SECTION.bytes_le, 3, 0, _MAX_UNPACKED
    while found < _MAX_VOLUMES and (at := image.find(guid, at + 1)) >= 0:
        offset = int.from_bytes(image[at + 16 : at + 18], "little")
        if image[at - 1] != _GUIDED or not 0 < offset <= _MAX_HEADER:
            continue
        found += 1
        try:
            unpacker = lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=_MAX_MEMORY)
            volume = unpacker.decompress(image[at - 4 + offset :], room)
        except (lzma.LZMAError, EOFError):
            continue
        if not unpacker.eof and not unpacker.needs_input:
            continue  # it would be larger
        room -= len(volume)
        yield volume
