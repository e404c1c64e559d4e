"""Every check of a device's report and chain fails by itself, with all signatures made anew where they must hold."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

from dokimos.errors import Check, MalformedEvidence, Status, VerificationError
from dokimos.evidence.gpu_arch import Arch
from dokimos.evidence.gpu_evidence import GpuEvidence
from dokimos.verifier import gpu_chain
from dokimos.verifier.checklist import Checklist
from dokimos.verifier.gpu import VerifiedDevice, verify_gpu_report
from dokimos.verifier.gpu_chain import arch_of, verify_chain
from dokimos.verifier.trust import GpuTrust
from tests.generate import gpu
from tests.generate.gpu import AT, FWID

DATA = frozenset({"digital_signature"})
SIGN = frozenset({"key_cert_sign"})
SECOND = timedelta(seconds=1)
ROOTS = frozenset(gpu.root_sha256(gpu.right_chain(arch)) for arch in Arch)


@dataclass(frozen=True, kw_only=True)
class Case:
    """One device that one check must refuse; a certificate that cannot be read is another error than a rejection."""

    name: str
    failing: Check
    evidence: GpuEvidence
    error: type[Exception] = VerificationError
    root: bytes = b""


def chained(name, failing, changes, arch=Arch.HOPPER, error=VerificationError):
    """A right device with other fields in some certificates, by their place."""
    made = gpu.changed_chain(arch, changes)
    evidence = gpu.evidence(arch, chain=gpu.pem(made))
    return Case(name=name, failing=failing, evidence=evidence, error=error, root=gpu.root_sha256(made))


def stated(name, failing, arch=Arch.HOPPER, error=VerificationError, **parts):
    """A right device, but for the parts that are given."""
    return Case(name=name, failing=failing, evidence=gpu.evidence(arch, **parts), error=error)


def signed(arch, **changes):
    """A report with other opaque entries, by number; None takes one out."""
    changed = {int(number[1:]): data for number, data in changes.items()}
    kept = [(n, changed.pop(n, data)) for n, data in gpu.OPAQUE[arch]]
    return gpu.report(arch, [(n, data) for n, data in [*kept, *changed.items()] if data is not None])


def report_cases():
    hopper, nonce, arch = gpu.report(Arch.HOPPER), Check.GPU_EVIDENCE_NONCE, Check.GPU_EVIDENCE_ARCH
    yield stated("trailing byte", Check.GPU_REPORT_FORMAT, error=MalformedEvidence, report=hopper + b"\0")
    yield stated("a switch stated to be a GPU", arch, report=gpu.report(Arch.LS10))
    yield stated("a GPU stated to be a switch", arch, Arch.LS10, report=hopper)
    yield stated("a chip of Blackwell stated to be Hopper", arch, report=gpu.report(Arch.BLACKWELL))
    rubin = signed(Arch.BLACKWELL, _35=b"GR100\0")
    yield stated("a chip of no known architecture", arch, Arch.BLACKWELL, report=rubin)
    yield stated("another nonce stated", nonce, nonce=bytes(32))
    yield stated("another nonce signed", nonce, report=gpu.report(Arch.HOPPER, nonce=bytes(32)))
    body = hopper[:-96]
    signature = Check.GPU_REPORT_SIGNATURE
    yield stated("signed by a stranger", signature, report=body + gpu.sign(body, gpu.key(99)))
    yield stated("signed by the BROM", signature, report=body + gpu.sign(body, gpu.key(1)))
    yield stated("signature over the response alone", signature, report=body + gpu.sign(body[37:], gpu.key(0)))
    yield stated("signature of zeros", signature, report=body + bytes(96))
    swapped = hopper[-48:] + hopper[-96:-48]
    yield stated("r and s swapped", signature, report=body + swapped)
    moved = bytearray(body)
    moved[60] ^= 1
    yield stated("a measurement changed", signature, report=bytes(moved) + hopper[-96:])
    for arch_ in (Arch.HOPPER, Arch.BLACKWELL):
        other = signed(arch_, _20=bytes(48))
        yield stated(f"another FWID in the report of {arch_}", Check.GPU_FWID, arch_, report=other)
    yield stated("a FWID that no certificate has", Check.GPU_FWID, Arch.LS10, report=signed(Arch.LS10, _20=bytes(48)))


def form_cases():
    form = {"failing": Check.GPU_CHAIN_FORMAT, "error": MalformedEvidence}
    right = gpu.right_chain(Arch.HOPPER)
    yield stated("no certificates", **form, chain=b"")
    yield stated("no PEM", **form, chain=b"certificate")
    yield stated("broken base64", **form, chain=gpu.pem(right).replace(b"MII", b"M=I", 1))
    yield stated("nine certificates", **form, chain=gpu.pem(right + right[:4]))
    for n in range(5):
        p256 = gpu.key(50 + n, ec.SECP256R1)
        yield chained(f"P-256 key, {n}", Check.GPU_CHAIN_FORMAT, {n: {"key": p256}}, error=MalformedEvidence)
        sha256 = {n: {"hash": SHA256()}}
        yield chained(f"SHA-256, {n}", Check.GPU_CHAIN_FORMAT, sha256, error=MalformedEvidence)
    unknown = {3: {"extensions": {"1.2.3": b"\x05\0"}, "critical": True}}
    yield chained("unknown critical extension", Check.GPU_CHAIN_FORMAT, unknown, error=MalformedEvidence)
    for name, value in {
        "bare hash": gpu.composite(FWID)[-48:],
        "another hash algorithm": gpu.composite(FWID).replace(b"\x04\x02\x02\x04\x30", b"\x04\x02\x01\x04\x30"),
        "47 bytes": gpu.composite(FWID[:47]),
        "another version": gpu.composite(FWID).replace(b"\x02\x01\x01", b"\x02\x01\x02", 1),
    }.items():
        changes = {0: {"extensions": {gpu.COMPOSITE: value}}}
        yield chained(f"FWID: {name}", Check.GPU_CHAIN_FORMAT, changes, error=MalformedEvidence)
    both = {gpu.COMPOSITE: gpu.composite(FWID), gpu.TCB_INFO: gpu.tcb_info(FWID)}
    yield chained("two firmwares", Check.GPU_CHAIN_FORMAT, {0: {"extensions": both}}, error=MalformedEvidence)


def chain_cases():
    right, fields = gpu.right_chain(Arch.HOPPER), gpu.chain_fields(Arch.HOPPER)
    length, issuer, role = Check.GPU_CHAIN_LENGTH, Check.GPU_CHAIN_ISSUER, Check.GPU_CHAIN_ROLE
    signature, pinned, model = Check.GPU_CHAIN_SIGNATURE, Check.GPU_ROOT_PINNED, Check.GPU_CHAIN_MODEL
    for wrong in (right[:1], right[4:], right[:4], right[1:], (*right, right[-1])):
        yield stated(f"{len(wrong)} certificates, {right.index(wrong[0])} first", length, chain=gpu.pem(wrong))
    # The attack on a verifier that trusts whatever comes last: a whole hierarchy of the attacker's own.
    own = [replace(part, key=gpu.key(200 + n), signer=gpu.key(min(201 + n, 204))) for n, part in enumerate(fields)]
    body = gpu.report(Arch.HOPPER)[:-96]
    forged = {"report": body + gpu.sign(body, gpu.key(200)), "chain": gpu.pem([*map(gpu.certificate, own)])}
    yield stated("a stranger's hierarchy", pinned, **forged)
    for n in range(4):
        changes = {n: {"issuer": "TEST Another CA"}}
        yield chained(f"another issuer, {n}", issuer, changes)
        yield chained(f"signed by a stranger, {n}", signature, {n: {"signer": gpu.key(99)}})
    order = (right[0], right[2], right[1], *right[3:])
    yield stated("another order", issuer, chain=gpu.pem(order))
    # What the root itself signed is not a device's just because the names fit.
    above = {0: {"signer": gpu.key(4)}}
    yield chained("a leaf that the root signed", signature, above)
    yield chained("a leaf that signs certificates", role, {0: {"usage": DATA | SIGN}})
    yield chained("a leaf that signs nothing", role, {0: {"usage": frozenset({"key_agreement"})}})
    yield chained("a leaf that is a CA", role, {0: {"ca": True}})
    for n in range(1, 5):
        yield chained(f"no CA, {n}", role, {n: {"ca": False}})
        yield chained(f"no constraints, {n}", role, {n: {"ca": None}})
        yield chained(f"may not sign certificates, {n}", role, {n: {"usage": DATA}})
    for n in range(2, 5):
        yield chained(f"path too long, {n}", role, {n: {"path_length": n - 2}})
    for leaf, brom in (
        ("GB100 A01 GSP FMC LF", fields[1].subject),
        (fields[0].subject, "GB100 A01 GSP BROM"),
        ("FMC LF of a GH100", fields[1].subject),
        ("TEST GH100", "TEST BROM"),
        ("GB100 A01 GSP FMC LF", "GB100 A01 GSP BROM"),
    ):
        yield chained(f"{leaf} below {brom}", model, {0: {"subject": leaf, "issuer": brom}, 1: {"subject": brom}})
    hopper = gpu.pem(right)
    blackwell = signed(Arch.BLACKWELL, _35=None)
    yield stated("certificates of Hopper for Blackwell", model, Arch.BLACKWELL, report=blackwell, chain=hopper)
    yield stated("certificates of a GPU for a switch", model, Arch.LS10, chain=hopper)
    switch = gpu.pem(gpu.right_chain(Arch.LS10))
    yield stated("certificates of a switch for a GPU", model, chain=switch)
    for n in range(5):
        early, late = {n: {"not_before": AT + SECOND}}, {n: {"not_after": AT - SECOND}}
        yield chained(f"not yet valid, {n}", Check.GPU_CHAIN_NOT_YET_VALID, early)
        yield chained(f"expired, {n}", Check.GPU_CHAIN_EXPIRED, late)


CASES = [*report_cases(), *form_cases(), *chain_cases()]


def trust(case):
    return GpuTrust(simulated_roots=ROOTS | {case.root})


@pytest.mark.parametrize("arch", list(Arch))
def test_a_right_device_is_genuine_and_simulated(arch):
    device = verify_gpu_report(gpu.evidence(arch), trust=GpuTrust(simulated_roots=ROOTS), at=AT, subject="X")
    assert device.simulated
    assert device.chain.chip == gpu.CHIPS[arch].replace("_", "")
    assert device.chain.pdi == bytes(range(1, 9))
    assert device.chain.root_sha256 == gpu.root_sha256(gpu.right_chain(arch))
    statuses = {result.id: result.status for result in device.checks}
    assert statuses.pop(Check.GPU_FWID) is (Status.SKIP if arch is Arch.LS10 else Status.PASS)
    assert set(statuses.values()) == {Status.PASS}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_device_is_refused_by_the_one_check_that_is_about_its_fault(case):
    with pytest.raises(case.error) as caught:
        verify_gpu_report(case.evidence, trust=trust(case), at=AT, subject="GPU-7")
    if isinstance(caught.value, VerificationError):
        assert caught.value.failed.id is case.failing
        assert caught.value.failed.subject == "GPU-7"
        assert [result.status for result in caught.value.checks].count(Status.FAIL) == 1
    else:
        assert caught.value.check is case.failing
        assert str(caught.value).startswith("GPU-7: ")


def test_a_path_length_that_is_just_long_enough_is_accepted():
    for n in range(1, 5):
        made = gpu.changed_chain(Arch.HOPPER, {n: {"path_length": n - 1}})
        known = GpuTrust(simulated_roots=ROOTS | {gpu.root_sha256(made)})
        assert verify_gpu_report(gpu.evidence(Arch.HOPPER, chain=gpu.pem(made)), trust=known, at=AT)


def test_every_check_of_a_device_has_a_case_that_fails_by_it():
    assert len({case.name for case in CASES}) == len(CASES)
    device = verify_gpu_report(gpu.evidence(Arch.HOPPER), trust=GpuTrust(simulated_roots=ROOTS), at=AT)
    ran = {result.id for result in device.checks}
    assert ran == {case.failing for case in CASES}
    wanted = ("gpu.report.", "gpu.evidence.", "gpu.chain.", "gpu.root.pinned")
    assert {check for check in Check if check.startswith(wanted) or check is Check.GPU_FWID} == ran


def test_simulated_roots_are_none_of_ours_unless_the_policy_names_them():
    for arch in Arch:
        with pytest.raises(VerificationError) as caught:
            verify_gpu_report(gpu.evidence(arch), trust=GpuTrust(), at=AT)
        assert caught.value.failed.id is Check.GPU_ROOT_PINNED


def test_the_cache_of_signatures_does_not_outlive_the_trust_or_the_time():
    evidence = gpu.evidence(Arch.HOPPER, chain=gpu.pem(gpu.changed_chain(Arch.HOPPER, {2: {"not_after": AT}})))
    assert verify_gpu_report(evidence, trust=GpuTrust(simulated_roots=ROOTS), at=AT)
    with pytest.raises(VerificationError) as caught:
        verify_gpu_report(evidence, trust=GpuTrust(simulated_roots=ROOTS), at=AT + SECOND)
    assert caught.value.failed.id is Check.GPU_CHAIN_EXPIRED
    with pytest.raises(VerificationError) as caught:
        verify_gpu_report(evidence, trust=GpuTrust(), at=AT)
    assert caught.value.failed.id is Check.GPU_ROOT_PINNED


def test_a_signature_that_failed_fails_again_and_one_that_held_holds_for_its_certificate_alone():
    gpu_chain._signed_by.cache_clear()
    bad = gpu.evidence(Arch.HOPPER, chain=gpu.pem(gpu.changed_chain(Arch.HOPPER, {2: {"signer": gpu.key(99)}})))
    good = gpu.evidence(Arch.HOPPER)
    known = GpuTrust(simulated_roots=ROOTS)
    for _ in range(2):
        assert verify_gpu_report(good, trust=known, at=AT)
        with pytest.raises(VerificationError) as caught:
            verify_gpu_report(bad, trust=known, at=AT)
        assert caught.value.failed.id is Check.GPU_CHAIN_SIGNATURE


def test_a_second_device_pays_for_its_own_two_certificates_only(monkeypatch):
    verified = []

    def count(*parts):
        verified.append(parts)
        return True

    monkeypatch.setattr(gpu_chain, "verify_der", count)
    gpu_chain._signed_by.cache_clear()
    second = {0: {"serial": 77}, 1: {"serial": 0x41 << 64 | 9}}
    for chain, paid in ((gpu.right_chain(Arch.HOPPER), 4), (gpu.changed_chain(Arch.HOPPER, second), 2)):
        verified.clear()
        verify_chain(chain, Arch.HOPPER, trust=GpuTrust(simulated_roots=ROOTS), at=AT, checks=Checklist())
        assert len(verified) == paid
    gpu_chain._signed_by.cache_clear()


def test_an_end_of_validity_is_still_valid_and_windows_can_be_looked_at_again():
    ends = {1: {"not_before": AT}, 3: {"not_after": AT}}
    evidence = gpu.evidence(Arch.HOPPER, chain=gpu.pem(gpu.changed_chain(Arch.HOPPER, ends)))
    device = verify_gpu_report(evidence, trust=GpuTrust(simulated_roots=ROOTS), at=AT)
    (window,) = device.chain.windows
    assert (window.not_before, window.not_after) == (AT, AT)
    for at, check in ((AT - SECOND, Check.GPU_CHAIN_NOT_YET_VALID), (AT + SECOND, Check.GPU_CHAIN_EXPIRED)):
        with pytest.raises(VerificationError) as caught:
            window.require(Checklist(), at)
        assert caught.value.failed.id is check


@pytest.mark.parametrize("serial", [7, 0x50 << 64 | 1, 0x41, 1 << 80, 0x41 << 72])
def test_a_serial_number_that_holds_no_pdi_gives_none(serial):
    evidence = gpu.evidence(Arch.HOPPER, chain=gpu.pem(gpu.changed_chain(Arch.HOPPER, {1: {"serial": serial}})))
    assert verify_gpu_report(evidence, trust=GpuTrust(simulated_roots=ROOTS), at=AT).chain.pdi is None


def test_a_report_without_firmware_identifier_is_genuine_and_says_that_nothing_was_compared():
    evidence = gpu.evidence(Arch.HOPPER, report=signed(Arch.HOPPER, _20=None))
    device = verify_gpu_report(evidence, trust=GpuTrust(simulated_roots=ROOTS), at=AT)
    assert [result.status for result in device.checks if result.id is Check.GPU_FWID] == [Status.SKIP]


def test_zero_padding_is_accepted_only_where_it_is_asked_for_and_is_not_signed():
    evidence = gpu.evidence(Arch.HOPPER, report=gpu.report(Arch.HOPPER) + bytes(100))
    device = verify_gpu_report(evidence, trust=GpuTrust(simulated_roots=ROOTS), at=AT, zero_padding=True)
    assert device.report.raw == gpu.evidence(Arch.HOPPER).report[:-96] + device.report.signature
    with pytest.raises(MalformedEvidence):
        verify_gpu_report(evidence, trust=GpuTrust(simulated_roots=ROOTS), at=AT)


def test_nobody_else_makes_a_verified_device():
    device = verify_gpu_report(gpu.evidence(Arch.HOPPER), trust=GpuTrust(simulated_roots=ROOTS), at=AT)
    with pytest.raises(TypeError):
        VerifiedDevice(
            report=device.report,
            chain=device.chain,
            evidence=device.evidence,
            checks=(),
            at=AT,
            subject="",
            token=object(),
        )


def test_a_time_without_zone_is_a_mistake():
    with pytest.raises(ValueError, match="time zone"):
        verify_gpu_report(gpu.evidence(Arch.HOPPER), trust=GpuTrust(), at=datetime(2026, 7, 1))


@pytest.mark.parametrize(
    ("chip", "arch"),
    [("GH100", Arch.HOPPER), ("GB202", Arch.BLACKWELL), ("LS10", Arch.LS10), ("GR100", None), ("", None), ("G", None)],
)
def test_a_chip_is_of_one_architecture_or_of_none(chip, arch):
    assert arch_of(chip) is arch


def test_the_utc_times_of_the_generator_are_read_as_written():
    device = verify_gpu_report(gpu.evidence(Arch.HOPPER), trust=GpuTrust(simulated_roots=ROOTS), at=AT)
    for certificate in device.chain.certificates:
        assert (certificate.not_before, certificate.not_after) == (datetime(2023, 1, 1, tzinfo=UTC), gpu.ALWAYS)


def test_importing_the_verifier_of_devices_loads_no_library():
    script = (
        "import dokimos.verifier.gpu, sys\n"
        "heavy = {'cryptography', 'lxml', 'cbor2', 'requests', 'pynvml', 'socket'} & sys.modules.keys()\n"
        "print(sorted(heavy))"
    )
    ran = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True)
    assert (ran.stdout, ran.stderr) == ("[]\n", "")
