"""An image booted under software emulation, with the simulated secure processor beside it.

QEMU emulates an ordinary machine; the secure processor is ours.  It measures the very files that QEMU is given, and the
image's firmware, as the hardware would before the guest's first instruction, and signs the guest's reports under the
simulated root.  One thing differs from hardware: the emulated machine starts through SeaBIOS, since the measured
firmware refuses to run outside of SEV.
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

from ...attest.simulator import SimulatedPlatform
from ...errors import MaterialUnavailable
from ...measurements.snp import SnpLaunch, launch_digest
from .. import layout
from ..assemble.root import package_nodes, unpack_packages
from ..assemble.toolbox import Toolbox
from ..assemble.tree import Tree
from ..lock import Lock, read_lock
from ..secure_processor import SecureProcessor
from ..store import Store
from .arguments import qemu_arguments
from .machine import Machine, free_port

SERVING: Final = "dokimos: serving"
"""What the guest's service prints on the console once it can answer."""
STAGES: Final = ("dokimos: initrd", "dokimos: root verified", SERVING)
"""Lines of the console that tell how far a boot has come."""
_TAIL: Final = 6


def qemu_tools(lock: Lock, store: Store, told: Callable[[str, int, int], None]) -> Toolbox:
    """QEMU out of the lock, unpacked once and kept beside the store; half of it never stays.

    Args:
        lock: the image's lock.
        store: where the packages lie.
        told: progress.

    Raises:
        Error: a package is not in the store, or is not one.
    """
    packages = lock.group("boot")
    name = hashlib.sha256("".join(package.sha256 for package in packages).encode()).hexdigest()
    place = store.folder / "tools" / name
    if not place.is_dir():
        with store.scratch() as scratch:
            tree = Tree()
            for node in package_nodes(unpack_packages(packages, store, scratch / "debs", told)):
                tree.add(node)
            Toolbox(tree, scratch / "tools", epoch=lock.source_date_epoch)
            place.parent.mkdir(exist_ok=True)
            (scratch / "tools").rename(place)
    return Toolbox((), place, epoch=lock.source_date_epoch)


class EmulatedGuest:
    """A booted image, between ``with`` and its end.

    Args:
        folder: of the image.
        store: where QEMU's packages lie.
        state_dir: keys of the simulated manufacturer.
        product: processor to play.
        told: progress of what comes before the boot.
        console: gets each line of the console, from another thread.
        command_line: another one than the image's, to show what is refused.
        initrd: another one.
        images: other disks, in the order of the manifest's volumes.

    Attributes:
        manifest: of the image.
        measurement: launch digest of the very files that were given to QEMU.
        url: where the guest's service is reached, on loopback.
        machine: the running QEMU.
    """

    def __init__(
        self,
        folder: Path,
        store: Store,
        *,
        state_dir: Path,
        product: str = "Genoa",
        told: Callable[[str, int, int], None] | None = None,
        console: Callable[[str], None] | None = None,
        command_line: str | None = None,
        initrd: Path | None = None,
        images: Sequence[Path] = (),
    ) -> None:
        self.manifest = layout.read_manifest(folder)
        self._folder, self._console, self._images, self._initrd = folder, console, images, initrd
        self._line = self.manifest.command_line if command_line is None else command_line
        self.platform = SimulatedPlatform(state_dir, product=product)
        self.measurement = launch_digest(self._launch())
        self._tools = qemu_tools(read_lock(folder / layout.LOCK), store, told or (lambda *_: None))
        self._stack = ExitStack()

    def _launch(self) -> SnpLaunch:
        boot = self.manifest.boot
        return SnpLaunch(
            ovmf=_read(self._folder / layout.FIRMWARE_SNP),
            kernel=_read(self._folder / layout.KERNEL),
            initrd=_read(self._initrd or self._folder / layout.INITRD),
            append=self._line,
            vcpus=boot.vcpus,
            vcpu_type=boot.vcpu_type,
        )

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            # A UNIX socket's path may have 107 bytes: the system's own folder for temporary files is short.
            scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dk-")))
            path = scratch / "sp"
            stack.enter_context(SecureProcessor(self.platform.launch(self.measurement), path))
            port = free_port()
            arguments = qemu_arguments(
                self._folder,
                self.manifest,
                port=port,
                secure_processor=path,
                command_line=self._line,
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
            "[snp]\n"
            f'measurements = ["{self.measurement.hex()}"]\n'
            f'simulated_roots = ["{self.platform.root_sha256.hex()}"]\n'
            f'products = ["{self.platform.machine.product}"]\n'
            "require_chip_bound = true\n"
            'revocation = "require"\n'
            "vmpl = [0]\n\n"
            "[binding]\n"
            f'image_sha256 = ["{hashlib.sha256(self._line.encode()).hexdigest()}"]\n'
        )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise MaterialUnavailable(f"{path}: {exc.strerror}") from exc
