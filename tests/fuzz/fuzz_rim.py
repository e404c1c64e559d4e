"""Any bytes are a RIM, an answer of the RIM service or a store of both, or one of our errors."""

from __future__ import annotations

import base64
import contextlib
import json
from hashlib import sha256

from dokimos.endorsements.rim import HASH_SIZE, MAX_INDEX, parse_rim
from dokimos.endorsements.rim_store import RimStore, id_of_name, parse_rim_answer
from dokimos.errors import Error

_SWID = "http://standards.iso.org/iso/19770/-2/2015/schema.xsd"
_MORE = "http://www.w3.org/2001/04/xmldsig-more#"
_C14N11 = "http://www.w3.org/2006/12/xml-c14n11"
_TCG = "https://trustedcomputinggroup.org/resource/tcg-reference-integrity-manifest-rim-information-model/"
_BODY = f"""<SoftwareIdentity xmlns="{_SWID}" xmlns:ns0="{_SWID}" xmlns:h="http://www.w3.org/2001/04/xmlenc#sha384"
 corpus="false" name="GH100" patch="false" supplemental="false" tagId="5a" version="1.0" tagVersion="0">
<ns0:Meta xmlns:t="{_TCG}" colloquialVersion="545.00" edition="GPU" product="GH100" revision="r1"
 PayloadType="direct" t:FirmwareManufacturerId="5703"/><ns0:Payload>
<ns0:Resource type="Measurement" index="7" active="True" alternatives="2" h:Hash0="{"07" * 48}" h:Hash1="{"08" * 48}"
 name="a" size="48"/><ns0:Resource type="Measurement" index="8" active="False" alternatives="1" h:Hash0="{"00" * 48}"
 name="b" size="48"/></ns0:Payload>"""
_INFO = f"""<ds:Signature xmlns:ds="http://www.w3.org/2000/09/xmldsig#"><ds:SignedInfo>
<ds:CanonicalizationMethod Algorithm="{_C14N11}"/><ds:SignatureMethod Algorithm="{_MORE}ecdsa-sha384"/>
<ds:Reference URI=""><ds:Transforms>
<ds:Transform Algorithm="http://www.w3.org/2000/09/xmldsig#enveloped-signature"/>
<ds:Transform Algorithm="{_C14N11}"/></ds:Transforms><ds:DigestMethod Algorithm="{_MORE}sha384"/>
<ds:DigestValue>{base64.b64encode(bytes(48)).decode()}</ds:DigestValue></ds:Reference></ds:SignedInfo>"""
_SIGNED = f"""<ds:SignatureValue>{base64.b64encode(bytes(96)).decode()}</ds:SignatureValue><ds:KeyInfo><ds:X509Data>
<ds:X509Certificate>MAA=</ds:X509Certificate></ds:X509Data></ds:KeyInfo></ds:Signature></SoftwareIdentity>"""
_RIM = (_BODY + _INFO + _SIGNED).encode()
_ID = "NV_GPU_DRIVER_GH100_545.00"
_ANSWER = {"id": _ID, "rim": base64.b64encode(_RIM).decode(), "sha256": sha256(_RIM).hexdigest(), "rim_format": "TCG"}

SEEDS: list[bytes] = [
    _RIM,
    b'<?xml version="1.0" encoding="UTF-8"?>\n<!-- a comment -->' + _RIM,
    b'<!DOCTYPE a [<!ENTITY x "y">]>' + _RIM,
    json.dumps(_ANSWER).encode(),
    json.dumps({**_ANSWER, "rim_format": "CORIM"}).encode(),
]


def _rim(data: bytes) -> None:
    signed = parse_rim(data)
    if signed.rim.sha256 != sha256(data).digest() or not signed.certificates or len(signed.signature) != 96:
        raise AssertionError("a part is not as promised")
    indexes = [golden.index for golden in signed.rim.measurements]
    if len(set(indexes)) != len(indexes) or not all(0 <= index <= MAX_INDEX for index in indexes):
        raise AssertionError("an index is not as promised")
    for golden in signed.rim.measurements:
        if not golden.alternatives or any(len(value) != HASH_SIZE for value in golden.alternatives):
            raise AssertionError("a value is not as promised")
    if set(signed.rim.active) != {golden.index for golden in signed.rim.measurements if golden.active}:
        raise AssertionError("an active value is lost")


def one_input(data: bytes) -> None:
    """Read it as each of these, and as the name of a file."""
    with contextlib.suppress(Error):
        _rim(data)
    with contextlib.suppress(Error):
        stored = parse_rim_answer(data)
        if stored.id is None or id_of_name(f"{stored.id}.xml") != stored.id:
            raise AssertionError("an id that names no file")
    with contextlib.suppress(Error):
        store = RimStore.of({"a": data, f"{_ID}.json": data})
        if len(store.rims) > 2:
            raise AssertionError("more RIMs than files")
    id_of_name(data[:256].decode("latin-1"))
