"""Where NVIDIA's certificates say that their status can be learned, and which ones are looked up at all.

Sources: RFC 5280 4.2.1.13 (distribution points); the chains of real devices and manifests.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final, NamedTuple

from ..errors import MalformedEvidence
from . import der
from .leaf import split_leaf

DEVICE_INDEXES: Final = (1, 2, 3)
"""Certificates of a device's chain that are looked up: boot ROM, provisioner and identity.

NVIDIA's responder does not serve the device's own certificate (it answers "unauthorized"); a root answers for itself.
"""
RIM_INDEXES: Final = (0, 1, 2)
"""Certificates of a manifest's chain that are looked up: signer, its CA and the CA above; all are served."""

_CRL_POINTS: Final = bytes.fromhex("551d1f")
_URI: Final = 0x86  # GeneralName: [6] IA5String, primitive
_MAX_URL: Final = 512
_MAX_POINTS: Final = 8


class StatusPoints(NamedTuple):
    """What looking up a certificate needs of it.

    Attributes:
        issuer: its issuer's name, DER as received.
        subject: its own name, DER as received.
        crl_urls: addresses of revocation lists that hold it; empty where its CA publishes none.
    """

    issuer: bytes
    subject: bytes
    crl_urls: tuple[str, ...]


@lru_cache(maxsize=256)  # the same few CAs stand in every chain
def status_points(certificate: bytes, what: str) -> StatusPoints:
    """Read these parts of a certificate in DER; everything else of it is read elsewhere.

    Raises:
        MalformedEvidence: not one, or distribution points of another form.
    """
    leaf = split_leaf(certificate, what)
    parts = der.children(der.only(leaf.tbs, der.SEQUENCE, what).value, what, 8)
    urls: tuple[str, ...] = ()
    for extension in der.children(leaf.extensions, what):
        members = der.children(extension.value, what, 3) if extension.tag == der.SEQUENCE else []
        if len(members) >= 2 and members[0].value == _CRL_POINTS:
            urls += _urls(members[-1].value, what)
    return StatusPoints(issuer=parts[3].raw, subject=parts[5].raw, crl_urls=urls)


def _urls(value: bytes, what: str) -> tuple[str, ...]:
    """Addresses in CRLDistributionPoints; names of directories and lists of single reasons are no use here."""
    found: list[str] = []
    for point in der.children(der.only(value, der.SEQUENCE, what).value, what, _MAX_POINTS):
        for part in der.children(point.value, what, 3):
            if part.tag != der.context(0):
                continue
            for name in der.children(part.value, what, 1):
                full = der.children(name.value, what, _MAX_POINTS) if name.tag == der.context(0) else []
                found += [_url(general.value, what) for general in full if general.tag == _URI]
    return tuple(found)


def _url(value: bytes, what: str) -> str:
    text = value.decode("latin-1")
    if len(text) > _MAX_URL or not text.isascii() or not text.isprintable():
        raise MalformedEvidence(f"{what}: the address of a revocation list is too long, or no printable ASCII")
    return text
