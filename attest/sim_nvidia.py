"""The simulated NVIDIA platform: devices, and all that a verifier needs of their manufacturer.

All keys follow from one secret, made on first use; certificates and RIMs are the same bytes each time, so that a policy
can name their hashes.  Its evidence proves nothing about hardware, and a verifier accepts it only under such a policy.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from functools import cached_property
from hashlib import sha256
from pathlib import Path

from ..errors import MaterialUnavailable, UsageError
from ..evidence.gpu_evidence import GpuEvidence, GuestState
from ..evidence.gpu_part import GpuPart
from .sim_gpu import HOPPER, Firmware, SimGpu
from .sim_gpu_certificate import Entity
from .sim_gpu_pki import NvidiaPki
from .sim_gpu_revocation import DEVICE_INDEXES, RIM_INDEXES, SimRevocation
from .sim_hgx import SimHgx, derive_pdi
from .sim_rim import SimRim
from .sim_state import StateFolder

_SECRET = "platform.secret"
_MATERIAL_AGE = timedelta(hours=1)
"""How long a guest hands out the same lists and answers, which hold for a day."""


def _now() -> datetime:
    return datetime.now(UTC)


class SimulatedNvidia:
    """A manufacturer of GPUs and switches.

    Args:
        state_dir: folder in which the one secret is kept (folders 0700, file 0600); made if it is not there.
        clock: gives the current time, with a time zone.

    Raises:
        MaterialUnavailable: by every method: the state cannot be read or written, or is damaged.
    """

    def __init__(self, state_dir: Path, *, clock: Callable[[], datetime] = _now) -> None:
        self._folder = StateFolder(state_dir, "NVIDIA")
        self._clock = clock

    @cached_property
    def pki(self) -> NvidiaPki:
        """Keys and certificates."""
        secret = self._folder.keep(_SECRET, lambda: secrets.token_bytes(32))
        if len(secret) != 32:
            raise MaterialUnavailable(f"simulated platform: {_SECRET} is damaged; remove {self._folder.path}")
        return NvidiaPki(secret)

    def now(self) -> datetime:
        """The current time of the platform."""
        return self._clock()

    @property
    def device_root_sha256(self) -> bytes:
        """SHA-256 of the root of device chains."""
        return sha256(self.pki.root.der).digest()

    @property
    def rim_root_sha256(self) -> bytes:
        """SHA-256 of the root of RIMs."""
        return sha256(self.pki.rim_root.der).digest()

    @property
    def root_sha256s(self) -> frozenset[bytes]:
        """SHA-256 of both roots, which a policy must name."""
        return frozenset({self.device_root_sha256, self.rim_root_sha256})

    def gpu(self, firmware: Firmware = HOPPER, number: int = 0) -> SimGpu:
        """A device; another number is another device."""
        return SimGpu(self.pki, firmware, derive_pdi(f"{firmware.arch} {number}"))

    def hgx(self, number: int = 0) -> SimHgx:
        """A machine with eight GPUs and four switches."""
        return SimHgx(self.pki, number=number)

    def source(self, devices: Sequence[SimGpu] | None = None) -> SimGpuSource:
        """The collector of a guest with these devices; one Hopper GPU unless told otherwise.

        Raises:
            UsageError: no device at all.
        """
        if devices is not None and not devices:
            raise UsageError("a guest has at least one GPU")
        return SimGpuSource(self, [self.gpu()] if devices is None else list(devices))

    @cached_property
    def revocation(self) -> SimRevocation:
        """What the manufacturer says of its certificates."""
        return SimRevocation(self.pki, clock=self._clock)

    @staticmethod
    def rims_of(devices: Iterable[SimGpu]) -> dict[str, SimRim]:
        """The RIMs that devices need, each once, by id."""
        return {
            rim_id: SimRim.of(device.firmware, source)
            for device in devices
            for source, rim_id in device.firmware.rim_ids.items()
        }

    def answers(self, devices: Sequence[SimGpu]) -> dict[str, bytes]:
        """Stored OCSP answers for devices and their RIMs, by names of files; those of CAs stand there once."""
        chains: list[tuple[tuple[Entity, ...], tuple[int, ...]]]
        chains = [(device.entities, DEVICE_INDEXES) for device in devices]
        chains += [(rim.signers(self.pki), RIM_INDEXES) for rim in self.rims_of(devices).values()]
        asked = {chain[n].der: (chain[n], chain[n + 1]) for chain, indexes in chains for n in indexes}
        return {f"{sha256(der).hexdigest()[:16]}.ocsp": self.revocation.answer(*pair) for der, pair in asked.items()}

    def material(self, devices: Sequence[SimGpu]) -> dict[str, bytes]:
        """All that a verifier needs beside the devices' evidence: RIMs, lists and answers, by names of files."""
        rims = {f"{rim_id}.xml": rim.sign(self.pki) for rim_id, rim in self.rims_of(devices).items()}
        return {**rims, **self.revocation.crls(), **self.answers(devices)}


class SimGpuSource:
    """What a guest collects of its simulated devices.

    Attributes:
        platform: the manufacturer.
        devices: all devices of the guest.
        state: what the guest's driver says; replace it to say something else.
    """

    name = "SIMULATED NVIDIA"
    simulated = True

    def __init__(self, platform: SimulatedNvidia, devices: list[SimGpu]) -> None:
        self.platform = platform
        self.devices = devices
        self.state = GuestState(
            cc_feature=True,
            environment="production",
            devtools=False,
            ready=True,
            driver_version=next((device.firmware.driver for device in devices if device.firmware.driver), ""),
        )
        self._kept: tuple[object, datetime, dict[str, bytes]] | None = None

    def evidence(self, nonce: bytes) -> tuple[GpuEvidence, ...]:
        """Fresh evidence of all devices, which carries this nonce of 32 bytes."""
        return tuple(device.evidence(nonce) for device in self.devices)

    def guest_state(self) -> GuestState:
        """What the guest's driver says, which no device signs."""
        return self.state

    def collect(self, nonce: bytes) -> GpuPart:
        """See :class:`~dokimos.attest.attester.GpuSource`."""
        files = self._current()

        def of(ending: str) -> tuple[bytes, ...]:
            return tuple(data for name, data in files.items() if name.endswith(ending))

        return GpuPart(
            devices=self.evidence(nonce), state=self.guest_state(), rims=of(".xml"), crls=of(".crl"), ocsp=of(".ocsp")
        )

    def _current(self) -> dict[str, bytes]:
        """RIMs, lists and answers for the devices as they are now; made anew hourly, or where something changed."""
        now = self.platform.now()
        subject = (
            [(device.pdi, device.firmware) for device in self.devices],
            self.platform.revocation.revoked,
        )
        kept = self._kept
        if kept is None or kept[0] != subject or not kept[1] <= now < kept[1] + _MATERIAL_AGE:
            kept = self._kept = subject, now, self.platform.material(self.devices)
        return kept[2]
