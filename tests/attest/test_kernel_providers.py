"""configfs-tsm and /dev/sev-guest against stand-ins for the kernel; neither is confirmed on hardware."""

from __future__ import annotations

import ctypes
import errno
import struct

import pytest

from dokimos.attest import sev_guest, tsm
from dokimos.attest.host import HostPlatform, TdPlatform, detect, endorsements_of
from dokimos.attest.sev_guest import SevGuestProvider
from dokimos.attest.sim_tdx import SimulatedTdx
from dokimos.attest.simulator import SimulatedPlatform
from dokimos.attest.tsm import TsmProvider, TsmTdProvider
from dokimos.cvm_image.simulated_launch import launch_tdx
from dokimos.cvm_image.stand_in import stand_in_td
from dokimos.errors import MalformedEvidence, MaterialUnavailable, UnsupportedEvidence, UsageError
from dokimos.evidence.ccel import parse_ccel, replay
from dokimos.evidence.cert_table import VCEK, encode_cert_table
from dokimos.evidence.snp import SigningKey
from dokimos.evidence.tdx import parse_quote

_DATA = bytes(range(64))


@pytest.fixture(scope="module")
def guest(tmp_path_factory):
    return SimulatedPlatform(tmp_path_factory.mktemp("sim"), product="Genoa").launch(bytes(48))


class Kernel:
    """configfs-tsm as the kernel behaves: attributes appear with the folder, generation counts writes."""

    def __init__(self, guest, provider=b"sev_guest\n"):
        self.guest = guest
        self.provider = provider
        self.folders = {}
        self.made = 0
        self.disturb = 0
        self.errors = {}
        self.aux = True

    def _fail(self, operation):
        if self.errors.get(operation):
            raise self.errors[operation].pop(0)

    def mkdir(self, folder):
        self._fail("mkdir")
        assert folder not in self.folders
        self.made += 1
        self.folders[folder] = {"generation": 0, "inblob": b"", "privlevel": b""}

    def rmdir(self, folder):
        del self.folders[folder]

    def write(self, path, data):
        self._fail("write")
        request = self.folders[path.parent]
        assert path.name in ("inblob", "privlevel")
        request[path.name] = data
        request["generation"] += 1

    def read(self, path, limit):
        self._fail(path.name)
        request = self.folders[path.parent]
        if path.name == "provider":
            return self.provider
        if path.name == "generation":
            return b"%d\n" % request["generation"]
        quote = self.guest.report(request["inblob"], vmpl=int(request["privlevel"]))
        if path.name == "outblob":
            if self.disturb:
                self.disturb -= 1
                request["generation"] += 1
            return quote.report[:limit]
        assert path.name == "auxblob"
        if not self.aux:
            raise OSError(errno.ENOENT, "no such attribute")
        return quote.cert_table[:limit]


def test_a_report_over_configfs_is_whole_and_leaves_no_request_behind(guest, tmp_path):
    kernel = Kernel(guest)
    quote = TsmProvider(tmp_path, kernel).report(_DATA, vmpl=2)
    assert quote.report[0x50:0x90] == _DATA
    assert quote.report[0x30] == 2
    assert endorsements_of(quote.cert_table, SigningKey.VCEK) == guest.endorsements()
    assert kernel.folders == {}
    kernel.aux = False
    assert TsmProvider(tmp_path, kernel).report(_DATA).cert_table is None


def test_a_request_that_another_disturbs_is_made_again_and_given_up_in_the_end(guest, tmp_path):
    kernel = Kernel(guest)
    kernel.disturb = 2
    assert TsmProvider(tmp_path, kernel).report(_DATA).report[0x50:0x90] == _DATA
    assert kernel.made == 3
    kernel.disturb = 99
    with pytest.raises(MaterialUnavailable, match="disturbed"):
        TsmProvider(tmp_path, kernel).report(_DATA)
    assert kernel.folders == {}


def test_a_busy_kernel_is_asked_again_and_another_error_is_told(guest, tmp_path):
    kernel = Kernel(guest)
    kernel.errors["outblob"] = [OSError(errno.EBUSY, "busy")]
    assert TsmProvider(tmp_path, kernel).report(_DATA).report
    for operation in ("mkdir", "write", "outblob", "generation"):
        kernel.errors[operation] = [OSError(errno.EACCES, "not allowed")]
        with pytest.raises(MaterialUnavailable, match="not allowed"):
            TsmProvider(tmp_path, kernel).report(_DATA)
        assert kernel.folders == {}


class TdKernel(Kernel):
    """configfs-tsm in a TD: no privilege level, no certificate table, quotes from the host's service."""

    def __init__(self, td):
        super().__init__(td, provider=b"tdx_guest\n")
        self.aux = False
        self.garbage = None

    def write(self, path, data):
        assert path.name == "inblob"
        super().write(path, data)

    def read(self, path, limit):
        if path.name != "outblob":
            return super().read(path, limit) if path.name != "auxblob" else b""
        self._fail("outblob")
        request = self.folders[path.parent]
        if self.disturb:
            self.disturb -= 1
            request["generation"] += 1
        return (self.garbage or self.guest.quote(request["inblob"]))[:limit]


@pytest.fixture(scope="module")
def td(tmp_path_factory):
    return SimulatedTdx(tmp_path_factory.mktemp("tdx")).launch(bytes(48), (bytes(48),) * 4)


def test_a_quote_of_a_td_is_whole_carries_the_data_and_leaves_no_request_behind(td, tmp_path):
    kernel = TdKernel(td)
    assert parse_quote(TsmTdProvider(tmp_path, kernel).quote(_DATA)).body.report_data == _DATA
    kernel.disturb = 1
    assert TsmTdProvider(tmp_path, kernel).quote(_DATA)
    kernel.disturb = 99
    with pytest.raises(MaterialUnavailable, match="disturbed"):
        TsmTdProvider(tmp_path, kernel).quote(_DATA)
    assert kernel.folders == {}


def test_what_is_no_quote_or_of_another_request_is_never_taken(td, tmp_path):
    kernel = TdKernel(td)
    kernel.garbage = b"\x04\0" + bytes(100)
    with pytest.raises(MaterialUnavailable, match="no quote"):
        TsmTdProvider(tmp_path, kernel).quote(_DATA)
    kernel.garbage = td.quote(bytes(64))
    with pytest.raises(MaterialUnavailable, match="disturbed"):
        TsmTdProvider(tmp_path, kernel).quote(_DATA)
    with pytest.raises(UsageError):
        TsmTdProvider(tmp_path, kernel).quote(bytes(63))


def test_a_td_and_an_snp_guest_are_not_taken_for_each_other(td, guest, tmp_path):
    with pytest.raises(UnsupportedEvidence, match="tdx_guest"):
        TsmProvider(tmp_path, TdKernel(td)).report(_DATA)
    with pytest.raises(UnsupportedEvidence, match="sev_guest"):
        TsmTdProvider(tmp_path, Kernel(guest)).quote(_DATA)


def test_a_guest_of_another_technology_is_unsupported(guest, tmp_path):
    with pytest.raises(UnsupportedEvidence, match="tdx_guest"):
        TsmProvider(tmp_path, Kernel(guest, b"tdx_guest\n")).report(_DATA)


def test_without_configfs_there_is_no_report(tmp_path):
    with pytest.raises(MaterialUnavailable):
        TsmProvider(tmp_path / "nowhere").report(_DATA)


class Device:
    """/dev/sev-guest: reads and writes the structures by their addresses, as the driver does."""

    def __init__(self, guest, table_size=0x5000):
        self.guest = guest
        self.table_size = table_size
        self.status = 0
        self.no_extended = False
        self.broken = False
        self.calls = []

    def __call__(self, descriptor, operation, call):
        assert descriptor >= 0
        assert ctypes.sizeof(call) == 32
        assert call.msg_version == 1
        self.calls.append(operation)
        if self.broken or (self.no_extended and operation == sev_guest.SNP_GET_EXT_REPORT):
            call.exitinfo2 = 0x23
            raise OSError(errno.EIO, "firmware said no")
        raw = ctypes.string_at(call.req_data, 112 if operation == sev_guest.SNP_GET_EXT_REPORT else 96)
        quote = self.guest.report(raw[:64], vmpl=struct.unpack_from("<I", raw, 64)[0])
        if operation == sev_guest.SNP_GET_EXT_REPORT:
            address, length = struct.unpack_from("<QI", raw, 96)
            if length < self.table_size:
                request = sev_guest.ExtReportRequest.from_address(call.req_data)
                request.certs_len = self.table_size
                call.exitinfo2 = sev_guest.VMM_ERR_INVALID_LEN << 32
                raise OSError(errno.EIO, "more room")
            ctypes.memmove(address, quote.cert_table, len(quote.cert_table))
        response = struct.pack("<II24x", self.status, len(quote.report)) + quote.report
        ctypes.memmove(call.resp_data, response, len(response))


@pytest.fixture
def node(tmp_path):
    path = tmp_path / "sev-guest"
    path.write_bytes(b"")
    return path


def test_the_structures_have_the_sizes_of_the_kernels_header():
    sizes = [
        ctypes.sizeof(structure)
        for structure in (
            sev_guest.ReportRequest,
            sev_guest.ExtReportRequest,
            sev_guest.ReportResponse,
            sev_guest.GuestRequest,
        )
    ]
    assert sizes == [96, 112, 4000, 32]
    assert (sev_guest.SNP_GET_REPORT, sev_guest.SNP_GET_EXT_REPORT) == (0xC0205300, 0xC0205302)


def test_a_report_over_the_device_comes_with_its_certificates_also_where_they_need_more_room(guest, node):
    device = Device(guest)
    quote = SevGuestProvider(node, device).report(_DATA, vmpl=3)
    assert quote.report[0x50:0x90] == _DATA
    assert quote.report[0x30] == 3
    assert endorsements_of(quote.cert_table, SigningKey.VCEK) == guest.endorsements()
    assert device.calls == [sev_guest.SNP_GET_EXT_REPORT] * 2


def test_a_host_without_certificates_still_gives_a_report(guest, node):
    device = Device(guest)
    device.no_extended = True
    quote = SevGuestProvider(node, device).report(_DATA)
    assert quote.cert_table is None
    assert quote.report[0x50:0x90] == _DATA
    greedy = Device(guest, table_size=2 << 20)
    assert SevGuestProvider(node, greedy).report(_DATA).cert_table is None


def test_a_device_that_refuses_or_reports_an_error_gives_no_report(guest, node, tmp_path):
    device = Device(guest)
    device.status = 0x16
    with pytest.raises(MaterialUnavailable, match="status"):
        SevGuestProvider(node, device).report(_DATA)
    device.broken = True
    with pytest.raises(MaterialUnavailable, match="0x23"):
        SevGuestProvider(node, device).report(_DATA)
    with pytest.raises(MaterialUnavailable):
        SevGuestProvider(tmp_path / "nowhere", device).report(_DATA)


@pytest.mark.parametrize(("data", "vmpl"), [(bytes(63), 0), (bytes(65), 0), (bytes(64), 4), (bytes(64), -1)])
def test_other_sizes_and_levels_are_refused_before_the_kernel_is_asked(guest, node, tmp_path, data, vmpl):
    kernel, device = Kernel(guest), Device(guest)
    for provider in (TsmProvider(tmp_path, kernel), SevGuestProvider(node, device)):
        with pytest.raises(UsageError):
            provider.report(data, vmpl=vmpl)
    assert (kernel.made, device.calls) == (0, [])


def test_the_host_platform_takes_its_endorsements_from_the_table(guest, tmp_path):
    kernel = Kernel(guest)
    platform = HostPlatform(TsmProvider(tmp_path, kernel))
    assert platform.endorsements() == guest.endorsements()
    assert (platform.name, platform.simulated) == ("configfs-tsm", False)
    kernel.aux = False
    with pytest.raises(MaterialUnavailable, match="no certificate table"):
        HostPlatform(TsmProvider(tmp_path, kernel)).endorsements()
    table = encode_cert_table({VCEK: guest.endorsements().vek})
    with pytest.raises(MaterialUnavailable, match="VLEK"):
        endorsements_of(table, SigningKey.VLEK)


def test_a_td_gives_its_quote_with_the_event_log_of_its_firmware_and_no_collateral(tmp_path):
    launched = launch_tdx(SimulatedTdx(tmp_path / "state"), stand_in_td()).guest
    log = tmp_path / "CCEL"
    log.write_bytes(launched.event_log + b"\xff" * 4096)
    platform = TdPlatform(TsmTdProvider(tmp_path, TdKernel(launched)), log)
    evidence = platform.evidence(_DATA)
    assert parse_quote(evidence.quote).body.report_data == _DATA
    assert launched.event_log.startswith(evidence.event_log)  # without the mark of its end
    assert evidence.collateral is None
    assert replay(parse_ccel(evidence.event_log)) == launched.fields.rtmrs
    assert (platform.name, platform.simulated) == ("configfs-tsm", False)


def test_a_td_without_an_event_log_has_none_and_one_that_cannot_be_read_is_an_error(td, tmp_path):
    provider = TsmTdProvider(tmp_path, TdKernel(td))
    assert TdPlatform(provider, tmp_path / "nothing").evidence(_DATA).event_log is None
    (tmp_path / "folder").mkdir()
    with pytest.raises(MaterialUnavailable, match="event log"):
        TdPlatform(provider, tmp_path / "folder")
    (tmp_path / "noise").write_bytes(b"noise" * 100)
    with pytest.raises(MalformedEvidence):
        TdPlatform(provider, tmp_path / "noise")


def test_a_td_is_told_by_its_device(node, tmp_path, monkeypatch):
    monkeypatch.setattr(tsm, "DEFAULT_EVENT_LOG", tmp_path / "nothing")
    assert isinstance(detect(tmp_path, tmp_path / "nothing", td_device=node), TdPlatform)
    assert isinstance(detect(tmp_path, node, td_device=tmp_path / "nothing"), HostPlatform)


def test_the_interface_that_is_there_is_found(node, tmp_path):
    assert detect(tmp_path, node).name == "configfs-tsm"
    assert detect(tmp_path / "nowhere", node).name == "sev-guest"
    with pytest.raises(MaterialUnavailable, match="not a confidential guest"):
        detect(tmp_path / "nowhere", tmp_path / "nothing")
