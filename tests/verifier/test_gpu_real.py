"""Every real report and chain of an NVIDIA device gives what its manifest says of it."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from dokimos.endorsements.gpu_certificate import parse_gpu_certificate, split_chain
from dokimos.endorsements.nvidia_anchors import DEVICE_ROOT_SHA256, DEVICE_ROOT_SPKI_SHA256
from dokimos.endorsements.p384 import verify_raw
from dokimos.errors import Check, MalformedEvidence, Status, VerificationError
from dokimos.evidence.gpu_arch import Arch, Kind
from dokimos.evidence.gpu_evidence import GpuEvidence, parse_gpu_evidence
from dokimos.verifier.checklist import Checklist
from dokimos.verifier.gpu import verify_gpu_report
from dokimos.verifier.gpu_chain import verify_chain
from dokimos.verifier.trust import GpuTrust

AT = datetime(2026, 7, 1, tzinfo=UTC)
TRUST = GpuTrust()
SINGLE = (
    "hopper-545.00-full-positive",
    "hopper-550.90.07-vs-wrong-rims",
    "hopper-535.86.09",
    "hopper-580.95.05-trailing-byte",
    "blackwell-575.32",
    "nvswitch-ls10-full-positive",
)
FWID_STATUS = {"match": Status.PASS, "absent": Status.SKIP}


def single(vectors, name):
    """Evidence and manifest of a set with one device."""
    found = vectors(f"nvidia/{name}")
    expected = found.manifest["expected"]
    data = bytes.fromhex(found.bytes("report.hex").decode())
    made = GpuEvidence(
        arch=Arch(expected["architecture"]),
        nonce=bytes.fromhex(expected["nonce"]),
        report=data,
        chain=found.bytes("chain.pem"),
    )
    return made, expected


def hgx(vectors):
    """The twelve devices of the one machine."""
    found = vectors("nvidia/ppcie-hgx-8gpu-4switch")
    files = ("gpu_evidence.json", "switch_evidence.json")
    return [device for name in files for device in parse_gpu_evidence(found.bytes(name))]


@pytest.mark.parametrize("name", SINGLE)
def test_a_real_device_is_genuine_and_says_what_its_manifest_says(vectors, name):
    evidence, expected = single(vectors, name)
    padded = "trailing" in name
    device = verify_gpu_report(evidence, trust=TRUST, at=AT, zero_padding=padded)
    report, leaf = device.report, device.chain.certificates[0]
    assert {expected["checks"][name] for name in ("signature", "chain", "nonce")} == {"pass"}
    assert len(evidence.report) == expected["report_size"]
    assert len(report.raw) == len(evidence.report) - (1 if padded else 0)
    assert len(report.measurements) == expected["measurement_blocks"]
    assert report.driver_version == expected.get("driver_version")
    assert report.vbios_version == expected.get("vbios_version", expected.get("bios_version"))
    assert report.opaque_version == expected.get("opaque_data_version")
    assert (device.ueid, device.hwmodel) == (expected["device_serial"], expected["hwmodel_cn"])
    assert len(device.chain.certificates) == expected["chain_length"]
    assert device.chain.root_sha256 == bytes.fromhex(expected["device_root_sha256"]) == DEVICE_ROOT_SHA256
    assert not device.simulated
    assert [result.status for result in device.checks if result.id is Check.GPU_FWID] == [
        FWID_STATUS[expected["checks"]["fwid"]]
    ]
    assert (leaf.tcb_info is not None) == (expected["fwid_extension"] == "2.23.133.5.4.1.1")


def test_blackwells_firmware_identifier_is_the_first_of_two(vectors):
    evidence, _ = single(vectors, "blackwell-575.32")
    device = verify_gpu_report(evidence, trust=TRUST, at=AT)
    leaf = device.chain.certificates[0]
    info = leaf.tcb_info
    assert info.fwids == (device.report.fwid, bytes(48))
    assert leaf.fwid == device.report.fwid
    assert (info.vendor, info.model, info.version) == ("NVIDIA", "GB100 A01 GSP", "01")
    assert (info.svn, info.layer, info.index) == (1, 0, 0)
    assert (info.flags, info.flags_raw) == ({"not_configured"}, 0x80000001)


def test_the_trailing_byte_is_refused_with_its_number(vectors):
    evidence, expected = single(vectors, "hopper-580.95.05-trailing-byte")
    assert (expected["verdict"], expected["reason"]) == ("reject", "trailing-bytes")
    with pytest.raises(MalformedEvidence, match=r"1 bytes too many behind the report of 4129 bytes") as caught:
        verify_gpu_report(evidence, trust=TRUST, at=AT)
    assert caught.value.check is Check.GPU_REPORT_FORMAT


def test_twelve_real_devices_of_one_machine_are_genuine(vectors):
    devices = [verify_gpu_report(evidence, trust=TRUST, at=AT) for evidence in hgx(vectors)]
    assert [device.report.kind for device in devices] == [Kind.GPU] * 8 + [Kind.SWITCH] * 4
    assert [device.chain.chip for device in devices] == ["GH100"] * 8 + ["LS10"] * 4
    gpus, switches = devices[:8], devices[8:]
    pdis = {device.chain.pdi for device in gpus}
    # The serial number of a BROM's certificate is the PDI that the other kind of device knows it by.
    assert len(pdis) == 8
    assert [device.chain.pdi for device in switches] == [device.report.device_pdi for device in switches]
    assert all(set(device.report.gpu_pdis) == pdis for device in switches)
    named = {device.chain.pdi[::-1] for device in switches}
    assert all(set(device.report.switch_pdis) - {bytes(8)} == named for device in gpus)
    assert {device.report.feature_flag for device in gpus} == {2}
    assert {device.report.protected_pcie for device in gpus} == {0xAA}
    assert {device.report.lock_switch for device in switches} == {1}


CASES = {
    "complete": None,
    "root-only": Check.GPU_CHAIN_LENGTH,
    "missing-intermediate": Check.GPU_CHAIN_LENGTH,
    "missing-leaf": Check.GPU_CHAIN_LENGTH,
}


@pytest.mark.parametrize("name", CASES)
def test_a_chain_that_lacks_a_certificate_is_refused(vectors, name):
    found = vectors("nvidia/trustee-cert-chain-cases")
    (case,) = [case for case in found.manifest["expected"]["cases"] if case["id"] == name]
    assert (case["verdict"] == "accept") == (CASES[name] is None)
    certificates = split_chain(found.bytes(case["files"]["chain"]))
    at = datetime.fromisoformat(case["at"])
    if CASES[name] is None:
        chain = verify_chain(certificates, Arch.HOPPER, trust=TRUST, at=at, checks=Checklist())
        assert chain.certificates[0].fwid.hex() == found.manifest["expected"]["fwid"]
        return
    with pytest.raises(VerificationError) as caught:
        verify_chain(certificates, Arch.HOPPER, trust=TRUST, at=at, checks=Checklist())
    assert caught.value.failed.id is CASES[name]


def test_a_missing_certificate_made_up_for_by_another_one_breaks_the_line_of_issuers(vectors):
    certificates = split_chain(single(vectors, "hopper-550.90.07-vs-wrong-rims")[0].chain)
    for gap in range(1, 4):
        filled = (*certificates[:gap], *certificates[gap + 1 :], certificates[-1])
        with pytest.raises(VerificationError) as caught:
            verify_chain(filled, Arch.HOPPER, trust=TRUST, at=AT, checks=Checklist())
        assert caught.value.failed.id is Check.GPU_CHAIN_ISSUER
    without_leaf = (*certificates[1:], certificates[-1])
    with pytest.raises(VerificationError) as caught:
        verify_chain(without_leaf, Arch.HOPPER, trust=TRUST, at=AT, checks=Checklist())
    # The root is its own issuer, so only its role and that of the BROM show what is missing.
    assert caught.value.failed.id is Check.GPU_CHAIN_ROLE


def test_a_real_chain_of_another_device_does_not_vouch_for_a_report(vectors):
    evidence, _ = single(vectors, "hopper-550.90.07-vs-wrong-rims")
    other, _ = single(vectors, "hopper-535.86.09")
    mixed = GpuEvidence(arch=evidence.arch, nonce=evidence.nonce, report=evidence.report, chain=other.chain)
    with pytest.raises(VerificationError) as caught:
        verify_gpu_report(mixed, trust=TRUST, at=AT)
    assert caught.value.failed.id is Check.GPU_REPORT_SIGNATURE


def test_real_certificates_of_another_architecture_are_refused(vectors):
    evidence, _ = single(vectors, "blackwell-575.32")
    hopper, _ = single(vectors, "hopper-535.86.09")
    mixed = GpuEvidence(arch=Arch.BLACKWELL, nonce=evidence.nonce, report=evidence.report, chain=hopper.chain)
    with pytest.raises(VerificationError) as caught:
        verify_gpu_report(mixed, trust=TRUST, at=AT)
    assert caught.value.failed.id is Check.GPU_CHAIN_MODEL


def test_a_real_chain_is_not_valid_before_its_youngest_certificate(vectors):
    evidence, _ = single(vectors, "hopper-545.00-full-positive")
    with pytest.raises(VerificationError, match="Provisioner ICA 1' of the device's chain is not yet valid") as caught:
        verify_gpu_report(evidence, trust=TRUST, at=datetime(2022, 2, 28, 23, 59, 59, tzinfo=UTC))
    assert caught.value.failed.id is Check.GPU_CHAIN_NOT_YET_VALID
    assert verify_gpu_report(evidence, trust=TRUST, at=datetime(2022, 3, 1, tzinfo=UTC))
    assert verify_gpu_report(evidence, trust=TRUST, at=datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC))


def test_every_flipped_byte_of_the_signed_region_breaks_the_signature(vectors):
    for name in ("hopper-580.95.05-trailing-byte", "nvswitch-ls10-full-positive"):
        evidence, _ = single(vectors, name)
        device = verify_gpu_report(evidence, trust=TRUST, at=AT, zero_padding=True)
        point, report = device.chain.certificates[0].public_point, device.report
        assert verify_raw(point, report.signature, report.signed)
        flipped = bytearray(report.signed)
        for n in range(len(flipped)):
            flipped[n] ^= 1 << n % 8
            assert not verify_raw(point, report.signature, bytes(flipped)), n
            flipped[n] ^= 1 << n % 8


def test_every_flipped_byte_of_the_signature_breaks_it(vectors):
    evidence, _ = single(vectors, "blackwell-575.32")
    device = verify_gpu_report(evidence, trust=TRUST, at=AT)
    point, report = device.chain.certificates[0].public_point, device.report
    for n in range(96):
        flipped = bytearray(report.signature)
        flipped[n] ^= 1 << n % 8
        assert not verify_raw(point, bytes(flipped), report.signed), n


def test_openssl_finds_the_same_signatures_good(vectors, loud_skip, tmp_path):
    openssl = shutil.which("openssl")
    if openssl is None:
        loud_skip("no openssl", "signatures of reports against an oracle")
    everything = [(*single(vectors, name), name) for name in SINGLE] + [
        (device, None, "hgx") for device in hgx(vectors)
    ]
    for evidence, _, name in everything:
        device = verify_gpu_report(evidence, trust=TRUST, at=AT, zero_padding=True)
        report, leaf = device.report, device.chain.certificates[0]
        (tmp_path / "leaf.der").write_bytes(leaf.raw)
        key = [openssl, "x509", "-inform", "DER", "-in", "leaf.der", "-noout", "-pubkey"]
        (tmp_path / "key.pem").write_bytes(subprocess.run(key, cwd=tmp_path, check=True, capture_output=True).stdout)
        r, s = (int.from_bytes(half, "big") for half in (report.signature[:48], report.signature[48:]))
        (tmp_path / "signature").write_bytes(encode_dss_signature(r, s))
        for data, verdict in ((report.signed, 0), (report.signed[:-1] + b"!", 1)):
            (tmp_path / "data").write_bytes(data)
            check = [openssl, "dgst", "-sha384", "-verify", "key.pem", "-signature", "signature", "data"]
            assert subprocess.run(check, cwd=tmp_path, check=False, capture_output=True).returncode == verdict, name


def test_the_pinned_device_root_is_the_one_in_every_real_chain(vectors):
    for name in SINGLE:
        root = parse_gpu_certificate(split_chain(single(vectors, name)[0].chain)[-1], "root")
        assert root.sha256 == DEVICE_ROOT_SHA256
        assert hashlib.sha256(root.spki).digest() == DEVICE_ROOT_SPKI_SHA256
        assert root.subject == root.issuer


def test_every_check_of_a_real_device_is_recorded_once_under_its_name(vectors):
    evidence, _ = single(vectors, "hopper-550.90.07-vs-wrong-rims")
    device = verify_gpu_report(evidence, trust=TRUST, at=AT, subject="GPU-3")
    ids = [result.id for result in device.checks]
    assert len(ids) == len(set(ids))
    assert {result.subject for result in device.checks} == {"GPU-3"}
    assert {result.status for result in device.checks} == {Status.PASS}
