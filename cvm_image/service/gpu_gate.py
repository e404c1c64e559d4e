"""The GPU gate: the service's keys are public only while attested GPUs, and nobody else's, stand behind them.

A pass goes through these conditions in this order, and the first that does not hold ends it:

1. confidential computing is on, its environment is production, DevTools mode is off, and several GPUs do not work
   together in a way that takes evidence which NVML does not give;
2. NVML's devices are the PCI bus's display devices, as many as the configuration says;
3. the GPUs refuse work until they are verified: their ready state is 0, or is set to it;
4. new keys are made, in memory, and a nonce that covers them; every GPU gives evidence over it;
5. our own verifier accepts this evidence;
6. the ready state is set to 1 and reads as 1;
7. the engine starts;
8. all of 1, 2 and 6 still holds, and the engine lives; only then the keys are published.

Publishing takes a :class:`GpuPass`, which nothing but a whole pass makes, for the keys of that pass, to be used once.

Whatever fails, and whatever is lost later, is answered in this order: the keys are dropped, the ready state is set to
0, the engine is stopped.  The keys go first, since they must not be public for a moment in which a GPU is not ready;
they are in memory, where nothing can refuse.  The ready state goes before the engine, since it holds whether or not the
engine obeys.  It is tried once more after the engine has gone, in case the driver refuses it while it is in use.  Keys
that were dropped are gone: a later pass makes others.

A watch looks again every second.  If it does not come, or hangs in the driver, the pass runs out, and the keys with it.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from enum import StrEnum
from hashlib import sha256
from typing import Final, Protocol

from ...attest.nvml import Device, Environment, GpuSystem, MultiGpu, collect
from ...errors import Error, ExitCode, MaterialUnavailable, UsageError
from ...evidence.gpu_evidence import GpuEvidence
from ...evidence.statement import Statement, gpu_nonce

INTERVAL: Final = 1.0
"""Seconds between two looks at an open gate."""
LEASE: Final = 10.0
"""Seconds for which a look holds."""
_GUARD = object()


class Reason(StrEnum):
    """Why a gate is closed; what of the machine it is about."""

    SETTINGS = "settings"
    """The driver does not tell in which mode the machine is."""
    CC_FEATURE = "cc-feature"
    ENVIRONMENT = "environment"
    DEVTOOLS = "devtools"
    MULTI_GPU = "multi-gpu"
    DEVICES = "devices"
    """Not the devices that there should be, or not those of the pass any more."""
    KEYS = "keys"
    EVIDENCE = "evidence"
    """A device gives none."""
    VERIFICATION = "verification"
    """The verifier does not accept it."""
    READY = "ready"
    ENGINE = "engine"
    LATE = "late"
    """The watch came too late, so that the pass had run out."""
    ENDED = "ended"
    """It was closed on request."""


class State(StrEnum):
    """Where a gate stands."""

    CLOSED = "closed"
    PASSING = "passing"
    OPEN = "open"


class GateClosed(Error):
    """The gate is closed, and everything behind it was taken back.

    Attributes:
        reason: why.
        left: what could not be taken back ("keys", "ready state", "engine"), with the reason; empty if all was.
        exit_code: as of the error behind it, else "rejected".
    """

    def __init__(self, reason: Reason, message: str, *, cause: BaseException | None = None) -> None:
        super().__init__(f"GPU gate: {reason}: {message}")
        self.reason = reason
        self.left: dict[str, str] = {}
        self.exit_code = cause.exit_code if isinstance(cause, Error) else ExitCode.REJECTED

    def __str__(self) -> str:
        left = "; ".join(f"{name}: {text}" for name, text in self.left.items())
        return super().__str__() + (f" (not taken back: {left})" if left else "")


class _Lease:
    """What a pass and its gate share."""

    __slots__ = ("revoked", "spent", "until")

    def __init__(self, until: float) -> None:
        self.until = until
        self.spent = False
        self.revoked = False


class GpuPass:
    """Leave to publish the keys of one pass, once; only a :class:`GpuGate` makes one.

    Attributes:
        key_configs_sha256: SHA-256 of the keys' ``application/ohttp-keys`` bytes.
    """

    __slots__ = ("_clock", "_lease", "key_configs_sha256")

    def __init__(self, guard: object, key_configs_sha256: bytes, lease: _Lease, clock: Callable[[], float]) -> None:
        if guard is not _GUARD:
            raise TypeError("only a GpuGate makes a GpuPass")
        self.key_configs_sha256 = key_configs_sha256
        self._lease = lease
        self._clock = clock

    @property
    def holds(self) -> bool:
        """Whether the keys may be public at this moment; from any thread."""
        return not self._lease.revoked and self._clock() < self._lease.until

    def spend(self, key_configs: bytes) -> None:
        """Use it, for these keys.

        Raises:
            UsageError: it was used before, does not hold any more, or is for other keys.
        """
        if self._lease.spent or not self.holds:
            raise UsageError("a GpuPass is used once, while it holds")
        if sha256(key_configs).digest() != self.key_configs_sha256:
            raise UsageError("a GpuPass is for the keys of its own pass only")
        self._lease.spent = True


class Service(Protocol):
    """What stands behind the gate; a call that fails raises an Error or an OSError."""

    def prepare(self) -> Statement:
        """Make new keys, in memory and unpublished, and say what would be said of them, with a fresh nonce."""

    def start(self) -> None:
        """Start the engine."""

    def alive(self) -> bool:
        """Whether the engine can still answer."""

    def publish(self, granted: GpuPass) -> None:
        """Publish the prepared keys, and let requests to them through for as long as the pass holds."""

    def drop(self) -> None:
        """Forget all keys, published or not; requests to them are refused.  There may be none."""

    def stop(self) -> None:
        """End the engine.  There may be none."""


Verify = Callable[[tuple[GpuEvidence, ...], bytes], object]
"""Our verifier: takes the evidence and the nonce that it must carry, and returns None or raises an Error."""


@contextlib.contextmanager
def _about(reason: Reason) -> Iterator[None]:
    """Errors become those of the gate, with their reason."""
    try:
        yield
    except GateClosed:
        raise
    except (Error, OSError) as exc:
        raise GateClosed(reason, str(exc), cause=exc) from exc


class GpuGate:
    """The gate of one service; its methods are for one thread at a time, and wait for each other.

    Args:
        system: the GPUs.
        display: gives the PCI addresses of the display devices.
        service: what stands behind it.
        verify: our verifier.
        gpus: how many GPUs the configuration says.
        clock: gives seconds that never go back.
        interval: seconds between two looks.
        lease: seconds for which a look holds.

    Attributes:
        state: where it stands.
        reason: why it is closed; None before the first pass and while it is open.

    Raises:
        UsageError: no GPU, or a look that does not hold until the next.
    """

    def __init__(
        self,
        *,
        system: GpuSystem,
        display: Callable[[], tuple[str, ...]],
        service: Service,
        verify: Verify,
        gpus: int,
        clock: Callable[[], float] = time.monotonic,
        interval: float = INTERVAL,
        lease: float = LEASE,
    ) -> None:
        if gpus < 1 or not 0 < interval < lease:
            raise UsageError("a GPU gate is for at least one GPU, and a look must hold until the next")
        self._system, self._display, self._service, self._verify = system, display, service, verify
        self._gpus, self._clock, self._interval, self._seconds = gpus, clock, interval, lease
        self._lock = threading.Lock()
        self._lease: _Lease | None = None
        self._devices: tuple[Device, ...] = ()
        self.state = State.CLOSED
        self.reason: Reason | None = None

    def open(self) -> None:
        """Go through a whole pass; whatever was open before is closed first.

        Raises:
            GateClosed: a condition does not hold.
        """
        with self._lock:
            self._or_shut(self._pass)

    def watch(self) -> None:
        """Look again; while all holds, the pass is renewed.

        Raises:
            GateClosed: something was lost, or the gate was not open.
        """
        with self._lock:
            self._or_shut(self._look)

    def close(self) -> None:
        """Close it; a later pass may open it again.

        Raises:
            GateClosed: something could not be taken back; see its ``left``.
        """
        with self._lock:
            left = self._shut(Reason.ENDED)
        if left:
            closed = GateClosed(Reason.ENDED, "closed on request")
            closed.left = left
            raise closed

    def keep(self, ended: Callable[[float], bool], opened: Callable[[], None] = lambda: None) -> None:
        """Open the gate, watch it until the end, and close it then, whatever happens.

        Args:
            ended: waits for so many seconds, and says whether it is the end; such as ``threading.Event().wait``.
            opened: called once the gate is open.

        Raises:
            GateClosed: it did not open, or something was lost.
        """
        self.open()
        try:
            opened()
            while not ended(self._interval):
                self.watch()
        except GateClosed:  # by the watch, which has taken everything back
            raise
        except BaseException:
            self.close()
            raise
        self.close()

    def _or_shut(self, step: Callable[[], None]) -> None:
        try:
            step()
        except GateClosed as exc:
            exc.left = self._shut(exc.reason)
            raise
        except BaseException:  # a fault of ours, or the end of the program: closed all the same
            self._shut(None)
            raise

    def _pass(self) -> None:
        left = self._shut(None)
        for name in {"keys", "engine"} & left.keys():  # the ready state is looked at again below
            raise GateClosed(Reason(name), f"what was there before cannot be taken back: {left[name]}")
        self.state = State.PASSING
        self._mode()
        self._devices = self._present()
        with _about(Reason.READY):
            self._withdraw()
        with _about(Reason.KEYS):
            statement = self._service.prepare()
            nonce = gpu_nonce(statement)
        with _about(Reason.EVIDENCE):
            evidence = collect(self._system, nonce)
        self._judge(evidence, nonce)
        with _about(Reason.READY):
            self._system.set_ready(True)
            self._must_be_ready()
        with _about(Reason.ENGINE):
            self._service.start()
        lease = _Lease(self._clock() + self._seconds)
        self._still()
        with _about(Reason.KEYS):
            self._lease = lease
            self._service.publish(GpuPass(_GUARD, statement.key_configs_sha256, lease, self._clock))
            if not lease.spent:
                raise MaterialUnavailable("the service published nothing")
        self.state, self.reason = State.OPEN, None

    def _look(self) -> None:
        lease = self._lease
        if lease is None:
            raise GateClosed(self.reason or Reason.ENDED, "it is not open: only a whole pass opens it")
        now = self._clock()
        self._still()
        # A look that took too long is none: the keys were away meanwhile, and do not come back.
        if self._clock() >= lease.until:
            raise GateClosed(Reason.LATE, f"no look within {self._seconds:g} seconds")
        lease.until = now + self._seconds

    def _still(self) -> None:
        """What must hold at every moment at which keys are public."""
        self._mode()
        if self._present() != self._devices:
            raise GateClosed(Reason.DEVICES, "they are not those of the pass any more")
        with _about(Reason.READY):
            self._must_be_ready()
        with _about(Reason.ENGINE):
            if not self._service.alive():
                raise GateClosed(Reason.ENGINE, "it has ended")

    def _must_be_ready(self) -> None:
        if not self._system.ready():
            raise GateClosed(Reason.READY, "the GPUs refuse work")

    def _mode(self) -> None:
        with _about(Reason.SETTINGS):
            found = self._system.settings()
        if found.multi_gpu is MultiGpu.PROTECTED_PCIE:
            raise GateClosed(Reason.MULTI_GPU, "protected PCIe takes the switches' evidence, which NVML does not give")
        if not found.cc_feature:
            raise GateClosed(Reason.CC_FEATURE, "confidential computing is off")
        if found.environment is not Environment.PRODUCTION:
            raise GateClosed(Reason.ENVIRONMENT, f"it is {found.environment}, not {Environment.PRODUCTION}")
        if found.devtools:
            raise GateClosed(Reason.DEVTOOLS, "DevTools mode is on")
        if found.multi_gpu is None and self._gpus > 1:
            raise GateClosed(Reason.MULTI_GPU, "the driver does not say how several GPUs work together")

    def _present(self) -> tuple[Device, ...]:
        with _about(Reason.DEVICES):
            count = self._system.count()
            if count != self._gpus:
                raise GateClosed(Reason.DEVICES, f"NVML has {count}, the configuration says {self._gpus}")
            devices = tuple(sorted(self._system.device(index) for index in range(count)))
            on_bus = tuple(sorted(self._display()))
        if tuple(sorted(device.bus_id for device in devices)) != on_bus:
            raise GateClosed(Reason.DEVICES, f"NVML has {count}, the PCI bus has {len(on_bus)}, or others")
        return devices

    def _judge(self, evidence: tuple[GpuEvidence, ...], nonce: bytes) -> None:
        if len(evidence) != self._gpus or any(device.nonce != nonce for device in evidence):
            raise GateClosed(Reason.EVIDENCE, "not one of each device over the nonce of this pass")
        with _about(Reason.VERIFICATION):
            answer = self._verify(evidence, nonce)
        if answer is not None:
            raise GateClosed(Reason.VERIFICATION, "an answer of the verifier is not taken for its consent")

    def _withdraw(self) -> None:
        """Have the GPUs refuse work; where they do already, nothing is set."""
        try:
            on = self._system.ready()
        except Error:
            on = True
        if on:
            self._system.set_ready(False)
            if self._system.ready():
                raise MaterialUnavailable("the GPUs still take work after they were told not to")

    def _shut(self, reason: Reason | None) -> dict[str, str]:
        """Take everything back, each part whatever becomes of the others; what could not be is returned."""
        self.state, self.reason = State.CLOSED, reason
        if self._lease is not None:
            self._lease.revoked = True
        self._lease, self._devices = None, ()
        left: dict[str, str] = {}
        parts = (
            ("keys", self._service.drop),
            ("ready state", self._withdraw),
            ("engine", self._service.stop),
            ("ready state", self._withdraw),
        )
        with contextlib.ExitStack() as stack:
            for name, part in reversed(parts):  # a stack: the last one in runs first
                stack.callback(_take_back, left, name, part)
        return left


def _take_back(left: dict[str, str], name: str, part: Callable[[], None]) -> None:
    try:
        part()
    except (Error, OSError) as exc:
        left[name] = str(exc)
    else:
        left.pop(name, None)
