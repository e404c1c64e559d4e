"""The store of RIMs: any name will do, an id names several issues, and what is of no use is named."""

from __future__ import annotations

import base64
import json
import runpy
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace

import pytest

from dokimos.endorsements.rim import RimNeed
from dokimos.endorsements.rim_store import MAX_FILES, RimStore, id_of_name, parse_rim_answer
from dokimos.errors import Check, MalformedEvidence, MaterialUnavailable, UnsupportedEvidence

G = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[1] / "generate/rim.py")))
ID = "NV_GPU_DRIVER_GH100_550.90.07"
NEED = RimNeed("driver", ID, ("GH100",), "550.90.07")
RIM = G.rim()
OTHER_ISSUE = G.rim(G.Spec(values=(G.Value(7, (b"\x08" * 48,)),)))
OTHER_VERSION = G.rim(G.Spec(version="550.90.12"))


def answer(**changes):
    said = {"id": ID, "rim": base64.b64encode(RIM).decode(), "sha256": sha256(RIM).hexdigest(), "rim_format": "TCG"}
    said = {**said, "last_updated": "2026-01-01", "request_id": "x", **changes}
    return json.dumps({name: value for name, value in said.items() if value is not None}).encode()


@pytest.mark.parametrize(
    "name",
    [
        f"{ID}.xml",
        f"{ID}.swidtag",
        f"a/b/{ID}.xml",
        f"a\\{ID.lower()}.XML",
        "anything.xml",
        "rim 0",
        f"{ID}_measurement_mismatch.xml",
    ],
)
def test_a_rim_is_found_under_any_name(name):
    (found,) = RimStore.of({name: RIM}).find(NEED)
    assert found.data == RIM


@pytest.mark.parametrize("name", [f"{ID}.json", "answer.json", "endorsement 3"])
def test_an_answer_of_the_service_is_found_by_the_id_in_it(name):
    (found,) = RimStore.of({name: answer()}).find(NEED)
    assert (found.id, found.data, found.name) == (ID, RIM, name)


@pytest.mark.parametrize("missing", ["rim_format", "last_updated", "request_id"])
def test_an_answer_without_what_old_services_left_out_is_read(missing):
    assert parse_rim_answer(answer(**{missing: None}), ID).data == RIM


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"id": "NV_GPU_DRIVER_GH100_550.90.12"}, "about"),
        ({"id": "../../x"}, "no id"),
        ({"id": 7}, "missing"),
        ({"id": None}, "missing"),
        ({"rim": None}, "missing"),
        ({"rim": "%%"}, "base64"),
        ({"rim": "\u0661"}, "base64"),
        ({"rim": base64.b64encode(RIM + b" ").decode()}, "SHA-256"),
        ({"sha256": sha256(RIM + b" ").hexdigest()}, "SHA-256"),
        ({"sha256": "unused"}, "sha256"),
        ({"sha256": None}, "missing"),
    ],
)
def test_an_answer_that_is_not_whole_or_about_another_rim_is_refused(changes, words):
    with pytest.raises(MalformedEvidence, match=words) as caught:
        parse_rim_answer(answer(**changes), ID)
    assert caught.value.check is Check.GPU_RIM_FORMAT


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{", b'{"id": 1, "id": 2}', b"[" * 100_000, b"{" + b" " * 600_000 + b"}"]
)
def test_what_is_no_answer_is_refused(data):
    with pytest.raises(MalformedEvidence) as caught:
        parse_rim_answer(data)
    assert caught.value.check is Check.GPU_RIM_FORMAT


def test_an_answer_in_another_format_is_named_as_not_supported():
    with pytest.raises(UnsupportedEvidence, match="CORIM"):
        parse_rim_answer(answer(rim_format="CORIM"), ID)
    store = RimStore.of({"a.json": answer(rim_format="CORIM")})
    assert store.find(NEED) == ()
    assert "CORIM" in dict(store.ignored)["a.json"]


def test_an_answer_whose_file_is_named_by_another_id_is_refused():
    with pytest.raises(MalformedEvidence, match="about"):
        RimStore.of({"NV_GPU_DRIVER_GH100_550.90.12.json": answer()})
    with pytest.raises(MalformedEvidence, match="SHA-256"):
        RimStore.of({"a.json": answer(sha256="00" * 32)})


def test_several_issues_of_one_id_are_kept_and_each_once():
    files = {f"2023/{ID}.xml": RIM, f"2024/{ID}.xml": OTHER_ISSUE, "copy.xml": RIM, "a.json": answer()}
    store = RimStore.of(files)
    assert sorted(rim.data for rim in store.find(NEED)) == sorted([RIM, OTHER_ISSUE])
    assert len(store.rims) == 2


def test_a_pin_leaves_the_issue_that_it_names():
    store = RimStore.of({"1.xml": RIM, "2.xml": OTHER_ISSUE, f"{ID}.xml": b"<broken"})
    digest, signer = sha256(OTHER_ISSUE).digest(), sha256(G.chain()[0]).digest()
    assert [rim.data for rim in store.find(NEED, sha256s={digest})] == [OTHER_ISSUE]
    assert [rim.data for rim in store.find(NEED, signers={signer})] == [RIM, OTHER_ISSUE]
    assert store.find(NEED, sha256s={bytes(32)}) == store.find(NEED, signers={bytes(32)}) == ()
    assert len(store.find(NEED)) == 3


def test_another_version_or_product_is_not_taken_for_it():
    store = RimStore.of({"1.xml": OTHER_VERSION, "2.xml": G.rim(G.Spec(product="GB100"))})
    assert store.find(NEED) == ()
    assert store.find(NEED._replace(products=("GB110", "GB100"))) != ()
    assert RimStore.of({f"{ID}.xml": OTHER_VERSION}).find(NEED) != (), "the name counts; its content is checked later"


def test_a_name_that_is_an_id_is_not_looked_at_by_content():
    store = RimStore.of({"NV_GPU_DRIVER_GH100_550.90.12.xml": RIM})
    assert store.find(NEED) == ()


def test_what_is_missing_is_named_by_the_id_to_fetch():
    vbios = RimNeed("vbios", "NV_GPU_VBIOS_1010_0200_882_96009F0001", ("GH100",), "96.00.9F.00.01")
    store = RimStore.of({"1.xml": RIM, "README.md": b"# RIMs", "manifest.json": b'{"rim": {}}', "x.xml": b"<x/>"})
    assert store.missing([NEED, vbios, vbios]) == (vbios,)
    store.require([NEED])
    with pytest.raises(MaterialUnavailable, match=r"no RIM for NV_GPU_VBIOS_1010_0200_882_96009F0001: fetch") as caught:
        store.require([NEED, vbios])
    assert "x.xml" in str(caught.value)
    assert ID not in str(caught.value)
    assert [name for name, _ in store.ignored] == ["README.md", "manifest.json", "x.xml"]


def test_a_corim_is_named_as_not_supported():
    store = RimStore.of({f"{ID}.corim": b"\xd9\x01\xf5"})
    with pytest.raises(MaterialUnavailable, match=r"corim is of no use.*not supported"):
        store.require([NEED])


def test_a_store_has_a_bound():
    with pytest.raises(MalformedEvidence, match="files"):
        RimStore.of({str(number): b"" for number in range(MAX_FILES + 1)})


@pytest.mark.parametrize(
    ("name", "rim_id"),
    [
        ("1010_0200_882_96005E0001_PROD.swidtag", "NV_GPU_VBIOS_1010_0200_882_96005E0001"),
        ("1010_0200_882_96005E0001_test_no_gpu.swidtag", "NV_GPU_VBIOS_1010_0200_882_96005E0001"),
        ("g520_0202_885_9600740014_PROD.swidtag", "NV_GPU_VBIOS_G520_0202_885_9600740014"),
        ("NV_SWITCH_BIOS_5612_0002_890_9610550001.xml", "NV_SWITCH_BIOS_5612_0002_890_9610550001"),
        ("NV_GPU_CC_DRIVER_GB100_580.65.06.xml", "NV_GPU_CC_DRIVER_GB100_580.65.06"),
        ("Driver_RIM_test_no_gpu.swidtag", None),
        ("NV_NIC_FIRMWARE_CX7_28.39.4082-LTS_MCX713104AC-ADA.xml", None),
        ("NV_GPU_DRIVER_GH100.xml", None),
        ("", None),
    ],
)
def test_the_id_in_the_name_of_a_file(name, rim_id):
    assert id_of_name(name) == rim_id


def test_every_real_collection_is_found_by_name_and_by_content(vectors):
    found = vectors("nvidia/rim-vbios-hopper-24")
    files = {name: found.bytes(name) for name in found.names}
    named, unnamed = RimStore.of(files), RimStore.of({f"rim {n}": data for n, data in enumerate(files.values())})
    assert len(named.rims) == len(unnamed.rims) == 26
    need = RimNeed("vbios", "NV_GPU_VBIOS_1010_0200_882_96005E0001", ("GH100",), "96.00.5E.00.01")
    for store in (named, unnamed):
        assert len(store.find(need)) == 2
        assert len(store.find(RimNeed("driver", "NV_GPU_DRIVER_GH100_545.00", ("GH100",), "545.00"))) == 1


def test_a_real_id_has_two_issues_of_two_signers(vectors):
    trustee = base64.b64decode(vectors("nvidia/rim-vbios-trustee").bytes("test-rim.b64"))
    older = vectors("nvidia/rim-vbios-hopper-24").bytes("1010_0200_882_960074001C_PROD.swidtag")
    store = RimStore.of({"1010_0200_882_960074001C_PROD.swidtag": older, "again.xml": trustee})
    need = RimNeed("vbios", "NV_GPU_VBIOS_1010_0200_882_960074001C", ("GH100",), "96.00.74.00.1C")
    assert {rim.data for rim in store.find(need)} == {older, trustee}
