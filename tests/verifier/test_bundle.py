"""A live endpoint's bundle: accepted as a whole, and refused by one check for each thing that can be wrong with it."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import pytest

from dokimos.attest.simulator import SimulatedPlatform
from dokimos.errors import Check, MalformedEvidence, Status, VerificationError
from dokimos.evidence.bundle import Bundle, SnpEvidence, encode_bundle, parse_bundle
from dokimos.evidence.statement import PROFILE_OHTTP, ROLE_GATEWAY, Statement, report_data
from dokimos.ohttp import keys
from dokimos.verifier.bundle import verify_bundle
from dokimos.verifier.policy import BindingPolicy, Policy

_MEASUREMENT = bytes(range(48))
_NONCE = bytes(range(32))


@pytest.fixture(scope="module")
def guest(tmp_path_factory):
    platform = SimulatedPlatform(tmp_path_factory.mktemp("sim"), product="Genoa")
    return platform.launch(_MEASUREMENT)


@pytest.fixture(scope="module")
def key_configs():
    return keys.encode_key_configs([key.config for key in keys.generate_keys()])


@pytest.fixture
def at():
    return datetime.now(UTC)


@pytest.fixture
def statement(key_configs, at):
    now = int(at.timestamp())
    return Statement(
        profile=PROFILE_OHTTP,
        role=ROLE_GATEWAY,
        key_configs_sha256=sha256(key_configs).digest(),
        tls_spki_sha256=None,
        nonce=_NONCE,
        epoch=None,
        not_before=now - 5,
        expiry=now + 600,
        gpu_digest=None,
        runtime_config_sha256=bytes([1]) * 32,
        image_sha256=bytes([2]) * 32,
    )


@pytest.fixture
def policy(guest):
    binding = BindingPolicy(image_sha256=(bytes([2]) * 32,), runtime_config_sha256=(bytes([1]) * 32,))
    base = Policy(schema=1, binding=binding)
    return base.with_snp(measurements=(_MEASUREMENT,), simulated_roots=(guest.platform.root_sha256,))


@pytest.fixture
def make(guest, key_configs):
    """A bundle over a statement; every part can be replaced after it was signed."""

    def made(statement: Statement, /, **changes) -> bytes:
        encoded = statement.to_cbor()
        vek, cas, crls = guest.endorsements()
        cpu = SnpEvidence(report=guest.report(report_data(encoded)).report, vek=vek, cas=cas, crls=crls)
        parts = {name: changes.pop(name) for name in ("report", "vek", "crls") if name in changes}
        cpu = dataclasses.replace(cpu, **parts)
        bundle = Bundle(cpu=cpu, statement=encoded, key_configs=key_configs)
        return encode_bundle(dataclasses.replace(bundle, **changes))

    return made


def _failed(verified) -> list[Check]:
    return [check.id for check in verified.result.checks if check.status is Status.FAIL]


def test_a_good_bundle_is_accepted_and_says_simulated(make, statement, policy, at):
    verified = verify_bundle(make(statement), policy, at=at, nonce=_NONCE)
    assert verified.result.verdict == "accepted"
    assert verified.result.simulated
    ids = [check.id for check in verified.result.checks]
    assert {id_ for id_ in Check if id_.startswith("binding.")} <= set(ids)


@pytest.mark.parametrize(
    ("change", "check"),
    [
        ({"profile": "urn:other"}, Check.BINDING_PROFILE),
        ({"role": "orchestrator"}, Check.BINDING_ROLE),
        ({"key_configs_sha256": bytes(32)}, Check.BINDING_KEY_CONFIG),
        ({"nonce": bytes(32)}, Check.BINDING_FRESHNESS),
        ({"nonce": None, "epoch": bytes(40)}, Check.BINDING_FRESHNESS),
        ({"gpu_digest": bytes(32)}, Check.BINDING_GPU),
        ({"runtime_config_sha256": bytes(32)}, Check.BINDING_RUNTIME_CONFIG),
        ({"image_sha256": bytes(32)}, Check.BINDING_IMAGE),
    ],
)
def test_a_statement_that_says_something_else_is_refused_by_its_check(make, statement, policy, at, change, check):
    verified = verify_bundle(make(dataclasses.replace(statement, **change)), policy, at=at, nonce=_NONCE)
    assert _failed(verified) == [check]


@pytest.mark.parametrize(
    "window",
    [(-7200, -3600), (3600, 7200), (-5, 3600)],
    ids=["expired", "not yet", "longer than the policy allows"],
)
def test_a_statement_out_of_its_time_is_refused(make, statement, policy, at, window):
    now = int(at.timestamp())
    changed = dataclasses.replace(statement, not_before=now + window[0], expiry=now + window[1])
    assert _failed(verify_bundle(make(changed), policy, at=at, nonce=_NONCE)) == [Check.BINDING_VALIDITY]


def test_clocks_may_differ_by_the_skew_of_the_policy_and_no_more(make, statement, policy, at):
    late = at + timedelta(seconds=600 + policy.binding.clock_skew_seconds - 1)
    assert _failed(verify_bundle(make(statement), policy, at=late, nonce=_NONCE)) == []
    late += timedelta(seconds=2)
    assert _failed(verify_bundle(make(statement), policy, at=late, nonce=_NONCE)) == [Check.BINDING_VALIDITY]


def test_another_statement_beside_the_report_is_refused(make, statement, policy, at):
    other = dataclasses.replace(statement, expiry=statement.expiry - 1)
    verified = verify_bundle(make(statement, statement=other.to_cbor()), policy, at=at, nonce=_NONCE)
    assert set(_failed(verified)) == {Check.SNP_REPORT_DATA, Check.BINDING_REPORT_DATA}


def test_swapped_keys_are_refused(make, statement, policy, at):
    own = keys.encode_key_configs([key.config for key in keys.generate_keys()])
    verified = verify_bundle(make(statement, key_configs=own), policy, at=at, nonce=_NONCE)
    assert _failed(verified) == [Check.BINDING_KEY_CONFIG]


def test_a_key_list_with_one_flipped_bit_anywhere_is_refused(make, statement, policy, at, key_configs):
    bundle = parse_bundle(make(statement))
    for position in range(0, len(key_configs), 61):
        changed = bytearray(key_configs)
        changed[position] ^= 1
        data = encode_bundle(dataclasses.replace(bundle, key_configs=bytes(changed)))
        assert _failed(verify_bundle(data, policy, at=at, nonce=_NONCE)) == [Check.BINDING_KEY_CONFIG]


def test_without_a_nonce_of_ones_own_nothing_is_fresh(make, statement, policy, at):
    for require in (True, False):
        lax = dataclasses.replace(policy, binding=dataclasses.replace(policy.binding, require_nonce=require))
        verified = verify_bundle(make(statement), lax, at=at, nonce=None)
        assert _failed(verified) == [Check.BINDING_FRESHNESS]


def test_evidence_that_was_made_for_somebody_elses_nonce_is_refused(make, statement, policy, at):
    verified = verify_bundle(make(statement), policy, at=at, nonce=bytes(32))
    assert _failed(verified) == [Check.BINDING_FRESHNESS]


def test_another_measurement_and_an_unnamed_root_are_refused(make, statement, policy, at):
    other = policy.with_snp(measurements=(bytes(48),))
    assert _failed(verify_bundle(make(statement), other, at=at, nonce=_NONCE)) == [Check.SNP_MEASUREMENT]
    with pytest.raises(VerificationError) as caught:
        verify_bundle(make(statement), policy.with_snp(simulated_roots=()), at=at, nonce=_NONCE)
    assert caught.value.failed.id is Check.SNP_CA_PINNED


def test_a_policy_without_reference_value_accepts_no_endpoint(make, statement, policy, at):
    bare = policy.with_snp(measurements=())
    assert _failed(verify_bundle(make(statement), bare, at=at, nonce=_NONCE)) == [Check.SNP_REFERENCE_VALUES]


def test_what_the_policy_does_not_name_is_shown_as_skipped_and_not_as_passed(make, statement, policy, at):
    bare = dataclasses.replace(policy, binding=BindingPolicy())
    verified = verify_bundle(make(statement), bare, at=at, nonce=_NONCE)
    skipped = {check.id: check.message for check in verified.result.checks if check.status is Status.SKIP}
    for check in (Check.BINDING_IMAGE, Check.BINDING_RUNTIME_CONFIG, Check.BINDING_TLS_SPKI):
        assert skipped[check]


def test_a_bundle_that_cannot_be_read_is_malformed(make, statement, policy, at):
    good = make(statement)
    for bad in (b"", b"{}", good[:-1], good.replace(b"key_configs", b"key_config")):
        with pytest.raises(MalformedEvidence):
            verify_bundle(bad, policy, at=at, nonce=_NONCE)
    with pytest.raises(MalformedEvidence):
        verify_bundle(make(statement, statement=statement.to_cbor() + b"\0"), policy, at=at, nonce=_NONCE)
