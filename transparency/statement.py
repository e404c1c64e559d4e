"""The in-toto statement of an image build: everything that decides whether a machine that runs it is accepted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ..errors import MalformedEvidence
from .canonical import Json, encode_canonical, parse_canonical
from .records import from_json, to_json

PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE: Final = "tag:dokimos,2026:predicate/cvm-measurements/v1"
SCHEMA: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """An artifact by its digest."""

    name: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Root:
    """A volume by the root hash of its verity tree."""

    name: str
    root_hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Boot:
    """What is booted, by platform where it differs."""

    command_line: str
    command_line_sha256: str
    roots: tuple[Root, ...]
    firmware_snp_sha256: str
    firmware_tdx_sha256: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SnpRow:
    """The launch digest for one count and type of processors."""

    vcpus: int
    vcpu_type: str
    launch_digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Snp:
    """What SEV-SNP must measure."""

    guest_features: int
    vmm: str
    digests: tuple[SnpRow, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TdxRegisters:
    """The registers of one machine; None where an event of one is open."""

    vcpus: int
    memory: int
    rtmr0: str | None
    rtmr1: str | None
    rtmr2: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tdx:
    """What a TD must report."""

    machine: str
    vmm: str
    qemu: str
    mrtd: str
    machines: tuple[TdxRegisters, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """What the GPUs must be."""

    arch: tuple[str, ...]
    min_driver: str
    min_vbios: str | None
    rim_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFile:
    """A model in the image."""

    name: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reproduce:
    """How to build the same bytes again."""

    command: str
    dokimos: str
    source_date_epoch: int
    lock_sha256: str
    profile_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sbom:
    """The bill of materials."""

    format: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Predicate:
    """What is said of the subjects; `build_number` rises with every release of a name."""

    schema: int
    name: str
    role: str
    version: str
    build_number: int
    boot: Boot
    snp: Snp
    tdx: Tdx | None
    gpu: Gpu | None
    models: tuple[ModelFile, ...]
    reproduce: Reproduce
    sbom: Sbom


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """A statement."""

    subjects: tuple[Subject, ...]
    predicate: Predicate


def encode_statement(statement: Statement) -> bytes:
    """The canonical bytes, which are signed."""
    subjects: Json = [{"name": item.name, "digest": {"sha256": item.sha256}} for item in statement.subjects]
    return encode_canonical(
        {
            "_type": STATEMENT_TYPE,
            "subject": subjects,
            "predicateType": PREDICATE_TYPE,
            "predicate": to_json(statement.predicate),
        }
    )


def parse_statement(data: bytes) -> Statement:
    """Read a statement out of its canonical bytes.

    Raises:
        MalformedEvidence: not one of this schema.
    """
    value = parse_canonical(data, "statement")
    if not isinstance(value, dict) or value.keys() != {"_type", "subject", "predicateType", "predicate"}:
        raise MalformedEvidence("statement: unknown or missing keys")
    if (value["_type"], value["predicateType"]) != (STATEMENT_TYPE, PREDICATE_TYPE):
        raise MalformedEvidence("statement: of another type")
    rows = value["subject"]
    if not isinstance(rows, list) or not rows:
        raise MalformedEvidence("statement: no subjects")
    subjects = from_json(_Subjects, {"subjects": [_flat(row) for row in rows]}, "statement").subjects
    if len({item.name for item in subjects}) != len(subjects):
        raise MalformedEvidence("statement: a subject stands twice")
    predicate = from_json(Predicate, value["predicate"], "statement")
    _check(predicate)
    return Statement(subjects=subjects, predicate=predicate)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Subjects:
    subjects: tuple[Subject, ...]


def _flat(row: Json) -> Json:
    digest = row.get("digest") if isinstance(row, dict) else None
    if not isinstance(row, dict) or row.keys() != {"name", "digest"} or not isinstance(digest, dict):
        raise MalformedEvidence("statement: a subject with unknown or missing keys")
    if digest.keys() != {"sha256"}:
        raise MalformedEvidence("statement: a subject without SHA-256, or with another digest")
    return {"name": row["name"], "sha256": digest["sha256"]}


def _check(found: Predicate) -> None:
    """One answer for each machine, and a schema that is known."""
    if found.schema != SCHEMA:
        raise MalformedEvidence(f"statement: its schema is not {SCHEMA}")
    machines = [(row.vcpus, row.vcpu_type) for row in found.snp.digests]
    tds = [(row.vcpus, row.memory) for row in found.tdx.machines] if found.tdx else []
    if not machines or len(set(machines)) != len(machines) or len(set(tds)) != len(tds):
        raise MalformedEvidence("statement: no machine, or one that stands twice")
