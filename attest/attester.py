"""The attester: binds the service's keys to a report over a client's nonce, and hands both out as one bundle."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from typing import Final, Protocol

from ..errors import MaterialUnavailable, UsageError
from ..evidence.bundle import Bundle, SnpEvidence, encode_bundle
from ..evidence.gpu_evidence import gpu_digest
from ..evidence.gpu_part import GpuPart
from ..evidence.statement import EPOCH_SIZE, PROFILE_OHTTP, ROLE_GATEWAY, Statement, gpu_nonce, report_data
from .provider import Endorsements, EvidenceSource, Provider

NONCE_SIZE: Final = 32
CHALLENGE_SECONDS: Final = 600
"""How long evidence over a nonce holds: a session may use its keys for so long before it asks again."""
EPOCH_SECONDS: Final = 3600
"""How long the bundle for all clients holds at most."""
_BACKDATED = 5


class EndorsementSource(Protocol):
    """Gives the certificates and lists that vouch for the platform's key."""

    def endorsements(self) -> Endorsements:
        """What is known now; called for each bundle, so that a renewed list is handed out."""


class SnpSource:
    """An :class:`~dokimos.attest.provider.EvidenceSource` of SNP reports.

    Args:
        provider: source of reports.
        endorsements: source of certificates and lists.
    """

    def __init__(self, provider: Provider, endorsements: EndorsementSource) -> None:
        self._provider = provider
        self._endorsements = endorsements

    def evidence(self, report_data: bytes) -> SnpEvidence:
        """See :class:`~dokimos.attest.provider.EvidenceSource`."""
        quote = self._provider.report(report_data)
        vek, cas, crls = self._endorsements.endorsements()
        return SnpEvidence(report=quote.report, vek=vek, cas=cas, crls=crls)


class GpuSource(Protocol):
    """Collects the evidence of every GPU and switch of the machine."""

    def collect(self, nonce: bytes) -> GpuPart:
        """Fresh evidence of all devices, with what vouches for them and what the guest says beside.

        Args:
            nonce: 32 bytes that every report must carry.

        Raises:
            Error: a device gave none.
        """


class Attester:
    """Makes evidence bundles; from any thread.

    Args:
        source: of the processor's evidence.
        key_configs: the gateway's exact ``application/ohttp-keys`` bytes.
        runtime_config_sha256: SHA-256 of the configuration, 32 bytes.
        image_sha256: SHA-256 of the image's manifest, 32 bytes.
        role: what the machine is.
        epoch: marker of a log's checkpoint, 40 bytes, or None where there is no log; only with one there is a bundle
            for all clients.
        gpus: of the GPUs' evidence; None where the machine has none.
        clock: gives the time in seconds since 1970.

    Raises:
        UsageError: an epoch of another size.
    """

    def __init__(
        self,
        source: EvidenceSource,
        *,
        key_configs: bytes,
        runtime_config_sha256: bytes,
        image_sha256: bytes,
        role: str = ROLE_GATEWAY,
        epoch: bytes | None = None,
        gpus: GpuSource | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if epoch is not None and len(epoch) != EPOCH_SIZE:
            raise UsageError(f"an epoch marker has {EPOCH_SIZE} bytes")
        self._source = source
        self._key_configs = key_configs
        self._runtime_config = runtime_config_sha256
        self._image = image_sha256
        self._role = role
        self._epoch = epoch
        self._gpus = gpus
        self._clock = clock
        self._lock = threading.Lock()
        self._cached: tuple[float, bytes] | None = None

    def _bundle(self, *, nonce: bytes | None, epoch: bytes | None, seconds: int) -> bytes:
        now = int(self._clock())
        statement = Statement(
            profile=PROFILE_OHTTP,
            role=self._role,
            key_configs_sha256=sha256(self._key_configs).digest(),
            tls_spki_sha256=None,
            nonce=nonce,
            epoch=epoch,
            not_before=now - _BACKDATED,
            expiry=now + seconds - _BACKDATED,
            gpu_digest=None,
            runtime_config_sha256=self._runtime_config,
            image_sha256=self._image,
        )
        # Both ways: the GPUs sign a nonce that covers the statement, and the statement that the processor signs covers
        # every device's evidence.
        gpu = self._gpus.collect(gpu_nonce(statement)) if self._gpus else None
        if gpu is not None:
            statement = replace(statement, gpu_digest=gpu_digest(gpu.devices, gpu.state))
        encoded = statement.to_cbor()
        cpu = self._source.evidence(report_data(encoded))
        return encode_bundle(Bundle(cpu=cpu, statement=encoded, key_configs=self._key_configs, gpu=gpu))

    def challenge(self, nonce: bytes) -> bytes:
        """Evidence over a client's nonce, ``application/cmw+json``.

        Args:
            nonce: 32 bytes.

        Raises:
            UsageError: another size.
            MaterialUnavailable: the platform gave no report.
        """
        if len(nonce) != NONCE_SIZE:
            raise UsageError(f"a nonce has {NONCE_SIZE} bytes")
        return self._bundle(nonce=nonce, epoch=None, seconds=CHALLENGE_SECONDS)

    @property
    def has_epoch(self) -> bool:
        """Whether there is a bundle for all clients."""
        return self._epoch is not None

    def epoch_bundle(self) -> bytes:
        """The bundle that is the same for all clients, renewed at half of its life.

        Raises:
            MaterialUnavailable: there is no log to take an epoch from, or the platform gave no report.
        """
        if self._epoch is None:
            raise MaterialUnavailable("no log checkpoint is configured, so there is no bundle for all clients")
        with self._lock:
            now = self._clock()
            if self._cached is None or now >= self._cached[0]:
                made = self._bundle(nonce=None, epoch=self._epoch, seconds=EPOCH_SECONDS)
                self._cached = (now + EPOCH_SECONDS / 2, made)
            return self._cached[1]
