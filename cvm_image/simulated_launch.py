"""A launch on the simulated platform: what it measures, who makes its evidence, and what a policy says of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..attest import sim_ccel
from ..attest.sim_nvidia import SimGpuSource
from ..attest.sim_tdx import SimulatedTd, SimulatedTdx
from ..attest.simulator import SimulatedGuest, SimulatedPlatform
from ..evidence.gpu_arch import Kind
from ..measurements.snp import SnpLaunch, launch_digest
from ..measurements.tdx import TdxLaunch


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedLaunch:
    """A launched guest.

    Attributes:
        guest: makes its reports or quotes.
        measured: what they carry, by name, in hex.
        root_sha256: hash of the simulated root, which a policy must name.
        rules: a policy's table for its processor's evidence, TOML.
    """

    guest: SimulatedGuest | SimulatedTd
    measured: Mapping[str, str]
    root_sha256: bytes
    rules: str


def gpu_rules(gpus: SimGpuSource) -> str:
    """A policy's table for a machine with exactly these simulated GPUs, TOML.

    Args:
        gpus: the GPUs and switches of the machine.

    Raises:
        Error: the platform's state cannot be used.
    """
    kinds = [device.firmware.arch.kind for device in gpus.devices]
    roots = ", ".join(f'"{root.hex()}"' for root in sorted(gpus.platform.root_sha256s))
    return (
        "[gpu]\n"
        f"gpus = {kinds.count(Kind.GPU)}\n"
        f"switches = {kinds.count(Kind.SWITCH)}\n"
        f"simulated_roots = [{roots}]\n"
        'revocation = "both"\n'
        "require_guest_state = true\n"
    )


def launch_snp(platform: SimulatedPlatform, launch: SnpLaunch) -> SimulatedLaunch:
    """Launch a guest of SEV-SNP.

    Args:
        platform: the machine.
        launch: what is measured.

    Raises:
        Error: the platform's state cannot be used, or the launch cannot be measured.
    """
    guest = platform.launch(launch_digest(launch))
    rules = (
        "[snp]\n"
        f'measurements = ["{guest.fields.measurement.hex()}"]\n'
        f'simulated_roots = ["{platform.root_sha256.hex()}"]\n'
        f'products = ["{platform.machine.product}"]\n'
        "require_chip_bound = true\n"
        'revocation = "require"\n'
        "vmpl = [0]\n"
    )
    measured = {"launch digest": guest.fields.measurement.hex()}
    return SimulatedLaunch(guest=guest, measured=measured, root_sha256=platform.root_sha256, rules=rules)


def launch_tdx(platform: SimulatedTdx, launch: TdxLaunch) -> SimulatedLaunch:
    """Launch a TD, with the event log that its firmware would write.

    Args:
        platform: the machine.
        launch: what is measured; its ACPI tables must be known.

    Raises:
        UnsupportedEvidence: an event of the launch is open, so that there is no register to report.
        Error: the platform's state cannot be used, or the launch cannot be measured.
    """
    found, events = sim_ccel.direct_boot(launch)
    registers = sim_ccel.registers(events)
    td = platform.launch(found.mrtd, registers, event_log=sim_ccel.write_ccel(events))
    lines = "".join(f'rtmr{number} = ["{value.hex()}"]\n' for number, value in enumerate(registers))
    rules = (
        "[tdx]\n"
        f'mrtd = ["{found.mrtd.hex()}"]\n'
        f"{lines}"
        "require_event_log = true\n"
        f'simulated_roots = ["{platform.root_sha256.hex()}"]\n'
    )
    values = (found.mrtd, *registers[:3])
    measured = {name: value.hex() for name, value in zip(("MRTD", "RTMR0", "RTMR1", "RTMR2"), values, strict=True)}
    return SimulatedLaunch(guest=td, measured=measured, root_sha256=platform.root_sha256, rules=rules)
