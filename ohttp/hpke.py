"""HPKE contexts in base mode (RFC 9180) with seal, open and export.

``cryptography`` offers HPKE in one shot only, without the exporter that RFC 9458 needs; its primitives carry this
module.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from ..errors import UsageError
from .kdf import Kdf
from .kem import InMemory, Kem, OpenError, encapsulate

if TYPE_CHECKING:
    from .kem import KemPrivateKey

NONCE_SIZE = 12
"""Nn of all AEADs here, in bytes."""
TAG_SIZE = 16
"""Nt of all AEADs here, in bytes."""
MAX_MESSAGE = 1 << 30
"""Bytes that one seal or open takes; the AEADs of ``cryptography`` end below 2 GiB."""

_MODE_BASE = b"\x00"
_SEQ_LIMIT = (1 << (8 * NONCE_SIZE)) - 1


class Aead(IntEnum):
    """AEAD ids (RFC 9180, table 5)."""

    AES_128_GCM = 0x0001
    AES_256_GCM = 0x0002
    CHACHA20_POLY1305 = 0x0003
    EXPORT_ONLY = 0xFFFF

    @property
    def key_size(self) -> int:
        """Nk in bytes; 0 for export-only."""
        return _KEY_SIZES[self]

    def cipher(self, key: bytes) -> AESGCM | ChaCha20Poly1305:
        """The AEAD under a key of Nk bytes.

        Raises:
            UsageError: export-only has none.
        """
        if self is Aead.EXPORT_ONLY:
            raise UsageError("an export-only suite cannot seal or open")
        return ChaCha20Poly1305(key) if self is Aead.CHACHA20_POLY1305 else AESGCM(key)


_KEY_SIZES = {Aead.AES_128_GCM: 16, Aead.AES_256_GCM: 32, Aead.CHACHA20_POLY1305: 32, Aead.EXPORT_ONLY: 0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """One choice of KEM, KDF and AEAD."""

    kem: Kem
    kdf: Kdf
    aead: Aead

    @property
    def id(self) -> bytes:
        """suite_id (RFC 9180, section 5.1): 10 bytes."""
        return b"HPKE" + self.kem.to_bytes(2) + self.kdf.to_bytes(2) + self.aead.to_bytes(2)


class _Context(InMemory):
    __slots__ = ("_base_nonce", "_cipher", "_exporter_secret", "_seq", "_suite")

    def __init__(self, suite: Suite, shared_secret: bytes, info: bytes) -> None:
        """KeySchedule of RFC 9180, section 5.1."""
        kdf, aead, suite_id = suite.kdf, suite.aead, suite.id
        context = _psk_part(suite) + kdf.labeled_extract(suite_id, b"", b"info_hash", info)
        secret = kdf.labeled_extract(suite_id, shared_secret, b"secret", b"")
        self._suite = suite
        self._cipher: AESGCM | ChaCha20Poly1305 | None = None
        self._base_nonce = 0
        self._seq = 0
        if aead is not Aead.EXPORT_ONLY:
            self._cipher = aead.cipher(kdf.labeled_expand(suite_id, secret, b"key", context, aead.key_size))
            nonce = kdf.labeled_expand(suite_id, secret, b"base_nonce", context, NONCE_SIZE)
            self._base_nonce = int.from_bytes(nonce)
        self._exporter_secret: bytes | None = kdf.labeled_expand(suite_id, secret, b"exp", context, kdf.size)

    def _take(self) -> tuple[AESGCM | ChaCha20Poly1305, bytes]:
        """The cipher, and a nonce that will not come again."""
        if self._exporter_secret is None:
            raise UsageError("this HPKE context has failed and is closed")
        if self._cipher is None:
            raise UsageError("an export-only suite cannot seal or open")
        if self._seq >= _SEQ_LIMIT:
            self._close()
            raise UsageError("this HPKE context has no nonce left")
        nonce = (self._base_nonce ^ self._seq).to_bytes(NONCE_SIZE)
        self._seq += 1
        return self._cipher, nonce

    def _close(self) -> None:
        self._cipher = self._exporter_secret = None

    def export(self, exporter_context: bytes, size: int) -> bytes:
        """A secret that both sides derive (RFC 9180, section 5.3).

        Args:
            exporter_context: what the secret is for.
            size: bytes wanted, 0 to 255 * Nh.

        Raises:
            UsageError: a size out of range, or a context that is closed.
        """
        if self._exporter_secret is None:
            raise UsageError("this HPKE context has failed and is closed")
        kdf = self._suite.kdf
        if not 0 <= size <= 255 * kdf.size:
            raise UsageError(f"{size} bytes cannot be exported")
        return kdf.labeled_expand(self._suite.id, self._exporter_secret, b"sec", exporter_context, size)


class SenderContext(_Context):
    """What seals; made by :func:`setup_sender`."""

    __slots__ = ()

    def seal(self, plaintext: bytes, aad: bytes = b"") -> bytes:
        """The ciphertext of the next message (RFC 9180, section 5.2); each call takes the next nonce.

        Raises:
            UsageError: nothing more can be sealed here: export-only, closed, no nonce left, or a message beyond
                ``MAX_MESSAGE``.
        """
        if max(len(plaintext), len(aad)) > MAX_MESSAGE:
            raise UsageError("too long to seal")
        cipher, nonce = self._take()
        return cipher.encrypt(nonce, plaintext, aad)


class RecipientContext(_Context):
    """What opens; made by :func:`setup_recipient`.  One failure closes it for good."""

    __slots__ = ()

    def open(self, ciphertext: bytes, aad: bytes = b"") -> bytes:
        """The plaintext of the next message (RFC 9180, section 5.2).

        Raises:
            OpenError: not sealed for this context, or not in this order; the context is closed then.
            UsageError: nothing more can be opened here: export-only, closed, or no nonce left.
        """
        cipher, nonce = self._take()
        if max(len(ciphertext), len(aad)) > MAX_MESSAGE + TAG_SIZE:
            self._close()
            raise OpenError
        try:
            return cipher.decrypt(nonce, ciphertext, aad)
        except InvalidTag:
            self._close()
            raise OpenError from None


@lru_cache(maxsize=32)
def _psk_part(suite: Suite) -> bytes:
    # Base mode has no psk_id, so this part of key_schedule_context is a constant of the suite.
    return _MODE_BASE + suite.kdf.labeled_extract(suite.id, b"", b"psk_id_hash", b"")


def setup_sender(
    suite: Suite, public_key: bytes, info: bytes, *, _ephemeral: bytes | None = None
) -> tuple[bytes, SenderContext]:
    """SetupBaseS (RFC 9180, section 5.1.1).

    Args:
        suite: the algorithms.
        public_key: the recipient's public key, Npk bytes.
        info: what both sides bind the context to.
        _ephemeral: the ephemeral private key of a test vector; never given outside of tests.

    Returns:
        ``enc`` (Nenc bytes) and the context.

    Raises:
        MalformedEvidence: not a public key of the suite's KEM.
    """
    shared_secret, enc = encapsulate(suite.kem, public_key, _ephemeral=_ephemeral)
    return enc, SenderContext(suite, shared_secret, info)


def setup_recipient(suite: Suite, private_key: KemPrivateKey, enc: bytes, info: bytes) -> RecipientContext:
    """SetupBaseR (RFC 9180, section 5.1.1).

    Raises:
        OpenError: enc is not an encapsulation to this key.
        UsageError: the key belongs to another KEM than the suite's.
    """
    if private_key.kem is not suite.kem:
        raise UsageError(f"a key of {private_key.kem.name} in a suite of {suite.kem.name}")
    return RecipientContext(suite, private_key.decapsulate(enc), info)
