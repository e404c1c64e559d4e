"""Simulated RIMs: built like NVIDIA's, right for xmlsec1 and lxml, believed only where a policy names the root."""

from __future__ import annotations

import base64
import hashlib
import re
import shutil
import subprocess
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from dokimos.attest.sim_gpu import BLACKWELL, ENABLED, HOPPER, HOPPER_HGX, HOPPER_OLD, LS10, SimGpu
from dokimos.attest.sim_gpu_certificate import Window, pem
from dokimos.attest.sim_gpu_pki import NvidiaPki
from dokimos.attest.sim_nvidia import SimulatedNvidia
from dokimos.attest.sim_rim import Reference, SimRim, base64_lines
from dokimos.endorsements.rim import parse_rim, rim_ids
from dokimos.endorsements.rim_store import RimStore
from dokimos.errors import Check, UsageError, VerificationError
from dokimos.evidence.gpu_arch import Arch
from dokimos.evidence.gpu_report import parse_gpu_report
from dokimos.verifier.checklist import Checklist
from dokimos.verifier.gpu import verify_gpu_report
from dokimos.verifier.gpu_compare import Outcome, compare
from dokimos.verifier.gpu_rim import verify_rim
from dokimos.verifier.trust import GpuTrust

AT = datetime(2026, 7, 1, tzinfo=UTC)
NONCE = bytes(range(32))
FIRMWARES = {"HOPPER": HOPPER, "HOPPER_OLD": HOPPER_OLD, "HGX": HOPPER_HGX, "BLACKWELL": BLACKWELL, "LS10": LS10}
PAIRS = {f"{name} {source}": (firmware, source) for name, firmware in FIRMWARES.items() for source in firmware.active}
# Numbers of active indexes: as in NVIDIA's files for these versions, or as many as their reports have values.
ACTIVE = {
    "HOPPER": {"driver": 22, "vbios": 12},
    "HOPPER_OLD": {"driver": 21, "vbios": 12},
    "HGX": {"driver": 22, "vbios": 12},
    "BLACKWELL": {"driver": 22, "vbios": 20},
    "LS10": {"bios": 31},
}
pairs = pytest.mark.parametrize(("firmware", "source"), PAIRS.values(), ids=PAIRS)


@pytest.fixture(scope="module")
def pki():
    return NvidiaPki(bytes(32))


@pytest.fixture(scope="module")
def trust(pki):
    return GpuTrust(simulated_roots=pki.root_sha256s)


def verified(data, trust, at=AT):
    return verify_rim(data, trust=trust, at=at, checks=Checklist())


def refused(data, trust, at=AT):
    with pytest.raises(VerificationError) as caught:
        verified(data, trust, at)
    return caught.value.failed.id


@pairs
def test_a_rim_verifies_under_the_simulated_root_and_says_what_was_written(pki, trust, firmware, source):
    rim = SimRim.of(firmware, source)
    found = verified(rim.sign(pki), trust)
    assert found.simulated
    assert (found.rim.product, found.rim.version, found.rim.oemid) == (firmware.chip, firmware.version(source), "5703")
    assert found.rim.active == {index: firmware.golden(index) for index in firmware.active[source]}
    assert len(found.rim.measurements) == (31 if source == "bios" else 64)


@pairs
def test_a_policy_that_does_not_name_the_root_refuses_it(pki, firmware, source):
    data = SimRim.of(firmware, source).sign(pki)
    device_root = frozenset({hashlib.sha256(pki.root.der).digest()})
    for roots in (frozenset(), device_root, NvidiaPki(b"\1" * 32).root_sha256s):
        assert refused(data, GpuTrust(simulated_roots=roots)) is Check.GPU_RIM_ROOT_PINNED


@pairs
def test_xmlsec_takes_a_rim_and_refuses_an_altered_one(pki, firmware, source, tmp_path, loud_skip):
    tool = shutil.which("xmlsec1")
    if tool is None:
        loud_skip("xmlsec1 is not installed: RIMs NOT compared with it", "simulated RIMs")
    data = SimRim.of(firmware, source).sign(pki)
    (tmp_path / "root.pem").write_bytes(pem(pki.rim_root.der))
    command = [tool, "--verify", "--trusted-pem", "root.pem", "--enabled-key-data", "x509", "rim.xml"]
    altered = data.replace(b'active="True"', b'active="False"', 1)
    other = NvidiaPki(b"\1" * 32)
    for content, root, good in ((data, pki, True), (altered, pki, False), (data, other, False)):
        (tmp_path / "rim.xml").write_bytes(content)
        (tmp_path / "root.pem").write_bytes(pem(root.rim_root.der))
        ran = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
        assert (ran.returncode == 0) is good, ran.stderr


@pairs
def test_lxml_canonicalises_a_rim_to_the_very_bytes_that_the_writer_hashed(pki, firmware, source):
    signed = parse_rim(SimRim.of(firmware, source).sign(pki))
    assert signed.digest == signed.actual_digest
    assert len(signed.certificates) == 4


REAL = [
    ("hopper-545.00-full-positive", "driver_rim.xml", Arch.HOPPER),
    ("hopper-545.00-full-positive", "vbios_rim.xml", Arch.HOPPER),
    ("nvswitch-ls10-full-positive", "bios_rim.xml", Arch.LS10),
    ("rim-negative", "NV_GPU_DRIVER_GH100_550.144.03.xml", Arch.HOPPER),
]


@pytest.mark.parametrize(("folder", "name", "arch"), REAL)
def test_the_writer_makes_a_real_rim_again_and_its_canonical_form_has_the_digest_that_nvidia_signed(
    vectors, folder, name, arch
):
    data = vectors(f"nvidia/{folder}").bytes(name)
    real = parse_rim(data).rim
    rim = SimRim(
        arch=arch,
        id="replayed",
        version=real.version,
        product=real.product,
        references=tuple(
            Reference(index=m.index, active=m.active, values=m.alternatives, name=m.name) for m in real.measurements
        ),
    )

    def as_nvidia(text):
        return text.replace("SIMULATED NVIDIA Corporation", "NVIDIA Corporation").replace(rim.tag_id, real.tag_id)

    file, canonical = (as_nvidia(rim.document(canonical=form)) for form in (False, True))
    assert data.decode().startswith(file + "<ds:Signature ")
    stated = re.search(rb"<ds:DigestValue>(.*?)</ds:DigestValue>", data)[1]
    assert hashlib.sha384(f"{canonical}</SoftwareIdentity>".encode()).digest() == base64.b64decode(stated)
    # The signature's markup too: only texts may differ.
    markup = [
        re.sub(r">[^<]+<", "><", part.rstrip().partition("<ds:Signature ")[2])
        for part in (data.decode(), rim.sign(NvidiaPki(bytes(32))).decode())
    ]
    assert markup[0] == markup[1]
    certificates = parse_rim(data).certificates
    assert base64_lines(certificates[0]) in data.decode()


@pytest.mark.parametrize("name", FIRMWARES)
def test_a_device_matches_all_reference_values_of_its_own_rims(tmp_path, name):
    platform = SimulatedNvidia(tmp_path)
    device = platform.gpu(FIRMWARES[name])
    trust = GpuTrust(simulated_roots=platform.root_sha256s)
    store = RimStore.of(platform.material([device]))
    report = verify_gpu_report(device.evidence(NONCE), trust=trust, at=AT).report
    needs = rim_ids(report, device.firmware.chip)
    assert {need.source: need.id for need in needs} == device.firmware.rim_ids
    found = {need.source: verified(store.find(need)[0].data, trust).rim for need in needs}
    assert {source: len(rim.active) for source, rim in found.items()} == ACTIVE[name]
    comparison = compare(report, found)
    assert comparison.holds
    # Index 35 does not count while the video decoder is off, which only GPUs have.
    assert comparison.indexes(Outcome.SKIPPED) == (() if name == "LS10" else (35,))
    assert len(comparison.indexes(Outcome.MATCHED)) == sum(ACTIVE[name].values()) - (name != "LS10")


def compared(firmware, change, rims=None):
    device = SimGpu(NvidiaPki(bytes(32)), firmware, bytes(8))
    change(device)
    pki = NvidiaPki(bytes(32))
    found = rims or {source: SimRim.of(firmware, source) for source in firmware.active}
    read = {source: parse_rim(rim.sign(pki)).rim for source, rim in found.items()}
    return compare(parse_gpu_report(device.report(NONCE)), read)


def test_a_register_that_something_else_was_measured_into_does_not_match():
    for index in (3, 25, 35):
        comparison = compared(HOPPER, lambda device, n=index: device.measure(n, b"other firmware"))
        assert comparison.indexes(Outcome.MISMATCHED) == (() if index == 35 else (index,))

    def with_the_decoder(device):
        device.nvdec0 = ENABLED
        device.measure(35, b"other firmware")

    comparison = compared(HOPPER, with_the_decoder)
    assert comparison.indexes(Outcome.MISMATCHED) == (35,)


def test_every_alternative_of_a_reference_value_matches():
    for value in HOPPER.golden(12):
        comparison = compared(HOPPER, lambda device, v=value: device.measurements.__setitem__(12, v))
        assert comparison.holds
    assert len(set(HOPPER.golden(12))) == 4


def test_another_issue_of_a_rim_has_its_id_but_another_signer_and_one_other_value(pki, trust):
    first = SimRim.vbios(HOPPER)
    second = first.reissue()
    before, after = (verified(rim.sign(pki), trust) for rim in (first, second))
    assert (before.rim.tag_id, first.id) == (after.rim.tag_id, second.id)
    assert before.chain[0].sha256 != after.chain[0].sha256
    assert before.chain[1:] == after.chain[1:]
    changed = {n for n in before.rim.active if before.rim.active[n] != after.rim.active[n]}
    assert changed == {9}
    comparison = compared(HOPPER, lambda _: None, {"driver": SimRim.driver(HOPPER), "vbios": second})
    assert comparison.indexes(Outcome.MISMATCHED) == (9,)
    with pytest.raises(UsageError):
        first.reissue(64)


def test_a_signer_counts_only_in_its_time(pki, trust):
    start = datetime(2024, 5, 20, tzinfo=UTC)
    rim = replace(SimRim.driver(HOPPER), window=Window(start, start + timedelta(days=730)))
    data = rim.sign(pki)
    assert verified(data, trust, at=start).rim.version == HOPPER.driver
    assert refused(data, trust, at=start - timedelta(days=1)) is Check.GPU_RIM_NOT_YET_VALID
    assert refused(data, trust, at=AT) is Check.GPU_RIM_EXPIRED


def test_the_signature_is_the_signers_and_over_the_whole_document(pki, trust):
    rim = SimRim.driver(HOPPER)
    chain = [entity.der for entity in rim.signers(pki)]
    assert refused(rim.write(pki.root.key, chain), trust) is Check.GPU_RIM_SIGNATURE
    altered = rim.sign(pki).replace(b'active="True"', b'active="False"', 1)
    assert refused(altered, trust) is Check.GPU_RIM_DIGEST


def test_a_rim_is_the_same_file_each_time(pki):
    rim = SimRim.driver(BLACKWELL)
    assert rim.sign(pki) == rim.sign(NvidiaPki(bytes(32))) != rim.sign(NvidiaPki(b"\1" * 32))


def test_a_value_with_marks_of_xml_is_written_as_text(pki, trust):
    rim = SimRim.driver(HOPPER)
    name = "<a b=\"c\">&lt; 'd'"
    changed = replace(rim, references=(replace(rim.references[0], name=name), *rim.references[1:]))
    assert verified(changed.sign(pki), trust).rim.measurements[0].name == name


def test_a_source_that_the_firmware_has_no_rim_of_is_refused():
    for make in (SimRim.bios, lambda firmware: SimRim.of(firmware, "x")):
        with pytest.raises(UsageError):
            make(HOPPER)
    with pytest.raises(UsageError):
        SimRim.driver(LS10)
