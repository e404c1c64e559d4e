"""Any bytes are a body of collateral, an issuer chain, a list, a bundle, or one of our errors."""

from __future__ import annotations

import base64
import contextlib
import json

from dokimos.endorsements.ca import parse_crl
from dokimos.endorsements.collateral import parse_evaluation_numbers, parse_qe_identity, parse_tcb_info
from dokimos.endorsements.collateral_bundle import (
    FILE_NAMES,
    TdxCollateral,
    chain_certificates,
    collateral_from_files,
    crl_der,
    encode_collateral,
    parse_collateral,
)
from dokimos.errors import Error

_SIGNATURE = "ab" * 64
_TIMES = {"issueDate": "2026-03-16T22:21:30Z", "nextUpdate": "2026-04-15T22:21:30Z"}
_ISV_LEVEL = {"tcb": {"isvsvn": 3}, "tcbDate": "2024-03-13T00:00:00Z", "tcbStatus": "UpToDate"}
_MODULE = {"mrsigner": "00" * 48, "attributes": "00" * 8, "attributesMask": "FF" * 8}


def _svns(first: int) -> list[dict[str, object]]:
    found: list[dict[str, object]] = [{"svn": n} for n in (first, *range(15))]
    found[0]["category"] = "BIOS"
    return found


TCB_INFO = {
    "id": "TDX",
    "version": 3,
    **_TIMES,
    "fmspc": "90c06f000000",
    "pceId": "0000",
    "tcbType": 0,
    "tcbEvaluationDataNumber": 18,
    "tdxModule": _MODULE,
    "tdxModuleIdentities": [{"id": "TDX_01", **_MODULE, "tcbLevels": [_ISV_LEVEL]}],
    "tcbLevels": [
        {
            "tcb": {"sgxtcbcomponents": _svns(4), "pcesvn": 13, "tdxtcbcomponents": _svns(5)},
            "tcbDate": "2024-11-13T00:00:00Z",
            "tcbStatus": "SWHardeningNeeded",
            "advisoryIDs": ["INTEL-SA-00960"],
        }
    ],
}
QE_IDENTITY = {
    "id": "TD_QE",
    "version": 2,
    **_TIMES,
    "tcbEvaluationDataNumber": 18,
    "miscselect": "00000000",
    "miscselectMask": "FFFFFFFF",
    "attributes": "11" + "00" * 15,
    "attributesMask": "FB" + "FF" * 7 + "00" * 8,
    "mrsigner": "dc" * 32,
    "isvprodid": 2,
    "tcbLevels": [_ISV_LEVEL],
}
NUMBERS = {
    "id": "TDX",
    "version": 1,
    **_TIMES,
    "tcbEvalNumbers": [
        {
            "tcbEvaluationDataNumber": 18,
            "tcbRecoveryEventDate": "2024-11-12T00:00:00Z",
            "tcbDate": "2024-11-13T00:00:00Z",
        }
    ],
}


def body(member: str, value: object) -> bytes:
    """A body as the provisioning service sends it."""
    return json.dumps({member: value, "signature": _SIGNATURE}, separators=(",", ":")).encode()


CHAIN = b"-----BEGIN%20CERTIFICATE-----%0AMAAwADAA%0A-----END%20CERTIFICATE-----%0A"
COLLATERAL = TdxCollateral(
    tcb_info=body("tcbInfo", TCB_INFO),
    tcb_info_chain=CHAIN,
    qe_identity=body("enclaveIdentity", QE_IDENTITY),
    qe_identity_chain=CHAIN,
    pck_crl=b"\x30\x00",
    pck_crl_chain=CHAIN,
    root_crl=b"3000",
)
DCAP_QVL = {
    "tcb_info": json.dumps(TCB_INFO),
    "tcb_info_signature": _SIGNATURE,
    "tcb_info_issuer_chain": "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n",
    "qe_identity": json.dumps(QE_IDENTITY),
    "qe_identity_signature": _SIGNATURE,
    "qe_identity_issuer_chain": "x",
    "pck_crl": "3000",
    "pck_crl_issuer_chain": "x",
    "root_ca_crl": "3000",
}
SEEDS: list[bytes] = [
    COLLATERAL.tcb_info,
    COLLATERAL.qe_identity,
    body("tcbEvaluationDataNumbers", NUMBERS),
    encode_collateral(COLLATERAL),
    json.dumps(DCAP_QVL).encode(),
    CHAIN,
    base64.b16encode(b"\x30\x00"),
    b"[" * 2000,
    b'{"tcbInfo":' * 500,
]


def one_input(data: bytes) -> None:
    """Every reader of collateral gets the same bytes; what a bundle gives can be written and read again."""
    for parse in (parse_tcb_info, parse_qe_identity, parse_evaluation_numbers):
        with contextlib.suppress(Error):
            parse(data)
    with contextlib.suppress(Error):
        chain_certificates(data, "chain")
    with contextlib.suppress(Error):
        parse_crl(crl_der(data, "CRL"))
    with contextlib.suppress(Error):
        collateral_from_files(dict.fromkeys(FILE_NAMES - {"pck_crl_processor.der", "pck_crl.der", "pck_crl.pem"}, data))
    with contextlib.suppress(Error):
        found = parse_collateral(data)
        if parse_collateral(encode_collateral(found)) != found:
            raise AssertionError("a bundle that was written is not the one that is read")
