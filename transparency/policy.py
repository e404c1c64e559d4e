"""Which logs and which witnesses are trusted, and how many must have cosigned (C2SP tlog-policy); how old it may be."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from ..errors import Check, Error, UsageError
from .checkpoint import Checkpoint, parse_checkpoint
from .cosignature import Cosignature, verify_cosignatures
from .note import KeyType, Note, VerifierKey, failed, parse_verifier_key, verify_note

MAX_POLICY: Final = 1 << 20
MAX_NAMES: Final = 1024
MAX_DEPTH: Final = 32
"""Groups within groups."""

_FORBIDDEN: Final = re.compile(rb"[^\t\n\x20-\x7e\x80-\xff]")
_SPACE: Final = re.compile(r"[ \t]+")
_NUMBER: Final = re.compile(r"[1-9][0-9]{0,3}")
_QUORUM: Final = "C2SP tlog-policy, quorum"
_ORIGIN: Final = "C2SP tlog-policy, defining a log"
_TIME: Final = "C2SP tlog-cosignature, timestamp"
_NONE: Final = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """A log that is accepted.

    Attributes:
        key: of the log; its name is the origin.
        url: where it is served, if that is said.
    """

    key: VerifierKey
    url: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Witness:
    """A witness that may count.

    Attributes:
        name: within the policy only.
        key: of the witness.
        url: where it takes checkpoints, if that is said.
    """

    name: str
    key: VerifierKey
    url: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """So many of its members make it count.

    Attributes:
        name: within the policy only.
        threshold: how many.
        members: witnesses and groups.
    """

    name: str
    threshold: int
    members: tuple[Member, ...]


Member: TypeAlias = Witness | Group


@dataclass(frozen=True, slots=True, kw_only=True)
class LogPolicy:
    """A policy file.

    Attributes:
        logs: any one of which may have signed.
        witnesses: all that are known.
        quorum: what must have cosigned, or None for nobody.
    """

    logs: tuple[Log, ...]
    witnesses: tuple[Witness, ...]
    quorum: Member | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Freshness:
    """How old a quorum may be, in seconds.

    Attributes:
        max_age: at most so old; None accepts any age and must be asked for.
        max_future: cosignatures further ahead of the clock do not count.
    """

    max_age: int | None = 86400
    max_future: int = 300


FRESH: Final = Freshness()


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustedCheckpoint:
    """A checkpoint that meets a policy.

    Attributes:
        checkpoint: what it says.
        note: as received.
        log: whose key signed it.
        time: the newest time at which the quorum was met, None where none is demanded.
        cosignatures: of known witnesses, all verified.
    """

    checkpoint: Checkpoint
    note: Note
    log: Log
    time: int | None
    cosignatures: tuple[Cosignature, ...]


@dataclass(slots=True)
class _Reading:
    """What the lines so far have defined."""

    logs: list[Log] = field(default_factory=list)
    witnesses: list[Witness] = field(default_factory=list)
    names: dict[str, Member] = field(default_factory=dict)
    depths: dict[str, int] = field(default_factory=dict)
    grouped: set[str] = field(default_factory=set)
    quorums: list[Member | None] = field(default_factory=list)


def parse_policy(data: bytes) -> LogPolicy:
    """Read a policy file.

    Raises:
        UsageError: not one; the message names the line.
    """
    if len(data) > MAX_POLICY or (data and not data.endswith(b"\n")):
        raise UsageError("log policy: too large, or the last line does not end")
    if _FORBIDDEN.search(data):
        raise UsageError("log policy: a control character")
    reading = _Reading()
    # Bytes that are no UTF-8 stay apart from all others.
    for number, line in enumerate(data.decode("utf-8", "surrogateescape").split("\n"), 1):
        words = [word for word in _SPACE.split(line) if word]
        if words and not words[0].startswith("#"):
            try:
                _define(reading, words)
            except Error as exc:
                raise UsageError(f"log policy, line {number}: {exc}") from exc
    if len(reading.quorums) != 1:
        raise UsageError("log policy: not exactly one quorum line")
    return LogPolicy(logs=tuple(reading.logs), witnesses=tuple(reading.witnesses), quorum=reading.quorums[0])


def _define(reading: _Reading, words: list[str]) -> None:
    match words:
        case ["log", key, *url] if len(url) <= 1:
            _add_log(reading, Log(key=parse_verifier_key(key), url=url[0] if url else None))
        case ["witness", name, key, *url] if len(url) <= 1:
            witness = Witness(name=name, key=parse_verifier_key(key), url=url[0] if url else None)
            _add_witness(reading, witness)
        case ["group", name, threshold, *members] if members:
            _add_group(reading, name, threshold, members)
        case ["quorum", name]:
            reading.quorums.append(None if name == _NONE else _defined(reading, name))
        case _:
            raise UsageError("not a line of a policy")


def _add_log(reading: _Reading, log: Log) -> None:
    if log.key.type != KeyType.ED25519:
        raise UsageError("not the key of a log")
    if any(other.key.public == log.key.public for other in reading.logs) or len(reading.logs) >= MAX_NAMES:
        raise UsageError("this key of a log stands twice, or there are too many logs")
    reading.logs.append(log)


def _add_witness(reading: _Reading, witness: Witness) -> None:
    if witness.key.type not in {KeyType.COSIGNATURE, KeyType.ML_DSA_44}:
        raise UsageError("not the key of a witness")
    if any(other.key.public == witness.key.public for other in reading.witnesses):
        raise UsageError("this key of a witness stands twice")
    _name(reading, witness, 0)
    reading.witnesses.append(witness)


def _add_group(reading: _Reading, name: str, threshold: str, names: list[str]) -> None:
    members = [_defined(reading, member) for member in names]
    if len(set(names)) != len(names) or not reading.grouped.isdisjoint(names):
        raise UsageError("a member is one of a group already")
    if threshold in {"all", "any"}:
        wanted = len(members) if threshold == "all" else 1
    elif _NUMBER.fullmatch(threshold) and int(threshold) <= len(members):
        wanted = int(threshold)
    else:
        raise UsageError(f"the threshold is not all, any or 1 to {len(members)}")
    depth = 1 + max(reading.depths[member] for member in names)
    _name(reading, Group(name=name, threshold=wanted, members=tuple(members)), depth)
    reading.grouped.update(names)


def _name(reading: _Reading, member: Member, depth: int) -> None:
    if member.name == _NONE or member.name in reading.names:
        raise UsageError("the name is taken")
    if len(reading.names) >= MAX_NAMES or depth > MAX_DEPTH:
        raise UsageError("too many names, or groups too deep in groups")
    reading.names[member.name] = member
    reading.depths[member.name] = depth


def _defined(reading: _Reading, name: str) -> Member:
    if name not in reading.names:
        raise UsageError(f"no line before defines {name[:80]!r}")
    return reading.names[name]


def quorum_time(member: Member, times: Mapping[bytes, int]) -> int | None:
    """The newest time of which the quorum is met by cosignatures of that time and later; None where it is not met.

    Args:
        member: a witness or group.
        times: of cosignatures, by the witness's public key.
    """
    if isinstance(member, Witness):
        return times.get(member.key.public)
    found = [time for inner in member.members if (time := quorum_time(inner, times)) is not None]
    found.sort(reverse=True)
    return found[member.threshold - 1] if len(found) >= member.threshold else None


def verify_checkpoint(note: Note, policy: LogPolicy, at: int, freshness: Freshness = FRESH) -> TrustedCheckpoint:
    """A checkpoint is one of a listed log, and enough witnesses cosigned it lately.

    Args:
        note: as received.
        policy: who is trusted.
        at: time of verification, POSIX seconds.
        freshness: how old it may be.

    Raises:
        MalformedEvidence: no checkpoint.
        VerificationError: it does not meet the policy.
    """
    checkpoint, log = _signed(note, policy)
    cosignatures = verify_cosignatures(note, [witness.key for witness in policy.witnesses])
    time = None
    if policy.quorum is not None:
        time = _time(policy.quorum, cosignatures, at, freshness)
    if freshness.max_age is not None and (time is None or time < at - freshness.max_age):
        # A policy without a quorum has no time, and what has no time is not fresh.
        oldest = at - freshness.max_age
        raise failed(Check.LOG_FRESH, oldest, "none" if time is None else time, _TIME, "too old, or without a time")
    return TrustedCheckpoint(checkpoint=checkpoint, note=note, log=log, time=time, cosignatures=cosignatures)


def _signed(note: Note, policy: LogPolicy) -> tuple[Checkpoint, Log]:
    """The checkpoint, and the log of the policy that signed it as its own."""
    signed = verify_note(note, [log.key for log in policy.logs])
    checkpoint = parse_checkpoint(note.text)
    for log in policy.logs:
        if log.key in signed and log.key.name == checkpoint.origin:
            return checkpoint, log
    names = tuple(key.name for key in signed)
    raise failed(Check.LOG_ORIGIN, names, checkpoint.origin, _ORIGIN, "the log that signed it is another")


def _time(quorum: Member, cosignatures: tuple[Cosignature, ...], at: int, freshness: Freshness) -> int:
    times = {found.key.public: found.time for found in cosignatures}
    time = quorum_time(quorum, {key: when for key, when in times.items() if when <= at + freshness.max_future})
    if time is not None:
        return time
    if (ahead := quorum_time(quorum, times)) is not None:
        raise failed(Check.LOG_FUTURE, at + freshness.max_future, ahead, _TIME, "cosigned in the future")
    names = tuple(found.key.name for found in cosignatures)
    raise failed(Check.LOG_QUORUM, quorum.name, names, _QUORUM, "too few of the witnesses cosigned")
