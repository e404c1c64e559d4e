"""A unified kernel image: kernel, initrd and command line in one file that UEFI starts (UAPI.5).

It is made by the locked ukify, run by the lock's own Python, over the locked stub.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from ...errors import MaterialUnavailable, UnsupportedEvidence
from .. import layout
from .toolbox import Toolbox
from .tree import Node

_STUB: Final = "usr/lib/systemd/boot/efi/linuxx64.efi.stub"
_SECONDS: Final = 300


def write_uki(out: Path, tools: Iterable[Node], scratch: Path, *, epoch: int) -> None:
    """Write the image beside its parts.

    Args:
        out: folder with kernel, initrd and command line.
        tools: files of the packages that ukify, its Python and the stub come from.
        scratch: folder for work.
        epoch: time in seconds since 1970.

    Raises:
        MaterialUnavailable: they lack ukify, a Python or the stub.
        UnsupportedEvidence: ukify failed.
    """
    box = Toolbox(tools, scratch, epoch=epoch)
    pythons = sorted(path.name for path in (scratch / "usr/bin").glob("python3.[0-9]*"))
    if not pythons or not (scratch / _STUB).is_file() or not (scratch / "usr/bin/ukify").is_file():
        raise MaterialUnavailable(
            "a UKI needs systemd-ukify, systemd-boot-efi and python3 among the profile's [uki] packages"
        )
    (scratch / "os-release").write_text("ID=dokimos\nNAME=dokimos\n")
    command = [*box.command(f"usr/bin/{pythons[-1]}"), "-B", str(scratch / "usr/bin/ukify"), "build"]
    command += [f"--linux={out / layout.KERNEL}", f"--initrd={out / layout.INITRD}"]
    command += [f"--cmdline=@{out / layout.COMMAND_LINE}", f"--os-release=@{scratch / 'os-release'}"]
    command += ["--uname=dokimos", f"--stub={scratch / _STUB}", f"--output={out / layout.UKI}"]
    modules = f"{scratch / 'usr/lib/python3/dist-packages'}"
    env = box.environment({"PYTHONHOME": str(scratch / "usr"), "PYTHONPATH": modules, "PYTHONHASHSEED": "0"})
    ran = subprocess.run(command, capture_output=True, env=env, timeout=_SECONDS, check=False)
    if ran.returncode:
        raise UnsupportedEvidence(f"ukify: {ran.stderr.decode('utf-8', 'replace').strip()[-600:]}")
