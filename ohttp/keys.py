"""Key configurations of Oblivious HTTP (RFC 9458, section 3) and the private keys behind them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..codec import Reader
from ..errors import MalformedEvidence, UnsupportedEvidence, UsageError
from .hpke import Aead, Suite, setup_recipient
from .kdf import Kdf
from .kem import InMemory, Kem, check_public_key, generate

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from .hpke import RecipientContext
    from .kem import KemPrivateKey

MEDIA_TYPE = "application/ohttp-keys"
"""Media type of a list of key configurations."""
MAX_LIST = 1 << 16
"""Bytes of the longest list that is parsed."""
MAX_CONFIGS = 64
"""Entries of the longest list that is parsed."""

# Fixed, so that a list cannot steer one client to another suite than the rest.
PREFERENCE: tuple[Suite, ...] = (
    Suite(kem=Kem.X_WING, kdf=Kdf.HKDF_SHA256, aead=Aead.AES_256_GCM),
    Suite(kem=Kem.X25519_HKDF_SHA256, kdf=Kdf.HKDF_SHA256, aead=Aead.AES_128_GCM),
)
"""The suites that a client uses, the best first."""

_KEM_IDS = frozenset(Kem)
_KDF_IDS = frozenset(Kdf)
_AEAD_IDS = frozenset(Aead) - {Aead.EXPORT_ONLY}


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyConfig:
    """One key configuration (RFC 9458, section 3.1).

    Attributes:
        key_id: 0 to 255, names the key among those of one gateway.
        kem: the KEM.
        public_key: the gateway's public key, Npk bytes.
        symmetric: pairs of KDF id and AEAD id that the gateway takes; unknown ids stay in as numbers.
    """

    key_id: int
    kem: Kem
    public_key: bytes
    symmetric: tuple[tuple[int, int], ...]

    @property
    def suite(self) -> Suite | None:
        """The suite that a client uses with this configuration, or None where it supports none of them."""
        for suite in PREFERENCE:
            if suite.kem is self.kem and (suite.kdf, suite.aead) in self.symmetric:
                return suite
        return None


class PrivateKey(InMemory):
    """A gateway's private key with its configuration; it stays in memory and cannot be written out.

    Args:
        key: the KEM's private key.
        key_id: 0 to 255.
        symmetric: pairs of KDF and AEAD that the gateway takes with this key.

    Attributes:
        config: the public configuration.

    Raises:
        UsageError: a key id out of range, or symmetric algorithms that are missing or not known.
    """

    __slots__ = ("_key", "config")

    def __init__(self, key: KemPrivateKey, key_id: int, symmetric: tuple[tuple[int, int], ...]) -> None:
        if not {kdf for kdf, _ in symmetric} <= _KDF_IDS or not {aead for _, aead in symmetric} <= _AEAD_IDS:
            raise UsageError("a private key with symmetric algorithms that dokimos does not know")
        self._key = key
        self.config = KeyConfig(key_id=key_id, kem=key.kem, public_key=key.public_key, symmetric=symmetric)
        encode_key_configs((self.config,))  # refuses what a client would refuse

    def open_context(self, suite: Suite, enc: bytes, info: bytes) -> RecipientContext:
        """The HPKE context of one message to this key.

        Raises:
            OpenError: enc is not an encapsulation to this key.
        """
        return setup_recipient(suite, self._key, enc, info)


def generate_keys(first_key_id: int | None = None, *, live: Collection[int] = ()) -> tuple[PrivateKey, ...]:
    """Fresh keys, one for each suite of ``PREFERENCE``, in its order.

    Args:
        first_key_id: id of the first key; the next ids follow modulo 256.  None: a random one.
        live: ids in use, for example of the keys before a rotation; none of them is given again.

    Raises:
        UsageError: an id out of range, or no ids left.
    """
    start = os.urandom(1)[0] if first_key_id is None else first_key_id
    if not 0 <= start <= 255:
        raise UsageError(f"a key id is 0 to 255, not {start}")
    free = [key_id for step in range(256) if (key_id := (start + step) % 256) not in live]
    if len(free) < len(PREFERENCE):
        raise UsageError("no key ids left")
    return tuple(
        PrivateKey(generate(suite.kem), key_id, ((suite.kdf, suite.aead),))
        for suite, key_id in zip(PREFERENCE, free, strict=False)
    )


def encode_key_configs(configs: Sequence[KeyConfig]) -> bytes:
    """A list of key configurations as ``application/ohttp-keys`` (RFC 9458, section 3.2).

    Raises:
        UsageError: an empty list, or one that :func:`parse_key_configs` would discard.
    """
    out = bytearray()
    for config in configs:
        numbers = [number for pair in config.symmetric for number in pair]
        if not 0 <= config.key_id <= 255 or not all(0 <= number <= 0xFFFF for number in numbers):
            raise UsageError("a key configuration with an id out of range")
        pairs = b"".join(number.to_bytes(2) for number in numbers)
        if len(pairs) > 65532:
            raise UsageError("a key configuration with too many symmetric algorithms")
        entry = b"".join(
            (config.key_id.to_bytes(1), config.kem.to_bytes(2), config.public_key, len(pairs).to_bytes(2), pairs)
        )
        if len(entry) > 0xFFFF:
            raise UsageError("a key configuration of more than 65535 bytes")
        out += len(entry).to_bytes(2) + entry
    try:
        parse_key_configs(bytes(out))
    except MalformedEvidence as exc:
        raise UsageError(f"this list would be discarded: {exc}") from exc
    return bytes(out)


def parse_key_configs(data: bytes) -> tuple[KeyConfig, ...]:
    """The configurations of an ``application/ohttp-keys`` list, in its order.

    Anything malformed discards the whole list (RFC 9458, section 3.2).  Entries of a KEM that dokimos does not know are
    left out, but their key ids count.

    Raises:
        MalformedEvidence: no such list; two entries with one key id; two entries that share a public key, because two
            configurations over one private key undo the separation of their suites.
    """
    if len(data) > MAX_LIST:
        raise MalformedEvidence(f"key configurations: more than {MAX_LIST} bytes")
    reader = Reader(data, "key configurations")
    configs: list[KeyConfig] = []
    ids: set[int] = set()
    points: set[bytes] = set()
    while reader.remaining:
        entry = Reader(reader.take(reader.u16("big")), "key configuration")
        key_id = entry.u8()
        if key_id in ids:
            raise reader.fail(f"key id {key_id} comes twice")
        ids.add(key_id)
        if len(ids) > MAX_CONFIGS:
            raise reader.fail(f"more than {MAX_CONFIGS} entries")
        kem = entry.u16("big")
        if kem not in _KEM_IDS:
            continue
        config = _parse_rest(entry, key_id, Kem(kem))
        point = config.public_key[-32:]  # the X25519 part, alone or in X-Wing
        if point in points:
            raise reader.fail("two key configurations share a key")
        points.add(point)
        configs.append(config)
    if not ids:
        raise reader.fail("empty")
    return tuple(configs)


def _parse_rest(entry: Reader, key_id: int, kem: Kem) -> KeyConfig:
    public_key = entry.take(kem.public_key_size)
    size = entry.u16("big")
    if size < 4 or size % 4 or size != entry.remaining:
        raise entry.fail("symmetric algorithms of a wrong size")
    pairs = tuple((entry.u16("big"), entry.u16("big")) for _ in range(size // 4))
    check_public_key(kem, public_key)
    return KeyConfig(key_id=key_id, kem=kem, public_key=public_key, symmetric=pairs)


def choose(configs: Sequence[KeyConfig]) -> KeyConfig:
    """The configuration that a client uses: the first in the fixed order of ``PREFERENCE``, never in the list's.

    Raises:
        UnsupportedEvidence: none of them offers a suite of ``PREFERENCE``.
    """
    for suite in PREFERENCE:
        for config in configs:
            if config.suite == suite:
                return config
    raise UnsupportedEvidence("no key configuration offers a suite that dokimos uses")
