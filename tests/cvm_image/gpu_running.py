"""The service behind its gate in a thread, with simulated GPUs, for tests on real connections."""

from __future__ import annotations

import dataclasses
import socket
import threading

from dokimos.attest.attester import SnpSource
from dokimos.attest.nvml import NvmlSource
from dokimos.attest.sim_nvml import SimDevice, SimGpus
from dokimos.attest.simulator import SimulatedPlatform
from dokimos.cvm_image import stand_in
from dokimos.cvm_image.service import gpu_guest, gpu_verify, guest
from dokimos.cvm_image.service.engine.base import ChatAnswer, EngineInfo
from dokimos.cvm_image.service.gpu_gate import INTERVAL
from dokimos.cvm_image.simulated_launch import gpu_rules, launch_snp
from dokimos.errors import Error

CONFIG = guest.ServiceConfig(model="/m", alias="m", model_sha256="00", gpus=2)
IMAGE = bytes(range(32))


class FakeEngine:
    info = EngineInfo(name="fake", version="1", model="m", model_sha256="", max_context=64, isolation="shared")

    def __init__(self):
        self.closed = threading.Event()
        self.asked = threading.Event()
        self.dead = False

    def alive(self):
        return not self.dead and not self.closed.is_set()

    def chat(self, request):
        self.asked.set()
        if request.messages[-1][1] == "wait":
            self.closed.wait(10)
        return ChatAnswer(text="an answer", finish_reason="stop", prompt_tokens=1, completion_tokens=1)

    def close(self):
        self.closed.set()


class Running:
    """The service in a thread; `step` lets the gate look once more."""

    def __init__(self, nvidia, state, **changes):
        self.sims = [nvidia.gpu(number=n) for n in range(2)]
        self.system = SimGpus(
            devices=[
                SimDevice(
                    uuid=f"GPU-{n}",
                    bus_id=f"0000:0{n + 1}:00.0",
                    report=lambda nonce, sim=sim: sim.evidence(nonce).report,
                    chain=sim.evidence(bytes(32)).chain,
                )
                for n, sim in enumerate(self.sims)
            ]
        )
        self.files = nvidia.material(self.sims)
        self.launched = launch_snp(SimulatedPlatform(state), stand_in.stand_in_launch())
        self.rules = gpu_rules(nvidia.source(self.sims))
        self.policy = f'schema = 1\nname = "test"\n{self.launched.rules}\n{self.rules}\n'
        self.engines: list[FakeEngine] = []
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listening.getsockname()[1]}"
        self.opened, self.look, self.looked = threading.Event(), threading.Event(), threading.Event()
        self.end = False
        self.error: Error | None = None
        self.changes = changes
        self.thread = threading.Thread(target=self._run, daemon=True)

    def root(self, tmp_path):
        folder = tmp_path / "gpu"
        folder.mkdir()
        for name, data in self.files.items():
            (folder / name).write_bytes(data)
        (tmp_path / "policy.toml").write_text(f'schema = 1\nname = "guest"\n{self.rules}\n')
        return gpu_verify.on_root(tmp_path / "policy.toml", folder)

    def parts(self, tmp_path):
        root = self.root(tmp_path)
        source = NvmlSource(self.system, rims=root.rims, crls=root.crls, ocsp=root.ocsp)
        return gpu_guest.Gpus(
            system=self.system, display=self.system.display_devices, verify=root.verify, source=source
        )

    def start(self, tmp_path):
        self.gpus = dataclasses.replace(self.parts(tmp_path), **self.changes)
        self.machine = gpu_guest.Machine(
            config=CONFIG,
            source=SnpSource(self.launched.guest, self.launched.guest),
            image_sha256=IMAGE,
            start_engine=self._engine,
            listening=self.listening,
        )
        self.thread.start()
        return self

    def _engine(self):
        self.engines.append(FakeEngine())
        return self.engines[-1]

    def _run(self):
        try:
            gpu_guest.serve_behind_gate(self.machine, self.gpus, ended=self._ended, opened=self.opened.set)
        except Error as exc:
            self.error = exc

    def _ended(self, seconds):
        assert seconds == INTERVAL
        self.looked.set()
        # The pass must not run out while a test thinks, so that the gate looks now and then also unasked.
        self.look.wait(1)
        self.look.clear()
        return self.end

    def stop(self):
        self.end = True
        self.look.set()
        self.thread.join(10)
        assert not self.thread.is_alive()
