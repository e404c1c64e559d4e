"""Appraisal of one NVIDIA device: its reference values, and what it says of itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ..errors import Check, Status, Value
from ..evidence.gpu_arch import Kind
from .finding import Finding, held, not_asked, reported, skipped
from .finding_gpu import DeviceRule, DeviceSubject
from .gpu_compare import Comparison, Outcome
from .gpu_policy import DiceFlag, DriverVersion, Mode, Nvdec0, VbiosVersion

ENABLED: Final = 0xAA
DISABLED: Final = 0x55
_NEWEST_OPAQUE = 1
_NOTHING = "there was no RIM to compare with"
_RIM = "RIM, {}"
_TLV = "SPDM opaque data, TLV {}"
_POLICY = "policy, gpu.{}"


def _no_rims(subject: DeviceSubject) -> Finding | None:
    if subject.token:
        return skipped("a token of the remote attestation service stands in place of RIMs")
    return None


def _pinned(subject: DeviceSubject) -> Finding:
    policy = subject.policy
    if not policy.rim_sha256 and not policy.rim_signer_sha256:
        return not_asked(tuple(found.rim.sha256 for found in subject.rims.values()))
    if (none := _no_rims(subject)) is not None:
        return none
    for source, found in subject.rims.items():
        if policy.rim_sha256 and found.rim.sha256 not in policy.rim_sha256:
            message = f"the {source} RIM is none of the accepted"
            return Finding(Status.FAIL, policy.rim_sha256, found.rim.sha256, message)
        signer = found.chain[0].sha256
        if policy.rim_signer_sha256 and signer not in policy.rim_signer_sha256:
            message = f"the signer of the {source} RIM is none of the accepted"
            return Finding(Status.FAIL, policy.rim_signer_sha256, signer, message)
    return _found(subject, None, tuple(found.rim.sha256 for found in subject.rims.values()))


def _product(subject: DeviceSubject) -> Finding:
    if (none := _no_rims(subject)) is not None:
        return none
    for need in subject.needs:
        found = subject.rims[need.source].rim.product
        if found not in need.products:
            return Finding(Status.FAIL, need.products, found, f"the {need.source} RIM is of another chip")
    return _found(subject, subject.device.chain.chip, tuple(found.rim.product for found in subject.rims.values()))


def _version(subject: DeviceSubject) -> Finding:
    if (none := _no_rims(subject)) is not None:
        return none
    for need in subject.needs:
        found = subject.rims[need.source].rim.version
        if found.upper() != need.version.upper():
            message = f"the {need.source} RIM is of another version than the report names"
            return Finding(Status.FAIL, need.version, found, message)
    named = tuple(need.version for need in subject.needs)
    return _found(subject, named, tuple(found.rim.version for found in subject.rims.values()))


def _found(subject: DeviceSubject, expected: Value, actual: Value) -> Finding:
    """A pass, if there was a RIM to look at."""
    return held(bool(subject.rims), _NOTHING, expected=expected, actual=actual)


def _compared(subject: DeviceSubject, find: Callable[[Comparison], Finding]) -> Finding:
    """What a comparison says; without one, that nothing was compared."""
    if subject.comparison is None:
        return _no_rims(subject) or Finding(Status.FAIL, None, None, _NOTHING)
    return find(subject.comparison)


def _golden(subject: DeviceSubject) -> Finding:
    def find(comparison: Comparison) -> Finding:
        lacking = comparison.lacking
        return held(
            not lacking and comparison.golden > 0,
            f"no reference value from the RIM: {', '.join(lacking)}",
            expected=tuple(need.source for need in subject.needs),
            actual=comparison.golden,
        )

    return _compared(subject, find)


def _conflict(subject: DeviceSubject) -> Finding:
    return _compared(
        subject,
        lambda comparison: held(
            not comparison.conflicts, "indexes for which two RIMs have a value", actual=comparison.conflicts
        ),
    )


def _nvdec_rule(subject: DeviceSubject) -> Finding:
    if subject.report.kind is Kind.SWITCH:
        return skipped("a switch has no video decoder")
    actual = _hex(subject.report.nvdec0)
    return _compared(
        subject,
        lambda comparison: held(
            not comparison.nvdec0_fault, comparison.nvdec0_fault, expected="0x55 or 0xaa", actual=actual
        ),
    )


def _measurements(subject: DeviceSubject) -> Finding:
    return _compared(subject, _compare)


def _compare(comparison: Comparison) -> Finding:
    matched = len(comparison.indexes(Outcome.MATCHED))
    wrong = [record for record in comparison.records if record.outcome in {Outcome.MISMATCHED, Outcome.MISSING}]
    if comparison.holds:
        return Finding(Status.PASS, matched, matched)
    if not wrong:
        return Finding(Status.FAIL, None, matched, "the comparison is not complete: see the checks before")
    hints = "; ".join(dict.fromkeys(record.hint for record in wrong if record.hint))
    indexes = ", ".join(str(record.index) for record in wrong)
    return Finding(
        Status.FAIL,
        tuple(record.golden for record in wrong),
        tuple(record.actual for record in wrong),
        f"indexes {indexes} do not have the reference values" + (f"; {hints}" if hints else ""),
    )


def _unmeasured(subject: DeviceSubject) -> Finding:
    def find(comparison: Comparison) -> Finding:
        indexes = comparison.unmeasured
        message = f"indexes without a reference value: {', '.join(map(str, indexes))}" if indexes else ""
        return reported(subject.policy.unmeasured, message, indexes)

    return _compared(subject, find)


def _simulated(subject: DeviceSubject) -> Finding:
    roots = [(subject.device.chain.simulated, subject.device.chain.root_sha256)]
    roots += [(found.simulated, found.root_sha256) for found in subject.rims.values()]
    simulated = [root for flag, root in roots if flag]
    if not simulated:
        return Finding(Status.PASS, "NVIDIA's roots", None)
    named, actual = subject.policy.simulated_roots, tuple(simulated)
    if any(root not in named for root in simulated):
        return Finding(Status.FAIL, named, actual, "SIMULATED: a root is not NVIDIA's, and the policy does not name it")
    message = "SIMULATED: the policy names these roots; nothing here is vouched for by hardware"
    return Finding(Status.PASS, named, actual, message)


def _nonce(subject: DeviceSubject) -> Finding:
    actual = subject.report.nonce
    if subject.nonce is None:
        if subject.policy.require_nonce:
            return Finding(Status.FAIL, None, actual, "the policy demands a nonce, and the caller gave none")
        return not_asked(actual)
    return held(actual == subject.nonce, "the report carries another nonce", expected=subject.nonce, actual=actual)


def _arch(subject: DeviceSubject) -> Finding:
    arch, accepted = subject.device.evidence.arch, subject.policy.architectures
    return held(
        arch in accepted,
        "the architecture is none of the accepted",
        expected=tuple(str(one) for one in accepted),
        actual=str(arch),
    )


def _serial(subject: DeviceSubject) -> Finding:
    serial, accepted = int(subject.device.ueid), subject.policy.serials
    if not accepted:
        return not_asked(str(serial))
    return held(
        serial in accepted,
        "the device is none of the accepted",
        expected=tuple(str(one) for one in accepted),
        actual=str(serial),
    )


def _denied(subject: DeviceSubject) -> Finding:
    serial, denied = int(subject.device.ueid), subject.policy.denied_serials
    if not denied:
        return not_asked(str(serial))
    return held(serial not in denied, "the device is denied", actual=str(serial))


def _fwid(subject: DeviceSubject) -> Finding:
    fwid = subject.report.fwid
    if fwid is not None:
        return Finding(Status.PASS, None, fwid)
    if subject.report.kind is Kind.SWITCH:
        return skipped("a switch's report carries no firmware identifier")
    if not subject.policy.require_fwid:
        return skipped("the report carries no firmware identifier, and the policy accepts that")
    return Finding(Status.FAIL, "a firmware identifier", None, "the report carries no firmware identifier")


def _dice(subject: DeviceSubject) -> Finding:
    info = subject.device.chain.certificates[0].tcb_info
    if info is None:
        return skipped("the device's certificate carries no operational flags")
    refused = {str(flag) for flag in subject.policy.dice_flags}
    set_ = sorted(info.flags)
    bad = [flag for flag in set_ if flag in refused]
    return held(
        not bad,
        f"flags of the device's certificate are set: {', '.join(bad)}",
        expected=tuple(f"not {flag}" for flag in DiceFlag if flag in subject.policy.dice_flags),
        actual=tuple(set_),
    )


def _driver(subject: DeviceSubject) -> tuple[Finding | None, DriverVersion | None]:
    if subject.report.kind is Kind.SWITCH:
        return skipped("a switch has no driver of its own"), None
    named = subject.report.driver_version
    found = DriverVersion.parse(named) if named is not None else None
    if found is None:
        return Finding(Status.FAIL, None, named, "the report names no version of the driver that can be compared"), None
    return None, found


def _driver_minimum(subject: DeviceSubject) -> Finding:
    minimum = subject.policy.driver_minimum
    if minimum is None:
        return not_asked(subject.report.driver_version)
    finding, found = _driver(subject)
    if found is None:
        return finding or not_asked()
    return held(
        found.parts >= minimum.parts, "the driver is older than the minimum", expected=minimum.text, actual=found.text
    )


def _driver_denied(subject: DeviceSubject) -> Finding:
    denied = subject.policy.denied_drivers
    if not denied:
        return not_asked(subject.report.driver_version)
    finding, found = _driver(subject)
    if found is None:
        return finding or not_asked()
    return held(found.parts not in {one.parts for one in denied}, "the driver is denied", actual=found.text)


def _vbios_minimum(subject: DeviceSubject) -> Finding:
    named, minimums = subject.report.vbios_version, subject.policy.vbios_minimum
    if not minimums:
        return not_asked(named)
    found = VbiosVersion.parse(named) if named is not None else None
    if found is None:
        return Finding(Status.FAIL, None, named, "the report names no version of the VBIOS that can be compared")
    for minimum in minimums:
        if minimum.family == found.family:
            holds = found.parts >= minimum.parts
            return held(holds, "the VBIOS is older than the minimum", expected=minimum.text, actual=found.text)
    return Finding(Status.FAIL, None, found.text, "the policy has no minimum for this family of VBIOS")


def _mode(subject: DeviceSubject) -> Finding:
    if subject.report.kind is Kind.SWITCH:
        return skipped("a switch has no mode of its own")
    flag, accepted = subject.report.feature_flag, subject.policy.modes
    expected = tuple(str(mode) for mode in accepted)
    if flag is None:
        if set(accepted) == set(Mode):
            return skipped("the report names no mode, and the policy accepts all")
        return Finding(Status.FAIL, expected, None, "the report names no mode, and the policy does not accept all")
    mode = Mode.of(flag)
    actual = f"{mode or 'unknown'} ({flag})"
    return held(mode in accepted, "the mode is none of the accepted", expected=expected, actual=actual)


def _nvdec0(subject: DeviceSubject) -> Finding:
    rule, actual = subject.policy.nvdec0, subject.report.nvdec0
    if subject.report.kind is Kind.SWITCH:
        return skipped("a switch has no video decoder")
    if rule is Nvdec0.ANY:
        return skipped("the policy accepts both", actual=_hex(actual))
    wanted = DISABLED if rule is Nvdec0.DISABLED else ENABLED
    return held(actual == wanted, f"the video decoder is not {rule}", expected=_hex(wanted), actual=_hex(actual))


def _protected_pcie(subject: DeviceSubject) -> Finding:
    if subject.report.kind is Kind.SWITCH:
        return skipped("only a GPU says it")
    flag, actual = subject.report.feature_flag, subject.report.protected_pcie
    protected = flag is not None and Mode.of(flag) is Mode.PPCIE
    if flag is None or (actual is None and not protected):
        return skipped("the report names no mode or no state of protected PCIe", actual=_hex(actual))
    wanted = ENABLED if protected else DISABLED
    return held(
        actual == wanted,
        "the state of protected PCIe does not fit the mode",
        expected=_hex(wanted),
        actual=_hex(actual),
    )


def _lock(subject: DeviceSubject) -> Finding:
    if subject.report.kind is Kind.GPU:
        return skipped("only a switch says it")
    actual = subject.report.lock_switch
    return held(actual == 1, "the switch does not say that it is locked", expected=1, actual=actual)


def _opaque_version(subject: DeviceSubject) -> Finding:
    version = subject.report.opaque_version
    newer = version is not None and version > _NEWEST_OPAQUE
    message = f"the opaque data are of version {version}, newer than is known here" if newer else ""
    return reported(subject.policy.opaque_version, message, version)


def _opaque_unknown(subject: DeviceSubject) -> Finding:
    types = subject.report.unknown_types
    message = f"entries of unknown types: {', '.join(map(str, types))}" if types else ""
    return reported(subject.policy.unknown_opaque, message, types)


def _hex(value: int | None) -> str | None:
    return None if value is None else f"{value:#04x}"


VALUES: Final[tuple[DeviceRule, ...]] = (
    DeviceRule(Check.GPU_RIM_PINNED, _POLICY.format("rim_sha256"), _pinned),
    DeviceRule(Check.GPU_RIM_PRODUCT, _RIM.format("Meta, product"), _product),
    DeviceRule(Check.GPU_RIM_VERSION, _RIM.format("Meta, colloquialVersion"), _version),
    DeviceRule(Check.GPU_MEASUREMENTS_GOLDEN, _RIM.format("Payload"), _golden),
    DeviceRule(Check.GPU_MEASUREMENTS_CONFLICT, _RIM.format("Payload"), _conflict),
    DeviceRule(Check.GPU_MEASUREMENTS_NVDEC0, _TLV.format(11), _nvdec_rule),
    DeviceRule(Check.GPU_MEASUREMENTS, _RIM.format("Payload"), _measurements),
    DeviceRule(Check.GPU_MEASUREMENTS_UNMEASURED, _RIM.format("Payload"), _unmeasured),
)
"""What the device must measure."""

CLAIMS: Final[tuple[DeviceRule, ...]] = (
    DeviceRule(Check.GPU_SIMULATED, _POLICY.format("simulated_roots"), _simulated),
    DeviceRule(Check.GPU_NONCE, "report, 4", _nonce),
    DeviceRule(Check.GPU_ARCH_ALLOWED, _POLICY.format("architectures"), _arch),
    DeviceRule(Check.GPU_SERIAL_ALLOWED, _POLICY.format("serials"), _serial),
    DeviceRule(Check.GPU_SERIAL_DENIED, _POLICY.format("denied_serials"), _denied),
    DeviceRule(Check.GPU_FWID_REQUIRED, _TLV.format(20), _fwid),
    DeviceRule(Check.GPU_DICE_FLAGS, "DICE, TcbInfo", _dice),
    DeviceRule(Check.GPU_DRIVER_MINIMUM, _TLV.format(3), _driver_minimum),
    DeviceRule(Check.GPU_DRIVER_DENIED, _TLV.format(3), _driver_denied),
    DeviceRule(Check.GPU_VBIOS_MINIMUM, _TLV.format(6), _vbios_minimum),
    DeviceRule(Check.GPU_MODE, _TLV.format(36), _mode),
    DeviceRule(Check.GPU_NVDEC0, _TLV.format(11), _nvdec0),
    DeviceRule(Check.GPU_PROTECTED_PCIE, _TLV.format(21), _protected_pcie),
    DeviceRule(Check.GPU_LOCK_SWITCH, _TLV.format(25), _lock),
    DeviceRule(Check.GPU_OPAQUE_VERSION, _TLV.format(34), _opaque_version),
    DeviceRule(Check.GPU_OPAQUE_UNKNOWN, "SPDM opaque data", _opaque_unknown),
)
"""What the device says of itself."""
