"""The collector in front of C functions that write structures through pointers, with pynvml in between."""

from __future__ import annotations

from datetime import UTC, datetime

import pynvml
import pytest

from dokimos.attest import nvml
from dokimos.attest.attester import Attester, SnpSource
from dokimos.attest.nvml import Environment, MultiGpu, Nvml, NvmlSource, collect, display_devices, guest_state
from dokimos.attest.sim_nvml import BLACKWELL, SimDevice, SimGpus, SimNvmlLibrary, bare_report
from dokimos.attest.simulator import SimulatedPlatform
from dokimos.errors import MaterialUnavailable, UnsupportedEvidence, UsageError
from dokimos.evidence.bundle import parse_bundle
from dokimos.evidence.gpu_arch import Arch
from dokimos.evidence.gpu_evidence import encode_gpu_evidence, gpu_digest, parse_gpu_evidence
from dokimos.evidence.statement import gpu_nonce, parse_statement
from dokimos.verifier.gpu import verify_gpu_report
from dokimos.verifier.trust import GpuTrust

NONCE = bytes(range(32))
STATE = "nvmlSystemGetConfComputeState"
SETTINGS = "nvmlSystemGetConfComputeSettings"
GET_READY = "nvmlSystemGetConfComputeGpusReadyState"
SET_READY = "nvmlSystemSetConfComputeGpusReadyState"
REPORT = "nvmlDeviceGetConfComputeGpuAttestationReport"
CHAIN = "nvmlDeviceGetConfComputeGpuCertificate"


def two() -> SimGpus:
    return SimGpus(
        devices=[
            SimDevice(uuid="GPU-a", bus_id="0000:01:00.0", chain=b"chain of a"),
            SimDevice(uuid="GPU-b", bus_id="0001:c1:1f.0", architecture=BLACKWELL, chain=b"chain of b"),
        ]
    )


@pytest.fixture
def library(monkeypatch):
    made = SimNvmlLibrary(two())
    monkeypatch.setattr(pynvml, "nvmlLib", made)
    monkeypatch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})
    return made


@pytest.fixture
def system(library):
    with Nvml() as made:
        yield made


def test_evidence_comes_out_of_the_structures_as_the_device_gave_it(system):
    first, second = collect(system, NONCE)
    assert (first.arch, second.arch) == (Arch.HOPPER, Arch.BLACKWELL)
    assert first.report == second.report == bare_report(NONCE)
    assert (first.chain, second.chain) == (b"chain of a", b"chain of b")
    assert {first.nonce, second.nonce} == {NONCE}


def test_a_device_is_named_by_uuid_and_by_the_address_of_sysfs(system):
    assert [tuple(system.device(index)) for index in range(2)] == [
        (Arch.HOPPER, "GPU-a", "0000:01:00.0"),
        (Arch.BLACKWELL, "GPU-b", "0001:c1:1f.0"),
    ]


@pytest.mark.parametrize("environment", Environment)
@pytest.mark.parametrize("multi_gpu", [*MultiGpu, None])
@pytest.mark.parametrize("on", [False, True])
def test_every_mode_is_read_as_it_is(system, library, environment, multi_gpu, on):
    machine = library.machine
    machine.environment, machine.multi_gpu = environment, multi_gpu
    machine.cc_feature, machine.devtools = on, not on
    found = system.settings()
    assert (found.cc_feature, found.environment, found.devtools, found.multi_gpu) == (
        on,
        environment,
        not on,
        multi_gpu,
    )


@pytest.mark.parametrize("name", ["environment", "ccFeature", "devToolsMode", "multiGpuMode", "ready"])
def test_a_number_that_is_not_known_is_no_reason_to_guess(system, library, name):
    library.numbers[name] = 7
    with pytest.raises(MaterialUnavailable, match="7 is not a value"):
        (system.ready if name == "ready" else system.settings)()


def test_an_error_of_the_settings_is_seen_though_the_binding_does_not_look(system, library):
    library.errors[SETTINGS] = 999
    with pytest.raises(MaterialUnavailable, match="settings: an unknown error"):
        system.settings()


@pytest.mark.parametrize("fault", [3, 13, 25, "missing"])
def test_a_driver_without_the_settings_is_asked_for_the_state(system, library, fault):
    if fault == "missing":
        library.missing.add(SETTINGS)
    else:
        library.errors[SETTINGS] = fault
    assert system.settings().cc_feature
    assert system.settings().multi_gpu is None
    library.errors[STATE] = 3
    with pytest.raises(UnsupportedEvidence):
        system.settings()


def test_the_ready_state_is_set_and_read(system, library):
    assert not system.ready()
    system.set_ready(True)
    assert library.machine.is_ready
    assert system.ready()
    system.set_ready(False)
    assert not system.ready()


@pytest.mark.parametrize(
    ("code", "kind", "text"),
    [
        (3, UnsupportedEvidence, "not supported by this device in the mode"),
        (4, MaterialUnavailable, "root"),
        (9, MaterialUnavailable, "driver is not loaded"),
        (13, UnsupportedEvidence, "driver is too old"),
        (15, MaterialUnavailable, "device is lost"),
        (18, MaterialUnavailable, "different versions"),
        (77, MaterialUnavailable, "error 77"),
        (999, MaterialUnavailable, "unknown error"),
    ],
)
@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("nvmlSystemGetDriverVersion", lambda system: system.driver_version()),
        (GET_READY, lambda system: system.ready()),
        (SET_READY, lambda system: system.set_ready(True)),
        ("nvmlDeviceGetCount_v2", lambda system: system.count()),
        ("nvmlDeviceGetHandleByIndex_v2", lambda system: system.device(0)),
        ("nvmlDeviceGetArchitecture", lambda system: system.device(0)),
        ("nvmlDeviceGetUUID", lambda system: system.device(0)),
        ("nvmlDeviceGetPciInfo_v3", lambda system: system.device(0)),
        (REPORT, lambda system: system.report(0, NONCE)),
        (CHAIN, lambda system: system.chain(0)),
    ],
)
def test_an_error_of_any_call_is_a_typed_one_with_a_text(system, library, name, call, code, kind, text):
    library.errors[name] = code
    with pytest.raises(kind, match=text):
        call(system)


def test_a_gpu_without_confidential_mode_is_refused_as_unsupported(system, library):
    library.machine.cc_feature = False
    library.errors |= {REPORT: 3, CHAIN: 3}
    assert not system.settings().cc_feature
    with pytest.raises(UnsupportedEvidence, match="not supported by this device in the mode that it is in"):
        collect(system, NONCE)


@pytest.mark.parametrize("size", [0, 0x2001, 0xFFFFFFFF])
def test_a_size_beyond_the_structure_is_refused(system, library, size):
    library.report_size = size
    with pytest.raises(MaterialUnavailable, match=f"a size of {size} bytes, of 8192"):
        system.report(0, NONCE)
    library.chain_size = size
    with pytest.raises(MaterialUnavailable, match=f"a size of {size} bytes, of 5120"):
        system.chain(0)


def test_a_report_of_another_nonce_is_refused_where_it_is_collected(system, library):
    library.machine.devices[1].report = lambda nonce: bare_report(bytes(32))
    assert system.report(0, NONCE)
    with pytest.raises(MaterialUnavailable, match="another nonce"):
        collect(system, NONCE)


@pytest.mark.parametrize("size", [0, 16, 31, 33, 64])
def test_a_nonce_of_another_size_reaches_no_gpu(system, library, size):
    asked: list[str] = []
    library.machine.on_call = asked.append
    with pytest.raises(UsageError):
        collect(system, bytes(size))
    with pytest.raises(UsageError):
        system.report(0, bytes(size))
    assert asked == []


@pytest.mark.parametrize("number", [0, 8, 11, 13, 0xFFFFFFFF])
def test_an_architecture_whose_reports_are_not_verified_is_refused(system, library, number):
    library.machine.devices[0].architecture = number
    with pytest.raises(UnsupportedEvidence, match=f"architecture {number} "):
        collect(system, NONCE)


@pytest.mark.parametrize("count", [0, 65])
def test_no_device_and_more_than_can_be_attested_are_refused(system, library, count):
    library.machine.devices = [SimDevice()] * count
    with pytest.raises(MaterialUnavailable, match=f"{count} devices"):
        collect(system, NONCE)


def test_a_name_that_is_not_a_text_is_refused(system, library):
    for uuid in ("", "GPU-\x01", "GPU-\xe4", "G" * 65):
        library.machine.devices[0].uuid = uuid
        with pytest.raises(MaterialUnavailable, match="printable ASCII"):
            system.device(0)


def test_an_address_that_is_not_one_is_refused():
    for text in (b"", b"01:00.0", b"0000:01:00.8", "0000:01:00.0\n", b"\xff\xff"):
        with pytest.raises(MaterialUnavailable):
            nvml._bus_id(text)
    assert nvml._bus_id(b"00010000:0A:1F.7") == "10000:0a:1f.7"


def test_without_the_drivers_library_it_says_so(monkeypatch):
    monkeypatch.setattr(pynvml, "nvmlLib", None)
    monkeypatch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})
    monkeypatch.setattr(pynvml, "CDLL", lambda name: (_ for _ in ()).throw(OSError(name)))
    with pytest.raises(MaterialUnavailable, match=r"libnvidia-ml\.so\.1 is not there"), Nvml():
        pass


def test_without_the_extra_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pynvml", None)
    with pytest.raises(MaterialUnavailable, match="pip install"):
        Nvml()


def test_a_binding_that_is_too_old_is_said_to_be():
    class Old:
        NVMLError = pynvml.NVMLError

        def nvmlInit(self):
            return None

        def nvmlShutdown(self):
            return None

    with Nvml(Old()) as old:
        for call in (old.driver_version, old.settings, old.ready, old.count):
            with pytest.raises(UnsupportedEvidence, match="nvidia-ml-py is too old"):
                call()


def test_the_library_is_closed_at_the_end_also_where_that_fails(library):
    asked: list[str] = []
    library.machine.on_call = asked.append
    library.errors["nvmlShutdown"] = 1
    with Nvml():
        pass
    assert asked == ["nvmlInitWithFlags", "nvmlShutdown"]


def test_what_the_guest_says_is_what_nvml_says(system, library):
    library.machine.is_ready = True
    state = guest_state(system)
    assert (state.cc_feature, state.environment, state.devtools, state.ready, state.driver_version) == (
        True,
        "production",
        False,
        True,
        "580.95.05",
    )


def test_the_attesters_bundle_binds_the_gpus_evidence_both_ways(system, tmp_path):
    platform = SimulatedPlatform(tmp_path)
    guest = platform.launch(bytes(48))
    attester = Attester(
        SnpSource(guest, guest),
        key_configs=b"keys",
        runtime_config_sha256=bytes(32),
        image_sha256=bytes(32),
        gpus=NvmlSource(system, crls=(b"list",)),
    )
    bundle = parse_bundle(attester.challenge(NONCE))
    said = parse_statement(bundle.statement)
    assert bundle.gpu is not None
    assert [device.chain for device in bundle.gpu.devices] == [b"chain of a", b"chain of b"]
    assert {device.report[4:36] for device in bundle.gpu.devices} == {gpu_nonce(said)}
    assert said.gpu_digest == gpu_digest(bundle.gpu.devices, bundle.gpu.state)
    assert bundle.gpu.state == guest_state(system)
    assert bundle.gpu.crls == (b"list",)


def test_without_a_gpus_evidence_the_attester_gives_no_bundle(system, library, tmp_path):
    platform = SimulatedPlatform(tmp_path)
    guest = platform.launch(bytes(48))
    attester = Attester(
        SnpSource(guest, guest),
        key_configs=b"keys",
        runtime_config_sha256=bytes(32),
        image_sha256=bytes(32),
        gpus=NvmlSource(system),
    )
    library.errors[REPORT] = 15
    with pytest.raises(MaterialUnavailable, match="lost"):
        attester.challenge(NONCE)


def real_machine(vectors):
    """Eight real H100 as they answered once, and their evidence file."""
    evidence = parse_gpu_evidence(vectors("nvidia/ppcie-hgx-8gpu-4switch").bytes("gpu_evidence.json"))
    devices = [
        SimDevice(bus_id=f"0000:{n + 1:02x}:00.0", report=lambda nonce, one=one: one.report, chain=one.chain)
        for n, one in enumerate(evidence)
    ]
    return SimGpus(devices=devices), evidence


def test_what_real_gpus_answered_comes_through_the_structures_byte_for_byte(system, library, vectors):
    library.machine, evidence = real_machine(vectors)
    collected = collect(system, evidence[0].nonce)
    assert len(collected) == 8
    assert collected == evidence
    assert encode_gpu_evidence(collected) == encode_gpu_evidence(evidence)
    for device in collected:
        assert verify_gpu_report(device, trust=GpuTrust(), at=datetime(2026, 7, 1, tzinfo=UTC))


def test_what_real_gpus_answered_once_is_no_answer_to_another_nonce(system, library, vectors):
    library.machine, _ = real_machine(vectors)
    with pytest.raises(MaterialUnavailable, match="another nonce"):
        collect(system, NONCE)


def pci(root, address, vendor, kind):
    (root / address).mkdir(parents=True)
    (root / address / "vendor").write_text(f"{vendor}\n")
    (root / address / "class").write_text(f"{kind}\n")


def test_display_devices_of_nvidia_are_listed_whoever_drives_them(tmp_path):
    pci(tmp_path, "0000:c1:00.0", "0x10de", "0x030200")
    pci(tmp_path, "0000:01:00.0", "0x10de", "0x030000")
    pci(tmp_path, "0000:05:00.0", "0x10de", "0x038000")
    pci(tmp_path, "0000:02:00.0", "0x10de", "0x068000")  # an NVSwitch
    pci(tmp_path, "0000:03:00.0", "0x10de", "0x040300")  # sound of a graphics card
    pci(tmp_path, "0000:04:00.0", "0x1234", "0x030000")  # the hypervisor's
    assert display_devices(tmp_path) == ("0000:01:00.0", "0000:05:00.0", "0000:c1:00.0")


def test_a_bus_that_cannot_be_read_is_not_an_empty_one(tmp_path):
    with pytest.raises(MaterialUnavailable):
        display_devices(tmp_path / "nothing")
    (tmp_path / "0000:01:00.0").mkdir()
    with pytest.raises(MaterialUnavailable):
        display_devices(tmp_path)
    pci(tmp_path, "0000:02:00.0", "0x10de", "0x0302\u00e4")
    (tmp_path / "0000:01:00.0").rmdir()
    with pytest.raises(MaterialUnavailable):
        display_devices(tmp_path)


def test_the_binding_hands_the_settings_over_by_reference_only(library):
    """By value, the C function would take the structure's first word for an address."""
    import ctypes  # noqa: PLC0415

    with pytest.raises(ctypes.ArgumentError):
        pynvml.nvmlSystemGetConfComputeSettings(pynvml.c_nvmlSystemConfComputeSettings_v1_t())
