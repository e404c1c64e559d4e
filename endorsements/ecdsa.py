"""ECDSA as NVIDIA's revocation services use it: keys on P-256 or P-384, SHA-256 or SHA-384, in any combination.

Chains and reports know one combination only (:mod:`.p384`); NVIDIA's lists are ECDSA with SHA-256 by a key on P-384,
its answers ECDSA with SHA-384.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.hashes import HashAlgorithm

ECDSA_SHA256: Final = bytes.fromhex("300a06082a8648ce3d040302")
ECDSA_SHA384: Final = bytes.fromhex("300a06082a8648ce3d040303")


def verifies(spki: bytes, algorithm: bytes, signature: bytes, signed: bytes) -> bool:
    """Whether a signature is by this key.

    Args:
        spki: DER SubjectPublicKeyInfo.
        algorithm: DER AlgorithmIdentifier of the signature, as received.
        signature: in DER.
        signed: what is signed.
    """
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm  # noqa: PLC0415 - only who verifies pays
    from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415 - as above
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415 - as above

    known: dict[bytes, HashAlgorithm] = {ECDSA_SHA256: hashes.SHA256(), ECDSA_SHA384: hashes.SHA384()}
    digest = known.get(algorithm)
    try:
        key = serialization.load_der_public_key(spki)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return False
    if digest is None or not isinstance(key, ec.EllipticCurvePublicKey):
        return False
    if not isinstance(key.curve, ec.SECP256R1 | ec.SECP384R1):
        return False
    try:
        key.verify(signature, signed, ec.ECDSA(digest))
    except InvalidSignature:
        return False
    return True
