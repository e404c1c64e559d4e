"""Simulated machines with all that a verifier needs, and policies that demand of them whatever a policy can demand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from hashlib import sha256
from typing import Any, NamedTuple

from dokimos.attest.sim_gpu import BLACKWELL, DRIVER, HOPPER, HOPPER_HGX, VBIOS, Firmware, SimGpu
from dokimos.attest.sim_gpu_pki import NvidiaPki
from dokimos.attest.sim_gpu_revocation import DEVICE_INDEXES, RIM_INDEXES, SimRevocation
from dokimos.attest.sim_hgx import SimHgx, derive_pdi
from dokimos.attest.sim_rim import SimRim
from dokimos.endorsements.rim_store import RimStore
from dokimos.evidence.gpu_arch import Arch
from dokimos.evidence.gpu_evidence import GpuEvidence, GuestState
from dokimos.verifier.appraise_gpu import appraise_gpus
from dokimos.verifier.gpu_machine import GpuMaterial, VerifiedGpus, verify_gpus
from dokimos.verifier.gpu_policy import DriverVersion, GpuPolicy, Mode, VbiosVersion
from dokimos.verifier.gpu_revocation import RevocationMaterial
from dokimos.verifier.policy import Policy
from dokimos.verifier.policy_rules import ReservedRule
from dokimos.verifier.result import AttestationResult
from dokimos.verifier.trust import GpuTrust

AT = datetime(2026, 7, 1, tzinfo=UTC)
NONCE = bytes(range(32))
OTHER = b"\xee"
PKI = NvidiaPki(bytes(range(32)))
ROOTS = tuple(sorted(PKI.root_sha256s))
TRUST = GpuTrust(simulated_roots=frozenset(ROOTS))
STATE = GuestState(cc_feature=True, environment="production", devtools=False, ready=True, driver_version="580.95.05")


def _every(firmware: Firmware) -> Firmware:
    """The same, where each of 64 measurements has a reference value."""
    vbios = firmware.active[VBIOS]
    return replace(firmware, active={DRIVER: tuple(n for n in range(64) if n not in vbios), VBIOS: vbios})


EVERY, EVERY_HGX, EVERY_BLACKWELL = map(_every, (HOPPER, HOPPER_HGX, BLACKWELL))
"""GPUs of whose measurements each has a reference value."""
SIMULATED = Policy(schema=1).with_gpu(simulated_roots=ROOTS)
"""The default policy, with the simulated roots."""

Files = Mapping[str, bytes]


@cache
def _signed(rim: SimRim) -> bytes:
    return rim.sign(PKI)


def file(rim: SimRim, name: str = "") -> dict[str, bytes]:
    """A signed RIM under the name that its id gives it, or another one."""
    return {name or f"{rim.id}.xml": _signed(rim)}


def device(
    firmware: Firmware = EVERY, number: int = 0, *, fwid: bytes | None = None, flags: int = 0, **settings: Any
) -> SimGpu:
    """A device.

    Args:
        firmware: what runs on it.
        number: another one is another device.
        fwid: as in :class:`SimGpu`.
        flags: likewise.
        settings: attributes of :class:`SimGpu` to set.
    """
    made = SimGpu(PKI, firmware, derive_pdi(f"test {number}"), fwid=fwid, flags=flags)
    for name, value in settings.items():
        assert hasattr(made, name)
        setattr(made, name, value)
    return made


class Machine(NamedTuple):
    """A machine's evidence with the RIMs that it needs.

    Attributes:
        devices: its devices.
        evidence: what they handed over.
        rims: files with RIMs.
    """

    devices: tuple[SimGpu, ...]
    evidence: tuple[GpuEvidence, ...]
    rims: Files


def evidence_of(made: SimGpu, nonce: bytes = NONCE, **report: Any) -> GpuEvidence:
    """Evidence of a device with other measurements or opaque entries than its own."""
    return GpuEvidence(arch=made.arch, nonce=nonce, report=made.report(nonce, **report), chain=made.chain)


def machine(*devices: SimGpu, rims: Files | None = None, nonces: Sequence[bytes] = (), **report: Any) -> Machine:
    """A machine with these devices; one that meets every demand unless told otherwise.

    Args:
        devices: all of them.
        rims: files beside those that the devices need, or in place of those of the same name.
        nonces: of each device, where they differ.
        report: as in :meth:`SimGpu.report`, for every device.
    """
    listed = devices or (device(),)
    given = nonces or (NONCE,) * len(listed)
    made = tuple(evidence_of(one, nonce, **report) for one, nonce in zip(listed, given, strict=True))
    needed: dict[str, bytes] = {}
    for one in listed:
        for source in one.firmware.active:
            needed |= file(SimRim.of(one.firmware, source))
    return Machine(listed, made, needed | dict(rims or {}))


def hgx(change: Callable[[SimHgx], object] | None = None, number: int = 0) -> Machine:
    """A machine with eight GPUs and four switches, changed before it attests."""
    made = SimHgx(PKI, number=number, gpu=EVERY_HGX)
    if change is not None:
        change(made)
    return machine(*made.devices)


def changed(source: str, firmware: Firmware = EVERY, **changes: Any) -> dict[str, bytes]:
    """The RIM of a source with other contents, under the name of the right one."""
    right = SimRim.of(firmware, source)
    return file(replace(right, **changes), f"{right.id}.xml")


def activated(source: str, index: int, *, active: bool, firmware: Firmware = EVERY) -> dict[str, bytes]:
    """The RIM of a source in which one index counts, or does not."""
    references = SimRim.of(firmware, source).references
    return changed(
        source,
        firmware,
        references=tuple(replace(one, active=active) if one.index == index else one for one in references),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Revoked:
    """Certificates of the simulated manufacturer that are revoked, or on hold, by their place in a chain.

    Attributes:
        device: those of a device's chain.
        rim: those of the chain of its driver's RIM.
        hold: they are on hold only.
    """

    device: tuple[int, ...] = ()
    rim: tuple[int, ...] = ()
    hold: bool = False


def revocation(made: Machine, revoked: Revoked = Revoked()) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """Lists and answers about every certificate of a machine and of its RIMs, by names of files."""
    source = SimRevocation(PKI, clock=lambda: AT)
    chains = [(one.entities, DEVICE_INDEXES) for one in made.devices]
    signers = {
        SimRim.of(one.firmware, name).id: SimRim.of(one.firmware, name).signers(PKI)
        for one in made.devices
        for name in one.firmware.active
    }
    chains += [(signer, RIM_INDEXES) for signer in signers.values()]
    for index in revoked.device:
        source.revoke(made.devices[0].entities[index], hold=revoked.hold)
    for index in revoked.rim:
        source.revoke(next(iter(signers.values()))[index], hold=revoked.hold)
    pairs = {chain[n].der: (chain[n], chain[n + 1]) for chain, indexes in chains for n in indexes}
    answers = {f"{sha256(der).hexdigest()}.ocsp": source.answer(*pair) for der, pair in pairs.items()}
    return source.crls(), answers


def verify(
    made: Machine, *, trust: GpuTrust = TRUST, at: datetime = AT, files: Files | None = None, **options: Any
) -> VerifiedGpus:
    """The machine verified with its RIMs.

    Args:
        made: the machine.
        trust: what is trusted.
        at: the time.
        files: lists and answers.
        options: further arguments of :func:`verify_gpus`.
    """
    material = GpuMaterial(rims=RimStore.of(made.rims), revocation=RevocationMaterial.of(files or {}))
    return verify_gpus(made.evidence, material, trust=trust, at=at, **options)


def appraise(made: Machine, policy: Policy = SIMULATED, **call: Any) -> AttestationResult:
    """The result of a machine whose nonce and guest are as they should be, unless the call says otherwise."""
    return appraise_gpus(verify(made), policy, **{"nonce": NONCE, "state": STATE, **call})


def demanding(made: Machine, **changes: Any) -> Policy:
    """A policy that demands everything of a machine, and that it meets; with changes by name of the key."""
    firmwares = [one.firmware for one in made.devices]
    kinds = [one.arch for one in made.devices]
    drivers = {one.driver for one in firmwares if one.driver}
    gpu: dict[str, Any] = {
        "gpus": sum(arch is not Arch.LS10 for arch in kinds),
        "switches": kinds.count(Arch.LS10),
        "architectures": tuple(dict.fromkeys(kinds)),
        "simulated_roots": ROOTS,
        "rim_sha256": tuple(sha256(data).digest() for data in made.rims.values()),
        "rim_signer_sha256": tuple({sha256(PKI.rim_signer(arch).der).digest() for arch in kinds}),
        "serials": tuple(one.entities[0].certificate.serial_number for one in made.devices),
        "denied_serials": (1,),
        "driver_minimum": DriverVersion.parse(min(drivers)) if drivers else None,
        "denied_drivers": (DriverVersion.parse("550.54.14"),),
        "vbios_minimum": tuple({VbiosVersion.parse(one.vbios) for one in firmwares}),
        "modes": (Mode.PPCIE,) if Arch.LS10 in kinds else (Mode.SPT,) if len(kinds) == 1 else (Mode.MPT,),
        "require_fwid": True,
        "opaque_version": ReservedRule.FAIL,
        "unknown_opaque": ReservedRule.FAIL,
        "unmeasured": ReservedRule.FAIL,
        "require_guest_state": True,
    }
    unknown = changes.keys() - GpuPolicy.__dataclass_fields__.keys()
    assert not unknown, unknown
    return Policy(schema=1).with_gpu(**{**gpu, **changes})
