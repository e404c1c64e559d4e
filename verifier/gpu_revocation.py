"""Revocation in the chains of NVIDIA's devices and manifests: lists and answers of a responder, stored or live.

What is there is always looked at; the policy says what must be there.  Verified by hand, since no library has both: a
list or answer counts only with a signature of the very CA that issued the certificate, or of its responder.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import lru_cache
from itertools import pairwise

from ..codec import pem_or_der
from ..endorsements import ecdsa
from ..endorsements.ca import Crl, parse_crl
from ..endorsements.gpu_certificate import GpuCertificate
from ..endorsements.ocsp import OCSP_SIGNING, CertStatus, OcspAnswer, Single, parse_ocsp, parse_responder
from ..endorsements.status_points import DEVICE_INDEXES, RIM_INDEXES, status_points
from ..errors import Check, MalformedEvidence
from .checklist import Checklist
from .policy_keys import Json
from .trust import GpuRevocation, GpuTrust
from .window import Watch, Window

__all__ = [
    "DEVICE_INDEXES",
    "RIM_INDEXES",
    "Checked",
    "Looked",
    "RevocationFinding",
    "RevocationMaterial",
    "check_revocation",
]

MAX_CRLS = 64
MAX_ANSWERS = 1024
"""A dozen devices need 12 answers of their own and about 10 of their CAs and manifests."""

_WHAT = "certificate"
_CRL = "RFC 5280 6.3.3"
_OCSP = "RFC 6960 3.2"
_POLICY = "policy, gpu.revocation"


@dataclass(frozen=True, slots=True, kw_only=True)
class RevocationMaterial:
    """Lists and answers, for any number of chains; each is looked at where it concerns a certificate.

    Attributes:
        crls: revocation lists in DER.
        ocsp: answers of a responder in DER.
        live_nonces: nonce of the request by SHA-256 of the answer, of those that were just asked for; the others are
            stored ones, of which only the time tells that they are fresh.
    """

    crls: tuple[bytes, ...] = ()
    ocsp: tuple[bytes, ...] = ()
    live_nonces: Mapping[bytes, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.crls) > MAX_CRLS or len(self.ocsp) > MAX_ANSWERS:
            raise MalformedEvidence(f"more than {MAX_CRLS} revocation lists or {MAX_ANSWERS} OCSP answers")

    @classmethod
    def of(cls, files: Mapping[str, bytes]) -> RevocationMaterial:
        """What a folder of material holds: ``*.crl`` in DER or PEM, and ``*.ocsp`` in DER; other names are left out.

        Raises:
            MalformedEvidence: a list is neither DER nor PEM, or there are too many.
        """
        lists = [(name, data) for name, data in sorted(files.items()) if name.endswith(".crl")]
        return cls(
            crls=tuple(crl for name, data in lists for crl in pem_or_der(data, name, "X509 CRL")),
            ocsp=tuple(data for name, data in sorted(files.items()) if name.endswith(".ocsp")),
        )


class Checked(StrEnum):
    """What was looked at for all certificates that are looked up."""

    CRL = "crl"
    OCSP = "ocsp"
    BOTH = "both"
    PARTLY = "partly"
    """Something, but neither every list that there is nor an answer for every certificate."""
    NOT = "not checked"


@dataclass(frozen=True, slots=True)
class Looked:
    """One certificate that was looked up in one list or answer.

    Attributes:
        index: its place in the chain.
        name: its common name.
        by: "crl" or "ocsp".
        issued: when the list or answer was issued.
        until: when the next one is due.
    """

    index: int
    name: str
    by: str
    issued: datetime
    until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class RevocationFinding:
    """What is known of revocation in one chain.

    Attributes:
        checked: what was looked at.  A certificate without distribution point is in no list: where only lists are
            looked at, it stands in `unchecked` all the same.
        checked_at: when the oldest of the lists and answers was issued, or None.
        valid_until: when the first of them is due to be replaced, or None.
        looked: each look-up.
        unchecked: names of the certificates that should be looked up, but of which nothing is known.
        windows: times in which lists, answers and responders are valid, to be looked at again later.
    """

    checked: Checked
    checked_at: datetime | None
    valid_until: datetime | None
    looked: tuple[Looked, ...]
    unchecked: tuple[str, ...]
    windows: tuple[Window, ...]

    def to_json(self) -> dict[str, Json]:
        """The same for a result, without the look-ups one by one."""
        return {
            "checked": str(self.checked),
            "checked_at": None if self.checked_at is None else _rfc3339(self.checked_at),
            "valid_until": None if self.valid_until is None else _rfc3339(self.valid_until),
            "unchecked": list(self.unchecked),
        }


def _rfc3339(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def check_revocation(
    chain: tuple[GpuCertificate, ...],
    indices: tuple[int, ...],
    material: RevocationMaterial,
    *,
    trust: GpuTrust,
    hold: bool,
    at: datetime,
    checks: Checklist,
) -> RevocationFinding:
    """Look up the certificates of a chain.

    Args:
        chain: verified, leaf first, its root last.
        indices: those that must be looked up: DEVICE_INDEXES or RIM_INDEXES.
        material: lists and answers.
        trust: what must be there.
        hold: in this chain a certificate on hold is accepted, if the policy accepts that; never in that of a device.
        at: the time of verification, aware.
        checks: gets what was checked.

    Raises:
        VerificationError: a check failed.
        MalformedEvidence: a list or answer cannot be read.
        ValueError: `at` has no time zone, or there is no such index.
    """
    if at.tzinfo is None:
        raise ValueError("the time of verification needs a time zone")
    if any(not 0 <= index < len(chain) - 1 for index in indices):
        raise ValueError("an index without an issuer")
    lists = [_list(crl) for crl in material.crls]
    answers = [parse_ocsp(answer) for answer in material.ocsp]
    if answers:
        checks.passed(Check.GPU_OCSP_FORMAT, reference="RFC 6960 4.2.1")
    look = _Look(Watch(checks, at), material.live_nonces, accept_hold=hold and trust.allow_hold)
    for index, (certificate, issuer) in enumerate(pairwise(chain)):
        look.in_lists(index, certificate, issuer, lists)
        look.in_answers(index, certificate, issuer, answers)
    listed = {found.index for found in look.found if found.by == "crl"}
    answered = {found.index for found in look.found if found.by == "ocsp"}
    named = {index for index in indices if status_points(chain[index].raw, _WHAT).crl_urls}
    _lists_required(_names(chain, named - listed), trust.revocation, checks, some=bool(listed))
    _answers_required(_names(chain, set(indices) - answered), trust.revocation, checks)
    return RevocationFinding(
        checked=_checked(crl=bool(listed) and named <= listed, ocsp=set(indices) <= answered, any_=bool(look.found)),
        checked_at=min((found.issued for found in look.found), default=None),
        valid_until=min((found.until for found in look.found), default=None),
        looked=tuple(look.found),
        unchecked=tuple(chain[index].subject_cn for index in indices if index not in listed | answered),
        windows=tuple(look.watch.windows),
    )


def _checked(*, crl: bool, ocsp: bool, any_: bool) -> Checked:
    if crl and ocsp:
        return Checked.BOTH
    if crl or ocsp:
        return Checked.CRL if crl else Checked.OCSP
    return Checked.PARTLY if any_ else Checked.NOT


def _names(chain: tuple[GpuCertificate, ...], indexes: set[int]) -> tuple[str, ...]:
    return tuple(chain[index].subject_cn for index in sorted(indexes))


def _lists_required(missing: tuple[str, ...], mode: GpuRevocation, checks: Checklist, *, some: bool) -> None:
    """That there are the lists that certificates name; one that names none is in none."""
    if mode not in (GpuRevocation.CRL, GpuRevocation.BOTH):
        checks.skipped(Check.GPU_CRL_REQUIRED, "the policy demands no revocation list", _POLICY)
        return
    checks.require(
        some and not missing,
        Check.GPU_CRL_REQUIRED,
        f"no revocation list for {', '.join(missing) or 'any certificate of the chain'}",
        actual=missing,
        reference=_POLICY,
    )


def _answers_required(missing: tuple[str, ...], mode: GpuRevocation, checks: Checklist) -> None:
    if mode not in (GpuRevocation.OCSP, GpuRevocation.BOTH):
        checks.skipped(Check.GPU_OCSP_REQUIRED, "the policy demands no OCSP answer", _POLICY)
        return
    checks.require(
        not missing,
        Check.GPU_OCSP_REQUIRED,
        f"no OCSP answer for {', '.join(missing)}",
        actual=missing,
        reference=_POLICY,
    )


@lru_cache(maxsize=32)  # lists live for two months
def _list(crl: bytes) -> Crl:
    return parse_crl(crl)


@lru_cache(maxsize=32)
def _list_signed(spki: bytes, algorithm: bytes, signature: bytes, tbs: bytes) -> bool:
    return ecdsa.verifies(spki, algorithm, signature, tbs)


@lru_cache(maxsize=256)  # answers about CAs serve every device
def _answer_signed(spki: bytes, algorithm: bytes, signature: bytes, tbs: bytes) -> bool:
    return ecdsa.verifies(spki, algorithm, signature, tbs)


class _Look:
    """The look-ups of one chain."""

    __slots__ = ("accept_hold", "found", "nonces", "watch")

    def __init__(self, watch: Watch, nonces: Mapping[bytes, bytes], *, accept_hold: bool) -> None:
        self.watch = watch
        self.nonces = nonces
        self.accept_hold = accept_hold
        self.found: list[Looked] = []

    def in_lists(self, index: int, certificate: GpuCertificate, issuer: GpuCertificate, lists: Iterable[Crl]) -> None:
        """Look the certificate up in the newest list of its issuer."""
        ours = [crl for crl in lists if crl.issuer == issuer.subject]
        if not ours:
            return
        checks, name = self.watch.checks, certificate.subject_cn
        for crl in ours:
            checks.require(
                issuer.crl_sign and _list_signed(issuer.spki, crl.signature_algorithm, crl.signature, crl.tbs),
                Check.GPU_CRL_SIGNATURE,
                f"the revocation list of {issuer.subject_cn} is not signed by it, or it may not sign lists",
                reference=f"{_CRL} (f), (g)",
            )
        crl = _newest_list(ours, certificate.serial, self.watch.at)
        times = (crl.this_update, crl.next_update)
        what = f"the revocation list of {issuer.subject_cn}"
        self.watch.within(what, Check.GPU_CRL_NOT_YET_VALID, Check.GPU_CRL_STALE, times)
        named = certificate.serial in crl.revoked
        on_hold = named and crl.revoked.on_hold(certificate.serial)
        checks.require(
            not named or (on_hold and self.accept_hold),
            Check.GPU_CRL_REVOKED,
            f"{name} is {CertStatus.HOLD if on_hold else CertStatus.REVOKED}",
            actual=f"{certificate.serial:#x}",
            reference=_CRL,
        )
        self.found.append(Looked(index, name, "crl", *times))

    def in_answers(
        self, index: int, certificate: GpuCertificate, issuer: GpuCertificate, answers: Iterable[OcspAnswer]
    ) -> None:
        """Look at the newest answer about the certificate."""
        ours = [pair for answer in answers for pair in self._about(answer, certificate, issuer)]
        if not ours:
            return
        name, checks = certificate.subject_cn, self.watch.checks
        for answer, _ in ours:
            self._signed(answer, name, issuer)
            self._fresh(answer, name)
        single = _newest_answer([single for _, single in ours], self.watch.at)
        times = (single.this_update, single.next_update)
        what = f"the OCSP answer about {name}"
        self.watch.within(what, Check.GPU_OCSP_NOT_YET_VALID, Check.GPU_OCSP_STALE, times)
        checks.require(
            single.status is CertStatus.GOOD or (single.status is CertStatus.HOLD and self.accept_hold),
            Check.GPU_OCSP_STATUS,
            f"{name} is {single.status}",
            expected=CertStatus.GOOD.value,
            actual=single.status.value,
            reference="RFC 6960 4.2.1",
        )
        self.found.append(Looked(index, name, "ocsp", *times))

    def _about(
        self, answer: OcspAnswer, certificate: GpuCertificate, issuer: GpuCertificate
    ) -> list[tuple[OcspAnswer, Single]]:
        """What an answer says of the certificate; one of the same number by an altogether other CA is not meant."""
        name = status_points(issuer.raw, _WHAT).subject
        found = []
        for single in answer.singles:
            if single.serial != certificate.serial:
                continue
            named, keyed = single.names(name), single.keyed(_key(issuer))
            if single.hash and not named and not keyed:
                continue
            self.watch.checks.require(
                named and keyed,
                Check.GPU_OCSP_CERT_ID,
                f"the OCSP answer about {certificate.subject_cn} is about another issuer, or hashes in an unknown way",
                expected=issuer.subject_cn,
                actual=single.hash or "unknown hash",
                reference="RFC 6960 4.1.1",
            )
            found.append((answer, single))
        return found

    def _signed(self, answer: OcspAnswer, name: str, issuer: GpuCertificate) -> None:
        spki, who = self._responder(answer, name, issuer)
        self.watch.checks.require(
            _answer_signed(spki, answer.signature_algorithm, answer.signature, answer.tbs),
            Check.GPU_OCSP_SIGNATURE,
            f"the OCSP answer about {name} is not signed by its responder",
            actual=who,
            reference=_OCSP,
        )

    def _responder(self, answer: OcspAnswer, name: str, issuer: GpuCertificate) -> tuple[bytes, str]:
        """Key and name of who must have signed: a responder of the issuer, or the issuer itself."""
        checks, reference = self.watch.checks, "RFC 6960 4.2.2.2"
        came = [parse_responder(der) for der in answer.certificates if der != issuer.raw]
        delegated = [found for found in came if _is_responder(answer, found.subject_der, found.key)]
        if not delegated:
            checks.require(
                _is_responder(answer, status_points(issuer.raw, _WHAT).subject, _key(issuer)),
                Check.GPU_OCSP_RESPONDER,
                f"the responder of the OCSP answer about {name} is not {issuer.subject_cn}, and its certificate did "
                "not come along",
                expected=issuer.subject_cn,
                reference=reference,
            )
            return issuer.spki, issuer.subject_cn
        responder = delegated[0]
        window = Window.of(
            Check.GPU_OCSP_RESPONDER,
            f"the responder's certificate {responder.subject_cn!r}",
            responder.not_before,
            responder.not_after,
        )
        self.watch.windows.append(window)
        window.require(checks, self.watch.at)
        checks.require(
            responder.issuer == issuer.subject
            and _answer_signed(issuer.spki, responder.signature_algorithm, responder.signature, responder.tbs)
            and OCSP_SIGNING in responder.purposes
            and responder.digital_signature,
            Check.GPU_OCSP_RESPONDER,
            f"{issuer.subject_cn} did not issue the responder {responder.subject_cn!r}, or not for signing answers",
            expected=OCSP_SIGNING,
            actual=responder.purposes,
            reference=reference,
        )
        return responder.spki, responder.subject_cn

    def _fresh(self, answer: OcspAnswer, name: str) -> None:
        sent = self.nonces.get(answer.sha256)
        if sent is None:
            self.watch.checks.skipped(Check.GPU_OCSP_NONCE, "a stored answer, with no request to compare", "RFC 9654")
            return
        self.watch.checks.require(
            answer.nonce == sent,
            Check.GPU_OCSP_NONCE,
            f"the OCSP answer about {name} does not carry the nonce of the request",
            expected=sent,
            actual=answer.nonce,
            reference="RFC 9654 2.1",
        )


def _newest_list(found: list[Crl], serial: int, at: datetime) -> Crl:
    """The newest that is not of the future; of two of the same second the one that names the certificate."""
    past = [crl for crl in found if crl.this_update <= at]
    if past:
        return max(past, key=lambda crl: (crl.this_update, serial in crl.revoked))
    return min(found, key=lambda crl: crl.this_update)  # its window fails


def _newest_answer(found: list[Single], at: datetime) -> Single:
    """The newest that is not of the future; of two of the same second one that is not good."""
    past = [single for single in found if single.this_update <= at]
    if past:
        return max(past, key=lambda single: (single.this_update, single.status is not CertStatus.GOOD))
    return min(found, key=lambda single: single.this_update)  # its window fails


def _key(issuer: GpuCertificate) -> bytes:
    """Content of the BIT STRING of a certificate's key: an uncompressed point."""
    return b"\x04" + issuer.public_point


def _is_responder(answer: OcspAnswer, subject: bytes, key: bytes) -> bool:
    if answer.responder_name:
        return answer.responder_name == subject
    return answer.responder_key == hashlib.sha1(key, usedforsecurity=False).digest()
