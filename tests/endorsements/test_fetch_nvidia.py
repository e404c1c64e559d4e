"""Fetching from NVIDIA's services: fake ones on loopback, with every fault that real ones may have."""

from __future__ import annotations

import base64
import importlib.util
import json
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from dokimos.attest.sim_gpu import BLACKWELL, HOPPER, LS10
from dokimos.endorsements.fetch_nvidia import SERVICE_KEY, NvidiaFetcher, fetch_gpu_material
from dokimos.endorsements.gpu_certificate import parse_gpu_certificate
from dokimos.endorsements.ocsp import parse_ocsp
from dokimos.endorsements.rim import parse_rim
from dokimos.errors import MalformedEvidence, MaterialUnavailable, UsageError
from dokimos.evidence.gpu_arch import Arch
from dokimos.verifier.checklist import Checklist
from dokimos.verifier.gpu_revocation import DEVICE_INDEXES, RIM_INDEXES, Checked, RevocationMaterial, check_revocation
from dokimos.verifier.trust import GpuRevocation, GpuTrust


def _load_fake():
    path = Path(__file__).resolve().parent / "fake_nvidia.py"
    spec = importlib.util.spec_from_file_location("fake_nvidia", path)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


fake = _load_fake()
NOW, NONCE = fake.NOW, b"N" * 32
DRIVER = "NV_GPU_DRIVER_GH100_580.95.05"


@pytest.fixture(scope="module")
def platform(tmp_path_factory):
    return fake.SimulatedNvidia(tmp_path_factory.mktemp("nvidia"), clock=lambda: NOW)


@pytest.fixture(scope="module")
def devices(platform):
    return [platform.gpu(HOPPER), platform.gpu(HOPPER, 1), platform.gpu(BLACKWELL), platform.gpu(LS10)]


@pytest.fixture
def service(platform, devices):
    services = fake.Services(devices, platform)
    yield services
    services.close()


@pytest.fixture
def pauses():
    return []


@pytest.fixture
def fetcher(service, pauses):
    return NvidiaFetcher(**service.urls, environ={}, pause=pauses.append, timeout=5)


def unavailable(match, ask, *args):
    with pytest.raises(MaterialUnavailable, match=match) as caught:
        ask(*args)
    return str(caught.value)


# Manifests


def test_a_manifest_arrives_byte_for_byte(service, fetcher):
    assert fetcher.rim(DRIVER) == service.rims[DRIVER]
    assert service.asked == [("GET", f"/v1/rim/{DRIVER}")]


def test_the_ids_of_all_manifests_are_listed(service, fetcher):
    assert fetcher.rim_ids() == tuple(sorted(service.rims))
    service.faults[fake.IDS] = [fake.sends(lambda _: b'{"ids":"none"}')]
    unavailable("ids", fetcher.rim_ids)


@pytest.mark.parametrize("suffix", ["/", "/v1/rim", "/v1/rim/"])
def test_addresses_are_taken_as_nvidias_own_settings_write_them(service, suffix):
    fetcher = NvidiaFetcher(rim_url=service.url + suffix, environ={})
    assert fetcher.rim(DRIVER) == service.rims[DRIVER]


def test_a_manifest_that_the_service_lacks_is_named(service, fetcher):
    other = "NV_GPU_DRIVER_GH100_1.2.3"
    assert other in unavailable("has no RIM of the id", fetcher.rim, other)


@pytest.mark.parametrize("rim_id", ["", "../ids", "ids", "NV_GPU_DRIVER_GH100_1.2/../x", "NV_GPU_DRIVER_GH100_1.2?x"])
def test_what_is_no_id_is_not_asked_for(service, fetcher, rim_id):
    unavailable("no id", fetcher.rim, rim_id)
    assert service.asked == []


@pytest.mark.parametrize(
    ("fault", "match"),
    [
        (fake.refuse(401), f"status 401.*{SERVICE_KEY}"),
        (fake.refuse(403), f"status 403.*{SERVICE_KEY}"),
        (fake.refuse(418), "status 418"),
        (fake.refuse(503), "status 503"),
        (fake.cut_off, "no usable answer, 3 times"),
        (fake.in_json(sha256="0" * 64), "SHA-256"),
        (fake.in_json(id="NV_GPU_DRIVER_GH100_1.2.3"), "not about"),
        (fake.in_json(rim="!"), "base64"),
        (fake.in_json(rim_format="CORIM"), "CORIM"),
        (fake.sends(lambda body: body[:-1]), "brackets"),
        (fake.sends(lambda body: b" " * (1 << 20) + body), "more than 1048576"),
    ],
)
def test_an_answer_that_is_not_the_manifest_is_not_taken(service, fetcher, fault, match):
    service.faults[f"/v1/rim/{DRIVER}"] = [fault]
    unavailable(match, fetcher.rim, DRIVER)


def test_a_service_that_is_busy_or_breaks_off_is_asked_again(service, fetcher, pauses):
    service.faults[f"/v1/rim/{DRIVER}"] = [fake.refuse(503), fake.cut_off, fake.answer]
    assert fetcher.rim(DRIVER) == service.rims[DRIVER]
    assert pauses == [0.5, 1.0]


def test_a_slow_service_is_given_up(service):
    service.faults[f"/v1/rim/{DRIVER}"] = [fake.slow]
    unavailable("in time|3 times", NvidiaFetcher(**service.urls, environ={}, timeout=0.2).rim, DRIVER)


# The customer's key


def test_a_key_goes_to_the_services_and_not_to_the_lists(service, devices):
    fetcher = NvidiaFetcher(**service.urls, environ={SERVICE_KEY: "secret"})
    fetch_gpu_material([devices[0].evidence(NONCE)], fetcher)
    fetcher.nras([devices[0].evidence(NONCE)])
    fetcher.nras_keys()
    carried = {
        path.split("/")[1]: headers.get("Authorization")
        for (_, path), headers in zip(service.asked, service.sent, strict=True)
    }
    assert carried == {
        "v1": "Bearer secret",
        "ocsp": "Bearer secret",
        "v4": "Bearer secret",
        ".well-known": "Bearer secret",
        "crl": None,
        "crl-corim": None,
    }


def test_without_a_key_no_credentials_are_sent(service, fetcher, tmp_path, monkeypatch):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password secret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    fetcher.rim(DRIVER)
    assert "Authorization" not in service.sent[0]


@pytest.mark.parametrize("key", ["two words", "line\nbreak", "ü", "x" * 5000])
def test_a_key_that_no_header_can_carry_is_refused(key):
    with pytest.raises(UsageError, match=SERVICE_KEY):
        NvidiaFetcher(environ={SERVICE_KEY: key})


@pytest.mark.parametrize("which", ["rim_url", "ocsp_url", "nras_url"])
def test_a_key_is_never_sent_in_the_clear(which):
    with pytest.raises(UsageError, match="in the clear"):
        NvidiaFetcher(**{which: "http://mirror.invalid"}, environ={SERVICE_KEY: "secret"})
    assert NvidiaFetcher(**{which: "http://mirror.invalid"}, environ={})


@pytest.mark.parametrize("url", ["", "ftp://x", "https://u:p@x", "https://x?a"])
@pytest.mark.parametrize("which", ["rim_url", "ocsp_url", "nras_url", "crl_url"])
def test_an_address_of_another_kind_is_refused(which, url):
    with pytest.raises(UsageError, match="not the http or https URL"):
        NvidiaFetcher(**{which: url}, environ={})


# Revocation lists


def test_a_list_is_fetched_in_der_whatever_form_it_has(service, fetcher):
    url, crl = "http://crl.ndis.nvidia.com/crl/l1-root.crl", service.lists["/crl/l1-root.crl"]
    assert fetcher.crl(url) == crl
    service.lists["/crl/l1-root.crl"] = x509.load_der_x509_crl(crl).public_bytes(Encoding.PEM)
    assert fetcher.crl(url) == crl
    assert service.asked == [("GET", "/crl/l1-root.crl")] * 2


@pytest.mark.parametrize(
    ("body", "match"), [(b"", "DER"), (b"\x30\x00", "CRL"), (b"<html>", "DER"), (b"\x30" * (3 << 20), "more than")]
)
def test_what_is_no_list_is_not_taken(service, fetcher, body, match):
    service.lists["/crl/l1-root.crl"] = body
    unavailable(match, fetcher.crl, "http://crl.ndis.nvidia.com/crl/l1-root.crl")


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:9/crl/l1-root.crl",
        "http://169.254.169.254/latest/meta-data",
        "http://crl.ndis.nvidia.com.example.invalid/crl/l1-root.crl",
        "http://example.invalid/crl.ndis.nvidia.com",
        "http://crl.ndis.nvidia.com:8080/crl/l1-root.crl",
        "http://crl.ndis.nvidia.com@example.invalid/crl",
        "ldap://crl.ndis.nvidia.com/crl",
        "file:///etc/passwd",
        "http://crl.ndis.nvidia.com/crl?x=1",
        "http://[",
        "",
    ],
)
def test_no_other_server_than_nvidias_is_asked_because_a_certificate_names_it(url):
    unavailable("only lists of|which is no address", NvidiaFetcher(environ={}).crl, url)


# OCSP


@pytest.fixture
def pair(devices):
    entities = devices[0].entities
    return tuple(parse_gpu_certificate(entity.der, "certificate") for entity in entities[1:3])


def test_a_live_answer_is_to_the_request_and_about_the_certificate(service, fetcher, pair):
    found = fetcher.ocsp(*pair)
    assert parse_ocsp(found.data).nonce == found.nonce
    assert len(found.nonce) == 32
    request = ocsp.load_der_ocsp_request(service.posted[0])
    assert (request.serial_number, request.hash_algorithm.name) == (pair[0].serial, "sha384")
    assert service.asked == [("POST", fake.OCSP)]
    assert service.sent[0]["Content-Type"] == "application/ocsp-request"


def test_every_request_has_a_nonce_of_its_own(fetcher, pair):
    assert fetcher.ocsp(*pair).nonce != fetcher.ocsp(*pair).nonce


def test_an_answer_to_another_request_is_not_taken(service, fetcher, pair, platform, devices):
    stored = platform.revocation.answer(devices[0].entities[1], devices[0].entities[2])
    service.faults[fake.OCSP] = [fake.sends(lambda _: stored)]
    unavailable("another request", fetcher.ocsp, *pair)
    replayed = fetcher_answer(service, pair)
    service.faults[fake.OCSP] = [fake.sends(lambda _: replayed)]
    unavailable("another request", fetcher.ocsp, *pair)


def fetcher_answer(service, pair):
    service.faults.pop(fake.OCSP, None)
    return NvidiaFetcher(**service.urls, environ={}).ocsp(*pair).data


def test_an_answer_about_another_certificate_is_not_taken(service, fetcher, pair, platform, devices):
    nonce = b"n" * 32
    entities = devices[0].entities
    other = platform.revocation.answer(entities[2], entities[3], nonce=nonce)
    service.faults[fake.OCSP] = [fake.sends(lambda _: other)]
    fixed = NvidiaFetcher(**service.urls, environ={}, random=lambda size: nonce)
    unavailable("not about", fixed.ocsp, *pair)


def test_a_certificate_that_the_responder_does_not_serve_is_named(fetcher, devices):
    leaf, brom = (parse_gpu_certificate(entity.der, "certificate") for entity in devices[0].entities[:2])
    unavailable("FMC LF.*does not serve this certificate", fetcher.ocsp, leaf, brom)


@pytest.mark.parametrize(
    ("fault", "match"),
    [
        (fake.refuse(403), "status 403"),
        (fake.cut_off, "no usable answer, 3 times"),
        (fake.sends(lambda body: body + b"\0"), "behind"),
        (fake.sends(lambda _: b"<html>"), "OCSP answer"),
        (fake.sends(lambda body: bytes(1 << 17)), "more than 65536"),
    ],
)
def test_a_faulty_responder_gives_nothing(service, fetcher, pair, fault, match):
    service.faults[fake.OCSP] = [fault]
    unavailable(match, fetcher.ocsp, *pair)


def test_a_revoked_certificate_is_fetched_for_the_verifier_to_judge(service, fetcher, devices, tmp_path):
    own = fake.SimulatedNvidia(tmp_path, clock=lambda: NOW)
    device = own.gpu(HOPPER)
    own.revocation.revoke(device.entities[1], hold=True)
    services = fake.Services([device], own)
    try:
        pair = tuple(parse_gpu_certificate(entity.der, "certificate") for entity in device.entities[1:3])
        answer = NvidiaFetcher(**services.urls, environ={}).ocsp(*pair)
    finally:
        services.close()
    assert parse_ocsp(answer.data).singles[0].status == "on hold"


def test_a_redirect_is_followed_on_the_same_server_only(service, fetcher, pair):
    def elsewhere(location):
        return lambda handler, body: fake.answer(handler, b"", [("Location", location)], status=307)

    service.faults[f"/v1/rim/{DRIVER}"] = [elsewhere("http://127.0.0.1:9/")]
    unavailable("sends elsewhere", fetcher.rim, DRIVER)
    service.faults["/ocsp/"] = [elsewhere("/again")]
    service.faults["/again"] = [lambda handler, body: fake.answer(handler, service.good("/ocsp/", service.posted[-1]))]
    assert fetcher.ocsp(*pair).data


# The attestation service


def test_evidence_is_handed_over_in_the_services_form(service, fetcher, devices):
    evidence = [device.evidence(NONCE) for device in devices[:2]]
    assert fetcher.nras(evidence) == service.tokens
    body = json.loads(service.posted[0])
    assert service.asked == [("POST", "/v4/attest/gpu")]
    assert (body["nonce"], body["arch"], body["claims_version"]) == (NONCE.hex(), "HOPPER", "3.0")
    assert [base64.b64decode(item["evidence"]) for item in body["evidence_list"]] == [item.report for item in evidence]
    assert [base64.b64decode(item["certificate"]) for item in body["evidence_list"]] == [
        item.chain for item in evidence
    ]


def test_switches_have_a_path_of_their_own(service, fetcher, devices):
    fetcher.nras([devices[3].evidence(NONCE)])
    assert service.asked == [("POST", "/v4/attest/switch")]
    assert json.loads(service.posted[0])["arch"] == "LS10"


def test_devices_of_several_kinds_or_nonces_are_not_sent_together(service, fetcher, devices):
    for evidence in (
        [],
        [devices[0].evidence(NONCE), devices[3].evidence(NONCE)],
        [devices[0].evidence(NONCE), devices[1].evidence(bytes(32))],
    ):
        with pytest.raises(UsageError, match="one architecture"):
            fetcher.nras(evidence)
    assert service.asked == []


def test_the_key_set_is_fetched(service, fetcher):
    assert fetcher.nras_keys() == service.keys
    service.keys = b"{}"
    unavailable("key set", fetcher.nras_keys)


def test_what_is_no_answer_of_the_attestation_service_is_not_taken(service, fetcher, devices):
    service.tokens = b'[["JWT","x"],{}]'
    unavailable("NRAS answer", fetcher.nras, [devices[0].evidence(NONCE)])


# Everything for some devices


def test_everything_that_devices_need_is_fetched_once_and_then_suffices(service, fetcher, devices):
    evidence = [device.evidence(NONCE) for device in devices]
    found = fetch_gpu_material(evidence, fetcher)
    serials = [ocsp.load_der_ocsp_request(posted).serial_number if posted else 0 for posted in service.posted]
    assert len(set(zip(service.asked, serials, strict=True))) == len(service.asked)
    rims = {name.removesuffix(".xml"): data for name, data in found.files.items() if name.endswith(".xml")}
    assert rims == service.rims
    assert {name for name in found.files if name.endswith(".crl")} == {
        "crl-l1-root.crl",
        "crl-l2-gh100.crl",
        "crl-l2-gb100.crl",
        "crl-corim-l1-corim.crl",
    }
    answers = [data for name, data in found.files.items() if name.endswith(".ocsp")]
    assert {sha256(data).digest() for data in answers} == set(found.live_nonces)
    stored = RevocationMaterial.of(found.files)
    material = RevocationMaterial(crls=stored.crls, ocsp=stored.ocsp, live_nonces=found.live_nonces)
    chains = [([entity.der for entity in device.entities], DEVICE_INDEXES) for device in devices]
    chains += [(parse_rim(data).certificates, RIM_INDEXES) for data in rims.values()]
    for chain, indexes in chains:
        finding = check_revocation(
            tuple(parse_gpu_certificate(der, "certificate") for der in chain),
            indexes,
            material,
            trust=GpuTrust(revocation=GpuRevocation.BOTH),
            hold=False,
            at=NOW,
            checks=Checklist(),
        )
        assert finding.checked is Checked.BOTH


def test_names_of_files_can_stand_in_any_folder(fetcher, devices):
    found = fetch_gpu_material([device.evidence(NONCE) for device in devices], fetcher)
    assert all(name.isascii() and "/" not in name and not name.startswith(".") for name in found.files)


def test_lists_and_answers_can_be_left_out(service, fetcher, devices):
    found = fetch_gpu_material([devices[0].evidence(NONCE)], fetcher, crl=False, ocsp=False)
    assert set(found.files) == {f"{rim_id}.xml" for rim_id in devices[0].firmware.rim_ids.values()}
    assert {path.split("/")[1] for _, path in service.asked} == {"v1"}


def test_manifests_at_hand_are_not_fetched_but_their_signers_are_looked_up(service, fetcher, devices):
    wanted = fetch_gpu_material([devices[0].evidence(NONCE)], fetcher)
    service.asked.clear()
    have = {rim_id: service.rims[rim_id] for rim_id in devices[0].firmware.rim_ids.values()}
    found = fetch_gpu_material([devices[0].evidence(NONCE)], fetcher, have=have)
    assert {path.split("/")[1] for _, path in service.asked} == {"ocsp", "crl", "crl-corim"}
    assert set(found.files) == {name for name in wanted.files if not name.endswith(".xml")}


def test_all_missing_manifests_are_named_at_once(service, fetcher, devices):
    service.rims.clear()
    message = unavailable("no RIM", fetch_gpu_material, [device.evidence(NONCE) for device in devices], fetcher)
    for device in devices:
        assert all(rim_id in message for rim_id in device.firmware.rim_ids.values())


def test_evidence_that_cannot_be_read_is_malformed_and_asks_nobody(service, fetcher, devices):
    evidence = devices[0].evidence(NONCE)
    broken = type(evidence)(arch=Arch.HOPPER, nonce=NONCE, report=evidence.report[:100], chain=evidence.chain)
    with pytest.raises(MalformedEvidence):
        fetch_gpu_material([broken], fetcher)
    assert service.asked == []
