"""``dokimos demo``: from the lock to an answer out of a booted image, and what is refused on the way."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ..errors import Check, MaterialUnavailable, UnsupportedEvidence, VerificationError
from .demo_parts import SHOWN, relay
from .model import progress
from .show import check_table, verdict_line
from .show_gpu import show_gpus

if TYPE_CHECKING:
    from rich.console import Console

    from ..attest.sim_nvidia import SimGpuSource
    from ..client.session import Session
    from ..cvm_image.boot.emulated import EmulatedGuest
    from ..cvm_image.layout import Manifest
    from ..cvm_image.lock import Lock
    from ..cvm_image.profile import Profile
    from ..cvm_image.store import Store
    from ..measurements.image import Measurements
    from ..verifier.policy import Policy

# Few and short: the emulated processor reads and writes less than one token a second.
SYSTEM: Final = "Summarize"
QUESTION: Final = "Ann: Train is late."
MAX_TOKENS: Final = 12
_BOOT_SECONDS: Final = 240.0
_ANSWER_SECONDS: Final = 300.0
_BLOCK: Final = 4096


def run(out: Console, stack: ExitStack, name: str, tee: str, *, mirrors: Sequence[str] = (), verbose: bool) -> bool:
    """The demo with a virtual machine; whether all of it held.

    Args:
        out: where it is shown.
        stack: ends what is started.
        name: of the profile.
        tee: what is simulated, "snp" or "tdx".
        mirrors: addresses of the Debian archive; empty for those of the host's apt settings.
        verbose: whether every check and the guest's console are shown.
    """
    from ..attest.sim_nvidia import SimulatedNvidia  # noqa: PLC0415 - help need not pay
    from ..cvm_image import layout  # noqa: PLC0415
    from ..cvm_image.profile import load_profile  # noqa: PLC0415
    from ..cvm_image.store import Store  # noqa: PLC0415
    from ..measurements.image import parse_measurements  # noqa: PLC0415
    from ..verifier.policy import load_policy  # noqa: PLC0415

    profile, store = load_profile(name), Store()
    store.folder.mkdir(parents=True, exist_ok=True)
    scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="demo-", dir=store.folder)))
    image = scratch / "image"

    out.rule("[bold]1  Build the image from its lock, and measure it", align="left")
    lock = _locked(out, profile, name, store, mirrors)
    manifest = _build(out, profile, lock, store, image)
    wanted = _wanted(parse_measurements((image / layout.MEASUREMENTS).read_text()), manifest, tee)
    for register, value in wanted.items():
        out.print(f"{register:5} {value}", soft_wrap=True)
    out.print()

    out.rule("[bold]2  Boot it, emulated in software, beside a simulated secure processor", align="left")
    nvidia = SimulatedNvidia(scratch / "state")
    make = partial(_guest, image, store, scratch, tee, nvidia.source())
    guest = make(verbose=verbose)
    policy = load_policy(guest.policy())
    held = guest.launch.measured == wanted
    with guest:
        _boot(out, guest)
        out.print(f"service {guest.url}   SIMULATED platform, root {guest.launch.root_sha256.hex()[:16]}…")
        out.print(f"GPU     one SIMULATED Hopper, root {nvidia.device_root_sha256.hex()[:16]}…")
        with ExitStack() as inner:
            session = _verify(out, inner, guest, policy, verbose=verbose)
            held = _ask(out, session) and session.result.verdict == "accepted" and held
        recorded = _record(guest)
    out.print()
    out.rule("[bold]5  What is refused", align="left")
    return _refusals(out, policy, recorded, image, scratch, make) and held


def _wanted(measured: Measurements, manifest: Manifest, tee: str) -> dict[str, str | None]:
    """What the image says that its machine must measure, by the names that a simulated launch gives."""
    boot = manifest.boot
    if tee == "snp":
        digests = {(row.vcpus, row.vcpu_type): row.launch_digest for row in measured.snp.digests}
        return {"launch digest": digests.get((boot.vcpus, boot.vcpu_type))}
    if measured.tdx is None:
        raise MaterialUnavailable("the image has no firmware for a TD")
    rows = {(row.vcpus, row.memory): row for row in measured.tdx.machines}
    row = rows[boot.vcpus, boot.memory]
    return {"MRTD": measured.tdx.mrtd, "RTMR0": row.rtmr0, "RTMR1": row.rtmr1, "RTMR2": row.rtmr2}


def _locked(out: Console, profile: Profile, name: str, store: Store, addresses: Sequence[str]) -> Lock:
    """The committed lock with all that it names in the store, or a new one where mirrors no longer serve it."""
    from ..cvm_image.apt import given_mirrors, host_mirrors  # noqa: PLC0415 - help need not pay
    from ..cvm_image.fetch import fetch  # noqa: PLC0415
    from ..cvm_image.lock import read_lock  # noqa: PLC0415
    from ..cvm_image.profile import lock_path  # noqa: PLC0415
    from ..cvm_image.resolve import resolve  # noqa: PLC0415

    lock = read_lock(lock_path(name))
    with progress() as told:
        try:
            fetch(lock, store, progress=told, mirrors=addresses or None)
        except MaterialUnavailable as exc:
            out.print(f"[yellow]{exc}[/yellow]")
            out.print(
                "[bold yellow]The lock is resolved anew: the image's digest will differ from the released one.[/]"
            )
            # What was accepted past its window when the lock was written is accepted again, and nothing else.
            expired = {suite.suite for suite in lock.suites if not suite.valid_until_checked}
            mirrors = given_mirrors(addresses) if addresses else host_mirrors()
            lock = resolve(profile, mirrors=mirrors, allow_expired=expired, store=store, progress=told)
            fetch(lock, store, progress=told, mirrors=addresses or None)
    size = sum(deb.size for deb in lock.debs) + sum(wheel.size for wheel in lock.wheels)
    out.print(f"lock    {len(lock.debs)} packages, {len(lock.wheels)} wheels, {size / 1e6:.0f} MB, each by SHA-256")
    return lock


def _build(out: Console, profile: Profile, lock: Lock, store: Store, image: Path) -> Manifest:
    from ..cvm_image.assemble.build import build  # noqa: PLC0415 - help need not pay

    started = time.monotonic()
    with progress() as told:
        manifest = build(profile, lock, store, image, told=told)
    out.print(f"built   in {time.monotonic() - started:.1f} s, without root and without any tool of this machine")
    for volume in manifest.volumes:
        out.print(f"volume  {volume.name:6} {volume.filesystem:8} dm-verity root hash {volume.root_hash}")
    return manifest


def _guest(
    image: Path,
    store: Store,
    scratch: Path,
    tee: str,
    gpus: SimGpuSource,
    *,
    verbose: bool = False,
    command_line: str | None = None,
    initrd: Path | None = None,
    images: tuple[Path, ...] = (),
) -> EmulatedGuest:
    from ..attest.sim_port import Tee  # noqa: PLC0415 - help need not pay
    from ..cvm_image.boot.emulated import EmulatedGuest  # noqa: PLC0415

    with progress() as told:
        return EmulatedGuest(
            image,
            store,
            state_dir=scratch / "state",
            tee=Tee(tee),
            told=told,
            console=(lambda line: print(f"| {line}")) if verbose else None,
            command_line=command_line,
            initrd=initrd,
            images=images,
            gpus=gpus,
        )


def _boot(out: Console, guest: EmulatedGuest) -> None:
    guest.wait_serving(_BOOT_SECONDS, lambda stage, seconds: out.print(f"[dim]{seconds:5.1f} s[/dim]  {stage}"))


def _verify(out: Console, stack: ExitStack, guest: EmulatedGuest, policy: Policy, *, verbose: bool) -> Session:
    from ..client.session import Session  # noqa: PLC0415 - help need not pay

    between = relay(stack, guest.url)
    out.print(f"relay   {between}   sees who asks, not what\n")
    out.rule("[bold]3  Verify it over a fresh nonce, through the relay, before anything is sent", align="left")
    session = stack.enter_context(Session.open(guest.url, policy, relay=between, timeout=_ANSWER_SECONDS))
    seconds = time.monotonic() - guest.machine.started
    result = session.result
    rows = result.checks if verbose else tuple(check for check in result.checks if check.id in SHOWN)
    out.print(check_table(rows, title="Evidence of the live endpoint: processor, GPU, and what binds both to its keys"))
    show_gpus(out, result, measurements=verbose)
    out.print(verdict_line(result))
    out.print(f"[dim]{seconds:.1f} s from QEMU's start to the verified endpoint[/dim]\n")
    return session


def _ask(out: Console, session: Session) -> bool:
    from rich.text import Text  # noqa: PLC0415 - help need not pay

    from ..client.chat import Message  # noqa: PLC0415

    out.rule("[bold]4  One request under HPKE to the attested key", align="left")
    out.print(f"[dim]{QUESTION}[/dim]")
    started = time.monotonic()
    with progress() as told:
        told("the emulated processor needs more than a second for each token", 0, 0)
        messages = [Message(role="system", content=SYSTEM), Message(role="user", content=QUESTION)]
        answer = session.chat(messages, max_tokens=MAX_TOKENS, temperature=0.0)
    out.print(Text.assemble((f"{answer.model}: ", "bold"), answer.text.strip()))
    seconds = time.monotonic() - started
    out.print(f"[dim]{answer.prompt_tokens} tokens read, {answer.completion_tokens} written, {seconds:.1f} s[/dim]")
    return bool(answer.text.strip())


def _record(guest: EmulatedGuest) -> bytes:
    """Evidence as somebody on the wire could have kept it."""
    from ..client.session import fetch_bundle  # noqa: PLC0415 - help need not pay
    from ..client.transport import Transport  # noqa: PLC0415

    transport = Transport(guest.url)
    try:
        return fetch_bundle(transport, os.urandom(32))
    finally:
        transport.close()


def _refusals(  # noqa: PLR0917 - all that a tampered guest is made of
    out: Console, policy: Policy, recorded: bytes, image: Path, scratch: Path, make: Callable[..., EmulatedGuest]
) -> bool:
    held = True
    for what, wanted, found in _impostors(policy, recorded, image, scratch, make):
        good = found.startswith(wanted)
        held = held and good
        out.print(f"[{'green' if good else 'bold red'}]{'refused' if good else 'NOT REFUSED'}[/]  {what}")
        out.print(f"         [dim]{found}[/dim]")
    return held


def _impostors(
    policy: Policy, recorded: bytes, image: Path, scratch: Path, make: Callable[..., EmulatedGuest]
) -> Iterator[tuple[str, str, str]]:
    """What is wrong, how the refusal must begin, and what was found."""
    from ..cvm_image import layout  # noqa: PLC0415 - help need not pay

    yield "an old report, replayed to a new nonce", Check.BINDING_FRESHNESS, _replayed(policy, recorded)
    code = Check.TDX_RTMR2 if policy.tdx.mrtd else Check.SNP_MEASUREMENT
    line = layout.read_manifest(image).command_line
    with make(command_line=f"{line} systemd.debug_shell=1") as guest:
        yield "the same image with another command line", code, _met(guest, policy)
    with make(initrd=_other_initrd(image, scratch)) as guest:
        yield "the same image with one more file in the initrd", code, _met(guest, policy)
    manifest = layout.read_manifest(image)
    disks = (_flipped(image / manifest.volumes[0].file, scratch), *(image / v.file for v in manifest.volumes[1:]))
    with make(images=disks) as guest:
        yield "one flipped bit in the root file system", "the guest died", _dies(guest)


def _booting(guest: EmulatedGuest) -> None:
    with progress() as told:
        told("booting an impostor", 0, 0)
        guest.wait_serving(_BOOT_SECONDS, lambda stage, _: told(f"booting an impostor: {stage}", 0, 0))


def _met(guest: EmulatedGuest, policy: Policy) -> str:
    from ..client.session import Session  # noqa: PLC0415 - help need not pay

    _booting(guest)
    try:
        Session.open(guest.url, policy).close()
    except VerificationError as exc:
        return f"{exc.failed.id}: {exc.failed.message}"
    return "it was accepted"


def _replayed(policy: Policy, recorded: bytes) -> str:
    from ..client.session import Session  # noqa: PLC0415 - help need not pay
    from ..cvm_image.service.server import Server  # noqa: PLC0415
    from ..evidence.bundle import MEDIA_TYPE  # noqa: PLC0415
    from .demo_parts import recorded_app  # noqa: PLC0415

    with Server(recorded_app(recorded, MEDIA_TYPE)) as server:
        try:
            Session.open(server.url, policy).close()
        except VerificationError as exc:
            return f"{exc.failed.id}: {exc.failed.message}"
    return "it was accepted"


def _other_initrd(image: Path, scratch: Path) -> Path:
    """The image's initrd and one more archive after it, as the kernel reads it: a file that nobody declared."""
    from ..cvm_image import layout  # noqa: PLC0415 - help need not pay
    from ..cvm_image.assemble.initrd import write_newc  # noqa: PLC0415
    from ..cvm_image.assemble.tree import Content, Kind, Node  # noqa: PLC0415

    path = scratch / "other-initrd.img"
    shutil.copyfile(image / layout.INITRD, path)
    extra = Node(path="/extra", kind=Kind.FILE, mode=0o755, content=Content.of(b"#!/bin/sh\n"), origin="nobody")
    with path.open("r+b") as file:
        end = file.seek(0, os.SEEK_END)
        file.write(bytes(-end % 4))
        write_newc([extra], file, ids={"root": 0})
    return path


def _flipped(disk: Path, scratch: Path) -> Path:
    path = scratch / "flipped.img"
    shutil.copyfile(disk, path)
    with path.open("r+b") as file:
        file.seek(_BLOCK // 2)
        byte = file.read(1)[0]
        file.seek(_BLOCK // 2)
        file.write(bytes([byte ^ 1]))
    return path


def _dies(guest: EmulatedGuest) -> str:
    try:
        _booting(guest)
    except MaterialUnavailable:
        pass
    else:
        return "it served"
    if not guest.machine.wait_end(10):
        raise UnsupportedEvidence("the guest neither serves nor ends")
    said = [line for line in guest.machine.console if "corrupted" in line or "refused" in line or "panic" in line]
    return "the guest died: " + (said[0].partition("] ")[2] or said[0] if said else "it said nothing")
