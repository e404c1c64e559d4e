"""A machine, a service and a verifier for tests of the GPU gate: they write down every call, and watch the keys."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

from dokimos.attest.sim_nvml import SimDevice, SimGpus
from dokimos.cvm_image.service.gpu_gate import GpuGate, GpuPass
from dokimos.errors import Check, CheckResult, MaterialUnavailable, Status, VerificationError
from dokimos.evidence.statement import PROFILE_OHTTP, ROLE_GATEWAY, Statement, gpu_nonce

READS = frozenset({"settings", "ready", "count", "device", "display_devices", "alive", "report", "chain"})
"""Calls that change nothing."""
NOT_ACCEPTED = VerificationError(CheckResult(Check.GPU_REPORT_SIGNATURE, Status.FAIL, message="not signed"))


class World:
    """Everything around one gate.

    At every call the rules of the gate are looked at: while keys are public, the GPUs are verified and ready and the
    engine lives; and unverified GPUs are never set ready.  `lost` suspends the first between a loss, which the gate
    cannot know of, and the moment at which it has seen it.
    """

    def __init__(self, gpus: int = 1) -> None:
        devices = [SimDevice(uuid=f"GPU-{n}", bus_id=f"0000:{n + 1:02x}:00.0") for n in range(gpus)]
        self.machine = SimGpus(devices=devices, on_call=self.called)
        self.bus = self.machine.display_devices
        self.now = 1000.0
        self.log: list[str] = []
        self.at: dict[int, Any] = {}
        self.raises: dict[str, Any] = {}
        self.keys: bytes | None = None
        self.public: bytes | None = None
        self.granted: GpuPass | None = None
        self.old_keys: list[bytes] = []
        self.verified = self.engine = self.lost = False
        self.answer = None
        self.nonces: list[bytes] = []
        self.statement: Statement | None = None
        self.gate = GpuGate(
            system=self.machine,
            display=self.on_bus,
            service=self,
            verify=self.verify,
            gpus=gpus,
            clock=lambda: self.now,
        )

    def called(self, name: str) -> None:
        self.log.append(name)
        self.rule()
        assert self.verified or name != "set_ready 1", self.log
        fault = self.at.pop(len(self.log) - 1, None) or self.raises.get(name)
        if callable(fault) and not isinstance(fault, type):
            fault()
        elif fault is not None:
            raise fault

    def rule(self) -> None:
        if self.public is not None and self.granted.holds and not self.lost:
            machine = self.machine
            assert self.verified, self.log
            assert machine.is_ready, self.log
            assert self.engine, self.log
            assert machine.cc_feature, self.log
            assert not machine.devtools, self.log

    def on_bus(self):
        return self.bus()

    @property
    def effects(self) -> list[str]:
        return [name for name in self.log if name not in READS]

    def closed(self) -> None:
        """Nothing of it is left."""
        assert self.public is None
        assert self.keys is None
        assert not self.engine
        assert not self.machine.is_ready
        assert self.granted is None or not self.granted.holds

    # The verifier

    def verify(self, devices, nonce):
        self.called("verify")
        assert self.statement is not None
        assert nonce == gpu_nonce(self.statement)
        if [device.report[4:36] for device in devices] != [nonce] * len(self.machine.devices):
            raise NOT_ACCEPTED
        self.nonces.append(nonce)
        self.verified = self.answer is None
        return self.answer

    # The service

    def prepare(self) -> Statement:
        self.called("prepare")
        self.keys = b"keys of pass %d" % len(self.old_keys)
        assert self.keys not in self.old_keys
        self.old_keys.append(self.keys)
        made = self.statement = Statement(
            profile=PROFILE_OHTTP,
            role=ROLE_GATEWAY,
            key_configs_sha256=sha256(self.keys).digest(),
            tls_spki_sha256=None,
            nonce=sha256(b"fresh %d" % len(self.log)).digest(),
            epoch=None,
            not_before=1,
            expiry=2,
            gpu_digest=None,
            runtime_config_sha256=bytes(32),
            image_sha256=bytes(32),
        )
        return made

    def start(self) -> None:
        assert self.machine.is_ready
        self.engine = True
        self.called("start")

    def alive(self) -> bool:
        self.called("alive")
        return self.engine

    def publish(self, granted) -> None:
        self.called("publish")
        granted.spend(self.keys)
        self.public, self.granted = self.keys, granted
        self.rule()

    def drop(self) -> None:
        self.public = self.keys = None
        self.lost = False
        self.called("drop")

    def stop(self) -> None:
        self.called("stop")
        self.engine = self.verified = False


def unavailable(what: str = "asked for") -> MaterialUnavailable:
    return MaterialUnavailable(f"{what}: no")
