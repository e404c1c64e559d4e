"""Check that an ID block is signed by its keys, and what a report of such a launch must say of them."""

from __future__ import annotations

from typing import NamedTuple

from ..errors import Check, MalformedEvidence
from ..evidence.id_block import AuthInfo, key_digest, parse_key
from .checklist import Checklist

_REFERENCE = "56860, ID authentication information"


class IdDigests(NamedTuple):
    """ID_KEY_DIGEST and AUTHOR_KEY_DIGEST of the report; the latter is None when there is no author key."""

    id_key: bytes
    author_key: bytes | None


def verify_id_block(id_block: bytes, auth: AuthInfo) -> IdDigests:
    """Verify both signatures over the bytes as received.

    Args:
        id_block: the 96 bytes.
        auth: the parsed authentication information.

    Raises:
        VerificationError: a signature is not by its key (``snp.id_key``, ``snp.author_key``).
        MalformedEvidence: a key is no point of P-384.
    """
    checks = Checklist()
    checks.require(
        _signed(auth.id_key, auth.id_block_signature, id_block),
        Check.SNP_ID_KEY,
        "the ID block is not signed by the ID key",
        reference=_REFERENCE,
    )
    if auth.author_key is None or auth.id_key_signature is None:
        return IdDigests(key_digest(auth.id_key), None)
    checks.require(
        _signed(auth.author_key, auth.id_key_signature, auth.id_key),
        Check.SNP_AUTHOR_KEY,
        "the ID key is not signed by the author key",
        reference=_REFERENCE,
    )
    return IdDigests(key_digest(auth.id_key), key_digest(auth.author_key))


def _signed(key: bytes, signature: tuple[int, int], signed: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - formats and policies need it not
    from cryptography.hazmat.primitives.asymmetric import ec, utils  # noqa: PLC0415
    from cryptography.hazmat.primitives.hashes import SHA384  # noqa: PLC0415

    x, y = parse_key(key)
    try:
        public = ec.EllipticCurvePublicNumbers(x, y, ec.SECP384R1()).public_key()
    except ValueError as exc:
        raise MalformedEvidence("ID key: no point of P-384") from exc
    try:
        public.verify(utils.encode_dss_signature(*signature), signed, ec.ECDSA(SHA384()))
    except InvalidSignature:
        return False
    return True
