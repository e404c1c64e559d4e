"""What QEMU is told: the same image on every platform, and a TD's devices where its ACPI tables say they are."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from dokimos.attest.sim_port import GPU_PORT_NAME, PORT_NAMES, Tee
from dokimos.cvm_image import layout
from dokimos.cvm_image.boot.arguments import TD_MACHINE, qemu_arguments, td_machine
from dokimos.cvm_image.layout import BootInfo, Manifest, VolumeInfo
from dokimos.errors import UsageError

_FOLDER, _SOCKET = Path("/image"), Path("/run/sp")
_HASH = "11" * 32


def _manifest():
    volumes = tuple(
        VolumeInfo(
            name=name,
            file=f"{name}.img",
            filesystem="erofs",
            mount="/",
            data_blocks=1,
            salt=_HASH,
            root_hash=_HASH,
            uuid="",
        )
        for name in ("root", "model")
    )
    return Manifest(
        profile="x",
        dokimos="0",
        source_date_epoch=0,
        lock_sha256=_HASH,
        profile_sha256=_HASH,
        command_line="quiet",
        boot=BootInfo(memory=1024, vcpus=2, vcpu_type="EPYC-v4", port=8443),
        volumes=volumes,
        stages=(),
        artifacts=(),
    )


def _arguments(tee, *, emulated, **changes):
    processor = _SOCKET if emulated else None
    return qemu_arguments(_FOLDER, _manifest(), port=1, secure_processor=processor, tee=tee, **changes)


def _devices(arguments):
    return [value for name, value in pairwise(arguments) if name == "-device"]


@pytest.mark.parametrize("tee", list(Tee))
@pytest.mark.parametrize("emulated", [True, False])
def test_kernel_initrd_command_line_and_disks_are_the_same_on_every_platform(tee, emulated):
    words = _arguments(tee, emulated=emulated)
    for name, value in (
        ("-kernel", f"/image/{layout.KERNEL}"),
        ("-initrd", f"/image/{layout.INITRD}"),
        ("-append", "quiet"),
        ("-smp", "2"),
        ("-m", "1024"),
    ):
        assert words[words.index(name) + 1] == value
    assert [word for word in words if word.startswith("file=/image/")] == [
        f"file=/image/{name}.img,if=none,id=disk{number},format=raw,readonly=on,cache.no-flush=on"
        for number, name in enumerate(("root", "model"))
    ]
    assert ("kvm" in words) is not emulated


def test_the_devices_of_a_td_stand_in_the_order_that_its_tables_were_made_for():
    wanted = _devices(td_machine(2))
    assert _devices(_arguments(Tee.TDX, emulated=False)) == wanted
    emulated = _devices(_arguments(Tee.TDX, emulated=True))
    assert emulated[: len(wanted)] == wanted
    assert emulated[len(wanted) :] == [
        "virtio-serial-pci,max_ports=2",
        f"virtserialport,chardev=port0,name={PORT_NAMES[Tee.TDX]}",
    ]
    assert len(_devices(td_machine(1))) == len(wanted) - 1


def test_simulated_gpus_are_a_port_more_on_the_device_that_is_there_so_that_no_table_changes():
    without = _devices(_arguments(Tee.TDX, emulated=True))
    with_gpus = _devices(_arguments(Tee.TDX, emulated=True, gpus=Path("/run/gpus")))
    assert with_gpus[:-3] == without[:-2]
    assert with_gpus[-3:] == [
        "virtio-serial-pci,max_ports=3",
        f"virtserialport,chardev=port0,name={PORT_NAMES[Tee.TDX]}",
        f"virtserialport,chardev=port1,name={GPU_PORT_NAME}",
    ]


def test_a_td_has_a_named_machine_and_the_measured_firmware():
    for emulated in (True, False):
        words = _arguments(Tee.TDX, emulated=emulated)
        assert words[words.index("-bios") + 1] == f"/image/{layout.FIRMWARE_TDX}"
        assert words[words.index("-machine") + 1].startswith(TD_MACHINE)
    assert "confidential-guest-support=tdx0" in words[words.index("-machine") + 1]
    assert any('"qom-type":"tdx-guest"' in word for word in words)
    assert TD_MACHINE.startswith("pc-q35-")
    assert td_machine(0)[:2] == ["-machine", TD_MACHINE]


def test_sev_snp_is_started_as_before():
    words = _arguments(Tee.SNP, emulated=False)
    assert words[words.index("-bios") + 1] == f"/image/{layout.FIRMWARE_SNP}"
    assert "-bios" not in _arguments(Tee.SNP, emulated=True)
    assert _devices(_arguments(Tee.SNP, emulated=True))[-1].endswith(PORT_NAMES[Tee.SNP])


def test_other_files_take_the_place_of_the_images_own():
    words = _arguments(
        Tee.TDX, emulated=True, kernel=Path("/k"), initrd=Path("/i"), command_line="x", images=[Path("/d")]
    )
    assert [words[words.index(name) + 1] for name in ("-kernel", "-initrd", "-append")] == ["/k", "/i", "x"]
    assert sum(word.startswith("file=/d,") for word in words) == 1


def test_a_path_with_a_comma_is_refused():
    with pytest.raises(UsageError, match="comma"):
        _arguments(Tee.TDX, emulated=True, images=[Path("/a,b")])
