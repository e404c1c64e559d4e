"""What collateral says of itself: which item is of what, from when to when, and who should have signed it.

Nothing is verified here: a report helps to see what a bundle holds, and decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from hashlib import sha256

from ..errors import MalformedEvidence, UnsupportedEvidence
from .ca import parse_crl
from .collateral import parse_qe_identity, parse_tcb_info
from .collateral_bundle import Origin, TdxCollateral, chain_certificates, crl_der
from .p256 import CaP256, parse_ca_p256
from .pck import parse_pck


class State(StrEnum):
    """Whether an item's own dates hold at a time."""

    CURRENT = "current"
    NOT_YET_VALID = "not yet valid"
    EXPIRED = "expired"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """A certificate of an issuer chain.

    Attributes:
        subject_cn: common name.
        not_before: start of validity, UTC.
        not_after: end of validity, UTC.
    """

    subject_cn: str
    not_before: datetime
    not_after: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemReport:
    """What one item says of itself.

    Attributes:
        item: name of the field of :class:`.collateral_bundle.TdxCollateral`.
        size: bytes as received.
        sha256: of these bytes.
        state: whether its dates hold.
        facts: names and values for the reader, in order.
        issued: start of its dates, UTC, or None where it is unreadable.
        next_update: end of its dates, UTC, or None where it is unreadable.
        chain: its issuer chain, signer first; empty if none came along.
        problem: why it is unreadable, or "".
        url: where it came from, or "".
        fetched: when it was fetched, or "".
    """

    item: str
    size: int
    sha256: bytes
    state: State
    facts: tuple[tuple[str, str | int], ...] = ()
    issued: datetime | None = None
    next_update: datetime | None = None
    chain: tuple[Signer, ...] = ()
    problem: str = ""
    url: str = ""
    fetched: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Read:
    """Facts and dates of one item."""

    facts: tuple[tuple[str, str | int], ...]
    issued: datetime
    next_update: datetime


def _tcb_info(body: bytes) -> _Read:
    info = parse_tcb_info(body)
    facts: list[tuple[str, str | int]] = [
        ("id", info.id),
        ("version", info.version),
        ("fmspc", info.fmspc.hex()),
        ("pce_id", info.pceid.hex()),
        ("evaluation_data_number", info.evaluation_data_number),
        ("levels", len(info.levels)),
    ]
    if info.module_identities:
        facts.append(("modules", ", ".join(identity.id for identity in info.module_identities)))
    return _Read(facts=tuple(facts), issued=info.issue_date, next_update=info.next_update)


def _qe_identity(body: bytes) -> _Read:
    identity = parse_qe_identity(body)
    return _Read(
        facts=(
            ("id", identity.id),
            ("version", identity.version),
            ("evaluation_data_number", identity.evaluation_data_number),
            ("levels", len(identity.levels)),
        ),
        issued=identity.issue_date,
        next_update=identity.next_update,
    )


def _crl(body: bytes) -> _Read:
    crl = parse_crl(crl_der(body, "CRL"))
    return _Read(
        facts=(("issuer", crl.issuer_cn), ("revoked", len(crl.revoked))),
        issued=crl.this_update,
        next_update=crl.next_update,
    )


def _pck_chain(body: bytes) -> _Read:
    pck = parse_pck(chain_certificates(body, "PCK chain")[0])
    return _Read(
        facts=(("fmspc", pck.fmspc.hex()), ("pce_id", pck.pceid.hex()), ("issuer", pck.issuer_cn)),
        issued=pck.not_before,
        next_update=pck.not_after,
    )


_READERS: dict[str, Callable[[bytes], _Read]] = {
    "tcb_info": _tcb_info,
    "qe_identity": _qe_identity,
    "pck_crl": _crl,
    "root_crl": _crl,
    "pck_chain": _pck_chain,
}


def report_collateral(collateral: TdxCollateral, at: datetime) -> tuple[ItemReport, ...]:
    """What each item says of itself, and whether its dates hold at a time; nothing is verified.

    Args:
        collateral: as received.
        at: the time that its dates are compared with.
    """
    origins = {origin.item: origin for origin in collateral.origins}
    reports = []
    for item, read in _READERS.items():
        body: bytes | None = getattr(collateral, item)
        if body is not None:
            chain: bytes = getattr(collateral, f"{item}_chain", b"")
            reports.append(_report(item, body, chain, at, read=read, origin=origins.get(item)))
    return tuple(reports)


def _report(
    item: str, body: bytes, chain: bytes, at: datetime, *, read: Callable[[bytes], _Read], origin: Origin | None
) -> ItemReport:
    found: _Read | None = None
    signers: tuple[Signer, ...] = ()
    state, problem = State.CURRENT, ""
    try:
        found = read(body)
        if chain:
            signers = tuple(_signer(parse_ca_p256(der)) for der in chain_certificates(chain, "issuer chain"))
    except (MalformedEvidence, UnsupportedEvidence) as exc:
        state, problem = State.UNREADABLE, str(exc)
    if found and not problem:
        if at < found.issued:
            state = State.NOT_YET_VALID
        elif at >= found.next_update:
            state = State.EXPIRED
    return ItemReport(
        item=item,
        size=len(body),
        sha256=sha256(body).digest(),
        state=state,
        facts=found.facts if found else (),
        issued=found.issued if found else None,
        next_update=found.next_update if found else None,
        chain=signers,
        problem=problem,
        url=origin.url if origin else "",
        fetched=origin.fetched if origin else "",
    )


def _signer(certificate: CaP256) -> Signer:
    return Signer(subject_cn=certificate.subject_cn, not_before=certificate.not_before, not_after=certificate.not_after)
