"""The evidence file of GPUs, what the guest asserts, and the one digest over both."""

from __future__ import annotations

import base64
import contextlib
import json
from dataclasses import replace
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dokimos.errors import Check, Error, MalformedEvidence, UnsupportedEvidence
from dokimos.evidence.gpu_arch import Arch
from dokimos.evidence.gpu_evidence import (
    CHAIN_MAX,
    EVIDENCE_MAX,
    GpuEvidence,
    GuestState,
    encode_gpu_evidence,
    gpu_digest,
    parse_gpu_evidence,
    parse_guest_state,
    subjects,
)
from dokimos.evidence.gpu_report import REPORT_MAX

RIGHT = {
    "arch": "HOPPER",
    "nonce": "ab" * 32,
    "evidence": base64.b64encode(b"report").decode(),
    "certificate": base64.b64encode(b"-----BEGIN").decode(),
}
GPU = GpuEvidence(arch=Arch.HOPPER, nonce=b"\xab" * 32, report=b"report", chain=b"-----BEGIN")
SWITCH = replace(GPU, arch=Arch.LS10, report=b"switch")
STATE = GuestState(cc_feature=True, environment="production", devtools=False, ready=True, driver_version="590.12")
STATE_JSON = b'{"cc_feature":true,"devtools":false,"driver_version":"590.12","environment":"production","ready":true}'


def document(*devices):
    return json.dumps(devices).encode()


def refuse(data, text, error=MalformedEvidence, check=None):
    with pytest.raises(error, match=text) as caught:
        parse_gpu_evidence(data)
    assert caught.value.check is check


def test_the_real_files_are_read_and_written_again(vectors):
    found = vectors("nvidia/ppcie-hgx-8gpu-4switch")
    for name, arch, count in (("gpu_evidence.json", Arch.HOPPER, 8), ("switch_evidence.json", Arch.LS10, 4)):
        devices = parse_gpu_evidence(found.bytes(name))
        assert [device.arch for device in devices] == [arch] * count
        assert len({device.nonce for device in devices}) == 1
        assert len({device.report for device in devices}) == count
        assert all(device.chain.startswith(b"-----BEGIN CERTIFICATE-----\n") for device in devices)
        assert parse_gpu_evidence(encode_gpu_evidence(devices)) == devices
        written, read = json.loads(encode_gpu_evidence(devices)), json.loads(found.bytes(name))
        assert all(item.items() <= given.items() for item, given in zip(written, read, strict=True))


def test_members_without_a_name_decide_nothing():
    more: dict = RIGHT | {"version": "1.0", "driver_version": "1", "vbios_version": "2", "other": [1, 2.5, None, {}]}
    assert parse_gpu_evidence(document(more)) == (GPU,)


def test_a_number_of_any_length_in_a_member_without_a_name_costs_nothing():
    data = document(RIGHT)[:-2] + b', "other": ' + b"1" * 100_000 + b"}]"
    assert parse_gpu_evidence(data) == (GPU,)
    refuse(document(RIGHT).replace(b'"HOPPER"', b"1" * 100_000), "arch is missing or no text")


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "not a JSON document"),
        (b"\xff[]", "not a JSON document"),
        (b"[" * 100_000, "not a JSON document"),
        (document(RIGHT) + b"x", "not a JSON document"),
        (b'[{"arch":"HOPPER","arch":"HOPPER"}]', "not a JSON document"),
        (b"[NaN]", "not a JSON document"),
        (b"{}", "not a list of 1 to 64 devices"),
        (b"[]", "not a list of 1 to 64 devices"),
        (document(*[RIGHT] * 65), "not a list of 1 to 64 devices"),
        (document(RIGHT, []), "device 1: no object"),
        (document(RIGHT | {"evidence": ""}), "evidence: empty"),
        (document(RIGHT | {"evidence": "UkVQT1JU\n"}), "evidence: broken base64"),
        (document(RIGHT | {"evidence": "UkVQT1J"}), "evidence: broken base64"),
        (document(RIGHT | {"evidence": "UkVQT1K="}), "unused bits"),
        (document(RIGHT | {"evidence": "é"}), "evidence: broken base64"),
        (document(RIGHT | {"evidence": base64.b64encode(bytes(REPORT_MAX + 1)).decode()}), "more than 8192 bytes"),
        (document(RIGHT | {"certificate": base64.b64encode(bytes(CHAIN_MAX + 1)).decode()}), "more than 16384 bytes"),
        (document(RIGHT | {"certificate": "A" * (CHAIN_MAX * 2)}), "more than 16384 bytes"),
        (document(RIGHT | {"driver_version": 590}), "driver_version is missing or no text"),
        (document(RIGHT).ljust(EVIDENCE_MAX + 1), "larger than"),
    ],
)
def test_a_file_of_another_form_is_refused(data, text):
    refuse(data, text)


@pytest.mark.parametrize("name", RIGHT)
def test_a_device_without_one_of_its_parts_is_refused(name):
    refuse(document({key: value for key, value in RIGHT.items() if key != name}), f"{name} is missing or no text")
    refuse(document(RIGHT | {name: 1}), f"{name} is missing or no text")
    refuse(document(RIGHT | {name: None}), f"{name} is missing or no text")


@pytest.mark.parametrize("nonce", ["", "ab" * 31, "ab" * 33, "0x" + "ab" * 31, "zz" * 32, "ab " * 32])
def test_a_nonce_that_is_none_is_refused_by_its_own_check(nonce):
    refuse(document(RIGHT | {"nonce": nonce}), "nonce", check=Check.GPU_EVIDENCE_NONCE)


@pytest.mark.parametrize("arch", ["", "hopper", "AMPERE", "RUBIN"])
def test_an_architecture_that_is_not_supported_is_named(arch):
    refuse(document(RIGHT | {"arch": arch}), "are supported", UnsupportedEvidence, Check.GPU_EVIDENCE_ARCH)


def test_devices_are_numbered_by_kind():
    blackwell = replace(GPU, arch=Arch.BLACKWELL)
    assert subjects((GPU, SWITCH, blackwell, SWITCH, GPU)) == ("GPU-0", "SWITCH-0", "GPU-1", "SWITCH-1", "GPU-2")
    assert subjects(()) == ()


def test_the_digest_is_the_one_that_others_compute_by_hand():
    # A map of two: 1 is a list of two lists of kind and hashes, 2 is null or the state's bytes.
    listed = b"\x82" + b"".join(
        b"\x83" + kind + b"\x58\x20" + sha256(device.report).digest() + b"\x58\x20" + sha256(device.chain).digest()
        for kind, device in ((b"\x63gpu", GPU), (b"\x66switch", SWITCH))
    )
    for state, tail in ((None, b"\xf6"), (STATE, b"\x58" + bytes([len(STATE_JSON)]) + STATE_JSON)):
        expected = sha256(b"dokimos/gpu-evidence/v1\0" + b"\xa2\x01" + listed + b"\x02" + tail).digest()
        assert gpu_digest((GPU, SWITCH), state) == expected


def test_the_digest_changes_with_every_device_its_place_and_the_state():
    chain = replace(GPU, chain=b"other")
    variants = [
        gpu_digest(devices, state)
        for devices in ((), (GPU,), (SWITCH,), (chain,), (GPU, SWITCH), (SWITCH, GPU), (GPU, GPU))
        for state in (None, STATE, replace(STATE, devtools=True), replace(STATE, ready=False))
    ]
    assert len(set(variants)) == len(variants)


def test_the_state_has_one_encoding():
    assert STATE.to_json() == STATE_JSON
    assert parse_guest_state(STATE_JSON) == STATE


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        STATE_JSON + b" ",
        STATE_JSON.replace(b",", b", "),
        STATE_JSON.replace(b"true", b"1"),
        STATE_JSON.replace(b"true", b'"true"'),
        STATE_JSON.replace(b"production", b"prod"),
        STATE_JSON.replace(b'"production"', b"null"),
        STATE_JSON.replace(b'"production"', b"[]"),
        STATE_JSON.replace(b'"590.12"', b"590.12"),
        STATE_JSON.replace(b"590.12", b"\xc3\xa9"),
        STATE_JSON.replace(b"590.12", b"\\n"),
        STATE_JSON.replace(b"590.12", b"1" * 65),
        STATE_JSON.replace(b"590.12", b"\\u0031"),
        STATE_JSON[:-1] + b',"more":true}',
        STATE_JSON[:-1] + b',"ready":true}',
        STATE_JSON.replace(b',"ready":true', b""),
        b'{"ready":true,' + STATE_JSON[1:].replace(b',"ready":true', b""),
        STATE_JSON.ljust(600),
    ],
)
def test_another_encoding_of_the_state_is_refused(data):
    with pytest.raises(MalformedEvidence, match="GPU state of the guest"):
        parse_guest_state(data)


@pytest.mark.parametrize(
    "wrong", [{"ready": 1}, {"cc_feature": None}, {"devtools": "no"}, {"environment": ""}, {"driver_version": 1}]
)
def test_a_state_of_other_values_cannot_be_made(wrong):
    with pytest.raises(MalformedEvidence):
        replace(STATE, **wrong)


@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
def test_any_bytes_are_evidence_or_an_error_of_ours(data):
    with contextlib.suppress(Error):
        parse_gpu_evidence(data)
    with contextlib.suppress(Error):
        parse_guest_state(data)


@given(
    st.lists(
        st.builds(
            GpuEvidence,
            arch=st.sampled_from(Arch),
            nonce=st.binary(min_size=32, max_size=32),
            report=st.binary(min_size=1, max_size=50),
            chain=st.binary(min_size=1, max_size=50),
        ),
        min_size=1,
        max_size=64,
    )
)
def test_what_is_written_is_read_again(devices):
    assert parse_gpu_evidence(encode_gpu_evidence(devices)) == tuple(devices)
    assert len(set(subjects(devices))) == len(devices)
