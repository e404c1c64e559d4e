"""What a result says of a TDX quote: its fields, what its endorsements say, and the TCB verdict with its trace."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime

from ..errors import Check, Error, VerificationError
from ..evidence.ccel import REGISTERS, EventLog, check_data, describe, replay
from ..evidence.tdx import TdQuote, TdReport, parse_quote
from ..evidence.tdx_bits import TdAttributes, Xfam
from .module_versions import version_of
from .policy_keys import Json
from .result import AttestationResult, timestamp
from .tdx_tcb import TcbVerdict, TraceEntry
from .trust import RevocationState
from .verified_tdx import VerifiedTdx

_STALE = frozenset({Check.TDX_ROOT_CRL_STALE, Check.TDX_PCK_CRL_STALE})


def rejected(error: VerificationError, *, at: datetime, quote: bytes | None = None) -> AttestationResult:
    """The result for an error of verification, which ends before there is anything to appraise.

    Args:
        error: the error; its checks are the result's.
        at: the time of verification.
        quote: the quote as received, or None; if it can be read, what it says is shown, though none of it is verified.
    """
    evidence: dict[str, Json] = {}
    if quote is not None:
        with suppress(Error):
            evidence = tdx_evidence(parse_quote(quote))
            if error.failed.id in _STALE:
                evidence["endorsement"] = {"revocation": str(RevocationState.STALE)}
    return AttestationResult.of(error.checks, at=at, simulated=False, evidence=evidence)


def tdx_evidence(quote: TdQuote, verified: VerifiedTdx | None = None, log: EventLog | None = None) -> dict[str, Json]:
    """Every field of a quote, named as in Intel's documents in lower case.

    Bit fields come raw and decoded; ``tcb`` and ``endorsement`` are what verification adds.

    Args:
        quote: the quote.
        verified: what verification returned, or None where it failed.
        log: the event log, or None.
    """
    enclave = quote.qe_report
    return {
        "version": quote.version,
        "body_type": quote.body_type.name,
        "qe_vendor_id": quote.qe_vendor_id.hex(),
        "user_data": quote.user_data.hex(),
        **_body(quote.body),
        "qe_report": {
            "cpusvn": enclave.cpusvn.hex(),
            "miscselect": enclave.miscselect.hex(),
            "attributes": enclave.attributes.hex(),
            "mrenclave": enclave.mrenclave.hex(),
            "mrsigner": enclave.mrsigner.hex(),
            "isvprodid": enclave.isvprodid,
            "isvsvn": enclave.isvsvn,
            "report_data": enclave.report_data.hex(),
            "auth_data": quote.qe_auth_data.hex(),
        },
        "certification_data_type": quote.certification.type,
        "trailing_bytes": quote.trailing,
        "event_log": None if log is None else _log(log, quote.body),
        "tcb": None if verified is None else _tcb(verified.verdict),
        "endorsement": None if verified is None else _endorsement(verified),
    }


def _body(body: TdReport) -> dict[str, Json]:
    return {
        "tee_tcb_svn": body.tee_tcb_svn.hex(),
        "mrseam": body.mrseam.hex(),
        "tdx_module": version_of(body.mrseam),
        "mrsignerseam": body.mrsignerseam.hex(),
        "seamattributes": body.seamattributes.hex(),
        "td_attributes": _bits(body.td_attributes),
        "xfam": _bits(body.xfam),
        "mrtd": body.mrtd.hex(),
        "mrconfigid": body.mrconfigid.hex(),
        "mrowner": body.mrowner.hex(),
        "mrownerconfig": body.mrownerconfig.hex(),
        **{f"rtmr{number}": value.hex() for number, value in enumerate(body.rtmrs)},
        "report_data": body.report_data.hex(),
        "tee_tcb_svn2": _hex(body.tee_tcb_svn2),
        "mr_servicetd": _hex(body.mr_servicetd),
    }


def _hex(value: bytes | None) -> str | None:
    return None if value is None else value.hex()


def _bits(bits: TdAttributes | Xfam) -> dict[str, Json]:
    return {
        "raw": f"{int(bits):#018x}",
        **{name: bool(bits >> place & 1) for name, place in type(bits).names().items()},
        "unknown": f"{bits.unknown:#x}",
    }


def _log(log: EventLog, body: TdReport) -> dict[str, Json]:
    pairs = zip(replay(log), body.rtmrs, strict=True)
    return {
        "replays": [from_log == from_quote for from_log, from_quote in pairs],
        "events": [
            {
                "number": event.number,
                "register": REGISTERS[event.mr].lower(),
                "type": event.type_name,
                "label": describe(event),
                "digest": event.digest.hex(),
                "data": str(check_data(event)),
            }
            for event in log.events
        ],
    }


def _time(at: datetime | None) -> str | None:
    return None if at is None else timestamp(at)


def _tcb(verdict: TcbVerdict) -> dict[str, Json]:
    return {
        "status": str(verdict.converged),
        "date": _time(verdict.date()),
        "platform": str(verdict.platform),
        "platform_date": _time(verdict.platform_date),
        "sgx": str(verdict.sgx),
        "module": None if verdict.module is None else str(verdict.module),
        "module_date": _time(verdict.module_date),
        "qe": str(verdict.qe),
        "qe_date": _time(verdict.qe_date),
        "advisories": [
            {"id": advisory.id, "parts": [str(part) for part in advisory.parts]} for advisory in verdict.advisories
        ],
        "trace": [_entry(entry) for entry in verdict.trace],
    }


def _entry(entry: TraceEntry) -> dict[str, Json]:
    return {
        "part": str(entry.part),
        "level": entry.level,
        "status": str(entry.status),
        "failed": entry.failed or None,
        "required": entry.required,
        "actual": entry.actual,
        "chosen": [str(name) for name in entry.chosen],
    }


def _endorsement(verified: VerifiedTdx) -> dict[str, Json]:
    pck, collateral = verified.pck, verified.collateral
    info, identity = collateral.tcb_info, collateral.qe_identity
    return {
        "fmspc": pck.fmspc.hex(),
        "pceid": pck.pceid.hex(),
        "ppid": pck.ppid.hex(),
        "platform_instance_id": _hex(pck.platform_instance_id),
        "pck_ca": str(pck.ca),
        "sgx_type": pck.sgx_type,
        "dynamic_platform": pck.dynamic_platform,
        "cached_keys": pck.cached_keys,
        "smt": pck.smt,
        "cpusvn": pck.cpusvn.hex(),
        "components": list(pck.components),
        "pcesvn": pck.pcesvn,
        "not_before": timestamp(pck.not_before),
        "not_after": timestamp(pck.not_after),
        "tcb_info": _document(info.issue_date, info.next_update, info.evaluation_data_number),
        "qe_identity": _document(identity.issue_date, identity.next_update, identity.evaluation_data_number),
        "pck_crl": _document(collateral.pck_crl.this_update, collateral.pck_crl.next_update),
        "root_crl": _document(collateral.root_crl.this_update, collateral.root_crl.next_update),
        "valid_from": timestamp(max(window.not_before for window in collateral.windows)),
        "valid_until": timestamp(min(window.not_after for window in collateral.windows)),
        "revocation": str(RevocationState.CHECKED),
        "root_sha256": verified.root_sha256.hex(),
    }


def _document(issued: datetime, due: datetime, number: int | None = None) -> dict[str, Json]:
    found: dict[str, Json] = {"issued": timestamp(issued), "next_update": timestamp(due)}
    return found if number is None else found | {"evaluation_data_number": number}
