"""Any text is a lock, a profile, a manifest, a list of files, measurements or a configuration, or a refusal."""

from __future__ import annotations

import contextlib
from pathlib import Path

from dokimos.cvm_image.layout import parse_files, parse_manifest
from dokimos.cvm_image.lock import format_lock, parse_lock
from dokimos.cvm_image.profile import parse_profile
from dokimos.cvm_image.service.guest import parse_config
from dokimos.errors import Error
from dokimos.measurements.image import parse_measurements

_HERE = Path(__file__).resolve().parents[2] / "cvm_image"
_HASH, _REGISTER = "11" * 32, "11" * 48

SEEDS: list[bytes] = [
    (_HERE / "profiles/test.toml").read_bytes(),
    b"\n".join((_HERE / "profiles/test.lock").read_bytes().splitlines()[:13]) + b"\n]\n",
    (_HERE / "overlay/cpu/etc/dokimos/service.toml").read_bytes(),
    f'{{"schema": "dokimos.image-files/v1", "files": [{{"volume": "root", "path": "/a", "type": "file", "mode": "0644",'
    f' "uid": 0, "gid": 0, "size": 1, "sha256": "{_HASH}", "target": "", "origin": "x"}}]}}'.encode(),
    f'{{"schema": "dokimos.measurements/v1", "snp": {{"firmware_sha256": "{_HASH}", "kernel_sha256": "{_HASH}",'
    f' "initrd_sha256": "{_HASH}", "command_line_sha256": "{_HASH}", "guest_features": 1, "vmm": "qemu", "digests":'
    f' [{{"vcpus": 1, "vcpu_type": "a", "launch_digest": "{_REGISTER}"}}]}}, "tdx": {{"firmware_sha256": "{_HASH}",'
    f' "machine": "a", "vmm": "qemu", "qemu": "10.1", "mrtd": "{_REGISTER}", "basis": {{"mrtd": "a", "rtmr0": "a",'
    f' "rtmr1": "a", "rtmr2": "a"}}, "machines": [{{"vcpus": 1, "memory": 1, "rtmr0": null, "rtmr1": "{_REGISTER}",'
    f' "rtmr2": "{_REGISTER}"}}]}}, "gpu": null}}'.encode(),
    f'{{"schema": "dokimos.image/v1", "profile": "a", "dokimos": "0", "source_date_epoch": 1, "lock_sha256": "{_HASH}",'
    f' "profile_sha256": "{_HASH}", "command_line": "a", "boot": {{"memory": 1, "vcpus": 1, "vcpu_type": "a", "port": 1'
    f'}}, "volumes": [], "stages": [], "artifacts": [{{"name": "a", "size": 1, "sha256": "{_HASH}"}}]}}'.encode(),
    b"[" * 3000,
]


def one_input(data: bytes) -> None:
    """Read as each of them; a lock that reads is written out and read again."""
    text = data.decode("utf-8", "surrogateescape")
    for parse in (parse_profile, parse_manifest, parse_files, parse_measurements, parse_config):
        with contextlib.suppress(Error):
            parse(text)
    with contextlib.suppress(Error):
        lock = parse_lock(text)
        assert parse_lock(format_lock(lock)) == lock
