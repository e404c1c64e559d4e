"""Authenticity of a RIM: NVIDIA, or a simulated root that the policy names, vouches for what it says, at a given time.

What does not depend on the time is judged once for each file and kept by its content; validity is looked at every time,
and so is whether the policy names the root.  Revocation of the signer is not looked at here:
:attr:`VerifiedRim.chain` is what :mod:`.gpu_revocation` takes.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

from ..endorsements.gpu_certificate import GpuCertificate, parse_gpu_certificate
from ..endorsements.nvidia_anchors import RIM_ROOT_SHA256
from ..endorsements.p384 import verify_der, verify_raw
from ..endorsements.rim import Rim, SignedRim, parse_rim
from ..errors import Check, MalformedEvidence
from .checklist import Checklist
from .trust import GpuTrust
from .window import Window

_TOKEN = object()
_FORM = "ISO/IEC 19770-2:2015; TCG RIM IM 1.01"
_PINNED = "pinned by SHA-256 of the DER"
_PATH = "RFC 5280 6.1.3"


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedRim:
    """A genuine RIM; only :func:`verify_rim` makes one.

    Attributes:
        rim: what it says.
        chain: the signer's certificate and those above it, the root last; its revocation is for others to look at.
        windows: times in which each of them is valid.
        simulated: the root is one that the policy names, not NVIDIA's.
        root_sha256: SHA-256 of the root's DER certificate.
    """

    rim: Rim
    chain: tuple[GpuCertificate, ...]
    windows: tuple[Window, ...]
    simulated: bool
    root_sha256: bytes
    token: object

    def __post_init__(self) -> None:
        if self.token is not _TOKEN:
            raise TypeError("only verify_rim() makes a VerifiedRim")


class _Judged(NamedTuple):
    """What is true of a file at any time.

    Attributes:
        signed: the file.
        chain: its certificates.
        intact: the document has the digest that is signed.
        chain_fault: what is wrong with the chain below its root, or "".
        signer: which certificate's key made the signature, or None.
        windows: validity of each certificate.
    """

    signed: SignedRim
    chain: tuple[GpuCertificate, ...]
    intact: bool
    chain_fault: str
    signer: int | None
    windows: tuple[Window, ...]


def verify_rim(data: bytes, *, trust: GpuTrust, at: datetime, checks: Checklist, what: str = "the RIM") -> VerifiedRim:
    """Verify a RIM by itself: its signature over all that it says, from the pinned root down.

    Args:
        data: the file as received.
        trust: roots of simulated RIMs.
        at: the time of verification, aware.
        checks: checks that ran already; this one's are added to it.
        what: name of the RIM, for messages.

    Raises:
        VerificationError: a check failed.
        MalformedEvidence: the file or a certificate in it cannot be read.
        UnsupportedEvidence: it has reference values of another kind.
        ValueError: `at` has no time zone.
    """
    if at.tzinfo is None:
        raise ValueError("the time of verification needs a time zone")
    judged = _judge(bytes(data))
    signed, chain = judged.signed, judged.chain
    checks.passed(Check.GPU_RIM_FORMAT, reference=_FORM)
    checks.passed(Check.GPU_RIM_SIGNATURE_FORM, reference="XMLDSig 4.4")
    checks.require(
        judged.intact,
        Check.GPU_RIM_DIGEST,
        f"{what} was changed: it does not have the digest that is signed",
        expected=signed.digest,
        actual=signed.actual_digest,
        reference="XMLDSig 3.2.1",
    )
    root, simulated = chain[-1].sha256, chain[-1].sha256 in trust.simulated_roots - {RIM_ROOT_SHA256}
    checks.require(
        simulated or root == RIM_ROOT_SHA256,
        Check.GPU_RIM_ROOT_PINNED,
        f"the last certificate of {what} is neither NVIDIA's root of RIMs nor one that the policy names",
        expected=(RIM_ROOT_SHA256, *sorted(trust.simulated_roots)),
        actual=root,
        reference=_PINNED,
    )
    checks.require(
        not judged.chain_fault,
        Check.GPU_RIM_CHAIN,
        f"the chain of {what}: {judged.chain_fault}",
        actual=tuple(certificate.subject_cn for certificate in chain),
        reference=_PATH,
    )
    for window in judged.windows:
        window.require(checks, at)
    _signer(judged, checks, what)
    return VerifiedRim(
        rim=signed.rim,
        chain=chain,
        windows=judged.windows,
        simulated=simulated,
        root_sha256=root,
        token=_TOKEN,
    )


def _signer(judged: _Judged, checks: Checklist, what: str) -> None:
    """The signature is by the key of the first certificate, which is the leaf of the chain that was just verified."""
    if judged.signer is None:
        checks.failed(
            Check.GPU_RIM_SIGNATURE,
            f"the signature of {what} is not by any of its certificates",
            reference="XMLDSig 3.2.2; RFC 6931 2.3.6",
        )
    checks.require(
        judged.signer == 0,
        Check.GPU_RIM_SIGNER,
        f"{what} is signed by certificate {judged.signer} of its chain, not by the first one",
        expected=judged.chain[0].subject_cn,
        actual=judged.chain[judged.signer].subject_cn,
        reference="XMLDSig 4.5.4",
    )
    checks.passed(Check.GPU_RIM_SIGNATURE, reference="XMLDSig 3.2.2; RFC 6931 2.3.6")


@lru_cache(maxsize=64)  # every device of a machine has the same two; a file has at most 256 KiB
def _judge(data: bytes) -> _Judged:
    signed = parse_rim(data)
    try:
        chain = tuple(
            parse_gpu_certificate(der, f"certificate {number} of the RIM")
            for number, der in enumerate(signed.certificates)
        )
    except MalformedEvidence as exc:
        raise MalformedEvidence(str(exc), check=Check.GPU_RIM_CHAIN) from exc
    intact = signed.actual_digest == signed.digest
    fault = _chain_fault(chain) if intact else "not looked at"
    windows = tuple(
        Window.of(
            Check.GPU_RIM_EXPIRED,
            f"the certificate of {certificate.subject_cn or 'the RIM'!r}",
            certificate.not_before,
            certificate.not_after,
            early=Check.GPU_RIM_NOT_YET_VALID,
        )
        for certificate in chain
    )
    return _Judged(signed, chain, intact, fault, None if fault else _signed_by(signed, chain), windows)


def _chain_fault(chain: tuple[GpuCertificate, ...]) -> str:
    """What is wrong with it, from the signer up to the root, which is pinned and needs no signature."""
    if len(chain) < 2:
        return "one certificate only"
    if chain[0].is_ca or not chain[0].digital_signature:
        return "the first certificate is not one for signing data"
    for below, (certificate, issuer) in enumerate(pairwise(chain)):
        if fault := _link_fault(certificate, issuer, below):
            return fault
    return ""


def _link_fault(certificate: GpuCertificate, issuer: GpuCertificate, below: int) -> str:
    if not issuer.is_ca or not issuer.key_cert_sign:
        return f"{issuer.subject_cn!r} is no CA"
    if issuer.path_length is not None and issuer.path_length < below:
        return f"{issuer.subject_cn!r} may have no more than {issuer.path_length} CAs below it, and has {below}"
    if certificate.issuer != issuer.subject:
        return f"{certificate.subject_cn!r} is issued by {certificate.issuer_cn!r}, not {issuer.subject_cn!r}"
    if not _link(issuer.public_point, certificate.signature, certificate.tbs):
        return f"{certificate.subject_cn!r} is not signed by {issuer.subject_cn!r}"
    return ""


@lru_cache(maxsize=64)  # all RIMs of one product share the CAs
def _link(point: bytes, signature: bytes, tbs: bytes) -> bool:
    return verify_der(point, signature, tbs)


def _signed_by(signed: SignedRim, chain: tuple[GpuCertificate, ...]) -> int | None:
    for number, certificate in enumerate(chain):
        if verify_raw(certificate.public_point, signed.signature, signed.signed_info):
            return number
    return None
