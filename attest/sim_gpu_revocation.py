"""Revocation lists and OCSP answers of the simulated NVIDIA platform.

Source: RFC 5280, RFC 6960 and RFC 9654; names and periods are those of NVIDIA's services: lists for about 60 days,
answers for a day, with the SHA-384 of issuers and signed by a responder that the issuer delegates to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from ..evidence.gpu_arch import Arch
from .sim_gpu_certificate import Entity
from .sim_gpu_pki import NvidiaPki

DEVICE_INDEXES = (1, 2, 3)
"""Certificates of a device chain that the responder serves: all but the leaf and the root."""
RIM_INDEXES = (0, 1, 2)
"""Certificates of a RIM's chain that it serves: all but the root."""
CRL_PERIOD = timedelta(days=60)
ANSWER_PERIOD = timedelta(days=1)

_SKEW = timedelta(hours=1)
_HASHES = {
    hash_.name: hash_
    for hash_ in (hashes.SHA1(), hashes.SHA256(), hashes.SHA384(), hashes.SHA512())  # noqa: S303 - RFC 5019's CertID
}


def _now() -> datetime:
    return datetime.now(UTC)


class SimRevocation:
    """What the simulated manufacturer says of its certificates.

    Args:
        pki: the manufacturer.
        clock: gives the current time, with a time zone.
    """

    def __init__(self, pki: NvidiaPki, *, clock: Callable[[], datetime] = _now) -> None:
        self._pki = pki
        self._clock = clock
        self._revoked: dict[bytes, x509.ReasonFlags] = {}
        self._known: dict[tuple[bytes, int], tuple[Entity, Entity]] = {}

    @property
    def revoked(self) -> dict[bytes, x509.ReasonFlags]:
        """Reasons by SHA-256 of the certificates that are revoked or on hold."""
        return dict(self._revoked)

    def revoke(self, entity: Entity, *, hold: bool = False) -> None:
        """From now on a certificate is revoked, or on hold."""
        reason = x509.ReasonFlags.certificate_hold if hold else x509.ReasonFlags.key_compromise
        self._revoked[sha256(entity.der).digest()] = reason

    def crl(
        self,
        issuer: Entity,
        certificates: Iterable[Entity] = (),
        *,
        at: datetime | None = None,
        period: timedelta = CRL_PERIOD,
    ) -> bytes:
        """A list of a CA in DER.

        Args:
            issuer: the CA.
            certificates: certificates of this CA; those that are revoked stand in the list.
            at: time of issue; None is an hour ago.
            period: until the next list is due.
        """
        start = at or self._clock() - _SKEW
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(issuer.name)
            .last_update(start)
            .next_update(start + period)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key()), critical=False)
            .add_extension(x509.CRLNumber(1), critical=False)
        )
        for entity in certificates:
            reason = self._reason(entity)
            if reason is not None:
                entry = (
                    x509.RevokedCertificateBuilder()
                    .serial_number(entity.certificate.serial_number)
                    .revocation_date(start)
                    .add_extension(x509.CRLReason(reason), critical=False)
                )
                builder = builder.add_revoked_certificate(entry.build())
        # NVIDIA signs its lists with SHA-256, unlike all else.
        return builder.sign(issuer.key, hashes.SHA256(), ecdsa_deterministic=True).public_bytes(Encoding.DER)

    def crls(self, *, at: datetime | None = None) -> dict[str, bytes]:
        """The lists that certificates name, by the names of their files."""
        pki, arches = self._pki, (Arch.HOPPER, Arch.BLACKWELL, Arch.LS10)
        hopper = [pki.provisioner(Arch.HOPPER), pki.provisioner(Arch.LS10)]
        identities = [pki.identity(Arch.HOPPER), pki.identity(Arch.BLACKWELL)]
        return {
            "l1-root.crl": self.crl(pki.root, identities, at=at),
            "l2-gh100.crl": self.crl(pki.identity(Arch.HOPPER), hopper, at=at),
            "l2-gb100.crl": self.crl(pki.identity(Arch.BLACKWELL), [pki.provisioner(Arch.BLACKWELL)], at=at),
            "l1-corim.crl": self.crl(pki.rim_root, [pki.rim_ca(arch) for arch in arches], at=at),
        }

    def answer(
        self,
        entity: Entity,
        issuer: Entity,
        *,
        nonce: bytes | None = None,
        at: datetime | None = None,
        period: timedelta | None = ANSWER_PERIOD,
        responder: Entity | None = None,
        algorithm: hashes.HashAlgorithm | None = None,
    ) -> bytes:
        """An answer about one certificate in DER.

        Args:
            entity: the certificate.
            issuer: its CA.
            nonce: of the request, where the answer is a live one.
            at: time of issue; None is an hour ago.
            period: until the next answer is due; None leaves it open.
            responder: signs; None is the CA's own responder.
            algorithm: hash of the issuer's name and key; None is SHA-384.
        """
        start = at or self._clock() - _SKEW
        signer = responder or self._pki.responder(issuer)
        reason = self._reason(entity)
        status = ocsp.OCSPCertStatus.GOOD if reason is None else ocsp.OCSPCertStatus.REVOKED
        builder = (
            ocsp.OCSPResponseBuilder()
            .add_response(
                entity.certificate,
                issuer.certificate,
                algorithm or hashes.SHA384(),
                status,
                start,
                None if period is None else start + period,
                None if reason is None else start,
                reason,
            )
            .responder_id(ocsp.OCSPResponderEncoding.NAME, signer.certificate)
            .certificates([signer.certificate])
        )
        if nonce is not None:
            builder = builder.add_extension(x509.OCSPNonce(nonce), critical=False)
        return builder.sign(signer.key, hashes.SHA384()).public_bytes(Encoding.DER)

    def answers(
        self, chain: Sequence[Entity], indexes: Iterable[int] = DEVICE_INDEXES, *, at: datetime | None = None
    ) -> tuple[bytes, ...]:
        """Answers about the certificates of a chain, without nonce, as they are stored.

        Args:
            chain: leaf or signer first, root last.
            indexes: those that are asked for.
            at: time of issue; None is an hour ago.
        """
        return tuple(self.answer(chain[index], chain[index + 1], at=at) for index in indexes)

    def know(self, chain: Sequence[Entity], indexes: Iterable[int] = DEVICE_INDEXES) -> None:
        """Serve the certificates of a chain live; parameters as in :meth:`answers`."""
        for index in indexes:
            entity, issuer = chain[index], chain[index + 1]
            self._known[issuer.name.public_bytes(), entity.certificate.serial_number] = (entity, issuer)

    def respond(self, request: bytes) -> bytes:
        """The live answer to a request in DER, with its nonce; not authorized for a certificate that is not known."""
        try:
            asked = ocsp.load_der_ocsp_request(request)
        except ValueError:
            return self._refusal(ocsp.OCSPResponseStatus.MALFORMED_REQUEST)
        algorithm = _HASHES.get(asked.hash_algorithm.name)
        if algorithm is not None:
            for (name, serial), (entity, issuer) in self._known.items():
                digest = hashes.Hash(algorithm)
                digest.update(name)
                if serial == asked.serial_number and digest.finalize() == asked.issuer_name_hash:
                    return self.answer(entity, issuer, nonce=_nonce(asked), at=self._clock(), algorithm=algorithm)
        return self._refusal(ocsp.OCSPResponseStatus.UNAUTHORIZED)

    @staticmethod
    def _refusal(status: ocsp.OCSPResponseStatus) -> bytes:
        return ocsp.OCSPResponseBuilder.build_unsuccessful(status).public_bytes(Encoding.DER)

    def _reason(self, entity: Entity) -> x509.ReasonFlags | None:
        return self._revoked.get(sha256(entity.der).digest())


def _nonce(request: ocsp.OCSPRequest) -> bytes | None:
    try:
        return request.extensions.get_extension_for_class(x509.OCSPNonce).value.nonce
    except x509.ExtensionNotFound:
        return None
