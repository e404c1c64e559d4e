"""A collection of RIM files that a caller has at hand: found by the id that a report asks for, or by what they say.

NVIDIA issues a RIM again under the same id, with another signer and sometimes with another value, so an id names
several files and only SHA-256 names one.  Nothing is verified here.

File names, the last part of a path: ``<id>.xml``, as NVIDIA's own tools store them; ``<id>.swidtag`` and the names of
NVIDIA's wheel (``1010_0200_882_96005E0001_PROD.swidtag``); ``<anything>.json`` with an answer of NVIDIA's service.  A
RIM under any other name is found by product and version.  Two issues with one name go into two folders.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from ..codec import unhex
from ..errors import Check, Error, MalformedEvidence, MaterialUnavailable, UnsupportedEvidence
from .rim import RimNeed, SignedRim, parse_rim
from .rim_xml import MAX_SIZE
from .signed_json import load_json

MAX_FILES = 4096
MAX_ANSWER = 2 * MAX_SIZE
"""Largest answer of the service: a RIM in base64 with five short members."""
RIM_ID = re.compile(
    r"NV_GPU_(?:CC_)?DRIVER_[A-Z0-9]{1,16}_[0-9]{1,8}(?:\.[0-9]{1,8}){1,4}"
    r"|NV_GPU_VBIOS(?:_[A-Z0-9]{1,16}){3}_[0-9A-F]{8,16}"
    r"|NV_SWITCH_BIOS(?:_[A-Z0-9]{1,16}){3}_[0-9A-F]{8,16}"
)
"""Ids of NVIDIA's RIM service, of the RIMs that dokimos reads."""

_WHAT = "answer of the RIM service"
_WHEEL = re.compile(r"((?:[0-9a-z]{4}_){2}[0-9a-z]{3}_[0-9a-f]{10})(?:_[a-z_]+)?", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRim:
    """One file with a RIM.

    Attributes:
        id: the id that its name, or the service's answer, gives it, or None.
        data: the RIM, in XML, as received.
        name: name of the file, for messages.
    """

    id: str | None
    data: bytes
    name: str

    @property
    def sha256(self) -> bytes:
        """SHA-256 of the RIM: the only thing that names one issue of it."""
        return sha256(self.data).digest()


def id_of_name(name: str) -> str | None:
    """The RIM id that a file's name gives it, or None."""
    stem = name.replace("\\", "/").rpartition("/")[2].rpartition(".")[0]
    wheel = _WHEEL.fullmatch(stem)
    found = f"NV_GPU_VBIOS_{wheel.group(1)}" if wheel else stem
    return found.upper() if RIM_ID.fullmatch(found.upper()) else None


def parse_rim_answer(data: bytes, rim_id: str | None = None, name: str = _WHAT) -> StoredRim:
    """Read an answer of NVIDIA's RIM service.

    Args:
        data: its JSON body.
        rim_id: the id that was asked for; None takes the one that it names.
        name: where it came from, for messages.

    Raises:
        MalformedEvidence: no such answer, about another id, or another SHA-256 than it states (``gpu.rim.format``).
        UnsupportedEvidence: a RIM of another format than SWID.
    """
    answer = _json(data)
    found, text = answer.get("id"), answer.get("rim")
    if not isinstance(found, str) or not isinstance(text, str) or not isinstance(answer.get("sha256"), str):
        raise _bad("id, rim or sha256 is missing")
    if not RIM_ID.fullmatch(found):
        raise _bad(f"{found[:80]!r} is no id of a RIM")
    if rim_id is not None and found != rim_id:
        raise _bad(f"it is about {found}, not about {rim_id}")
    form = answer.get("rim_format", "TCG")
    if form != "TCG":
        raise UnsupportedEvidence(f"{name}: {found} has the format {form!r}; only TCG (SWID) is supported")
    try:
        rim = binascii.a2b_base64(text.encode(), strict_mode=True)
    except (binascii.Error, UnicodeEncodeError) as exc:
        raise _bad(f"{found}: rim is not base64") from exc
    try:
        stated = unhex(answer["sha256"], "sha256", 32)
    except MalformedEvidence as exc:
        raise _bad(f"{found}: {exc}") from exc
    if sha256(rim).digest() != stated:
        raise _bad(f"{found}: the RIM does not have the SHA-256 that stands beside it")
    return StoredRim(id=found, data=rim, name=name)


def _bad(message: str) -> MalformedEvidence:
    return MalformedEvidence(f"{_WHAT}: {message}", check=Check.GPU_RIM_FORMAT)


def _json(data: bytes) -> dict[str, Any]:
    try:
        answer = load_json(data, _WHAT, MAX_ANSWER)
    except MalformedEvidence as exc:
        raise MalformedEvidence(str(exc), check=Check.GPU_RIM_FORMAT) from exc
    if not isinstance(answer, dict):
        raise _bad("not an object")
    return answer


@dataclass(frozen=True, slots=True, kw_only=True)
class RimStore:
    """RIMs at hand; :meth:`of` makes one.

    Attributes:
        rims: all of them, by name of the file.
        ignored: names of files that hold no RIM, with the reason.
    """

    rims: tuple[StoredRim, ...] = ()
    ignored: tuple[tuple[str, str], ...] = ()
    _by_id: Mapping[str, tuple[StoredRim, ...]] = field(default_factory=dict, repr=False)
    _by_content: Mapping[tuple[str, str], tuple[StoredRim, ...]] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, files: Mapping[str, bytes]) -> RimStore:
        """A store of files by name.

        Args:
            files: content by name or path; what holds no RIM is ignored.

        Raises:
            MalformedEvidence: an answer of the service that is not whole, or too many files.
        """
        if len(files) > MAX_FILES:
            raise MalformedEvidence(f"RIM store: more than {MAX_FILES} files", check=Check.GPU_RIM_FORMAT)
        rims: dict[bytes, StoredRim] = {}
        ignored: list[tuple[str, str]] = []
        by_id: dict[str, list[StoredRim]] = {}
        by_content: dict[tuple[str, str], list[StoredRim]] = {}
        for name, data in sorted(files.items()):
            try:
                stored = _stored(name, id_of_name(name), data)
            except UnsupportedEvidence as exc:
                ignored.append((name, str(exc)))
                continue
            if stored is None:
                ignored.append((name, "neither a RIM in XML nor an answer of the RIM service"))
                continue
            if stored.id is None:
                try:
                    rim = parse_rim(stored.data).rim
                except Error as exc:
                    ignored.append((name, str(exc)))
                    continue
                by_content.setdefault((rim.product.upper(), rim.version.upper()), []).append(stored)
            else:
                by_id.setdefault(stored.id, []).append(stored)
            rims.setdefault(stored.sha256, stored)
        return cls(
            rims=tuple(rims.values()),
            ignored=tuple(ignored),
            _by_id={key: tuple(values) for key, values in by_id.items()},
            _by_content={key: tuple(values) for key, values in by_content.items()},
        )

    def find(
        self, need: RimNeed, *, sha256s: Collection[bytes] = (), signers: Collection[bytes] = ()
    ) -> tuple[StoredRim, ...]:
        """The issues of a RIM that are at hand, in the order of their names; empty if there is none.

        Args:
            need: what the device needs.
            sha256s: with it or `signers`, only issues with one of these SHA-256 of the file,
            signers: or with one of these SHA-256 of their signer's certificate in DER.
        """
        issues = self._issues(need)
        if not sha256s and not signers:
            return issues
        return tuple(rim for rim in issues if rim.sha256 in sha256s or _signer(rim) in signers)

    def missing(self, needs: Iterable[RimNeed]) -> tuple[RimNeed, ...]:
        """Those of the needs for which nothing is at hand, each once."""
        return tuple(dict.fromkeys(need for need in needs if not self._issues(need)))

    def require(self, needs: Iterable[RimNeed]) -> None:
        """Demand that something is at hand for each need.

        Raises:
            MaterialUnavailable: something is not; the message has the ids under which it can be fetched, and says which
                files were of no use.
        """
        if missing := self.missing(needs):
            unused = "".join(f"; {name} is of no use: {reason}" for name, reason in self.ignored[:8])
            raise MaterialUnavailable(
                f"no RIM for {', '.join(need.id for need in missing)}: fetch it by this id from NVIDIA's RIM service"
                + unused
            )

    def _issues(self, need: RimNeed) -> tuple[StoredRim, ...]:
        found = list(self._by_id.get(need.id, ()))
        for product in need.products:
            found += self._by_content.get((product.upper(), need.version.upper()), ())
        unique: dict[bytes, StoredRim] = {}
        for rim in found:
            unique.setdefault(rim.sha256, rim)
        return tuple(unique.values())


def _stored(name: str, rim_id: str | None, data: bytes) -> StoredRim | None:
    """One file: a RIM in XML, an answer of the service, or nothing of interest."""
    if name.lower().endswith(".corim"):
        raise UnsupportedEvidence(f"{name} is a CoRIM, which is not supported; the RIM is needed as SWID")
    start = data.lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
    if start == b"<":
        return StoredRim(id=rim_id, data=data, name=name)
    if start != b"{" or len(data) > MAX_ANSWER:
        return None
    try:
        answer = _json(data)
    except MalformedEvidence:
        return None
    return parse_rim_answer(data, rim_id, name) if {"id", "rim"} <= answer.keys() else None


def _signer(stored: StoredRim) -> bytes | None:
    """SHA-256 of the certificate that stands first in the file; of a file that cannot be read, None."""
    try:
        signed: SignedRim = parse_rim(stored.data)
    except Error:
        return None
    return sha256(signed.certificates[0]).digest()
