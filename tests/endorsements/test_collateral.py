"""TCB info and QE identity: the real ones, and everything that must be refused."""

from __future__ import annotations

import contextlib
import copy
import importlib.util
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dokimos.codec import pem_or_der
from dokimos.endorsements.collateral import (
    TcbStatus,
    parse_evaluation_numbers,
    parse_qe_identity,
    parse_tcb_info,
)
from dokimos.endorsements.collateral_bundle import chain_certificates, parse_collateral
from dokimos.endorsements.p256 import parse_ca_p256, verify_raw
from dokimos.endorsements.signed_json import MAX_BODY
from dokimos.errors import Check, MalformedEvidence, UnsupportedEvidence

SETS = (
    "collateral_2026_03_5080",
    "collateral_2026_03_90c0",
    "sgx_v3_confswhardening_00a0",
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
TCB_INFO = seeds.TCB_INFO
QE_IDENTITY = seeds.QE_IDENTITY


def changed(document, path, value):
    """The document with another value at a path, or without it for None."""
    found = copy.deepcopy(document)
    inner = found
    for step in path[:-1]:
        inner = inner[step]
    if value is None:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return found


def tcb_info(path=(), value=None):
    return seeds.body("tcbInfo", changed(TCB_INFO, path, value) if path else TCB_INFO)


def qe_identity(path=(), value=None):
    return seeds.body("enclaveIdentity", changed(QE_IDENTITY, path, value) if path else QE_IDENTITY)


def refused(parse, body, match=None):
    with pytest.raises(MalformedEvidence, match=match) as caught:
        parse(body)
    assert caught.value.check is Check.TDX_COLLATERAL_FORMAT


@pytest.mark.parametrize("name", SETS)
def test_every_real_body_is_read_and_its_signature_is_over_the_cut_out_bytes(vectors, name):
    found = vectors(f"tdx/{name}")
    collateral = parse_collateral(found.bytes("collateral.json"))
    for parse, body, chain in (
        (parse_tcb_info, collateral.tcb_info, collateral.tcb_info_chain),
        (parse_qe_identity, collateral.qe_identity, collateral.qe_identity_chain),
    ):
        document = parse(body)
        signer = parse_ca_p256(chain_certificates(chain, "chain")[0])
        assert verify_raw(signer.public_point, document.signature, document.signed)
        assert not verify_raw(signer.public_point, document.signature, document.signed + b" ")
        assert document.evaluation_data_number == found.manifest["expected"]["tcb_evaluation_data_number"]
        assert document.issue_date < document.next_update


@pytest.mark.parametrize("name", SETS)
def test_every_value_of_a_real_body_is_read(vectors, name):
    collateral = parse_collateral(vectors(f"tdx/{name}").bytes("collateral.json"))
    info, peer = parse_tcb_info(collateral.tcb_info), json.loads(collateral.tcb_info)["tcbInfo"]
    assert (info.id, info.version, info.tcb_type) == (peer["id"], 3, peer["tcbType"])
    assert (info.fmspc.hex(), info.pceid.hex()) == (peer["fmspc"].lower(), peer["pceId"].lower())
    assert len(info.levels) == len(peer["tcbLevels"])
    for level, entry in zip(info.levels, peer["tcbLevels"], strict=True):
        assert list(level.sgx) == [component["svn"] for component in entry["tcb"]["sgxtcbcomponents"]]
        assert level.pcesvn == entry["tcb"]["pcesvn"]
        tdx = entry["tcb"].get("tdxtcbcomponents", [{"svn": 0}] * 16)
        assert list(level.tdx) == [component["svn"] for component in tdx]
        assert level.status == entry["tcbStatus"]
        assert list(level.advisories) == entry.get("advisoryIDs", [])
        assert level.date == datetime.fromisoformat(entry["tcbDate"])
    assert [found.id for found in info.module_identities] == [
        entry["id"] for entry in peer.get("tdxModuleIdentities", [])
    ]
    for found, entry in zip(info.module_identities, peer.get("tdxModuleIdentities", []), strict=True):
        assert [level.isvsvn for level in found.levels] == [level["tcb"]["isvsvn"] for level in entry["tcbLevels"]]
    assert (info.module is None) == (info.id == "SGX")
    identity, peer = parse_qe_identity(collateral.qe_identity), json.loads(collateral.qe_identity)["enclaveIdentity"]
    assert (identity.id, identity.version, identity.isvprodid) == (peer["id"], 2, peer["isvprodid"])
    for mine, theirs in (
        (identity.miscselect, "miscselect"),
        (identity.miscselect_mask, "miscselectMask"),
        (identity.attributes, "attributes"),
        (identity.attributes_mask, "attributesMask"),
        (identity.mrsigner, "mrsigner"),
    ):
        assert mine.hex() == peer[theirs].lower()
    assert [level.isvsvn for level in identity.levels] == [level["tcb"]["isvsvn"] for level in peer["tcbLevels"]]


def test_raw_bodies_of_the_service_are_read(vectors):
    for name in ("collateral_2026_03_5080", "collateral_2026_03_90c0", "tdx_v4_debug_td_5080"):
        found = vectors(f"tdx/{name}")
        collateral = parse_collateral(found.bytes("collateral.json"))
        assert parse_tcb_info(found.bytes("tcb_info_response.json")) == parse_tcb_info(collateral.tcb_info)
        assert parse_qe_identity(found.bytes("qe_identity_response.json")) == parse_qe_identity(collateral.qe_identity)


def test_one_flipped_bit_anywhere_in_a_real_body_is_refused_or_breaks_its_signature(vectors):
    found = vectors("tdx/collateral_2026_03_90c0")
    body = found.bytes("qe_identity_response.json")
    signer = parse_ca_p256(pem_or_der(found.bytes("tcb_signing_chain.pem"), "chain")[0])
    good = parse_qe_identity(body)
    for position in range(len(body)):
        other = bytearray(body)
        other[position] ^= 1 << position % 8
        try:
            identity = parse_qe_identity(bytes(other))
        except (MalformedEvidence, UnsupportedEvidence):
            continue
        if (identity.signed, identity.signature) != (good.signed, good.signature):
            assert not verify_raw(signer.public_point, identity.signature, identity.signed)
        else:  # a hex digit of the signature in the other case
            assert identity == good


@pytest.mark.parametrize(
    "written",
    [
        b'{"signature":"%s","tcbInfo":%s}',
        b' \r\n{ "signature" :\t"%s" , "tcbInfo"\n:  %s \n} ',
        b'{"warning":{"tcbInfo":1},"signature":"%s","note":"}\\"tcbInfo\\":{","tcbInfo":%s,"z":[[],{}]}',
        b'{"signature":"%s","\\u0074cbInfo":%s}',
    ],
)
def test_the_signed_bytes_are_cut_out_whatever_stands_around_them(written):
    value = b'{ "id" : "TDX",' + json.dumps(TCB_INFO, indent=3).encode().lstrip(b"{").replace(b'"id": "TDX",', b"")
    info = parse_tcb_info(written % (b"ab" * 64, value))
    assert info.signed == value
    assert info.signature == b"\xab" * 64


def test_bytes_that_are_no_ascii_are_cut_out_as_they_were_received():
    value = json.dumps(TCB_INFO | {"remark": "Größe \N{MICRO SIGN} 𝄞"}, ensure_ascii=False).encode()
    info = parse_tcb_info('{"né":"ü","signature":"'.encode() + b"ab" * 64 + b'","tcbInfo":' + value + b"}")
    assert info.signed == value


def test_unknown_members_are_tolerated():
    info = parse_tcb_info(seeds.body("tcbInfo", TCB_INFO | {"newField": [1.5, None, {"a": True}]}))
    assert info == parse_tcb_info(tcb_info()).__class__(
        **{name: getattr(info, name) for name in info.__slots__ if name != "signed"}, signed=info.signed
    )
    assert info.levels == parse_tcb_info(tcb_info()).levels


@pytest.mark.parametrize(
    ("body", "match"),
    [
        (b"", "JSON"),
        (b"[]", "object"),
        (b'"tcbInfo"', "object"),
        (b"{}", "no"),
        (b'{"tcbInfo":{}}', "no"),
        (b'{"signature":"%s"}' % (b"ab" * 64), "no"),
        (b'{"tcbInfo":{},"tcbInfo":{},"signature":"%s"}' % (b"ab" * 64), "twice"),
        (b'{"tcbInfo":{},"signature":"%s","signature":"%s"}' % (b"ab" * 64, b"ab" * 64), "twice"),
        (b'{"tcbInfo":{},"\\u0074cbInfo":{},"signature":"%s"}' % (b"ab" * 64), "twice"),
        (b'{"tcbInfo":[],"signature":"%s"}' % (b"ab" * 64), "object"),
        (b'{"tcbInfo":{"id":1,"id":1},"signature":"%s"}' % (b"ab" * 64), "twice"),
        (b'{"tcbInfo":{"id":NaN},"signature":"%s"}' % (b"ab" * 64), "NaN"),
        (b'{"tcbInfo":{"version":%s},"signature":"%s"}' % (b"9" * 5000, b"ab" * 64), "JSON"),
        (b'\xef\xbb\xbf{"tcbInfo":{},"signature":"%s"}' % (b"ab" * 64), "JSON"),
        (b'{"tcbInfo":{"id":"\xff"},"signature":"%s"}' % (b"ab" * 64), "UTF-8"),
        (b'{"tcbInfo":{},"signature":"%s"}' % (b"ab" * 63), "64 bytes"),
        (b'{"tcbInfo":{},"signature":"%s"}' % (b"zz" * 64), "64 bytes"),
        (b'{"tcbInfo":{},"signature":1}', "signature"),
        (b'{"tcbInfo":{},}', "JSON"),
        (b'{"tcbInfo":{}"signature":"x"}', "object"),
        (b'{tcbInfo:{},"signature":"x"}', "JSON"),
        (b'{1:{},"signature":"x"}', "name"),
    ],
)
def test_a_body_of_another_form_is_refused(body, match):
    refused(parse_tcb_info, body, match)


def test_something_behind_a_body_is_refused():
    assert parse_tcb_info(tcb_info() + b"\n")
    refused(parse_tcb_info, tcb_info() + b"\n1", "ends otherwise")
    refused(parse_tcb_info, tcb_info() + b"\0", "ends otherwise")


def test_truncation_at_each_length_is_malformed():
    body = tcb_info()
    for length in range(len(body)):
        refused(parse_tcb_info, body[:length])


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'{"tcbInfo":', b'"\\"",[', b'["]",'])
def test_deep_nesting_is_refused_before_it_is_read(opening):
    refused(parse_tcb_info, opening * 60_000)
    refused(parse_tcb_info, b'{"tcbInfo":' + b"[" * 300_000 + b"]" * 300_000 + b"}", "nested")


def test_brackets_in_strings_are_no_nesting():
    text = "[{" * 100 + '"' + "\\" + "]"
    assert parse_tcb_info(seeds.body("tcbInfo", TCB_INFO | {"remark": text})).id == "TDX"


def test_an_oversized_body_is_refused_unread():
    refused(parse_tcb_info, b" " * (MAX_BODY + 1), "larger")


@pytest.mark.parametrize("name", sorted(TCB_INFO))
def test_tcb_info_without_one_of_its_members_is_refused(name):
    if name == "tdxModuleIdentities":
        assert parse_tcb_info(tcb_info((name,))).module_identities == ()  # before module 1.5 there were none
    else:
        refused(parse_tcb_info, tcb_info((name,)), name)


@pytest.mark.parametrize("name", sorted(QE_IDENTITY))
def test_a_qe_identity_without_one_of_its_members_is_refused(name):
    refused(parse_qe_identity, qe_identity((name,)), name)


LEVEL = ("tcbLevels", 0)
COMPONENTS = (*LEVEL, "tcb", "sgxtcbcomponents")
IDENTITY = ("tdxModuleIdentities", 0)
MODULE_IDENTITY = TCB_INFO["tdxModuleIdentities"][0]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("version",), "3"),
        (("version",), 3.0),
        (("version",), True),
        (("id",), "TD\nX"),
        (("id",), "\ud800"),
        (("issueDate",), "2026-03-16"),
        (("issueDate",), "2026-03-16T22:21:30"),
        (("issueDate",), "2026-03-16T22:21:30+00:00"),
        (("issueDate",), "2026-03-16T22:21:30.5Z"),
        (("issueDate",), "2026-02-30T22:21:30Z"),
        (("issueDate",), "\N{FULLWIDTH DIGIT TWO}026-03-16T22:21:30Z"),
        (("issueDate",), 1773699690),
        (("fmspc",), "90c06f0000"),
        (("fmspc",), "90c06f00000g"),
        (("fmspc",), "0x90c06f0000"),
        (("pceId",), "00000"),
        (("tcbType",), -1),
        (("tcbEvaluationDataNumber",), 1 << 32),
        (("tcbEvaluationDataNumber",), "18"),
        (("tdxModule",), []),
        (("tdxModule", "mrsigner"), "00" * 32),
        (("tdxModule", "attributes"), None),
        (("tdxModule", "attributesMask"), "FF" * 9),
        (("tdxModuleIdentities",), {}),
        (("tdxModuleIdentities",), [MODULE_IDENTITY] * 2),
        (
            ("tdxModuleIdentities",),
            [MODULE_IDENTITY, MODULE_IDENTITY | {"id": "tdx_01"}],
        ),
        ((*IDENTITY, "id"), None),
        ((*IDENTITY, "tcbLevels"), []),
        ((*IDENTITY, "tcbLevels", 0, "tcb", "isvsvn"), 0x10000),
        ((*IDENTITY, "tcbLevels", 0, "tcbStatus"), "SWHardeningNeeded"),
        (("tcbLevels",), []),
        (("tcbLevels",), TCB_INFO["tcbLevels"] * 513),
        (("tcbLevels",), [1]),
        ((*LEVEL, "tcb"), None),
        ((*LEVEL, "tcb", "pcesvn"), 0x10000),
        ((*LEVEL, "tcb", "pcesvn"), -1),
        ((*LEVEL, "tcb", "tdxtcbcomponents"), None),
        ((*LEVEL, "tcb", "tdxtcbcomponents"), [{"svn": 1}] * 15),
        ((*LEVEL, "tcb", "tdxtcbcomponents"), [{"svn": 1}] * 17),
        (COMPONENTS, [{"svn": 1}] * 16 + [1]),
        (COMPONENTS, [{"svn": 1}] * 15 + [1]),
        ((*COMPONENTS, 3), {}),
        ((*COMPONENTS, 3, "svn"), "1"),
        ((*COMPONENTS, 3, "svn"), True),
        ((*COMPONENTS, 3, "svn"), 1.0),
        ((*COMPONENTS, 3, "svn"), -1),
        ((*COMPONENTS, 3, "svn"), 0x10000),
        ((*LEVEL, "tcbStatus"), "uptodate"),
        ((*LEVEL, "tcbStatus"), "TDRelaunchAdvised"),
        ((*LEVEL, "tcbStatus"), "NotSupported"),
        ((*LEVEL, "tcbDate"), None),
        ((*LEVEL, "advisoryIDs"), "INTEL-SA-00960"),
        ((*LEVEL, "advisoryIDs"), [1]),
        ((*LEVEL, "advisoryIDs"), ["\x1b[31m"]),
        ((*LEVEL, "advisoryIDs"), ["INTEL-SA-00960"] * 257),
    ],
)
def test_tcb_info_with_a_value_of_another_type_or_range_is_refused(path, value):
    refused(parse_tcb_info, tcb_info(path, value))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("miscselect",), "000000"),
        (("attributesMask",), "FF" * 15),
        (("mrsigner",), "00" * 48),
        (("isvprodid",), 0x10000),
        (("isvprodid",), True),
        (("tcbLevels",), []),
        ((*LEVEL, "tcbStatus"), "SWHardeningNeeded"),
        ((*LEVEL, "tcb", "isvsvn"), -1),
    ],
)
def test_a_qe_identity_with_a_value_of_another_type_or_range_is_refused(path, value):
    refused(parse_qe_identity, qe_identity(path, value))


def test_svns_above_a_byte_are_read():
    info = parse_tcb_info(tcb_info((*COMPONENTS, 15, "svn"), 0xFFFF))
    assert info.levels[0].sgx == (4, *range(14), 0xFFFF)
    assert info.levels[0].tdx == (5, *range(15))
    assert info.levels[0].status is TcbStatus.SW_HARDENING_NEEDED
    assert info.levels[0].advisories == ("INTEL-SA-00960",)


def test_levels_stay_in_the_order_of_the_file():
    levels = [changed(TCB_INFO["tcbLevels"][0], ("tcb", "pcesvn"), number) for number in (5, 13, 2)]
    info = parse_tcb_info(tcb_info(("tcbLevels",), levels))
    assert [level.pcesvn for level in info.levels] == [5, 13, 2]


@pytest.mark.parametrize("status", [status for status in TcbStatus if "Relaunch" not in status][:7])
def test_every_status_that_a_platform_level_may_have_is_read(status):
    assert parse_tcb_info(tcb_info((*LEVEL, "tcbStatus"), str(status))).levels[0].status is status


def test_tcb_info_for_sgx_is_read_so_that_it_can_be_named():
    document = {name: value for name, value in TCB_INFO.items() if not name.startswith("tdx")} | {"id": "SGX"}
    info = parse_tcb_info(seeds.body("tcbInfo", changed(document, (*LEVEL, "tcb", "tdxtcbcomponents"), None)))
    assert (info.id, info.module, info.module_identities, info.levels[0].tdx) == ("SGX", None, (), (0,) * 16)


@pytest.mark.parametrize(
    ("parse", "body", "check"),
    [
        (parse_tcb_info, tcb_info(("version",), 2), Check.TDX_TCB_INFO_VERSION),
        (parse_tcb_info, tcb_info(("version",), 4), Check.TDX_TCB_INFO_VERSION),
        (parse_tcb_info, tcb_info(("id",), "QE"), Check.TDX_TCB_INFO_ID),
        (parse_qe_identity, qe_identity(("version",), 3), Check.TDX_QE_IDENTITY_VERSION),
        (parse_evaluation_numbers, seeds.body("tcbEvaluationDataNumbers", seeds.NUMBERS | {"version": 2}), None),
    ],
)
def test_another_version_or_kind_is_unsupported_and_not_guessed(parse, body, check):
    with pytest.raises(UnsupportedEvidence) as caught:
        parse(body)
    assert caught.value.check is check


def test_the_list_of_evaluation_data_numbers_is_read():
    found = parse_evaluation_numbers(seeds.body("tcbEvaluationDataNumbers", seeds.NUMBERS))
    assert [(entry.number, entry.recovery_event_date) for entry in found.numbers] == [
        (18, datetime(2024, 11, 12, tzinfo=UTC))
    ]
    refused(parse_evaluation_numbers, seeds.body("tcbEvaluationDataNumbers", seeds.NUMBERS | {"tcbEvalNumbers": []}))


@settings(max_examples=200)
@given(st.binary(max_size=200))
def test_any_bytes_give_a_clear_error_that_names_its_check(data):
    for parse in (parse_tcb_info, parse_qe_identity):
        refused(parse, data)


@settings(max_examples=300)
@given(st.data())
def test_any_value_anywhere_in_a_tcb_info_gives_a_value_or_a_clear_error(data):
    path: list = []
    inner = TCB_INFO
    while isinstance(inner, dict | list) and inner and (not path or data.draw(st.booleans())):
        path.append(data.draw(st.sampled_from(sorted(inner) if isinstance(inner, dict) else range(len(inner)))))
        inner = inner[path[-1]]
    simple = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
    value = data.draw(
        st.recursive(simple, lambda s: st.lists(s, max_size=3) | st.dictionaries(st.text(), s, max_size=3))
    )
    document = copy.deepcopy(TCB_INFO)
    target = document
    for step in path[:-1]:
        target = target[step]
    target[path[-1]] = value
    with contextlib.suppress(MalformedEvidence, UnsupportedEvidence):
        parse_tcb_info(json.dumps({"tcbInfo": document, "signature": "ab" * 64}).encode())
