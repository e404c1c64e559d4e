"""``dokimos policy``: write, show and check appraisal policies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from ..errors import MaterialUnavailable, UnsupportedEvidence, UsageError
from .render import console, print_json, read_file

if TYPE_CHECKING:
    from ..verifier.policy import Policy
    from ..verifier.policy_keys import Json


def read_policy(path: str) -> Policy:
    """The policy of a file, or of standard input for ``-``.

    Raises:
        MaterialUnavailable: it cannot be read.
        UsageError: it is no policy.
    """
    from ..verifier.policy import MAX_SIZE, load_policy  # noqa: PLC0415 - --help need not pay for it

    data = read_file(path, "policy", limit=4 * MAX_SIZE)
    try:
        text = data.decode()
    except UnicodeDecodeError as exc:
        raise UsageError(f"policy: {path}: not UTF-8") from exc
    return load_policy(text)


@click.group()
def command() -> None:
    """Write, show and check appraisal policies."""


@command.command()
@click.option("-o", "--output", metavar="FILE", help="Write to a new file; standard output without it.")
@click.option(
    "--tee", type=click.Choice(["snp", "tdx"]), default="snp", show_default=True, help="What is to be appraised."
)
@click.option(
    "--measurement",
    "measurements",
    multiple=True,
    metavar="HEX",
    help="Accept this launch measurement; of a TD, its MRTD.",
)
@click.option("--image", metavar="DIR", help="Accept the image in DIR, on every machine that it was measured for.")
@click.option(
    "--product", "products", multiple=True, metavar="NAME", help="Accept this SNP product.  [default: Genoa, Turin]"
)
@click.option(
    "--simulated-root", "roots", multiple=True, metavar="HEX", help="Accept the simulated platform with this root."
)
@click.option("--gpus", type=click.IntRange(1, 64), metavar="N", help="Demand N NVIDIA GPUs as well.")
@click.option(
    "--simulated-gpu-root",
    "gpu_roots",
    multiple=True,
    metavar="HEX",
    help="Accept simulated GPUs or RIMs of this root.",
)
def init(  # noqa: PLR0917 - one parameter per option
    output: str | None,
    tee: str,
    measurements: tuple[str, ...],
    image: str | None,
    products: tuple[str, ...],
    roots: tuple[str, ...],
    gpus: int | None,
    gpu_roots: tuple[str, ...],
) -> None:
    """Write a strict policy with comments, to be edited."""
    from ..verifier.policy import load_policy  # noqa: PLC0415 - as above
    from .policy_templates import GPU, NO_IMAGE, NO_REGISTERS, SNP, TDX  # noqa: PLC0415 - as above

    if gpu_roots and gpus is None:
        raise UsageError("--simulated-gpu-root goes with --gpus")

    if tee == "tdx" and products:
        raise UsageError("--product is for SNP: a TDX platform has an FMSPC instead")
    found = _of_image(Path(image), tee) if image is not None else _Values((), NO_REGISTERS, NO_IMAGE)
    text = (TDX if tee == "tdx" else SNP).format(
        measurements=json.dumps((*measurements, *found.measurements)),
        registers=found.registers,
        image=found.image,
        products=json.dumps(products or ("Genoa", "Turin")),
        roots=json.dumps(roots),
    )
    if gpus is not None:
        table = GPU.format(gpus=gpus, gpu_roots=json.dumps(gpu_roots))
        text = text.replace("[binding]\n", f"{table}[binding]\n")
    load_policy(text)
    if output is None:
        click.echo(text, nl=False)
        return
    try:
        with Path(output).open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as exc:
        raise UsageError(f"{output}: {exc.strerror}") from exc


class _Values(NamedTuple):
    """What a policy says of an image: accepted measurements, and lines of registers and of the binding."""

    measurements: tuple[str, ...]
    registers: str
    image: str


def _of_image(folder: Path, tee: str) -> _Values:
    """The reference values of an image, as it says them of itself; ``dokimos measure image`` checks those."""
    from hashlib import sha256  # noqa: PLC0415 - help need not pay

    from ..cvm_image import layout  # noqa: PLC0415
    from ..measurements.image import parse_measurements  # noqa: PLC0415

    written = read_file(str(folder / layout.MEASUREMENTS), layout.MEASUREMENTS).decode("utf-8", "replace")
    measured = parse_measurements(written)
    line = sha256(read_file(str(folder / layout.COMMAND_LINE), layout.COMMAND_LINE)).hexdigest()
    image = f'image_sha256 = ["{line}"]'
    if tee == "snp":
        return _Values(tuple(dict.fromkeys(row.launch_digest for row in measured.snp.digests)), "", image)
    if measured.tdx is None:
        raise MaterialUnavailable(f"{folder}: the image has no firmware for a TD")
    lines = []
    for name in ("rtmr0", "rtmr1", "rtmr2"):
        values = list(dict.fromkeys(getattr(row, name) for row in measured.tdx.machines))
        if None in values:
            raise UnsupportedEvidence(f"{folder}: {name.upper()} is event-level only; name its events in [tdx.events]")
        lines.append(f"{name} = {json.dumps(values)}")
    return _Values((measured.tdx.mrtd,), "\n".join(lines), image)


@command.command()
@click.argument("file")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def show(file: str, as_json: bool) -> None:
    """Show the policy that FILE makes, with every default."""
    policy = read_policy(file)
    effective = policy.effective()
    if as_json:
        print_json({"id": policy.id(), "policy": effective})
        return
    from rich.table import Table  # noqa: PLC0415 - 50 ms that --json need not pay

    from ..verifier.policy import Policy  # noqa: PLC0415 - as above
    from ..verifier.policy_keys import entries  # noqa: PLC0415 - as above

    table = Table(title=policy.id(), title_justify="left", expand=False, pad_edge=False)
    table.add_column("key", no_wrap=True)
    table.add_column("in effect", overflow="fold")
    for entry in entries(Policy):
        known, value = _value(effective, entry.path)
        if known:
            nothing = value in (None, [], "")
            table.add_row(entry.path, f"({entry.key.absent})" if nothing else json.dumps(value))
    console().print(table, markup=False)


def _value(effective: Json, path: str) -> tuple[bool, Json]:
    """Whether the key is one of its own in the effective policy, no table of others, and its value."""
    found = effective
    for name in path.split("."):
        if not isinstance(found, dict) or name not in found:
            return False, None
        found = found[name]
    return not isinstance(found, dict), found


@command.command()
@click.argument("file")
def check(file: str) -> None:
    """Check that FILE is a policy; exit code 2 if it is not."""
    policy = read_policy(file)
    snp = policy.snp
    named = len(snp.measurements) + len(snp.accepted_id_keys()) + len(snp.accepted_author_keys())
    named += len(policy.tdx.mrtd)
    click.echo(f"{policy.id()}  reference values: {named}")
    if not named:
        click.echo("warning: no measurement, ID key, author key or MRTD: this policy rejects every report", err=True)
