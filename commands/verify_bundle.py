"""``dokimos verify bundle`` and ``verify URL``: the whole evidence of an endpoint, from a file or asked for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..codec import unhex
from ..errors import VerificationError
from . import verdict
from .own_material import OwnOptions, own_material, own_options
from .render import read_file
from .verify_gpu import show_devices
from .verify_tdx import show_more

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from typing import Unpack

    from rich.console import Console

    from ..client.session import OwnMaterial
    from ..verifier.policy import Policy
    from ..verifier.result import AttestationResult


@click.command()
@click.argument("bundle", metavar="BUNDLE")
@verdict.POLICY
@click.option("--nonce", metavar="HEX", help="The 32 bytes that the bundle was asked for with.")
@own_options
@verdict.AT
@verdict.JSON
@verdict.EAR
@verdict.VERBOSE
def command(  # noqa: PLR0917 - one parameter per option
    bundle: str,
    policy_file: str | None,
    nonce: str | None,
    at: str | None,
    as_json: bool,
    as_ear: bool,
    verbose: bool,
    **options: Unpack[OwnOptions],
) -> None:
    """Verify an evidence bundle: processor, GPUs, and the statement that binds both to the endpoint's keys.

    BUNDLE is what an endpoint answers to a nonce, application/cmw+json; "-" reads it from standard input.  Without
    --nonce nothing shows when it was made, and a policy that demands one refuses it.
    """
    from ..evidence.bundle import MAX_SIZE  # noqa: PLC0415 - help need not pay

    wanted = _needed(policy_file)

    def run() -> AttestationResult:
        policy = verdict.policy(wanted)
        sent = unhex(nonce, "--nonce", 32) if nonce is not None else None
        data = read_file(bundle, "evidence bundle", limit=MAX_SIZE)
        return _verified(data, policy, own_material(options), at=at, nonce=sent)

    title = f"Evidence bundle {bundle}"
    verdict.finish(run, title=title, as_json=as_json, as_ear=as_ear, verbose=verbose, more=_show(verbose=verbose))


@click.command("url")
@click.argument("url")
@verdict.POLICY
@verdict.AT
@click.option("--relay", metavar="URL", help="Go through this relay.")
@own_options
@click.option("--save", metavar="FILE", help="Keep the evidence bundle, and the nonce beside it in FILE.nonce.")
@verdict.JSON
@verdict.EAR
@verdict.VERBOSE
def url(  # noqa: PLR0917 - one parameter per option
    url: str,
    policy_file: str | None,
    at: str | None,
    relay: str | None,
    save: str | None,
    as_json: bool,
    as_ear: bool,
    verbose: bool,
    **options: Unpack[OwnOptions],
) -> None:
    """Verify a live endpoint: evidence over a fresh nonce, its code, and the keys that it is bound to."""
    import os  # noqa: PLC0415 - with the client, which is what costs

    from ..client.session import fetch_bundle  # noqa: PLC0415
    from ..client.transport import Transport  # noqa: PLC0415

    wanted = _needed(policy_file)

    def run() -> AttestationResult:
        policy, own = verdict.policy(wanted), own_material(options)
        Transport(url).close()  # a URL that is none is an error before anything is sent
        transport = Transport(relay or url)
        nonce = os.urandom(32)
        try:
            data = fetch_bundle(transport, nonce)
        finally:
            transport.close()
        if save is not None:
            _keep(save, data, nonce)
        return _verified(data, policy, own, at=at, nonce=nonce)

    verdict.finish(
        run, title=f"Endpoint {url}", as_json=as_json, as_ear=as_ear, verbose=verbose, more=_show(verbose=verbose)
    )


def _needed(policy_file: str | None) -> str:
    if policy_file is None:
        raise click.UsageError("--policy is needed: it says what the endpoint must be")
    return policy_file


def _keep(path: str, data: bytes, nonce: bytes) -> None:
    from .write import replace_file  # noqa: PLC0415 - only for this

    replace_file(Path(path), data)
    replace_file(Path(f"{path}.nonce"), f"{nonce.hex()}\n".encode())


def _verified(
    data: bytes, policy: Policy, own: OwnMaterial, *, at: str | None, nonce: bytes | None
) -> AttestationResult:
    """The result of a bundle, also of one that is not authentic; what that one claims is shown, and not verified."""
    from ..client.session import verify_with  # noqa: PLC0415 - help need not pay

    moments: list[datetime] = []

    def clock() -> datetime:
        moments.append(verdict.moment(at))
        return moments[-1]

    try:
        return verify_with(data, policy, own, clock=clock, nonce=nonce).result
    except VerificationError as exc:
        return _rejected(exc, data, moments[-1])


def _rejected(error: VerificationError, data: bytes, at: datetime) -> AttestationResult:
    from ..evidence.bundle import TdxEvidence, parse_bundle  # noqa: PLC0415 - as above
    from ..verifier import gpu_result, result, tdx_result  # noqa: PLC0415

    bundle = parse_bundle(data)
    if isinstance(bundle.cpu, TdxEvidence):
        found = tdx_result.rejected(error, at=at, quote=bundle.cpu.quote)
    else:
        found = result.rejected(error, at=at, report=bundle.cpu.report)
    if bundle.gpu is None:
        return found
    return found.beside(gpu_result.rejected(error, at=at, devices=bundle.gpu.devices), "gpu")


def _show(*, verbose: bool) -> Callable[[Console, AttestationResult], None]:
    """What a terminal shows of processor and GPUs beside the checks."""
    of_processor, of_gpus = show_more(events=verbose), show_devices(verbose=verbose)

    def show(console: Console, result: AttestationResult) -> None:
        of_processor(console, result)
        of_gpus(console, result)

    return show
