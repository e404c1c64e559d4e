"""``measurements.json``: what it holds for SEV-SNP and TDX, what it refuses, and what moved between two of them."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from dokimos.errors import MalformedEvidence, UnsupportedEvidence
from dokimos.measurements.image import (
    Change,
    Measurements,
    explain,
    format_measurements,
    parse_measurements,
    snp_measurements,
)
from dokimos.measurements.image_tdx import PCI_WINDOW, QEMU, TdxHost, image_launch, tdx_image
from dokimos.measurements.mrtd import PageOrder
from dokimos.measurements.rtmr import AcpiTables
from dokimos.measurements.synthetic_ovmf import TDX_MARKS, synthetic_ovmf, synthetic_tdvf
from dokimos.measurements.synthetic_pe import synthetic_kernel
from dokimos.measurements.tdx import tdx_measurements

_KERNEL, _INITRD, _LINE = synthetic_kernel(), b"initrd" * 100, "console=ttyS0 quiet"
_FIRMWARE = synthetic_tdvf()


def _host(vcpus: int, memory: int, **changes: object) -> TdxHost:
    named = f"{vcpus} x {memory}".encode()
    acpi = AcpiTables(**{"loader": b"loader", "rsdp": b"rsdp", "tables": named, "placed": True, **changes})
    return TdxHost(vcpus=vcpus, memory=memory, acpi=acpi, fw_cfg={})


_HOSTS = [_host(vcpus, memory) for vcpus in (1, 2) for memory in (1024, 4096)]


def _tdx(**changes):
    base = {
        "firmware": _FIRMWARE,
        "kernel": _KERNEL,
        "initrd": _INITRD,
        "command_line": _LINE,
        "machine": "pc",
        "hosts": _HOSTS,
    }
    return tdx_image(**{**base, **changes})


def _both(**changes):
    files = {"kernel": _KERNEL, "initrd": _INITRD, "command_line": _LINE}
    snp = snp_measurements(firmware=synthetic_ovmf(), vcpus=[1], vcpu_types=["EPYC-v4"], **{**files, **changes})
    return Measurements(snp=snp, tdx=_tdx(**changes))


BOTH = _both()


def test_every_machine_has_the_registers_that_its_launch_has():
    for host, row in zip(_HOSTS, BOTH.tdx.machines, strict=True):
        launch = image_launch(firmware=_FIRMWARE, kernel=_KERNEL, initrd=_INITRD, command_line=_LINE, host=host)
        found = tdx_measurements(launch)
        assert (row.vcpus, row.memory) == (host.vcpus, host.memory)
        assert (row.rtmr0, row.rtmr1, row.rtmr2) == (found.rtmr0.hex(), found.rtmr1.hex(), found.rtmr2.hex())
        assert BOTH.tdx.mrtd == found.mrtd.hex() == found.mrtd_single_pass.hex()
        assert found.order is PageOrder.SINGLE_PASS
    rows = BOTH.tdx.machines
    assert len({row.rtmr0 for row in rows}) == len(rows), "processors and memory are in RTMR0"
    assert len({(row.rtmr1, row.rtmr2) for row in rows}) == 1, "and in no other register"


def test_nothing_is_called_confirmed_that_no_real_td_has_shown():
    assert set(map(str, vars_of(BOTH.tdx.basis))) == {"computed"}
    known = _tdx(hosts=[_host(1, 1024, placed=False)])
    assert known.basis.rtmr0 == "confirmed on real logs"
    assert (QEMU, PCI_WINDOW) == ((10, 1), (1 << 46) - (1 << 43))


def vars_of(record):
    return [getattr(record, name) for name in record.__slots__]


def test_an_open_register_stays_open_in_the_document():
    image = _tdx(hosts=[_host(1, 1024, tables=None)])
    assert (image.machines[0].rtmr0, image.basis.rtmr0) == (None, "open")
    assert parse_measurements(format_measurements(replace(BOTH, tdx=image))).tdx == image


def test_firmware_that_measures_no_boot_is_no_firmware_for_a_td():
    with pytest.raises(UnsupportedEvidence, match="TdTcg2Dxe"):
        _tdx(firmware=synthetic_tdvf(marks=TDX_MARKS[1:]))
    with pytest.raises(MalformedEvidence, match="not built for TDX"):
        _tdx(firmware=synthetic_ovmf())


def test_the_document_reads_back_with_and_without_tdx():
    assert parse_measurements(format_measurements(BOTH)) == BOTH
    snp = replace(BOTH, tdx=None)
    text = format_measurements(snp)
    assert json.loads(text)["tdx"] is None
    assert parse_measurements(text) == snp


def _set(path, value):
    def change(document):
        *parts, last = path
        for part in parts:
            document = document[part]
        if value is None:
            del document[last]
        else:
            document[last] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        _set(["tdx"], []),
        _set(["tdx"], {}),
        _set(["tdx", "mrtd"], None),
        _set(["tdx", "mrtd"], "xyz"),
        _set(["tdx", "mrtd"], 5),
        _set(["tdx", "extra"], "x"),
        _set(["tdx", "firmware_sha256"], "11"),
        _set(["tdx", "basis"], "computed"),
        _set(["tdx", "basis", "rtmr3"], "computed"),
        _set(["tdx", "basis", "mrtd"], 1),
        _set(["tdx", "machines"], []),
        _set(["tdx", "machines"], {}),
        _set(["tdx", "machines", 0], "row"),
        _set(["tdx", "machines", 0, "rtmr0"], "00"),
        _set(["tdx", "machines", 0, "rtmr0"], False),
        _set(["tdx", "machines", 0, "memory"], "1024"),
        _set(["tdx", "machines", 0, "vcpus"], True),
        _set(["tdx", "machines"], [{}] * 4097),
        _set(["snp"], "snp"),
        _set(["snp", "digests"], []),
        _set(["snp", "digests", 0, "launch_digest"], "00"),
        _set(["schema"], "dokimos.measurements/v2"),
        _set(["gpu"], None),
    ],
)
def test_a_document_of_another_form_is_refused(change):
    document = json.loads(format_measurements(BOTH))
    change(document)
    with pytest.raises(MalformedEvidence, match="measurements"):
        parse_measurements(json.dumps(document))


def test_what_moved_is_named():
    assert explain(BOTH, BOTH) == ()
    machines = [f"{vcpus} x {memory} MiB" for vcpus in (1, 2) for memory in (1024, 4096)]
    line = {change.what for change in explain(BOTH, _both(command_line="other"))}
    assert line == {"command_line", "digest 1 x EPYC-v4", *(f"RTMR2 {machine}" for machine in machines)}
    kernel = {change.what for change in explain(BOTH, _both(kernel=synthetic_kernel(tag=b"other")))}
    assert kernel == {"kernel", "digest 1 x EPYC-v4", *(f"RTMR1 {machine}" for machine in machines)}
    firmware = replace(BOTH, tdx=_tdx(firmware=synthetic_tdvf(tag=b"other")))
    assert {change.what for change in explain(BOTH, firmware)} == {"TDX firmware", "MRTD"}
    other = replace(BOTH, tdx=_tdx(hosts=[_host(1, 1024, loader=b"other"), *_HOSTS[1:]]))
    assert {change.what for change in explain(BOTH, other)} == {"RTMR0 1 x 1024 MiB"}
    gone = explain(BOTH, replace(BOTH, tdx=None))
    assert Change(what="MRTD", old=BOTH.tdx.mrtd, new=None) in gone
    assert {change.new for change in gone} == {None}
