"""The image's bill of materials: CycloneDX 1.6, out of the lock alone."""

from __future__ import annotations

import hashlib
import json
import uuid
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from .lock import Deb, Lock, ModelFile, Wheel, format_lock


def cyclonedx(lock: Lock, *, profile: str, dokimos_version: str, epoch: int) -> str:
    """The bill of materials of an image as CycloneDX 1.6 JSON, the same wherever it is written.

    Args:
        lock: every input of the image.
        profile: name of the image's profile.
        dokimos_version: version of the project, which brings the service.
        epoch: time in seconds since 1970.
    """
    digest = hashlib.sha256(format_lock(lock).encode()).digest()
    own = {"type": "application", "bom-ref": "dokimos", "name": "dokimos", "version": dokimos_version}
    components = [own, *map(_deb, lock.debs), *map(_wheel, lock.wheels), *map(_model, lock.models)]
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.UUID(bytes=digest[:16], version=4)}",
        "version": 1,
        "metadata": {
            "timestamp": datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "component": {
                "type": "operating-system",
                "bom-ref": "image",
                "name": profile,
                "version": digest.hex()[:16],
            },
        },
        "components": components,
    }
    return json.dumps(document, indent=1) + "\n"


def _deb(deb: Deb) -> dict[str, Any]:
    name, version = quote(deb.name, safe=""), quote(deb.version, safe="")
    purl = f"pkg:deb/debian/{name}@{version}?arch={deb.arch}&distro={quote(deb.suite, safe='')}"
    return {
        "type": "library",
        "bom-ref": purl,
        "name": deb.name,
        "version": deb.version,
        "purl": purl,
        "hashes": [{"alg": "SHA-256", "content": deb.sha256}],
        # What only builds or boots the image is not in it: CycloneDX calls that excluded.
        "scope": "required" if {"root", "initrd", "kernel", "firmware"} & set(deb.why) else "excluded",
        "properties": [
            {"name": "dokimos:source", "value": f"{deb.source} {deb.source_version}"},
            {"name": "dokimos:why", "value": ",".join(deb.why)},
        ],
    }


def _wheel(wheel: Wheel) -> dict[str, Any]:
    purl = f"pkg:pypi/{quote(wheel.name.lower().replace('_', '-'), safe='')}@{quote(wheel.version, safe='')}"
    hashes = [{"alg": "SHA-256", "content": wheel.sha256}]
    return _component("library", wheel.name, wheel.version, purl, hashes)


def _model(model: ModelFile) -> dict[str, Any]:
    purl = f"pkg:pypi/{quote(model.package, safe='')}@{quote(model.version, safe='')}"
    hashes = [{"alg": "SHA-256", "content": model.sha256}]
    return _component("machine-learning-model", model.alias, model.version, purl, hashes)


def _component(kind: str, name: str, version: str, purl: str, hashes: list[dict[str, str]]) -> dict[str, Any]:
    return {"type": kind, "bom-ref": purl, "name": name, "version": version, "purl": purl, "hashes": hashes}
