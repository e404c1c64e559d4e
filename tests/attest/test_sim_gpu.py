"""Simulated GPUs and switches write what real ones do byte for byte; only a policy that names a root believes it."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from dokimos.attest import sim_gpu_certificate as certificates
from dokimos.attest.sim_gpu import (
    BLACKWELL,
    ENABLED,
    FIRMWARE,
    HOPPER,
    HOPPER_HGX,
    HOPPER_OLD,
    LS10,
    MPT,
    PPCIE,
    SimGpu,
    write_signed,
)
from dokimos.attest.sim_gpu_pki import NvidiaPki
from dokimos.attest.sim_nvidia import SimulatedNvidia
from dokimos.endorsements.gpu_certificate import parse_gpu_certificate, split_chain
from dokimos.errors import Check, MaterialUnavailable, UsageError, VerificationError
from dokimos.evidence.gpu_arch import Arch, Kind
from dokimos.evidence.gpu_report import parse_gpu_report, serialize_gpu_report
from dokimos.verifier.gpu import verify_gpu_report
from dokimos.verifier.trust import GpuTrust

AT = datetime(2026, 7, 1, tzinfo=UTC)
NONCE = bytes(range(32))
ALL = {"HOPPER": HOPPER, "HOPPER_OLD": HOPPER_OLD, "HOPPER_HGX": HOPPER_HGX, "BLACKWELL": BLACKWELL, "LS10": LS10}
firmwares = pytest.mark.parametrize("firmware", ALL.values(), ids=ALL)


PKI = NvidiaPki(bytes(32))


@pytest.fixture(scope="module")
def pki():
    return PKI


@pytest.fixture(scope="module")
def trust(pki):
    return GpuTrust(simulated_roots=pki.root_sha256s)


def device(pki, firmware, **options):
    return SimGpu(pki, firmware, b"\1\2\3\4\5\6\7\x08", **options)


def shape(report):
    """Everything of a report but values: opaque entries with their sizes, indexes, forms of blocks, total size."""
    entries = [(entry.type, len(entry.data)) for entry in report.opaque]
    return len(report.raw), entries, [(m.index, m.spec, m.value_type) for m in report.measurements]


def real_report(vectors, name):
    data = bytes.fromhex(vectors(f"nvidia/{name}").bytes("report.hex").decode())
    size = 79 + int.from_bytes(data[42:45], "little")
    return data[: size + int.from_bytes(data[size - 2 : size], "little") + 96]


REAL = {
    "hopper-580.95.05-trailing-byte": HOPPER,
    "blackwell-575.32": replace(BLACKWELL, driver="575.32", opaque_version=0),
    "nvswitch-ls10-full-positive": LS10,
}


@pytest.mark.parametrize("name", REAL)
def test_a_simulated_report_has_the_shape_of_a_real_one(vectors, pki, name):
    theirs = parse_gpu_report(real_report(vectors, name))
    # Real firmware of the switch counts 26 registers there, later ones 27, as the simulated one does.
    tlvs = {12: bytes(104)} if name.startswith("nvswitch") else None
    ours = parse_gpu_report(device(pki, REAL[name]).report(NONCE, tlvs=tlvs))
    assert shape(ours) == shape(theirs)
    constant = {4, 13, 14, 15, 16, 17, 18, 19, 6} if theirs.kind is Kind.GPU else {23, 25}
    if name.startswith("hopper"):
        constant -= {6}
    assert {n: ours.entry(n) for n in constant} == {n: theirs.entry(n) for n in constant}
    zeros = [[m.index for m in report.measurements if not any(m.value)] for report in (theirs, ours)]
    if theirs.kind is Kind.GPU:
        assert zeros[0] == zeros[1]


@pytest.mark.parametrize(
    "name", [*REAL, "hopper-545.00-full-positive", "hopper-550.90.07-vs-wrong-rims", "hopper-535.86.09"]
)
def test_the_writer_makes_a_real_report_again_byte_for_byte(vectors, name):
    raw = real_report(vectors, name)
    report = parse_gpu_report(raw)
    made = write_signed(
        nonce=report.nonce,
        measurements=[m.value for m in report.measurements],
        responder_nonce=report.responder_nonce,
        tlvs=[(entry.type, entry.data) for entry in report.opaque],
    )
    assert made == raw[:-96]


@firmwares
def test_a_report_says_what_the_device_is_and_reads_back_to_the_same_bytes(pki, firmware):
    raw = device(pki, firmware).report(NONCE)
    report = parse_gpu_report(raw, firmware.kind)
    assert serialize_gpu_report(report) == raw
    assert (report.nonce, report.driver_version or "") == (NONCE, firmware.driver)
    assert report.vbios_version == firmware.vbios
    assert [m.value for m in report.measurements] == firmware.measured()
    assert not report.unknown_types
    if firmware.kind is Kind.GPU:
        found = (report.project, report.project_sku, report.chip_sku, report.nvdec0)
        assert found == (firmware.project, firmware.project_sku, firmware.chip_sku, 0x55)
        assert report.fwid == (firmware.fwid if firmware.has_fwid else None)


@settings(deadline=None, max_examples=40)
@given(
    firmware=st.sampled_from(list(ALL.values())),
    values=st.dictionaries(st.integers(0, 30), st.binary(min_size=48, max_size=48)),
    tlvs=st.dictionaries(st.integers(37, 254), st.binary(max_size=64), max_size=8),
)
def test_whatever_a_device_is_set_to_reads_back_and_verifies(firmware, values, tlvs):
    made = device(PKI, firmware)
    raw = made.report(NONCE, measurements=values, tlvs=tlvs)
    evidence = replace(made.evidence(NONCE), report=raw)
    report = verify_gpu_report(evidence, trust=GpuTrust(simulated_roots=PKI.root_sha256s), at=AT).report
    assert serialize_gpu_report(report) == raw
    assert all(report.value(index) == value for index, value in values.items())
    assert all(report.entry(number) == data for number, data in tlvs.items())


@firmwares
def test_openssl_takes_the_signature_of_a_report(pki, firmware, tmp_path, loud_skip):
    if shutil.which("openssl") is None:
        loud_skip("openssl is not installed: reports NOT compared with it", "simulated reports")
    made = device(pki, firmware)
    raw = made.report(NONCE)
    r, s = (int.from_bytes(raw[at : at + 48], "big") for at in (len(raw) - 96, len(raw) - 48))
    (tmp_path / "sig").write_bytes(encode_dss_signature(r, s))
    (tmp_path / "data").write_bytes(raw[:-96])
    leaf = x509.load_der_x509_certificate(made.entities[0].der)
    (tmp_path / "key").write_bytes(leaf.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    command = ["openssl", "dgst", "-sha384", "-verify", "key", "-signature", "sig", "data"]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).stdout == b"Verified OK\n"
    (tmp_path / "data").write_bytes(raw[:-97] + bytes((raw[-97] ^ 1,)))
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode != 0


@firmwares
def test_it_verifies_under_the_simulated_root(pki, trust, firmware):
    made = device(pki, firmware)
    verified = verify_gpu_report(made.evidence(NONCE), trust=trust, at=AT)
    assert verified.simulated
    assert verified.chain.pdi == made.pdi
    assert verified.chain.chip == firmware.chip
    assert verified.report.nonce == NONCE


@firmwares
def test_a_policy_that_does_not_name_the_root_refuses_it(pki, firmware):
    rim_root = frozenset({hashlib.sha256(pki.rim_root.der).digest()})
    for roots in (frozenset(), rim_root, NvidiaPki(bytes(31) + b"\1").root_sha256s):
        with pytest.raises(VerificationError) as caught:
            verify_gpu_report(device(pki, firmware).evidence(NONCE), trust=GpuTrust(simulated_roots=roots), at=AT)
        assert caught.value.failed.id is Check.GPU_ROOT_PINNED


def test_a_certificate_for_other_firmware_than_the_report_is_refused(pki, trust):
    other = device(pki, HOPPER, fwid=b"\7" * 48)
    with pytest.raises(VerificationError) as caught:
        verify_gpu_report(other.evidence(NONCE), trust=trust, at=AT)
    assert caught.value.failed.id is Check.GPU_FWID


@pytest.mark.parametrize(
    ("flag", "name"),
    [
        (certificates.NOT_CONFIGURED, "not_configured"),
        (certificates.NOT_SECURE, "not_secure"),
        (certificates.RECOVERY, "recovery"),
        (certificates.DEBUG, "debug"),
    ],
)
def test_the_flags_of_blackwells_firmware_stand_in_its_certificate(pki, flag, name):
    info = parse_gpu_certificate(device(pki, BLACKWELL, flags=flag).entities[0].der, "leaf").tcb_info
    assert info.flags == {name}
    assert info.fwids == (BLACKWELL.fwid, bytes(48))


def test_every_setting_of_a_device_stands_in_its_signed_report(pki, trust):
    made = device(pki, HOPPER_HGX)
    made.nvdec0, made.feature_flag, made.protected_pcie = ENABLED, PPCIE, ENABLED
    made.switch_pdis = (b"\1\2\3\4\5\6\7\x08", bytes(8)) * 9
    made.measure(21, b"what no RIM knows")
    report = verify_gpu_report(made.evidence(NONCE), trust=trust, at=AT).report
    assert (report.nvdec0, report.feature_flag, report.protected_pcie) == (0xAA, 2, 0xAA)
    assert report.switch_pdis == (b"\x08\7\6\5\4\3\2\1", bytes(8)) * 9
    assert report.value(21) == made.measurements[21] != HOPPER_HGX.golden(21)[0]
    assert report.entry(12)[84:88] == b"\2\0\0\0"
    changed = parse_gpu_report(made.report(NONCE, measurements={3: b"\5" * 48}, tlvs={36: None, 200: b"new"}))
    assert (changed.value(3), changed.feature_flag, changed.unknown_types) == (b"\5" * 48, None, (200,))
    assert changed.opaque[-1].type == 200
    made.feature_flag = MPT
    assert parse_gpu_report(made.report(NONCE)).feature_flag == 1
    switch = device(pki, LS10)
    switch.lock = 0
    assert parse_gpu_report(switch.report(NONCE)).lock_switch == 0


CHAINS = {
    "hopper-545.00-full-positive": Arch.HOPPER,
    "blackwell-575.32": Arch.BLACKWELL,
    "nvswitch-ls10-full-positive": Arch.LS10,
}


@pytest.mark.parametrize("name", CHAINS)
def test_its_certificates_are_built_like_real_ones(vectors, pki, name):
    real = split_chain(vectors(f"nvidia/{name}").bytes("chain.pem"))
    made = device(pki, FIRMWARE[CHAINS[name]])
    for theirs, ours in zip(map(x509.load_der_x509_certificate, real), made.entities, strict=True):
        found = ours.certificate
        for certificate in (theirs, found):
            assert certificate.not_valid_after_utc == datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
        assert [(e.oid, e.critical) for e in found.extensions] == [(e.oid, e.critical) for e in theirs.extensions]
        assert [part.oid for part in found.subject] == [part.oid for part in theirs.subject]
        assert found.subject.rfc4514_string().count("SIMULATED") >= 1
        cn = [c.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value for c in (theirs, found)]
        assert cn[1].removeprefix("SIMULATED ") == cn[0]
        usage = [c.extensions.get_extension_for_class(x509.KeyUsage).value for c in (theirs, found)]
        assert usage[0] == usage[1]
    assert made.entities[1].certificate.serial_number.to_bytes(9, "big")[1:] == made.pdi


def test_both_forms_of_the_firmwares_id_are_written_as_nvidia_writes_them(vectors):
    blackwell, hopper = (
        [x509.load_der_x509_certificate(der) for der in split_chain(vectors(f"nvidia/{name}").bytes("chain.pem"))]
        for name in ("blackwell-575.32", "hopper-545.00-full-positive")
    )
    theirs = [chain[0].extensions[-1].value.value for chain in (blackwell, hopper)]
    fwid = parse_gpu_certificate(blackwell[0].public_bytes(Encoding.DER), "leaf").fwid
    flags = certificates.NOT_CONFIGURED | certificates.TCB_INFO_REST
    assert certificates.dice_tcb_info("GB100 A01 GSP", (fwid, bytes(48)), flags) == theirs[0]
    fwid = parse_gpu_certificate(hopper[0].public_bytes(Encoding.DER), "leaf").fwid
    assert certificates.composite_device_id(hopper[1], fwid) == theirs[1]


def test_the_roots_stay_the_same_and_another_folder_has_others(tmp_path):
    first, again, other = (SimulatedNvidia(tmp_path / name) for name in ("a", "a", "b"))
    assert first.root_sha256s == again.root_sha256s
    assert first.gpu().entities[0].der == again.gpu().entities[0].der
    assert not first.root_sha256s & other.root_sha256s
    secret = tmp_path / "a/NVIDIA/platform.secret"
    assert (secret.stat().st_mode & 0o777, secret.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    secret.write_bytes(b"short")
    with pytest.raises(MaterialUnavailable, match="damaged"):
        _ = SimulatedNvidia(tmp_path / "a").root_sha256s


def test_values_of_another_size_are_refused(pki):
    with pytest.raises(UsageError):
        SimGpu(pki, HOPPER, bytes(7))
    with pytest.raises(UsageError):
        device(pki, HOPPER, fwid=bytes(47))
    with pytest.raises(UsageError):
        device(pki, HOPPER).report(bytes(31))
    with pytest.raises(UsageError):
        device(pki, HOPPER).measure(64, b"")
    with pytest.raises(UsageError):
        HOPPER.golden(63)


def test_the_source_of_a_guest_gives_evidence_of_all_devices_with_its_state(tmp_path):
    platform = SimulatedNvidia(tmp_path)
    source = platform.source([platform.gpu(number=n) for n in range(2)])
    found = source.evidence(NONCE)
    assert [(device.arch, device.nonce) for device in found] == [(Arch.HOPPER, NONCE)] * 2
    assert found[0].chain != found[1].chain
    assert source.guest_state().driver_version == HOPPER.driver
    part = source.collect(NONCE)
    assert (len(part.devices), len(part.rims), len(part.crls)) == (2, 2, 4)
    assert part.state == source.guest_state()
    with pytest.raises(UsageError):
        platform.source([])


def test_a_guest_hands_out_fresh_lists_and_answers_when_they_age_or_a_certificate_is_revoked(tmp_path):
    now = [AT]
    platform = SimulatedNvidia(tmp_path, clock=lambda: now[0])
    source = platform.source()
    first = source.collect(NONCE)
    assert source.collect(NONCE).ocsp == first.ocsp
    now[0] += timedelta(hours=1)
    aged = source.collect(NONCE)
    assert aged.ocsp != first.ocsp
    assert aged.rims == first.rims
    platform.revocation.revoke(source.devices[0].entities[1])
    assert source.collect(NONCE).ocsp != aged.ocsp
    source.devices.append(platform.gpu(BLACKWELL))
    assert len(source.collect(NONCE).rims) == 4
