"""Authenticity of an answer of NVIDIA's remote attestation service (NRAS), and that it speaks of these very devices.

The token never chooses how it is verified: the algorithm is ES384, and the key is one whose certificate a pinned
intermediate signed.  Whether a policy takes the service's word in place of manifests is appraisal.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, Any, NamedTuple

from ..codec import unhex
from ..endorsements.ca import Ca, read_ca
from ..endorsements.nras import NrasAnswer, NrasKey, Token, parse_nras, parse_nras_keys
from ..endorsements.nvidia_anchors import NRAS_INTERMEDIATES, NRAS_ISSUER
from ..endorsements.p384 import verify_raw
from ..endorsements.signed_json import Fields
from ..errors import Check, CheckResult, MalformedEvidence
from .checklist import Checklist
from .window import Watch

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

ALGORITHM = "ES384"
PASSED = "success"

_JWT = "RFC 7519 4.1"
_RESULT = "NRAS, x-nvidia-overall-att-result, measres"
_SHA256_RSA = bytes.fromhex("300d06092a864886f70d01010b0500")
_TOKEN = object()


class Signer(NamedTuple):
    """A key of the service with its chain.

    Attributes:
        point: x and y of its P-384 key.
        name: common name of its certificate.
        intermediate: common name of the pinned intermediate.
        pin: SHA-256 of the intermediate's DER SubjectPublicKeyInfo.
        simulated: it is one that the policy names, not NVIDIA's.
    """

    point: bytes
    name: str
    intermediate: str
    pin: bytes
    simulated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class NrasClaims:
    """What the service says of these devices; only :func:`verify_nras` makes one.

    Attributes:
        overall: claims over all devices.
        devices: claims of each device, in the order of the evidence.
        names: the service's name for each, likewise.
        signer: whose key it is.
        simulated: the signer's intermediate is one that the policy names, not NVIDIA's.
        issued: when the overall token was issued, UTC.
        expires: when the first of the tokens expires, UTC.
        checks: every check that ran, in order.
    """

    overall: Mapping[str, Any]
    devices: tuple[Mapping[str, Any], ...]
    names: tuple[str, ...]
    signer: str
    simulated: bool
    issued: datetime
    expires: datetime
    checks: tuple[CheckResult, ...]
    token: object

    def __post_init__(self) -> None:
        if self.token is not _TOKEN:
            raise TypeError("only verify_nras() makes a NrasClaims")


def verify_nras(
    data: bytes,
    keys: bytes,
    *,
    nonce: bytes,
    ueids: tuple[str, ...],
    pins: Collection[bytes] = (),
    at: datetime,
    checks: Checklist,
) -> NrasClaims:
    """Verify an answer of the service.

    Args:
        data: the answer, as received.
        keys: the service's key set (JWKS), as received.
        nonce: the nonce in the devices' reports.
        ueids: each device's identity, the decimal serial number of its certificate, in the order of the evidence.
        pins: SHA-256 of the SubjectPublicKeyInfo of intermediates that are accepted beside NVIDIA's, for simulation.
        at: the time of verification, aware.
        checks: checks that ran already; this one's are added to it.

    Raises:
        VerificationError: a check failed.
        MalformedEvidence: the answer or a key cannot be read.
        ValueError: `at` has no time zone.
    """
    if at.tzinfo is None:
        raise ValueError("the time of verification needs a time zone")
    answer = parse_nras(data)
    checks.passed(Check.NRAS_TOKEN_FORMAT, reference="RFC 7515 7.1")
    _algorithm(answer, checks)
    expires = [_times(name, token, at, checks) for name, token in answer.tokens.items()]
    _issuer(answer, checks)
    signers = _signatures(answer, parse_nras_keys(keys), pins, at, checks)
    _nonce(answer, nonce, checks)
    _digests(answer, checks)
    names = _devices(answer, ueids, checks)
    _result(answer, checks)
    return NrasClaims(
        overall=answer.overall.claims,
        devices=tuple(answer.devices[name].claims for name in names),
        names=names,
        signer=signers[0].name,
        simulated=any(signer.simulated for signer in signers),
        issued=_moment(answer.overall, "iat", "overall"),
        expires=min(expires),
        checks=checks.done(),
        token=_TOKEN,
    )


def _algorithm(answer: NrasAnswer, checks: Checklist) -> None:
    for name, token in answer.tokens.items():
        if token.algorithm != ALGORITHM:
            checks.failed(
                Check.NRAS_TOKEN_ALGORITHM,
                f"the {name} token is {_how(token)}, which is no signature of the service",
                expected=ALGORITHM,
                actual=token.algorithm,
                reference="RFC 7518 3.4",
            )
    checks.passed(Check.NRAS_TOKEN_ALGORITHM, ALGORITHM, ALGORITHM, "RFC 7518 3.4")


def _how(token: Token) -> str:
    return "unsigned" if token.algorithm.lower() == "none" else f"signed with {token.algorithm[:32]!r}"


def _claims(token: Token, name: str) -> Fields:
    return Fields(token.claims, f"NRAS, {name} token")


def _text(token: Token, claim: str, name: str) -> str:
    """A claim that is a short string.

    Raises:
        MalformedEvidence: it is missing, or none (``nras.token.format``).
    """
    try:
        return _claims(token, name).text(claim)
    except MalformedEvidence as exc:
        raise MalformedEvidence(str(exc), check=Check.NRAS_TOKEN_FORMAT) from exc


def _moment(token: Token, claim: str, name: str) -> datetime:
    """A claim that is a whole number of seconds (NumericDate, RFC 7519 2).

    Raises:
        MalformedEvidence: it is missing, or none (``nras.token.format``).
    """
    try:
        return datetime.fromtimestamp(_claims(token, name).integer(claim), UTC)
    except MalformedEvidence as exc:
        raise MalformedEvidence(str(exc), check=Check.NRAS_TOKEN_FORMAT) from exc


def _times(name: str, token: Token, at: datetime, checks: Checklist) -> datetime:
    """That the time lies in a token's; when it expires."""
    begins = max(_moment(token, claim, name) for claim in ("iat", "nbf"))
    expires = _moment(token, "exp", name)
    checks.require(
        begins <= at,
        Check.NRAS_TOKEN_NOT_YET_VALID,
        f"the {name} token is not yet valid",
        expected=f"from {begins.isoformat()}",
        actual=at.isoformat(),
        reference=f"{_JWT}.5, 4.1.6",
    )
    checks.require(
        at < expires,
        Check.NRAS_TOKEN_EXPIRED,
        f"the {name} token has expired",
        expected=f"before {expires.isoformat()}",
        actual=at.isoformat(),
        reference=f"{_JWT}.4",
    )
    return expires


def _issuer(answer: NrasAnswer, checks: Checklist) -> None:
    for name, token in answer.tokens.items():
        issuer = _text(token, "iss", name)
        checks.require(
            issuer == NRAS_ISSUER,
            Check.NRAS_TOKEN_ISSUER,
            f"the {name} token is of another issuer than the production service",
            expected=NRAS_ISSUER,
            actual=issuer,
            reference=f"{_JWT}.1",
        )


def _signatures(
    answer: NrasAnswer, keys: Mapping[str, NrasKey], pins: Collection[bytes], at: datetime, checks: Checklist
) -> list[Signer]:
    """That each token is signed by the key that it names, and that key is the service's; the overall's comes first."""
    signers: dict[str, Signer] = {}
    for name, token in answer.tokens.items():
        if token.kid not in signers:
            key = keys.get(token.kid)
            if key is None:
                checks.failed(
                    Check.NRAS_SIGNER_PINNED,
                    f"the key set has no key of the name that the {name} token gives; keys change every two days",
                    actual=token.kid,
                    reference="RFC 7517 4.5",
                )
            signers[token.kid] = verify_signer(key, pinned={*NRAS_INTERMEDIATES, *pins}, at=at, checks=checks)
        checks.require(
            verify_raw(signers[token.kid].point, token.signature, token.signed),
            Check.NRAS_TOKEN_SIGNATURE,
            f"the {name} token is not signed by the key that it names",
            actual=token.kid,
            reference="RFC 7518 3.4",
        )
    return list(signers.values())


class _Certificate(NamedTuple):
    """A certificate of the service with its key."""

    fields: Ca
    key: CertificatePublicKeyTypes
    spki: bytes


@lru_cache(maxsize=16)
def _certificate(der: bytes, what: str) -> _Certificate:
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 - whoever needs no NRAS need not pay

    try:
        fields, key = read_ca(der, what)
    except MalformedEvidence as exc:
        raise MalformedEvidence(str(exc), check=Check.NRAS_SIGNER_CHAIN) from exc
    spki = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return _Certificate(Ca(**fields), key, spki)


def verify_signer(key: NrasKey, *, pinned: Collection[bytes], at: datetime, checks: Checklist) -> Signer:
    """Verify the chain of a key: its certificate is signed by a pinned intermediate.

    The root above is published nowhere, so the intermediate is trusted for its key alone, and until the end that is
    pinned with it; what its certificate says of itself nobody vouches for.

    Args:
        key: of the key set.
        pinned: SHA-256 of the SubjectPublicKeyInfo of each accepted intermediate.
        at: the time of verification, aware.
        checks: gets what was checked.

    Raises:
        VerificationError: a check failed.
        MalformedEvidence: a certificate cannot be read (``nras.signer.chain``).
    """
    if len(key.x5c) < 2:
        checks.failed(
            Check.NRAS_SIGNER_CHAIN, "the key comes without a certificate and its issuer's", reference="RFC 7517 4.7"
        )
    leaf = _certificate(key.x5c[0], "certificate of the NRAS key")
    above = _certificate(key.x5c[1], "intermediate of the NRAS key")
    pin = sha256(above.spki).digest()
    checks.require(
        pin in pinned,
        Check.NRAS_SIGNER_PINNED,
        "the issuer of the key's certificate is not pinned",
        expected=tuple(sorted(pinned)),
        actual=pin,
        reference="pinned by SHA-256 of the SubjectPublicKeyInfo",
    )
    point = _issued(leaf, above)
    checks.require(
        point is not None and key.point in (None, point),
        Check.NRAS_SIGNER_CHAIN,
        "the key's certificate is not issued and signed by the intermediate, or is none of a P-384 key for signing",
        expected=above.fields.subject_cn,
        actual=leaf.fields.subject_cn,
        reference="RFC 5280 6.1.3",
    )
    name, until = NRAS_INTERMEDIATES.get(pin, (above.fields.subject_cn, above.fields.not_after))
    watch = Watch(checks, at)
    for what, fields in (("the key's certificate", leaf.fields), ("the intermediate", above.fields)):
        end = min(fields.not_after, until) if fields is above.fields else fields.not_after
        watch.within(what, Check.NRAS_SIGNER_NOT_YET_VALID, Check.NRAS_SIGNER_EXPIRED, (fields.not_before, end))
    return Signer(
        point=point or b"",
        name=leaf.fields.subject_cn,
        intermediate=name,
        pin=pin,
        simulated=pin not in NRAS_INTERMEDIATES,
    )


def _issued(leaf: _Certificate, above: _Certificate) -> bytes | None:
    """The leaf's key, if the intermediate may issue certificates and signed this one with RSA and SHA-256."""
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - as above
    from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415 - as above
    from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa  # noqa: PLC0415 - as above

    fields, issuer = leaf.fields, above.fields
    roles = fields.digital_signature and issuer.is_ca and issuer.key_cert_sign and fields.issuer == issuer.subject
    if not roles or fields.signature_algorithm != _SHA256_RSA or not isinstance(above.key, rsa.RSAPublicKey):
        return None
    if not isinstance(leaf.key, ec.EllipticCurvePublicKey) or not isinstance(leaf.key.curve, ec.SECP384R1):
        return None
    try:
        above.key.verify(fields.signature, fields.tbs, padding.PKCS1v15(), hashes.SHA256())
    except InvalidSignature:
        return None
    return leaf.key.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)[1:]


def _nonce(answer: NrasAnswer, nonce: bytes, checks: Checklist) -> None:
    for name, token in answer.tokens.items():
        try:
            found = unhex(_text(token, "eat_nonce", name), "eat_nonce", 32)
        except MalformedEvidence as exc:
            raise MalformedEvidence(str(exc), check=Check.NRAS_TOKEN_FORMAT) from exc
        checks.require(
            found == nonce,
            Check.NRAS_TOKEN_NONCE,
            f"the {name} token is for another nonce",
            expected=nonce,
            actual=found,
            reference="RFC 9711 4.1",
        )


def detached_digests(answer: NrasAnswer) -> bool:
    """Whether the overall token names exactly the devices' tokens, each by the SHA-256 of its compact form."""
    expected = {name: ["DIGEST", ["SHA-256", token.sha256]] for name, token in answer.devices.items()}
    return bool(answer.overall.claims.get("submods") == expected)


def _digests(answer: NrasAnswer, checks: Checklist) -> None:
    checks.require(
        detached_digests(answer),
        Check.NRAS_TOKEN_DIGESTS,
        "the overall token names other tokens than those of the devices",
        expected=tuple(token.sha256 for token in answer.devices.values()),
        reference="RFC 9711 4.2.18.2",
    )


def _devices(answer: NrasAnswer, ueids: tuple[str, ...], checks: Checklist) -> tuple[str, ...]:
    """The service's name of each device, in the order of the evidence."""
    found = {_text(token, "ueid", name): name for name, token in answer.devices.items()}
    checks.require(
        len(answer.devices) == len(found) == len(set(ueids)) == len(ueids) and found.keys() == set(ueids),
        Check.NRAS_TOKEN_DEVICES,
        "the tokens are not one for each device of the evidence",
        expected=ueids,
        actual=tuple(found),
        reference="RFC 9711 4.2.1",
    )
    return tuple(found[ueid] for ueid in ueids)


def _result(answer: NrasAnswer, checks: Checklist) -> None:
    overall = answer.overall.claims.get("x-nvidia-overall-att-result")
    if overall is not True:
        checks.failed(
            Check.NRAS_TOKEN_RESULT,
            "the service does not say that all devices passed",
            expected="true",
            actual=repr(overall)[:80],
            reference=_RESULT,
        )
    for name, token in answer.devices.items():
        result = token.claims.get("measres")
        if result != PASSED:
            checks.failed(
                Check.NRAS_TOKEN_RESULT,
                f"the service does not say that the measurements of {name} match",
                expected=PASSED,
                actual=repr(result)[:80],
                reference=_RESULT,
            )
    checks.passed(Check.NRAS_TOKEN_RESULT, "true", "true", _RESULT)
