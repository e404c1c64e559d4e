"""Faults that other verifiers of TDX quotes have had, each by name: none of them is here.

All of it on the simulated platform, with signatures that are good wherever the fault is not about them.
"""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from datetime import timedelta

import pytest

from dokimos.attest import sim_tdx_pki as pki
from dokimos.attest.sim_ccel import hashed, registers, write_ccel
from dokimos.attest.sim_quote import QuoteFields
from dokimos.attest.sim_tdx_pki import TdxAuthority
from dokimos.endorsements.signed_json import split_body
from dokimos.errors import Check, Error, MaterialUnavailable, VerificationError
from dokimos.evidence.ccel import EventType
from dokimos.verifier.appraise_tdx import appraise_tdx
from dokimos.verifier.policy import Policy
from dokimos.verifier.policy_rules import BitRule
from dokimos.verifier.tdx import verify_tdx
from dokimos.verifier.tdx_policy import TdAttributeRules
from dokimos.verifier.tdx_tcb import Advisory, Part
from dokimos.verifier.trust import TdxTrust
from tests.generate.tdx_case import AT, PCK, QE, TD10, TD15, hierarchy, make, with_status


def verified(case, collateral=None, at=None):
    trust = TdxTrust(simulated_roots=frozenset({case.root_sha256}))
    return verify_tdx(case.quote, collateral or case.collateral, trust=trust, at=at or case.at)


def refused(case, collateral=None, at=None):
    """The check by which it is refused."""
    with pytest.raises(VerificationError) as caught:
        verified(case, collateral, at)
    return caught.value.failed.id


def appraised(case, **policy):
    found = verified(case)
    named = {"mrtd": (bytes(47) + b"\1",), "simulated_roots": (case.root_sha256,), **policy}
    found = replace(found, quote=replace(found.quote, body=replace(found.quote.body, mrtd=bytes(47) + b"\1")))
    return appraise_tdx(found, Policy(schema=1).with_tdx(**named))


def test_a_tcb_info_of_another_pce_is_refused():
    assert refused(make("", change=lambda info: replace(info, pceid=b"\1\0"))) is Check.TDX_TCB_INFO_PCEID


def test_the_svn_and_the_version_of_a_module_are_no_components_of_the_platform():
    case = make(
        "", change=lambda info: replace(info, levels=(replace(info.levels[0], tdx=(99, 99, *info.levels[0].tdx[2:])),))
    )
    assert verified(case).verdict.converged == "UpToDate"


def test_an_old_module_makes_a_good_platform_out_of_date_and_one_without_identity_is_refused():
    assert verified(make("", change=with_status("UpToDate", "OutOfDate"))).verdict.converged == "OutOfDate"
    assert refused(make("", change=lambda info: replace(info, modules=()))) is Check.TDX_MODULE_IDENTITY


def test_a_tcb_info_that_nobody_signed_or_whose_chain_is_missing_is_no_warning():
    case = make("")
    signed = split_body(case.collateral.tcb_info, "tcbInfo", "TCB info")
    forged = case.collateral.tcb_info.replace(signed.signature.hex().encode(), b"01" * 64)
    assert forged != case.collateral.tcb_info
    assert refused(case, replace(case.collateral, tcb_info=forged)) is Check.TDX_TCB_INFO_SIGNATURE
    with pytest.raises(MaterialUnavailable):
        verified(case, replace(case.collateral, tcb_info_chain=b""))


def test_expired_collateral_is_a_failure_and_no_flag():
    late = {
        Check.TDX_TCB_INFO_EXPIRED,
        Check.TDX_QE_IDENTITY_EXPIRED,
        Check.TDX_ROOT_CRL_STALE,
        Check.TDX_PCK_CRL_STALE,
    }
    assert refused(make(""), at=AT + timedelta(days=31)) in late


@pytest.mark.parametrize(
    "item", ["tcb_info", "tcb_info_chain", "qe_identity", "qe_identity_chain", "pck_crl", "root_crl"]
)
def test_nothing_of_the_collateral_is_optional(item):
    case = make("")
    with pytest.raises(MaterialUnavailable, match=item):
        verified(case, replace(case.collateral, **{item: b""}))
    with pytest.raises(MaterialUnavailable):
        verify_tdx(case.quote, None, trust=TdxTrust(), at=AT)


@pytest.mark.parametrize("kind", ["leaf", "ca", "signer"])
def test_whatever_a_list_names_is_revoked(kind):
    made, case = hierarchy(), make("")
    serials = {"leaf": made.pck_fields.serial, "ca": 0x956F5DCD, "signer": 0x7E3882D5}
    of = made.ca if kind == "leaf" else TdxAuthority.ROOT
    listed = made.crl(of, AT, (serials[kind],))
    collateral = replace(case.collateral, **{"pck_crl" if kind == "leaf" else "root_crl": listed})
    wanted = {"leaf": Check.TDX_PCK_REVOKED, "ca": Check.TDX_PCK_CA_REVOKED, "signer": Check.TDX_TCB_SIGNER_REVOKED}
    assert refused(case, collateral) is wanted[kind]


def test_the_order_of_levels_in_the_file_is_not_believed():
    def change(info):
        (level,) = info.levels
        worse = replace(level, pcesvn=0, status="OutOfDate")
        return replace(info, levels=(worse, level))

    assert verified(make("", change=change)).verdict.converged == "UpToDate"


def test_statuses_converge_and_the_configuration_that_is_needed_is_not_lost():
    case = make("", change=with_status("ConfigurationNeeded", "OutOfDate"))
    assert verified(case).verdict.converged == "OutOfDateConfigurationNeeded"


def test_a_td_that_only_has_to_be_launched_anew_is_told_from_one_that_is_out_of_date():
    change = with_status("UpToDate", "OutOfDate")
    assert verified(make("", TD15, change)).verdict.converged == "TDRelaunchAdvised"
    change = with_status("ConfigurationNeeded", "OutOfDate")
    assert verified(make("", TD15, change)).verdict.converged == "TDRelaunchAdvisedConfigurationNeeded"


def test_no_advisory_of_a_part_is_lost():
    case = make("", change=with_status("SWHardeningNeeded", "OutOfDate"), qe_status="OutOfDate")
    assert verified(case).verdict.advisories == (
        Advisory("INTEL-SA-00001", (Part.PLATFORM,)),
        Advisory("INTEL-SA-OutOfDate", (Part.MODULE, Part.QE)),
    )


def test_a_bit_with_a_name_is_for_the_policy_and_a_revoked_status_is_a_verdict_and_no_crash():
    case = make("", replace(TD10, td_attributes=1 << 27 | 1 << 28 | 1 << 29))  # LASS, SEPT_VE_DISABLE, MIGRATABLE
    assert [check.id for check in appraised(case).failures] == [Check.TDX_TD_ATTRIBUTES_MIGRATABLE]
    rules = TdAttributeRules(migratable=BitRule.ANY)
    assert appraised(case, td_attributes=rules).verdict == "accepted"
    revoked = make("", change=with_status("Revoked", "UpToDate"))
    assert verified(revoked).verdict.converged == "Revoked"
    assert [check.id for check in appraised(revoked).failures] == [Check.TDX_TCB_STATUS]


@pytest.mark.parametrize("size", [0, 31, 33, 1000])
def test_authentication_data_may_have_any_length(size):
    made, case = hierarchy(), make("")
    fields = QuoteFields(td=TD10, qe=QE, certification=(5, made.pck_chain), auth_data=bytes(size))
    assert verified(replace(case, quote=made.quote(fields))).verdict.converged == "UpToDate"


@pytest.mark.parametrize("td", [TD10, TD15])
def test_quotes_of_version_5_are_verified_with_both_bodies(td):
    made, case = hierarchy(), make("", td)
    fields = QuoteFields(version=5, td=td, qe=QE, certification=(5, made.pck_chain))
    assert verified(replace(case, quote=made.quote(fields))).quote.version == 5


def test_svns_above_255_are_numbers_like_others():
    def change(info):
        (level,) = info.levels
        return replace(info, levels=(replace(level, sgx=(256, *level.sgx[1:])), replace(level, status="OutOfDate")))

    found = verified(make("", change=change)).verdict
    assert (found.converged, found.trace[0].failed, found.trace[0].required) == ("OutOfDate", "sgx[0]", 256)


def test_rtmr3_is_as_strict_as_the_others():
    events = (hashed(4, EventType.EV_EVENT_TAG, b"LEAA\x05\0\0\0hello"),)
    found = verified(make("", replace(TD10, mrtd=b"\1" * 48, rtmrs=registers(events))))
    policy = Policy(schema=1).with_tdx(mrtd=(b"\1" * 48,), simulated_roots=(found.root_sha256,))
    assert [check.id for check in appraise_tdx(found, policy).failures] == [Check.TDX_RTMR3]
    assert appraise_tdx(found, policy, event_log=write_ccel(events)).verdict == "accepted"
    other = write_ccel((*events, *events))
    failed = {check.id for check in appraise_tdx(found, policy, event_log=other).failures}
    assert failed == {Check.TDX_RTMR3, Check.TDX_EVENT_LOG_REPLAY}


@pytest.mark.parametrize("member", ["tcb_info", "qe_identity"])
def test_a_signature_is_over_the_bytes_as_received_and_not_over_json_that_means_the_same(member):
    case = make("")
    body = getattr(case.collateral, member)
    again = json.dumps(json.loads(body), indent=1).encode()
    wanted = {"tcb_info": Check.TDX_TCB_INFO_SIGNATURE, "qe_identity": Check.TDX_QE_IDENTITY_SIGNATURE}
    assert refused(case, replace(case.collateral, **{member: again})) is wanted[member]


@pytest.mark.parametrize("size", [1, 39, 70, 3065])
def test_bytes_behind_a_quote_are_neither_refused_nor_hashed(size):
    case = make("")
    found = verified(replace(case, quote=case.quote + b"\xaa" * size))
    assert (found.quote.trailing, found.verdict.converged) == (size, "UpToDate")


# The collateral that is kept


def test_kept_collateral_serves_the_next_quote_and_its_checks_are_listed_again():
    case, made = make(""), hierarchy()
    first = verified(case)
    other = made.quote(QuoteFields(td=replace(TD10, report_data=b"\7" * 64), qe=QE, certification=(5, made.pck_chain)))
    second = verified(replace(case, quote=other), first.collateral)
    assert {check.id for check in second.checks} == {check.id for check in first.checks}
    assert second.verdict == first.verdict
    assert second.simulated


def test_kept_collateral_of_a_root_that_the_policy_names_no_more_is_refused():
    case = make("")
    kept = verified(case).collateral
    with pytest.raises(VerificationError) as caught:
        verify_tdx(case.quote, kept, trust=TdxTrust(), at=AT)
    assert caught.value.failed.id is Check.TDX_ROOT_PINNED


def test_kept_collateral_grows_old():
    case = make("")
    kept = verified(case).collateral
    edge = min(window.not_after for window in kept.windows)
    assert verified(case, kept, edge).verdict.converged == "UpToDate"
    with pytest.raises(VerificationError):
        verified(case, kept, edge + timedelta(seconds=1))


def test_kept_collateral_of_another_platform_is_refused():
    case, pck = make(""), replace(PCK, fmspc=b"\1" * 6, serial=77)
    assert refused(make("", pck=pck), verified(case).collateral) is Check.TDX_TCB_INFO_FMSPC


def test_nobody_else_makes_verified_things():
    found = verified(make(""))
    for thing in (found, found.collateral):
        with pytest.raises(TypeError, match="only verify"):
            replace(thing, token=object())
    with pytest.raises(ValueError, match="time zone"):
        verified(make(""), at=AT.replace(tzinfo=None))


# Quotes that do not bring their chain


def test_a_quote_that_names_its_platform_only_needs_a_fetched_chain():
    made, case = hierarchy(), make("")
    for kind in (1, 2, 3):
        fields = QuoteFields(td=TD10, qe=QE, certification=(kind, bytes(404)))
        bare = replace(case, quote=made.quote(fields))
        with pytest.raises(MaterialUnavailable, match="fetched"):
            verified(bare)
        given = replace(case.collateral, pck_chain=made.pck_chain)
        kept = verified(bare, given)
        assert kept.verdict.converged == "UpToDate"
        assert verified(bare, kept.collateral).verdict.converged == "UpToDate"


def test_a_quote_with_its_leaf_alone_takes_the_ca_of_the_collateral():
    made, case = hierarchy(), make("")
    pem = pki.pem
    fields = QuoteFields(td=TD10, qe=QE, certification=(4, pem(made.pck)))
    alone = replace(case, quote=made.quote(fields))
    assert verified(alone).verdict.converged == "UpToDate"
    with pytest.raises(MaterialUnavailable, match="pck_crl_chain"):
        verified(alone, replace(case.collateral, pck_crl_chain=b""))


def test_a_chain_that_is_too_long_is_no_chain():
    made, case = hierarchy(), make("")
    pem, ca = pki.pem, made.certificate(made.ca)
    fields = QuoteFields(td=TD10, qe=QE, certification=(5, pem(made.pck, ca, ca, made.root)))
    with pytest.raises(Error) as caught:
        verified(replace(case, quote=made.quote(fields)))
    assert caught.value.check is Check.TDX_PCK_FORMAT


def test_a_ca_of_a_quote_that_cannot_be_read_is_named():
    made, case = hierarchy(), make("")
    ca = made.certificate(made.ca)
    for broken in (ca[:-1], ca.replace(bytes.fromhex("2a8648ce3d030107"), bytes.fromhex("2a8648ce3d030101"))):
        block = b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(broken) + b"-----END CERTIFICATE-----\n"
        chain = pki.pem(made.pck) + block + pki.pem(made.root)
        fields = QuoteFields(td=TD10, qe=QE, certification=(5, chain))
        with pytest.raises(Error) as caught:
            verified(replace(case, quote=made.quote(fields)))
        assert caught.value.check is Check.TDX_PCK_FORMAT


def test_a_renewed_certificate_of_the_ca_serves_as_well():
    made, case = hierarchy(), make("")
    fields = pki.CertificateFields(
        authority=made.ca,
        key=made.keys[made.ca],
        issuer_key=made.keys[TdxAuthority.ROOT],
        not_before=AT - timedelta(days=1),
        not_after=AT + timedelta(days=1),
        serial=99,
    )
    renewed = pki.certificate(fields)
    assert renewed != made.certificate(made.ca)
    quote = made.quote(QuoteFields(td=TD10, qe=QE, certification=(5, pki.pem(made.pck, renewed, made.root))))
    assert verified(replace(case, quote=quote)).verdict.converged == "UpToDate"
    assert refused(replace(case, quote=quote), at=AT + timedelta(days=2)) is Check.TDX_PCK_CA_EXPIRED
