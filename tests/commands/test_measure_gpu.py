"""``dokimos measure gpu``: names the RIMs that a roll-out needs, and says which of them are missing or of no use."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import pytest
from click.testing import CliRunner

from dokimos import cli
from dokimos.attest.sim_gpu import BIOS, BLACKWELL, DRIVER, HOPPER, LS10, VBIOS
from dokimos.attest.sim_gpu_certificate import Window
from dokimos.attest.sim_gpu_pki import NvidiaPki
from dokimos.attest.sim_rim import SimRim
from dokimos.endorsements.rim_store import RimStore
from dokimos.errors import Error, ExitCode
from dokimos.measurements.gpu import Rollout, rollout_needs
from tests.generate.gpu_machines import PKI, ROOTS, file

AT = ["--at", "2026-07-01T12:00:00Z"]
HOPPERS = ["--chip", "GH100", "--driver", HOPPER.driver, "--vbios", HOPPER.vbios]
BOARD = ["--board", "1010_0200_882"]
DRIVER_RIM, VBIOS_RIM = (SimRim.of(HOPPER, source) for source in (DRIVER, VBIOS))
EXPIRED = Window(datetime(2024, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC))


class Ran(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    error: str

    @property
    def rims(self) -> list[dict]:
        """The RIMs of its document."""
        made = json.loads(self.out)
        assert list(made) == ["schema", "chip", "rims"]
        assert made["schema"] == "dokimos.measure.gpu/v1"
        return made["rims"]


def run(*arguments) -> Ran:
    """The command in this process."""
    ran = CliRunner().invoke(cli.root, ["measure", "gpu", *map(str, arguments)], env={"COLUMNS": "200"})
    if isinstance(ran.exception, Error):
        return Ran(ran.exception.exit_code, ran.stdout, str(ran.exception))
    assert ran.exception is None or isinstance(ran.exception, SystemExit), ran.exception
    return Ran(ran.exit_code, ran.stdout, ran.stderr)


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    path = tmp_path_factory.mktemp("policy") / "policy.toml"
    path.write_text(f'schema = 1\n[gpu]\nsimulated_roots = ["{ROOTS[0].hex()}", "{ROOTS[1].hex()}"]\n')
    return ["--policy", path]


def folder(path: Path, *files: dict[str, bytes]) -> Path:
    """A folder with these files."""
    path.mkdir(parents=True, exist_ok=True)
    for written in files:
        for name, data in written.items():
            (path / name).write_bytes(data)
    return path


def test_every_rim_of_a_roll_out_is_named_and_what_is_missing_is_worth_a_retry(policy, tmp_path):
    ran = run(*HOPPERS, *BOARD, "--json")
    assert ran.code == ExitCode.UNAVAILABLE
    assert [(rim["source"], rim["id"], rim["version"], rim["issues"]) for rim in ran.rims] == [
        ("driver", HOPPER.rim_ids[DRIVER], HOPPER.driver, []),
        ("vbios", HOPPER.rim_ids[VBIOS], HOPPER.vbios, []),
    ]
    at_hand = folder(tmp_path / "rims", file(DRIVER_RIM))
    ran = run(*HOPPERS, *BOARD, "--rim", at_hand, *policy, *AT, "--json")
    assert ran.code == ExitCode.UNAVAILABLE
    assert [[issue["verified"] for issue in rim["issues"]] for rim in ran.rims] == [[True], []]
    folder(at_hand, file(VBIOS_RIM))
    ran = run(*HOPPERS, *BOARD, "--rim", at_hand, *policy, *AT, "--json")
    assert ran.code == ExitCode.ACCEPTED
    (driver,), (vbios,) = (rim["issues"] for rim in ran.rims)
    assert {int(index) for index in driver["golden"]} == set(HOPPER.active[DRIVER])
    assert vbios["golden"]["12"] == [value.hex() for value in HOPPER.golden(12)]
    assert (driver["simulated"], driver["signer"]) == (True, "HCC RIM L4 Signer")
    assert driver["not_after"] == "2049-12-31T00:00:00Z"


@pytest.mark.parametrize(
    ("firmware", "options"),
    [
        (BLACKWELL, ["--chip", "GB100", "--driver", BLACKWELL.driver, "--board", "G525_0220_886"]),
        (LS10, ["--chip", "LS10"]),
    ],
)
def test_other_chips_have_ids_of_their_own(policy, tmp_path, firmware, options):
    made = folder(tmp_path, *(file(SimRim.of(firmware, source)) for source in firmware.active))
    ran = run(*options, "--vbios", firmware.vbios, "--rim", made, *policy, *AT, "--json")
    assert ran.code == ExitCode.ACCEPTED
    assert {rim["source"]: rim["id"] for rim in ran.rims} == firmware.rim_ids
    assert set(firmware.active) <= {DRIVER, VBIOS, BIOS}


def test_a_rim_is_genuine_only_under_a_root_that_is_named(tmp_path):
    made = folder(tmp_path, file(DRIVER_RIM), file(VBIOS_RIM))
    ran = run(*HOPPERS, *BOARD, "--rim", made, *AT, "--json")
    assert ran.code == ExitCode.UNAVAILABLE
    assert all("root" in issue["problem"] for rim in ran.rims for issue in rim["issues"])


def test_an_expired_rim_is_a_problem_and_another_issue_beside_it_solves_it(policy, tmp_path):
    old = replace(DRIVER_RIM, window=EXPIRED, issue=1)
    made = folder(tmp_path / "old", {f"{old.id}.xml": old.sign(PKI)}, file(VBIOS_RIM))
    options = [*HOPPERS, *BOARD, "--rim", made, *policy]
    ran = run(*options, *AT, "--json")
    assert ran.code == ExitCode.UNAVAILABLE
    (issue,) = ran.rims[0]["issues"]
    assert (issue["verified"], "expired" in issue["problem"]) == (False, True)
    assert run(*options, "--at", "2025-12-31").code == ExitCode.ACCEPTED
    shown = run(*options, *AT)
    assert (shown.code, "expired" in shown.out) == (ExitCode.UNAVAILABLE, True)
    new = folder(tmp_path / "new", file(DRIVER_RIM))
    ran = run(*options, "--rim", new, *AT, "--json")
    assert (ran.code, {issue["verified"] for issue in ran.rims[0]["issues"]}) == (ExitCode.ACCEPTED, {False, True})


@pytest.mark.parametrize(
    "wrong",
    [
        {"version": "580.95.06"},
        {"product": "GH200"},
        {"references": tuple(replace(one, active=False) for one in DRIVER_RIM.references)},
    ],
    ids=["version", "product", "empty"],
)
def test_a_genuine_rim_under_the_id_of_another_does_not_count(policy, tmp_path, wrong):
    made = folder(tmp_path, file(replace(DRIVER_RIM, **wrong), f"{DRIVER_RIM.id}.xml"), file(VBIOS_RIM))
    ran = run(*HOPPERS, *BOARD, "--rim", made, *policy, *AT, "--json")
    assert ran.code == ExitCode.UNAVAILABLE
    (issue,) = ran.rims[0]["issues"]
    assert not issue["verified"]
    assert re.match(r"it is of GH|no index of it is active", issue["problem"])


@pytest.mark.parametrize("name", [f"{VBIOS_RIM.id}.xml", "any.swidtag", "1010_0200_882_960074001A_PROD.swidtag"])
def test_without_a_board_no_id_can_be_told_but_what_is_at_hand_is_found(policy, tmp_path, name):
    made = folder(tmp_path, file(DRIVER_RIM), file(VBIOS_RIM, name))
    ran = run(*HOPPERS, "--rim", made, *policy, *AT, "--json")
    assert ran.code == ExitCode.ACCEPTED
    assert (ran.rims[1]["id"], ran.rims[1]["version"]) == (None, HOPPER.vbios)
    assert "(give --board to know it)" in run(*HOPPERS, "--rim", made, *policy, *AT).out
    ran = run(*HOPPERS[:4], "--vbios", "96.00.74.00.1B", "--rim", made, *policy, *AT, "--json")
    assert (ran.code, ran.rims[1]["issues"]) == (ExitCode.UNAVAILABLE, [])


def test_a_rim_of_another_board_does_not_stand_in_for_that_of_the_board(policy, tmp_path):
    made = folder(tmp_path, file(DRIVER_RIM), file(VBIOS_RIM))
    ran = run(*HOPPERS, "--board", "1010_0210_886", "--rim", made, *policy, *AT, "--json")
    assert ran.code == ExitCode.UNAVAILABLE
    assert (ran.rims[1]["id"], ran.rims[1]["issues"]) == ("NV_GPU_VBIOS_1010_0210_886_960074001A", [])


def test_several_vbioses_are_several_rims(policy, tmp_path):
    other = replace(HOPPER, vbios="96.00.9F.00.01")
    made = folder(tmp_path, file(DRIVER_RIM), file(VBIOS_RIM), file(SimRim.of(other, VBIOS)))
    ran = run(*HOPPERS, "--vbios", other.vbios, *BOARD, "--rim", made, *policy, *AT, "--json")
    assert (ran.code, [rim["version"] for rim in ran.rims]) == (
        ExitCode.ACCEPTED,
        [HOPPER.driver, HOPPER.vbios, other.vbios],
    )


def test_what_a_terminal_shows(policy, tmp_path):
    stranger = NvidiaPki(bytes(32))
    made = folder(tmp_path, file(DRIVER_RIM), {f"{VBIOS_RIM.id}.xml": VBIOS_RIM.sign(stranger)})
    shown = run(*HOPPERS, *BOARD, "--rim", made, *policy, *AT).out
    for part in ("driver 580.95.05", "NV_GPU_DRIVER_GH100_580.95.05", "simulated", "22", "2049-12-31", "root"):
        assert part in shown
    assert "missing" in run(*HOPPERS, *BOARD).out


@pytest.mark.parametrize(
    "wrong",
    [
        ["--chip", "gh100", "--driver", "580.95.05"],
        ["--chip", "A100", "--driver", "580.95.05"],
        ["--chip", "GH100"],
        ["--chip", "GH100", "--driver", "latest"],
        ["--chip", "GH100", "--driver", "580.95.05/../x"],
        ["--chip", "GH100", "--vbios", "96.00.74"],
        ["--chip", "GH100", "--vbios", "96.00.74.00.1A", "--board", "1010-0200-882"],
        ["--chip", "LS10", "--driver", "580.95.05"],
        ["--driver", "580.95.05"],
        [*HOPPERS, "--at", "soon"],
        [*HOPPERS, "--no-such-option"],
    ],
)
def test_what_no_roll_out_can_be_is_a_usage_error(wrong):
    assert run(*wrong).code == ExitCode.USAGE


def test_files_that_are_not_there_or_broken_end_with_their_own_exit_code(tmp_path):
    assert run(*HOPPERS, "--rim", tmp_path / "none").code == ExitCode.UNAVAILABLE
    assert run(*HOPPERS, "--policy", tmp_path / "none").code == ExitCode.UNAVAILABLE
    (tmp_path / "answer.json").write_text('{"id": "NV_GPU_DRIVER_GH100_580.95.05", "rim": "AAAA", "sha256": "00"}')
    assert run(*HOPPERS, "--rim", tmp_path / "answer.json").code == ExitCode.MALFORMED


def test_real_rims_are_found_by_their_names_and_expired_ones_do_not_count(vectors):
    found = vectors("nvidia/rim-vbios-hopper-24")
    folders = [
        "--rim",
        found.folder,
        "--rim",
        vectors("nvidia/rim-negative").path("NV_GPU_DRIVER_GH100_550.144.03.xml"),
    ]
    options = ["--chip", "GH100", "--driver", "550.144.03", "--vbios", "96.00.74.00.1A", *folders]
    early = run(*options, *BOARD, "--at", "2025-01-15", "--json")
    assert (early.code, [len(rim["issues"]) for rim in early.rims]) == (ExitCode.ACCEPTED, [1, 1])
    assert not early.rims[0]["issues"][0]["simulated"]
    assert run(*options, "--at", "2025-01-15").code == ExitCode.ACCEPTED
    late = run(*options, *BOARD, "--at", "2026-07-01", "--json")
    assert (late.code, [rim["issues"][0]["verified"] for rim in late.rims]) == (ExitCode.UNAVAILABLE, [True, False])


def test_what_is_needed_is_told_without_any_file():
    needs = rollout_needs(Rollout(chip="GB100", driver="580.95.05", vbios=("97.00.88.00.0F",)), RimStore())
    assert [(need.source, need.id) for need in needs] == [
        ("driver", "NV_GPU_CC_DRIVER_GB100_580.95.05"),
        ("vbios", None),
    ]


def test_a_real_process_prints_one_document():
    command = [sys.executable, "-m", "dokimos", "measure", "gpu", *HOPPERS, *BOARD, "--json"]
    ran = subprocess.run(command, capture_output=True, check=False, timeout=60)
    assert (ran.returncode, ran.stderr) == (ExitCode.UNAVAILABLE, b"")
    assert len(json.loads(ran.stdout)["rims"]) == 2
