"""HKDF as HPKE uses it (RFC 9180, section 4): plain and labeled extract and expand."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.hashes import HashAlgorithm

_VERSION = b"HPKE-v1"


class Kdf(IntEnum):
    """KDF ids (RFC 9180, table 3).

    The one-stage SHAKE KDFs of draft-ietf-hpke-pq are left out on purpose: the response of RFC 9458 needs extract and
    expand as two steps.
    """

    HKDF_SHA256 = 0x0001
    HKDF_SHA384 = 0x0002
    HKDF_SHA512 = 0x0003

    @property
    def size(self) -> int:
        """Nh: bytes that extract gives."""
        return _HASHES[self].digest_size

    def extract(self, salt: bytes, ikm: bytes) -> bytes:
        """HKDF-Extract (RFC 5869, section 2.2): Nh bytes."""
        return HKDF.extract(_HASHES[self], salt, ikm)

    def expand(self, prk: bytes, info: bytes, size: int) -> bytes:
        """HKDF-Expand (RFC 5869, section 2.3): ``size`` bytes, at most 255 * Nh."""
        return HKDFExpand(_HASHES[self], size, info).derive(prk)

    def labeled_extract(self, suite_id: bytes, salt: bytes, label: bytes, ikm: bytes) -> bytes:
        """LabeledExtract (RFC 9180, section 4)."""
        return self.extract(salt, b"".join((_VERSION, suite_id, label, ikm)))

    def labeled_expand(self, suite_id: bytes, prk: bytes, label: bytes, info: bytes, size: int) -> bytes:
        """LabeledExpand (RFC 9180, section 4)."""
        return self.expand(prk, b"".join((size.to_bytes(2), _VERSION, suite_id, label, info)), size)


_HASHES: dict[Kdf, HashAlgorithm] = {
    Kdf.HKDF_SHA256: hashes.SHA256(),
    Kdf.HKDF_SHA384: hashes.SHA384(),
    Kdf.HKDF_SHA512: hashes.SHA512(),
}
