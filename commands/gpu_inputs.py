"""What the commands about GPUs read from files: evidence, reference values, revocation."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..codec import unhex
from ..errors import Check, MalformedEvidence, MaterialUnavailable, UnsupportedEvidence, UsageError
from .render import read_file

if TYPE_CHECKING:
    from ..evidence.gpu_evidence import GpuEvidence, GuestState
    from ..verifier.gpu_machine import GpuMaterial

MOST_FILES = 1024
"""Most files of a folder of RIMs."""
FILE_MAX = 1 << 20
"""Most bytes of a RIM, a revocation list, or an answer of a service."""


def read_devices(evidence: str | None, report: str | None, chain: str | None) -> tuple[GpuEvidence, ...]:
    """The devices of an evidence file, or the one of a report and its chain.

    Raises:
        UsageError: neither, or both.
        MaterialUnavailable: a file cannot be read.
        MalformedEvidence: it is no such file.
        UnsupportedEvidence: a device of an architecture that is not supported.
    """
    from ..evidence.gpu_evidence import EVIDENCE_MAX, parse_gpu_evidence  # noqa: PLC0415 - help need not pay

    if (evidence is None) == (report is None) or (report is None) != (chain is None):
        raise UsageError("give either EVIDENCE, or --report with --chain")
    if evidence is not None:
        return parse_gpu_evidence(read_file(evidence, "GPU evidence", limit=EVIDENCE_MAX))
    return (_one_device(str(report), str(chain)),)


def _one_device(report: str, chain: str) -> GpuEvidence:
    """The evidence of a bare report: the nonce is the report's, the architecture that of the certificate's chip."""
    from ..endorsements.gpu_certificate import parse_gpu_certificate, split_chain  # noqa: PLC0415 - as above
    from ..evidence.gpu_evidence import CHAIN_MAX, GpuEvidence  # noqa: PLC0415
    from ..evidence.gpu_report import REPORT_MAX, parse_gpu_report  # noqa: PLC0415
    from ..verifier.gpu_chain import arch_of, chip_of  # noqa: PLC0415

    data = read_file(report, "report", limit=2 * REPORT_MAX + 16)
    if not data.startswith(b"\x11"):
        data = unhex(_text(data, "report"), "report")
    pem = read_file(chain, "certificate chain", limit=CHAIN_MAX)
    leaf = parse_gpu_certificate(split_chain(pem)[0], "device certificate")
    arch = arch_of(chip_of(leaf))
    if arch is None:
        raise UnsupportedEvidence(
            f"the device certificate is of {leaf.subject_cn!r}, a chip that is not known", check=Check.GPU_CHAIN_MODEL
        )
    return GpuEvidence(arch=arch, nonce=parse_gpu_report(data).nonce, report=data, chain=pem)


def _text(data: bytes, what: str) -> str:
    try:
        return "".join(data.decode("ascii").split())
    except UnicodeDecodeError as exc:
        raise MalformedEvidence(f"{what}: neither a report nor its hex digits") from exc


def read_material(
    rims: tuple[str, ...],
    crls: tuple[str, ...],
    ocsps: tuple[str, ...],
    *,
    nras: str | None = None,
    nras_keys: str | None = None,
) -> GpuMaterial:
    """What a verifier needs beside the evidence, from files and folders; folders may hold all kinds of it.

    Args:
        rims: files, or folders as ``endorsements fetch gpu`` writes them: RIMs of any name, ``*.crl``, ``*.ocsp``.
        crls: revocation lists, DER or PEM.
        ocsps: OCSP responses, DER.
        nras: answer of the remote attestation service, or None.
        nras_keys: its key set, or None.

    Raises:
        MaterialUnavailable: a file cannot be read.
        MalformedEvidence: it is no such file.
    """
    from ..endorsements.rim_store import RimStore  # noqa: PLC0415 - as above
    from ..verifier.gpu_machine import GpuMaterial  # noqa: PLC0415
    from ..verifier.gpu_revocation import RevocationMaterial  # noqa: PLC0415

    files: dict[str, bytes] = {}
    for path in rims:
        for file in _files(path):
            files[_free(files, file.name)] = read_file(str(file), "RIM", limit=FILE_MAX)
    for number, path in enumerate(crls):
        files[f"{number}.crl"] = read_file(path, "CRL", limit=FILE_MAX)
    for number, path in enumerate(ocsps):
        files[f"{number}.ocsp"] = read_file(path, "OCSP response", limit=FILE_MAX)
    return GpuMaterial(
        rims=RimStore.of({name: data for name, data in files.items() if not name.endswith((".crl", ".ocsp"))}),
        revocation=RevocationMaterial.of(files),
        nras=read_file(nras, "answer of the attestation service", limit=FILE_MAX) if nras else None,
        nras_keys=read_file(nras_keys, "key set", limit=FILE_MAX) if nras_keys else None,
    )


def read_state(path: str | None) -> GuestState | None:
    """What the guest says of its GPUs, as evidence bundles carry it; nothing here shows that a measured guest said it.

    Raises:
        MaterialUnavailable: the file cannot be read.
        MalformedEvidence: it is no such file.
    """
    from ..evidence.gpu_evidence import STATE_MAX, parse_guest_state  # noqa: PLC0415 - as above

    return None if path is None else parse_guest_state(read_file(path, "guest's state", limit=STATE_MAX))


def _free(taken: dict[str, bytes], name: str) -> str:
    """A name that no other file has: two folders may hold two issues of one RIM under one name."""
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{number}/{name}"  # only the last part of a path counts as the name
    return free


def _files(path: str) -> list[Path]:
    folder = Path(path)
    if not folder.is_dir():
        return [folder]
    try:
        found = sorted(file for file in folder.iterdir() if file.is_file() and not file.name.startswith("."))
    except OSError as exc:
        raise MaterialUnavailable(f"{path}: {exc.strerror}") from exc
    if len(found) > MOST_FILES:
        raise MalformedEvidence(f"{path}: more than {MOST_FILES} files")
    return [file for file in found if file.name not in {"manifest.json", "README.md"}]
