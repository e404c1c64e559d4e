"""Appraisal of a TDX quote: how the TD was launched, which TDX module runs it, and what Intel says of the TCB."""

from __future__ import annotations

from datetime import timedelta

from ..endorsements.collateral import TcbStatus
from ..errors import Check, Status
from ..evidence.tdx_bits import TdAttributes
from .finding import Finding, held, not_asked, one_bit, reported, skipped
from .finding_tdx import BODY, Rule, Rules, Subject
from .module_versions import AS_OF, MODULES, version_of
from .policy_rules import BitRule
from .tdx_policy import AdvisoryRule, Grace
from .tdx_tcb import Advisory, TcbVerdict

_ATTRIBUTES = f"{BODY}, 120"
_XFAM = f"{BODY}, 128"
_QVL = "QVL 4.1.2.4.17"
_PCS = "Intel PCS v4, TCB info and enclave identity"


def _attribute(check: Check, place: int, name: str) -> Rule:
    def find(subject: Subject) -> Finding:
        rule: BitRule = getattr(subject.policy.td_attributes, name)
        bit = bool(subject.report.td_attributes >> place & 1)
        return one_bit(rule, bit, f"ATTRIBUTES.{name.upper()}")

    return Rule(check, f"{_ATTRIBUTES}, bit {place}", find)


def _fixed0(bits: int, mask: int | None, name: str) -> Finding:
    """Intel's FIXED0: a bit that is 0 in the mask must be 0."""
    if mask is None:
        return not_asked(f"{bits:#x}")
    message = f"{name} has the bits {bits & ~mask:#x}, which must be 0"
    return held(not bits & ~mask, message, expected=f"none but {mask:#x}", actual=f"{bits:#x}")


def _fixed1(bits: int, mask: int | None, name: str) -> Finding:
    """Intel's FIXED1: a bit that is 1 in the mask must be 1."""
    if mask is None:
        return not_asked(f"{bits:#x}")
    message = f"{name} lacks the bits {mask & ~bits:#x}, which must be 1"
    return held(not mask & ~bits, message, expected=f"{mask:#x}", actual=f"{bits:#x}")


def _attributes_unknown(subject: Subject) -> Finding:
    bits, rule = subject.report.td_attributes, subject.policy.td_attributes.unknown
    unknown = bits.unknown
    watched = unknown & (bits.under_debug | bits.under_profiling)
    if watched:
        message = f"the bits {watched:#x} have no name, and by any of 15:0 the host can look into the TD"
        return Finding(Status.FAIL, "no such bit", f"{int(bits):#x}", message)
    if unknown and unknown == bits.ignorable:
        return skipped(
            f"the bits {unknown:#x} have no name; by the ABI they only add security", actual=f"{int(bits):#x}"
        )
    return reported(rule, f"the bits {unknown:#x} have no name" if unknown else "", f"{int(bits):#x}")


def _xfam_unknown(subject: Subject) -> Finding:
    bits, rule = subject.report.xfam, subject.policy.xfam.unknown
    return reported(rule, f"the bits {bits.unknown:#x} have no name" if bits.unknown else "", f"{int(bits):#x}")


def _mrseam(subject: Subject) -> Finding:
    actual, accepted = subject.report.mrseam, subject.policy.mrseam
    name = version_of(actual)
    shown = (actual, f"TDX module {name}") if name else actual
    if not accepted:
        return not_asked(shown)
    message = f"MRSEAM, of TDX module {name}, is none of the accepted" if name else "MRSEAM is none of the accepted"
    return held(actual in accepted, message, expected=accepted, actual=shown)


def _svn_minimum(subject: Subject) -> Finding:
    actual, lowest = subject.report.tee_tcb_svn, subject.policy.minimum_tee_tcb_svn
    if lowest is None:
        return not_asked(actual)
    low = [str(index) for index in range(16) if actual[index] < lowest[index]]
    message = f"TEE_TCB_SVN is below the minimum in component {', '.join(low)}"
    return held(not low, message, expected=lowest, actual=actual)


def _names(rule: AdvisoryRule, advisory: Advisory) -> bool:
    return rule.id == advisory.id and (rule.part is None or rule.part in advisory.parts)


def _allowed(advisory: Advisory, rules: tuple[AdvisoryRule, ...]) -> bool:
    """Whether the rules allow it from every part that it came from."""
    return all(any(rule.id == advisory.id and rule.part in (None, part) for rule in rules) for part in advisory.parts)


def _shown(advisories: tuple[Advisory, ...]) -> tuple[str, ...]:
    return tuple(f"{advisory.id} ({', '.join(advisory.parts)})" for advisory in advisories)


def _status(subject: Subject) -> Finding:
    rules, verdict = subject.policy.tcb, subject.verified.verdict
    status = verdict.converged
    if subject.genuine_only:
        lost = status in (TcbStatus.REVOKED, TcbStatus.NOT_SUPPORTED)
        message = f"the TCB is {status}: Intel vouches for nothing that such a platform signs"
        if lost:
            return Finding(Status.FAIL, None, str(status), message)
        return Finding(Status.PASS, None, str(status)) if status is TcbStatus.UP_TO_DATE else _only(str(status))
    if status in rules.accepted:
        return Finding(Status.PASS, tuple(map(str, rules.accepted)), str(status))
    graces = [grace for grace in rules.grace if grace.status is status]
    missed = [_missed(grace, verdict, subject) for grace in graces]
    if "" in missed:
        grace = graces[missed.index("")]
        until = f"at most {grace.maximum_age_days} days after tcbDate, {', '.join(map(str, grace.advisories))}"
        return Finding(Status.PASS, until, f"{status}, tcbDate {_date(verdict)}")
    why = f"; {'; '.join(missed)}" if missed else ""
    return Finding(
        Status.FAIL,
        tuple(map(str, rules.accepted)),
        f"{status}, tcbDate {_date(verdict)}",
        f"the TCB is {status}{why}; {_reason(verdict)}",
    )


def _only(status: str) -> Finding:
    return skipped("only authenticity was asked for", actual=status)


def _date(verdict: TcbVerdict) -> str:
    date = verdict.date()
    return "none" if date is None else date.date().isoformat()


def _missed(grace: Grace, verdict: TcbVerdict, subject: Subject) -> str:
    """Why the grace does not apply, or ""."""
    date, at = verdict.date(), subject.verified.at
    foreign = [advisory for advisory in verdict.advisories if not _allowed(advisory, grace.advisories)]
    if foreign:
        return f"grace does not name {', '.join(_shown(tuple(foreign)))}"
    if date is None or at - date > timedelta(days=grace.maximum_age_days):
        return f"grace ended {grace.maximum_age_days} days after tcbDate {_date(verdict)}"
    return ""


def _reason(verdict: TcbVerdict) -> str:
    """The highest level that was missed, and by what."""
    missed = next((entry for entry in verdict.trace if entry.failed), None)
    return str(missed) if missed else f"platform {verdict.platform}, module {verdict.module}, qe {verdict.qe}"


def _part(actual: TcbStatus | None, accepted: tuple[TcbStatus, ...], name: str) -> Finding:
    if actual is None:
        return skipped(f"a {name} of version 1.0 has no status of its own")
    if not accepted:
        return not_asked(str(actual))
    return held(actual in accepted, f"the {name} is {actual}", expected=tuple(map(str, accepted)), actual=str(actual))


def _platform(subject: Subject) -> Finding:
    return _part(subject.verified.verdict.platform, subject.policy.tcb.platform, "platform")


def _module(subject: Subject) -> Finding:
    return _part(subject.verified.verdict.module, subject.policy.tcb.module, "TDX module")


def _qe(subject: Subject) -> Finding:
    return _part(subject.verified.verdict.qe, subject.policy.tcb.qe, "quoting enclave")


def _advisories(subject: Subject) -> Finding:
    rules, found = subject.policy.tcb, subject.verified.verdict.advisories
    actual = _shown(found)
    if rules.advisories is None and not rules.denied_advisories:
        return not_asked(actual)
    denied = [each for each in found if any(_names(rule, each) for rule in rules.denied_advisories)]
    if denied:
        message = f"denied: {', '.join(_shown(tuple(denied)))}"
        return Finding(Status.FAIL, tuple(f"not {rule}" for rule in rules.denied_advisories), actual, message)
    if rules.advisories is None:
        return Finding(Status.PASS, tuple(f"not {rule}" for rule in rules.denied_advisories), actual)
    foreign = [each for each in found if not _allowed(each, rules.advisories)]
    message = f"the policy does not allow {', '.join(_shown(tuple(foreign)))}"
    return held(not foreign, message, expected=tuple(map(str, rules.advisories)), actual=actual)


def _evaluation_number(subject: Subject) -> Finding:
    collateral, lowest = subject.verified.collateral, subject.policy.tcb.minimum_evaluation_data_number
    actual = (collateral.tcb_info.evaluation_data_number, collateral.qe_identity.evaluation_data_number)
    if lowest is None:
        return not_asked(actual)
    return held(min(actual) >= lowest, "tcbEvaluationDataNumber is below the floor", expected=lowest, actual=actual)


def _collateral_age(subject: Subject) -> Finding:
    age, most = (
        subject.verified.at - subject.verified.collateral.issued(),
        subject.policy.tcb.maximum_collateral_age_days,
    )
    if most is None:
        return not_asked(f"{age.days} days")
    message = "the collateral was issued too long ago"
    return held(age <= timedelta(days=most), message, expected=f"at most {most} days", actual=f"{age.days} days")


_PLACES = TdAttributes.names()

LAUNCH: Rules = (
    *(
        _attribute(Check(f"tdx.td_attributes.{name}"), place, name)
        for name, place in sorted(_PLACES.items(), key=lambda item: item[1])
    ),
    Rule(
        Check.TDX_TD_ATTRIBUTES_FIXED0,
        _ATTRIBUTES,
        lambda s: _fixed0(s.report.td_attributes, s.policy.td_attributes.fixed0, "ATTRIBUTES"),
    ),
    Rule(
        Check.TDX_TD_ATTRIBUTES_FIXED1,
        _ATTRIBUTES,
        lambda s: _fixed1(s.report.td_attributes, s.policy.td_attributes.fixed1, "ATTRIBUTES"),
    ),
    Rule(Check.TDX_TD_ATTRIBUTES_UNKNOWN, _ATTRIBUTES, _attributes_unknown),
    Rule(Check.TDX_XFAM_FIXED0, _XFAM, lambda s: _fixed0(s.report.xfam, s.policy.xfam.fixed0, "XFAM")),
    Rule(Check.TDX_XFAM_FIXED1, _XFAM, lambda s: _fixed1(s.report.xfam, s.policy.xfam.fixed1, "XFAM")),
    Rule(Check.TDX_XFAM_UNKNOWN, _XFAM, _xfam_unknown),
)
"""How the TD was launched."""

TCB: Rules = (
    Rule(Check.TDX_MRSEAM, f"{BODY}, 16; {len(MODULES)} versions of {AS_OF}", _mrseam),
    Rule(Check.TDX_TEE_TCB_SVN_MINIMUM, f"{BODY}, 0", _svn_minimum),
    Rule(Check.TDX_TCB_STATUS, _QVL, _status),
    Rule(Check.TDX_TCB_PLATFORM, f"{_QVL}.3", _platform),
    Rule(Check.TDX_TCB_MODULE, f"{_QVL}.4.1", _module),
    Rule(Check.TDX_TCB_QE, "QVL 4.1.2.9.9", _qe),
    Rule(Check.TDX_TCB_ADVISORIES, f"{_PCS}, advisoryIDs", _advisories),
    Rule(Check.TDX_COLLATERAL_EVALUATION_NUMBER, f"{_PCS}, tcbEvaluationDataNumber", _evaluation_number),
    Rule(Check.TDX_COLLATERAL_AGE, f"{_PCS}, issueDate; RFC 5280 5.1.2.4", _collateral_age),
)
"""TDX module and TCB."""
