"""Figures of NVIDIA devices, beside NVIDIA's own verifier, which gets an environment of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from itertools import cycle
from pathlib import Path

from benchmarks.figure import Figure
from benchmarks.timing import forget, starts, turns
from dokimos.attest.sim_nvidia import SimulatedNvidia
from dokimos.cvm_image.store import cache_dir
from dokimos.endorsements.gpu_certificate import split_chain
from dokimos.endorsements.p384 import verify_raw
from dokimos.endorsements.rim_store import RimStore
from dokimos.evidence.gpu_arch import Arch
from dokimos.evidence.gpu_evidence import GpuEvidence, parse_gpu_evidence
from dokimos.evidence.gpu_report import parse_gpu_report
from dokimos.verifier.appraise_gpu import appraise_gpus
from dokimos.verifier.checklist import Checklist
from dokimos.verifier.gpu_chain import verify_chain
from dokimos.verifier.gpu_machine import GpuMaterial, verify_gpus
from dokimos.verifier.gpu_policy import GpuPolicy
from dokimos.verifier.gpu_revocation import RevocationMaterial
from dokimos.verifier.gpu_rim import verify_rim
from dokimos.verifier.policy import Policy
from dokimos.verifier.result import Verdict
from dokimos.verifier.trust import GpuRevocation, GpuTrust

_AT = datetime.fromisoformat("2024-06-01T00:00:00+00:00")
_MACHINE_AT = datetime.fromisoformat("2026-07-01T00:00:00+00:00")
_THEIRS = "nv-local-gpu-verifier==2.7.3"
_ANY = Policy(schema=1)
_DEVICES = 100
"""So many that no cache still holds a device's own certificates when its turn comes again."""


class _Theirs:
    """NVIDIA's verifier: seconds by what is measured; empty where it cannot be installed."""

    def __init__(self, case: Path) -> None:
        self._case = case
        self.seconds: dict[str, float] = {}
        self.python = _environment()

    def measure(self) -> None:
        """Once more, in a process of its own; the best counts."""
        if self.python is None:
            return
        files = [str(self._case / name) for name in ("report.hex", "chain.pem", "driver_rim.xml", "vbios_rim.xml")]
        script = Path(__file__).with_name("nvidia_yardstick.py")
        time = _AT.replace(tzinfo=None).isoformat()
        command = [str(self.python), "-I", str(script), *files, time, "40"]
        with tempfile.TemporaryDirectory() as folder:  # it writes a log where it stands
            ran = subprocess.run(command, check=True, stdout=subprocess.PIPE, cwd=folder)
        for name, seconds in json.loads(ran.stdout).items():
            self.seconds[name] = min(seconds, self.seconds.get(name, seconds))

    def figure(self, what: str, ours: float, of: str, name: str, goal: float | None = None, times: int = 1) -> Figure:
        """A figure in milliseconds beside theirs."""
        met = goal is None or ours <= goal / 1e3
        wanted = "none" if goal is None else f"<= {goal:g} ms"
        theirs = self.seconds.get(name)
        if theirs is None:
            return Figure(what, f"{ours * 1e3:.2f} ms", f"{_THEIRS} could not be installed", None, wanted, met)
        yardstick = f"{_THEIRS.replace('==', ' ')}, {of}, {theirs * times * 1e3:.1f} ms"
        return Figure(what, f"{ours * 1e3:.2f} ms", yardstick, ours / (theirs * times), wanted, met)


def _environment() -> Path | None:
    """The interpreter of an environment with NVIDIA's verifier, made on first use and kept in the cache.

    It gets Python 3.11, if there is one: the old versions that the package pins have no wheels for newer ones.  None
    where it cannot be made.
    """
    folder = cache_dir() / "benchmarks" / _THEIRS
    python, made = folder / "bin" / "python", folder / "made"
    if made.is_file():
        return python
    interpreter = shutil.which("python3.11") or sys.executable
    install = [str(python), "-m", "pip", "install", "--quiet", "--retries", "1", "--disable-pip-version-check", _THEIRS]
    try:
        shutil.rmtree(folder, ignore_errors=True)
        for command in ([interpreter, "-m", "venv", str(folder)], install):
            subprocess.run(command, check=True, capture_output=True, timeout=900)
        made.touch()
    except (OSError, subprocess.SubprocessError):
        return None
    return python


def _accepted(devices, material: GpuMaterial, policy: Policy, at: datetime, nonce: bytes, rims: bool = True) -> None:
    trust = policy.gpu.trust()
    verified = verify_gpus(devices, material, trust=trust, at=at, reference_values=rims)
    result = appraise_gpus(verified, policy, authentic_only=not rims, nonce=nonce)
    assert result.verdict is Verdict.ACCEPTED


def _cold(*works, rounds: int = 60) -> list[float]:
    """Seconds of each with every cache emptied before, without the emptying."""

    def after_forgetting(work):
        def both() -> None:
            forget()
            work()

        return both

    forgetting, *taken = turns(forget, *map(after_forgetting, works), rounds=rounds, number=1)
    return [seconds - forgetting for seconds in taken]


def _one(case: Path, theirs: _Theirs) -> list[Figure]:
    report, chain = bytes.fromhex((case / "report.hex").read_text()), (case / "chain.pem").read_bytes()
    files = {name: (case / name).read_bytes() for name in ("driver_rim.xml", "vbios_rim.xml")}
    devices = (GpuEvidence(arch=Arch.HOPPER, nonce=report[4:36], report=report, chain=chain),)
    trust = GpuTrust()

    def whole() -> None:
        _accepted(devices, GpuMaterial(rims=RimStore.of(files)), _ANY, _AT, report[4:36])

    def whole_chain():
        return verify_chain(split_chain(chain), Arch.HOPPER, trust=trust, at=_AT, checks=Checklist())

    def whole_rim() -> None:
        verify_rim(files["driver_rim.xml"], trust=trust, at=_AT, checks=Checklist())

    parsed, point = parse_gpu_report(report), whole_chain().certificates[0].public_point

    def bare() -> None:
        assert verify_raw(point, parsed.signature, parsed.signed)

    theirs.measure()
    first, chained, listed = _cold(whole, whole_chain, whole_rim)
    again, signed, parsing = turns(whole, bare, lambda: parse_gpu_report(report), number=10)
    theirs.measure()
    whole_of = "the same with OCSP stubbed"
    return [
        theirs.figure(
            "verify and appraise one GPU offline: report, chain, two RIMs, comparison; every cache emptied",
            first,
            whole_of,
            "whole",
            12,
        ),
        theirs.figure("the same once more: only the report is verified anew", again, whole_of, "whole", 3),
        theirs.figure("of it, the chain of five certificates, every cache emptied", chained, "the same", "chain"),
        theirs.figure("of it, one RIM, every cache emptied", listed, whole_of, "rim"),
        theirs.figure("of it, the report's signature", signed, "the same", "signature"),
        _parsing(parsing, theirs),
    ]


def _parsing(seconds: float, theirs: _Theirs) -> Figure:
    other = theirs.seconds.get("parse")
    return Figure(
        "parse a GPU's report",
        f"{1 / seconds:,.0f} a second",
        f"{_THEIRS} could not be installed"
        if other is None
        else f"{_THEIRS.replace('==', ' ')}, {1 / other:,.0f} a second",
        None if other is None else seconds / other,
        ">= 10,000 a second",
        seconds <= 1 / 10_000,
    )


def _machines(vectors: Path, theirs: _Theirs) -> list[Figure]:
    """Many devices: simulated ones with all that belongs to them, and a real machine whose RIMs nobody published."""
    now, nonce = datetime.now(UTC), os.urandom(32)
    with tempfile.TemporaryDirectory() as folder:
        platform = SimulatedNvidia(Path(folder))
        hgx, roots = platform.hgx(), tuple(platform.root_sha256s)
        evidence, files = hgx.evidence(nonce), platform.material(hgx.devices)
        gpus = [platform.gpu(number=number) for number in range(_DEVICES)]
        each = cycle([(gpu.evidence(nonce),) for gpu in gpus])
        single = {name: data for name, data in platform.material(gpus[:1]).items() if name.endswith(".xml")}
    policy = Policy(schema=1, gpu=GpuPolicy(simulated_roots=roots))
    strict = Policy(schema=1, gpu=GpuPolicy(simulated_roots=roots, revocation=GpuRevocation.BOTH))
    rims = {name: data for name, data in files.items() if name.endswith(".xml")}
    kept = GpuMaterial(rims=RimStore.of(single))
    real = vectors / "nvidia" / "ppcie-hgx-8gpu-4switch"
    lists = [json.loads((real / name).read_bytes()) for name in ("gpu_evidence.json", "switch_evidence.json")]
    machine = json.dumps(lists[0] + lists[1]).encode()

    def whole() -> None:
        _accepted(evidence, GpuMaterial(rims=RimStore.of(rims)), policy, now, nonce)

    def revocable() -> None:
        material = GpuMaterial(rims=RimStore.of(rims), revocation=RevocationMaterial.of(files))
        _accepted(evidence, material, strict, now, nonce)

    def authentic() -> None:
        devices = parse_gpu_evidence(machine)
        _accepted(devices, GpuMaterial(), _ANY, _MACHINE_AT, devices[0].nonce, rims=False)

    first, looked_up, genuine = _cold(whole, revocable, authentic, rounds=30)
    (other,) = turns(lambda: _accepted(next(each), kept, policy, now, nonce), rounds=30, number=_DEVICES // 10)
    eight = "eight times one GPU, without switches"
    return [
        theirs.figure(
            "another GPU than all before, its RIMs and CAs seen: its certificates and its report are verified anew",
            other,
            "one GPU",
            "whole",
            3,
        ),
        theirs.figure(
            "a simulated HGX machine of 8 GPUs and 4 switches that share RIMs, every cache emptied",
            first,
            eight,
            "whole",
            60,
            8,
        ),
        theirs.figure(
            "the same with revocation lists and OCSP answers for all of it", looked_up, eight, "whole", None, 8
        ),
        theirs.figure(
            "a real HGX machine from its JSON, without RIMs, every cache emptied", genuine, eight, "whole", 60, 8
        ),
    ]


def _starting(theirs: _Theirs) -> list[Figure]:
    commands = [
        ["-c", "pass"],
        ["-c", "import dokimos.verifier.gpu"],
        ["-c", "import dokimos.verifier.gpu_machine, dokimos.verifier.appraise_gpu"],
    ]
    if theirs.python is not None:
        commands.append([str(theirs.python), "-I", "-c", "import verifier.cc_admin"])
    with tempfile.TemporaryDirectory() as folder:
        empty, one, all_, *other = starts(*commands, folder=Path(folder))
    yardstick = (
        f"import of {_THEIRS.replace('==', ' ')}, {other[0] - empty:.3f} s beyond"
        if other
        else (f"{_THEIRS} could not be installed")
    )
    return [
        Figure(
            what,
            f"{seconds - empty:.3f} s beyond an empty interpreter",
            yardstick,
            (seconds - empty) / (other[0] - empty) if other else None,
            "<= 0.25 s beyond",
            seconds - empty <= 0.25,
        )
        for what, seconds in (("import dokimos.verifier.gpu", one), ("import gpu_machine and appraise_gpu too", all_))
    ]


def figures(vectors: Path | None) -> list[Figure]:
    """All figures of this module."""
    if vectors is None:
        raise SystemExit("set DOKIMOS_VECTORS: the figures are of real reports")
    case = vectors / "nvidia" / "hopper-545.00-full-positive"
    theirs = _Theirs(case)
    return [*_one(case, theirs), *_machines(vectors, theirs), *_starting(theirs)]
