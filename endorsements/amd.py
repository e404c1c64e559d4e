"""AMD's pinned CAs: look one up, get its key."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..evidence.snp import Product
from .amd_anchors import ANCHORS, PUBLIC_EXPONENT, Anchor, Role

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

_BY_ROLE = {(anchor.product, anchor.role): anchor for anchor in ANCHORS}
_BY_HASH = {anchor.certificate_sha256: anchor for anchor in ANCHORS}

_NAME = {
    "2.5.4.6": "US",
    "2.5.4.7": "Santa Clara",
    "2.5.4.8": "CA",
    "2.5.4.10": "Advanced Micro Devices",
    "2.5.4.11": "Engineering",
}


def anchor(product: Product, role: Role) -> Anchor:
    """The pinned CA of this product and role."""
    return _BY_ROLE[product, role]


def anchor_by_hash(certificate_sha256: bytes) -> Anchor | None:
    """The pinned CA whose DER certificate has this SHA-256, or None if none has."""
    return _BY_HASH.get(certificate_sha256)


def subject(product: Product, role: Role) -> tuple[tuple[str, str], ...]:
    """Full subject name of a pinned CA, in the form of :func:`.leaf.parse_name`."""
    return tuple(sorted((_NAME | {"2.5.4.3": anchor(product, role).subject_cn}).items()))


def public_key(product: Product, role: Role) -> RSAPublicKey:
    """The pinned key, ready to verify with."""
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers  # noqa: PLC0415 - formats need it not

    return RSAPublicNumbers(PUBLIC_EXPONENT, anchor(product, role).modulus).public_key()
