"""The verifier that the GPU gate asks: the project's own, with a policy and reference values from the verified root.

The guest's clock is the host's to set.  A host that sets it back can have old reference values and old lists pass here;
what a client verifies, it verifies by its own clock.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

from ...codec import pem_or_der
from ...endorsements.rim_store import RimStore
from ...errors import MalformedEvidence, MaterialUnavailable
from ...evidence.gpu_evidence import GpuEvidence
from ...verifier.appraise_gpu import appraise_gpus
from ...verifier.gpu_machine import GpuMaterial, verify_gpus
from ...verifier.gpu_revocation import RevocationMaterial
from ...verifier.policy import Policy, load_policy
from .gpu_gate import Verify

POLICY: Final = Path("/etc/dokimos/gpu-policy.toml")
"""What the GPUs must be."""
MATERIAL: Final = Path("/etc/dokimos/gpu")
"""Reference values, revocation lists (``*.crl``) and stored answers (``*.ocsp``)."""
_MOST_FILES: Final = 256
_FILE_MAX: Final = 1 << 20


def policy_verifier(policy: Policy, material: GpuMaterial, *, now: Callable[[], datetime]) -> Verify:
    """A verifier for :class:`~.gpu_gate.GpuGate`.

    What the guest says of its GPUs is no part of it: the gate looks at that itself.

    Args:
        policy: what the GPUs must be.
        material: reference values and revocation.
        now: gives the time, aware.
    """
    policy = policy.with_gpu(require_guest_state=False)

    def verify(devices: tuple[GpuEvidence, ...], nonce: bytes) -> None:
        verified = verify_gpus(devices, material, trust=policy.gpu_trust(), at=now())
        appraise_gpus(verified, policy, nonce=nonce).raise_for_verdict()

    return verify


class OnRoot(NamedTuple):
    """What a guest has on its verified root for its GPUs.

    Attributes:
        verify: the verifier.
        rims: reference values, which clients are handed too.
        crls: revocation lists in DER, likewise.
        ocsp: stored answers in DER, likewise.
    """

    verify: Verify
    rims: tuple[bytes, ...]
    crls: tuple[bytes, ...]
    ocsp: tuple[bytes, ...]


def on_root(policy: Path = POLICY, folder: Path = MATERIAL) -> OnRoot:
    """Read a guest's policy and reference values.

    Args:
        policy: file of the policy.
        folder: where the reference values are.

    Raises:
        MaterialUnavailable: a file or the folder cannot be read.
        MalformedEvidence: a file is too large, is not what its name says, or there are too many.
        UsageError: the policy is not one.
    """
    rules = load_policy(_read(policy).decode("utf-8", "replace"))
    files = _files(folder)
    crls = [der for name, data in files.items() if name.endswith(".crl") for der in pem_or_der(data, name, "X509 CRL")]
    ocsp = [data for name, data in files.items() if name.endswith(".ocsp")]
    rims = {name: data for name, data in files.items() if not name.endswith((".crl", ".ocsp"))}
    material = GpuMaterial(rims=RimStore.of(rims), revocation=RevocationMaterial(crls=tuple(crls), ocsp=tuple(ocsp)))
    verify = policy_verifier(rules, material, now=lambda: datetime.now(UTC))
    return OnRoot(verify, tuple(rims.values()), tuple(crls), tuple(ocsp))


def _files(folder: Path) -> dict[str, bytes]:
    try:
        found = sorted(folder.iterdir())
    except OSError as exc:
        raise MaterialUnavailable(f"{folder}: {exc.strerror}") from exc
    if len(found) > _MOST_FILES:
        raise MalformedEvidence(f"{folder}: more than {_MOST_FILES} files")
    return {file.name: _read(file) for file in found}


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(_FILE_MAX + 1)
    except OSError as exc:
        raise MaterialUnavailable(f"{path}: {exc.strerror}") from exc
    if len(data) > _FILE_MAX:
        raise MalformedEvidence(f"{path}: longer than {_FILE_MAX} bytes")
    return data
