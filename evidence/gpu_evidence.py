"""What a machine hands over for its GPUs and switches: the evidence file, and what the guest asserts beside it.

The file is that of NVIDIA's nvattest: a JSON list with one object per device.  No device signs what stands in it beside
report and certificates; the verifier compares it with them.  The digest goes into the binding statement, so that no
device can be swapped, added or left out.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, NoReturn

from ..codec import unhex
from ..errors import Check, MalformedEvidence, UnsupportedEvidence
from .gpu_arch import Arch, Kind
from .gpu_report import NONCE_SIZE, REPORT_MAX

DEVICES_MAX = 64
"""Most devices of one file; the largest machine that is known has twelve."""
CHAIN_MAX = 0x4000
"""Most bytes of one chain in PEM; NVML's buffer holds 0x1400."""
EVIDENCE_MAX = DEVICES_MAX * 0xA000
"""Most bytes of a file."""
STATE_MAX = 512
"""Most bytes of what the guest asserts."""
ENVIRONMENTS = ("production", "simulation", "unavailable")
"""Values of the environment that NVML knows."""

_WHAT = "GPU evidence"
_STATE = "GPU state of the guest"
_DIGEST_TAG = b"dokimos/gpu-evidence/v1\x00"
_OPTIONAL = ("version", "driver_version", "vbios_version")
_VERSION = "1.0"


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuEvidence:
    """What one device hands over, as received; nothing in it is verified.

    Attributes:
        arch: the architecture that the file names.
        nonce: the nonce that the file names, 32 bytes.
        report: the report, perhaps with what followed it.
        chain: the device's certificates in PEM, leaf first, exactly as received.
    """

    arch: Arch
    nonce: bytes
    report: bytes
    chain: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestState:
    """What NVML says inside the guest; no device signs it, so it is as good as the measured guest that asserts it.

    Attributes:
        cc_feature: confidential computing is on.
        environment: "production", "simulation" or "unavailable".
        devtools: DevTools mode is on, which lets the host look inside.
        ready: the GPUs accept work; the guest says so after it has verified them.
        driver_version: version of the driver, or "".

    Raises:
        MalformedEvidence: on construction, where a value breaks a rule.
    """

    cc_feature: bool
    environment: str
    devtools: bool
    ready: bool
    driver_version: str

    def __post_init__(self) -> None:
        for name in ("cc_feature", "devtools", "ready"):
            if type(getattr(self, name)) is not bool:
                raise MalformedEvidence(f"{_STATE}: {name} is neither true nor false")
        if self.environment not in ENVIRONMENTS:
            raise MalformedEvidence(f"{_STATE}: environment is none of {', '.join(ENVIRONMENTS)}")
        version = self.driver_version
        if type(version) is not str or len(version) > 64 or not version.isascii() or not (version + ".").isprintable():
            raise MalformedEvidence(f"{_STATE}: driver_version is not at most 64 printable ASCII characters")

    def to_json(self) -> bytes:
        """The one encoding: an object with its members in alphabetic order and without space."""
        members = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return json.dumps(members, sort_keys=True, separators=(",", ":")).encode()


def parse_guest_state(data: bytes) -> GuestState:
    """Read what :meth:`GuestState.to_json` wrote; no other encoding of it is accepted.

    Raises:
        MalformedEvidence: anything else.
    """
    found = _load(data, _STATE, STATE_MAX)
    if not isinstance(found, dict) or found.keys() != set(GuestState.__dataclass_fields__):
        raise MalformedEvidence(f"{_STATE}: not an object of {', '.join(GuestState.__dataclass_fields__)}")
    if not isinstance(found["environment"], str):
        raise MalformedEvidence(f"{_STATE}: environment is no text")
    state = GuestState(**found)
    if state.to_json() != data:
        raise MalformedEvidence(f"{_STATE}: not in the one encoding: alphabetic order, no space")
    return state


def parse_gpu_evidence(data: bytes) -> tuple[GpuEvidence, ...]:
    """Read an evidence file.

    Members that have no name here are passed over: nothing is decided by them.

    Raises:
        MalformedEvidence: not a list of 1 to 64 devices of this form; the nonce has its own check
            (``gpu.evidence.nonce``).
        UnsupportedEvidence: a device of another architecture (``gpu.evidence.arch``).
    """
    found = _load(data, _WHAT, EVIDENCE_MAX)
    if not isinstance(found, list) or not 1 <= len(found) <= DEVICES_MAX:
        raise MalformedEvidence(f"{_WHAT}: not a list of 1 to {DEVICES_MAX} devices")
    return tuple(_device(item, f"{_WHAT}, device {n}") for n, item in enumerate(found))


def _device(item: object, what: str) -> GpuEvidence:
    if not isinstance(item, dict):
        raise MalformedEvidence(f"{what}: no object")
    for name in ("arch", "nonce", "evidence", "certificate", *(set(_OPTIONAL) & item.keys())):
        if not isinstance(item.get(name), str):
            raise MalformedEvidence(f"{what}: {name} is missing or no text")
    if item["arch"] not in tuple(Arch):
        raise UnsupportedEvidence(
            f"{what}: architecture {item['arch'][:32]!r}; {', '.join(Arch)} are supported",
            check=Check.GPU_EVIDENCE_ARCH,
        )
    try:
        nonce = unhex(item["nonce"], f"{what}: nonce", NONCE_SIZE)
    except MalformedEvidence as exc:
        raise MalformedEvidence(str(exc), check=Check.GPU_EVIDENCE_NONCE) from exc
    return GpuEvidence(
        arch=Arch(item["arch"]),
        nonce=nonce,
        report=_unbase64(item["evidence"], f"{what}: evidence", REPORT_MAX),
        chain=_unbase64(item["certificate"], f"{what}: certificate", CHAIN_MAX),
    )


def _unbase64(text: str, what: str, limit: int) -> bytes:
    if len(text) > (limit + 2) // 3 * 4:
        raise MalformedEvidence(f"{what}: more than {limit} bytes")
    try:
        value = binascii.a2b_base64(text, strict_mode=True)
    except ValueError as exc:  # binascii.Error, or characters that are not ASCII
        raise MalformedEvidence(f"{what}: broken base64") from exc
    if not value or len(value) > limit or base64.b64encode(value).decode() != text:
        raise MalformedEvidence(f"{what}: empty, more than {limit} bytes, or base64 whose unused bits are not zero")
    return value


def _once(members: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(members)
    if len(found) != len(members):
        raise ValueError("a member twice in one object")
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _load(data: bytes, what: str, limit: int) -> object:
    if len(data) > limit:
        raise MalformedEvidence(f"{what}: larger than {limit} bytes")
    try:
        # Numbers are of no use here; one of many digits would take quadratic time as an integer.
        loaded: object = json.loads(
            bytes(data).decode(), object_pairs_hook=_once, parse_int=float, parse_constant=_no_constant
        )
    except (ValueError, RecursionError) as exc:
        raise MalformedEvidence(f"{what}: not a JSON document in UTF-8, or nested too deeply") from exc
    return loaded


def encode_gpu_evidence(devices: Sequence[GpuEvidence]) -> bytes:
    """The evidence file of these devices, readable by NVIDIA's tools and by :func:`parse_gpu_evidence`."""
    items = [
        {
            "arch": device.arch.value,
            "certificate": base64.b64encode(device.chain).decode(),
            "evidence": base64.b64encode(device.report).decode(),
            "nonce": device.nonce.hex(),
            "version": _VERSION,
        }
        for device in devices
    ]
    return json.dumps(items, separators=(",", ":")).encode()


def subjects(devices: Sequence[GpuEvidence]) -> tuple[str, ...]:
    """Names of the devices in results: GPUs and switches are numbered apart, each in the order of the file."""
    count = dict.fromkeys(Kind, 0)
    names = []
    for device in devices:
        kind = device.arch.kind
        names.append(f"{kind.upper()}-{count[kind]}")
        count[kind] += 1
    return tuple(names)


def gpu_digest(devices: Sequence[GpuEvidence], state: GuestState | None) -> bytes:
    """Digest of all evidence, for the binding statement.

    It is SHA-256 over a domain tag and a deterministic CBOR map (RFC 8949 4.2.1): 1 is the list of the devices in their
    order, each a list of its kind ("gpu" or "switch") and the SHA-256 of its report and of its chain as received; 2 is
    what the guest asserts, in its one encoding, or null.
    """
    import cbor2  # noqa: PLC0415 - 17 ms that a verifier of bare reports need not pay

    listed = [
        [device.arch.kind.value, sha256(device.report).digest(), sha256(device.chain).digest()] for device in devices
    ]
    encoded = cbor2.dumps({1: listed, 2: None if state is None else state.to_json()}, canonical=True)
    return sha256(_DIGEST_TAG + encoded).digest()
