"""``dokimos verify tdx`` on every real set, as a process: verdict, exit code and document as the manifest demands."""

from __future__ import annotations

import base64
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dokimos.endorsements.collateral_bundle import encode_collateral, parse_collateral
from dokimos.errors import Check, ExitCode

QUOTES = ("tdx_v4_uptodate_b0c0", "tdx_v5_td15_uptodate_90c0", "tdx_v4_debug_td_5080")
SIGNED = (
    "v4_azure_00806f050000.bin",
    "v4_gcp_00806f050000_2026.bin",
    "v4_b0c0.hex",
    "v4_dstack_ratls.bin",
)
FOLDERS = {"50806f000000": "collateral_2026_03_5080", "90c06f000000": "collateral_2026_03_90c0"}
AT = {"tdx_v4_uptodate_b0c0": "2025-06-20T00:00:00Z"}


def run(*arguments, data: bytes | None = None, **environment) -> subprocess.CompletedProcess[bytes]:
    """A real process, as a user starts it."""
    command = [sys.executable, "-m", "dokimos", "verify", "tdx", *map(str, arguments)]
    variables = os.environ | {"COLUMNS": "120", **environment}
    return subprocess.run(command, input=data, capture_output=True, check=False, timeout=60, env=variables)


def document(ran) -> dict:
    return json.loads(ran.stdout)


def failed(found) -> list[str]:
    return [check["id"] for check in found["checks"] if check["status"] == "fail"]


def cases(expected):
    yield {"id": "main", **{key: value for key, value in expected.items() if key != "cases"}}
    yield from ({"at": expected["at"], **case} for case in expected.get("cases", []))


@pytest.mark.parametrize("name", QUOTES)
def test_every_real_quote_gets_the_verdict_of_its_manifest(vectors, name, tmp_path):
    found = vectors(f"tdx/{name}")
    expected = found.manifest["expected"]
    mrtd, report_data = expected["quote"]["mr_td"], expected["quote"]["report_data"]
    registers = [part for n, value in enumerate(expected["quote"]["rtmr"]) for part in ("--rtmr", f"{n}={value}")]
    reasons = {"debug-enabled": ["tdx.td_attributes.debug"], "tcb-out-of-date": ["tdx.tcb.status"], "ok": []}
    for case in cases(expected):
        files = case.get("files", {"quote": "quote.bin", "collateral": "collateral.json"})
        given = found.folder / files["collateral"]
        options = ["--collateral", given, "--at", case["at"], "--mrtd", mrtd, "--report-data", report_data, *registers]
        if case.get("options", {}).get("allow_debug"):
            (tmp_path / "policy.toml").write_text('schema = 1\n[tdx.td_attributes]\ndebug = "any"\n')
            options += ["--policy", tmp_path / "policy.toml"]
        ran = run(found.path(files["quote"]), *options, "--json")
        made = document(ran)
        assert ran.stderr == b""
        assert made["verdict"] == f"{case['verdict']}ed", case["id"]
        assert ran.returncode == (0 if case["verdict"] == "accept" else ExitCode.REJECTED)
        if case["reason"].startswith("collateral-"):
            (check,) = failed(made)
            late = case["reason"] == "collateral-expired"
            assert check.endswith((".expired", ".stale") if late else ".not_yet_valid")
            assert made["evidence"]["endorsement"] is None or check.endswith("crl.stale")
            assert made["evidence"]["mrtd"] == mrtd
            continue
        assert failed(made) == reasons[case["reason"]]
        tcb = made["evidence"]["tcb"]
        assert tcb["status"] == case["tcb_status"]
        assert [advisory["id"] for advisory in tcb["advisories"]] == case.get("advisories", [])
        assert case.get("module_tcb_status", tcb["module"]) == tcb["module"]


@pytest.mark.parametrize("name", SIGNED)
def test_quotes_without_collateral_are_told_that_it_is_missing(vectors, name):
    found = vectors("tdx/sigonly_quotes")
    ran = run(found.path(name), "--at", "2026-07-01", "--json")
    assert ran.returncode == ExitCode.UNAVAILABLE
    assert (document(ran)["schema"], document(ran)["error"]) == ("dokimos.error/v1", "unavailable")
    assert b"--collateral" in ran.stderr


def test_quotes_that_no_level_fits_are_rejected_and_the_trace_says_why(vectors):
    found, other = vectors("tdx/sigonly_quotes"), vectors("tdx/tdx_v4_uptodate_b0c0")
    for case in found.manifest["expected"]["cases"]:
        if case["reason"] != "no-matching-tcb-level":
            continue
        quote, collateral = found.path(case["files"]["quote"]), other.path("collateral.json")
        options = [quote, "--collateral", collateral, "--at", case["at"], "--authentic-only"]
        ran = run(*options, "--json")
        made = document(ran)
        assert (ran.returncode, failed(made)) == (ExitCode.REJECTED, ["tdx.tcb.status"])
        missed = [entry for entry in made["evidence"]["tcb"]["trace"] if entry["failed"]]
        assert {(entry["failed"], entry["actual"], entry["required"]) for entry in missed} == {("sgx[7]", 3, 5)}
        text = run(*options).stdout.decode()
        assert "sgx[7] is 3, 5 needed" in text
        assert "NotSupported" in text


def test_an_sgx_quote_is_unsupported(vectors):
    found = vectors("tdx/sgx_v3_confswhardening_00a0")
    ran = run(found.path("quote.bin"), "--collateral", found.path("collateral.json"), "--json")
    assert ran.returncode == ExitCode.UNSUPPORTED
    assert document(ran)["check"] == "tdx.quote.tee_type"


def test_azures_live_evidence_is_accepted_with_the_binding_of_its_hcl_report(vectors, tmp_path):
    found = vectors("tdx/az_tdx_evidence")
    (case,) = [c for c in found.manifest["expected"]["cases"] if c["id"] == "live-evidence-with-collateral"]
    evidence = json.loads(found.bytes(case["files"]["evidence"]))
    evidence = evidence.get("evidence", evidence)
    for name in ("td_quote", "hcl_report"):
        text = evidence[name]
        (tmp_path / name).write_bytes(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    collateral = found.folder / case["files"]["collateral"]
    options = [tmp_path / "td_quote", "--collateral", collateral, "--at", case["at"], "--json"]
    mrtd = document(run(*options, "--authentic-only"))["evidence"]["mrtd"]
    ran = run(*options, "--mrtd", mrtd, "--hcl", tmp_path / "hcl_report")
    made = document(ran)
    assert (ran.returncode, failed(made), made["evidence"]["tcb"]["status"]) == (0, [], case["tcb_status"])
    (bound,) = [check for check in made["checks"] if check["id"] == "tdx.report_data"]
    assert bound["status"] == "pass"
    other = run(*options, "--mrtd", mrtd, "--hcl", found.path("hcl-report.bin"))
    assert failed(document(other)) == ["tdx.report_data"]
    both = run(*options, "--hcl", tmp_path / "hcl_report", "--report-data", "00" * 64)
    assert both.returncode == ExitCode.USAGE


@pytest.fixture
def good(vectors):
    found = vectors("tdx/tdx_v5_td15_uptodate_90c0")
    mrtd = found.manifest["expected"]["quote"]["mr_td"]
    return [found.path("quote.bin"), "--at", "2026-03-20T00:00:00Z", "--mrtd", mrtd]


def test_a_bundle_a_document_and_a_folder_do_alike_and_so_does_hex(vectors, good, tmp_path):
    found = vectors("tdx/tdx_v5_td15_uptodate_90c0")
    (tmp_path / "bundle").write_bytes(encode_collateral(parse_collateral(found.bytes("collateral.json"))))
    folder = vectors(f"tdx/{FOLDERS['90c06f000000']}").folder
    made = [run(*good, "--collateral", each, "--json") for each in (tmp_path / "bundle", folder, found.folder)]
    digits = found.bytes("quote.bin").hex()
    for text in (digits, f"0x{digits.upper()}\n"):
        made.append(run("-", *good[1:], "--collateral", tmp_path / "bundle", "--json", data=text.encode()))
    assert {ran.returncode for ran in made} == {0}
    assert len({ran.stdout for ran in made}) == 1


def test_what_a_terminal_shows(good, vectors):
    collateral = vectors("tdx/tdx_v5_td15_uptodate_90c0").path("collateral.json")
    ran = run(*good, "--collateral", collateral)
    text = ran.stdout.decode()
    assert ran.returncode == 0
    for part in ("tdx.quote.signature", "TCB, by Intel", "converged", "TDX module", "no advisories", "ACCEPTED"):
        assert part in text
    assert "taken as sgx and platform" in text
    assert "revocation checked" in text
    assert "did not run" in text
    assert "tdx.ppid.allowed" not in text
    assert "tdx.ppid.allowed" in run(*good, "--collateral", collateral, "-v").stdout.decode()


def test_without_a_reference_value_the_rejection_says_so(good, vectors):
    collateral = vectors("tdx/tdx_v5_td15_uptodate_90c0").path("collateral.json")
    ran = run(*good[:3], "--collateral", collateral, "--json")
    assert (ran.returncode, failed(document(ran))) == (ExitCode.REJECTED, ["tdx.reference_values"])
    assert run(*good[:3], "--collateral", collateral, "--authentic-only").returncode == 0


def test_the_document_has_every_check_once_or_more(good, vectors):
    collateral = vectors("tdx/tdx_v5_td15_uptodate_90c0").path("collateral.json")
    made = document(run(*good, "--collateral", collateral, "--json"))
    assert set(made) == {"schema", "verdict", "at", "simulated", "evidence", "checks"}
    ids = {check["id"] for check in made["checks"]}
    assert {str(check) for check in Check if check.startswith("tdx.")} - ids == {"tdx.ccel.format"}


def test_ear_claims_are_printed_and_exclude_json(good, vectors):
    collateral = vectors("tdx/tdx_v5_td15_uptodate_90c0").path("collateral.json")
    ear = document(run(*good, "--collateral", collateral, "--ear"))
    assert ear["submods"]["cpu0"]["ear_trustworthiness_vector"]["hardware"] == 2
    assert run(*good, "--collateral", collateral, "--ear", "--json").returncode == ExitCode.USAGE


def test_an_event_log_is_replayed_and_shown(vectors, tmp_path):
    found, other = vectors("tdx/ccel_direct_boot_live2"), vectors("tdx/tdx_v5_td15_uptodate_90c0")
    options = [other.path("quote.bin"), "--collateral", other.path("collateral.json"), "--at", "2026-03-20"]
    ran = run(*options, "--authentic-only", "--event-log", found.path("ccel.bin"), "--json")
    log = document(ran)["evidence"]["event_log"]
    assert log["replays"] == [False, False, False, True]
    assert [event["label"] for event in log["events"][-4:-2]] == ["kernel command line", "initrd"]
    assert {event["data"] for event in log["events"]} == {"matches", "digest-only"}
    shown = run(*options, "--authentic-only", "--event-log", found.path("ccel.bin"), "-v").stdout.decode()
    assert "Event log" in shown
    assert "kernel (direct boot)" in shown
    wrong = run(*options, "--mrtd", "11" * 48, "--event-log", found.path("ccel.bin"), "--json")
    assert failed(document(wrong)) == ["tdx.mrtd", "tdx.event_log.replay"]
    (tmp_path / "log").write_bytes(b"nothing")
    broken = run(*options, "--event-log", tmp_path / "log", "--json")
    assert (broken.returncode, document(broken)["check"]) == (ExitCode.MALFORMED, "tdx.ccel.format")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--rtmr", "4=00"], ExitCode.USAGE),
        (["--rtmr", "00" * 48], ExitCode.USAGE),
        (["--rtmr", "1=00"], ExitCode.MALFORMED),
        (["--mrtd", "zz"], ExitCode.MALFORMED),
        (["--report-data", "00"], ExitCode.MALFORMED),
        (["--at", "yesterday"], ExitCode.USAGE),
        (["--policy", "no-such-file"], ExitCode.UNAVAILABLE),
        (["--event-log", "no-such-file"], ExitCode.UNAVAILABLE),
        (["--fetch"], ExitCode.USAGE),
        (["--pccs", "http://127.0.0.1:9"], ExitCode.USAGE),
    ],
)
def test_wrong_options_end_with_their_own_exit_code(good, vectors, arguments, code):
    collateral = vectors("tdx/tdx_v5_td15_uptodate_90c0").path("collateral.json")
    assert run(*good, "--collateral", collateral, *arguments).returncode == code


def test_collateral_that_is_not_there_is_unavailable_and_broken_one_is_malformed(good, tmp_path):
    assert run(*good, "--collateral", tmp_path / "none").returncode == ExitCode.UNAVAILABLE
    assert run(*good, "--collateral", tmp_path).returncode == ExitCode.UNAVAILABLE
    (tmp_path / "broken").write_bytes(b"{}")
    ran = run(*good, "--collateral", tmp_path / "broken", "--json")
    assert (ran.returncode, document(ran)["check"]) == (ExitCode.MALFORMED, "tdx.collateral.format")
    (tmp_path / "quote").write_bytes(b"\4\0")
    ran = run(tmp_path / "quote", "--collateral", tmp_path / "broken", "--json")
    assert ran.returncode == ExitCode.MALFORMED


def _fake():
    path = Path(__file__).resolve().parent.parent / "endorsements/fake_pcs.py"
    spec = importlib.util.spec_from_file_location("fake_pcs", path)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def test_collateral_is_fetched_from_a_cache_and_verified(good, vectors):
    fake = _fake()
    stored = parse_collateral(vectors("tdx/tdx_v5_td15_uptodate_90c0").bytes("collateral.json"))
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
    service = fake.Service(bodies, chains)
    try:
        ran = run(*good, "--pccs", service.url, "--json")
        assert (ran.returncode, document(ran)["verdict"]) == (0, "accepted")
        # Without --at the time is now, long after what the service gives.
        late = run(good[0], *good[3:], "--pccs", service.url, "--json")
        assert late.returncode == ExitCode.REJECTED
    finally:
        service.close()
    assert run(*good, "--pccs", service.url).returncode == ExitCode.UNAVAILABLE


def test_a_simulated_quote_is_accepted_only_where_its_root_is_named(tmp_path):
    made = subprocess.run(
        [
            sys.executable,
            "-m",
            "dokimos",
            "sim",
            "tdx",
            "--state",
            tmp_path / "state",
            "-o",
            tmp_path,
            "--mrtd",
            "ab" * 48,
        ],
        capture_output=True,
        check=True,
        timeout=60,
    )
    root = made.stdout.decode().split("root ")[1].strip()
    options = [tmp_path / "quote.bin", "--collateral", tmp_path / "collateral.json", "--mrtd", "ab" * 48]
    refused = run(*options, "--json")
    assert (refused.returncode, failed(document(refused))) == (ExitCode.REJECTED, ["tdx.root.pinned"])
    (tmp_path / "policy.toml").write_text(f'schema = 1\n[tdx]\nsimulated_roots = ["{root}"]\n')
    ran = run(*options, "--policy", tmp_path / "policy.toml", "--json")
    assert (ran.returncode, document(ran)["simulated"]) == (0, True)
    assert b"SIMULATED" in run(*options, "--policy", tmp_path / "policy.toml").stdout
