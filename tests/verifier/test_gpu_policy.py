"""The table [gpu] of a policy: every key of it changes a verdict, and keys that contradict each other are refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from hashlib import sha256
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest

from dokimos.attest.sim_gpu import DRIVER, ENABLED, LS10
from dokimos.attest.sim_gpu_certificate import DEBUG, NOT_SECURE
from dokimos.attest.sim_rim import SimRim
from dokimos.endorsements.rim_store import RimStore
from dokimos.errors import Check, MaterialUnavailable, Status, UsageError, VerificationError
from dokimos.verifier.appraise_gpu import appraise_gpus
from dokimos.verifier.ear import to_ear
from dokimos.verifier.gpu_machine import GpuMaterial, VerifiedGpus, verify_gpus
from dokimos.verifier.gpu_policy import DriverVersion, Mode, NrasRules, VbiosVersion
from dokimos.verifier.gpu_result import rejected
from dokimos.verifier.gpu_revocation import RevocationMaterial
from dokimos.verifier.policy import Policy, load_policy
from dokimos.verifier.policy_keys import entries
from dokimos.verifier.result import Verdict
from tests.endorsements import fake_nras as nras
from tests.generate.gpu_machines import (
    AT,
    EVERY,
    EVERY_BLACKWELL,
    NONCE,
    PKI,
    ROOTS,
    STATE,
    TRUST,
    Machine,
    Revoked,
    activated,
    device,
    hgx,
    machine,
    revocation,
)

NOTHING: Mapping[str, Any] = MappingProxyType({})
NAMED = f"simulated_roots = [{', '.join(chr(34) + root.hex() + chr(34) for root in ROOTS)}]\n"


def quoted(*values: object) -> str:
    return "[" + ", ".join(f'"{value}"' for value in values) + "]"


class Case(NamedTuple):
    """A key with a value under which a machine is accepted, and one under which it is not."""

    good: str
    bad: str
    check: Check
    build: Callable[[], Machine] = machine
    call: Mapping[str, Any] = NOTHING
    files: Callable[[Machine], Mapping[str, bytes]] = lambda _: {}
    rest: str = ""


def lists(made: Machine) -> Mapping[str, bytes]:
    return revocation(made)[0]


def on_hold(made: Machine) -> Mapping[str, bytes]:
    crls, answers = revocation(made, Revoked(rim=(0,), hold=True))
    return crls | answers


SERIAL = device().entities[0].certificate.serial_number
RIMS = quoted(*(sha256(data).hexdigest() for data in machine().rims.values()))
SIGNER = quoted(sha256(SimRim.of(EVERY, DRIVER).signers(PKI)[0].der).hexdigest())
OTHERS = quoted("ee" * 32)

CASES = {
    "gpus": Case("1", "2", Check.GPU_DEVICES_COUNT),
    "switches": Case("0", "4", Check.GPU_DEVICES_COUNT),
    "architectures": Case('["BLACKWELL", "HOPPER"]', '["BLACKWELL"]', Check.GPU_ARCH_ALLOWED),
    "simulated_roots": Case(quoted(*(root.hex() for root in ROOTS)), OTHERS, Check.GPU_ROOT_PINNED),
    "require_nonce": Case("false", "true", Check.GPU_NONCE, call={"nonce": None}),
    "revocation": Case('"crl"', '"both"', Check.GPU_OCSP_REQUIRED, files=lists),
    "allow_hold": Case("true", "false", Check.GPU_OCSP_STATUS, files=on_hold),
    "rim_sha256": Case(RIMS, OTHERS, Check.GPU_RIM_PINNED),
    "rim_signer_sha256": Case(SIGNER, OTHERS, Check.GPU_RIM_PINNED),
    "serials": Case(quoted(1, SERIAL), quoted(1), Check.GPU_SERIAL_ALLOWED),
    "denied_serials": Case(quoted(1), quoted(1, SERIAL), Check.GPU_SERIAL_DENIED),
    "driver_minimum": Case('"580.95.05"', '"580.95.06"', Check.GPU_DRIVER_MINIMUM),
    "denied_drivers": Case('["580.95.06"]', '["580.95.06", "580.95.05"]', Check.GPU_DRIVER_DENIED),
    "vbios_minimum": Case('["96.00.74.00.1A"]', '["96.00.74.00.1b"]', Check.GPU_VBIOS_MINIMUM),
    "modes": Case('["spt"]', '["mpt", "ppcie"]', Check.GPU_MODE),
    "topology": Case('"if-protected"', '"require"', Check.GPU_TOPOLOGY),
    "nvdec0": Case('"enabled"', '"disabled"', Check.GPU_NVDEC0, lambda: machine(device(nvdec0=ENABLED))),
    "require_fwid": Case("false", "true", Check.GPU_FWID_REQUIRED, lambda: machine(tlvs={20: None})),
    "dice_flags": Case(
        '["debug"]',
        '["not_secure"]',
        Check.GPU_DICE_FLAGS,
        lambda: machine(device(EVERY_BLACKWELL, flags=NOT_SECURE)),
    ),
    "opaque_version": Case('"report"', '"fail"', Check.GPU_OPAQUE_VERSION, lambda: machine(tlvs={34: b"\2\0"})),
    "unknown_opaque": Case('"report"', '"fail"', Check.GPU_OPAQUE_UNKNOWN, lambda: machine(tlvs={200: b"new"})),
    "unmeasured": Case(
        '"report"',
        '"fail"',
        Check.GPU_MEASUREMENTS_UNMEASURED,
        lambda: machine(rims=activated(DRIVER, 63, active=False)),
    ),
    "require_guest_state": Case("false", "true", Check.GPU_GUEST_CC, call={"state": None}),
    "allow_devtools": Case("true", "false", Check.GPU_GUEST_DEVTOOLS, call={"state": replace(STATE, devtools=True)}),
}


def result_of(case: Case, key: str, value: str):
    """The failed checks under a policy in which the key has this value."""
    text = f"schema = 1\n[gpu]\n{NAMED if key != 'simulated_roots' else ''}{case.rest}{key} = {value}\n"
    policy, made = load_policy(text), case.build()
    material = GpuMaterial(rims=RimStore.of(made.rims), revocation=RevocationMaterial.of(case.files(made)))
    try:
        verified = verify_gpus(made.evidence, material, trust=policy.gpu_trust(), at=AT)
    except VerificationError as exc:
        return Verdict.REJECTED, {exc.failed.id}
    result = appraise_gpus(verified, policy, **{"nonce": NONCE, "state": STATE, **case.call})
    return result.verdict, {item.id for item in result.failures}


@pytest.mark.parametrize("key", CASES)
def test_every_key_changes_the_verdict_of_the_same_machine(key):
    case = CASES[key]
    assert result_of(case, key, case.good) == (Verdict.ACCEPTED, set())
    verdict, failed = result_of(case, key, case.bad)
    assert (verdict, case.check in failed) == (Verdict.REJECTED, True)
    assert {check.partition(".guest.")[0] for check in failed} == {case.check.partition(".guest.")[0]}


@pytest.mark.parametrize(("text", "modes"), [("[0, 2]", (Mode.SPT, Mode.PPCIE)), ('[1, "mpt"]', (Mode.MPT,))])
def test_a_mode_is_named_by_its_number_too(text, modes):
    assert load_policy(f"schema = 1\n[gpu]\nmodes = {text}\n").gpu.modes == modes


def test_every_key_of_the_table_has_a_case():
    listed = {entry.path for entry in entries(Policy) if entry.path.startswith("gpu.")}
    assert listed == {*(f"gpu.{key}" for key in CASES), "gpu.nras", "gpu.nras.accept", "gpu.nras.signer_spki_sha256"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('serials = ["5", "6"]\ndenied_serials = ["6", "7"]', "both name 6"),
        ('vbios_minimum = ["96.00.74.00.01", "96.00.9F.00.01"]', "names a family twice"),
        ('vbios_minimum = ["96.10.74.00.01", "97.00.9F.00.01", "96.10.74.00.01"]', "names a family twice"),
    ],
)
def test_keys_that_contradict_each_other_are_refused(text, said):
    with pytest.raises(UsageError, match=said):
        load_policy(f"schema = 1\n[gpu]\n{text}\n")


@pytest.mark.parametrize(
    "text",
    [
        "gpus = -1",
        "gpus = 65",
        "gpus = true",
        "switches = 65",
        'architectures = ["hopper"]',
        "architectures = []",
        "modes = []",
        "modes = [3]",
        "modes = [true]",
        'modes = ["SPT"]',
        'simulated_roots = ["00"]',
        "serials = [5]",
        'serials = ["05"]',
        'serials = ["0x5"]',
        f'serials = ["{"9" * 50}"]',
        'denied_serials = "5"',
        'driver_minimum = "550"',
        'driver_minimum = "550.x"',
        "driver_minimum = 550.1",
        'driver_minimum = "550.54.14.1.1"',
        'denied_drivers = "550.54.14"',
        'vbios_minimum = ["96.00.74.00"]',
        'vbios_minimum = ["96.00.74.00.GG"]',
        'vbios_minimum = "96.00.74.00.01"',
        'nvdec0 = "off"',
        'dice_flags = ["secure"]',
        'unmeasured = "ignore"',
        'revocation = "if-present"',
        "require_nonce = 1",
        "minimum_driver = 1",
        "[gpu.nras]\naccept = 1",
        '[gpu.nras]\nsigners = ["00"]',
    ],
)
def test_wrong_types_and_unknown_keys_are_refused(text):
    with pytest.raises(UsageError, match=r"^policy: "):
        load_policy(f"schema = 1\n[gpu]\n{text}\n")


def test_no_operational_flag_need_be_refused_and_all_are_by_default():
    made = machine(device(EVERY_BLACKWELL, flags=DEBUG | NOT_SECURE))
    case = Case("[]", '["debug", "recovery"]', Check.GPU_DICE_FLAGS, lambda: made)
    assert result_of(case, "dice_flags", case.good) == (Verdict.ACCEPTED, set())
    assert result_of(case, "dice_flags", case.bad) == (Verdict.REJECTED, {Check.GPU_DICE_FLAGS})
    assert result_of(case, "unmeasured", '"report"') == (Verdict.REJECTED, {Check.GPU_DICE_FLAGS})


def test_a_minimum_for_gpus_says_nothing_of_switches_and_each_needs_its_own():
    both = 'vbios_minimum = ["96.00.A5.00.01", "96.10.73.00.01"]'
    for text, verdict in ((both, Verdict.ACCEPTED), (both.replace("10.73", "10.74"), Verdict.REJECTED)):
        key, _, value = text.partition(" = ")
        assert result_of(Case("", "", Check.GPU_VBIOS_MINIMUM, hgx), key, value)[0] is verdict
    for one in ('["96.00.A5.00.01"]', '["96.10.73.00.01"]'):
        found = result_of(Case("", "", Check.GPU_VBIOS_MINIMUM, hgx), "vbios_minimum", one)
        assert found == (Verdict.REJECTED, {Check.GPU_VBIOS_MINIMUM})
    switch = Case("", "", Check.GPU_VBIOS_MINIMUM, lambda: machine(device(LS10)))
    assert result_of(switch, "vbios_minimum", '["96.00.00.00.00"]')[0] is Verdict.REJECTED


def test_versions_are_ordered_by_their_numbers():
    ordered = ["535.86.09", "545.00", "550.54.14", "550.90.07", "550.113", "550.127.05", "1000.1"]
    parsed = [DriverVersion.parse(text) for text in ordered]
    assert sorted(parsed, key=lambda version: version.parts) == parsed
    assert DriverVersion.parse("550.113").parts == DriverVersion.parse("550.113.0").parts
    assert VbiosVersion.parse("96.00.9f.00.01").text == "96.00.9F.00.01"
    assert VbiosVersion.parse("96.00.9f.00.01").parts > VbiosVersion.parse("96.00.9E.FF.FF").parts
    assert Mode.of(3) is None


# The remote attestation service


PINS = f'[gpu.nras]\naccept = true\nsigner_spki_sha256 = ["{nras.pin().hex()}"]\n'
ACCEPTING = load_policy(f"schema = 1\n[gpu]\n{NAMED}{PINS}")


def with_token(made: Machine, policy: Policy, **overall: Any) -> VerifiedGpus:
    """The machine verified with a token in place of RIMs, which says that all is well unless told otherwise."""
    plain = verify_gpus(made.evidence, GpuMaterial(), trust=TRUST, at=nras.NOW, reference_values=False)
    answer = nras.answer([values.device.ueid for values in plain.devices], overall=overall)
    material = GpuMaterial(nras=answer, nras_keys=nras.key_set())
    return verify_gpus(made.evidence, material, trust=policy.gpu_trust(), at=nras.NOW)


def test_a_token_stands_in_place_of_rims_only_where_the_policy_accepts_it_and_its_signer():
    made = machine()
    result = appraise_gpus(with_token(made, ACCEPTING), ACCEPTING, nonce=NONCE, state=STATE)
    assert (result.verdict, result.simulated) == (Verdict.ACCEPTED, True)
    said: Any = result.evidence["nras"]
    assert said["overall"] == {"value": True, "established": "said by NVIDIA's remote attestation service"}
    assert [one["ueid"]["value"] for one in said["devices"]] == [str(SERIAL)]
    ear: Any = to_ear(result)
    assert ear["submods"]["gpu0"]["ear_trustworthiness_vector"]["executables"] == 3
    skipped = {item.id for item in result.checks if item.status is Status.SKIP and "token" in item.message}
    assert {Check.GPU_MEASUREMENTS, Check.GPU_MEASUREMENTS_GOLDEN, Check.GPU_RIM_VERSION} <= skipped
    with pytest.raises(UsageError, match=r"gpu\.nras\.accept"):
        with_token(made, load_policy(f"schema = 1\n[gpu]\n{NAMED}{PINS.replace('true', 'false')}"))
    with pytest.raises(VerificationError) as caught:
        with_token(made, load_policy(f"schema = 1\n[gpu]\n{NAMED}[gpu.nras]\naccept = true\n"))
    assert caught.value.failed.id is Check.NRAS_SIGNER_PINNED
    with pytest.raises(VerificationError) as caught:
        with_token(made, ACCEPTING, **{"x-nvidia-overall-att-result": False})
    assert caught.value.failed.id is Check.NRAS_TOKEN_RESULT
    assert rejected(caught.value, at=nras.NOW).simulated


def test_a_policy_that_pins_rims_says_that_a_token_stands_in_their_place():
    policy = ACCEPTING.with_gpu(rim_sha256=(b"\xee" * 32,))
    result = appraise_gpus(with_token(machine(), policy), policy, nonce=NONCE)
    (pinned,) = [item for item in result.checks if item.id is Check.GPU_RIM_PINNED]
    assert (pinned.status, "token" in pinned.message) == (Status.SKIP, True)


def test_a_token_of_a_simulated_service_makes_the_result_simulated_whatever_the_devices_are():
    verified = with_token(machine(), ACCEPTING)
    devices = tuple(
        replace(values, device=replace(values.device, chain=replace(values.device.chain, simulated=False)))
        for values in verified.devices
    )
    assert replace(verified, devices=devices).simulated
    assert not replace(verified, devices=devices, token_claims=None).simulated


def test_a_token_that_was_verified_under_another_policy_counts_for_nothing():
    result = appraise_gpus(with_token(machine(), ACCEPTING), load_policy(f"schema = 1\n[gpu]\n{NAMED}"), nonce=NONCE)
    assert {Check.GPU_MEASUREMENTS, Check.GPU_MEASUREMENTS_GOLDEN} <= {item.id for item in result.failures}


def test_a_token_without_key_set_or_of_mixed_nonces_is_refused():
    with pytest.raises(MaterialUnavailable, match="key set"):
        verify_gpus(machine().evidence, GpuMaterial(nras=b"[]"), trust=ACCEPTING.gpu_trust(), at=AT)
    with pytest.raises(UsageError, match="different ones"):
        with_token(machine(device(), device(EVERY, 1), nonces=(NONCE, bytes(32))), ACCEPTING)
    assert ACCEPTING.gpu.nras == NrasRules(accept=True, signer_spki_sha256=(nras.pin(),))
