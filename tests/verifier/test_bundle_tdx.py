"""A live endpoint in a TD: the same statement and keys as with SEV-SNP, vouched for by a quote."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import pytest

from dokimos.attest.sim_tdx import SimulatedTdx
from dokimos.client.session import OwnMaterial, verify_with
from dokimos.cvm_image.simulated_launch import launch_tdx
from dokimos.cvm_image.stand_in import stand_in_td
from dokimos.errors import Check, MalformedEvidence, MaterialUnavailable, Status, VerificationError
from dokimos.evidence.bundle import Bundle, encode_bundle, parse_bundle
from dokimos.evidence.statement import PROFILE_OHTTP, ROLE_GATEWAY, Statement, report_data
from dokimos.verifier.bundle import verify_bundle
from dokimos.verifier.policy import BindingPolicy, Policy
from dokimos.verifier.trust import RevocationState

AT = datetime(2026, 3, 1, tzinfo=UTC)
NONCE = bytes(range(32))
KEYS = b"key configurations"
IMAGE, CONFIG = bytes([2]) * 32, bytes([1]) * 32


@pytest.fixture(scope="module")
def td(tmp_path_factory):
    return launch_tdx(SimulatedTdx(tmp_path_factory.mktemp("sim"), clock=lambda: AT), stand_in_td()).guest


@pytest.fixture
def policy(td):
    binding = BindingPolicy(image_sha256=(IMAGE,), runtime_config_sha256=(CONFIG,))
    names = ("rtmr0", "rtmr1", "rtmr2")
    registers = {name: (value,) for name, value in zip(names, td.fields.rtmrs, strict=False)}
    roots = (td.platform.root_sha256,)
    return Policy(schema=1, binding=binding).with_tdx(mrtd=(td.fields.mrtd,), simulated_roots=roots, **registers)


def statement(**changes):
    now = int(AT.timestamp())
    fields = {
        "profile": PROFILE_OHTTP,
        "role": ROLE_GATEWAY,
        "key_configs_sha256": sha256(KEYS).digest(),
        "tls_spki_sha256": None,
        "nonce": NONCE,
        "epoch": None,
        "not_before": now - 5,
        "expiry": now + 600,
        "gpu_digest": None,
        "runtime_config_sha256": CONFIG,
        "image_sha256": IMAGE,
    }
    return Statement(**{**fields, **changes}).to_cbor()


def bundle(td, said=None, **cpu):
    said = said or statement()
    made = dataclasses.replace(td.evidence(report_data(said)), **cpu)
    return Bundle(cpu=made, statement=said, key_configs=KEYS)


def verified(made, policy, at=AT):
    return verify_bundle(encode_bundle(made), policy, at=at, nonce=NONCE)


def failed(found):
    return [check.id for check in found.result.checks if check.status is Status.FAIL]


def test_a_td_that_hands_out_no_collateral_is_verified_with_the_clients_own_and_never_without(td, policy):
    bare = bundle(td, collateral=None)
    assert parse_bundle(encode_bundle(bare)) == bare
    with pytest.raises(MaterialUnavailable, match="no collateral"):
        verified(bare, policy)
    own = td.collateral()
    found = verify_bundle(encode_bundle(bare), policy, at=AT, nonce=NONCE, collateral=own)
    assert (failed(found), found.result.verdict) == ([], "accepted")
    # What the client has counts, not what an endpoint would like it to take.
    late = AT + timedelta(days=400)
    with pytest.raises(VerificationError):
        verify_bundle(encode_bundle(bundle(td)), policy, at=late, nonce=NONCE, collateral=own)


def test_a_client_gets_collateral_only_for_an_endpoint_that_brings_none(td, policy):
    asked = []

    def get(quote):
        asked.append(quote.body.mrtd)
        return td.collateral()

    own = OwnMaterial(collateral=get)
    for made, times in ((bundle(td), 0), (bundle(td, collateral=None), 1)):
        found = verify_with(encode_bundle(made), policy, own, clock=lambda: AT, nonce=NONCE)
        assert (failed(found), len(asked)) == ([], times)
    with pytest.raises(MaterialUnavailable):
        verify_with(encode_bundle(bundle(td, collateral=None)), policy, OwnMaterial(), clock=lambda: AT, nonce=NONCE)


def test_a_good_bundle_is_accepted_and_says_simulated_and_that_revocation_was_checked(td, policy):
    found = verified(bundle(td), policy)
    assert failed(found) == []
    assert found.result.verdict == "accepted"
    assert found.result.simulated
    assert found.result.revocation is RevocationState.CHECKED
    assert found.verified.quote.body.mrtd == td.fields.mrtd


def test_a_policy_that_names_nothing_for_tdx_refuses_it_whatever_it_says_of_snp(td):
    policy = Policy(schema=1).with_snp(measurements=(bytes(48),)).with_tdx(simulated_roots=(td.platform.root_sha256,))
    assert Check.TDX_REFERENCE_VALUES in failed(verified(bundle(td), policy))


def test_a_root_that_the_policy_does_not_name_is_refused(td, policy):
    with pytest.raises(VerificationError) as caught:
        verified(bundle(td), policy.with_tdx(simulated_roots=()))
    assert caught.value.failed.id is Check.TDX_ROOT_PINNED


def test_another_statement_than_the_quotes_is_refused(td, policy):
    other = dataclasses.replace(bundle(td), statement=statement(nonce=NONCE, expiry=int(AT.timestamp()) + 599))
    assert Check.BINDING_REPORT_DATA in failed(verified(other, policy))


def test_other_keys_than_the_statements_are_refused(td, policy):
    assert failed(verified(dataclasses.replace(bundle(td), key_configs=b"others"), policy)) == [
        Check.BINDING_KEY_CONFIG
    ]


def test_another_command_line_is_refused_by_its_register(td, policy):
    other = launch_tdx(td.platform, stand_in_td("console=ttyS0 debug")).guest
    assert failed(verified(bundle(other), policy)) == [Check.TDX_RTMR2]


def test_an_event_log_of_another_boot_is_refused(td, policy):
    log = launch_tdx(td.platform, stand_in_td("console=ttyS0 debug")).guest.event_log
    assert Check.TDX_EVENT_LOG_REPLAY in failed(verified(bundle(td, event_log=log), policy))


def test_an_event_log_that_must_come_along_and_does_not_is_refused(td, policy):
    made = bundle(td, event_log=None)
    assert failed(verified(made, policy)) == []
    assert Check.TDX_EVENT_LOG_REQUIRED in failed(verified(made, policy.with_tdx(require_event_log=True)))


@pytest.mark.parametrize("place", [0, 60, 190, 640, 700, 1400])
def test_a_flipped_bit_in_the_quote_is_never_accepted(td, policy, place):
    quote = bytearray(bundle(td).cpu.quote)
    quote[place] ^= 1
    with pytest.raises(Exception) as caught:  # noqa: PT011 - which one depends on the place; none is a crash
        verified(bundle(td, quote=bytes(quote)), policy)
    assert type(caught.value).__module__ == "dokimos.errors"


def test_collateral_that_is_none_is_malformed_and_old_collateral_refused(td, policy):
    with pytest.raises(MalformedEvidence):
        verified(bundle(td, collateral=b"{}"), policy)
    with pytest.raises(VerificationError):
        verified(bundle(td), policy, at=AT + timedelta(days=60))
