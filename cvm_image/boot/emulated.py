"""An image booted under software emulation, with the simulated secure processor beside it.

QEMU emulates an ordinary machine; the secure processor is ours.  It measures the very files that QEMU is given, and the
image's firmware, as the hardware (and for a TD the firmware) would, and signs the guest's reports or quotes under the
simulated root.  What differs from hardware: for SEV-SNP the emulated machine starts through SeaBIOS, since the measured
firmware refuses to run outside of SEV.  For TDX it starts through the measured firmware, which outside of a TD measures
nothing, and it has one device more, the secure processor's port.
"""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from ...attest.sim_nvidia import SimGpuSource
from ...attest.sim_port import Tee
from ...attest.sim_tdx import SimulatedTdx
from ...attest.simulator import SimulatedPlatform
from ...errors import MaterialUnavailable
from ...measurements.image_tdx import image_launch
from ...measurements.snp import SnpLaunch
from .. import layout
from ..lock import read_lock
from ..secure_processor import SecureProcessor
from ..simulated_launch import SimulatedLaunch, gpu_rules, launch_snp, launch_tdx
from ..store import Store
from .arguments import qemu_arguments
from .machine import Machine, free_port
from .tables import td_hosts
from .tools import qemu_tools

SERVING: Final = "dokimos: serving"
"""What the guest's service prints on the console once it can answer."""
STAGES: Final = ("dokimos: initrd", "dokimos: root verified", SERVING)
"""Lines of the console that tell how far a boot has come."""
_TAIL: Final = 6


class EmulatedGuest:
    """A booted image, between ``with`` and its end.

    Args:
        folder: of the image.
        store: where QEMU's packages lie.
        state_dir: keys of the simulated manufacturer.
        tee: what is simulated.
        product: processor to play for SEV-SNP.
        told: progress of what comes before the boot.
        console: gets each line of the console, from another thread.
        command_line: another one than the image's, to show what is refused.
        kernel: another one.
        initrd: another one.
        images: other disks, in the order of the manifest's volumes.
        gpus: simulated GPUs of the machine, or None.

    Attributes:
        manifest: of the image.
        tee: what is simulated.
        launch: what is measured: the very files that are given to QEMU.
        url: where the guest's service is reached, on loopback.
        machine: the running QEMU.
    """

    def __init__(
        self,
        folder: Path,
        store: Store,
        *,
        state_dir: Path,
        tee: Tee = Tee.SNP,
        product: str = "Genoa",
        told: Callable[[str, int, int], None] | None = None,
        console: Callable[[str], None] | None = None,
        command_line: str | None = None,
        kernel: Path | None = None,
        initrd: Path | None = None,
        images: Sequence[Path] = (),
        gpus: SimGpuSource | None = None,
    ) -> None:
        self.manifest = layout.read_manifest(folder)
        self._folder, self._console, self._images = folder, console, images
        self._kernel, self._initrd = kernel or folder / layout.KERNEL, initrd or folder / layout.INITRD
        self._line = self.manifest.command_line if command_line is None else command_line
        self.tee = tee
        self._gpus = gpus
        self._tools = qemu_tools(read_lock(folder / layout.LOCK), store, told or (lambda *_: None))
        self.launch = self._launch(state_dir, product)
        self._stack = ExitStack()

    def _launch(self, state_dir: Path, product: str) -> SimulatedLaunch:
        boot = self.manifest.boot
        kernel, initrd = _read(self._kernel), _read(self._initrd)
        if self.tee is Tee.SNP:
            launch = SnpLaunch(
                ovmf=_read(self._folder / layout.FIRMWARE_SNP),
                kernel=kernel,
                initrd=initrd,
                append=self._line,
                vcpus=boot.vcpus,
                vcpu_type=boot.vcpu_type,
            )
            return launch_snp(SimulatedPlatform(state_dir, product=product), launch)
        self.manifest.artifact(layout.FIRMWARE_TDX)  # says so where the image has none
        disks = len(self.manifest.volumes)
        machine = [(boot.vcpus, boot.memory)]
        (host,) = td_hosts(self._tools, machine, disks=disks, kernel=self._kernel)
        firmware = _read(self._folder / layout.FIRMWARE_TDX)
        td = image_launch(firmware=firmware, kernel=kernel, initrd=initrd, command_line=self._line, host=host)
        return launch_tdx(SimulatedTdx(state_dir), td)

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            # A UNIX socket's path may have 107 bytes: the system's own folder for temporary files is short.
            scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dk-")))
            path = scratch / "sp"
            stack.enter_context(SecureProcessor(self.launch.guest, path))
            if self._gpus:
                stack.enter_context(SecureProcessor(self._gpus, scratch / "gpus"))
            port = free_port()
            arguments = qemu_arguments(
                self._folder,
                self.manifest,
                port=port,
                secure_processor=path,
                gpus=scratch / "gpus" if self._gpus else None,
                tee=self.tee,
                command_line=self._line,
                kernel=self._kernel,
                initrd=self._initrd,
                images=self._images,
            )
            self.machine = stack.enter_context(Machine(self._tools, arguments, told=self._console))
            self.url = f"http://127.0.0.1:{port}"
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def wait_serving(self, seconds: float, stage: Callable[[str, float], None] | None = None) -> float:
        """Wait until the guest's service says that it can answer.

        Args:
            seconds: how long in all.
            stage: gets each stage of the boot and the seconds since QEMU's start.

        Returns:
            Seconds since QEMU's start.

        Raises:
            MaterialUnavailable: the guest ended, or did not come so far in time; its last lines are in the message.
        """
        until = self.machine.started + seconds
        for text in STAGES:
            if not self.machine.wait_for(text, until - time.monotonic()):
                tail = " | ".join(line for line in self.machine.console if line)[-600:]
                raise MaterialUnavailable(f"the guest did not come to {text!r}; it said last: {tail or 'nothing'}")
            if stage:
                stage(text.removeprefix("dokimos: "), time.monotonic() - self.machine.started)
        return time.monotonic() - self.machine.started

    def policy(self) -> str:
        """A policy that accepts exactly this launch under this simulated root, TOML."""
        return (
            "# Accepts one simulated launch of one image; it proves nothing about hardware.\n"
            "schema = 1\n"
            'name = "SIMULATED platform, for development only"\n\n'
            f"{self.launch.rules}\n"
            f"{gpu_rules(self._gpus) if self._gpus else ''}\n"
            "[binding]\n"
            f'image_sha256 = ["{hashlib.sha256(self._line.encode()).hexdigest()}"]\n'
        )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise MaterialUnavailable(f"{path}: {exc.strerror}") from exc
