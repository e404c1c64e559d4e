"""Answers of a provisioning service on disk, each no longer than its content says that it holds."""

from __future__ import annotations

import binascii
import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from ..errors import MalformedEvidence
from .signed_json import Fields, load_json

_SCHEMA: Final = "dokimos.pcs-answer/v1"
_WHAT: Final = "cached answer"
_LARGEST: Final = 4 << 20
DAY: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """What a service answered.

    Attributes:
        body: as received.
        headers: by lower-case name; only those that were asked for.
        url: address that answered.
        fetched: when, UTC.
    """

    body: bytes
    headers: Mapping[str, str]
    url: str
    fetched: datetime


class PcsCache:
    """A folder of answers, one file for each address.

    A file that cannot be read, is of another form, or of another address counts as none; one that cannot be written is
    not kept.  Nothing is believed because it was cached: signatures are verified as over any other answer.

    Args:
        folder: where; made when the first answer is kept.
        longest: how long an answer is kept at most, however long it says that it holds.
    """

    def __init__(self, folder: Path, longest: timedelta = DAY) -> None:
        self._folder = folder
        self._longest = longest

    def _path(self, url: str) -> Path:
        return self._folder / f"{hashlib.sha256(url.encode()).hexdigest()}.json"

    def get(self, url: str, now: datetime) -> Response | None:
        """The answer of this address, if there is one that still holds at `now`."""
        try:
            with self._path(url).open("rb") as file:
                found, holds_until = _parse(file.read(_LARGEST + 1))
        except (OSError, MalformedEvidence):
            return None
        fresh = found.fetched <= now < min(holds_until, found.fetched + self._longest)
        return found if fresh and found.url == url else None

    def put(self, response: Response, holds_until: datetime) -> None:
        """Keep an answer, in one step: a reader sees all of it or none."""
        path = self._path(response.url)
        with contextlib.suppress(OSError):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=self._folder, prefix=".", suffix=".part")
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(_encode(response, holds_until))
                Path(name).replace(path)
            except BaseException:
                Path(name).unlink(missing_ok=True)
                raise


def rfc3339(moment: datetime) -> str:
    """A time in UTC with whole seconds."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _encode(response: Response, holds_until: datetime) -> bytes:
    document = {
        "schema": _SCHEMA,
        "url": response.url,
        "fetched": rfc3339(response.fetched),
        "holds_until": rfc3339(holds_until),
        "headers": dict(response.headers),
        "body": binascii.b2a_base64(response.body, newline=False).decode(),
    }
    return json.dumps(document, indent=1, sort_keys=True).encode() + b"\n"


def _parse(content: bytes) -> tuple[Response, datetime]:
    fields = Fields(load_json(content, _WHAT, _LARGEST), _WHAT)
    if fields.text("schema") != _SCHEMA:
        raise fields.fail("another schema")
    headers = fields.object("headers")
    try:
        body = binascii.a2b_base64(fields.text("body", _LARGEST), strict_mode=True)
    except ValueError as exc:
        raise fields.fail("broken base64") from exc
    response = Response(
        body=body,
        headers={name: headers.text(name, _LARGEST) for name in headers.names()},
        url=fields.text("url", 4096),
        fetched=fields.time("fetched"),
    )
    return response, fields.time("holds_until")
