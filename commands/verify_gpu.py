"""``dokimos verify gpu``: NVIDIA GPUs and switches, against RIMs, revocation lists and answers from files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ..codec import unhex
from ..errors import VerificationError
from . import verdict
from .gpu_fetch import CRL_URL, OCSP_URL, RIM_URL, completed
from .gpu_inputs import read_devices, read_material, read_state

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

    from ..verifier.result import AttestationResult


@click.command()
@click.argument("evidence", metavar="[EVIDENCE]", required=False)
@click.option("--report", metavar="FILE", help="One device's report, raw or in hex, in place of EVIDENCE.")
@click.option("--chain", metavar="FILE", help="Its certificates in PEM, the device's first.")
@click.option("--rim", "rims", metavar="FILE|DIR", multiple=True, help="RIMs: files, or folders of them.")
@click.option("--crl", "crls", metavar="FILE", multiple=True, help="Revocation list, DER or PEM.")
@click.option("--ocsp", "ocsps", metavar="FILE", multiple=True, help="Stored OCSP response, DER.")
@click.option("--nras", metavar="FILE", help="Answer of NVIDIA's remote attestation service, in place of RIMs.")
@click.option("--nras-keys", metavar="FILE", help="Key set (JWKS) of that service.")
@click.option("--guest-state", metavar="FILE", help="What the measured guest says of its GPUs, JSON.")
@click.option("--nonce", metavar="HEX", help="The 32 bytes that every report must carry.")
@click.option("--fetch", is_flag=True, help="Fetch RIMs and revocation from NVIDIA's services.")
@RIM_URL
@OCSP_URL
@CRL_URL
@verdict.AT
@verdict.POLICY
@click.option("--authentic-only", is_flag=True, help="Only whether they are genuine, not what they measure.")
@verdict.JSON
@verdict.EAR
@verdict.VERBOSE
def command(  # noqa: PLR0917 - one parameter per option
    evidence: str | None,
    report: str | None,
    chain: str | None,
    rims: tuple[str, ...],
    crls: tuple[str, ...],
    ocsps: tuple[str, ...],
    nras: str | None,
    nras_keys: str | None,
    guest_state: str | None,
    nonce: str | None,
    fetch: bool,
    rim_url: str | None,
    ocsp_url: str | None,
    crl_url: str | None,
    at: str | None,
    policy_file: str | None,
    authentic_only: bool,
    as_json: bool,
    as_ear: bool,
    verbose: bool,
) -> None:
    """Verify NVIDIA GPUs and NVSwitches, offline unless told to fetch.

    EVIDENCE is the JSON list that NVIDIA's nvattest writes, with every device of the machine; "-" reads it from
    standard input.  Folders of RIMs hold files of any name; `dokimos endorsements fetch gpu` makes one.
    """
    if not fetch and (rim_url or ocsp_url or crl_url):
        raise click.UsageError("--rim-url, --ocsp-url and --crl-url go with --fetch")
    from ..verifier import appraise_gpu, gpu_machine, gpu_result  # noqa: PLC0415 - help need not pay

    def run() -> AttestationResult:
        policy = verdict.policy(policy_file)
        wanted = unhex(nonce, "--nonce", 32) if nonce is not None else None
        devices = read_devices(evidence, report, chain)
        material = read_material(rims, crls, ocsps, nras=nras, nras_keys=nras_keys)
        state = read_state(guest_state)
        if fetch:
            material = completed(devices, material, rim_url=rim_url, ocsp_url=ocsp_url, crl_url=crl_url)
        moment = verdict.moment(at)
        try:
            verified = gpu_machine.verify_gpus(
                devices, material, trust=policy.gpu_trust(), at=moment, reference_values=not authentic_only
            )
        except VerificationError as exc:
            return gpu_result.rejected(exc, at=moment, devices=devices)
        return appraise_gpu.appraise_gpus(verified, policy, authentic_only=authentic_only, nonce=wanted, state=state)

    verdict.finish(
        run,
        title=f"NVIDIA devices of {evidence or report}",
        as_json=as_json,
        as_ear=as_ear,
        verbose=verbose,
        more=show_devices(verbose=verbose),
    )


def show_devices(*, verbose: bool) -> Callable[[Console, AttestationResult], None]:
    """What a terminal shows of devices beside their checks, with every measurement if asked for."""

    def show(console: Console, result: AttestationResult) -> None:
        from .show_gpu import show_gpus  # noqa: PLC0415 - rich costs 50 ms

        show_gpus(console, result, measurements=verbose)

    return show
