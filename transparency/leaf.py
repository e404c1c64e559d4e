"""What is logged: small records that name what they stand for by its hash; and the signed set of what is active."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

from ..errors import MalformedEvidence
from .canonical import encode_canonical, parse_canonical
from .records import from_json, to_json

MAX_LEAF: Final = 65535
ACTIVE_SET_TYPE: Final = "application/vnd.dokimos.active-set+json"
VERSION: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A released image: its signed statement."""

    name: str
    version: str
    build_number: int
    statement_sha256: str
    envelope_sha256: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ActiveSetLeaf:
    """A signed active set; the epoch rises with every one of a name."""

    name: str
    epoch: int
    statement_sha256: str
    envelope_sha256: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyConfig:
    """Key configurations that clients may encrypt to."""

    name: str
    role: str
    key_config_sha256: str
    size: int


Leaf: TypeAlias = Release | ActiveSetLeaf | KeyConfig
KINDS: Final[dict[str, type[Leaf]]] = {"release": Release, "active-set": ActiveSetLeaf, "key-config": KeyConfig}


@dataclass(frozen=True, slots=True, kw_only=True)
class Revoked:
    """A statement that must not be accepted any more, and why."""

    statement_sha256: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ActiveSet:
    """Which statements are accepted now; `issued` and `expires` are seconds since 1970."""

    name: str
    epoch: int
    issued: int
    expires: int
    min_build_number: int
    active: tuple[str, ...]
    revoked: tuple[Revoked, ...]


def encode_leaf(leaf: Leaf) -> bytes:
    """Canonical bytes of a leaf."""
    (kind,) = [name for name, of in KINDS.items() if type(leaf) is of]
    fields = to_json(leaf)
    if not isinstance(fields, dict):  # a leaf is a record
        raise MalformedEvidence("leaf: not a record")
    return encode_canonical({"v": VERSION, "kind": kind, **fields})


def parse_leaf(data: bytes) -> Leaf:
    """Read a leaf out of its canonical bytes.

    Raises:
        MalformedEvidence: not one of a known kind.
    """
    value = parse_canonical(data, "leaf", MAX_LEAF)
    if not isinstance(value, dict) or type(value.get("v")) is not int or value["v"] != VERSION:
        raise MalformedEvidence(f"leaf: its version is not {VERSION}")
    kind = value.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        raise MalformedEvidence("leaf: of an unknown kind")
    rest = {name: item for name, item in value.items() if name not in {"v", "kind"}}
    found: Leaf = from_json(KINDS[kind], rest, "leaf")
    return found


def encode_active_set(found: ActiveSet) -> bytes:
    """Canonical bytes of an active set, which are signed as :data:`ACTIVE_SET_TYPE`."""
    return encode_canonical(to_json(found))


def parse_active_set(data: bytes) -> ActiveSet:
    """Read an active set out of its canonical bytes.

    Raises:
        MalformedEvidence: not one, or one that contradicts itself.
    """
    found = from_json(ActiveSet, parse_canonical(data, "active set"), "active set")
    revoked = [row.statement_sha256 for row in found.revoked]
    named = [*found.active, *revoked]
    if len(set(named)) != len(named) or found.issued >= found.expires:
        raise MalformedEvidence("active set: a statement stands twice, or it expires before it is issued")
    return found
