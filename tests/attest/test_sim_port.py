"""The simulated secure processor over its port: a pair of pseudo-terminals stands in for virtio-serial."""

from __future__ import annotations

import os
import socket
import threading
import tty
from pathlib import Path

import pytest

from dokimos.attest import sim_port
from dokimos.attest.host import detect
from dokimos.attest.provider import Quote
from dokimos.attest.sim_guest import SimPortGpus, SimPortProvider, SimPortTd, find_gpus, find_port
from dokimos.attest.sim_nvidia import SimulatedNvidia
from dokimos.attest.sim_port import Tee
from dokimos.attest.sim_tdx import SimulatedTdx
from dokimos.attest.simulator import SimulatedPlatform
from dokimos.cvm_image.secure_processor import SecureProcessor
from dokimos.endorsements.collateral_bundle import parse_collateral
from dokimos.errors import MalformedEvidence, MaterialUnavailable, UsageError
from dokimos.evidence.bundle import MAX_COLLATERAL, MAX_EVENT_LOG
from dokimos.evidence.gpu_report import parse_gpu_report
from dokimos.evidence.snp import parse_report
from dokimos.evidence.tdx import QUOTE_MAX, parse_quote

DIGEST = bytes(range(48))


@pytest.fixture
def guest(tmp_path):
    return SimulatedPlatform(tmp_path / "state", product="Genoa").launch(DIGEST)


@pytest.fixture
def processor(tmp_path, guest):
    with SecureProcessor(guest, tmp_path / "sp") as serving:
        yield serving, tmp_path / "sp"


@pytest.fixture
def td(tmp_path):
    registers = (bytes([1]) * 48, bytes([2]) * 48, bytes([3]) * 48, bytes(48))
    return SimulatedTdx(tmp_path / "state").launch(DIGEST, registers, event_log=b"log")


@pytest.fixture
def td_processor(tmp_path, td):
    with SecureProcessor(td, tmp_path / "tdsp") as serving:
        yield serving, tmp_path / "tdsp"


@pytest.fixture
def port(processor):
    yield from _carried(processor[1])


@pytest.fixture
def td_port(td_processor):
    yield from _carried(td_processor[1])


def _carried(path):
    """A device that carries bytes between a guest and the secure processor's socket."""
    main, device = os.openpty()
    tty.setraw(main)
    tty.setraw(device)
    link = socket.socket(socket.AF_UNIX)
    link.connect(str(path))

    def carry(read, write):
        try:
            while data := read(4096):
                write(data)
        except OSError:
            pass

    for read, write in ((lambda n: os.read(main, n), link.sendall), (link.recv, lambda data: os.write(main, data))):
        threading.Thread(target=carry, args=(read, write), daemon=True).start()
    yield Path(os.ttyname(device))
    link.close()
    os.close(device)
    os.close(main)


def test_a_guest_gets_a_report_of_its_launch_over_its_own_data(port, processor):
    provider = SimPortProvider(port)
    for number in range(3):
        quote = provider.report(bytes([number]) * 64, vmpl=number)
        report = parse_report(quote.report)
        assert (report.measurement, report.report_data, report.vmpl) == (DIGEST, bytes([number]) * 64, number)
        assert quote.cert_table
    assert processor[0].answered == 3
    assert provider.simulated


def test_wrong_questions_are_the_callers_mistake(port):
    provider = SimPortProvider(port)
    for data, vmpl in ((b"", 0), (bytes(63), 0), (bytes(64), 4)):
        with pytest.raises(UsageError):
            provider.report(data, vmpl=vmpl)


def test_a_td_gets_a_quote_of_its_launch_over_its_own_data(td_port, td_processor, td):
    platform = SimPortTd(td_port)
    for number in range(2):
        evidence = platform.evidence(bytes([number]) * 64)
        body = parse_quote(evidence.quote).body
        assert (body.mrtd, body.report_data) == (DIGEST, bytes([number]) * 64)
        assert tuple(body.rtmrs) == td.fields.rtmrs
        assert parse_collateral(evidence.collateral)
        assert evidence.event_log == b"log"
    assert td_processor[0].answered == 2
    assert platform.simulated
    with pytest.raises(UsageError):
        platform.evidence(bytes(63))


@pytest.fixture
def gpus(tmp_path):
    return SimulatedNvidia(tmp_path / "nvidia").source()


@pytest.fixture
def gpu_port(tmp_path, gpus):
    with SecureProcessor(gpus, tmp_path / "gpus"):
        yield from _carried(tmp_path / "gpus")


def test_a_guest_gets_the_part_of_all_its_gpus_over_its_own_nonce(gpu_port, gpus):
    source = SimPortGpus(gpu_port)
    for number in range(2):
        part = source.collect(bytes([number]) * 32)
        assert [device.nonce for device in part.devices] == [bytes([number]) * 32]
        assert parse_gpu_report(part.devices[0].report).nonce == bytes([number]) * 32
        assert part.state == gpus.state
        assert part.rims
        assert part.crls
        assert part.ocsp
    with pytest.raises(UsageError):
        source.collect(bytes(31))


def test_gpus_answer_no_request_for_a_report_and_a_processor_none_for_gpus(gpu_port, port):
    with pytest.raises(MaterialUnavailable, match="refused"):
        SimPortProvider(gpu_port).report(bytes(64))
    with pytest.raises(MaterialUnavailable, match="refused"):
        SimPortGpus(port).collect(bytes(32))


def test_gpus_are_found_by_the_name_of_their_port_and_never_taken_for_a_processor(tmp_path):
    folder = tmp_path / "ports" / "vport1p2"
    folder.mkdir(parents=True)
    assert find_gpus(tmp_path / "ports") is None
    (folder / "name").write_text(f"{sim_port.GPU_PORT_NAME}\n")
    found = find_gpus(tmp_path / "ports")
    assert isinstance(found, SimPortGpus)
    assert all(find_port(tee, tmp_path / "ports") is None for tee in Tee)


def test_a_td_without_an_event_log_gets_none(tmp_path):
    td = SimulatedTdx(tmp_path / "state").launch(DIGEST, (bytes(48),) * 4)
    evidence = td.evidence(bytes(64))
    assert sim_port.parse_td_answer(sim_port.encode_td_answer(1, evidence)[sim_port.HEADER.size :]) == evidence
    assert evidence.event_log is None


def test_a_processor_answers_only_what_its_guest_is(port, td_port, processor, td_processor):
    with pytest.raises(MaterialUnavailable, match="refused"):
        SimPortTd(port).evidence(bytes(64))
    with pytest.raises(MaterialUnavailable, match="refused"):
        SimPortProvider(td_port).report(bytes(64))
    assert (processor[0].answered, td_processor[0].answered) == (0, 0)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        bytes(7),
        bytes(8),
        (1).to_bytes(4, "big") + bytes(4) + b"q",
        bytes(4) + (1).to_bytes(4, "big") + b"c",
        (1).to_bytes(4, "big") + (2).to_bytes(4, "big") + b"qc",
        (QUOTE_MAX + 1).to_bytes(4, "big") + (1).to_bytes(4, "big") + bytes(QUOTE_MAX + 2),
        (1).to_bytes(4, "big") + (MAX_COLLATERAL + 1).to_bytes(4, "big") + bytes(MAX_COLLATERAL + 2),
        (1).to_bytes(4, "big") + (1).to_bytes(4, "big") + bytes(MAX_EVENT_LOG + 3),
        b"\xff" * 20,
    ],
)
def test_an_answer_to_a_td_whose_parts_do_not_fit_is_malformed(body):
    with pytest.raises(MalformedEvidence):
        sim_port.parse_td_answer(body)


def test_a_request_of_a_td_of_another_length_is_malformed():
    for size in (0, 63, 65):
        with pytest.raises(MalformedEvidence):
            sim_port.parse_td_request(bytes(size))
    with pytest.raises(MalformedEvidence):
        sim_port.parse_header(sim_port.HEADER.pack(b"DKSP", 1, sim_port.TD_REQUEST, 0, 65))


def _answering(answers):
    """A port behind which somebody answers each request with these bytes."""
    main, device = os.openpty()
    tty.setraw(main)
    tty.setraw(device)

    def serve():
        try:
            request = b""
            while len(request) < sim_port.HEADER.size + 68:
                request += os.read(main, 4096)
            number = sim_port.parse_header(request[: sim_port.HEADER.size]).number
            os.write(main, answers(number))
        except OSError:
            pass

    threading.Thread(target=serve, daemon=True).start()
    return Path(os.ttyname(device)), (main, device)


@pytest.mark.parametrize(
    ("answers", "why"),
    [
        (lambda number: sim_port.encode_answer(number, None), "refused"),
        (lambda number: b"x" * 64, "not a frame"),
        (lambda number: sim_port.encode_answer(number + 1, Quote(bytes(1184), None)), "no answer in time"),
        (lambda number: sim_port.encode_answer(number, Quote(bytes(1184), None))[:500], "no answer in time"),
        (lambda number: sim_port.HEADER.pack(b"DKSP", 1, 2, number, 1 << 31), "not a frame"),
    ],
)
def test_a_wrong_late_or_cut_answer_is_no_report(answers, why):
    path, descriptors = _answering(answers)
    with pytest.raises(MaterialUnavailable, match=why):
        SimPortProvider(path, seconds=0.5).report(bytes(64))
    for descriptor in descriptors:
        os.close(descriptor)


def test_garbage_from_a_guest_ends_its_connection_and_not_the_processor(processor):
    serving, path = processor
    for garbage in (b"x" * 100, sim_port.HEADER.pack(b"DKSP", 1, 1, 0, 1 << 30)):
        with socket.socket(socket.AF_UNIX) as link:
            link.connect(str(path))
            link.sendall(garbage)
            assert link.recv(10) == b""
    with socket.socket(socket.AF_UNIX) as link:
        link.connect(str(path))
        link.sendall(sim_port.encode_request(5, bytes(64), 0))
        header = sim_port.parse_header(link.recv(sim_port.HEADER.size, socket.MSG_WAITALL))
    assert (header.kind, header.number) == (sim_port.ANSWER, 5)
    assert serving.answered == 1


def test_a_vmpl_that_is_none_and_an_answer_shorter_than_a_report_are_malformed():
    with pytest.raises(MalformedEvidence):
        sim_port.parse_request(sim_port.encode_request(1, bytes(64), 4)[sim_port.HEADER.size :])
    with pytest.raises(MalformedEvidence):
        sim_port.parse_answer(bytes(1183))


def test_the_port_is_found_by_its_name_and_taken_only_where_nothing_real_is(tmp_path):
    ports, device = tmp_path / "ports", tmp_path / "sev-guest"
    _named_ports(ports, "other", sim_port.PORT_NAMES[Tee.SNP])
    assert find_port(Tee.SNP, ports, tmp_path) == tmp_path / "vport0p1"
    assert find_port(Tee.TDX, ports, tmp_path) is None
    assert detect(tmp_path / "tsm", device, ports).simulated
    device.touch()
    assert not detect(tmp_path / "tsm", device, ports).simulated
    (tmp_path / "tsm").mkdir()
    assert detect(tmp_path / "tsm", device, ports).name == "configfs-tsm"
    with pytest.raises(MaterialUnavailable):
        detect(tmp_path / "none", tmp_path / "none", tmp_path / "none")


def test_the_ports_name_tells_a_guest_that_it_is_a_td(tmp_path):
    ports, device = tmp_path / "ports", tmp_path / "sev-guest"
    _named_ports(ports, sim_port.PORT_NAMES[Tee.TDX])
    assert find_port(Tee.TDX, ports, tmp_path) == tmp_path / "vport0p0"
    assert isinstance(detect(tmp_path / "tsm", device, ports), SimPortTd)
    device.touch()
    assert not detect(tmp_path / "tsm", device, ports).simulated


def _named_ports(ports, *names):
    for number, name in enumerate(names):
        folder = ports / f"vport0p{number}"
        folder.mkdir(parents=True)
        (folder / "name").write_text(f"{name}\n")
