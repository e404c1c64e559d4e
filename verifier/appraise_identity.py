"""Appraisal: which code this is, what it says, and whose key signed for it."""

from __future__ import annotations

from datetime import timedelta

from ..errors import Check, Status
from ..evidence.snp import VMPL_HOST, SigningKey
from .finding import ABI, Finding, ReportData, Rule, Rules, Subject, exact, held, not_asked, skipped

_VCEK = "57230"
_OID = "1.3.6.1.4.1.3704.1"


def _reference_values(subject: Subject) -> Finding:
    policy = subject.policy
    named = len(policy.measurements) + len(policy.accepted_id_keys()) + len(policy.accepted_author_keys())
    return held(
        named > 0,
        "no reference value: the policy names no measurement, no ID key and no author key, so nothing says which code"
        " this must be; name one, or ask for authenticity only",
        expected="a measurement, or the digest of an ID key or author key",
        actual=named,
    )


def _measurement(subject: Subject) -> Finding:
    actual, accepted = subject.report.measurement, subject.policy.measurements
    if not accepted:
        return skipped("the policy names no measurement", actual=actual)
    return held(actual in accepted, "MEASUREMENT is none of the accepted", expected=accepted, actual=actual)


def _report_data(subject: Subject) -> Finding:
    policy = subject.policy
    wanted = ReportData(policy.report_data, policy.report_data_prefix, policy.wants_binding(), subject.report_data)
    return wanted.find(subject.report.report_data, "REPORT_DATA")


def _host_data(subject: Subject) -> Finding:
    return exact(subject.policy.host_data, subject.report.host_data, "HOST_DATA")


def _family_id(subject: Subject) -> Finding:
    return exact(subject.policy.family_id, subject.report.family_id, "FAMILY_ID")


def _image_id(subject: Subject) -> Finding:
    return exact(subject.policy.image_id, subject.report.image_id, "IMAGE_ID")


def _report_id(subject: Subject) -> Finding:
    return exact(subject.policy.report_id, subject.report.report_id, "REPORT_ID")


def _report_id_ma(subject: Subject) -> Finding:
    return exact(subject.policy.report_id_ma, subject.report.report_id_ma, "REPORT_ID_MA")


def _vmpl(subject: Subject) -> Finding:
    actual, accepted = subject.report.vmpl, subject.policy.vmpl
    message = "the host asked for this report, not the guest" if actual == VMPL_HOST else "VMPL is not accepted"
    return held(actual in accepted, message, expected=accepted, actual=actual)


def _guest_svn(subject: Subject) -> Finding:
    actual, lowest = subject.report.guest_svn, subject.policy.minimum_guest_svn
    if lowest is None:
        return not_asked(actual)
    return held(actual >= lowest, "GUEST_SVN is below the minimum", expected=lowest, actual=actual)


def _id_block(subject: Subject) -> Finding:
    if not subject.policy.require_id_block:
        return not_asked(subject.report.id_key_digest)
    digest = subject.report.id_key_digest
    return held(any(digest), "the launch had no ID block", expected="an ID key", actual=digest)


def _id_key(subject: Subject) -> Finding:
    actual, accepted = subject.report.id_key_digest, subject.policy.accepted_id_keys()
    if not accepted:
        return not_asked(actual)
    return held(actual in accepted, "ID_KEY_DIGEST is none of the accepted", expected=accepted, actual=actual)


def _author_key_required(subject: Subject) -> Finding:
    actual = int(subject.report.author_key_en)
    if not subject.policy.require_author_key:
        return not_asked(actual)
    return held(actual == 1, "no author key signed the ID key (AUTHOR_KEY_EN is 0)", expected=1, actual=actual)


def _author_key(subject: Subject) -> Finding:
    report, accepted = subject.report, subject.policy.accepted_author_keys()
    actual = report.author_key_digest
    if not accepted:
        return not_asked(actual)
    # Without AUTHOR_KEY_EN nobody vouches for the field.
    if not report.author_key_en:
        return held(False, "AUTHOR_KEY_EN is 0, so AUTHOR_KEY_DIGEST says nothing", expected=accepted, actual=actual)
    return held(actual in accepted, "AUTHOR_KEY_DIGEST is none of the accepted", expected=accepted, actual=actual)


def _simulated(subject: Subject) -> Finding:
    verified, root = subject.verified, subject.verified.root_sha256
    if not verified.simulated:
        return Finding(Status.PASS, "AMD's root", root)
    named = subject.policy.simulated_roots
    if root not in named:
        message = "SIMULATED: the root is not AMD's, and the policy does not name it"
        return Finding(Status.FAIL, named, root, message)
    message = "SIMULATED: the policy names this root; nothing here is vouched for by hardware"
    return Finding(Status.PASS, named, root, message)


def _signer(subject: Subject) -> Finding:
    signer = subject.verified.signer
    accepted = tuple(kind.name for kind in subject.policy.signers)
    message = f"the policy does not accept reports signed by a {signer.name}"
    return held(signer in subject.policy.signers, message, expected=accepted, actual=signer.name)


def _product(subject: Subject) -> Finding:
    product, policy = subject.verified.product, subject.policy
    accepted = tuple(str(item) for item in policy.products if item not in policy.denied_products)
    return held(str(product) in accepted, f"the policy refuses {product}", expected=accepted, actual=str(product))


def _chip_bound(subject: Subject) -> Finding:
    bound = int(subject.verified.chip_bound)
    if not subject.policy.require_chip_bound:
        return not_asked(bound)
    message = "the report carries no chip id: it is masked, or a VLEK signed"
    return held(subject.verified.chip_bound, message, expected=1, actual=bound)


def _chip(subject: Subject) -> bytes | None:
    """The chip whose key signed, by its certificate, in the form of the policy; the report's CHIP_ID may be masked."""
    hwid = subject.verified.vek.hwid
    return None if hwid is None else hwid.ljust(64, b"\0")


# A list of chips can say nothing of a VLEK, nor one of providers of a VCEK.  Such a report is refused, unless the
# policy has the list that does apply to it: then both kinds of keys are provided for.


def _chip_allowed(subject: Subject) -> Finding:
    policy, chip = subject.policy, _chip(subject)
    if not policy.chip_ids:
        return not_asked(chip)
    if chip is None and policy.csp_ids:
        return skipped("a VLEK names no chip; the list of providers decides")
    return held(chip in policy.chip_ids, "the chip is not on the list", expected=policy.chip_ids, actual=chip)


def _chip_denied(subject: Subject) -> Finding:
    policy, chip = subject.policy, _chip(subject)
    if not policy.denied_chip_ids:
        return not_asked(chip)
    if chip is None and policy.csp_ids:
        return skipped("a VLEK names no chip; the list of providers decides")
    if chip is None:
        return Finding(Status.FAIL, None, None, "a VLEK names no chip, so none can be ruled out")
    return held(chip not in policy.denied_chip_ids, "the chip is denied", actual=chip)


def _csp_allowed(subject: Subject) -> Finding:
    policy, csp = subject.policy, subject.verified.vek.csp_id
    if not policy.csp_ids:
        return not_asked(csp)
    if subject.verified.signer is SigningKey.VCEK and policy.chip_ids:
        return skipped("a VCEK names no provider; the list of chips decides")
    return held(csp in policy.csp_ids, "the provider is not on the list", expected=policy.csp_ids, actual=csp)


def _csp_denied(subject: Subject) -> Finding:
    policy, csp = subject.policy, subject.verified.vek.csp_id
    if not policy.denied_csp_ids:
        return not_asked(csp)
    if subject.verified.signer is SigningKey.VCEK:
        return skipped("a VCEK is lent to no provider")
    return held(csp is not None and csp not in policy.denied_csp_ids, "the provider is denied", actual=csp)


def _vek_age(subject: Subject) -> Finding:
    age, most = subject.verified.at - subject.verified.vek.not_before, subject.policy.maximum_vek_age_days
    if most is None:
        return not_asked(f"{age.days} days")
    message = "the certificate was issued too long ago"
    return held(age <= timedelta(days=most), message, expected=f"at most {most} days", actual=f"{age.days} days")


IDENTITY: Rules = (
    Rule(Check.SNP_REFERENCE_VALUES, "RFC 9334 8.3", _reference_values),
    Rule(Check.SNP_MEASUREMENT, f"{ABI}, 0x090", _measurement),
    Rule(Check.SNP_REPORT_DATA, f"{ABI}, 0x050", _report_data),
    Rule(Check.SNP_HOST_DATA, f"{ABI}, 0x0C0", _host_data),
    Rule(Check.SNP_FAMILY_ID, f"{ABI}, 0x010", _family_id),
    Rule(Check.SNP_IMAGE_ID, f"{ABI}, 0x020", _image_id),
    Rule(Check.SNP_REPORT_ID, f"{ABI}, 0x140", _report_id),
    Rule(Check.SNP_REPORT_ID_MA, f"{ABI}, 0x160", _report_id_ma),
    Rule(Check.SNP_VMPL, f"{ABI}, 0x030", _vmpl),
    Rule(Check.SNP_GUEST_SVN, f"{ABI}, 0x004", _guest_svn),
    Rule(Check.SNP_ID_BLOCK_REQUIRED, f"{ABI}, 0x0E0", _id_block),
    Rule(Check.SNP_ID_KEY, f"{ABI}, 0x0E0", _id_key),
    Rule(Check.SNP_AUTHOR_KEY_REQUIRED, f"{ABI}, 0x048", _author_key_required),
    Rule(Check.SNP_AUTHOR_KEY, f"{ABI}, 0x048 and 0x110", _author_key),
)
"""Which code, and what it says."""

SIGNER: Rules = (
    Rule(Check.SNP_SIMULATED, "the policy's simulated_roots", _simulated),
    Rule(Check.SNP_SIGNER_ALLOWED, f"{ABI}, 0x048", _signer),
    Rule(Check.SNP_PRODUCT_ALLOWED, f"{ABI}, 0x188", _product),
    Rule(Check.SNP_CHIP_BOUND, f"{ABI}, 0x048 and 0x1A0", _chip_bound),
    Rule(Check.SNP_CHIP_ID_ALLOWED, f"{_VCEK}, OID {_OID}.4", _chip_allowed),
    Rule(Check.SNP_CHIP_ID_DENIED, f"{_VCEK}, OID {_OID}.4", _chip_denied),
    Rule(Check.SNP_CSP_ID_ALLOWED, f"{_VCEK}, OID {_OID}.5", _csp_allowed),
    Rule(Check.SNP_CSP_ID_DENIED, f"{_VCEK}, OID {_OID}.5", _csp_denied),
    Rule(Check.SNP_VEK_AGE, "RFC 5280 4.1.2.5", _vek_age),
)
"""Whose key signed."""
