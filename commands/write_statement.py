"""The measurement statement of a built image, from what the image says of itself once its files agree."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UsageError
from .write import replace_file

if TYPE_CHECKING:
    from ..cvm_image.layout import FileEntry, Manifest
    from ..measurements.image import Measurements
    from ..transparency.statement import Statement, Tdx


def write_statement(path: str, place: Path, manifest: Manifest, found: Measurements, build: str) -> None:
    """Write the statement of an image.

    Args:
        path: where to.
        place: the image's folder.
        manifest: of the image.
        found: what its files measure.
        build: "ROLE:VERSION:NUMBER" of the release.

    Raises:
        UsageError: `build` is not of this form, or the file cannot be written.
        MaterialUnavailable: the image has no bill of materials.
        MalformedEvidence: the image says something that no statement can.
    """
    from ..cvm_image import layout  # noqa: PLC0415 - help need not pay
    from ..transparency.statement import encode_statement, parse_statement  # noqa: PLC0415

    data = encode_statement(image_statement(manifest, layout.read_files(place), found, build))
    parse_statement(data)  # never write what nobody would read
    replace_file(Path(path), data)


def image_statement(manifest: Manifest, files: tuple[FileEntry, ...], found: Measurements, build: str) -> Statement:
    """The statement; errors as :func:`write_statement`."""
    from ..cvm_image import layout  # noqa: PLC0415 - help need not pay
    from ..transparency import statement as form  # noqa: PLC0415

    role, version, number = _release(build)
    models = {
        entry.origin.removeprefix("model:"): entry.sha256
        for entry in files
        if entry.origin.startswith("model:") and entry.type == "file"
    }
    predicate = form.Predicate(
        schema=form.SCHEMA,
        name=manifest.profile,
        role=role,
        version=version,
        build_number=number,
        boot=form.Boot(
            command_line=manifest.command_line,
            command_line_sha256=sha256(manifest.command_line.encode()).hexdigest(),
            roots=tuple(form.Root(name=item.name, root_hash=item.root_hash) for item in manifest.volumes),
            firmware_snp_sha256=found.snp.firmware_sha256,
            firmware_tdx_sha256=found.tdx.firmware_sha256 if found.tdx else None,
        ),
        snp=form.Snp(
            guest_features=found.snp.guest_features,
            vmm=found.snp.vmm,
            digests=tuple(
                form.SnpRow(vcpus=row.vcpus, vcpu_type=row.vcpu_type, launch_digest=row.launch_digest)
                for row in found.snp.digests
            ),
        ),
        tdx=_tdx(found),
        gpu=None,
        models=tuple(form.ModelFile(name=name, sha256=digest) for name, digest in sorted(models.items())),
        reproduce=form.Reproduce(
            command=f"dokimos image build {manifest.profile} --output image",
            dokimos=manifest.dokimos,
            source_date_epoch=manifest.source_date_epoch,
            lock_sha256=manifest.lock_sha256,
            profile_sha256=manifest.profile_sha256,
        ),
        sbom=form.Sbom(format="cyclonedx", sha256=manifest.artifact(layout.SBOM).sha256),
    )
    subjects = tuple(form.Subject(name=item.name, sha256=item.sha256) for item in manifest.artifacts)
    return form.Statement(subjects=subjects, predicate=predicate)


def _tdx(found: Measurements) -> Tdx | None:
    from ..transparency.statement import Tdx, TdxRegisters  # noqa: PLC0415 - help need not pay

    if found.tdx is None:
        return None
    rows = [
        TdxRegisters(vcpus=row.vcpus, memory=row.memory, rtmr0=row.rtmr0, rtmr1=row.rtmr1, rtmr2=row.rtmr2)
        for row in found.tdx.machines
    ]
    return Tdx(
        machine=found.tdx.machine,
        vmm=found.tdx.vmm,
        qemu=found.tdx.qemu,
        mrtd=found.tdx.mrtd,
        machines=tuple(rows),
    )


def _release(build: str) -> tuple[str, str, int]:
    parts = build.split(":")
    if len(parts) != 3 or not all(parts) or not (parts[2].isascii() and parts[2].isdigit() and len(parts[2]) < 16):
        raise UsageError(f"--build {build!r:.80}: not ROLE:VERSION:NUMBER, for example engine:1.0.0:1")
    return parts[0], parts[1], int(parts[2])
