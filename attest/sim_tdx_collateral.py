"""Collateral of the simulated TDX platform: bodies as Intel's provisioning service (PCS v4) sends them, really signed.

Source: Intel, "API portal, provisioning certification service v4", TCB info version 3 and enclave identity version 2.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from .sim_tdx_pki import pem

Json = str | int | list["Json"] | dict[str, "Json"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelFields:
    """One TCB level of a platform.

    Attributes:
        sgx: SVNs of the 16 SGX components.
        pcesvn: SVN of the provisioning certification enclave.
        tdx: SVNs of the 16 TDX components.
        status: tcbStatus.
        advisories: their ids.
        date: tcbDate.
    """

    sgx: tuple[int, ...]
    pcesvn: int
    tdx: tuple[int, ...]
    status: str
    advisories: tuple[str, ...] = ()
    date: datetime = datetime(2025, 8, 13, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class IsvLevelFields:
    """One level of a TDX module or of the quoting enclave; fields as in :class:`LevelFields`."""

    isvsvn: int
    status: str
    advisories: tuple[str, ...] = ()
    date: datetime = datetime(2025, 8, 13, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleFields:
    """The identity of one TDX module.

    Attributes:
        id: "TDX_01" for modules of version 1.5.
        levels: its levels.
        mrsigner: 48 bytes.
        attributes: 8 bytes.
    """

    id: str
    levels: tuple[IsvLevelFields, ...]
    mrsigner: bytes = bytes(48)
    attributes: bytes = bytes(8)


@dataclass(frozen=True, slots=True, kw_only=True)
class TcbInfoFields:
    """What a TCB info says.

    Attributes:
        issue_date: time of issue.
        next_update: time by which the next one is due.
        fmspc: 6 bytes.
        levels: levels of the platform, in the order in which they are written.
        modules: identities of TDX modules.
        pceid: 2 bytes.
        id: "TDX".
        version: 3.
        tcb_type: 0.
        evaluation_data_number: rises with every recovery of the TCB.
        module_mrsigner: of modules without an identity of their own, 48 bytes.
        module_attributes: likewise, 8 bytes.
    """

    issue_date: datetime
    next_update: datetime
    fmspc: bytes
    levels: tuple[LevelFields, ...]
    modules: tuple[ModuleFields, ...] = ()
    pceid: bytes = bytes(2)
    id: str = "TDX"
    version: int = 3
    tcb_type: int = 0
    evaluation_data_number: int = 20
    module_mrsigner: bytes = bytes(48)
    module_attributes: bytes = bytes(8)


@dataclass(frozen=True, slots=True, kw_only=True)
class QeIdentityFields:
    """What an identity of the quoting enclave says; masks and values in the order of the report."""

    issue_date: datetime
    next_update: datetime
    levels: tuple[IsvLevelFields, ...]
    mrsigner: bytes
    isvprodid: int = 2
    miscselect: bytes = bytes(4)
    miscselect_mask: bytes = b"\xff" * 4
    attributes: bytes = bytes.fromhex("11000000000000000000000000000000")
    attributes_mask: bytes = bytes.fromhex("fbffffffffffffff0000000000000000")
    id: str = "TD_QE"
    version: int = 2
    evaluation_data_number: int = 20


def tcb_info(fields: TcbInfoFields, key: ec.EllipticCurvePrivateKey) -> bytes:
    """The body of a TCB info, signed."""
    document: dict[str, Json] = {
        "id": fields.id,
        "version": fields.version,
        "issueDate": _time(fields.issue_date),
        "nextUpdate": _time(fields.next_update),
        "fmspc": fields.fmspc.hex(),
        "pceId": fields.pceid.hex(),
        "tcbType": fields.tcb_type,
        "tcbEvaluationDataNumber": fields.evaluation_data_number,
        "tdxModule": _identity(fields.module_mrsigner, fields.module_attributes),
    }
    if fields.modules:
        document["tdxModuleIdentities"] = [
            {
                "id": module.id,
                **_identity(module.mrsigner, module.attributes),
                "tcbLevels": [_isv_level(level) for level in module.levels],
            }
            for module in fields.modules
        ]
    document["tcbLevels"] = [
        {
            "tcb": {
                "sgxtcbcomponents": [{"svn": svn} for svn in level.sgx],
                "pcesvn": level.pcesvn,
                "tdxtcbcomponents": [{"svn": svn} for svn in level.tdx],
            },
            **_status(level),
        }
        for level in fields.levels
    ]
    return signed_body("tcbInfo", document, key)


def qe_identity(fields: QeIdentityFields, key: ec.EllipticCurvePrivateKey) -> bytes:
    """The body of an identity of the quoting enclave, signed."""
    document: dict[str, Json] = {
        "id": fields.id,
        "version": fields.version,
        "issueDate": _time(fields.issue_date),
        "nextUpdate": _time(fields.next_update),
        "tcbEvaluationDataNumber": fields.evaluation_data_number,
        "miscselect": fields.miscselect.hex().upper(),
        "miscselectMask": fields.miscselect_mask.hex().upper(),
        "attributes": fields.attributes.hex().upper(),
        "attributesMask": fields.attributes_mask.hex().upper(),
        "mrsigner": fields.mrsigner.hex().upper(),
        "isvprodid": fields.isvprodid,
        "tcbLevels": [_isv_level(level) for level in fields.levels],
    }
    return signed_body("enclaveIdentity", document, key)


def signed_body(member: str, document: Mapping[str, Json], key: ec.EllipticCurvePrivateKey) -> bytes:
    """A body of the service: the document as one member, and the signature over its very bytes."""
    text = json.dumps(document, separators=(",", ":"))
    signature = raw_signature(key, text.encode()).hex()
    return f'{{"{member}":{text},"signature":"{signature}"}}'.encode()


def raw_signature(key: ec.EllipticCurvePrivateKey, data: bytes) -> bytes:
    """r || s over SHA-256, 32 bytes each, big-endian; the same for the same data (RFC 6979)."""
    r, s = decode_dss_signature(key.sign(data, ec.ECDSA(hashes.SHA256(), deterministic_signing=True)))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def chain_header(*certificates: bytes) -> bytes:
    """An issuer chain as it stands in a header of the service: URL-encoded PEM."""
    return quote(pem(*certificates).decode(), safe="").encode()


def _identity(mrsigner: bytes, attributes: bytes) -> dict[str, Json]:
    return {"mrsigner": mrsigner.hex().upper(), "attributes": attributes.hex().upper(), "attributesMask": "F" * 16}


def _isv_level(level: IsvLevelFields) -> Json:
    return {"tcb": {"isvsvn": level.isvsvn}, **_status(level)}


def _status(level: LevelFields | IsvLevelFields) -> dict[str, Json]:
    found: dict[str, Json] = {"tcbDate": _time(level.date), "tcbStatus": level.status}
    return {**found, "advisoryIDs": list(level.advisories)} if level.advisories else found


def _time(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
