"""Authenticity of a device's certificates: from NVIDIA's pinned root, or a simulated one, down to the device's key.

The chain has one form, so nothing is searched and no path is built: five certificates, the device's first, each issued
and signed by the next, and the last one pinned.  Which firmware runs is appraised elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from itertools import pairwise

from ..endorsements.gpu_certificate import GpuCertificate, parse_gpu_certificate
from ..endorsements.nvidia_anchors import DEVICE_ROOT_SHA256
from ..endorsements.p384 import verify_der
from ..errors import Check, MalformedEvidence
from ..evidence.gpu_arch import Arch
from .checklist import Checklist
from .trust import GpuTrust
from .window import Window

CHAIN_LENGTH = 5
NAMES = ("device", "device's BROM", "provisioner", "identity CA", "root")
"""What the certificates are, leaf first."""

_FORM = "NVIDIA device identity chain"
_FAMILIES = {"GH": Arch.HOPPER, "GB": Arch.BLACKWELL, "LS": Arch.LS10}
# The serial number of the BROM's certificate: what kind of device, then its PDI.
_PDI_PREFIX = {Arch.HOPPER: 0x41, Arch.BLACKWELL: 0x41, Arch.LS10: 0x50}
_PDI_SIZE = 8


def arch_of(chip: str) -> Arch | None:
    """The architecture of a chip by its name, such as "GB202", or None if it is of none that is known."""
    return _FAMILIES.get(chip[:2])


def chip_of(certificate: GpuCertificate) -> str:
    """Name of the chip, which stands first in the common name of a device's certificate; "LS_10" is "LS10"."""
    return certificate.subject_cn.partition(" ")[0].replace("_", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedChain:
    """A device's chain that holds from its root down.

    Attributes:
        certificates: the device's first, the root last.
        simulated: the root is one that the policy names, not NVIDIA's.
        root_sha256: SHA-256 of the root's DER certificate.
        windows: times in which all of it is valid.
        chip: name of the chip, such as "GH100", "GB100" or "LS10".
        pdi: the device's number that its peers know it by, 8 bytes; None where the BROM's certificate has none.
    """

    certificates: tuple[GpuCertificate, ...]
    simulated: bool
    root_sha256: bytes
    windows: tuple[Window, ...]
    chip: str
    pdi: bytes | None


def verify_chain(
    certificates: tuple[bytes, ...], arch: Arch, *, trust: GpuTrust, at: datetime, checks: Checklist
) -> VerifiedChain:
    """Verify the certificates of a GPU or a switch.

    Args:
        certificates: in DER, leaf first, as received.
        arch: what the device's own certificates must be of.
        trust: roots of simulated devices.
        at: the time of verification, aware.
        checks: checks that ran already; this one's are added to it.

    Raises:
        VerificationError: a check failed.
        MalformedEvidence: a certificate cannot be read (``gpu.chain.format``).
    """
    checks.require(
        len(certificates) == CHAIN_LENGTH,
        Check.GPU_CHAIN_LENGTH,
        f"{len(certificates)} certificates; a device has {CHAIN_LENGTH}, from its own up to the root",
        expected=CHAIN_LENGTH,
        actual=len(certificates),
        reference=_FORM,
    )
    try:
        chain = tuple(
            parse_gpu_certificate(der, f"certificate of the {name}")
            for der, name in zip(certificates, NAMES, strict=True)
        )
    except MalformedEvidence as exc:
        raise MalformedEvidence(str(exc), check=Check.GPU_CHAIN_FORMAT) from exc
    checks.passed(Check.GPU_CHAIN_FORMAT, reference="RFC 5280 4.1; RFC 5758 3.2")
    simulated = _pinned(chain[-1], trust, checks)
    _issuers(chain, checks)
    _roles(chain, checks)
    chip = _model(chain, arch, checks)
    _signatures(chain, checks)
    window = _window(chain, at)
    window.require(checks, at)
    return VerifiedChain(
        certificates=chain,
        simulated=simulated,
        root_sha256=chain[-1].sha256,
        windows=(window,),
        chip=chip,
        pdi=_pdi(chain[1].serial, arch),
    )


def _pinned(root: GpuCertificate, trust: GpuTrust, checks: Checklist) -> bool:
    """The last certificate is trusted because of its hash, never because it came last."""
    simulated = root.sha256 != DEVICE_ROOT_SHA256
    checks.require(
        not simulated or root.sha256 in trust.simulated_roots,
        Check.GPU_ROOT_PINNED,
        "the root is neither NVIDIA's nor one that the policy names",
        expected=tuple(sorted(trust.simulated_roots)) or DEVICE_ROOT_SHA256,
        actual=root.sha256,
        reference="pinned by SHA-256 of the DER",
    )
    return simulated


def _issuers(chain: tuple[GpuCertificate, ...], checks: Checklist) -> None:
    for n, (below, above) in enumerate(pairwise(chain)):
        if below.issuer != above.subject:
            checks.failed(
                Check.GPU_CHAIN_ISSUER,
                f"the certificate of the {NAMES[n]} names another issuer than the one behind it",
                expected=above.subject_cn,
                actual=below.issuer_cn,
                reference="RFC 5280 6.1.3 (a)(4)",
            )
    checks.passed(Check.GPU_CHAIN_ISSUER, reference="RFC 5280 6.1.3 (a)(4)")


def _roles(chain: tuple[GpuCertificate, ...], checks: Checklist) -> None:
    """The BROM's certificate is a CA without path length: one below the device's own would look like a chain's."""
    reference = "RFC 5280 4.2.1.3, 4.2.1.9"
    leaf = chain[0]
    if not leaf.digital_signature or leaf.is_ca or leaf.key_cert_sign:
        checks.failed(
            Check.GPU_CHAIN_ROLE,
            "the first certificate is not one for signing data, or it is a CA's",
            actual=leaf.subject_cn,
            reference=reference,
        )
    for n, ca in enumerate(chain[1:], 1):
        if not ca.is_ca or not ca.key_cert_sign or (ca.path_length is not None and ca.path_length < n - 1):
            checks.failed(
                Check.GPU_CHAIN_ROLE,
                f"the certificate of the {NAMES[n]} is not one of a CA that may stand there",
                actual=ca.subject_cn,
                reference=reference,
            )
    checks.passed(Check.GPU_CHAIN_ROLE, reference=reference)


def _model(chain: tuple[GpuCertificate, ...], arch: Arch, checks: Checklist) -> str:
    """Name of the chip, which stands first in the common names of the device's two own certificates."""
    chips = tuple(chip_of(certificate) for certificate in chain[:2])
    checks.require(
        chips[0] == chips[1] and arch_of(chips[0]) is arch,
        Check.GPU_CHAIN_MODEL,
        "the device's certificates are of another chip, or of two",
        expected=arch.value,
        actual=chips,
        reference=f"{_FORM}, common names",
    )
    return chips[0]


def _signatures(chain: tuple[GpuCertificate, ...], checks: Checklist) -> None:
    # From the root down, so that the first one that fails is the one to look at.
    for n in range(len(chain) - 2, -1, -1):
        if not _signed_by(chain[n + 1].public_point, chain[n].signature, chain[n].tbs):
            checks.failed(
                Check.GPU_CHAIN_SIGNATURE,
                f"the certificate of the {NAMES[n]} is not signed by the one behind it",
                actual=chain[n].subject_cn,
                reference="RFC 5280 6.1.3 (a)(1)",
            )
    checks.passed(Check.GPU_CHAIN_SIGNATURE, reference="RFC 5280 6.1.3 (a)(1)")


@lru_cache(maxsize=128)  # the CAs stand in every chain, and a device signs many reports; nothing of it depends on time
def _signed_by(point: bytes, signature: bytes, tbs: bytes) -> bool:
    return verify_der(point, signature, tbs)


def _window(chain: tuple[GpuCertificate, ...], at: datetime) -> Window:
    """The time in which every certificate is valid, named after the one that decides."""
    last = max(chain, key=lambda certificate: certificate.not_before)
    first = min(chain, key=lambda certificate: certificate.not_after)
    named = last if at < last.not_before else first
    return Window.of(
        Check.GPU_CHAIN_EXPIRED,
        f"the certificate {named.subject_cn!r} of the device's chain",
        last.not_before,
        first.not_after,
        early=Check.GPU_CHAIN_NOT_YET_VALID,
    )


def _pdi(serial: int, arch: Arch) -> bytes | None:
    prefix, pdi = divmod(serial, 1 << (8 * _PDI_SIZE))
    return pdi.to_bytes(_PDI_SIZE, "big") if prefix == _PDI_PREFIX[arch] else None
