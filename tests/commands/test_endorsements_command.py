"""``dokimos endorsements`` as a user starts it, against a provisioning service on loopback."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from dokimos.endorsements.collateral_bundle import encode_collateral, parse_collateral
from dokimos.errors import ExitCode


def _load_fake():
    path = Path(__file__).resolve().parent.parent / "endorsements/fake_pcs.py"
    spec = importlib.util.spec_from_file_location("fake_pcs", path)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


fake = _load_fake()


def run(*arguments, **options):
    command = [sys.executable, "-m", "dokimos", "endorsements", *map(str, arguments)]
    environment = os.environ | {"COLUMNS": "100"}
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=environment, **options)


def inspect(*arguments, **options):
    ran = run("inspect", *arguments, "--json", **options)
    assert ran.stderr == ""
    return ran.returncode, json.loads(ran.stdout)


@pytest.fixture
def service(vectors):
    """Serves the collateral of the real quote."""
    found = vectors("tdx/tdx_v5_td15_uptodate_90c0")
    stored = parse_collateral(found.bytes("collateral.json"))
    bodies = {
        fake.TCB_INFO: stored.tcb_info,
        fake.QE_IDENTITY: stored.qe_identity,
        fake.PCK_CRL: stored.pck_crl,
        fake.ROOT_CRL: stored.root_crl,
    }
    chains = {
        path: fake.quote_chain(chain)
        for path, chain in (
            (fake.TCB_INFO, stored.tcb_info_chain),
            (fake.QE_IDENTITY, stored.qe_identity_chain),
            (fake.PCK_CRL, stored.pck_crl_chain),
        )
    }
    running = fake.Service(bodies, chains)
    yield running
    running.close()


@pytest.fixture
def quote(vectors):
    return vectors("tdx/tdx_v5_td15_uptodate_90c0").path("quote.bin")


def test_collateral_of_a_quote_is_fetched_into_one_file(service, quote, tmp_path):
    output = tmp_path / "collateral.json"
    output.write_text("an old one")
    ran = run("fetch", "tdx", quote, "-o", output, "--pccs", f"{service.url}/sgx/certification/v4/", "--json")
    assert (ran.returncode, ran.stderr) == (0, "")
    report = json.loads(ran.stdout)
    assert report["verified"] is False
    assert [item["item"] for item in report["items"]] == ["tcb_info", "qe_identity", "pck_crl", "root_crl"]
    assert all(item["url"].startswith(service.url) and item["fetched"] for item in report["items"])
    collateral = parse_collateral(output.read_bytes())
    assert collateral.tcb_info == service.bodies[fake.TCB_INFO]
    assert [path.name for path in tmp_path.iterdir()] == ["collateral.json"]
    assert output.stat().st_mode & 0o777 == 0o644


def test_the_table_says_that_nothing_is_verified(service, quote, tmp_path):
    ran = run("fetch", "tdx", quote, "-o", tmp_path / "b", "--pccs", service.url)
    assert ran.returncode == 0
    assert "NOT VERIFIED HERE" in ran.stdout
    ran = run("inspect", tmp_path / "b", "--at", "2026-03-20")
    assert ran.returncode == 0
    for text in ("NOT VERIFIED HERE", "90c06f000000", "evaluation data number 18", "Intel SGX TCB Signing", "current"):
        assert text in " ".join(ran.stdout.replace("│", " ").split()), text


def test_options_reach_the_service_and_its_cache(service, quote, tmp_path):
    options = ["--pccs", service.url, "--cache", tmp_path / "cache"]
    first = run("fetch", "tdx", quote, "-o", tmp_path / "a", *options, "--update", "early")
    assert first.returncode == 0
    assert (fake.QE_IDENTITY, {"update": "early"}) in service.asked
    exact = run("fetch", "tdx", quote, "-o", tmp_path / "b", *options, "--evaluation-data-number", 18)
    assert exact.returncode == 0
    assert (fake.QE_IDENTITY, {"tcbEvaluationDataNumber": "18"}) in service.asked
    # Its nextUpdate lies in the past, and so nothing was taken from the cache.
    assert len(service.asked) >= 6


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--update", "early", "--evaluation-data-number", "18"], ExitCode.USAGE, "exclude"),
        (["--update", "late"], ExitCode.USAGE, "late"),
        (["--evaluation-data-number", "-1"], ExitCode.USAGE, "-1"),
        (["--evaluation-data-number", "19"], ExitCode.UNAVAILABLE, "evaluation data number 18"),
        (["--pccs", "ftp://x"], ExitCode.USAGE, "provisioning service"),
        (["-o", "/nowhere/b"], ExitCode.USAGE, "/nowhere/b"),
    ],
)
def test_a_wrong_request_is_named(service, quote, tmp_path, options, code, message):
    defaults = ["--pccs", service.url, "-o", tmp_path / "b"]
    ran = run("fetch", "tdx", quote, *defaults, *options)
    assert ran.returncode == code
    assert message in ran.stderr
    assert ran.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_a_service_that_does_not_know_the_platform_is_exit_40_and_the_old_file_stays(service, quote, tmp_path):
    (tmp_path / "b").write_text("old")
    service.faults[fake.PCK_CRL] = [lambda handler: fake.answer(handler, b"", status=404)]
    ran = run("fetch", "tdx", quote, "-o", tmp_path / "b", "--pccs", service.url)
    assert ran.returncode == ExitCode.UNAVAILABLE
    assert "404" in ran.stderr
    assert (tmp_path / "b").read_text() == "old"


def test_what_is_no_quote_is_malformed_and_nothing_is_asked(service, tmp_path):
    (tmp_path / "q").write_bytes(b"\x04\x00" + bytes(100))
    ran = run("fetch", "tdx", tmp_path / "q", "-o", tmp_path / "b", "--pccs", service.url)
    assert ran.returncode in (ExitCode.MALFORMED, ExitCode.UNSUPPORTED)
    assert service.asked == []


def test_an_sgx_quote_is_unsupported(service, vectors, tmp_path):
    sgx = vectors("tdx/sgx_v3_confswhardening_00a0").path("quote.bin")
    ran = run("fetch", "tdx", sgx, "-o", tmp_path / "b", "--pccs", service.url)
    assert ran.returncode == ExitCode.UNSUPPORTED
    assert service.asked == []


@pytest.mark.parametrize(
    ("at", "states"),
    [
        ("2026-03-20", ["current"] * 4),
        ("2026-03-10", ["not yet valid"] * 3 + ["current"]),
        ("2026-04-17", ["expired"] * 3 + ["current"]),
        ("2027-04-17", ["expired"] * 4),
    ],
)
def test_each_item_has_a_state_at_a_time(vectors, at, states):
    found = vectors("tdx/tdx_v5_td15_uptodate_90c0")
    for path in (found.folder, found.path("collateral.json")):
        code, report = inspect(path, "--at", at)
        assert code == 0
        assert [item["state"] for item in report["items"]] == states
        assert report["at"] == f"{at}T00:00:00Z"


def test_what_each_item_says_is_shown(vectors):
    code, report = inspect(vectors("tdx/collateral_2026_03_5080").folder, "--at", "2026-03-20")
    items = {item["item"]: item for item in report["items"]}
    assert code == 0
    assert report["verified"] is False
    tcb_info = items["tcb_info"]
    assert (tcb_info["id"], tcb_info["version"], tcb_info["fmspc"]) == ("TDX", 3, "50806f000000")
    assert tcb_info["evaluation_data_number"] == items["qe_identity"]["evaluation_data_number"] == 18
    assert tcb_info["next_update"] == "2026-04-15T22:21:30Z"
    assert [signer["subject_cn"] for signer in tcb_info["issuer_chain"]] == [
        "Intel SGX TCB Signing",
        "Intel SGX Root CA",
    ]
    assert items["pck_crl"]["revoked"] == 57
    assert items["root_crl"]["issuer"] == "Intel SGX Root CA"


def test_an_unreadable_item_is_shown_as_such_and_is_exit_30(tmp_path):
    collateral = replace(fake.seeds.COLLATERAL, root_crl=fake.crl(), pck_chain=b"\x1b[31mred")
    (tmp_path / "b").write_bytes(encode_collateral(collateral))
    code, report = inspect(tmp_path / "b", "--at", "2026-03-20")
    assert code == ExitCode.MALFORMED
    states = {item["item"]: item["state"] for item in report["items"]}
    # Their chains hold no certificates, and the list of the PCK CA is none.
    assert states["tcb_info"] == states["pck_crl"] == states["pck_chain"] == "unreadable"
    assert states["root_crl"] == "current"
    ran = run("inspect", tmp_path / "b", "--at", "2026-03-20")
    assert ran.returncode == ExitCode.MALFORMED
    assert "unreadable" in ran.stdout
    assert "\x1b" not in ran.stdout


def test_a_bundle_is_read_from_standard_input(tmp_path):
    collateral = replace(fake.seeds.COLLATERAL, root_crl=fake.crl())
    (tmp_path / "b").write_bytes(encode_collateral(collateral))
    with (tmp_path / "b").open("rb") as file:
        _, report = inspect("-", stdin=file)
    assert len(report["items"]) == 4


def test_a_folder_that_lacks_an_item_is_exit_40(tmp_path):
    ran = run("inspect", tmp_path)
    assert ran.returncode == ExitCode.UNAVAILABLE
    assert "tcb_info_response.json" in ran.stderr


@pytest.mark.parametrize("content", ["", "{}", "[" * 10_000, '{"schema":"dokimos.tdx-collateral/v2"}'])
def test_a_file_of_another_kind_is_exit_30(tmp_path, content):
    (tmp_path / "b").write_text(content)
    ran = run("inspect", tmp_path / "b")
    assert ran.returncode == ExitCode.MALFORMED
    assert ran.stdout == ""


def test_a_file_that_is_not_there_is_exit_40(tmp_path):
    assert run("inspect", tmp_path / "missing").returncode == ExitCode.UNAVAILABLE
