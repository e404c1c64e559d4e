"""Certificates and signatures of Intel's hierarchy: all keys are P-256, all signatures ECDSA with SHA-256."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple

from ..errors import MalformedEvidence
from .ca import Ca, read_ca

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, EllipticCurvePublicKey

ECDSA_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")
"""The one AlgorithmIdentifier of ecdsa-with-SHA256 (RFC 5758 3.2: no parameters)."""
SPKI_PREFIX = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d03010703420004")
"""SubjectPublicKeyInfo of an uncompressed P-256 point (RFC 5480 2.1.1), up to the point itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CaP256(Ca):
    """A root, a CA or a signer of collateral as received; its signature is not verified here.

    Attributes:
        spki_sha256: SHA-256 of the DER SubjectPublicKeyInfo.
        public_point: x and y of the P-256 key, 64 bytes.
    """

    spki_sha256: bytes
    public_point: bytes


@lru_cache(maxsize=32)  # one root stands in every chain, one signer in two
def parse_ca_p256(data: bytes) -> CaP256:
    """Read a certificate of a root, a CA or a signer in DER.

    Raises:
        MalformedEvidence: not one, an unknown critical extension, another key than P-256, or another signature
            algorithm than ECDSA with SHA-256.
    """
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 - whoever only parses quotes need not pay
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415 - as above

    what = "CA certificate"
    fields, key = read_ca(data, what)
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise MalformedEvidence(f"{what}: the key is not on P-256")
    if fields["signature_algorithm"] != ECDSA_SHA256:
        raise MalformedEvidence(f"{what}: the signature is not ECDSA with SHA-256")
    point = key.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)[1:]
    return CaP256(**fields, spki_sha256=sha256(SPKI_PREFIX + point).digest(), public_point=point)


class _Scheme(NamedTuple):
    """What verifying needs of the library: imported once, not in every call."""

    load: Callable[[SECP256R1, bytes], EllipticCurvePublicKey]
    curve: SECP256R1
    algorithm: ECDSA
    encode: Callable[[int, int], bytes]
    invalid: type[Exception]


@cache
def _scheme() -> _Scheme:
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - as above
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415 - as above
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature  # noqa: PLC0415 - as above
    from cryptography.hazmat.primitives.hashes import SHA256  # noqa: PLC0415 - as above

    return _Scheme(
        load=ec.EllipticCurvePublicKey.from_encoded_point,
        curve=ec.SECP256R1(),
        algorithm=ec.ECDSA(SHA256()),
        encode=encode_dss_signature,
        invalid=InvalidSignature,
    )


def verify_der(point: bytes, signature: bytes, data: bytes) -> bool:
    """Whether the DER signature over SHA-256 of `data` is by the key with these 64 bytes x and y."""
    scheme = _scheme()
    try:
        scheme.load(scheme.curve, b"\x04" + point).verify(signature, data, scheme.algorithm)
    except (scheme.invalid, ValueError):  # ValueError: the point is on no curve
        return False
    return True


def verify_raw(point: bytes, signature: bytes, data: bytes) -> bool:
    """Whether the 64 bytes r and s over SHA-256 of `data` are by the key with these 64 bytes x and y."""
    if len(signature) != 64:
        return False
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    return verify_der(point, _scheme().encode(r, s), data)
