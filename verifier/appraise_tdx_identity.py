"""Appraisal of a TDX quote: what runs in the TD, what it says, and whose platform signed for it."""

from __future__ import annotations

from datetime import timedelta

from ..errors import Check, Status
from ..evidence.ccel import DataCheck, check_data
from .appraise_tdx_events import EVENT_CHECKS
from .finding import Finding, ReportData, held, not_asked, not_one_of, one_bit, one_of, skipped
from .finding_tdx import BODY, Rule, Rules, Subject
from .policy_rules import BitRule
from .tdx_policy import SgxType

_PCK = "Intel PCK certificate profile, OID 1.2.840.113741.1.13.1"
_TCG = "TCG PC Client Platform Firmware Profile, 10"
_RTMR3 = 3


def _reference_values(subject: Subject) -> Finding:
    policy = subject.policy
    others = any(policy.registers()) or policy.events.machine() or policy.events.code()
    why = "; RTMRs and events say only what the firmware wrote that MRTD measures" if others else ""
    return held(
        bool(policy.mrtd),
        f"no reference value: the policy names no MRTD, so nothing says which code this must be{why}; name one, or ask"
        " for authenticity only",
        expected="an MRTD",
        actual=len(policy.mrtd),
    )


def _mrtd(subject: Subject) -> Finding:
    actual, accepted = subject.report.mrtd, subject.policy.mrtd
    if not accepted:
        return skipped("the policy names no MRTD", actual=actual)
    return held(actual in accepted, "MRTD is none of the accepted", expected=accepted, actual=actual)


def _rtmr(number: int) -> Rule:
    def find(subject: Subject) -> Finding:
        actual, accepted = subject.report.rtmrs[number], subject.policy.registers()[number]
        if number == _RTMR3 and not accepted:
            return _rtmr3(subject, actual)
        return one_of(accepted, actual, f"RTMR{number}")

    checks = (Check.TDX_RTMR0, Check.TDX_RTMR1, Check.TDX_RTMR2, Check.TDX_RTMR3)
    return Rule(checks[number], f"{BODY}, {328 + 48 * number}", find)


def _rtmr3(subject: Subject, actual: bytes) -> Finding:
    """Firmware and kernel leave RTMR3 alone: what stands there, the guest wrote, and its log has to say what."""
    if not any(actual):
        return Finding(Status.PASS, bytes(48), actual)
    explained = subject.log is not None and subject.believed()
    message = "RTMR3 is not zero, the policy names no value for it, and no event log explains it"
    return held(explained, message, expected="zero, or as the event log gives it", actual=actual)


def _log_required(subject: Subject) -> Finding:
    there = subject.log is not None
    if not subject.policy.wants_log():
        return not_asked(int(there))
    return held(there, "the policy demands an event log, and none came along", expected=1, actual=int(there))


def _log_replay(subject: Subject) -> Finding:
    if subject.replayed is None:
        return skipped("there is no event log")
    pairs = zip(subject.replayed, subject.report.rtmrs, strict=True)
    different = [f"RTMR{number}" for number, (log, quote) in enumerate(pairs) if log != quote]
    message = f"the event log gives another {' and '.join(different)} than the quote"
    return held(not different, message, expected=subject.report.rtmrs, actual=subject.replayed)


def _log_data(subject: Subject) -> Finding:
    if subject.log is None:
        return skipped("there is no event log")
    found = [(event, check_data(event)) for event in subject.log.events]
    wrong = [str(event.number) for event, result in found if result is DataCheck.DIFFERS]
    counted = ", ".join(f"{sum(result is each for _, result in found)} {each}" for each in DataCheck)
    return held(not wrong, f"the data of event {', '.join(wrong)} do not hash to its digest", actual=counted)


def _event(check: Check) -> Rule:
    return Rule(check, _TCG, lambda subject: subject.events[check])


def _report_data(subject: Subject) -> Finding:
    policy = subject.policy
    wanted = ReportData(policy.report_data, policy.report_data_prefix, policy.wants_binding(), subject.report_data)
    return wanted.find(subject.report.report_data, "REPORTDATA")


def _zero_unless(check: Check, name: str, offset: int) -> Rule:
    """A field that the host sets: zero, unless the policy names values."""

    def find(subject: Subject) -> Finding:
        actual: bytes = getattr(subject.report, name)
        accepted: tuple[bytes, ...] = getattr(subject.policy, name) or (bytes(48),)
        message = f"{name.upper()} is none of the accepted"
        if accepted == (bytes(48),):
            message = f"{name.upper()} is not zero, and the policy names no value for it"
        return held(actual in accepted, message, expected=accepted, actual=actual)

    return Rule(check, f"{BODY}, {offset}", find)


def _servicetd(subject: Subject) -> Finding:
    actual, accepted = subject.report.mr_servicetd, subject.policy.mr_servicetd
    if actual is None:
        if not accepted:
            return skipped("a TD report of version 1.0 has no MR_SERVICETD")
        return Finding(Status.FAIL, accepted, None, "a TD report of version 1.0 has no MR_SERVICETD")
    message = "MR_SERVICETD is none of the accepted" if accepted else "service TDs are bound, and the policy names none"
    wanted = accepted or (bytes(48),)
    return held(actual in wanted, message, expected=wanted, actual=actual)


def _simulated(subject: Subject) -> Finding:
    verified, root = subject.verified, subject.verified.root_sha256
    if not verified.simulated:
        return Finding(Status.PASS, "Intel's root", root)
    named = subject.policy.simulated_roots
    if root not in named:
        return Finding(Status.FAIL, named, root, "SIMULATED: the root is not Intel's, and the policy does not name it")
    message = "SIMULATED: the policy names this root; nothing here is vouched for by hardware"
    return Finding(Status.PASS, named, root, message)


def _body_type(subject: Subject) -> Finding:
    accepted, actual = subject.policy.body_types, subject.verified.quote.body_type
    names = tuple(kind.name for kind in accepted)
    return held(actual in accepted, f"the policy does not accept {actual.name}", expected=names, actual=actual.name)


def _listed(check: Check, name: str, field: str, suffix: str, *, denied: bool = False) -> Rule:
    """A list of platforms, by what the certificate says."""

    def find(subject: Subject) -> Finding:
        actual: bytes | None = getattr(subject.verified.pck, field)
        wanted: tuple[bytes, ...] = getattr(subject.policy, f"denied_{field}s" if denied else f"{field}s")
        return not_one_of(wanted, actual, name) if denied else one_of(wanted, actual, name)

    return Rule(check, f"{_PCK}{suffix}", find)


def _pck_ca(subject: Subject) -> Finding:
    accepted, actual = subject.policy.pck_cas, subject.verified.pck.ca
    return held(
        actual in accepted, f"the policy does not accept the {actual} CA", expected=tuple(accepted), actual=str(actual)
    )


def _sgx_type(subject: Subject) -> Finding:
    accepted, actual = subject.policy.sgx_types, tuple(SgxType)[subject.verified.pck.sgx_type]
    message = f"the policy does not accept platforms that protect memory as {actual}"
    return held(actual in accepted, message, expected=tuple(accepted), actual=str(actual))


def _flag(check: Check, name: str, suffix: str) -> Rule:
    def find(subject: Subject) -> Finding:
        rule: BitRule = getattr(subject.policy, name)
        actual: bool | None = getattr(subject.verified.pck, name)
        if actual is None:
            if rule is BitRule.ANY:
                return skipped("the certificate does not say, and the policy does not ask")
            return Finding(Status.FAIL, str(rule), None, f"the certificate does not say {name}")
        return one_bit(rule, actual, name)

    return Rule(check, f"{_PCK}{suffix}", find)


def _pck_age(subject: Subject) -> Finding:
    age, most = subject.verified.at - subject.verified.pck.not_before, subject.policy.maximum_pck_age_days
    if most is None:
        return not_asked(f"{age.days} days")
    message = "the PCK certificate was issued too long ago"
    return held(age <= timedelta(days=most), message, expected=f"at most {most} days", actual=f"{age.days} days")


CODE: Rules = (
    Rule(Check.TDX_REFERENCE_VALUES, "RFC 9334 8.3", _reference_values),
    Rule(Check.TDX_MRTD, f"{BODY}, 136", _mrtd),
    *(_rtmr(number) for number in range(4)),
    Rule(Check.TDX_EVENT_LOG_REQUIRED, _TCG, _log_required),
    Rule(Check.TDX_EVENT_LOG_REPLAY, _TCG, _log_replay),
    Rule(Check.TDX_EVENT_LOG_DATA, f"{_TCG}.4", _log_data),
    *(_event(check) for check in EVENT_CHECKS),
)
"""What runs."""

CLAIMS: Rules = (
    Rule(Check.TDX_REPORT_DATA, f"{BODY}, 520", _report_data),
    _zero_unless(Check.TDX_MRCONFIGID, "mrconfigid", 184),
    _zero_unless(Check.TDX_MROWNER, "mrowner", 232),
    _zero_unless(Check.TDX_MROWNERCONFIG, "mrownerconfig", 280),
    Rule(Check.TDX_MR_SERVICETD, f"{BODY} 1.5, 600", _servicetd),
)
"""What it says."""

SIGNER: Rules = (
    Rule(Check.TDX_SIMULATED, "the policy's simulated_roots", _simulated),
    Rule(Check.TDX_BODY_TYPE_ALLOWED, "Intel TDX DCAP quote, body descriptor", _body_type),
    _listed(Check.TDX_FMSPC_ALLOWED, "FMSPC", "fmspc", ".4"),
    _listed(Check.TDX_FMSPC_DENIED, "FMSPC", "fmspc", ".4", denied=True),
    _listed(Check.TDX_PPID_ALLOWED, "PPID", "ppid", ".1"),
    _listed(Check.TDX_PPID_DENIED, "PPID", "ppid", ".1", denied=True),
    _listed(Check.TDX_PLATFORM_INSTANCE_ALLOWED, "platform instance id", "platform_instance_id", ".6"),
    _listed(Check.TDX_PLATFORM_INSTANCE_DENIED, "platform instance id", "platform_instance_id", ".6", denied=True),
    Rule(Check.TDX_PCK_CA_ALLOWED, "Intel PCK certificate profile, 1.3", _pck_ca),
    Rule(Check.TDX_SGX_TYPE_ALLOWED, f"{_PCK}.5", _sgx_type),
    _flag(Check.TDX_DYNAMIC_PLATFORM, "dynamic_platform", ".7.1"),
    _flag(Check.TDX_CACHED_KEYS, "cached_keys", ".7.2"),
    _flag(Check.TDX_SMT, "smt", ".7.3"),
    Rule(Check.TDX_PCK_AGE, "RFC 5280 4.1.2.5", _pck_age),
)
"""Whose platform signed."""
