"""The ID block and its authentication information, with which a guest's owner signs what may be launched.

Source: AMD 56860, SNP_LAUNCH_FINISH, tables "Structure of the ID Block" and "Structure of the ID Authentication
Information".  The firmware puts the digests of both keys into the report.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from typing import Final

from ..codec import Reader
from ..errors import MalformedEvidence, UnsupportedEvidence

ID_BLOCK_SIZE: Final = 96
AUTH_INFO_SIZE: Final = 4096
KEY_SIZE: Final = 0x404
SIGNATURE_SIZE: Final = 512

_ID_BLOCK = struct.Struct("<48s16s16sIIQ")
_VERSION = 1
_CURVE_P384 = 2
_ALGO_P384 = 1
_COORDINATE = 72


@dataclass(frozen=True, slots=True, kw_only=True)
class IdBlock:
    """What may be launched.

    Attributes:
        launch_digest: 48 bytes.
        family_id: 16 bytes, copied into the report.
        image_id: 16 bytes, copied into the report.
        guest_svn: copied into the report.
        policy: guest policy that the launch must have.
    """

    launch_digest: bytes
    family_id: bytes = bytes(16)
    image_id: bytes = bytes(16)
    guest_svn: int = 0
    policy: int = 0x30000

    def to_bytes(self) -> bytes:
        """The 96 bytes that the ID key signs."""
        return _ID_BLOCK.pack(self.launch_digest, self.family_id, self.image_id, _VERSION, self.guest_svn, self.policy)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthInfo:
    """Keys and signatures of the ID block.

    Attributes:
        id_block_signature: (r, s) of the ID key over the ID block.
        id_key: the 0x404 bytes of the ID key.
        id_key_signature: (r, s) of the author key over the ID key, or None when there is no author key.
        author_key: the 0x404 bytes of the author key, or None.
    """

    id_block_signature: tuple[int, int]
    id_key: bytes
    id_key_signature: tuple[int, int] | None
    author_key: bytes | None


def parse_id_block(data: bytes) -> IdBlock:
    """Read an ID block.

    Raises:
        MalformedEvidence: not 96 bytes.
        UnsupportedEvidence: another version than 1.
    """
    if len(data) != ID_BLOCK_SIZE:
        raise MalformedEvidence(f"ID block: {ID_BLOCK_SIZE} bytes wanted, {len(data)} given")
    launch_digest, family_id, image_id, version, guest_svn, policy = _ID_BLOCK.unpack(data)
    if version != _VERSION:
        raise UnsupportedEvidence(f"ID block version {version}; {_VERSION} is supported")
    return IdBlock(
        launch_digest=launch_digest, family_id=family_id, image_id=image_id, guest_svn=guest_svn, policy=policy
    )


def encode_key(x: int, y: int) -> bytes:
    """The 0x404 bytes of a P-384 public key (curve id, then both coordinates little-endian)."""
    coordinates = x.to_bytes(_COORDINATE, "little") + y.to_bytes(_COORDINATE, "little")
    return (struct.pack("<I", _CURVE_P384) + coordinates).ljust(KEY_SIZE, b"\0")


def parse_key(data: bytes) -> tuple[int, int]:
    """Both coordinates of a P-384 public key; whether they are on the curve is for who loads it.

    Raises:
        MalformedEvidence: not 0x404 bytes, or reserved bytes that are not zero.
        UnsupportedEvidence: another curve.
    """
    reader = Reader(data, "ID key")
    curve = reader.u32()
    if curve != _CURVE_P384:
        raise UnsupportedEvidence(f"ID key on curve {curve}; {_CURVE_P384} (P-384) is supported")
    x, y = reader.uint(_COORDINATE), reader.uint(_COORDINATE)
    reader.zeros(KEY_SIZE - reader.offset)
    reader.end()
    return x, y


def key_digest(key: bytes) -> bytes:
    """SHA-384 over the 0x404 bytes of a key: ID_KEY_DIGEST and AUTHOR_KEY_DIGEST of a report."""
    return hashlib.sha384(key).digest()


def parse_auth_info(data: bytes) -> AuthInfo:
    """Read the authentication information.

    Raises:
        MalformedEvidence: not 4096 bytes, or reserved bytes that are not zero.
        UnsupportedEvidence: other algorithms than ECDSA P-384 with SHA-384.
    """
    reader = Reader(data, "ID authentication information")
    id_algo, author_algo = reader.u32(), reader.u32()
    if id_algo != _ALGO_P384 or author_algo not in (0, _ALGO_P384):
        raise UnsupportedEvidence(f"ID authentication algorithms {id_algo} and {author_algo}; 1 is supported")
    reader.zeros(56)
    id_block_signature = _signature(reader)
    id_key = reader.take(KEY_SIZE)
    reader.zeros(60)
    id_key_signature = _signature(reader)
    author_key = reader.take(KEY_SIZE)
    reader.zeros(892)
    reader.end()
    signed = any(author_key)
    return AuthInfo(
        id_block_signature=id_block_signature,
        id_key=id_key,
        id_key_signature=id_key_signature if signed else None,
        author_key=author_key if signed else None,
    )


def _signature(reader: Reader) -> tuple[int, int]:
    r, s = reader.uint(_COORDINATE), reader.uint(_COORDINATE)
    reader.zeros(SIGNATURE_SIZE - 2 * _COORDINATE)
    return r, s


def parse_signature(data: bytes) -> tuple[int, int]:
    """(r, s) of one 512-byte signature structure.

    Raises:
        MalformedEvidence: another size, or reserved bytes that are not zero.
    """
    reader = Reader(data, "ID signature")
    found = _signature(reader)
    reader.end()
    return found
