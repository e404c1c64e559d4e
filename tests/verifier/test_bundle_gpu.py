"""A machine with GPUs: its bundle is refused once a device is swapped, replayed, left out, added or only said to be."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from dokimos.attest.attester import Attester, SnpSource
from dokimos.attest.sim_nvidia import SimulatedNvidia
from dokimos.attest.simulator import SimulatedPlatform
from dokimos.errors import Check, MalformedEvidence, MaterialUnavailable, Status, VerificationError
from dokimos.evidence.bundle import encode_bundle, parse_bundle
from dokimos.evidence.gpu_evidence import gpu_digest
from dokimos.evidence.statement import gpu_nonce, parse_statement, report_data
from dokimos.ohttp import keys
from dokimos.verifier.bundle import verify_bundle
from dokimos.verifier.gpu_policy import GpuPolicy
from dokimos.verifier.policy import BindingPolicy, Policy

_MEASUREMENT = bytes(range(48))
_NONCE = bytes(range(32))
_CONFIG, _IMAGE = bytes([1]) * 32, bytes([2]) * 32


@pytest.fixture(scope="module")
def guest(tmp_path_factory):
    return SimulatedPlatform(tmp_path_factory.mktemp("sim"), product="Genoa").launch(_MEASUREMENT)


@pytest.fixture(scope="module")
def nvidia(tmp_path_factory):
    return SimulatedNvidia(tmp_path_factory.mktemp("nvidia"))


@pytest.fixture(scope="module")
def source(nvidia):
    return nvidia.source()


@pytest.fixture(scope="module")
def key_configs():
    return keys.encode_key_configs([key.config for key in keys.generate_keys()])


@pytest.fixture
def attester(guest, source, key_configs):
    return Attester(
        SnpSource(guest, guest),
        key_configs=key_configs,
        runtime_config_sha256=_CONFIG,
        image_sha256=_IMAGE,
        gpus=source,
    )


@pytest.fixture
def bundle(attester):
    return parse_bundle(attester.challenge(_NONCE))


@pytest.fixture
def policy(guest, nvidia):
    base = Policy(
        schema=1,
        gpu=GpuPolicy(gpus=1, simulated_roots=tuple(sorted(nvidia.root_sha256s)), require_guest_state=True),
        binding=BindingPolicy(image_sha256=(_IMAGE,), runtime_config_sha256=(_CONFIG,)),
    )
    return base.with_snp(measurements=(_MEASUREMENT,), simulated_roots=(guest.platform.root_sha256,))


@pytest.fixture
def verify(policy):
    def verify(bundle, policy=policy, **options):
        return verify_bundle(encode_bundle(bundle), policy, at=datetime.now(UTC), nonce=_NONCE, **options)

    return verify


def failed(verified):
    return [check.id for check in verified.result.failures]


def resigned(bundle, guest, gpu, *, digest=None):
    """A bundle whose processor signs for this GPU part: what a machine could make whose guest is not honest."""
    statement = parse_statement(bundle.statement)
    named = digest if digest is not None else gpu_digest(gpu.devices, gpu.state)
    signed = replace(statement, gpu_digest=named).to_cbor()
    return replace(bundle, statement=signed, cpu=SnpSource(guest, guest).evidence(report_data(signed)), gpu=gpu)


def test_a_machine_with_a_gpu_is_accepted_whole_and_both_are_bound_to_one_statement(bundle, verify):
    verified = verify(bundle)
    passed = {check.id for check in verified.result.checks if check.status is Status.PASS}
    assert failed(verified) == []
    assert verified.result.simulated
    assert {Check.BINDING_GPU, Check.GPU_NONCE, Check.GPU_MEASUREMENTS, Check.SNP_MEASUREMENT} <= passed
    assert verified.result.evidence["gpu"]["devices"][0]["subject"] == "GPU-0"
    assert [values.device.subject for values in verified.gpus.devices] == ["GPU-0"]


def test_the_gpus_sign_a_nonce_that_follows_from_the_statement(bundle):
    statement = parse_statement(bundle.statement)
    assert {device.nonce for device in bundle.gpu.devices} == {gpu_nonce(statement)}
    assert statement.gpu_digest == gpu_digest(bundle.gpu.devices, bundle.gpu.state)


def test_a_swapped_gpu_is_refused_even_though_it_answered_the_right_nonce(bundle, verify, nvidia):
    stranger = nvidia.source([nvidia.gpu(number=1)])
    swapped = stranger.collect(gpu_nonce(parse_statement(bundle.statement)))
    assert failed(verify(replace(bundle, gpu=swapped))) == [Check.BINDING_GPU]


def test_a_replayed_gpu_is_refused_even_by_a_guest_that_signs_for_it(bundle, verify, guest, source):
    old = source.collect(bytes(32))
    assert failed(verify(resigned(bundle, guest, old))) == [Check.GPU_NONCE]
    assert failed(verify(replace(bundle, gpu=old))) == [Check.GPU_NONCE, Check.BINDING_GPU]


def test_a_gpu_that_is_left_out_is_missed_by_the_policy_and_by_the_statement(bundle, verify, policy):
    assert failed(verify(replace(bundle, gpu=None))) == [Check.GPU_DEVICES_COUNT, Check.BINDING_GPU]
    lenient = policy.with_gpu(gpus=None)
    assert failed(verify(replace(bundle, gpu=None), lenient)) == [Check.BINDING_GPU]


def test_a_gpu_that_is_added_is_refused(bundle, verify, nvidia, source):
    both = nvidia.source([source.devices[0], nvidia.gpu(number=1)])
    added = both.collect(gpu_nonce(parse_statement(bundle.statement)))
    assert failed(verify(replace(bundle, gpu=added))) == [Check.GPU_DEVICES_COUNT, Check.BINDING_GPU]


def test_gpus_in_another_order_are_other_evidence(guest, nvidia, key_configs, verify, policy):
    pair = nvidia.source([nvidia.gpu(number=0), nvidia.gpu(number=1)])
    attester = Attester(
        SnpSource(guest, guest),
        key_configs=key_configs,
        runtime_config_sha256=_CONFIG,
        image_sha256=_IMAGE,
        gpus=pair,
    )
    two = parse_bundle(attester.challenge(_NONCE))
    lenient = policy.with_gpu(gpus=2)
    assert failed(verify(two, lenient)) == []
    assert two.gpu is not None
    turned = replace(two, gpu=replace(two.gpu, devices=two.gpu.devices[::-1]))
    assert failed(verify(turned, lenient)) == [Check.BINDING_GPU]


def test_what_the_guest_says_of_its_gpus_cannot_be_changed_on_the_way(bundle, verify):
    state = replace(bundle.gpu.state, devtools=True)
    changed = replace(bundle, gpu=replace(bundle.gpu, state=state))
    assert failed(verify(changed)) == [Check.GPU_GUEST_DEVTOOLS, Check.BINDING_GPU]
    missing = replace(bundle, gpu=replace(bundle.gpu, state=None))
    assert Check.BINDING_GPU in failed(verify(missing))


def test_a_guest_that_says_devtools_is_refused_though_all_is_bound(bundle, verify, guest):
    state = replace(bundle.gpu.state, devtools=True)
    assert failed(verify(resigned(bundle, guest, replace(bundle.gpu, state=state)))) == [Check.GPU_GUEST_DEVTOOLS]


def test_a_statement_that_names_no_gpu_does_not_cover_one_that_comes_along(bundle, verify, guest):
    statement = replace(parse_statement(bundle.statement), gpu_digest=None).to_cbor()
    cpu = SnpSource(guest, guest).evidence(report_data(statement))
    assert failed(verify(replace(bundle, statement=statement, cpu=cpu))) == [Check.BINDING_GPU]


def test_a_machine_without_gpus_is_accepted_only_where_the_policy_demands_none(guest, key_configs, verify, policy):
    attester = Attester(
        SnpSource(guest, guest), key_configs=key_configs, runtime_config_sha256=_CONFIG, image_sha256=_IMAGE
    )
    bare = parse_bundle(attester.challenge(_NONCE))
    assert failed(verify(bare)) == [Check.GPU_DEVICES_COUNT]
    assert failed(verify(bare, policy.with_gpu(gpus=None))) == []
    assert failed(verify(bare, policy.with_gpu(gpus=0))) == []
    assert failed(verify(bare, policy.with_gpu(gpus=None, switches=4))) == [Check.GPU_DEVICES_COUNT]


def test_a_simulated_gpu_is_refused_where_the_policy_does_not_name_its_root(bundle, verify, policy):
    with pytest.raises(VerificationError) as caught:
        verify(bundle, policy.with_gpu(simulated_roots=()))
    assert caught.value.failed.id is Check.GPU_ROOT_PINNED


def test_a_changed_report_of_a_gpu_is_not_genuine(bundle, verify):
    device = bundle.gpu.devices[0]
    report = bytearray(device.report)
    report[110] ^= 1  # within a measured value
    forged = replace(bundle.gpu, devices=(replace(device, report=bytes(report)),))
    with pytest.raises(VerificationError) as caught:
        verify(replace(bundle, gpu=forged))
    assert caught.value.failed.id is Check.GPU_REPORT_SIGNATURE


def test_a_rim_that_is_missing_in_the_bundle_may_be_the_clients_own(bundle, verify):
    bare = replace(bundle, gpu=replace(bundle.gpu, rims=()))
    with pytest.raises(MaterialUnavailable, match="NV_GPU_DRIVER_GH100"):
        verify(bare)
    assert failed(verify(bare, more_rims=bundle.gpu.rims)) == []


def test_the_bundle_with_gpus_reads_back_as_written_and_refuses_labels_that_nobody_looks_at(bundle):
    data = encode_bundle(bundle)
    assert parse_bundle(data) == bundle
    for old, new in (
        (b'"gpu_state":', b'"gpu_stats":'),
        (b'"rim/1":', b'"rim/2":'),
        (b'"gpu_crl/0":', b'"gpu_crl/9":'),
        (b'"ocsp/0":', b'"ocsp/x":'),
    ):
        assert old in data
        with pytest.raises(MalformedEvidence):
            parse_bundle(data.replace(old, new))


def test_more_material_than_a_bundle_may_carry_is_refused_before_it_is_read(bundle):
    for name, limit in (("rims", 16), ("crls", 8), ("ocsp", 64)):
        part = replace(bundle.gpu, **{name: (b"x",) * (limit + 1)})
        with pytest.raises(MalformedEvidence, match="more than"):
            encode_bundle(replace(bundle, gpu=part))
