"""Records of an evidence bundle by their labels: each of one kind, and of a size that is bounded."""

from __future__ import annotations

from ..errors import MalformedEvidence
from . import cmw
from .cmw import Kind

Parts = dict[str, tuple[bytes, Kind]]
"""Values by label, each with its kind."""


def fail(message: str) -> MalformedEvidence:
    """An error of the bundle; the caller raises it."""
    return MalformedEvidence(f"evidence bundle: {message}")


def check_size(value: bytes, kind: Kind, name: str) -> None:
    """Refuse a value that is empty or larger than its kind may be.

    Raises:
        MalformedEvidence: it is.
    """
    if not 0 < len(value) <= kind.limit:
        raise fail(f"{name} has {len(value)} bytes; 1 to {kind.limit} are allowed")


def record(collection: dict[str, object], label: str, kind: Kind) -> bytes:
    """The value at a label.

    Raises:
        MalformedEvidence: it is missing, of another kind, empty or too large.
    """
    if label not in collection:
        raise fail(f"{label} is missing")
    value = cmw.decode_record(collection[label], kind, label)
    check_size(value, kind, label)
    return value


def numbered(collection: dict[str, object], prefix: str, kind: Kind, limit: int) -> tuple[bytes, ...]:
    """The records prefix/0, prefix/1, ... without a gap; others stay unread and are found by the caller's count."""
    found: list[bytes] = []
    while len(found) < limit and f"{prefix}/{len(found)}" in collection:
        found.append(record(collection, f"{prefix}/{len(found)}", kind))
    return tuple(found)
