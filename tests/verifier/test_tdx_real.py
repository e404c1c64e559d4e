"""Real TDX evidence: every set gives what its manifest says, at the edges of its time, and no flipped bit passes."""

from __future__ import annotations

import base64
import json
import runpy
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dokimos.endorsements.collateral_bundle import collateral_from_files, parse_collateral
from dokimos.errors import Check, Error, MaterialUnavailable, Status, UnsupportedEvidence, VerificationError
from dokimos.evidence.tdx import parse_quote
from dokimos.verifier import tdx
from dokimos.verifier.appraise_tdx import appraise_tdx
from dokimos.verifier.checklist import Checklist
from dokimos.verifier.module_versions import BY_MRSEAM, version_of
from dokimos.verifier.policy import Policy
from dokimos.verifier.policy_rules import BitRule
from dokimos.verifier.tdx import pck_certificates, verify_pck, verify_tdx
from dokimos.verifier.tdx_collateral import verify_collateral
from dokimos.verifier.tdx_policy import TdAttributeRules
from dokimos.verifier.trust import TdxTrust

TRUST = TdxTrust()
QUOTES = ("tdx_v4_uptodate_b0c0", "tdx_v5_td15_uptodate_90c0", "tdx_v4_debug_td_5080")
COLLATERAL = ("collateral_2026_03_5080", "collateral_2026_03_90c0")
EXPIRED = {Check.TDX_TCB_INFO_EXPIRED, Check.TDX_QE_IDENTITY_EXPIRED, Check.TDX_ROOT_CRL_STALE, Check.TDX_PCK_CRL_STALE}
EARLY = {
    Check.TDX_TCB_INFO_NOT_YET_VALID,
    Check.TDX_QE_IDENTITY_NOT_YET_VALID,
    Check.TDX_ROOT_CRL_NOT_YET_VALID,
    Check.TDX_PCK_CRL_NOT_YET_VALID,
}
REASONS = {
    "collateral-expired": EXPIRED,
    "collateral-not-yet-valid": EARLY,
    "debug-enabled": {Check.TDX_TD_ATTRIBUTES_DEBUG},
}
REASONS |= {"tcb-out-of-date": {Check.TDX_TCB_STATUS}, "no-matching-tcb-level": {Check.TDX_TCB_STATUS}}
SECOND = timedelta(seconds=1)


def time(text):
    return datetime.fromisoformat(text)


def cases(expected):
    """The main case, where there is one, and the others; each with its own time."""
    if expected["verdict"] != "per-case":
        yield {"id": "main", **{key: value for key, value in expected.items() if key != "cases"}}
    yield from ({"at": expected.get("at"), **case} for case in expected.get("cases", []))


def failed(error):
    return error.value.failed.id


def appraised(quote, collateral, at, *, debug=False):
    """The result with what the manifests take for granted: nothing is pinned but what the quote says itself."""
    verified = verify_tdx(quote, collateral, trust=TRUST, at=at)
    report = verified.quote.body
    policy = Policy(schema=1).with_tdx(mrtd=(report.mrtd,), rtmr3=(report.rtmrs[3],))
    if debug:
        policy = policy.with_tdx(td_attributes=TdAttributeRules(debug=BitRule.ANY))
    return verified, appraise_tdx(verified, policy)


@pytest.mark.parametrize("name", QUOTES)
def test_every_quote_with_collateral_gives_what_its_manifest_says(vectors, name):
    found = vectors(f"tdx/{name}")
    expected = found.manifest["expected"]
    for case in cases(expected):
        files = case.get("files", {"quote": "quote.bin", "collateral": "collateral.json"})
        quote, collateral = found.bytes(files["quote"]), parse_collateral(found.bytes(files["collateral"]))
        at, debug = time(case["at"]), case.get("options", {}).get("allow_debug", False)
        if case["reason"].startswith("collateral-"):
            with pytest.raises(VerificationError) as caught:
                verify_tdx(quote, collateral, trust=TRUST, at=at)
            assert failed(caught) in REASONS[case["reason"]], case["id"]
            continue
        verified, result = appraised(quote, collateral, at, debug=debug)
        assert str(result.verdict) == f"{case['verdict']}ed", case["id"]
        assert {check.id for check in result.failures} == REASONS.get(case["reason"], set()), case["id"]
        verdict = verified.verdict
        assert verdict.converged == case["tcb_status"]
        assert [advisory.id for advisory in verdict.advisories] == case.get("advisories", [])
        assert case.get("platform_tcb_status", verdict.platform) == verdict.platform
        assert case.get("module_tcb_status", verdict.module) == verdict.module
        if "tcb_date" in case:
            assert verdict.date() == time(case["tcb_date"])
        if "tcb_evaluation_data_number" in case:
            assert verified.collateral.tcb_info.evaluation_data_number == case["tcb_evaluation_data_number"]


@pytest.mark.parametrize("name", QUOTES)
def test_the_evidence_of_a_real_quote_is_what_its_manifest_says(vectors, name):
    found = vectors(f"tdx/{name}")
    expected = found.manifest["expected"]
    collateral = parse_collateral(found.bytes("collateral.json"))
    _, result = appraised(found.bytes("quote.bin"), collateral, time(expected["at"]))
    said, evidence = expected["quote"], result.evidence
    renamed = {"mr_seam": "mrseam", "mr_signer_seam": "mrsignerseam", "mr_td": "mrtd", "mr_config_id": "mrconfigid"}
    renamed |= {"mr_owner": "mrowner", "mr_owner_config": "mrownerconfig", "tee_tcb_svn_2": "tee_tcb_svn2"}
    renamed |= {"mr_service_td": "mr_servicetd", "quote_version": "version"}
    for key in ("tee_tcb_svn", "report_data", "trailing_bytes", *renamed):
        if key in said:
            assert evidence[renamed.get(key, key)] == said[key], key
    assert [evidence[f"rtmr{n}"] for n in range(4)] == said["rtmr"]
    assert evidence["td_attributes"]["debug"] is said["debug"]
    assert evidence["td_attributes"]["raw"] == "0x" + bytes.fromhex(said["td_attributes"])[::-1].hex()
    assert evidence["endorsement"]["fmspc"] == said["fmspc"]
    assert time(evidence["endorsement"]["not_after"]) == time(said["pck_not_after"])
    names = {"pck_chain": Check.TDX_PCK_SIGNATURE, "qe_report_signature": Check.TDX_QE_REPORT_SIGNATURE}
    names |= {"qe_report_binding": Check.TDX_QE_REPORT_BINDING, "quote_signature": Check.TDX_QUOTE_SIGNATURE}
    passed = {check.id for check in result.checks if check.status is Status.PASS}
    assert {names[key] for key, value in expected["checks"].items() if value == "pass"} <= passed


@pytest.mark.parametrize("name", QUOTES)
def test_the_window_of_real_collateral_ends_to_the_second(vectors, name):
    found = vectors(f"tdx/{name}")
    window = found.manifest["expected"]["valid_window"]
    quote, collateral = found.bytes("quote.bin"), parse_collateral(found.bytes("collateral.json"))
    first, last = time(window["not_before"]), time(window["not_after"])
    kept = verify_tdx(quote, collateral, trust=TRUST, at=first).collateral
    assert verify_tdx(quote, collateral, trust=TRUST, at=last).verdict.converged == "UpToDate"
    for given in (collateral, kept):
        for at, reasons in ((first - SECOND, EARLY), (last + SECOND, EXPIRED)):
            with pytest.raises(VerificationError) as caught:
                verify_tdx(quote, given, trust=TRUST, at=at)
            assert failed(caught) in reasons


@pytest.mark.parametrize("name", COLLATERAL)
@pytest.mark.parametrize("form", ["document", "folder"])
def test_real_collateral_by_itself_gives_what_its_manifest_says(vectors, name, form):
    found = vectors(f"tdx/{name}")
    expected = found.manifest["expected"]
    ca = pck_certificates(parse_quote(vectors("tdx/tdx_v5_td15_uptodate_90c0").bytes("quote.bin")), None)[1]
    collateral = parse_collateral(found.bytes("collateral.json"))
    if form == "folder":  # without the chain of the PCK CRL, which a quote brings as well
        collateral = collateral_from_files({n: found.bytes(n) for n in found.names if n != "collateral.json"})
    window = [time(expected["valid_window"][key]) for key in ("not_before", "not_after")]
    for case in cases(expected):
        at = time(case["at"])
        if case["verdict"] == "reject":
            with pytest.raises(VerificationError) as caught:
                verify_collateral(collateral, trust=TRUST, at=at, before=Checklist(), pck_ca=ca)
            assert failed(caught) in REASONS[f"collateral-{case['reason'].removeprefix('collateral-')}"]
            continue
        verified = verify_collateral(collateral, trust=TRUST, at=at, before=Checklist(), pck_ca=ca)
        assert verified.tcb_info.fmspc.hex() == expected["fmspc"]
        assert verified.tcb_info.evaluation_data_number == expected["tcb_evaluation_data_number"]
        assert len(verified.pck_crl.revoked) == expected["pck_crl_revoked_count"]
        assert [max(w.not_before for w in verified.windows), min(w.not_after for w in verified.windows)] == window


def test_an_sgx_quote_is_the_wrong_kind_of_evidence_whatever_its_collateral(vectors):
    found = vectors("tdx/sgx_v3_confswhardening_00a0")
    collateral = parse_collateral(found.bytes("collateral.json"))
    with pytest.raises(UnsupportedEvidence) as caught:
        verify_tdx(found.bytes("quote.bin"), collateral, trust=TRUST, at=time(found.manifest["expected"]["at"]))
    assert caught.value.check is Check.TDX_QUOTE_TEE_TYPE


def test_collateral_of_sgx_says_nothing_of_a_td(vectors):
    found, sgx = vectors("tdx/tdx_v4_uptodate_b0c0"), vectors("tdx/sgx_v3_confswhardening_00a0")
    collateral, other = (parse_collateral(each.bytes("collateral.json")) for each in (found, sgx))
    at = time("2025-06-20T00:00:00Z")
    for changes, check in (
        ({"tcb_info": other.tcb_info}, Check.TDX_TCB_INFO_ID),
        ({"qe_identity": other.qe_identity}, Check.TDX_QE_IDENTITY_ID),
    ):
        with pytest.raises(VerificationError) as caught:
            verify_tdx(found.bytes("quote.bin"), replace(collateral, **changes), trust=TRUST, at=at)
        assert failed(caught) is check


SIGNED = {
    "v4_azure_00806f050000": "v4_azure_00806f050000.bin",
    "v4_gcp_00806f050000_2026": "v4_gcp_00806f050000_2026.bin",
    "v4_b0c0": "v4_b0c0.hex",
    "v4_dstack_ratls": "v4_dstack_ratls.bin",
}


def raw_quote(found, name):
    data = found.bytes(name)
    return bytes.fromhex(data.decode().strip().removeprefix("0x")) if name.endswith(".hex") else data


def test_quotes_without_collateral_of_their_time_are_never_accepted_and_give_what_the_manifest_says(vectors):
    found, other = vectors("tdx/sigonly_quotes"), vectors("tdx/tdx_v4_uptodate_b0c0")
    for case in found.manifest["expected"]["cases"]:
        quote, at = raw_quote(found, case["files"]["quote"]), time(case["at"])
        if case["scope" if "scope" in case else "reason"] == "signature":
            assert parse_quote(quote).trailing == case["quote"]["trailing_bytes"]
            continue
        if case["reason"] == "collateral-missing":
            with pytest.raises(MaterialUnavailable):
                verify_tdx(quote, None, trust=TRUST, at=at)
            continue
        verified, result = appraised(quote, parse_collateral(other.bytes("collateral.json")), at)
        assert {check.id for check in result.failures} == REASONS[case["reason"]]
        missed = [entry for entry in verified.verdict.trace if entry.failed]
        assert verified.verdict.converged == "NotSupported"
        assert {(entry.failed, entry.required, entry.actual) for entry in missed} == {("sgx[7]", 5, 3)}, case["detail"]


@pytest.mark.parametrize("name", SIGNED)
def test_the_chain_of_a_real_quote_holds_without_collateral_of_its_time(vectors, name):
    """What needs no TCB info: the leaf under Intel's CA, the enclave's report under it, the quote under its key."""
    quote = parse_quote(raw_quote(vectors("tdx/sigonly_quotes"), SIGNED[name]))
    lists = parse_collateral(vectors("tdx/collateral_2026_03_90c0").bytes("collateral.json"))
    chain = pck_certificates(quote, None)
    collateral = verify_collateral(lists, trust=TRUST, at=datetime(2026, 3, 20, tzinfo=UTC), before=Checklist())
    checks = Checklist()
    pck = verify_pck(chain, collateral, at=datetime(2026, 7, 1, tzinfo=UTC), before=checks)
    tdx._report_of_enclave(quote, pck, checks)
    tdx._signature(quote, checks)
    wanted = {Check.TDX_PCK_SIGNATURE, Check.TDX_QE_REPORT_SIGNATURE, Check.TDX_QE_REPORT_BINDING}
    assert wanted | {Check.TDX_QUOTE_SIGNATURE} <= {check.id for check in checks.done()}


def test_azures_live_evidence_gives_what_its_manifest_says(vectors):
    found = vectors("tdx/az_tdx_evidence")
    (case,) = [c for c in found.manifest["expected"]["cases"] if c["id"] == "live-evidence-with-collateral"]
    document = json.loads(found.bytes(case["files"]["evidence"]))
    text = document.get("evidence", document)["td_quote"]
    quote = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    collateral = parse_collateral(found.bytes(case["files"]["collateral"]))
    verified, result = appraised(quote, collateral, time(case["at"]))
    assert result.verdict == "accepted"
    assert verified.verdict.converged == case["tcb_status"]
    assert [advisory.id for advisory in verified.verdict.advisories] == case["advisories"]


def test_the_event_logs_of_two_boots_and_the_quote_of_one(vectors):
    """Signatures apart: there is no collateral of this quote's time, so the body stands in a quote that has some."""
    found, other = vectors("tdx/ccel_direct_boot_live2"), vectors("tdx/tdx_v4_uptodate_b0c0")
    collateral = parse_collateral(other.bytes("collateral.json"))
    verified = verify_tdx(other.bytes("quote.bin"), collateral, trust=TRUST, at=time("2025-06-20T00:00:00Z"))
    verified = replace(verified, quote=replace(verified.quote, body=parse_quote(found.bytes("quote.bin")).body))
    policy = Policy(schema=1).with_tdx(mrtd=(verified.quote.body.mrtd,))
    own = appraise_tdx(verified, policy, event_log=found.bytes("ccel.bin"))
    assert own.verdict == "accepted"
    expected = found.manifest["expected"]
    assert len(own.evidence["event_log"]["events"]) == expected["events"]  # type: ignore[call-overload]
    foreign = appraise_tdx(verified, policy, event_log=found.bytes("ccel_other_boot.bin"))
    assert [check.id for check in foreign.failures] == [Check.TDX_EVENT_LOG_REPLAY]
    (case,) = [c for c in expected["cases"] if c["id"] == "other-boot-with-this-quote"]
    replays = foreign.evidence["event_log"]["replays"]  # type: ignore[call-overload]
    assert [n for n in range(4) if not replays[n]] == case["registers_different"]


def test_the_signer_of_before_2025_works_at_its_time_only(vectors):
    found = vectors("tdx/tdx_v4_debug_td_5080")
    quote, old = found.bytes("quote.bin"), parse_collateral(found.bytes("collateral.json"))
    new = parse_collateral(vectors("tdx/collateral_2026_03_5080").bytes("collateral.json"))
    at = time("2023-06-30T00:00:00Z")
    assert verify_tdx(quote, old, trust=TRUST, at=at).verdict.converged == "UpToDate"
    # The new signer's certificate beside the old documents, and the other way round.
    for collateral, chain, when, check in (
        (old, new.tcb_info_chain, at, Check.TDX_TCB_SIGNER_NOT_YET_VALID),
        (new, old.tcb_info_chain, time("2026-03-20T00:00:00Z"), Check.TDX_TCB_SIGNER_EXPIRED),
    ):
        mixed = replace(collateral, tcb_info_chain=chain, qe_identity_chain=chain)
        with pytest.raises(VerificationError) as caught:
            verify_tdx(quote, mixed, trust=TRUST, at=when)
        assert failed(caught) is check


@pytest.mark.parametrize("name", QUOTES[:2])
def test_one_flipped_bit_anywhere_in_a_real_quote_is_refused_or_stands_where_nothing_looks(vectors, name):
    """Header, body, signatures, keys, reports, lengths, leaf and CA; a root that is no PEM any more is not there."""
    found = vectors(f"tdx/{name}")
    quote, at = found.bytes("quote.bin"), time(found.manifest["expected"]["at"])
    good = verify_tdx(quote, parse_collateral(found.bytes("collateral.json")), trust=TRUST, at=at)
    end = len(good.quote.raw) - len(good.quote.certification.data)
    for position in range(end):
        changed = bytearray(quote)
        changed[position] ^= 1 << position % 8
        with pytest.raises(Error):
            verify_tdx(bytes(changed), good.collateral, trust=TRUST, at=at)
    # Of the certificates' text, line ends may become other white space.
    root = end + good.quote.certification.data.rindex(b"-----BEGIN")
    for position in range(end, root, 7):
        changed = bytearray(quote)
        changed[position] ^= 1
        if bytes(changed[position : position + 1]).isspace():
            continue
        with pytest.raises(Error):
            verify_tdx(bytes(changed), good.collateral, trust=TRUST, at=at)


@pytest.mark.parametrize("item", ["tcb_info", "qe_identity", "pck_crl", "root_crl"])
def test_one_flipped_bit_anywhere_in_real_collateral_is_refused(vectors, item):
    found = vectors("tdx/tdx_v4_uptodate_b0c0")
    quote, collateral = found.bytes("quote.bin"), parse_collateral(found.bytes("collateral.json"))
    data = getattr(collateral, item)
    for position in range(0, len(data), 5):
        changed = bytearray(data)
        changed[position] ^= 1 << position % 5  # up to bit 4: bit 5 turns small hex digits into large ones
        with pytest.raises(Error):
            verify_tdx(
                quote,
                replace(collateral, **{item: bytes(changed)}),
                trust=TRUST,
                at=time("2025-06-20T00:00:00Z"),
            )


def test_the_names_of_modules_fit_the_numbers_of_real_quotes(vectors):
    seen = set()
    quotes = [vectors(f"tdx/{name}").bytes("quote.bin") for name in (*QUOTES, "ccel_direct_boot_live2")]
    quotes += [raw_quote(vectors("tdx/sigonly_quotes"), name) for name in SIGNED.values()]
    for data in quotes:
        body = parse_quote(data).body
        module = BY_MRSEAM.get(body.mrseam)
        if module is not None:
            assert (module.minor, module.major) == tuple(body.tee_tcb_svn[:2])
            assert version_of(body.mrseam) == module.name
            seen.add(module)
    assert {module.name for module in BY_MRSEAM.values() if module.confirmed} == {module.name for module in seen}


def test_dcap_qvl_says_the_same_of_every_real_quote(vectors):
    """Where it refuses a status or a bit as a whole, this verifier names it."""
    pytest.importorskip("dcap_qvl")
    peer = runpy.run_path(str(Path(__file__).parents[1] / "generate/tdx_peer.py"))["peer_verdict"]
    compared = 0
    for name in QUOTES:
        found = vectors(f"tdx/{name}")
        for case in cases(found.manifest["expected"]):
            files = case.get("files", {"quote": "quote.bin", "collateral": "collateral.json"})
            quote, collateral = found.bytes(files["quote"]), parse_collateral(found.bytes(files["collateral"]))
            at = time(case["at"])
            theirs, advisories = peer(quote, collateral, None, int(at.timestamp()))
            if case["reason"].startswith("collateral-"):
                # Whether a document is of the future it does not always look, and may say a status all the same.
                assert theirs.startswith("refused: ") or case["reason"] == "collateral-not-yet-valid"
                continue
            verified, result = appraised(quote, collateral, at)
            compared += 1
            if Check.TDX_TD_ATTRIBUTES_DEBUG in {check.id for check in result.failures}:
                assert "ebug" in theirs
                continue
            assert (theirs, advisories) == (
                str(verified.verdict.converged),
                [advisory.id for advisory in verified.verdict.advisories],
            )
    assert compared >= 5
