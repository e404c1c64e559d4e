"""The one signature scheme of AMD's certificates and revocation lists: RSASSA-PSS, SHA-384, MGF1-SHA-384, salt 48."""

from __future__ import annotations

from functools import cache
from itertools import product as _product
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidSignature

from . import der

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.padding import PSS
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from cryptography.hazmat.primitives.hashes import SHA384

_OID_PSS = bytes.fromhex("06092a864886f70d01010a")
_OID_MGF1 = bytes.fromhex("06092a864886f70d010108")
_OID_SHA384 = bytes.fromhex("0609608648016503040202")


def _wrap(tag: int, content: bytes) -> bytes:
    return bytes((tag, len(content))) + content


def _encodings() -> frozenset[bytes]:
    # RFC 4055 2.1: a hash's parameters may be NULL or absent.  Trailer field 1 is the default, which DER leaves out;
    # some of AMD's leaves write it nevertheless.
    found = set()
    for hash_null, mgf_null, trailer in _product(
        (b"\x05\x00", b""), (b"\x05\x00", b""), (b"", b"\xa3\x03\x02\x01\x01")
    ):
        parameters = (
            _wrap(der.context(0), _wrap(der.SEQUENCE, _OID_SHA384 + hash_null))
            + _wrap(der.context(1), _wrap(der.SEQUENCE, _OID_MGF1 + _wrap(der.SEQUENCE, _OID_SHA384 + mgf_null)))
            + _wrap(der.context(2), b"\x02\x01\x30")
            + trailer
        )
        found.add(_wrap(der.SEQUENCE, _OID_PSS + _wrap(der.SEQUENCE, parameters)))
    return frozenset(found)


ALGORITHM_IDENTIFIERS = _encodings()
"""Every DER AlgorithmIdentifier of this scheme; anything else is another scheme, whatever its parts."""


@cache
def _scheme() -> tuple[PSS, SHA384]:
    from cryptography.hazmat.primitives.asymmetric import padding  # noqa: PLC0415 - only who verifies pays
    from cryptography.hazmat.primitives.hashes import SHA384  # noqa: PLC0415

    return padding.PSS(mgf=padding.MGF1(SHA384()), salt_length=48), SHA384()


def verifies(key: RSAPublicKey, signature: bytes, signed: bytes) -> bool:
    """Whether `signature` over `signed` is by `key` in exactly this scheme."""
    scheme, digest = _scheme()
    try:
        key.verify(signature, signed, scheme, digest)
    except InvalidSignature:
        return False
    return True
