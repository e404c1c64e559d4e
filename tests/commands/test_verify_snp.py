"""``dokimos verify snp`` on every real set: verdict, exit code and document are what the manifest demands."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path

import pytest

from dokimos.errors import Check, ExitCode
from dokimos.evidence import cert_table
from dokimos.evidence.snp import FIELDS

_REASONS = {
    "certificate-expired": "snp.vek.validity",
    "certificate-not-yet-valid": "snp.vek.validity",
    "debug-enabled": "snp.policy.debug",
}


def _run(*arguments, data: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    """A real process, as a user starts it."""
    command = [sys.executable, "-m", "dokimos", "verify", "snp", *map(str, arguments)]
    return subprocess.run(command, input=data, capture_output=True, check=False, timeout=60)


def _document(ran: subprocess.CompletedProcess[bytes]) -> dict:
    return json.loads(ran.stdout)


def _failed(document: dict) -> list[str]:
    return [check["id"] for check in document["checks"] if check["status"] == "fail"]


def _options(case) -> list[str]:
    return ["--allow-vlek"] if case.get("signing_key") == "VLEK" else []


def test_every_real_report_gets_the_verdict_of_its_manifest(vectors, snp_set, tmp_path):
    found = vectors(f"snp/{snp_set}")
    expected = found.manifest["expected"]
    if not {"report.bin", "vek.der"} <= set(found.names):
        return
    options = [found.path("report.bin"), "--vek", found.path("vek.der"), "--json", *_options(expected)]
    if expected["report_version"] == 2:
        options += ["--product", expected["product"]]
    options += ["--measurement", expected["measurement"], "--report-data", expected["report_data"]]
    for case in [expected, *expected.get("cases", [])]:
        if case["reason"] == "nonce-mismatch":  # a question to the vTPM's quote, which is later work
            continue
        extra = ["--at", case.get("at", expected["at"])]
        if case.get("options", {}).get("allow_debug"):
            (tmp_path / "policy.toml").write_text('schema = 1\n[snp.policy]\ndebug = "any"\n')
            extra += ["--policy", tmp_path / "policy.toml"]
        ran = _run(*options, *extra)
        document = _document(ran)
        assert document["schema"] == "dokimos.result/v1"
        assert document["simulated"] is False
        if case["verdict"] == "accept":
            assert (ran.returncode, document["verdict"], _failed(document)) == (0, "accepted", [])
        else:
            assert (ran.returncode, document["verdict"]) == (ExitCode.REJECTED, "rejected")
            assert _failed(document) == [_REASONS[case["reason"]]]
        assert document["evidence"]["measurement"] == expected["measurement"]


def test_azure_hcl_reports_are_taken_whole_and_their_binding_is_checked(vectors, snp_set, tmp_path):
    found = vectors(f"snp/{snp_set}")
    if "hcl_report.bin" not in found.names:
        return
    raw = found.bytes("hcl_report.bin")
    expected = found.manifest["expected"]
    options = [
        "--vek",
        found.path("vek.der"),
        "--at",
        expected["at"],
        "--measurement",
        expected["measurement"],
        "--json",
    ]
    assert _run(found.path("hcl_report.bin"), *options).returncode == 0
    changed = bytearray(raw)
    changed[0x4D4 + 5] ^= 1  # in the runtime data, which no signature covers but through REPORT_DATA
    (tmp_path / "hcl.bin").write_bytes(changed)
    ran = _run(tmp_path / "hcl.bin", *options)
    assert (ran.returncode, _failed(_document(ran))) == (ExitCode.REJECTED, ["snp.report_data"])


@pytest.fixture
def genoa(vectors):
    found = vectors("snp/ms_genoa")
    return [found.path("report.bin"), "--vek", found.path("vek.der"), "--at", "2026-07-01T00:00:00Z"]


def test_a_genuine_report_without_reference_value_is_rejected_and_says_so(genoa):
    ran = _run(*genoa, "--json")
    document = _document(ran)
    assert (ran.returncode, _failed(document)) == (ExitCode.REJECTED, ["snp.reference_values"])
    message = next(check["message"] for check in document["checks"] if check["status"] == "fail")
    assert "no reference value" in message
    assert _run(*genoa, "--authentic-only").returncode == 0


def test_the_document_has_every_field_of_the_report_and_every_check_once_or_more(genoa):
    document = _document(_run(*genoa, "--authentic-only", "--json"))
    assert set(document) == {"schema", "verdict", "at", "simulated", "evidence", "checks"}
    assert document["at"] == "2026-07-01T00:00:00Z"
    renamed = {"fms", "current_version", "committed_version", "signature_r", "signature_s"}
    assert set(FIELDS) - renamed <= set(document["evidence"])
    ids = {check["id"] for check in document["checks"]}
    assert {str(check) for check in Check if check.startswith("snp.")} == ids
    assert all(
        set(check) == {"id", "status", "expected", "actual", "reference", "message"} for check in document["checks"]
    )


def test_without_the_leaf_the_exit_code_says_that_material_is_missing(vectors, genoa):
    found = vectors("snp/tinfoilpy_genoa")
    ran = _run(found.path("report.bin"), "--at", "2026-07-01", "--json")
    assert ran.returncode == ExitCode.UNAVAILABLE
    assert _document(ran)["schema"] == "dokimos.error/v1"
    assert b"--vek" in ran.stderr
    assert _run(genoa[0], "--vek", "no-such-file").returncode == ExitCode.UNAVAILABLE


def test_pem_files_and_certificate_tables_do_as_well_as_der(vectors, tmp_path):
    found, roots = vectors("snp/ms_genoa"), vectors("snp/amd_roots")
    leaf = found.bytes("vek.der")

    def pem(data: bytes) -> bytes:
        return b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(data) + b"-----END CERTIFICATE-----\n"

    (tmp_path / "chain.pem").write_bytes(
        pem(leaf) + pem(roots.bytes("genoa_ask.der")) + pem(roots.bytes("genoa_ark.der"))
    )
    entries = {cert_table.VCEK: leaf, cert_table.ASK: pem(roots.bytes("genoa_ask.der"))}
    (tmp_path / "table").write_bytes(cert_table.encode_cert_table(entries))
    report = found.path("report.bin")
    common = ["--at", "2026-07-01", "--authentic-only", "--json"]
    assert _run(report, "--vek", tmp_path / "chain.pem", *common).returncode == 0
    assert _run(report, "--cert-table", tmp_path / "table", *common).returncode == 0
    assert _run("-", "--cert-table", tmp_path / "table", *common, data=found.bytes("report.bin")).returncode == 0


def test_a_stale_list_on_the_command_line_rejects(vectors):
    found = vectors("snp/coco_milan_v2")
    crl = vectors("snp/amd_crls").path("milan_vcek_crl.der")
    options = [found.path("report.bin"), "--vek", found.path("vek.der"), "--crl", crl, "--authentic-only", "--json"]
    fresh = _run(*options, "--at", "2025-06-01T00:00:00Z")
    assert fresh.returncode == 0
    assert _document(fresh)["evidence"]["endorsement"]["revocation"] == "checked"
    stale = _run(*options, "--at", "2026-07-01T00:00:00Z")
    assert (stale.returncode, _failed(_document(stale))) == (ExitCode.REJECTED, ["snp.crl.fresh"])
    assert _document(stale)["evidence"]["endorsement"] == {"revocation": "stale"}
    assert "revocation stale" in _run(*options[:-1], "--at", "2026-07-01T00:00:00Z").stdout.decode()
    assert "revocation not checked" in _run(*options[:3], *options[-2:-1], "--at", "2026-07-01").stdout.decode()


def test_a_ca_that_is_not_pinned_rejects(vectors, genoa, tmp_path):
    ask = bytearray(vectors("snp/amd_roots").bytes("genoa_ask.der"))
    ask[-1] ^= 1
    (tmp_path / "ask.der").write_bytes(ask)
    ran = _run(*genoa, "--ca", tmp_path / "ask.der", "--authentic-only", "--json")
    assert (ran.returncode, _failed(_document(ran))) == (ExitCode.REJECTED, ["snp.ca.pinned"])


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", ExitCode.MALFORMED),
        (bytes(1183), ExitCode.MALFORMED),
        (b"\x09" + bytes(1183), ExitCode.UNSUPPORTED),
        (b"HCLA", ExitCode.MALFORMED),
        (bytes(2 << 20), ExitCode.MALFORMED),
    ],
)
def test_bad_input_is_an_ordinary_result_with_its_exit_code(genoa, tmp_path, content, code):
    Path(tmp_path / "report").write_bytes(content)
    ran = _run(tmp_path / "report", *genoa[1:], "--json")
    assert ran.returncode == code
    assert _document(ran)["error"] == code.name.lower()
    assert b"Traceback" not in ran.stderr


@pytest.mark.parametrize(
    "options",
    [["--at", "yesterday"], ["--product", "Rome"], ["--json", "--ear"], ["--policy", "POLICY"], ["--no-such-option"]],
)
def test_misuse_exits_with_2(genoa, tmp_path, options):
    (tmp_path / "policy.toml").write_text("schema = 1\nunknown = 1\n")
    options = [tmp_path / "policy.toml" if option == "POLICY" else option for option in options]
    ran = _run(*genoa, *options)
    assert ran.returncode == ExitCode.USAGE
    assert b"Traceback" not in ran.stderr


def test_the_terminal_form_names_failed_checks_and_verdict(genoa):
    ran = _run(*genoa)
    text = ran.stdout.decode()
    assert "REJECTED" in text
    assert "snp.reference_values" in text
    assert "SIMULATED" not in text


def test_ear_is_one_document_of_the_draft(genoa):
    ran = _run(*genoa, "--authentic-only", "--ear")
    document = json.loads(ran.stdout)
    assert document["eat_profile"] == "tag:ietf.org,2026:rats/ear#04"
