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
from dokimos.attest.sim_guest import SimPortProvider, find_port
from dokimos.attest.simulator import SimulatedPlatform
from dokimos.cvm_image.secure_processor import SecureProcessor
from dokimos.errors import MalformedEvidence, MaterialUnavailable, UsageError
from dokimos.evidence.snp import parse_report

DIGEST = bytes(range(48))


@pytest.fixture
def guest(tmp_path):
    return SimulatedPlatform(tmp_path / "state", product="Genoa").launch(DIGEST)


@pytest.fixture
def processor(tmp_path, guest):
    with SecureProcessor(guest, tmp_path / "sp") as serving:
        yield serving, tmp_path / "sp"


@pytest.fixture
def port(processor):
    """A device that carries bytes between a guest and the secure processor's socket."""
    _, path = processor
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
    for name, text in (("vport0p1", "other\n"), ("vport0p2", f"{sim_port.PORT_NAME}\n")):
        (ports / name).mkdir(parents=True)
        (ports / name / "name").write_text(text)
    assert find_port(ports, tmp_path) == tmp_path / "vport0p2"
    assert detect(tmp_path / "tsm", device, ports).simulated
    device.touch()
    assert not detect(tmp_path / "tsm", device, ports).simulated
    (tmp_path / "tsm").mkdir()
    assert detect(tmp_path / "tsm", device, ports).name == "configfs-tsm"
    with pytest.raises(MaterialUnavailable):
        detect(tmp_path / "none", tmp_path / "none", tmp_path / "none")
