"""Key encapsulation: DHKEM(X25519, HKDF-SHA256) of RFC 9180 and X-Wing (MLKEM768-X25519) of draft-ietf-hpke-pq.

Private keys live in memory only: nothing here writes one out, prints one or lets one be pickled or copied.
"""

from __future__ import annotations

import hashlib
from enum import IntEnum
from typing import NoReturn, Protocol

from cryptography.hazmat.primitives.asymmetric import mlkem, x25519

from ..errors import MalformedEvidence, UsageError
from .kdf import Kdf

_P25519 = 2**255 - 19
_X25519_SIZE = 32
_MLKEM768_PK = 1184
_MLKEM768_CT = 1088
_XWING_SEED = 32
_XWING_LABEL = b"\\.//^\\"  # draft-connolly-cfrg-xwing-kem, section 5.3
_DHKEM_SUITE = b"KEM" + (0x0020).to_bytes(2)


class OpenError(MalformedEvidence):
    """Something sealed does not open.

    One error with one text for every cause (RFC 9180, section 9.1.1; RFC 9458, section 6.4), so that a sender of
    forged bytes learns nothing from it.
    """

    def __init__(self) -> None:
        super().__init__("the sealed bytes do not open")


class InMemory:
    """Base of what holds a secret: its repr shows none, and it can be neither pickled nor copied."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}, secret>"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        """Refuses.

        Raises:
            UsageError: always.
        """
        raise UsageError(f"{type(self).__name__} stays in memory: no pickling, no copying")


class Kem(IntEnum):
    """KEM ids (RFC 9180, table 2; draft-ietf-hpke-pq)."""

    X25519_HKDF_SHA256 = 0x0020
    X_WING = 0x647A

    @property
    def public_key_size(self) -> int:
        """Npk in bytes."""
        return _MLKEM768_PK + _X25519_SIZE if self is Kem.X_WING else _X25519_SIZE

    @property
    def enc_size(self) -> int:
        """Nenc in bytes."""
        return _MLKEM768_CT + _X25519_SIZE if self is Kem.X_WING else _X25519_SIZE


class KemPrivateKey(Protocol):
    """The recipient's half of a key pair."""

    @property
    def kem(self) -> Kem:
        """The KEM that the key belongs to."""

    @property
    def public_key(self) -> bytes:
        """The other half, Npk bytes."""

    def decapsulate(self, enc: bytes) -> bytes:
        """The shared secret, 32 bytes.

        Raises:
            OpenError: enc is not an encapsulation to this key, for whatever reason.
        """


def _load_x25519(raw: bytes) -> x25519.X25519PublicKey:
    # RFC 7748 would mask the top bit and reduce; an honest peer never sends such a key, so two encodings of one key
    # are a sign of something else.
    if len(raw) != _X25519_SIZE or int.from_bytes(raw, "little") >= _P25519:
        raise ValueError("not a canonical X25519 public key")
    return x25519.X25519PublicKey.from_public_bytes(raw)


def _dhkem_secret(dh: bytes, enc: bytes, public_key: bytes) -> bytes:
    """ExtractAndExpand of RFC 9180, section 4.1."""
    prk = Kdf.HKDF_SHA256.labeled_extract(_DHKEM_SUITE, b"", b"eae_prk", dh)
    return Kdf.HKDF_SHA256.labeled_expand(_DHKEM_SUITE, prk, b"shared_secret", enc + public_key, 32)


def _xwing_secret(ss_m: bytes, ss_x: bytes, ct_x: bytes, pk_x: bytes) -> bytes:
    """Combiner of draft-connolly-cfrg-xwing-kem, section 5.3."""
    return hashlib.sha3_256(b"".join((ss_m, ss_x, ct_x, pk_x, _XWING_LABEL))).digest()


class X25519Key(InMemory):
    """Private key of DHKEM(X25519, HKDF-SHA256)."""

    __slots__ = ("_sk", "public_key")
    kem = Kem.X25519_HKDF_SHA256

    def __init__(self, sk: x25519.X25519PrivateKey) -> None:
        self._sk = sk
        self.public_key = sk.public_key().public_bytes_raw()

    @classmethod
    def generate(cls) -> X25519Key:
        """A fresh key."""
        return cls(x25519.X25519PrivateKey.generate())

    @classmethod
    def _from_bytes(cls, sk: bytes) -> X25519Key:
        return cls(x25519.X25519PrivateKey.from_private_bytes(sk))

    def decapsulate(self, enc: bytes) -> bytes:
        """Decap (RFC 9180, section 4.1): the shared secret, 32 bytes.

        Raises:
            OpenError: enc has the wrong size, is not canonical, or gives the all-zero secret.
        """
        try:
            dh = self._sk.exchange(_load_x25519(enc))
        except ValueError:
            raise OpenError from None
        return _dhkem_secret(dh, enc, self.public_key)


class XWingKey(InMemory):
    """Private key of X-Wing: ML-KEM-768 and X25519 side by side."""

    __slots__ = ("_pk_x", "_sk_m", "_sk_x", "public_key")
    kem = Kem.X_WING

    def __init__(self, sk_m: mlkem.MLKEM768PrivateKey, sk_x: x25519.X25519PrivateKey) -> None:
        self._sk_m = sk_m
        self._sk_x = sk_x
        self._pk_x = sk_x.public_key().public_bytes_raw()
        self.public_key = sk_m.public_key().public_bytes_raw() + self._pk_x

    @classmethod
    def generate(cls) -> XWingKey:
        """A fresh key; both halves come from the library's generator, so no seed is ever held."""
        return cls(mlkem.MLKEM768PrivateKey.generate(), x25519.X25519PrivateKey.generate())

    @classmethod
    def _from_bytes(cls, seed: bytes) -> XWingKey:
        if len(seed) != _XWING_SEED:
            raise UsageError(f"an X-Wing seed has {_XWING_SEED} bytes")
        expanded = hashlib.shake_256(seed).digest(96)
        return cls(
            mlkem.MLKEM768PrivateKey.from_seed_bytes(expanded[:64]),
            x25519.X25519PrivateKey.from_private_bytes(expanded[64:]),
        )

    def decapsulate(self, enc: bytes) -> bytes:
        """Decapsulate (draft-connolly-cfrg-xwing-kem, section 5.5): the shared secret, 32 bytes.

        An altered ML-KEM ciphertext gives another secret rather than an error (FIPS 203, implicit rejection); it shows
        when the ciphertext of the message does not open.

        Raises:
            OpenError: enc has the wrong size, or its X25519 half is not canonical or gives the all-zero secret.
        """
        ct_m, ct_x = enc[:_MLKEM768_CT], enc[_MLKEM768_CT:]
        try:
            ss_x = self._sk_x.exchange(_load_x25519(ct_x))
            ss_m = self._sk_m.decapsulate(ct_m)
        except ValueError:
            raise OpenError from None
        return _xwing_secret(ss_m, ss_x, ct_x, self._pk_x)


def check_public_key(kem: Kem, public_key: bytes) -> None:
    """Demand that the bytes are a canonical public key of this KEM.

    Raises:
        MalformedEvidence: wrong size, or a coordinate or coefficient out of range.
    """
    try:
        if kem is Kem.X_WING:
            mlkem.MLKEM768PublicKey.from_public_bytes(public_key[:_MLKEM768_PK])
            public_key = public_key[_MLKEM768_PK:]
        _load_x25519(public_key)
    except ValueError as exc:
        raise MalformedEvidence(f"not a public key of {kem.name}") from exc


def encapsulate(kem: Kem, public_key: bytes, *, _ephemeral: bytes | None = None) -> tuple[bytes, bytes]:
    """A fresh shared secret for the holder of the private key (Encap).

    Args:
        kem: the KEM.
        public_key: the recipient's public key, Npk bytes.
        _ephemeral: the ephemeral X25519 private key of a test vector; never given outside of tests.

    Returns:
        The shared secret (32 bytes) and ``enc`` (Nenc bytes).

    Raises:
        MalformedEvidence: not a public key of this KEM, or one that gives the all-zero secret.
        UsageError: an ephemeral key for X-Wing, whose ML-KEM half takes none.
    """
    try:
        pk_x = public_key[-_X25519_SIZE:]
        if _ephemeral is None:
            ephemeral = x25519.X25519PrivateKey.generate()
        elif kem is Kem.X_WING:
            raise UsageError("X-Wing cannot encapsulate deterministically")
        else:
            ephemeral = x25519.X25519PrivateKey.from_private_bytes(_ephemeral)
        enc = ephemeral.public_key().public_bytes_raw()
        if kem is Kem.X25519_HKDF_SHA256:
            return _dhkem_secret(ephemeral.exchange(_load_x25519(public_key)), enc, public_key), enc
        ss_x = ephemeral.exchange(_load_x25519(pk_x))
        ss_m, ct_m = mlkem.MLKEM768PublicKey.from_public_bytes(public_key[:-_X25519_SIZE]).encapsulate()
    except ValueError as exc:
        raise MalformedEvidence(f"not a usable public key of {kem.name}") from exc
    return _xwing_secret(ss_m, ss_x, enc, pk_x), ct_m + enc


def generate(kem: Kem) -> KemPrivateKey:
    """A fresh private key of this KEM."""
    return XWingKey.generate() if kem is Kem.X_WING else X25519Key.generate()
