"""What stands in for a bootable image while there is none: this very package, measured as if it were the initrd.

The simulated platform launches nothing, so the launch digest can cover whatever it is given.  Giving it the program's
own files makes the demo honest in one point: a service with other code or another command line has another
measurement, and a policy that names the measurement refuses it.
"""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

from ..measurements.rtmr import AcpiTables
from ..measurements.snp import SnpLaunch
from ..measurements.synthetic_ovmf import synthetic_ovmf, synthetic_tdvf
from ..measurements.synthetic_pe import synthetic_kernel
from ..measurements.tdx import TdxLaunch

COMMAND_LINE = "console=ttyS0 dokimos.simulated=1"
"""Command line of the stand-in."""
KERNEL = b"dokimos stand-in: the simulated platform boots no kernel\n"
VCPUS = 2
VCPU_TYPE = "EPYC-v4"
MEMORY = 1 << 30


def code_manifest() -> bytes:
    """SHA-256 and path of every file of the package's code, sorted by path: the stand-in's initrd.

    It is what a newcomer can recompute with ``sha256sum``; whoever changes one line of the code changes it.
    """
    root = Path(__file__).resolve().parent.parent
    names = sorted(_code_files(root))
    return b"".join(f"{sha256((root / name).read_bytes()).hexdigest()}  {name}\n".encode() for name in names)


def _code_files(root: Path) -> list[str]:
    """The modules of the package; its root may be a checkout, which holds other folders besides."""
    packages = [root, *(path.parent for path in root.glob("*/__init__.py"))]
    found = {path for package in packages for path in package.glob("*.py")}
    found |= {
        path for package in packages[1:] for path in package.glob("**/*.py") if (path.parent / "__init__.py").exists()
    }
    return [path.relative_to(root).as_posix() for path in found]


def stand_in_launch(append: str = COMMAND_LINE) -> SnpLaunch:
    """The launch of the stand-in with this command line."""
    return SnpLaunch(
        ovmf=synthetic_ovmf(),
        kernel=KERNEL,
        initrd=code_manifest(),
        append=append,
        vcpus=VCPUS,
        vcpu_type=VCPU_TYPE,
    )


def stand_in_td(command_line: str = COMMAND_LINE) -> TdxLaunch:
    """The launch of the stand-in as a TD; there is no machine whose ACPI tables could be asked for."""
    none = b"dokimos stand-in: there is no machine\n"
    return TdxLaunch(
        firmware=synthetic_tdvf(),
        memory=MEMORY,
        vcpus=VCPUS,
        kernel=synthetic_kernel(tag=KERNEL),
        initrd=code_manifest(),
        append=command_line,
        acpi=AcpiTables(loader=none, rsdp=none, tables=none),
    )
