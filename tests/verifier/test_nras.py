"""Answers of the remote attestation service: genuine ones, and own ones with every fault that one may have."""

from __future__ import annotations

import importlib.util
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from dokimos.endorsements.nras import NrasKey, parse_nras, parse_nras_keys
from dokimos.endorsements.nvidia_anchors import NRAS_INTERMEDIATES
from dokimos.errors import Check, MalformedEvidence, VerificationError
from dokimos.verifier.checklist import Checklist
from dokimos.verifier.nras import NrasClaims, detached_digests, verify_nras, verify_signer


def _load_fake():
    path = Path(__file__).resolve().parent.parent / "endorsements/fake_nras.py"
    spec = importlib.util.spec_from_file_location("fake_nras", path)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


fake = _load_fake()
NOW, NONCE, UEIDS = fake.NOW, fake.NONCE, fake.UEIDS
PINS = {fake.pin()}
SECOND = timedelta(seconds=1)


def verify(data=None, keys=None, *, nonce=NONCE, ueids=UEIDS, pins=None, at=NOW):
    return verify_nras(
        fake.answer() if data is None else data,
        fake.key_set() if keys is None else keys,
        nonce=nonce,
        ueids=ueids,
        pins=PINS if pins is None else pins,
        at=at,
        checks=Checklist(),
    )


def fails(check, match=None, *args, **options):
    with pytest.raises(VerificationError, match=match) as caught:
        verify(*args, **options)
    assert caught.value.failed.id is check


def malformed(check, match=None, *args, **options):
    with pytest.raises(MalformedEvidence, match=match) as caught:
        verify(*args, **options)
    assert caught.value.check is check


def test_a_good_answer_passes_every_check_and_its_claims_come_in_the_order_of_the_evidence():
    found = verify(ueids=UEIDS[::-1])
    assert found.names == ("GPU-1", "GPU-0")
    assert [claims["ueid"] for claims in found.devices] == list(UEIDS[::-1])
    assert found.overall["x-nvidia-overall-att-result"] is True
    assert found.simulated
    assert found.signer == "TEST Attestation Service (SIMULATED)"
    assert (found.issued, found.expires) == (NOW - timedelta(minutes=1), NOW + timedelta(minutes=59))
    ran = {result.id for result in found.checks}
    assert ran == {check for check in Check if check.startswith("nras.")}


def test_claims_are_made_by_verification_only():
    found = verify()
    with pytest.raises(TypeError):
        NrasClaims(**{name: getattr(found, name) for name in NrasClaims.__slots__ if name != "token"}, token=None)


def test_a_time_without_a_zone_is_a_bug():
    with pytest.raises(ValueError, match="time zone"):
        verify(at=NOW.replace(tzinfo=None))


# What the token says of its own signature


@pytest.mark.parametrize("algorithm", ["none", "None", "HS256", "HS384", "ES256", "RS256", "ES384 ", "es384", ""])
@pytest.mark.parametrize("which", ["overall", "device"])
def test_no_other_algorithm_than_es384_counts_whatever_the_header_says(algorithm, which):
    def other(claims):
        return fake.sign(
            claims, header={"kid": fake.KID, "alg": algorithm}, signature=b"" if "n" in algorithm else None
        )

    devices = {"GPU-0": (other if which == "device" else fake.sign)(fake.device_claims())}
    data = fake.answer(devices=devices, sign_overall=other if which == "overall" else fake.sign)
    fails(Check.NRAS_TOKEN_ALGORITHM, None, data, ueids=UEIDS[:1])


def test_a_key_in_the_header_is_not_looked_at():
    header = {"kid": "mine", "alg": "ES384", "x5c": [], "jwk": {"kty": "EC"}, "jku": "https://example.invalid"}
    data = fake.answer(sign_overall=lambda claims: fake.sign(claims, key=fake.leaf_key(5), header=header))
    fails(Check.NRAS_SIGNER_PINNED, "no key of the name", data)


# Whose key it is


def test_a_key_that_is_not_in_the_set_signs_nothing():
    fails(Check.NRAS_SIGNER_PINNED, "no key of the name", keys=fake.key_set(kid="another"))


def test_an_intermediate_that_nobody_pinned_signs_nothing():
    fails(Check.NRAS_SIGNER_PINNED, "is not pinned", pins=())
    fails(Check.NRAS_SIGNER_PINNED, "is not pinned", pins={fake.pin(fake.rsa_key(1))})


@pytest.mark.parametrize(
    "x5c",
    [
        [],
        [fake.leaf()],
        [fake.leaf(by=fake.rsa_key(1)), fake.intermediate()],
        [fake.leaf(issuer=fake.name("another")), fake.intermediate()],
        [fake.leaf(digest=hashes.SHA512()), fake.intermediate()],
        [fake.leaf(usages=fake.usage(certificates=True)), fake.intermediate()],
        [fake.leaf(key=ec.derive_private_key(5, ec.SECP256R1())), fake.intermediate()],
        [fake.leaf(key=fake.rsa_key(2)), fake.intermediate()],
        [fake.leaf(), fake.intermediate(ca=False)],
        [fake.leaf(), fake.intermediate(usages=fake.usage(data=True))],
        [fake.leaf(by=fake.leaf_key(7)), fake.intermediate(key=fake.leaf_key(7))],
        [fake.leaf(), fake.intermediate(key=fake.leaf_key(7))],
    ],
    ids=[
        "none",
        "leaf alone",
        "signed by another key",
        "another issuer's name",
        "SHA-512",
        "no key for signing",
        "P-256",
        "RSA",
        "no CA",
        "no signing of certificates",
        "intermediate not RSA",
        "signed with RSA, intermediate not RSA",
    ],
)
def test_a_key_whose_certificate_the_intermediate_did_not_sign_signs_nothing(x5c):
    pins = {fake.pin(), fake.pin(fake.leaf_key(7))}
    fails(Check.NRAS_SIGNER_CHAIN, None, keys=fake.key_set(x5c), pins=pins)


def test_a_key_that_differs_from_its_certificate_signs_nothing():
    def coordinates(n):
        numbers = fake.leaf_key(n).public_key().public_numbers()
        return {name: fake.b64(getattr(numbers, name).to_bytes(48, "big")) for name in ("x", "y")}

    assert verify(keys=fake.key_set(**coordinates(0)))
    fails(Check.NRAS_SIGNER_CHAIN, None, keys=fake.key_set(**coordinates(1)))


def test_a_certificate_that_is_none_is_malformed():
    malformed(Check.NRAS_SIGNER_CHAIN, None, keys=fake.key_set([fake.leaf(), b"\x30\x00"]))


@pytest.mark.parametrize(
    "x5c",
    [
        lambda window: [fake.leaf(window=window), fake.intermediate()],
        lambda window: [fake.leaf(window=fake.LONG), fake.intermediate(window=window)],
    ],
    ids=["leaf", "intermediate"],
)
def test_certificates_of_the_signer_hold_from_their_first_to_their_last_second(x5c):
    edge = (NOW, NOW)
    assert verify(keys=fake.key_set(x5c(edge)))
    past, future = (NOW - 9 * SECOND, NOW - SECOND), (NOW + SECOND, NOW + 9 * SECOND)
    fails(Check.NRAS_SIGNER_EXPIRED, "has expired", keys=fake.key_set(x5c(past)))
    fails(Check.NRAS_SIGNER_NOT_YET_VALID, "is not yet valid", keys=fake.key_set(x5c(future)))


def test_a_pinned_intermediate_ends_when_nvidia_said_whatever_its_certificate_says(monkeypatch):
    key = parse_nras_keys(fake.key_set([fake.leaf(window=fake.LONG), fake.intermediate()]))[fake.KID]
    monkeypatch.setitem(NRAS_INTERMEDIATES, fake.pin(), ("NVIDIA's", NOW - SECOND))
    with pytest.raises(VerificationError, match="the intermediate has expired") as caught:
        verify_signer(key, pinned=NRAS_INTERMEDIATES, at=NOW, checks=Checklist())
    assert caught.value.failed.id is Check.NRAS_SIGNER_EXPIRED
    assert not verify_signer(key, pinned=NRAS_INTERMEDIATES, at=NOW - SECOND, checks=Checklist()).simulated


# What is signed


@pytest.mark.parametrize("which", ["overall", "device"])
@pytest.mark.parametrize("signature", [b"", bytes(96), bytes(95), bytes(97), b"\xff" * 96])
def test_a_token_that_is_not_signed_by_its_key_is_refused(which, signature):
    def forged(claims):
        return fake.sign(claims, signature=signature)

    devices = {"GPU-0": (forged if which == "device" else fake.sign)(fake.device_claims())}
    data = fake.answer(devices=devices, sign_overall=forged if which == "overall" else fake.sign)
    fails(Check.NRAS_TOKEN_SIGNATURE, which if which == "overall" else "GPU-0", data, ueids=UEIDS[:1])


def test_a_token_signed_by_another_key_is_refused():
    data = fake.answer(sign_overall=lambda claims: fake.sign(claims, key=fake.leaf_key(3)))
    fails(Check.NRAS_TOKEN_SIGNATURE, "overall", data)


def test_a_signature_in_der_is_none():
    def der(claims):
        compact = fake.sign(claims)
        signed = compact.rpartition(".")[0].encode()
        return fake.sign(claims, signature=fake.leaf_key().sign(signed, ec.ECDSA(hashes.SHA384())))

    fails(Check.NRAS_TOKEN_SIGNATURE, None, fake.answer(sign_overall=der))


def test_tokens_of_two_keys_of_the_set_are_both_verified():
    keys = json.loads(fake.key_set())["keys"]
    more = fake.key_set([fake.leaf(key=fake.leaf_key(1)), fake.intermediate()], kid="second")
    both = json.dumps({"keys": keys + json.loads(more)["keys"]}).encode()
    header = {"kid": "second", "alg": "ES384"}
    data = fake.answer(sign_overall=lambda claims: fake.sign(claims, key=fake.leaf_key(1), header=header))
    assert verify(data, both)
    fails(
        Check.NRAS_TOKEN_SIGNATURE,
        None,
        fake.answer(sign_overall=lambda claims: fake.sign(claims, header=header)),
        both,
    )


@pytest.mark.parametrize(
    "issuer", ["https://nras.attestation-stg.nvidia.com", "NVAT-LOCAL-VERIFIER", fake.ISSUER + "/"]
)
@pytest.mark.parametrize("which", ["overall", "device"])
def test_no_other_issuer_than_the_production_service_counts(issuer, which):
    fails(Check.NRAS_TOKEN_ISSUER, None, fake.answer(**{which: {"iss": issuer}}))


@pytest.mark.parametrize("which", ["overall", "device"])
@pytest.mark.parametrize("claim", ["iat", "nbf"])
def test_a_token_counts_from_its_first_second(which, claim):
    assert verify(fake.answer(**{which: {claim: fake.stamp(NOW)}}))
    fails(Check.NRAS_TOKEN_NOT_YET_VALID, None, fake.answer(**{which: {claim: fake.stamp(NOW) + 1}}))


@pytest.mark.parametrize("which", ["overall", "device"])
def test_a_token_counts_until_before_its_last_second(which):
    assert verify(fake.answer(**{which: {"exp": fake.stamp(NOW) + 1}}))
    fails(Check.NRAS_TOKEN_EXPIRED, None, fake.answer(**{which: {"exp": fake.stamp(NOW)}}))


@pytest.mark.parametrize("which", ["overall", "device"])
@pytest.mark.parametrize("claim", ["iat", "nbf", "exp", "iss", "eat_nonce"])
def test_a_token_without_a_claim_that_is_needed_is_malformed(which, claim):
    malformed(Check.NRAS_TOKEN_FORMAT, claim, fake.answer(**{which: {claim: None}}))


@pytest.mark.parametrize("which", ["overall", "device"])
def test_a_token_for_another_nonce_is_refused(which):
    fails(Check.NRAS_TOKEN_NONCE, None, fake.answer(**{which: {"eat_nonce": NONCE[::-1].hex()}}))
    fails(Check.NRAS_TOKEN_NONCE, None, nonce=NONCE[::-1])


def test_an_empty_nonce_equals_nothing():
    both = {"eat_nonce": ""}
    malformed(Check.NRAS_TOKEN_FORMAT, "eat_nonce", fake.answer(overall=both, device=both), nonce=b"")


# Which devices


def test_the_overall_token_must_name_the_very_tokens_of_the_devices():
    tokens = {f"GPU-{n}": fake.sign(fake.device_claims(ueid)) for n, ueid in enumerate(UEIDS)}
    named = fake.digests(tokens)
    for wrong in (
        {},
        None,
        {"GPU-0": named["GPU-0"]},
        named | {"GPU-2": named["GPU-0"]},
        {"GPU-0": named["GPU-1"], "GPU-1": named["GPU-0"]},
        named | {"GPU-0": ["DIGEST", ["SHA256", named["GPU-0"][1][1]]]},
        named | {"GPU-0": ["DIGEST", ["SHA-256", named["GPU-0"][1][1].upper()]]},
    ):
        fails(Check.NRAS_TOKEN_DIGESTS, None, fake.answer(devices=tokens, overall={"submods": wrong}))


def test_another_token_of_the_same_device_is_refused():
    tokens = {"GPU-0": fake.sign(fake.device_claims(UEIDS[0]))}
    resigned = {"GPU-0": fake.sign(fake.device_claims(UEIDS[0], jti="another"))}
    data = fake.answer(devices=resigned, overall={"submods": fake.digests(tokens)})
    fails(Check.NRAS_TOKEN_DIGESTS, None, data, ueids=UEIDS[:1])


@pytest.mark.parametrize(
    ("given", "evidence"),
    [
        (UEIDS[:1], UEIDS),
        (UEIDS, UEIDS[:1]),
        (UEIDS, ()),
        (UEIDS, (UEIDS[0], "1")),
        ((UEIDS[0], UEIDS[0]), UEIDS),
        ((UEIDS[0], UEIDS[0]), UEIDS[:1]),
        (UEIDS, (UEIDS[0], UEIDS[0])),
        ((UEIDS[0], UEIDS[0]), (UEIDS[0], UEIDS[0])),
    ],
)
def test_there_must_be_one_token_for_each_device_and_no_other(given, evidence):
    fails(Check.NRAS_TOKEN_DEVICES, None, fake.answer(given), ueids=evidence)


@pytest.mark.parametrize("result", [False, None, 1, "true", "success"])
def test_the_service_must_say_that_all_passed(result):
    fails(Check.NRAS_TOKEN_RESULT, None, fake.answer(overall={"x-nvidia-overall-att-result": result}))


@pytest.mark.parametrize("result", ["fail", None, True, "Success", ""])
def test_the_service_must_say_that_each_device_passed(result):
    fails(Check.NRAS_TOKEN_RESULT, "GPU-0", fake.answer(device={"measres": result}))


# Genuine answers, keys and a local result of NVIDIA's tool


def moment(text):
    return datetime.fromisoformat(text)


GENUINE = ["two-gpus", "hopper", "switch-staging"]
REASONS = {
    "signing-key-unknown": Check.NRAS_SIGNER_PINNED,
    "token-expired": Check.NRAS_TOKEN_EXPIRED,
    "issuer-not-pinned": Check.NRAS_TOKEN_ISSUER,
}


@pytest.mark.parametrize("name", GENUINE)
def test_genuine_answers_name_their_devices_tokens_by_digest(vectors, name):
    found = vectors("nvidia/nras-eat")
    (case,) = [case for case in found.manifest["expected"]["cases"] if case["id"] == f"{name}-submodule-digests"]
    answer = parse_nras(found.bytes(case["files"]["token"]))
    assert detached_digests(answer)
    assert {name: token.sha256 for name, token in answer.devices.items()} == {
        name: device["sha256"] for name, device in case["submodules"].items()
    }
    assert {name: token.claims["ueid"] for name, token in answer.devices.items()} == {
        name: device["ueid"] for name, device in case["submodules"].items()
    }
    for token in answer.tokens.values():
        assert (token.algorithm, token.kid, len(token.signature)) == (case["algorithm"], case["key_id"], 96)
        assert (token.claims["iss"], token.claims["eat_nonce"]) == (case["issuer"], case["nonce"])
        assert datetime.fromtimestamp(token.claims["iat"], UTC) == moment(case["issued_at"])
        assert datetime.fromtimestamp(token.claims["exp"], UTC) == moment(case["expires_at"])


@pytest.mark.parametrize("name", GENUINE)
@pytest.mark.parametrize("case_of", ["without-key", "expired"])
def test_genuine_answers_are_refused_for_the_reason_that_their_set_states(vectors, name, case_of):
    found = vectors("nvidia/nras-eat")
    (case,) = [case for case in found.manifest["expected"]["cases"] if case["id"] == f"{name}-{case_of}"]
    data = found.bytes(case["files"]["token"])
    answer = parse_nras(data)
    fails(
        REASONS[case["reason"]],
        None,
        data,
        nonce=bytes.fromhex(answer.overall.claims["eat_nonce"]),
        ueids=tuple(token.claims["ueid"] for token in answer.devices.values()),
        at=moment(case["at"]),
    )


def test_claims_of_genuine_answers_are_read_as_their_source_has_them(vectors):
    found = vectors("nvidia/nras-eat")
    for name, decoded in (("hopper", "hopper_decoded"), ("switch_staging", "switch_decoded")):
        answer = parse_nras(found.bytes(f"nras_v3_{name}.json"))
        expected = json.loads(found.bytes(f"nras_v3_{decoded}.json"))
        assert {name: dict(token.claims) for name, token in answer.devices.items()} == expected


def genuine_key(vectors):
    x5c = json.loads(vectors("nvidia/nras-jwks-x5c").bytes("nras_gpu_x5c_chain.json"))["x5c"]
    (key,) = parse_nras_keys(json.dumps({"keys": [{"kid": "k", "x5c": x5c}]}).encode()).values()
    return key


def test_the_genuine_key_is_one_of_a_pinned_intermediate(vectors):
    expected = vectors("nvidia/nras-jwks-x5c").manifest["expected"]
    found = verify_signer(
        genuine_key(vectors), pinned=NRAS_INTERMEDIATES, at=moment(expected["at"]), checks=Checklist()
    )
    assert found.name == expected["leaf"]["subject_cn"]
    assert found.intermediate.endswith("004")
    assert found.pin.hex() == expected["intermediates"]["004"]["spki_sha256"]
    assert not found.simulated
    assert {pin.hex(): until for pin, (_, until) in NRAS_INTERMEDIATES.items()} == {
        entry["spki_sha256"]: moment(entry["not_after"]) for entry in expected["intermediates"].values()
    }


def test_the_genuine_key_is_refused_for_the_reasons_that_its_set_states(vectors):
    expected = vectors("nvidia/nras-jwks-x5c").manifest["expected"]
    window = expected["valid_window"]
    old = {pin for pin, (name, _) in NRAS_INTERMEDIATES.items() if name.endswith(("002", "003"))}
    for at, pinned, check in (
        ("2026-06-11T00:00:00Z", NRAS_INTERMEDIATES, Check.NRAS_SIGNER_EXPIRED),
        (expected["at"], old, Check.NRAS_SIGNER_PINNED),
    ):
        with pytest.raises(VerificationError) as caught:
            verify_signer(genuine_key(vectors), pinned=pinned, at=moment(at), checks=Checklist())
        assert caught.value.failed.id is check
    for edge in window.values():
        assert verify_signer(genuine_key(vectors), pinned=NRAS_INTERMEDIATES, at=moment(edge), checks=Checklist())


def test_a_genuine_certificate_with_another_intermediate_of_nvidia_is_refused(vectors):
    key = genuine_key(vectors)
    pem = vectors("nvidia/nras-jwks-x5c").bytes("openpcc_nras_intermediates_002_003.pem")
    from dokimos.codec import pem_or_der  # noqa: PLC0415

    for other in pem_or_der(pem, "intermediates"):
        with pytest.raises(VerificationError) as caught:
            verify_signer(
                NrasKey(kid="k", x5c=(key.x5c[0], other), point=None),
                pinned=NRAS_INTERMEDIATES,
                at=moment("2025-06-09T00:00:00Z"),
                checks=Checklist(),
            )
        assert caught.value.failed.id is Check.NRAS_SIGNER_CHAIN


def test_the_local_result_of_nvidias_tool_is_unsigned_and_no_token(vectors):
    stored = json.loads(vectors("nvidia/nvat-claims-local").bytes("gpu_attestation_h100.json"))
    data = json.dumps(stored["detached_eat"]).encode()
    at = moment(vectors("nvidia/nvat-claims-local").manifest["expected"]["at"])
    fails(Check.NRAS_TOKEN_ALGORITHM, "unsigned", data, at=at)
    malformed(Check.NRAS_TOKEN_FORMAT, None, json.dumps(stored).encode(), at=at)
