"""Signatures of NVIDIA's hierarchy: all keys are P-384, all signatures ECDSA with SHA-384."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP384R1, EllipticCurvePublicKey

ECDSA_SHA384 = bytes.fromhex("300a06082a8648ce3d040303")
"""The one AlgorithmIdentifier of ecdsa-with-SHA384 (RFC 5758 3.2: no parameters)."""
SPKI_PREFIX = bytes.fromhex("3076301006072a8648ce3d020106052b8104002203620004")
"""SubjectPublicKeyInfo of an uncompressed P-384 point (RFC 5480 2.1.1), up to the point itself."""
POINT_SIZE = 96
"""Bytes of x and y of a key, and of r and s of a signature."""


class _Scheme(NamedTuple):
    """What verifying needs of the library: imported once, not in every call."""

    load: Callable[[SECP384R1, bytes], EllipticCurvePublicKey]
    curve: SECP384R1
    algorithm: ECDSA
    encode: Callable[[int, int], bytes]
    invalid: type[Exception]


@cache
def _scheme() -> _Scheme:
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - whoever only parses need not pay
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415 - as above
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature  # noqa: PLC0415 - as above
    from cryptography.hazmat.primitives.hashes import SHA384  # noqa: PLC0415 - as above

    return _Scheme(
        load=ec.EllipticCurvePublicKey.from_encoded_point,
        curve=ec.SECP384R1(),
        algorithm=ec.ECDSA(SHA384()),
        encode=encode_dss_signature,
        invalid=InvalidSignature,
    )


def verify_der(point: bytes, signature: bytes, data: bytes) -> bool:
    """Whether the DER signature over SHA-384 of `data` is by the key with these 96 bytes x and y."""
    scheme = _scheme()
    try:
        scheme.load(scheme.curve, b"\x04" + point).verify(signature, data, scheme.algorithm)
    except (scheme.invalid, ValueError):  # ValueError: the point is on no curve
        return False
    return True


def verify_raw(point: bytes, signature: bytes, data: bytes) -> bool:
    """Whether the 96 bytes r and s over SHA-384 of `data` are by the key with these 96 bytes x and y."""
    if len(signature) != POINT_SIZE:
        return False
    half = POINT_SIZE // 2
    r, s = int.from_bytes(signature[:half], "big"), int.from_bytes(signature[half:], "big")
    return verify_der(point, _scheme().encode(r, s), data)
