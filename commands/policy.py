"""``dokimos policy``: write, show and check appraisal policies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import UsageError
from .render import console, print_json, read_file

if TYPE_CHECKING:
    from ..verifier.policy import Policy
    from ..verifier.policy_keys import Json

# Written out, not generated: this is the text that people edit.  A test loads it and compares it with the defaults.
_TEMPLATE = """\
# dokimos appraisal policy.  docs/policy.md describes every key and what its absence means; unknown keys are refused.
schema = 1
name = "strict"

[snp]
# Which code: launch measurements, 96 hex digits each (dokimos measure snp).  Without one everything is rejected.
measurements = {measurements}
# VMPL 0 is the most privileged level; a paravisor such as Azure's runs there and the workload above it.
vmpl = [0]

# Who signed: VCEKs, which belong to one chip.  "VLEK" would add keys that AMD lends to cloud providers.
signers = ["VCEK"]
# Milan is left out: its root seed can be extracted by software, so its reports can be forged (arXiv 2605.12990).
products = {products}
require_chip_bound = true
# chip_ids = ["..."]            # only these chips, by hwID of the VCEK; nothing else tells whose machine it is
# maximum_vek_age_days = 365
revocation = "require"          # a fresh, signed revocation list must come with the evidence
simulated_roots = {roots}            # SHA-256 of roots of simulated platforms: for tests only

# Firmware: the shipped, dated floors per family, model and stepping, and nothing that the host may still roll back.
tcb_floor = "shipped"
permit_provisional_firmware = false
# [snp.minimum_tcb] has floors of your own: bl, tee, snp, ucode, and fmc on Turin.

[snp.policy]
debug = "must-be-0"             # 1: the host reads the guest's memory
migrate_ma = "must-be-0"        # 1: a migration agent may move the guest elsewhere
cxl_allow = "must-be-0"
smt = "any"                     # "must-be-0" keeps other tenants' threads off your cores, where the host can do that
reserved = "fail"

[snp.platform_info]
alias_check_complete = "must-be-1"   # memory modules that lie about their size (BadRAM, AMD-SB-3015)
# "must-be-1" where your machines have it: the host cannot even read ciphertext.
ciphertext_hiding_dram_en = "any"

[binding]
role = "gateway"
require_nonce = true
maximum_lifetime_seconds = 3600
# image_sha256 = ["..."]
# runtime_config_sha256 = ["..."]
"""


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
@click.option("--measurement", "measurements", multiple=True, metavar="HEX", help="Accept this launch measurement.")
@click.option(
    "--product",
    "products",
    multiple=True,
    metavar="NAME",
    default=("Genoa", "Turin"),
    show_default=True,
    help="Accept this product.",
)
@click.option(
    "--simulated-root", "roots", multiple=True, metavar="HEX", help="Accept the simulated platform with this root."
)
def init(output: str | None, measurements: tuple[str, ...], products: tuple[str, ...], roots: tuple[str, ...]) -> None:
    """Write a strict policy with comments, to be edited."""
    from ..verifier.policy import load_policy  # noqa: PLC0415 - as above

    text = _TEMPLATE.format(
        measurements=json.dumps(measurements), products=json.dumps(products), roots=json.dumps(roots)
    )
    load_policy(text)
    if output is None:
        click.echo(text, nl=False)
        return
    try:
        with Path(output).open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as exc:
        raise UsageError(f"{output}: {exc.strerror}") from exc


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
