"""The vTPM's quotes of real Azure machines, SEV-SNP and TDX: what their manifests say, and each arrow cut once."""

from __future__ import annotations

import base64
import json
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dokimos.endorsements.collateral_bundle import parse_collateral
from dokimos.errors import Check, Error, MalformedEvidence, UnsupportedEvidence, VerificationError
from dokimos.evidence.azure_hcl import HclReportType, parse_hcl_report
from dokimos.evidence.snp import parse_report
from dokimos.evidence.tdx import parse_quote
from dokimos.evidence.tpm_quote import parse_tpm_quote
from dokimos.verifier.tdx import verify_tdx
from dokimos.verifier.trust import TdxTrust
from dokimos.verifier.vtpm import verify_vtpm


def _unpadded(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _tdx(found, name):
    """Quote, HCL report and the arguments of a vTPM quote, out of one file of evidence."""
    document = json.loads(found.bytes(name))
    evidence = document.get("evidence", document)
    tpm = evidence["tpm_quote"]
    parts = bytes.fromhex(tpm["message"]), bytes.fromhex(tpm["signature"]), [bytes.fromhex(p) for p in tpm["pcrs"]]
    return _unpadded(evidence["td_quote"]), parse_hcl_report(_unpadded(evidence["hcl_report"])), parts


def _snp(found):
    parts = found.bytes("tpm_quote.msg"), found.bytes("tpm_quote.sig")
    pcrs = [bytes.fromhex(value) for value in json.loads(found.bytes("pcrs_sha256.json"))]
    return parse_hcl_report(found.bytes("hcl_report.bin")), (*parts, pcrs)


@pytest.fixture(params=["evidence-v1", "live-evidence", "snp"])
def machine(request, vectors):
    """HCL report, vTPM quote, report data of the hardware's evidence, and what the manifest says of the quote."""
    if request.param == "snp":
        found = vectors("snp/ars_az_milan_v3")
        hcl, parts = _snp(found)
        expected = found.manifest["expected"]["azure"]["tpm_quote"]
        return hcl, parts, parse_report(found.bytes("report.bin")).report_data, expected
    found = vectors("tdx/az_tdx_evidence")
    case = next(case for case in found.manifest["expected"]["cases"] if case["id"] == request.param)
    quote, hcl, parts = _tdx(found, case["files"]["evidence"])
    assert hcl.type is HclReportType.TDX
    return hcl, parts, parse_quote(quote).body.report_data, case["tpm_quote"]


def test_a_real_quote_holds_as_its_manifest_says(machine):
    hcl, parts, report_data, expected = machine
    nonce = bytes.fromhex(expected["nonce"])
    if nonce:
        verified = verify_vtpm(*parts, hcl, report_data=report_data, nonce=nonce)
        assert len(verified.pcrs) == expected["pcr_count"] == 24
        checks = verified.checks
    else:  # this one was made without a nonce, so all of it holds but the freshness that a verifier asks for
        with pytest.raises(VerificationError) as caught:
            verify_vtpm(*parts, hcl, report_data=report_data, nonce=b"challenge")
        assert caught.value.failed.id is Check.VTPM_QUOTE_NONCE
        checks = caught.value.checks[:-1]
    assert [check.status for check in checks] == ["pass"] * (4 if nonce else 3)
    assert (expected["signature"], expected["pcr_digest"], expected["pcr_select"]) == ("pass", "pass", "ffffff")


@pytest.mark.parametrize(
    ("machine", "name", "case"),
    [
        ("evidence-v1", "tdx/az_tdx_evidence", "evidence-v1-wrong-nonce"),
        ("snp", "snp/ars_az_milan_v3", "nonce-demanded"),
    ],
    indirect=["machine"],
)
def test_another_nonce_is_refused_as_each_set_says(vectors, machine, name, case):
    hcl, parts, report_data, _ = machine
    (named,) = [found for found in vectors(name).manifest["expected"]["cases"] if found["id"] == case]
    assert (named["verdict"], named["reason"]) == ("reject", "nonce-mismatch")
    with pytest.raises(VerificationError) as caught:
        verify_vtpm(*parts, hcl, report_data=report_data, nonce=bytes.fromhex(named["options"]["nonce"]))
    assert caught.value.failed.id is Check.VTPM_QUOTE_NONCE


def test_an_empty_nonce_is_no_demand_that_a_quote_without_one_could_meet(machine):
    hcl, parts, report_data, _ = machine
    with pytest.raises(ValueError, match="nonce"):
        verify_vtpm(*parts, hcl, report_data=report_data, nonce=b"")


def test_each_arrow_that_is_cut_is_refused_by_its_check(machine):
    hcl, (message, signature, pcrs), report_data, expected = machine
    nonce = bytes.fromhex(expected["nonce"]) or b"challenge"
    bad = bytes((signature[0] ^ 1,)) + signature[1:]
    for check, arguments, data in (
        (Check.VTPM_HCL_BINDING, (message, signature, pcrs), bytes(64)),
        (Check.VTPM_QUOTE_SIGNATURE, (message, bad, pcrs), report_data),
        (Check.VTPM_QUOTE_SIGNATURE, (message[:-1] + bytes((message[-1] ^ 1,)), signature, pcrs), report_data),
        (Check.VTPM_QUOTE_PCR_DIGEST, (message, signature, [bytes(32), *pcrs[1:]]), report_data),
        (Check.VTPM_QUOTE_PCR_DIGEST, (message, signature, pcrs[:-1]), report_data),
        (Check.VTPM_QUOTE_PCR_DIGEST, (message, signature, [*pcrs, bytes(32)]), report_data),
    ):
        with pytest.raises(VerificationError) as caught:
            verify_vtpm(*arguments, hcl, report_data=data, nonce=nonce)
        assert caught.value.failed.id is check
    with pytest.raises(MalformedEvidence):
        verify_vtpm(message, signature, [b"short", *pcrs[1:]], hcl, report_data=report_data, nonce=nonce)


def test_live_evidence_with_collateral_has_the_tcb_status_of_its_manifest(vectors):
    found = vectors("tdx/az_tdx_evidence")
    case = next(case for case in found.manifest["expected"]["cases"] if case["id"] == "live-evidence-with-collateral")
    quote, _, _ = _tdx(found, case["files"]["evidence"])
    collateral = parse_collateral(found.bytes(case["files"]["collateral"]))
    verified = verify_tdx(quote, collateral, trust=TdxTrust(), at=datetime.fromisoformat(case["at"]))
    assert str(verified.verdict.converged) == case["tcb_status"]
    assert [advisory.id for advisory in verified.verdict.advisories] == case["advisories"]


def test_every_truncation_of_a_quote_is_malformed(vectors):
    message = vectors("snp/ars_az_milan_v3").bytes("tpm_quote.msg")
    for size in range(len(message)):
        with pytest.raises((MalformedEvidence, UnsupportedEvidence)):
            parse_tpm_quote(message[:size])
    with pytest.raises(MalformedEvidence):
        parse_tpm_quote(message + b"\0")
    other = message[:4] + b"\x80\x17" + message[6:]
    with pytest.raises(UnsupportedEvidence, match="0x8017"):
        parse_tpm_quote(other)


@given(st.binary(max_size=300), st.booleans())
def test_any_bytes_are_a_quote_or_one_of_our_errors(data, magic):
    try:
        parse_tpm_quote(b"\xff\x54\x43\x47\x80\x18" + data if magic else data)
    except Error:
        return


@pytest.mark.parametrize(
    "runtime", [b"", b"{}", b"[]", b'{"keys": 1}', b'{"keys": [{"kid": "HCLAkPub", "kty": "RSA"}]}']
)
def test_runtime_data_without_the_key_is_malformed(vectors, runtime):
    from dataclasses import replace  # noqa: PLC0415

    hcl, _ = _snp(vectors("snp/ars_az_milan_v3"))
    with pytest.raises(MalformedEvidence, match="HCLAkPub"):
        replace(hcl, runtime_data=runtime).attestation_key()
