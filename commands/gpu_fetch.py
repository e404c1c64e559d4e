"""Fetching for NVIDIA devices: ``dokimos endorsements fetch gpu``, and ``--fetch`` of ``verify gpu``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import UsageError
from .gpu_inputs import read_devices
from .render import console, print_json
from .write import write_files

if TYPE_CHECKING:
    from ..endorsements.fetch_nvidia import FetchedGpuMaterial, NvidiaFetcher
    from ..evidence.gpu_evidence import GpuEvidence
    from ..verifier.gpu_machine import GpuMaterial

RIM_URL = click.option("--rim-url", metavar="URL", help="Service for RIMs; NVIDIA's if absent.")
OCSP_URL = click.option("--ocsp-url", metavar="URL", help="OCSP responder; NVIDIA's if absent.")
CRL_URL = click.option("--crl-url", metavar="URL", help="Where revocation lists lie; NVIDIA's server if absent.")


@click.command("gpu")
@click.argument("evidence", metavar="EVIDENCE")
@click.option(
    "-o", "--output", metavar="DIR", required=True, help="Folder to write; files of the same name are replaced."
)
@RIM_URL
@OCSP_URL
@CRL_URL
@click.option("--no-ocsp", is_flag=True, help="No OCSP answers; they hold for a day, lists for two months.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")
def command(  # noqa: PLR0917 - one parameter per option
    evidence: str,
    output: str,
    rim_url: str | None,
    ocsp_url: str | None,
    crl_url: str | None,
    no_ocsp: bool,
    as_json: bool,
) -> None:
    """Fetch RIMs, revocation lists and OCSP answers for the devices of EVIDENCE into one folder.

    Nothing is verified when it is fetched; `dokimos verify gpu EVIDENCE --rim DIR` does that.  The free services are
    under NVIDIA's terms; a customer's key in NVIDIA_ATTESTATION_SERVICE_KEY is sent along.
    """
    from ..endorsements.fetch_nvidia import fetch_gpu_material  # noqa: PLC0415 - help need not pay

    devices = read_devices(evidence, None, None)
    found = fetch_gpu_material(devices, _fetcher(rim_url, ocsp_url, crl_url), ocsp=not no_ocsp)
    folder = Path(output)
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{output}: not a folder")
    write_files(folder, dict(found.files))
    if as_json:
        print_json(
            {"schema": "dokimos.gpu-material/v1", "verified": False, "path": output, "files": sorted(found.files)}
        )
        return
    out = console()
    for name in sorted(found.files):
        out.print(f"{name}  {len(found.files[name])} bytes", soft_wrap=True)
    out.print("[bold yellow]NOT VERIFIED HERE: no signature was looked at; dokimos verify gpu does that[/]")


def completed(devices: tuple[GpuEvidence, ...], material: GpuMaterial, **urls: str | None) -> GpuMaterial:
    """What is at hand, and what the services add: RIMs that are missing, lists, and live OCSP answers.

    Raises:
        MaterialUnavailable: a service does not answer, or not with what was asked for.
    """
    from ..endorsements.fetch_nvidia import fetch_gpu_material  # noqa: PLC0415 - requests costs 60 ms
    from ..endorsements.rim_store import RimStore  # noqa: PLC0415
    from ..verifier.gpu_revocation import RevocationMaterial  # noqa: PLC0415

    have = {rim.id: rim.data for rim in material.rims.rims if rim.id is not None}
    found: FetchedGpuMaterial = fetch_gpu_material(devices, _fetcher(**urls), have=have)
    fetched = RevocationMaterial.of(found.files)
    files = {f"{number}/{rim.id or rim.name}.xml": rim.data for number, rim in enumerate(material.rims.rims)}
    files |= {name: data for name, data in found.files.items() if name.endswith(".xml")}
    return replace(
        material,
        rims=RimStore.of(files),
        revocation=RevocationMaterial(
            crls=material.revocation.crls + fetched.crls,
            ocsp=material.revocation.ocsp + fetched.ocsp,
            live_nonces=found.live_nonces,
        ),
    )


def _fetcher(rim_url: str | None = None, ocsp_url: str | None = None, crl_url: str | None = None) -> NvidiaFetcher:
    from ..endorsements.fetch_nvidia import OCSP_SERVICE, RIM_SERVICE, NvidiaFetcher  # noqa: PLC0415 - as above

    return NvidiaFetcher(rim_url=rim_url or RIM_SERVICE, ocsp_url=ocsp_url or OCSP_SERVICE, crl_url=crl_url)
