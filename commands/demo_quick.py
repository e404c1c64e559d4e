"""``dokimos demo --quick``: the whole path on loopback, without a virtual machine."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import Check
from .demo_parts import SHOWN, Tampered, refusals, relay
from .model import progress
from .show import check_table, verdict_line
from .show_gpu import show_gpus

if TYPE_CHECKING:
    from rich.console import Console

    from ..attest.sim_nvidia import SimGpuSource, SimulatedNvidia
    from ..client.session import Session
    from ..cvm_image.service.engine.base import Engine
    from ..cvm_image.service.simulated import SimulatedCvm
    from ..evidence.bundle import Bundle

CHAT = """Ana: the party starts at 8 on Friday.
Ben: I bring the cake. Who has the keys of the hall?
Ana: I have them. Please come at 7 to help.
Ben: Fine, at 7."""
_QUESTION = f"Summarise this chat in one sentence:\n\n{CHAT}"


def run(out: Console, stack: ExitStack, tee: str, *, verbose: bool) -> bool:
    """The demo on loopback, in a simulated "snp" or "tdx" machine; whether all of it held."""
    from ..attest.sim_nvidia import SimulatedNvidia  # noqa: PLC0415 - help need not pay
    from ..client.session import Session  # noqa: PLC0415
    from ..cvm_image.model import fetch_model  # noqa: PLC0415
    from ..cvm_image.service.engine.llama_cpp import LlamaCppEngine  # noqa: PLC0415
    from ..cvm_image.service.simulated import closing  # noqa: PLC0415
    from ..verifier.policy import load_policy  # noqa: PLC0415

    out.rule("[bold]1  A simulated confidential machine, its service, a relay", align="left")
    with progress() as told:
        model = fetch_model(progress=told)
    out.print(
        f"model   {model.alias}, by SHA-256 {model.sha256[:16]}…  (exercises the path; do not trust its summaries)"
    )
    engine = stack.enter_context(closing(LlamaCppEngine(model)))
    state = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dokimos-demo-")))
    nvidia = SimulatedNvidia(state)
    machine = partial(_serve, stack, engine, state, tee, nvidia.source())
    cvm, service = machine()
    between = relay(stack, service)
    out.print(f"service {service}   SIMULATED platform, root {cvm.root_sha256.hex()[:16]}…")
    out.print(f"GPU     one SIMULATED Hopper, root {nvidia.device_root_sha256.hex()[:16]}…")
    out.print(f"relay   {between}   sees who asks, not what")
    out.print(f"policy  accepts measurement {cvm.measurement[:16]}… under that root, and nothing else\n")

    out.rule("[bold]2  Verify it over a fresh nonce, through the relay, before anything is sent", align="left")
    policy = load_policy(cvm.policy())
    session = stack.enter_context(Session.open(service, policy, relay=between))
    result = session.result
    rows = result.checks if verbose else tuple(check for check in result.checks if check.id in SHOWN)
    out.print(check_table(rows, title="Evidence of the live endpoint: processor, GPU, and what binds both to its keys"))
    show_gpus(out, result, measurements=verbose)
    out.print(verdict_line(result))

    out.print()
    out.rule("[bold]3  One request under HPKE to the attested key", align="left")
    held = _ask(out, session)

    out.print()
    out.rule("[bold]4  What is refused", align="left")
    impostors = _impostors(stack, machine, nvidia, tee, cvm)
    return refusals(out, impostors, policy) and held and result.verdict == "accepted"


def _serve(
    stack: ExitStack, engine: Engine, state: Path, tee: str, gpus: SimGpuSource, *, append: str | None = None
) -> tuple[SimulatedCvm, str]:
    from ..cvm_image import stand_in  # noqa: PLC0415 - help need not pay
    from ..cvm_image.service.server import Server  # noqa: PLC0415
    from ..cvm_image.service.simulated import simulated_cvm, simulated_td  # noqa: PLC0415

    line = append or stand_in.COMMAND_LINE
    if tee == "tdx":
        cvm = simulated_td(engine, state_dir=state, command_line=line, gpus=gpus)
    else:
        cvm = simulated_cvm(engine, state_dir=state, launch=stand_in.stand_in_launch(line), gpus=gpus)
    return cvm, stack.enter_context(Server(cvm.app)).url


def _ask(out: Console, session: Session) -> bool:
    from rich.text import Text  # noqa: PLC0415 - help need not pay

    from ..client.chat import Message  # noqa: PLC0415

    out.print("[dim]" + CHAT + "[/dim]\n")
    answer = session.chat([Message(role="user", content=_QUESTION)], max_tokens=80, temperature=0.0)
    out.print(Text.assemble((f"{answer.model}: ", "bold"), answer.text.strip()))
    out.print(f"[dim]{answer.prompt_tokens} tokens read, {answer.completion_tokens} written[/dim]")
    return bool(answer.text.strip())


def _impostors(
    stack: ExitStack,
    machine: Callable[..., tuple[SimulatedCvm, str]],
    nvidia: SimulatedNvidia,
    tee: str,
    cvm: SimulatedCvm,
) -> Iterator[tuple[str, Check, str]]:
    """What is wrong, the check that must refuse it, and where it is met."""
    from ..cvm_image.service.server import Server  # noqa: PLC0415 - help need not pay
    from ..cvm_image.stand_in import COMMAND_LINE  # noqa: PLC0415
    from ..evidence.bundle import TdxEvidence  # noqa: PLC0415
    from ..evidence.statement import gpu_nonce, parse_statement  # noqa: PLC0415
    from ..ohttp import keys  # noqa: PLC0415

    def flip(bundle: Bundle) -> Bundle:
        if isinstance(bundle.cpu, TdxEvidence):
            quote = bytearray(bundle.cpu.quote)
            quote[0x030 + 0x88] ^= 1  # one bit of MRTD
            return replace(bundle, cpu=replace(bundle.cpu, quote=bytes(quote)))
        report = bytearray(bundle.cpu.report)
        report[0x0C0] ^= 1  # one bit of HOST_DATA
        return replace(bundle, cpu=replace(bundle.cpu, report=bytes(report)))

    own = keys.encode_key_configs([key.config for key in keys.generate_keys()])
    flipped = stack.enter_context(Server(Tampered(cvm.app, flip)))
    signature, code = (
        (Check.TDX_QUOTE_SIGNATURE, Check.TDX_RTMR2)
        if tee == "tdx"
        else (Check.SNP_REPORT_SIGNATURE, Check.SNP_MEASUREMENT)
    )
    yield "one flipped bit in the evidence", signature, flipped.url
    _, other = machine(append=f"{COMMAND_LINE} debug")
    yield "the same code with another command line", code, other
    swapped = stack.enter_context(Server(Tampered(cvm.app, lambda bundle: replace(bundle, key_configs=own))))
    yield "somebody between, with keys of their own", Check.BINDING_KEY_CONFIG, swapped.url
    stranger = nvidia.source([nvidia.gpu(number=1)])

    def another(bundle: Bundle) -> Bundle:
        nonce = gpu_nonce(parse_statement(bundle.statement))
        return replace(bundle, gpu=stranger.collect(nonce))

    exchanged = stack.enter_context(Server(Tampered(cvm.app, another)))
    yield "a genuine GPU of another machine, asked over the same nonce", Check.BINDING_GPU, exchanged.url
    without = stack.enter_context(Server(Tampered(cvm.app, lambda bundle: replace(bundle, gpu=None))))
    yield "the GPU's evidence left out", Check.GPU_DEVICES_COUNT, without.url
