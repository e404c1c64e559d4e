"""Canonical JSON, envelopes, statements and leaves."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import replace

import pytest
from click.testing import CliRunner
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from hypothesis import given
from hypothesis import strategies as st

from dokimos.commands.measure_image import image
from dokimos.commands.write_statement import image_statement
from dokimos.cvm_image import layout
from dokimos.errors import Check, ExitCode, MalformedEvidence, UsageError, VerificationError
from dokimos.measurements.image import Measurements, SnpDigest, SnpMeasurements, format_measurements
from dokimos.transparency.canonical import MAX_NUMBER, encode_canonical, parse_canonical, parse_json
from dokimos.transparency.dsse import encode_envelope, pae, parse_envelope, sign_envelope, verify_envelope
from dokimos.transparency.leaf import (
    ActiveSet,
    ActiveSetLeaf,
    KeyConfig,
    Release,
    Revoked,
    encode_active_set,
    encode_leaf,
    parse_active_set,
    parse_leaf,
)  # fmt: skip
from dokimos.transparency.statement import Statement, encode_statement, parse_statement

from ..test_fuzz_targets import load

FUZZ = load("fuzz_transparency_statement")
GOOD: Statement = FUZZ.STATEMENT
KEYS = [Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32) for n in range(3)]
PUBLIC = [key.public_key().public_bytes_raw() for key in KEYS]
H = "12" * 32
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-MAX_NUMBER, MAX_NUMBER) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=10,
)


@given(VALUES)
def test_a_value_and_its_canonical_form_make_each_other_up(value):
    data = encode_canonical(value)
    assert parse_canonical(data, "value") == value
    assert parse_json(json.dumps(value, indent=3).encode(), "value") == value


def test_names_are_sorted_by_utf16_and_escapes_are_the_shortest():
    # The order and the escapes of RFC 8785, 3.2.2 and 3.2.3.
    value = {"\u20ac": 1, "\r": 2, "\ufb33": 3, "1": 4, "\U0001f600": 5, "\x80": 6, "\u00f6": 7}
    names = list(json.loads(encode_canonical(value)))
    assert names == ["\r", "1", "\x80", "\u00f6", "\u20ac", "\U0001f600", "\ufb33"]
    assert encode_canonical('\u20ac$\x0f\nA\'B"\\\\"/') == '"\u20ac$\\u000f\\nA\'B\\"\\\\\\\\\\"/"'.encode()


@pytest.mark.parametrize(
    "data",
    [b'{"a":1,"a":1}', b"1.0", b"1e3", b"NaN", b"9007199254740992", b"-" + b"9" * 5000, b'"\\ud800"', b"\xff", b"",
     b"[" * 40 + b"]" * 40, b"[" * 100_000],
)  # fmt: skip
def test_what_has_no_one_form_is_refused(data):
    with pytest.raises(MalformedEvidence):
        parse_json(data, "input")


@pytest.mark.parametrize("data", [b'{"b":1,"a":2}', b'{"a": 1}', b'"\\u0041"', b"-0", b"1\n"])
def test_another_spelling_of_a_value_is_not_canonical(data):
    with pytest.raises(MalformedEvidence):
        parse_canonical(data, "input")


def test_the_worked_example_of_the_protocol_verifies_and_no_change_of_it(vectors):
    found = vectors("transparency/dsse")
    case = json.loads(found.bytes("protocol-example.json"))
    payload, kind, raw = base64.b64decode(case["payload"]), case["payloadType"], base64.b64decode(case["sig"])
    assert pae(kind, payload).decode() == found.manifest["expected"]["pae"] == case["pae"]
    point = ec.EllipticCurvePublicNumbers(int(case["public_key"]["x"]), int(case["public_key"]["y"]), ec.SECP256R1())
    key = point.public_key()
    signature = encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
    key.verify(signature, pae(kind, payload), ec.ECDSA(SHA256()))
    for changed in (pae(kind, payload + b"x"), pae(kind + "x", payload), pae(kind, b"j" + payload[1:])):
        with pytest.raises(InvalidSignature):
            key.verify(signature, changed, ec.ECDSA(SHA256()))


def test_as_many_different_keys_must_sign_as_the_threshold_says():
    two = parse_envelope(encode_envelope(sign_envelope("t", b"body", [KEYS[0], KEYS[1]])))
    assert verify_envelope(two, PUBLIC, 2, "t") == b"body"
    twice = sign_envelope("t", b"body", [KEYS[0], KEYS[0]])
    for envelope, threshold in ((two, 3), (twice, 2)):
        with pytest.raises(VerificationError) as caught:
            verify_envelope(envelope, PUBLIC, threshold, "t")
        assert caught.value.failed.id is Check.STATEMENT_SIGNATURE


def test_a_changed_payload_type_or_hint_is_no_way_around_the_signature():
    good = sign_envelope("t", b"body", [KEYS[0]])
    renamed = replace(good, signatures=(replace(good.signatures[0], keyid="another"),))
    assert verify_envelope(renamed, PUBLIC, 1, "t") == b"body"
    for bad in (replace(good, payload=b"bodY"), replace(good, payload_type="u")):
        with pytest.raises(VerificationError, match=r"statement\.signature"):
            verify_envelope(bad, PUBLIC, 1, bad.payload_type)
    with pytest.raises(VerificationError) as caught:
        verify_envelope(good, PUBLIC, 1, "u")
    assert caught.value.failed.id is Check.STATEMENT_TYPE


@pytest.mark.parametrize(
    ("keys", "threshold"), [(PUBLIC, 0), (PUBLIC, 4), ([PUBLIC[0]] * 2, 1), ([], 0), ([b"short"], 1)]
)
def test_keys_and_thresholds_that_make_no_sense_are_refused(keys, threshold):
    with pytest.raises(UsageError):
        verify_envelope(sign_envelope("t", b"", [KEYS[0]]), keys, threshold, "t")


@pytest.mark.parametrize(
    "change",
    [{"signatures": []}, {"signatures": [{"sig": ""}] * 65}, {"payload": "YQ"}, {"payload": "YR=="}, {"payload": 1},
     {"more": 1}, {"payloadType": ""}, {"signatures": [{"keyid": "x"}]}, {"signatures": [{"sig": "", "cert": ""}]}],
)  # fmt: skip
def test_a_malformed_envelope_is_refused(change):
    value = {"payload": "YQ==", "payloadType": "t", "signatures": [{"sig": "YQ=="}]}
    parse_envelope(json.dumps(value).encode())
    with pytest.raises(MalformedEvidence):
        parse_envelope(json.dumps({**value, **change}).encode())


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s.update(more=1),
        lambda s: s["predicate"].update({"more": 1}),
        lambda s: s["predicate"].pop("gpu"),
        lambda s: s["predicate"].update(schema=2),
        lambda s: s["predicate"].update(schema=True),
        lambda s: s["predicate"].update(build_number=-1),
        lambda s: s["predicate"]["snp"].update(digests=[]),
        lambda s: s["predicate"]["snp"]["digests"].append(s["predicate"]["snp"]["digests"][0]),
        lambda s: s["predicate"]["snp"]["digests"][0].update(launch_digest="CD" * 48),
        lambda s: s["predicate"]["tdx"].update(mrtd=H),
        lambda s: s["predicate"]["tdx"]["machines"].append(s["predicate"]["tdx"]["machines"][0]),
        lambda s: s["subject"].append(s["subject"][0]),
        lambda s: s["subject"][0]["digest"].update(sha512=""),
        lambda s: s.update(subject=[]),
        lambda s: s.update(_type="other"),
        lambda s: s.update(predicateType="other"),
    ],
)
def test_a_statement_that_says_more_less_or_two_things_is_refused(change):
    value = json.loads(encode_statement(GOOD))
    assert parse_statement(encode_canonical(value)) == GOOD
    change(value)
    with pytest.raises(MalformedEvidence):
        parse_statement(encode_canonical(value))


@given(st.text(max_size=20), st.integers(0, MAX_NUMBER), st.integers(1, 40))
def test_a_statement_and_its_bytes_make_each_other_up(name, number, rows):
    (row,) = GOOD.predicate.snp.digests
    snp = replace(GOOD.predicate.snp, digests=tuple(replace(row, vcpus=n) for n in range(rows)))
    found = replace(GOOD, predicate=replace(GOOD.predicate, name=name, build_number=number, snp=snp))
    assert parse_statement(encode_statement(found)) == found


@pytest.mark.parametrize(
    "leaf",
    [
        FUZZ.LEAF,
        ActiveSetLeaf(name="cpu", epoch=2, statement_sha256=H, envelope_sha256=H, size=3),
        KeyConfig(name="cpu", role="engine", key_config_sha256=H, size=3),
    ],
)
def test_a_leaf_reads_as_its_own_kind_only(leaf):
    value = json.loads(encode_leaf(leaf))
    assert parse_leaf(encode_canonical(value)) == leaf
    others = {"release", "active-set", "key-config", "other"} - {value["kind"]}
    changes: list[dict] = [*({"kind": kind} for kind in others), {"v": 2}, {"v": True}, {"more": 1}, {"size": "3"}]
    for change in changes:
        with pytest.raises(MalformedEvidence):
            parse_leaf(encode_canonical({**value, **change}))
    assert isinstance(leaf, Release | ActiveSetLeaf | KeyConfig)


def test_an_active_set_that_contradicts_itself_is_refused():
    good: ActiveSet = FUZZ.ACTIVE
    assert parse_active_set(encode_active_set(good)) == good
    revoked = (Revoked(statement_sha256=good.active[0], reason="broken"),)
    for bad in (replace(good, revoked=revoked), replace(good, expires=1), replace(good, active=good.active * 2)):
        with pytest.raises(MalformedEvidence):
            parse_active_set(encode_active_set(bad))


def _parts() -> tuple[layout.Manifest, tuple[layout.FileEntry, ...], Measurements]:
    volume = layout.VolumeInfo(
        name="root", file="root.img", filesystem="squashfs", mount="/", data_blocks=1, salt=H, root_hash=H, uuid=""
    )
    artifacts = [layout.Artifact(name=name, size=1, sha256=H) for name in (layout.KERNEL, layout.SBOM)]
    manifest = layout.Manifest(
        profile="cpu", dokimos="0", source_date_epoch=1, lock_sha256=H, profile_sha256=H, command_line="quiet",
        boot=layout.BootInfo(memory=1, vcpus=1, vcpu_type="EPYC", port=1), volumes=(volume,), stages=(),
        artifacts=tuple(artifacts),
    )  # fmt: skip
    entry = layout.FileEntry(
        volume="model", path="/m", type="file", mode="0444", uid=0, gid=0, size=1, sha256=H, target="",
        origin="model:small",
    )  # fmt: skip
    snp = SnpMeasurements(
        firmware_sha256=H, kernel_sha256=H, initrd_sha256=H, command_line_sha256=H, guest_features=1, vmm="qemu",
        digests=(SnpDigest(vcpus=2, vcpu_type="EPYC", launch_digest="34" * 48),),
    )  # fmt: skip
    return manifest, (entry,), Measurements(snp=snp)


def _image(build: str) -> Statement:
    return image_statement(*_parts(), build)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    manifest, files, found = _parts()
    names = (layout.KERNEL, layout.SBOM, layout.LOCK, layout.PROFILE)
    for name in names:
        (tmp_path / name).write_text(name)
    digests = {name: hashlib.sha256(name.encode()).hexdigest() for name in names}
    manifest = replace(
        manifest,
        artifacts=tuple(replace(item, sha256=digests[item.name]) for item in manifest.artifacts),
        lock_sha256=digests[layout.LOCK],
        profile_sha256=digests[layout.PROFILE],
    )
    (tmp_path / layout.COMMAND_LINE).write_text("quiet")
    (tmp_path / layout.MANIFEST).write_text(layout.format_manifest(manifest))
    (tmp_path / layout.FILES).write_text(layout.format_files(files))
    (tmp_path / layout.MEASUREMENTS).write_text(format_measurements(found))
    # A launch and a volume need a real image; what stands between them and the statement does not.
    monkeypatch.setattr("dokimos.commands.measure_image._recompute", lambda *_: found)
    monkeypatch.setattr("dokimos.commands.measure_image._volumes", lambda *_: [])
    return tmp_path


def _run(folder, *more: str) -> int:
    return CliRunner().invoke(image, [str(folder), "-o", str(folder / "statement.json"), *more]).exit_code


def test_the_command_writes_the_statement_of_an_image_whose_files_agree(folder):
    assert _run(folder, "--build", "engine:1.0.0:7") == 0
    assert parse_statement((folder / "statement.json").read_bytes()).predicate.build_number == 7


@pytest.mark.parametrize("name", [layout.KERNEL, layout.SBOM, layout.LOCK, layout.PROFILE, layout.COMMAND_LINE])
def test_no_statement_is_written_of_an_image_whose_files_differ(folder, name):
    (folder / name).write_text("changed")
    assert _run(folder, "--build", "engine:1.0.0:7") == ExitCode.REJECTED
    assert not (folder / "statement.json").exists()


def test_no_statement_is_written_without_a_build(folder):
    assert _run(folder) != 0
    assert not (folder / "statement.json").exists()


def test_the_statement_of_an_image_names_all_that_the_image_says_of_itself():
    found = parse_statement(encode_statement(_image("engine:1.0.0:7")))
    assert (found.predicate.role, found.predicate.version, found.predicate.build_number) == ("engine", "1.0.0", 7)
    assert [item.name for item in found.subjects] == [layout.KERNEL, layout.SBOM]
    assert [(item.name, item.sha256) for item in found.predicate.models] == [("small", H)]
    assert found.predicate.tdx is None


@pytest.mark.parametrize("build", ["", "engine:1", "engine::1", "engine:1:x", "a:b:-1", "a:b:1:2"])
def test_a_build_without_role_version_and_number_gets_no_statement(build):
    with pytest.raises(UsageError):
        _image(build)
