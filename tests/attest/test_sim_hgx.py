"""A simulated HGX machine is wired like the real one, and each mutator breaks what it says."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime

import pytest

from dokimos.attest.sim_gpu import HOPPER_HGX, SimGpu
from dokimos.attest.sim_gpu_pki import NvidiaPki
from dokimos.attest.sim_hgx import OFF, SimHgx
from dokimos.errors import UsageError
from dokimos.evidence.gpu_arch import Kind
from dokimos.evidence.gpu_evidence import encode_gpu_evidence, parse_gpu_evidence, subjects
from dokimos.evidence.gpu_report import parse_gpu_report
from dokimos.verifier.gpu import verify_gpu_report
from dokimos.verifier.gpu_topology import Node, topology_fault
from dokimos.verifier.trust import GpuTrust

AT = datetime(2026, 7, 1, tzinfo=UTC)
NONCE = bytes(range(32))
PKI = NvidiaPki(bytes(32))


@pytest.fixture
def machine():
    return SimHgx(PKI)


def nodes(machine):
    devices = machine.evidence(NONCE)
    trust = GpuTrust(simulated_roots=PKI.root_sha256s)
    found = [verify_gpu_report(device, trust=trust, at=AT) for device in devices]
    return tuple(
        Node(subject=name, report=device.report, pdi=device.chain.pdi)
        for name, device in zip(subjects(devices), found, strict=True)
    )


def test_every_device_names_the_others_by_the_serials_of_their_certificates(machine):
    found = nodes(machine)
    assert [node.report.kind for node in found] == [Kind.GPU] * 8 + [Kind.SWITCH] * 4
    gpus, switches = found[:8], found[8:]
    for node in gpus:
        assert {pdi[::-1] for pdi in node.report.switch_pdis} == {switch.pdi for switch in switches}
        assert (node.report.feature_flag, node.report.protected_pcie) == (2, 0xAA)
    for node in switches:
        assert set(node.report.gpu_pdis) == {gpu.pdi for gpu in gpus}
        assert (node.report.device_pdi, node.report.lock_switch) == (node.pdi, 1)
    assert len({node.pdi for node in found}) == 12
    assert topology_fault(found) == ""


def test_the_real_machine_has_reports_of_the_same_shape(vectors, machine):
    folder = vectors("nvidia/ppcie-hgx-8gpu-4switch")
    made = [parse_gpu_report(device.report) for device in machine.evidence(NONCE)]
    real = [
        parse_gpu_report(base64.b64decode(entry["evidence"]))
        for name in ("gpu_evidence.json", "switch_evidence.json")
        for entry in json.loads(folder.bytes(name))
    ]
    for theirs, ours in zip(real, made, strict=True):
        assert [(e.type, len(e.data)) for e in ours.opaque] == [(e.type, len(e.data)) for e in theirs.opaque]
        assert len(ours.raw) == len(theirs.raw)
        assert [m.index for m in ours.measurements if not any(m.value)] == [
            m.index for m in theirs.measurements if not any(m.value)
        ]
        same = {3, 4, 6, 13, 14, 15, 16, 17, 18, 19, 21, 34, 36} if ours.kind is Kind.GPU else {6, 23, 25}
        assert {n: ours.entry(n) for n in same} == {n: theirs.entry(n) for n in same}


def test_its_evidence_file_reads_back(machine):
    devices = machine.evidence(NONCE)
    assert parse_gpu_evidence(encode_gpu_evidence(devices)) == devices
    assert subjects(devices)[7:9] == ("GPU-7", "SWITCH-0")


def test_a_swapped_gpu_is_none_that_the_switches_name(machine):
    machine.swap_gpu(3, SimGpu(PKI, HOPPER_HGX, b"intruder"))
    assert "SWITCH-0: it connects other GPUs" in topology_fault(nodes(machine))


def test_a_switch_shown_twice_is_missing_from_the_links(machine):
    machine.duplicate_switch(1, over=2)
    found = nodes(machine)
    assert found[9].pdi == found[10].pdi
    assert "GPU-0: its links lead to other switches" in topology_fault(found)


def test_a_link_that_is_off_is_missing_from_the_gpus_report(machine):
    machine.drop_link(5, 2)
    found = nodes(machine)
    assert found[5].report.switch_pdis.count(OFF) == 4
    assert "GPU-5: its links lead to other switches" in topology_fault(found)
    assert len(found[5].report.raw) == len(found[4].report.raw)


def test_another_machine_has_other_devices():
    pdis = [{device.pdi for device in SimHgx(PKI, number=n).devices} for n in range(2)]
    assert not pdis[0] & pdis[1]


@pytest.mark.parametrize(
    "change",
    [
        lambda machine: machine.swap_gpu(8, machine.gpus[0]),
        lambda machine: machine.duplicate_switch(0, over=4),
        lambda machine: machine.duplicate_switch(-1, over=0),
        lambda machine: machine.drop_link(0, 4),
    ],
)
def test_a_device_that_the_machine_does_not_have_is_refused(machine, change):
    with pytest.raises(UsageError):
        change(machine)
