"""TCB info and QE identity: what Intel says of the versions of a platform, of its TDX module and of its quoting enclave.

Source: Intel, "API portal, provisioning certification service v4": TCB info V3 and enclave identity V2.  A body is
read as received; the signature covers the exact bytes of one member's value, which are cut out and never written anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

MAX_BODY = 1 << 20
"""Largest body in bytes that is read; real ones have 2 to 7 KiB."""


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
        miscselect: 4 bytes in the order of the report (the JSON has a number's hex: most significant byte first).
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


def parse_tcb_info(body: bytes) -> TcbInfo:
    """Read the body of a TCB info as the provisioning service sends it.

    Raises:
        MalformedEvidence: not one, or a member missing, twice or of a wrong type or range.
        UnsupportedEvidence: another version than 3, or a kind other than TDX and SGX.
    """
    raise NotImplementedError


def parse_qe_identity(body: bytes) -> QeIdentity:
    """Read the body of an enclave identity as the provisioning service sends it.

    Raises:
        MalformedEvidence: not one, or a member missing, twice or of a wrong type or range.
        UnsupportedEvidence: another version than 2.
    """
    raise NotImplementedError
