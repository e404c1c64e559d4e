"""TCB info and QE identity: what Intel says of the versions of a platform, its TDX module and its quoting enclave.

Source: Intel, "API portal, provisioning certification service v4": TCB info V3 and enclave identity V2.  A body is
read as received; the signature covers the exact bytes of one member's value, which are cut out and never written anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from ..errors import Check, UnsupportedEvidence
from .signed_json import Fields, split_body


class TcbStatus(StrEnum):
    """What Intel says of a level, and what the verifier says of a platform."""

    UP_TO_DATE = "UpToDate"
    SW_HARDENING_NEEDED = "SWHardeningNeeded"
    CONFIGURATION_NEEDED = "ConfigurationNeeded"
    CONFIGURATION_AND_SW_HARDENING_NEEDED = "ConfigurationAndSWHardeningNeeded"
    OUT_OF_DATE = "OutOfDate"
    OUT_OF_DATE_CONFIGURATION_NEEDED = "OutOfDateConfigurationNeeded"
    REVOKED = "Revoked"
    TD_RELAUNCH_ADVISED = "TDRelaunchAdvised"
    """Only a verifier says this of a TD; in no level."""
    TD_RELAUNCH_ADVISED_CONFIGURATION_NEEDED = "TDRelaunchAdvisedConfigurationNeeded"
    """Only a verifier says this of a TD; in no level."""
    NOT_SUPPORTED = "NotSupported"
    """No level fits; in no level."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TcbLevel:
    """One TCB level of a platform.

    Attributes:
        sgx: the 16 SGX component SVNs, 0 to 65535 each.
        pcesvn: SVN of the provisioning certification enclave.
        tdx: the 16 TDX component SVNs, 0 to 65535 each; all 0 in a TCB info for SGX.
        date: up to when the level counters all known issues.
        status: Intel's verdict on it.
        advisories: ids of the security advisories that apply, in the order of the file.
    """

    sgx: tuple[int, ...]
    pcesvn: int
    tdx: tuple[int, ...]
    date: datetime
    status: TcbStatus
    advisories: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class IsvLevel:
    """One level of an enclave or of a TDX module.

    Attributes:
        isvsvn: the lowest SVN that has this level, 0 to 65535.
        date: up to when the level counters all known issues.
        status: Intel's verdict on it.
        advisories: ids of the security advisories that apply, in the order of the file.
    """

    isvsvn: int
    date: datetime
    status: TcbStatus
    advisories: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TdxModule:
    """The TDX module of version 1.0.

    Attributes:
        mrsigner: 48 bytes that MRSIGNERSEAM must be.
        attributes: 8 bytes that SEAMATTRIBUTES must be under the mask.
        attributes_mask: 8 bytes.
    """

    mrsigner: bytes
    attributes: bytes
    attributes_mask: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleIdentity:
    """A TDX module from version 1.5 on.

    Attributes:
        id: such as "TDX_01"; the number is the second byte of TEE_TCB_SVN.
        mrsigner: 48 bytes that MRSIGNERSEAM must be.
        attributes: 8 bytes that SEAMATTRIBUTES must be under the mask.
        attributes_mask: 8 bytes.
        levels: in the order of the file.
    """

    id: str
    mrsigner: bytes
    attributes: bytes
    attributes_mask: bytes
    levels: tuple[IsvLevel, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TcbInfo:
    """A TCB info as received; its signature is not verified here.

    Attributes:
        id: "TDX", or "SGX", which a verifier of TDX refuses.
        version: 3.
        issue_date: time of issue, UTC.
        next_update: time by which the next one is due, UTC.
        fmspc: the platforms it is about, 6 bytes.
        pceid: the provisioning certification enclave it is about, 2 bytes.
        tcb_type: how CPUSVNs are compared; 0.
        evaluation_data_number: rises with every recovery of the TCB.
        module: the TDX module of version 1.0, or None in a TCB info for SGX.
        module_identities: later modules, in the order of the file.
        levels: in the order of the file, which need not be sorted.
        signed: the exact bytes of the value of "tcbInfo".
        signature: r and s of Intel's signature over `signed`, 64 bytes.
    """

    id: str
    version: int
    issue_date: datetime
    next_update: datetime
    fmspc: bytes
    pceid: bytes
    tcb_type: int
    evaluation_data_number: int
    module: TdxModule | None
    module_identities: tuple[ModuleIdentity, ...]
    levels: tuple[TcbLevel, ...]
    signed: bytes
    signature: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class QeIdentity:
    """The identity of a quoting enclave as received; its signature is not verified here.

    Attributes:
        id: "TD_QE", or the name of another enclave, which a verifier of TDX refuses.
        version: 2.
        issue_date: time of issue, UTC.
        next_update: time by which the next one is due, UTC.
        evaluation_data_number: rises with every recovery of the TCB.
        miscselect: 4 bytes in the order of the report.
        miscselect_mask: 4 bytes.
        attributes: 16 bytes in the order of the report.
        attributes_mask: 16 bytes.
        mrsigner: 32 bytes.
        isvprodid: product id.
        levels: in the order of the file.
        signed: the exact bytes of the value of "enclaveIdentity".
        signature: r and s of Intel's signature over `signed`, 64 bytes.
    """

    id: str
    version: int
    issue_date: datetime
    next_update: datetime
    evaluation_data_number: int
    miscselect: bytes
    miscselect_mask: bytes
    attributes: bytes
    attributes_mask: bytes
    mrsigner: bytes
    isvprodid: int
    levels: tuple[IsvLevel, ...]
    signed: bytes
    signature: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationNumber:
    """One recovery of the TCB that Intel still serves collateral for.

    Attributes:
        number: the TCB evaluation data number.
        recovery_event_date: when Intel made the recovery public, UTC.
        tcb_date: up to when its collateral counters all known issues, UTC.
    """

    number: int
    recovery_event_date: datetime
    tcb_date: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationNumbers:
    """The recoveries that Intel serves collateral for; the signature is not verified here.

    Attributes:
        id: "TDX" or "SGX".
        version: 1.
        issue_date: time of issue, UTC.
        next_update: time by which the next one is due, UTC.
        numbers: in the order of the file.
        signed: the exact bytes of the value of "tcbEvaluationDataNumbers".
        signature: r and s of Intel's signature over `signed`, 64 bytes.
    """

    id: str
    version: int
    issue_date: datetime
    next_update: datetime
    numbers: tuple[EvaluationNumber, ...]
    signed: bytes
    signature: bytes


# What each kind of level may say (Intel QVL, TcbStatus.h); anything else is nothing that Intel has defined.
_PLATFORM_STATUS = {
    str(status): status
    for status in (
        TcbStatus.UP_TO_DATE,
        TcbStatus.SW_HARDENING_NEEDED,
        TcbStatus.CONFIGURATION_NEEDED,
        TcbStatus.CONFIGURATION_AND_SW_HARDENING_NEEDED,
        TcbStatus.OUT_OF_DATE,
        TcbStatus.OUT_OF_DATE_CONFIGURATION_NEEDED,
        TcbStatus.REVOKED,
    )
}
_MODULE_STATUS = {str(s): s for s in (TcbStatus.UP_TO_DATE, TcbStatus.OUT_OF_DATE, TcbStatus.REVOKED)}
_ENCLAVE_STATUS = _MODULE_STATUS | {
    str(s): s for s in (TcbStatus.CONFIGURATION_NEEDED, TcbStatus.OUT_OF_DATE_CONFIGURATION_NEEDED)
}
_MAX_LEVELS = 512
_MAX_ADVISORIES = 256
_NO_TDX = (0,) * 16


def parse_tcb_info(body: bytes) -> TcbInfo:
    """Read the body of a TCB info as the provisioning service sends it.

    Raises:
        MalformedEvidence: not one, or a member missing, twice or of a wrong type or range
            (``tdx.collateral.format``).
        UnsupportedEvidence: another version than 3 (``tdx.tcb_info.version``), or a kind other than TDX and SGX
            (``tdx.tcb_info.id``).
    """
    split = split_body(body, "tcbInfo", "TCB info")
    info = split.fields
    version = info.integer("version")
    if version != 3:
        raise UnsupportedEvidence(
            f"TCB info of version {version}; only version 3 is supported", check=Check.TDX_TCB_INFO_VERSION
        )
    kind = info.text("id")
    if kind not in ("TDX", "SGX"):
        raise UnsupportedEvidence(f"TCB info of {kind!r}, which is neither TDX nor SGX", check=Check.TDX_TCB_INFO_ID)
    tdx = kind == "TDX"
    return TcbInfo(
        id=kind,
        version=version,
        issue_date=info.time("issueDate"),
        next_update=info.time("nextUpdate"),
        fmspc=info.hex("fmspc", 6),
        pceid=info.hex("pceId", 2),
        tcb_type=info.integer("tcbType"),
        evaluation_data_number=info.integer("tcbEvaluationDataNumber"),
        module=_module(info.object("tdxModule")) if tdx else None,
        module_identities=_module_identities(info) if tdx else (),
        levels=tuple([_tcb_level(level, tdx=tdx) for level in info.objects("tcbLevels", _MAX_LEVELS, least=1)]),
        signed=split.signed,
        signature=split.signature,
    )


def parse_qe_identity(body: bytes) -> QeIdentity:
    """Read the body of an enclave identity as the provisioning service sends it.

    Raises:
        MalformedEvidence: not one, or a member missing, twice or of a wrong type or range
            (``tdx.collateral.format``).
        UnsupportedEvidence: another version than 2 (``tdx.qe_identity.version``).
    """
    split = split_body(body, "enclaveIdentity", "QE identity")
    identity = split.fields
    version = identity.integer("version")
    if version != 2:
        raise UnsupportedEvidence(
            f"QE identity of version {version}; only version 2 is supported", check=Check.TDX_QE_IDENTITY_VERSION
        )
    return QeIdentity(
        id=identity.text("id"),
        version=version,
        issue_date=identity.time("issueDate"),
        next_update=identity.time("nextUpdate"),
        evaluation_data_number=identity.integer("tcbEvaluationDataNumber"),
        miscselect=identity.hex("miscselect", 4),
        miscselect_mask=identity.hex("miscselectMask", 4),
        attributes=identity.hex("attributes", 16),
        attributes_mask=identity.hex("attributesMask", 16),
        mrsigner=identity.hex("mrsigner", 32),
        isvprodid=identity.integer("isvprodid", 0xFFFF),
        levels=_isv_levels(identity, _ENCLAVE_STATUS),
        signed=split.signed,
        signature=split.signature,
    )


def parse_evaluation_numbers(body: bytes) -> EvaluationNumbers:
    """Read the body of the list of TCB evaluation data numbers as the provisioning service sends it.

    Raises:
        MalformedEvidence: not one, or a member missing, twice or of a wrong type or range
            (``tdx.collateral.format``).
        UnsupportedEvidence: another version than 1.
    """
    split = split_body(body, "tcbEvaluationDataNumbers", "TCB evaluation data numbers")
    numbers = split.fields
    version = numbers.integer("version")
    if version != 1:
        raise UnsupportedEvidence(f"TCB evaluation data numbers of version {version}; only version 1 is supported")
    return EvaluationNumbers(
        id=numbers.text("id"),
        version=version,
        issue_date=numbers.time("issueDate"),
        next_update=numbers.time("nextUpdate"),
        numbers=tuple(
            EvaluationNumber(
                number=entry.integer("tcbEvaluationDataNumber"),
                recovery_event_date=entry.time("tcbRecoveryEventDate"),
                tcb_date=entry.time("tcbDate"),
            )
            for entry in numbers.objects("tcbEvalNumbers", _MAX_LEVELS, least=1)
        ),
        signed=split.signed,
        signature=split.signature,
    )


def _module(module: Fields) -> TdxModule:
    return TdxModule(
        mrsigner=module.hex("mrsigner", 48),
        attributes=module.hex("attributes", 8),
        attributes_mask=module.hex("attributesMask", 8),
    )


def _module_identities(info: Fields) -> tuple[ModuleIdentity, ...]:
    found: dict[str, ModuleIdentity] = {}
    for entry in info.objects("tdxModuleIdentities", _MAX_LEVELS) if "tdxModuleIdentities" in info else ():
        name = entry.text("id")
        if name.upper() in found:
            raise entry.fail(f"module identity {name!r} twice")
        found[name.upper()] = ModuleIdentity(
            id=name,
            mrsigner=entry.hex("mrsigner", 48),
            attributes=entry.hex("attributes", 8),
            attributes_mask=entry.hex("attributesMask", 8),
            levels=_isv_levels(entry, _MODULE_STATUS),
        )
    return tuple(found.values())


def _isv_levels(identity: Fields, known: dict[str, TcbStatus]) -> tuple[IsvLevel, ...]:
    return tuple(
        [
            IsvLevel(
                isvsvn=level.object("tcb").integer("isvsvn", 0xFFFF),
                date=level.time("tcbDate"),
                status=_status(level, known),
                advisories=_advisories(level),
            )
            for level in identity.objects("tcbLevels", _MAX_LEVELS, least=1)
        ]
    )


def _tcb_level(level: Fields, *, tdx: bool) -> TcbLevel:
    tcb = level.object("tcb")
    return TcbLevel(
        sgx=_components(tcb, "sgxtcbcomponents"),
        pcesvn=tcb.integer("pcesvn", 0xFFFF),
        tdx=_components(tcb, "tdxtcbcomponents") if tdx else _NO_TDX,
        date=level.time("tcbDate"),
        status=_status(level, _PLATFORM_STATUS),
        advisories=_advisories(level),
    )


def _components(tcb: Fields, name: str) -> tuple[int, ...]:
    """The SVNs of 16 components; their categories and types say nothing to a verifier.

    Reads the values without :class:`Fields`: a TCB info has some hundreds of them.
    """
    entries = tcb.array(name, 16)
    found = tuple([entry.get("svn", -1) for entry in entries if type(entry) is dict])
    if len(entries) != 16 or len(found) != 16 or not all(type(svn) is int and 0 <= svn <= 0xFFFF for svn in found):
        raise tcb.fail(f"{name}: not 16 SVNs of 0 to 65535")
    return found


def _status(level: Fields, known: dict[str, TcbStatus]) -> TcbStatus:
    status = known.get(level.text("tcbStatus"))
    if status is None:
        raise level.fail(f"tcbStatus {level.text('tcbStatus')!r} is unknown here")
    return status


def _advisories(level: Fields) -> tuple[str, ...]:
    return level.texts("advisoryIDs", _MAX_ADVISORIES) if "advisoryIDs" in level else ()
