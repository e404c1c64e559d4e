"""Fetching from a provisioning service: a fake one on loopback, with every fault that a real one may have."""

from __future__ import annotations

import gzip
import importlib.util
import time
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import quote

import pytest

from dokimos.endorsements.collateral_bundle import collateral_from_files, encode_collateral, parse_collateral
from dokimos.endorsements.fetch import (
    EVALUATION_NUMBERS,
    INTEL_ROOT_CRL,
    PCK_CRL,
    QE_IDENTITY,
    ROOT_CRL,
    TCB_INFO,
    PcsFetcher,
    fetch_collateral,
    fetch_evaluation_numbers,
)
from dokimos.endorsements.pck import parse_pck
from dokimos.errors import Check, MalformedEvidence, MaterialUnavailable, UsageError
from dokimos.evidence.tdx import Certification, parse_quote


def _load_fake():
    path = Path(__file__).resolve().parent / "fake_pcs.py"
    spec = importlib.util.spec_from_file_location("fake_pcs", path)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


fake = _load_fake()
BODIES, CHAIN, HEADERS, LEAF, NOW, QUOTE = fake.BODIES, fake.CHAIN, fake.HEADERS, fake.LEAF, fake.NOW, fake.QUOTE
Service, answer, crl, pem, writer = fake.Service, fake.answer, fake.crl, fake.pem, fake.writer


@pytest.fixture
def start():
    services = []

    def _start(*args, **kwargs):
        services.append(Service(*args, **kwargs))
        return services[-1]

    yield _start
    for service in services:
        service.close()


@pytest.fixture
def service(start):
    return start()


@pytest.fixture
def pauses():
    return []


@pytest.fixture
def fetcher(service, pauses):
    return PcsFetcher(service.url, pause=pauses.append, clock=lambda: NOW)


def test_everything_is_asked_for_by_what_the_pck_certificate_says(service, fetcher):
    collateral = fetch_collateral(QUOTE, fetcher)
    assert service.asked == [
        (TCB_INFO, {"fmspc": "90c06f000000"}),
        (QE_IDENTITY, {}),
        (PCK_CRL, {"ca": "platform", "encoding": "der"}),
        (ROOT_CRL, {}),
    ]
    assert collateral.tcb_info == BODIES[TCB_INFO]
    assert collateral.qe_identity == BODIES[QE_IDENTITY]
    assert collateral.pck_crl == BODIES[PCK_CRL]
    assert collateral.root_crl == BODIES[ROOT_CRL]
    assert collateral.tcb_info_chain == collateral.qe_identity_chain == collateral.pck_crl_chain == CHAIN.encode()
    assert collateral.pck_chain is None
    assert [(origin.item, origin.fetched) for origin in collateral.origins] == [
        (item, "2026-03-20T00:00:00Z") for item in ("tcb_info", "qe_identity", "pck_crl", "root_crl")
    ]
    assert collateral.origins[0].url == f"{service.url}{TCB_INFO}?fmspc=90c06f000000"
    assert parse_collateral(encode_collateral(collateral)) == collateral


def test_real_bodies_arrive_byte_for_byte(start, vectors):
    found = vectors("tdx/tdx_v5_td15_uptodate_90c0")
    files = {name: found.bytes(name) for name in found.names}
    stored = collateral_from_files(files)
    chains = {
        TCB_INFO: quote(stored.tcb_info_chain),
        QE_IDENTITY: quote(stored.qe_identity_chain),
        PCK_CRL: quote(stored.pck_crl_chain),
    }
    bodies = {
        TCB_INFO: files["tcb_info_response.json"],
        QE_IDENTITY: files["qe_identity_response.json"],
        PCK_CRL: files["pck_crl_platform.der"],
        ROOT_CRL: files["root_ca_crl.der"],
    }
    service = start(bodies, chains)
    collateral = fetch_collateral(parse_quote(files["quote.bin"]), PcsFetcher(service.url))
    assert (collateral.tcb_info, collateral.qe_identity) == (stored.tcb_info, stored.qe_identity)
    assert (collateral.pck_crl, collateral.root_crl) == (stored.pck_crl, stored.root_crl)
    assert collateral.tcb_info_chain == chains[TCB_INFO].encode()


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"update": "early"}, {"update": "early"}),
        ({"update": "standard"}, {"update": "standard"}),
        ({"evaluation_data_number": 18}, {"tcbEvaluationDataNumber": "18"}),
    ],
)
def test_a_choice_of_recovery_goes_with_the_two_paths_that_take_it(service, options, wanted):
    fetch_collateral(QUOTE, PcsFetcher(service.url, **options))
    asked = dict(service.asked)
    assert asked[TCB_INFO] == {"fmspc": "90c06f000000"} | wanted
    assert asked[QE_IDENTITY] == wanted
    assert asked[PCK_CRL] == {"ca": "platform", "encoding": "der"}
    assert asked[ROOT_CRL] == {}


def test_two_choices_of_recovery_exclude_each_other():
    with pytest.raises(UsageError, match="exclude"):
        PcsFetcher(update="early", evaluation_data_number=18)


@pytest.mark.parametrize("path", [TCB_INFO, QE_IDENTITY])
def test_a_service_that_ignores_the_choice_of_recovery_is_found_out(service, path):
    fetcher = PcsFetcher(service.url, evaluation_data_number=19)
    with pytest.raises(MaterialUnavailable, match="evaluation data number 18"):
        fetcher.get(path, {"fmspc": "90c06f000000"})


def test_a_leaf_of_the_processor_ca_is_looked_up_at_that_ca(service, fetcher):
    service.bodies[PCK_CRL] = crl(writer.PROCESSOR_CA)
    fetch_collateral(SimpleNamespace(certification=Certification(type=5, data=pem(writer.SEEDS[1]))), fetcher)
    assert (PCK_CRL, {"ca": "processor", "encoding": "der"}) in service.asked


@pytest.mark.parametrize("kind", [1, 2, 3, 7])
def test_a_quote_without_a_pck_certificate_is_not_guessed_at(service, fetcher, kind):
    bare = SimpleNamespace(certification=Certification(type=kind, data=b"x" * 36))
    with pytest.raises(MaterialUnavailable, match=f"type {kind}"):
        fetch_collateral(bare, fetcher)
    assert service.asked == []
    chain = pem(LEAF, writer.SEEDS[2])
    assert fetch_collateral(bare, fetcher, pck_chain=chain).pck_chain == chain


def test_a_quote_with_a_leaf_alone_gets_the_chain_of_the_ca_that_lists_it(start):
    ca = writer.SEEDS[2]
    service = start(chains=dict.fromkeys(HEADERS, quote(pem(ca))))
    alone = SimpleNamespace(certification=Certification(type=4, data=pem(LEAF)))
    assert fetch_collateral(alone, PcsFetcher(service.url)).pck_chain == pem(LEAF, ca)


def test_a_chain_beside_a_quote_that_has_one_is_not_looked_at(fetcher):
    assert fetch_collateral(QUOTE, fetcher, pck_chain=b"garbage").pck_chain is None


@pytest.mark.parametrize("data", [b"garbage", pem(b"0\0")])
def test_a_quote_with_a_broken_pck_certificate_is_malformed(fetcher, data):
    with pytest.raises(MalformedEvidence) as caught:
        fetch_collateral(SimpleNamespace(certification=Certification(type=5, data=data)), fetcher)
    assert caught.value.check is Check.TDX_PCK_FORMAT


def test_the_list_of_evaluation_data_numbers_is_fetched(service, fetcher):
    assert [entry.number for entry in fetch_evaluation_numbers(fetcher).numbers] == [18]
    assert service.asked == [(EVALUATION_NUMBERS, {})]


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("https://pccs.invalid:8081", "https://pccs.invalid:8081"),
        ("https://pccs.invalid:8081/", "https://pccs.invalid:8081"),
        ("https://pccs.invalid:8081/sgx/certification/v4/", "https://pccs.invalid:8081"),
        ("https://pccs.invalid/cache/sgx/certification/v3", "https://pccs.invalid/cache"),
    ],
)
def test_addresses_of_caches_are_taken_as_intels_own_settings_write_them(url, base):
    assert PcsFetcher(url)._url(QE_IDENTITY, {}) == base + QE_IDENTITY
    assert PcsFetcher(url)._url(ROOT_CRL, {}) == base + ROOT_CRL


def test_the_list_of_the_root_stands_elsewhere_at_intel():
    assert PcsFetcher()._url(ROOT_CRL, {}) == INTEL_ROOT_CRL
    assert PcsFetcher()._url(TCB_INFO, {"fmspc": "00"}).startswith("https://api.trustedservices.intel.com/tdx/")


@pytest.mark.parametrize(
    "url",
    ["", "pccs", "ftp://x", "https://", "https://x:0", "https://x:99999", "https://u:p@x", "https://x?a", "https://[x"],
)
def test_an_address_of_another_kind_is_refused(url):
    with pytest.raises(UsageError, match="provisioning service"):
        PcsFetcher(url)


def test_a_cache_behind_a_path_is_reached(start):
    service = start(prefix="/cache")
    fetch_collateral(QUOTE, PcsFetcher(f"{service.url}/cache/sgx/certification/v4/"))
    assert len(service.asked) == 4


def fails(fetcher, match, path=TCB_INFO, params=None):
    with pytest.raises(MaterialUnavailable, match=match) as caught:
        fetcher.get(path, params if params is not None else {"fmspc": "90c06f000000"})
    return str(caught.value)


@pytest.mark.parametrize(
    ("status", "match"),
    [
        (400, "does not take"),
        (401, "credentials"),
        (403, "does not allow"),
        (404, "does not know this FMSPC"),
        (410, "no longer serves"),
        (204, "cannot answer"),
        (418, "cannot answer"),
    ],
)
def test_a_refusal_is_named_and_not_repeated(service, fetcher, pauses, status, match):
    service.faults[TCB_INFO] = [lambda handler: answer(handler, b"", status=status)]
    fails(fetcher, f"status {status}.*{match}")
    assert len(service.asked) == 1
    assert pauses == []


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_busy_service_is_asked_again_a_few_times(service, fetcher, pauses, status):
    busy = lambda handler: answer(handler, b"", status=status)  # noqa: E731
    service.faults[TCB_INFO] = [busy, busy, lambda handler: service.good(handler, TCB_INFO)]
    assert fetcher.get(TCB_INFO, {"fmspc": "90c06f000000"}).body == BODIES[TCB_INFO]
    assert pauses == [0.5, 1.0]
    service.faults[TCB_INFO] = [busy]
    service.asked.clear()
    fails(fetcher, f"status {status}")
    assert len(service.asked) == 3


@pytest.mark.parametrize(("wanted", "waited"), [("2", 2.0), ("3600", 5.0), ("soon", 0.5), ("-1", 0.5), ("²", 0.5)])
def test_a_service_may_say_how_long_to_wait_but_not_for_ever(service, fetcher, pauses, wanted, waited):
    service.faults[TCB_INFO] = [
        lambda handler: answer(handler, b"", [("Retry-After", wanted)], status=429),
        lambda handler: service.good(handler, TCB_INFO),
    ]
    fetcher.get(TCB_INFO, {"fmspc": "90c06f000000"})
    assert pauses == [waited]


def test_a_body_that_breaks_off_is_asked_for_again_and_never_taken(service, fetcher, pauses):
    def cut(handler):
        body = BODIES[TCB_INFO]
        answer(handler, body[:100], [(HEADERS[TCB_INFO], CHAIN)], announced=len(body))
        handler.close_connection = True

    service.faults[TCB_INFO] = [cut, lambda handler: service.good(handler, TCB_INFO)]
    assert fetcher.get(TCB_INFO, {"fmspc": "90c06f000000"}).body == BODIES[TCB_INFO]
    service.faults[TCB_INFO] = [cut]
    fails(fetcher, "broke off|no usable answer")
    assert len(pauses) == 3


def test_a_service_that_is_not_there_is_unavailable(pauses):
    fails(PcsFetcher("http://127.0.0.1:9", pause=pauses.append), "no connection")
    assert len(pauses) == 2


def test_bytes_that_are_no_http_are_unavailable(service, fetcher):
    service.faults[TCB_INFO] = [lambda handler: handler.wfile.write(b"\x15\x03\x01 garbage\r\n\r\n")]
    fails(fetcher, "3 times")


@pytest.mark.parametrize("value", [None, "", "x" * 40_000])
@pytest.mark.parametrize("path", sorted(HEADERS))
def test_an_answer_without_a_usable_issuer_chain_is_refused(service, fetcher, path, value):
    headers = [] if value is None else [(HEADERS[path], value)]
    service.faults[path] = [lambda handler: answer(handler, BODIES[path], headers)]
    fails(fetcher, "no usable header", path)


def test_an_issuer_chain_that_is_no_ascii_is_refused(service, fetcher):
    service.faults[TCB_INFO] = [lambda handler: answer(handler, BODIES[TCB_INFO], [(HEADERS[TCB_INFO], "ü")])]
    fails(fetcher, "not ASCII")


def test_an_oversized_body_is_not_read_to_its_end(service, fetcher):
    def flood(handler):
        handler.send_response(200)
        handler.send_header(HEADERS[TCB_INFO], CHAIN)
        handler.end_headers()
        with_end = 64  # MiB
        try:
            for _ in range(with_end):
                handler.wfile.write(bytes(1 << 20))
                sent.append(1)
        except OSError:
            pass

    sent: list = []
    service.faults[TCB_INFO] = [flood]
    fails(fetcher, "more than 1048576 bytes")
    assert len(sent) < 64


def test_a_body_in_an_encoding_that_nobody_asked_for_is_refused(service, fetcher):
    packed = gzip.compress(BODIES[TCB_INFO])
    headers = [(HEADERS[TCB_INFO], CHAIN), ("Content-Encoding", "gzip")]
    service.faults[TCB_INFO] = [lambda handler: answer(handler, packed, headers)]
    fails(fetcher, "encoding")


def test_a_body_that_drips_is_given_up(service, pauses):
    def drip(handler):
        handler.send_response(200)
        handler.send_header(HEADERS[TCB_INFO], CHAIN)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        try:
            for _ in range(100):
                handler.wfile.write(b"x")
                handler.wfile.flush()
                time.sleep(0.05)
        except OSError:
            pass

    service.faults[TCB_INFO] = [drip]
    begun = time.monotonic()
    fails(PcsFetcher(service.url, timeout=0.4, pause=pauses.append), "no answer in time")
    assert time.monotonic() - begun < 3
    assert pauses == []


def test_a_silent_service_is_given_up(service, pauses):
    service.faults[TCB_INFO] = [lambda handler: time.sleep(2)]
    fails(PcsFetcher(service.url, timeout=0.2, pause=pauses.append), "in time|3 times")


def redirect(location):
    return lambda handler: answer(handler, b"", [("Location", location)], status=302)


def test_a_redirect_on_the_same_server_is_followed(service, fetcher):
    service.faults[TCB_INFO] = [redirect("/elsewhere?x=1")]
    service.faults["/elsewhere"] = [lambda handler: service.good(handler, TCB_INFO)]
    found = fetcher.get(TCB_INFO, {"fmspc": "90c06f000000"})
    assert found.body == BODIES[TCB_INFO]
    assert found.url == f"{service.url}{TCB_INFO}?fmspc=90c06f000000"
    assert service.asked[-1] == ("/elsewhere", {"x": "1"})


def test_a_redirect_to_another_server_is_not_followed(start, service, fetcher):
    other = start()
    for location in (
        f"{other.url}{TCB_INFO}",
        f"//127.0.0.1:{other.server.server_port}/",
        service.url.replace("http", "https"),
        "file:///etc/passwd",
    ):
        service.faults[TCB_INFO] = [redirect(location)]
        fails(fetcher, "sends elsewhere")
    assert other.asked == []


def test_a_circle_of_redirects_ends(service, fetcher):
    service.faults[TCB_INFO] = [redirect(TCB_INFO)]
    fails(fetcher, "more than 3 redirects")
    assert len(service.asked) == 4


def test_no_credentials_are_sent(service, fetcher, tmp_path, monkeypatch):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password secret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    fetcher.get(QE_IDENTITY, {})
    assert set(service.sent[0]) <= {"Host", "Accept-Encoding", "User-Agent", "Connection"}


WRONG = {
    TCB_INFO: [
        (b"{}", "no .tcbInfo"),
        (b"", "JSON"),
        (BODIES[TCB_INFO].replace(b"90c06f000000", b"50806f000000"), "TDX 50806f000000"),
        (BODIES[QE_IDENTITY], "no .tcbInfo"),
        (BODIES[TCB_INFO].replace(b'"version":3', b'"version":2'), "version 2"),
    ],
    QE_IDENTITY: [(BODIES[TCB_INFO], "no .enclaveIdentity"), (b"x", "JSON")],
    EVALUATION_NUMBERS: [(BODIES[TCB_INFO], "no .tcbEvaluationDataNumbers")],
    PCK_CRL: [(b"x", "hex"), (b"\x30\x00", "CRL"), (BODIES[TCB_INFO], "hex")],
    ROOT_CRL: [(b"<html>", "hex")],
}


@pytest.mark.parametrize(("path", "body", "match"), [(path, *case) for path, cases in WRONG.items() for case in cases])
def test_an_answer_to_another_question_is_refused_and_not_kept(service, tmp_path, path, body, match):
    fetcher = PcsFetcher(service.url, cache=tmp_path / "cache", clock=lambda: NOW)
    service.bodies[path] = body
    fails(fetcher, match, path)
    assert not (tmp_path / "cache").exists()
    service.bodies[path] = BODIES[path]
    assert fetcher.get(path, {"fmspc": "90c06f000000"}).body == BODIES[path]


def test_a_list_of_another_ca_is_refused(service, fetcher):
    service.bodies[PCK_CRL] = crl(writer.PROCESSOR_CA)
    with pytest.raises(MaterialUnavailable, match="Processor CA"):
        fetch_collateral(QUOTE, fetcher)


def test_the_leaf_of_these_tests_is_one():
    assert parse_pck(LEAF).fmspc.hex() == "90c06f000000"
