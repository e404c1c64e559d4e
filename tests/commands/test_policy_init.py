"""What ``dokimos policy init`` writes beyond a processor, and that its templates keep up with the policy."""

from __future__ import annotations

import re

import pytest
from click.testing import CliRunner

from dokimos.commands import policy_templates
from dokimos.commands.policy import command
from dokimos.verifier.gpu_policy import GpuPolicy
from dokimos.verifier.policy import Policy, load_policy
from dokimos.verifier.policy_keys import entries


def run(*arguments: str):
    return CliRunner().invoke(command, arguments)


@pytest.mark.parametrize("tee", ["snp", "tdx"])
def test_init_demands_gpus_only_where_it_is_told_to(tee):
    assert load_policy(run("init", "--tee", tee).output).gpu == GpuPolicy()
    made = load_policy(run("init", "--tee", tee, "--gpus", "8", "--simulated-gpu-root", "cd" * 32).output)
    assert (made.gpu.gpus, made.gpu.simulated_roots) == (8, (b"\xcd" * 32,))
    assert made.gpu.require_fwid
    assert made.gpu.require_guest_state
    assert made.binding == load_policy(run("init", "--tee", tee).output).binding


@pytest.mark.parametrize("template", [policy_templates.SNP, policy_templates.TDX, policy_templates.GPU])
def test_the_template_has_no_key_that_was_renamed(template):
    known = {path.rsplit(".", 1)[-1] for path, _ in entries(Policy)}
    commented = re.findall(r"^#? ?([a-z_0-9]+) = ", template, re.MULTILINE)
    assert commented
    assert set(commented) <= known
