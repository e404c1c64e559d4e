"""RIMs: what the real ones say, their ids, and every document that must be refused though its signature is good."""

from __future__ import annotations

import base64
import contextlib
import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from dokimos.endorsements.rim import (
    Golden,
    RimNeed,
    parse_rim,
    rim_id_driver,
    rim_id_switch,
    rim_id_vbios,
    rim_ids,
)
from dokimos.endorsements.rim_xml import MAX_SIZE
from dokimos.errors import Check, Error, MalformedEvidence, UnsupportedEvidence
from dokimos.evidence.gpu_report import parse_gpu_report

G = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[1] / "generate/rim.py")))
GENUINE = G.rim()
_XML = "{http://www.w3.org/XML/1998/namespace}"


def swid(root, name):
    return root.find(f".//{{{G.SWID}}}{name}")


def ds(root, name):
    return root.find(f".//{{{G.DS}}}{name}")


def resource(**attributes):
    """A hook that gives the second Resource, which is active, these attributes; None takes one away."""

    def change(root):
        element = root.findall(f".//{{{G.SWID}}}Resource")[1]
        for key, value in attributes.items():
            name = f"{{{G.HASH}}}{key}" if key.startswith("Hash") else key
            element.attrib.pop(name, None)
            if value is not None:
                element.set(name, value)

    return change


def attribute(name, key, value):
    def change(root):
        element = root if name == "SoftwareIdentity" else swid(root, name)
        element.set(key, value)

    return change


def second_payload(root):
    root.append(etree.fromstring(etree.tostring(swid(root, "Payload"))))


def moved_payload(root):
    swid(root, "Entity").append(swid(root, "Payload"))


def payload_in_second_identity(root):
    nested = etree.SubElement(swid(root, "Entity"), f"{{{G.SWID}}}SoftwareIdentity")
    nested.append(etree.fromstring(etree.tostring(swid(root, "Payload"))))


def resource_elsewhere(root):
    swid(root, "Entity").append(etree.fromstring(etree.tostring(swid(root, "Resource"))))


def nested_resource(root):
    swid(root, "Resource").append(etree.fromstring(etree.tostring(swid(root, "Resource"))))


def other_element(root):
    element = etree.fromstring(etree.tostring(swid(root, "Resource")))
    element.tag = f"{{{G.SWID}}}File"
    element.set("index", "5")
    swid(root, "Payload").append(element)


def other_element_for_a_resource(root):
    other_element(root)
    resource_elsewhere(root)


def added(parent, name):
    """A hook that puts an empty element there."""

    def change(root):
        etree.SubElement(root if parent == "SoftwareIdentity" else swid(root, parent), name)

    return change


def same_index(root):
    for element in root.findall(f".//{{{G.SWID}}}Resource"):
        element.set("index", "7")


def without(name):
    def change(root):
        element = swid(root, name)
        element.getparent().remove(element)

    return change


SAID = {
    "active in lower case": resource(active="true"),
    "active in upper case": resource(active="TRUE"),
    "active as a number": resource(active="1"),
    "active with a space": resource(active="True "),
    "active is empty": resource(active=""),
    "active under another name": resource(active=None, Active="True"),
    "no hash at all": resource(alternatives="0", Hash0=None),
    "fewer hashes than announced": resource(alternatives="2"),
    "more hashes than announced": resource(Hash1="07" * 48),
    "hashes that do not begin with 0": resource(Hash0=None, Hash1="07" * 48),
    "alternatives with a sign": resource(alternatives="+1"),
    "alternatives without end": resource(alternatives="9" * 5000),
    "hash in upper case": resource(Hash0="AB" * 48),
    "hash that is short": resource(Hash0="07" * 47),
    "hash with other digits": resource(Hash0="\u0661" * 96),
    "hash of another algorithm": attribute("Resource", "{http://www.w3.org/2001/04/xmlenc#sha256}Hash0", "07" * 32),
    "another size": resource(size="32"),
    "another type": resource(type="File"),
    "an unknown attribute": resource(optional="True"),
    "index with a zero in front": resource(index="07"),
    "index below zero": resource(index="-7"),
    "index above the largest": resource(index="64"),
    "index in other digits": resource(index="\u0667"),
    "no index": resource(index=None),
    "a duplicate index": same_index,
    "a name that is not printable": resource(name="Measurement\u202e7"),
    "a second Payload": second_payload,
    "a moved Payload": moved_payload,
    "a Payload in a second SoftwareIdentity": payload_in_second_identity,
    "a Resource outside of the Payload": resource_elsewhere,
    "a Resource in a Resource": nested_resource,
    "something else in the Payload": other_element,
    "a File in the Payload for a Resource elsewhere": other_element_for_a_resource,
    "an element in a Resource": added("Resource", "{urn:x}x"),
    "an empty Payload beside the other": added("SoftwareIdentity", f"{{{G.SWID}}}Payload"),
    "an empty Payload elsewhere": added("Entity", f"{{{G.SWID}}}Payload"),
    "a second Meta": added("SoftwareIdentity", f"{{{G.SWID}}}Meta"),
    "a Meta elsewhere": added("Payload", f"{{{G.SWID}}}Meta"),
    "an empty SoftwareIdentity elsewhere": added("Entity", f"{{{G.SWID}}}SoftwareIdentity"),
    "no Payload": without("Payload"),
    "no Meta": without("Meta"),
    "values elsewhere": attribute("Meta", "PayloadType", "indirect"),
    "a patch": attribute("SoftwareIdentity", "patch", "true"),
    "a supplement": attribute("SoftwareIdentity", "supplemental", "true"),
    "an empty version": attribute("Meta", "colloquialVersion", ""),
    "a version of several words": attribute("Meta", "colloquialVersion", "550 90"),
    "a tag id with a control character": attribute("SoftwareIdentity", "tagId", "a\tb"),
    "xml:lang": attribute("Payload", f"{_XML}lang", "en"),
    "xml:id": attribute("SoftwareIdentity", f"{_XML}id", "x"),
    "xml:base": attribute("Meta", f"{_XML}base", "urn:x"),
}


@pytest.mark.parametrize("name", SAID)
def test_a_document_that_says_it_otherwise_is_refused_though_it_is_signed(name):
    data = G.rim(before=SAID[name])
    with pytest.raises(MalformedEvidence) as caught:
        parse_rim(data)
    assert caught.value.check is Check.GPU_RIM_FORMAT


def two_signatures(root):
    root.append(etree.fromstring(etree.tostring(ds(root, "Signature"))))


def signature_elsewhere(name):
    def move(root):
        swid(root, name).append(ds(root, "Signature"))

    return move


def object_with_payload(root):
    holder = etree.SubElement(ds(root, "Signature"), f"{{{G.DS}}}Object")
    holder.append(etree.fromstring(etree.tostring(swid(root, "Payload"))))


def inside(name, make):
    """A hook that puts something into an element of SignedInfo or beside it, and signs again."""

    def change(root):
        make(ds(root, name))
        G.sign_again(root)

    return change


def parameter(element):
    etree.SubElement(element, "{urn:x}Parameter")


def with_id(element):
    element.set("Id", "x")


def revocation_list(root):
    element = etree.SubElement(ds(root, "X509Data"), f"{{{G.DS}}}X509CRL")
    element.text = base64.b64encode(G.chain()[3]).decode()


def star(root):
    value = ds(root, "SignatureValue")
    value.text = value.text[:4] + "*" + value.text[4:]


def instruction(element):
    text, element.text = element.text, ""
    element.append(etree.ProcessingInstruction("x", "y"))
    element[0].tail = text


SIGNED = {
    "no signature": {"after": lambda root: root.remove(ds(root, "Signature"))},
    "two signatures": {"after": two_signatures},
    "a signature in Entity": {"after": signature_elsewhere("Entity")},
    "a signature in the Payload": {"after": signature_elsewhere("Payload")},
    "an Object with a Payload": {"after": object_with_payload},
    "two references": {"references": ("", "")},
    "no reference": {"references": ()},
    "a reference to an id": {"references": ("#x",)},
    "a reference by XPointer": {"references": ("#xpointer(/)",)},
    "a reference with an id": {"after": inside("Reference", lambda element: element.set("Id", "x"))},
    "a reference without URI": {"after": inside("Reference", lambda element: element.attrib.pop("URI"))},
    "no transforms": {"transforms": ()},
    "not enveloped": {"transforms": (G.C14N11,)},
    "enveloped alone": {"transforms": (G.ENVELOPED,)},
    "transforms in another order": {"transforms": (G.C14N11, G.ENVELOPED)},
    "canonical XML 1.0 of the document": {
        "transforms": (G.ENVELOPED, "http://www.w3.org/TR/2001/REC-xml-c14n-20010315")
    },
    "a transform by XPath": {"transforms": (G.ENVELOPED, G.C14N11, "http://www.w3.org/TR/1999/REC-xpath-19991116")},
    "a transform with a parameter": {"after": inside("Transform", parameter)},
    "exclusive canonical XML": {"c14n": "http://www.w3.org/2001/10/xml-exc-c14n#"},
    "canonical XML with comments": {"c14n": "http://www.w3.org/2006/12/xml-c14n11#WithComments"},
    "a digest by SHA3-384": {"digest_method": "http://www.w3.org/2007/05/xmldsig-more#sha3-384"},
    "a digest by SHA-256": {"digest_method": "http://www.w3.org/2001/04/xmlenc#sha256"},
    "ECDSA with SHA-256": {"method": "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha256"},
    "HMAC": {"method": "http://www.w3.org/2001/04/xmldsig-more#hmac-sha384"},
    "a signature in DER": {"der": True},
    "a digest with an element inside": {"after": inside("DigestValue", parameter)},
    "a digest with an instruction inside": {"after": lambda root: instruction(ds(root, "DigestValue"))},
    "a digest that is short": {"after": lambda root: ds(root, "DigestValue").__setattr__("text", "AAAA")},
    "a signature that is no base64": {"after": lambda root: ds(root, "SignatureValue").__setattr__("text", "A")},
    "a signature with a star in its base64": {"after": star},
    "a list among the certificates": {"after": revocation_list},
    "an id of the signature": {"after": inside("Signature", with_id)},
    "an id of SignedInfo": {"after": inside("SignedInfo", with_id)},
    "an id of the transforms": {"after": inside("Transforms", with_id)},
    "an id of the certificates": {"after": inside("X509Data", with_id)},
    "an id of a certificate": {"after": inside("X509Certificate", with_id)},
    "no certificate": {"after": lambda root: ds(root, "X509Data").clear()},
    "nine certificates": {"certificates": G.chain() * 2 + G.chain()[:1]},
    "a key beside the certificates": {"after": lambda root: parameter(ds(root, "KeyInfo"))},
    "a name among the certificates": {"after": lambda root: parameter(ds(root, "X509Data"))},
    "two sets of certificates": {
        "after": lambda root: ds(root, "KeyInfo").append(etree.fromstring(etree.tostring(ds(root, "X509Data"))))
    },
}


@pytest.mark.parametrize("name", SIGNED)
def test_another_form_of_signature_is_refused_though_it_may_be_good(name):
    data = G.rim(**SIGNED[name])
    with pytest.raises(MalformedEvidence) as caught:
        parse_rim(data)
    assert caught.value.check is Check.GPU_RIM_SIGNATURE_FORM


def _typed(subset):
    return b"<!DOCTYPE SoftwareIdentity" + subset + b">" + GENUINE


BOMB = b'<!ENTITY a "aaaaaaaaaa">' + b"".join(
    b'<!ENTITY %c "&%c;&%c;&%c;&%c;&%c;&%c;&%c;&%c;">' % (name + 1, *[name] * 8) for name in range(97, 107)
)
NOT_XML = {
    "nothing": b"",
    "no XML": b"RIM",
    "cut off": GENUINE[:-1],
    "two documents": GENUINE + GENUINE,
    "another root": b"<SoftwareIdentity/>",
    "a document type": _typed(b""),
    "an entity bomb": _typed(b" [" + BOMB + b"]").replace(b"Measurement_7", b"&k;"),
    "an external entity": _typed(b' [<!ENTITY x SYSTEM "file:///etc/passwd">]').replace(b"Measurement_7", b"&x;"),
    "an external document type": _typed(b' SYSTEM "http://127.0.0.1:9/x.dtd"'),
    "a default for active": _typed(b' [<!ATTLIST Resource active CDATA "True">]'),
    "an undeclared entity": GENUINE.replace(b"Measurement_7", b"&x;"),
    "a document type in UTF-16": _typed(b"").decode().encode("utf-16"),
    "not UTF-8": GENUINE.replace(b"Measurement_7", b"\xff"),
    "a zero byte": GENUINE + b"\0",
    "an undeclared prefix": GENUINE.replace(b"<ns0:Entity", b"<ns9:Entity"),
    "the same attribute twice": GENUINE.replace(b'corpus="false"', b'corpus="false" corpus="false"'),
    "a namespace with a relative name": GENUINE.replace(b"<ns0:Entity ", b'<ns0:Entity xmlns:x="y" '),
    "too deep": b"<a>" * 300 + b"</a>" * 300,
    "too large": GENUINE.replace(b"    <ns0:Entity", b" " * MAX_SIZE + b"<ns0:Entity"),
}


@pytest.mark.parametrize("name", NOT_XML)
def test_what_is_no_plain_xml_of_a_rim_is_refused(name):
    with pytest.raises(MalformedEvidence) as caught:
        parse_rim(NOT_XML[name])
    assert caught.value.check is Check.GPU_RIM_FORMAT


def test_a_rim_says_what_its_document_says():
    rim = parse_rim(GENUINE).rim
    assert (rim.product, rim.version, rim.edition, rim.revision, rim.oemid) == (
        "GH100",
        "550.90.07",
        "GPU",
        "r1",
        "5703",
    )
    assert rim.tag_id == "5a" * 48
    assert rim.measurements[1] == Golden(7, True, (b"\x07" * 48,), "Measurement_7")
    assert rim.active == {7: (b"\x07" * 48,), 35: tuple(bytes([n]) * 48 for n in (0x35, 0x36, 0x37, 0x38))}


def test_a_comment_in_a_text_does_not_cut_it_short():
    def split(root):
        value = ds(root, "DigestValue")
        comment = etree.Comment("x")
        value.text, comment.tail = value.text[:8], value.text[8:]
        value.append(comment)

    signed = parse_rim(G.rim(after=split))
    assert signed.digest == signed.actual_digest == parse_rim(GENUINE).digest


def test_what_follows_the_signature_is_hashed_too():
    def trailing(root):
        ds(root, "Signature").tail = "\n<!-- a comment is not -->\n"
        G.sign_again(root)

    signed = parse_rim(G.rim(after=trailing))
    assert signed.digest == signed.actual_digest
    altered = G.rim(after=lambda root: setattr(ds(root, "Signature"), "tail", "x"))
    assert parse_rim(altered).digest != parse_rim(altered).actual_digest


@pytest.mark.parametrize(
    "change", [b'active="True"', b"07" * 48, b"550.90.07", b"TEST (SIMULATED)", b"Measurement_35", b'tagVersion="0"']
)
def test_every_part_of_what_is_said_is_hashed(change):
    wrong = GENUINE.replace(change, change.translate(bytes.maketrans(b"TM0", b"FN1")).replace(b"Frue", b"False"), 1)
    assert wrong != GENUINE
    signed = parse_rim(wrong)
    assert signed.digest != signed.actual_digest


def test_values_for_opaque_data_are_named_as_not_supported():
    name = "{https://docs.nvidia.com/attestation/specs/latest/opaque-data.html}Value"
    with pytest.raises(UnsupportedEvidence, match="opaque data"):
        parse_rim(G.rim(before=attribute("Resource", name, "3")))


def real_rims(vectors):
    """Content, and what its manifest expects, of every real RIM."""
    sets = ("hopper-535.86.09", "hopper-545.00-full-positive", "hopper-550.90.07-vs-wrong-rims", "rim-negative")
    for name in (*sets, "nvswitch-ls10-full-positive", "rim-vbios-hopper-24", "rim-vbios-trustee"):
        found = vectors(f"nvidia/{name}")
        for file, expected in found.manifest["expected"]["rims"].items():
            data = found.bytes(file)
            yield file, base64.b64decode(data) if file.endswith(".b64") else data, expected


def test_every_real_rim_says_what_its_manifest_says(vectors):
    seen = 0
    for file, data, expected in real_rims(vectors):
        signed = parse_rim(data)
        assert signed.rim.tag_id == expected["tag_id"], file
        assert (signed.digest == signed.actual_digest) is (expected["digest"] == "pass"), file
        assert len(signed.certificates) == expected["chain_length"], file
        assert len(signed.rim.active) == expected["active_measurements"], file
        assert len(signed.rim.measurements) == expected["listed_measurements"], file
        seen += 1
    assert seen == 38


@pytest.mark.parametrize(
    ("name", "chip"),
    [
        ("hopper-535.86.09", "GH100"),
        ("hopper-545.00-full-positive", "GH100"),
        ("hopper-550.90.07-vs-wrong-rims", "GH100"),
        ("hopper-580.95.05-trailing-byte", "GH100"),
        ("blackwell-575.32", "GB100"),
        ("nvswitch-ls10-full-positive", "LS10"),
    ],
)
def test_the_ids_of_a_real_report_are_those_of_its_manifest(vectors, name, chip):
    found = vectors(f"nvidia/{name}")
    report = parse_gpu_report(bytes.fromhex(found.bytes("report.hex").decode()), zero_padding=True)
    needs = rim_ids(report, chip)
    assert {need.source: need.id for need in needs} == found.manifest["expected"]["rim_ids"]
    assert all(need.products[0] == chip for need in needs)


def test_a_blackwell_driver_is_named_by_its_chip_info_and_a_board_in_upper_case():
    said = {"kind": "gpu", "driver_version": "580.65.06", "vbios_version": "97.00.88.00.0F"}
    board = {"project": "g525", "project_sku": "0220", "chip_sku": "886"}
    needs = rim_ids(SimpleNamespace(**said, **board, chip_info="GB110"), "GB100")
    assert needs[0] == RimNeed("driver", "NV_GPU_CC_DRIVER_GB110_580.65.06", ("GB100", "GB110"), "580.65.06")
    assert needs[1].id == "NV_GPU_VBIOS_G525_0220_886_970088000F"
    older = rim_ids(SimpleNamespace(**said, **board, chip_info=None), "GB100")
    assert older[0].id == "NV_GPU_CC_DRIVER_GB100_580.65.06"
    for name in (*said, *board):
        if name != "kind":
            with pytest.raises(MalformedEvidence, match="names no"):
                rim_ids(SimpleNamespace(**{**said, **board, name: None}, chip_info=None), "GB100")


@pytest.mark.parametrize("part", ["", "../x", "1/2", "1..2", ".1", "1.", "a b", "1\n", "\u0661", "1" * 65])
def test_a_part_that_would_leave_the_name_of_a_file_makes_no_id(part):
    for make in (
        lambda: rim_id_driver("GH100", part),
        lambda: rim_id_driver(f"GH{part}/", "1"),
        lambda: rim_id_switch(part),
        lambda: rim_id_vbios("1010", part, "882", "96.00"),
    ):
        with pytest.raises(MalformedEvidence):
            make()


def test_importing_rims_does_not_load_lxml():
    command = [sys.executable, "-c", "import dokimos.endorsements.rim, sys; sys.exit('lxml' in sys.modules)"]
    assert subprocess.run(command, check=False).returncode == 0


@settings(max_examples=200, deadline=None)
@given(st.integers(0, len(GENUINE) - 1), st.integers(0, 255))
def test_a_byte_that_changes_what_a_rim_says_changes_its_digest(at, byte):
    changed = GENUINE[:at] + bytes([byte]) + GENUINE[at + 1 :]
    with contextlib.suppress(Error):
        signed, genuine = parse_rim(changed), parse_rim(GENUINE)
        said = (signed.rim.measurements, signed.rim.version, signed.rim.product, signed.rim.tag_id)
        if said != (genuine.rim.measurements, genuine.rim.version, genuine.rim.product, genuine.rim.tag_id):
            assert signed.actual_digest != genuine.digest
