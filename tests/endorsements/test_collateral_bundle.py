"""Bundles and folders of collateral: byte for byte what was put in, and everything that must be refused."""

from __future__ import annotations

import base64
import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dokimos.codec import pem_or_der
from dokimos.endorsements.ca import parse_crl
from dokimos.endorsements.collateral import parse_qe_identity, parse_tcb_info
from dokimos.endorsements.collateral_bundle import (
    MAX_BUNDLE,
    MAX_CHAIN,
    Origin,
    TdxCollateral,
    chain_certificates,
    collateral_from_files,
    crl_der,
    encode_collateral,
    parse_collateral,
)
from dokimos.endorsements.p256 import parse_ca_p256
from dokimos.errors import Check, MalformedEvidence, MaterialUnavailable

SETS = (
    "collateral_2026_03_5080",
    "collateral_2026_03_90c0",
    "tdx_v4_debug_td_5080",
    "tdx_v4_uptodate_b0c0",
    "tdx_v5_td15_uptodate_90c0",
)


def _load_seeds():
    path = Path(__file__).resolve().parent.parent / "fuzz/fuzz_tdx_collateral.py"
    spec = importlib.util.spec_from_file_location("fuzz_tdx_collateral", path)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


seeds = _load_seeds()
COLLATERAL = seeds.COLLATERAL
FULL = replace(
    COLLATERAL,
    pck_chain=b"-----BEGIN CERTIFICATE-----\n",
    origins=(Origin(item="tcb_info", url="https://pcs.invalid/tcb?fmspc=00", fetched="2026-03-20T00:00:00Z"),),
)


def refused(data, match=None):
    with pytest.raises(MalformedEvidence, match=match) as caught:
        parse_collateral(data)
    assert caught.value.check is Check.TDX_COLLATERAL_FORMAT


def folder(vectors, name):
    found = vectors(f"tdx/{name}")
    return {file: found.bytes(file) for file in found.names}


@pytest.mark.parametrize("name", SETS)
def test_a_real_folder_and_its_document_for_dcap_qvl_say_the_same(vectors, name):
    files = folder(vectors, name)
    one, other = collateral_from_files(files), parse_collateral(files["collateral.json"])
    assert parse_tcb_info(one.tcb_info) == parse_tcb_info(other.tcb_info)
    assert parse_qe_identity(one.qe_identity) == parse_qe_identity(other.qe_identity)
    assert crl_der(one.pck_crl, "CRL") == crl_der(other.pck_crl, "CRL")
    assert crl_der(one.root_crl, "CRL") == crl_der(other.root_crl, "CRL")
    for chain in ("tcb_info_chain", "qe_identity_chain", "pck_crl_chain"):
        certificates = chain_certificates(getattr(one, chain), chain)
        assert certificates == chain_certificates(getattr(other, chain), chain)
        assert parse_ca_p256(certificates[-1]).subject_cn == "Intel SGX Root CA"
    assert parse_crl(crl_der(one.pck_crl, "CRL")).issuer_cn == "Intel SGX PCK Platform CA"


@pytest.mark.parametrize("name", SETS)
def test_a_real_folder_comes_back_from_a_bundle_byte_for_byte(vectors, name):
    files = folder(vectors, name)
    collateral = collateral_from_files(files)
    assert parse_collateral(encode_collateral(collateral)) == collateral
    for file, value in (
        ("tcb_info_response.json", collateral.tcb_info),
        ("qe_identity_response.json", collateral.qe_identity),
        ("pck_crl_platform.der", collateral.pck_crl),
        ("root_ca_crl.der", collateral.root_crl),
    ):
        assert files.get(file, value) == value


def test_equal_collateral_gives_equal_bytes_and_they_are_read_back():
    for collateral in (COLLATERAL, FULL, replace(COLLATERAL, pck_crl_chain=b"")):
        data = encode_collateral(collateral)
        assert data == encode_collateral(replace(collateral))
        assert parse_collateral(data) == collateral
        assert encode_collateral(parse_collateral(data)) == data


binary = st.binary(min_size=1, max_size=100)


@given(
    st.builds(
        TdxCollateral,
        **dict.fromkeys(
            ("tcb_info", "tcb_info_chain", "qe_identity", "qe_identity_chain", "pck_crl", "root_crl"), binary
        ),
        pck_crl_chain=st.binary(max_size=20),
        pck_chain=st.none() | binary,
        origins=st.just(()),
    )
)
def test_any_bytes_come_back_from_a_bundle(collateral):
    assert parse_collateral(encode_collateral(collateral)) == collateral


def bundle(**changes):
    document = json.loads(encode_collateral(FULL)) | changes
    return json.dumps({name: value for name, value in document.items() if value is not ...}).encode()


BODY = base64.b64encode(b"x").decode()


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"schema": "dokimos.tdx-collateral/v2"}, "unknown"),
        ({"schema": 1}, "schema"),
        ({"schema": ...}, "neither"),
        ({"extra": 1}, "'extra' is unknown"),
        ({"tcb_info": ...}, "object"),
        ({"qe_identity": {}}, "body"),
        ({"root_crl": {"body": BODY, "more": 1}}, "'more' is unknown"),
        ({"root_crl": {"body": BODY, "issuer_chain": BODY}}, "never has"),
        ({"root_crl": {"body": BODY, "url": "x"}}, "fetched"),
        ({"root_crl": {"body": BODY, "url": "\x1b", "fetched": ""}}, "url"),
        ({"root_crl": {"body": ""}}, "empty"),
        ({"root_crl": {"body": "eA"}}, "base64"),
        ({"root_crl": {"body": "eB=="}}, "one form"),
        ({"root_crl": {"body": "e A=="}}, "base64"),
        ({"root_crl": {"body": 1}}, "body"),
        ({"pck_crl": {"body": BODY, "issuer_chain": None}}, "issuer_chain"),
        ({"tcb_info": {"body": BODY}}, "issuer_chain"),
        ({"tcb_info": {"body": BODY, "issuer_chain": "A" * (MAX_CHAIN * 2)}}, "more than"),
    ],
)
def test_a_bundle_of_another_form_is_refused(changes, match):
    refused(bundle(**changes), match)


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"", "JSON"),
        (b"[]", "object"),
        (b"{}", "neither"),
        (b'{"schema":"a","schema":"a"}', "twice"),
        (bundle() + b"x", "behind"),
        (b"[" * 100_000, "nested"),
        (b" " * (MAX_BUNDLE + 1), "larger"),
    ],
)
def test_a_document_of_another_kind_is_refused(data, match):
    refused(data, match)


def test_truncation_is_malformed():
    data = bundle()
    for length in range(0, len(data), 7):
        refused(data[:length])


@pytest.mark.parametrize("name", sorted(seeds.DCAP_QVL))
def test_a_document_of_dcap_qvl_without_one_of_its_members_is_refused(name):
    refused(json.dumps({key: value for key, value in seeds.DCAP_QVL.items() if key != name}).encode())


def test_a_document_of_dcap_qvl_is_joined_to_the_bodies_that_the_service_sends():
    chain = {"pck_certificate_chain": "-----BEGIN CERTIFICATE-----\n"}
    collateral = parse_collateral(json.dumps(seeds.DCAP_QVL | chain | {"unknown": 1}).encode())
    info = parse_tcb_info(collateral.tcb_info)
    assert info.signed.decode() == seeds.DCAP_QVL["tcb_info"]
    assert info.signature.hex() == seeds.DCAP_QVL["tcb_info_signature"]
    assert parse_qe_identity(collateral.qe_identity).signed.decode() == seeds.DCAP_QVL["qe_identity"]
    assert collateral.pck_chain == chain["pck_certificate_chain"].encode()
    assert crl_der(collateral.root_crl, "CRL") == b"\x30\x00"


@pytest.mark.parametrize(
    "changes",
    [
        {"tcb_info": "\ud800"},
        {"tcb_info": {}},
        {"tcb_info_signature": "ab"},
        {"pck_crl": 1},
        {"pck_crl_issuer_chain": "x" * (MAX_CHAIN + 1)},
    ],
)
def test_a_document_of_dcap_qvl_with_another_value_is_refused(changes):
    refused(json.dumps(seeds.DCAP_QVL | changes).encode())


def test_a_second_member_smuggled_into_a_signed_string_is_not_signed():
    smuggled = seeds.DCAP_QVL | {"tcb_info": seeds.DCAP_QVL["tcb_info"] + ',"tcbInfo":{}'}
    with pytest.raises(MalformedEvidence, match="twice"):
        parse_tcb_info(parse_collateral(json.dumps(smuggled).encode()).tcb_info)


FILES = {
    "tcb_info_response.json": b"1",
    "qe_identity_response.json": b"2",
    "pck_crl_platform.der": b"3",
    "root_ca_crl.der": b"4",
    "tcb_signing_chain.pem": b"5",
}


def test_files_are_taken_by_their_names():
    collateral = collateral_from_files(FILES | {"manifest.json": b"x"})
    assert collateral == TdxCollateral(
        tcb_info=b"1",
        tcb_info_chain=b"5",
        qe_identity=b"2",
        qe_identity_chain=b"5",
        pck_crl=b"3",
        pck_crl_chain=b"",
        root_crl=b"4",
    )
    more = {"qe_identity_issuer_chain.pem": b"6", "pck_crl_issuer_chain.pem": b"7", "pck_chain.pem": b"8"}
    assert collateral_from_files(FILES | more) == replace(
        collateral, qe_identity_chain=b"6", pck_crl_chain=b"7", pck_chain=b"8"
    )


def test_a_bundle_in_a_folder_gives_what_no_file_gives():
    collateral = collateral_from_files({"collateral.json": encode_collateral(FULL), "tcb_info.json": b"1"})
    assert collateral == replace(FULL, tcb_info=b"1", origins=())


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_folder_without_one_of_the_files_is_incomplete(name):
    with pytest.raises(MaterialUnavailable, match=name.split("_response")[0].replace(".", r"\.")):
        collateral_from_files({key: value for key, value in FILES.items() if key != name})


def test_lists_of_two_cas_in_one_folder_are_ambiguous():
    with pytest.raises(MalformedEvidence, match="one list"):
        collateral_from_files(FILES | {"pck_crl_processor.der": b"x"})


def test_a_chain_is_read_however_a_header_writes_it(vectors):
    pem = vectors("tdx/collateral_2026_03_90c0").bytes("tcb_signing_chain.pem")
    wanted = tuple(pem_or_der(pem, "chain"))
    assert len(wanted) == 2
    written = [pem, quote(pem).encode(), quote(pem, safe="").encode(), quote_plus(pem).encode(), pem + b"\0\n"]
    written.append(quote(pem, safe="/+=").encode())
    for form in written:
        assert chain_certificates(form, "chain") == wanted, form[:60]


@pytest.mark.parametrize(
    "chain",
    [
        b"",
        b"%",
        b"-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n",
        b"-----BEGIN CERTIFICATE-----\nMA\n-----END CERTIFICATE-----\n",
        b"-----BEGIN X509 CRL-----\nMAA=\n-----END X509 CRL-----\n",
        b"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n" * 4,
        b" " * (MAX_CHAIN + 1),
    ],
)
def test_a_chain_of_another_form_is_refused(chain):
    with pytest.raises(MalformedEvidence) as caught:
        chain_certificates(chain, "chain")
    assert caught.value.check is Check.TDX_COLLATERAL_FORMAT


def test_a_list_is_read_however_it_is_written(vectors):
    der = vectors("tdx/collateral_2026_03_90c0").bytes("root_ca_crl.der")
    pem = b"-----BEGIN X509 CRL-----\n" + base64.encodebytes(der) + b"-----END X509 CRL-----\n"
    for form in (der, der.hex().encode(), der.hex().upper().encode() + b"\n", pem, b"\n" + pem):
        assert crl_der(form, "CRL") == der


@pytest.mark.parametrize(
    "crl",
    [
        b"xyz",
        b"300",
        b"\xff",
        b"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n",
        b"-----BEGIN X509 CRL-----\nMAA=\n-----END X509 CRL-----\n" * 2,
        bytes(3 << 20),
    ],
)
def test_a_list_of_another_form_is_refused(crl):
    with pytest.raises(MalformedEvidence) as caught:
        crl_der(crl, "CRL")
    assert caught.value.check is Check.TDX_COLLATERAL_FORMAT


@settings(max_examples=200)
@given(st.binary(max_size=200))
def test_any_bytes_give_a_clear_error_that_names_its_check(data):
    refused(data)
