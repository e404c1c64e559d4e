"""The variables that a firmware image brings with it: enrolled Secure Boot keys are measured by content.

Source: TianoCore EDK II, MdeModulePkg/Include/Guid/VariableFormat.h (store and authenticated variables); PI
specification, volume 3, "EFI_FIRMWARE_VOLUME_HEADER".
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from ..errors import MalformedEvidence
from ..evidence.uefi import GLOBAL_VARIABLE, IMAGE_SECURITY_DATABASE

MAX_VARIABLES: Final = 4096
VARIABLE_VOLUME: Final = UUID("fff12b8d-7696-4c8b-a985-2747075b4f50")
VARIABLE_STORE: Final = UUID("aaf32c78-947b-439a-a180-2e144ec37792")
_VOLUME_HEADER = struct.Struct("<16x16sQ4sIH")
_STORE_HEADER = struct.Struct("<16sIBB6x")
_VARIABLE = struct.Struct("<HBxI8x16x4xII16s")
_START: Final = 0x55AA
_ADDED, _IN_TRANSITION = 0x3F, 0x3E
_FORMATTED, _HEALTHY = 0x5A, 0xFE
_ENABLED = (UUID("f0a30bc7-af08-4556-99c4-001009c93a44"), "SecureBootEnable")


@dataclass(frozen=True, slots=True, kw_only=True)
class SecureBootVariables:
    """Contents of the variables that decide what may boot; empty where a variable is not there.

    Attributes:
        secure_boot: one byte, or empty in firmware that was built without Secure Boot.
        dbt: measured only where it is there; None where it is not.
    """

    secure_boot: bytes = b""
    pk: bytes = b""
    kek: bytes = b""
    db: bytes = b""
    dbx: bytes = b""
    dbt: bytes | None = None

    @property
    def enforced(self) -> bool:
        """Whether only signed images boot."""
        return self.secure_boot == b"\x01"


def parse_variable_store(data: bytes) -> dict[tuple[UUID, str], bytes]:
    """Variables of a firmware volume by GUID and name; deleted ones are left out.

    Args:
        data: the volume, the content of a firmware's section CFV.

    Raises:
        MalformedEvidence: no volume with authenticated variables, or one that is out of bounds.
    """
    if len(data) < _VOLUME_HEADER.size:
        raise _fail("too short")
    guid, _, signature, _, header = _VOLUME_HEADER.unpack_from(data)
    if UUID(bytes_le=guid) != VARIABLE_VOLUME or signature != b"_FVH" or header + _STORE_HEADER.size > len(data):
        raise _fail("no firmware volume for variables")
    store, size, layout, state = _STORE_HEADER.unpack_from(data, header)
    if UUID(bytes_le=store) != VARIABLE_STORE or (layout, state) != (_FORMATTED, _HEALTHY):
        raise _fail("no healthy store of authenticated variables")
    at, end = header + _STORE_HEADER.size, header + size
    if end > len(data):
        raise _fail("a store that is larger than its volume")
    found: dict[tuple[UUID, str], bytes] = {}
    for _ in range(MAX_VARIABLES):
        if at + _VARIABLE.size > end:
            return found
        start, state, _, name_size, size, vendor = _VARIABLE.unpack_from(data, at)
        if start != _START:
            return found
        body = at + _VARIABLE.size
        if name_size + size > end - body or name_size % 2:
            raise _fail("a variable that is larger than the store")
        if state in (_ADDED, _IN_TRANSITION):
            name = data[body : body + name_size].decode("utf-16-le", "replace").rstrip("\0")
            found[UUID(bytes_le=vendor), name] = data[body + name_size : body + name_size + size]
        at = (body + name_size + size + 3) & ~3
    raise _fail(f"more than {MAX_VARIABLES} variables")


def secure_boot_variables(store: dict[tuple[UUID, str], bytes], *, supported: bool = False) -> SecureBootVariables:
    """What firmware with these variables measures of them.

    Args:
        store: as :func:`parse_variable_store` gives it.
        supported: whether the firmware was built with Secure Boot, so that the variable SecureBoot is there (0) even
            without keys.
    """
    pk = store.get((GLOBAL_VARIABLE, "PK"), b"")
    enforced = bool(pk) and store.get(_ENABLED, b"\x01") != b"\0"
    return SecureBootVariables(
        secure_boot=b"\x01" if enforced else b"\0" if supported or pk else b"",
        pk=pk,
        kek=store.get((GLOBAL_VARIABLE, "KEK"), b""),
        db=store.get((IMAGE_SECURITY_DATABASE, "db"), b""),
        dbx=store.get((IMAGE_SECURITY_DATABASE, "dbx"), b""),
        dbt=store.get((IMAGE_SECURITY_DATABASE, "dbt")),
    )


def _fail(message: str) -> MalformedEvidence:
    return MalformedEvidence(f"variable store: {message}")
