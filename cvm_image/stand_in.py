"""What stands in for a bootable image while there is none: this very package, measured as if it were the initrd.

The simulated platform launches nothing, so the launch digest can cover whatever it is given.  Giving it the program's
own files makes the demo honest in one point: a service with other code or another command line has another
measurement, and a policy that names the measurement refuses it.
"""

from __future__ import annotations

from hashlib import sha256, sha384
from pathlib import Path

from ..attest import sim_ccel
from ..attest.sim_tdx import SimulatedTd, SimulatedTdx
from ..measurements.mrtd import PageOrder, mrtd
from ..measurements.snp import SnpLaunch
from ..measurements.synthetic_ovmf import synthetic_ovmf, synthetic_tdvf
from ..measurements.tdvf import parse_tdvf

COMMAND_LINE = "console=ttyS0 dokimos.simulated=1"
"""Command line of the stand-in."""
KERNEL = b"dokimos stand-in: the simulated platform boots no kernel\n"
VCPUS = 2
VCPU_TYPE = "EPYC-v4"


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


def stand_in_td(platform: SimulatedTdx, command_line: str = COMMAND_LINE) -> SimulatedTd:
    """The stand-in as a TD with this command line, its event log beside it.

    MRTD is that of the synthetic firmware; the kernel's event is the hash of the file, since it is no PE image.
    """
    firmware = parse_tdvf(synthetic_tdvf())
    events = sim_ccel.direct_boot(sha384(KERNEL).digest(), command_line, code_manifest())
    log = sim_ccel.write_ccel(events)
    return platform.launch(mrtd(firmware, PageOrder.SINGLE_PASS), sim_ccel.registers(events), event_log=log)
