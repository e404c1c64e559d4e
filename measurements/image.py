"""The launch measurements of an image, for every machine that it is meant for; and which input moved one of them."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, fields
from hashlib import sha256
from typing import Any, Final

from ..errors import MalformedEvidence
from .image_tdx import TdxBasis, TdxImage, TdxRow
from .snp import SnpLaunch, launch_digests

SCHEMA: Final = "dokimos.measurements/v1"
_MAX_TEXT: Final = 4 << 20
_HASH: Final = re.compile(r"[0-9a-f]{64}|[0-9a-f]{96}")
_MAX_DIGESTS: Final = 4096
_TYPES: Final = {"int": (int,), "str": (str,), "str | None": (str, type(None))}
_SNP_HASHES: Final = ("firmware_sha256", "kernel_sha256", "initrd_sha256", "command_line_sha256")


@dataclass(frozen=True, slots=True, kw_only=True)
class SnpDigest:
    """The launch digest of one kind of machine.

    Attributes:
        vcpus: virtual processors.
        vcpu_type: their type, by QEMU's name.
        launch_digest: MEASUREMENT of the report, 96 hex digits.
    """

    vcpus: int
    vcpu_type: str
    launch_digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SnpMeasurements:
    """What SEV-SNP must measure.

    Attributes:
        firmware_sha256: of the firmware, in hex.
        kernel_sha256: of the kernel.
        initrd_sha256: of the initrd.
        command_line_sha256: of the command line without a NUL.
        guest_features: SEV_FEATURES of every processor.
        vmm: whose launch is computed, "qemu".
        digests: one for each machine.
    """

    firmware_sha256: str
    kernel_sha256: str
    initrd_sha256: str
    command_line_sha256: str
    guest_features: int
    vmm: str
    digests: tuple[SnpDigest, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurements:
    """What an image must measure on every platform that it has firmware for.

    Attributes:
        snp: on SEV-SNP.
        tdx: on TDX; None for an image without firmware for a TD.
    """

    snp: SnpMeasurements
    tdx: TdxImage | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One difference between two measurements.

    Attributes:
        what: the input, for example "kernel", or "digest 2 x EPYC-v4".
        old: what it was; None where it is new.
        new: what it is; None where it is gone.
    """

    what: str
    old: str | None
    new: str | None


def snp_measurements(
    *,
    firmware: bytes,
    kernel: bytes,
    initrd: bytes,
    command_line: str,
    vcpus: Sequence[int],
    vcpu_types: Sequence[str],
) -> SnpMeasurements:
    """Compute what SEV-SNP must measure for an image.

    Args:
        firmware: with SEV metadata and a live table for the hashes of kernel, initrd and command line.
        kernel: as it is given to QEMU.
        initrd: likewise.
        command_line: likewise, without a NUL.
        vcpus: counts of virtual processors.
        vcpu_types: types of them.

    Raises:
        UnsupportedEvidence: the firmware has no SEV metadata or no live hash table, so that no guest could ever have a
            digest that was printed for it.
        MalformedEvidence: not a firmware image.
        UsageError: an unknown type or an impossible number.
    """
    launch = SnpLaunch(
        ovmf=firmware, kernel=kernel, initrd=initrd, append=command_line, vcpus=vcpus[0], vcpu_type=vcpu_types[0]
    )
    found = launch_digests(launch, vcpus, vcpu_types)
    return SnpMeasurements(
        firmware_sha256=sha256(firmware).hexdigest(),
        kernel_sha256=sha256(kernel).hexdigest(),
        initrd_sha256=sha256(initrd).hexdigest(),
        command_line_sha256=sha256(command_line.encode()).hexdigest(),
        guest_features=launch.guest_features,
        vmm=str(launch.vmm),
        digests=tuple(
            SnpDigest(vcpus=digest.vcpus, vcpu_type=digest.vcpu_type, launch_digest=digest.digest.hex())
            for digest in found
        ),
    )


def format_measurements(found: Measurements) -> str:
    """``measurements.json``; the GPU has its place in it and is null."""
    tdx = None if found.tdx is None else asdict(found.tdx)
    return json.dumps({"schema": SCHEMA, "snp": asdict(found.snp), "tdx": tdx, "gpu": None}, indent=1) + "\n"


def parse_measurements(text: str) -> Measurements:
    """Read ``measurements.json``.

    Raises:
        MalformedEvidence: not such a document.
    """
    if len(text) > _MAX_TEXT:
        raise MalformedEvidence("measurements: too long")
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise MalformedEvidence("measurements: not JSON") from exc
    if not isinstance(data, dict) or data.keys() != {"schema", "snp", "tdx", "gpu"} or data["schema"] != SCHEMA:
        raise MalformedEvidence(f"measurements: not of the schema {SCHEMA}")
    return Measurements(snp=_snp(data["snp"]), tdx=None if data["tdx"] is None else _tdx(data["tdx"]))


def _snp(snp: object) -> SnpMeasurements:
    rows = _rows(snp, "digests", SnpDigest)
    found: SnpMeasurements = _record(SnpMeasurements, {**_table(snp), "digests": rows}, skip={"digests"})
    _all_hex([getattr(found, name) for name in _SNP_HASHES] + [row.launch_digest for row in rows])
    return found


def _tdx(tdx: object) -> TdxImage:
    rows = _rows(tdx, "machines", TdxRow)
    values = {**_table(tdx), "machines": rows, "basis": _record(TdxBasis, _table(tdx).get("basis"))}
    found: TdxImage = _record(TdxImage, values, skip={"machines", "basis"})
    registers = [value for row in rows for value in (row.rtmr0, row.rtmr1, row.rtmr2) if value is not None]
    _all_hex([found.firmware_sha256, found.mrtd, *registers])
    return found


def _table(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise MalformedEvidence("measurements: not a table")
    return value


def _rows(table: object, name: str, kind: Any) -> tuple[Any, ...]:
    rows = _table(table).get(name)
    if not isinstance(rows, list) or not 0 < len(rows) <= _MAX_DIGESTS:
        raise MalformedEvidence(f"measurements: no {name}, or too many")
    return tuple(_record(kind, row) for row in rows)


def _all_hex(values: Sequence[str]) -> None:
    if not all(_HASH.fullmatch(value) for value in values):
        raise MalformedEvidence("measurements: a digest is not in hex")


def _record(kind: Any, row: object, skip: Collection[str] = ()) -> Any:
    if not isinstance(row, dict) or row.keys() != {item.name for item in fields(kind)}:
        raise MalformedEvidence("measurements: unknown or missing keys")
    for item in fields(kind):
        if item.name not in skip and type(row[item.name]) not in _TYPES[str(item.type)]:
            raise MalformedEvidence(f"measurements: {item.name} is not of type {item.type}")
    return kind(**row)


def explain(old: Measurements, new: Measurements, lines: tuple[str, str] | None = None) -> tuple[Change, ...]:
    """What differs between two measurements, the inputs first: they are why a digest moved.

    Args:
        old: the earlier.
        new: the later.
        lines: both command lines where they are known; then their options are compared one by one.

    Returns:
        Nothing where they are the same.
    """
    changes = []
    for item in fields(SnpMeasurements):
        was, is_ = getattr(old.snp, item.name), getattr(new.snp, item.name)
        if item.name != "digests" and was != is_:
            changes.append(Change(what=item.name.removesuffix("_sha256"), old=str(was), new=str(is_)))
    if lines:
        before, after = (line.split() for line in lines)
        changes += [Change(what="option", old=option, new=None) for option in before if option not in after]
        changes += [Change(what="option", old=None, new=option) for option in after if option not in before]
    values = [_values(side) for side in (old, new)]
    for key in [*values[0], *(key for key in values[1] if key not in values[0])]:
        if values[0].get(key) != values[1].get(key):
            changes.append(Change(what=key, old=values[0].get(key), new=values[1].get(key)))
    return tuple(changes)


def _values(found: Measurements) -> dict[str, str | None]:
    """Everything but the inputs of SEV-SNP, by a name for people."""
    values: dict[str, str | None] = {
        f"digest {row.vcpus} x {row.vcpu_type}": row.launch_digest for row in found.snp.digests
    }
    if found.tdx is None:
        return values
    tdx = found.tdx
    values |= {"TDX firmware": tdx.firmware_sha256, "TDX machine": tdx.machine, "TDX host": f"{tdx.vmm} {tdx.qemu}"}
    values |= {"MRTD": tdx.mrtd}
    values |= {f"basis of {item.name.upper()}": getattr(tdx.basis, item.name) for item in fields(TdxBasis)}
    for row in tdx.machines:
        registers = {"RTMR0": row.rtmr0, "RTMR1": row.rtmr1, "RTMR2": row.rtmr2}
        values |= {f"{name} {row.vcpus} x {row.memory} MiB": value for name, value in registers.items()}
    return values
