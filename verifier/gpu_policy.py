"""What NVIDIA devices must be: the table ``[gpu]`` of the policy, each field with its meaning beside it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NamedTuple

from ..errors import UsageError
from ..evidence.gpu_arch import Arch
from .policy_keys import BOOLEAN, Kind, choice, choices, digests, integer, key, refuse, shown, table
from .policy_rules import NO_CHECK, RESERVED, ReservedRule
from .trust import GpuRevocation, GpuTrust

MOST_DEVICES: Final = 64

_DRIVER = re.compile(r"[0-9]{1,4}(?:\.[0-9]{1,4}){1,3}")
_VBIOS = re.compile(r"[0-9A-Fa-f]{2}(?:\.[0-9A-Fa-f]{2}){4}")
_SERIAL = re.compile(r"[1-9][0-9]{0,48}")


class Mode(StrEnum):
    """How a GPU is used, as its report says (FEATURE_FLAG).

    NVIDIA's two verifiers disagree on the numbers; these are those of the Python one, and a real report of a single GPU
    carries 0.  Results show the number too.
    """

    SPT = "spt"
    """One GPU passed through: 0."""
    MPT = "mpt"
    """Several GPUs passed through: 1."""
    PPCIE = "ppcie"
    """Protected PCIe, eight GPUs with their switches: 2."""

    @classmethod
    def of(cls, flag: int) -> Mode | None:
        """The mode of a number, or None for one without a name."""
        return dict(enumerate(cls)).get(flag)


class Topology(StrEnum):
    """When the wiring of GPUs and switches is looked at."""

    IF_PROTECTED = "if-protected"
    """As soon as a device says that it belongs to a machine with protected PCIe."""
    REQUIRE = "require"
    """Always: the machine must be one of these."""


class Nvdec0(StrEnum):
    """What the video decoder must be; it is off wherever confidential computing is on."""

    DISABLED = "disabled"
    ENABLED = "enabled"
    ANY = "any"


class DiceFlag(StrEnum):
    """Operational flags of TCG DICE that a device's certificate may carry."""

    NOT_CONFIGURED = "not_configured"
    NOT_SECURE = "not_secure"
    RECOVERY = "recovery"
    DEBUG = "debug"


class DriverVersion(NamedTuple):
    """A driver's version with its order, number by number; zeros at the end change nothing."""

    parts: tuple[int, ...]
    text: str

    @classmethod
    def parse(cls, value: str) -> DriverVersion | None:
        """From "550.127.05"; None for any other form."""
        if not _DRIVER.fullmatch(value):
            return None
        parts = [int(part) for part in value.split(".")]
        while parts and not parts[-1]:
            parts.pop()
        return cls(tuple(parts), value)


class VbiosVersion(NamedTuple):
    """A VBIOS's version, five bytes in hex; only those of one family, the first two bytes, can be compared."""

    parts: tuple[int, ...]
    text: str

    @classmethod
    def parse(cls, value: str) -> VbiosVersion | None:
        """From "96.00.9F.00.01"; None for any other form."""
        if not _VBIOS.fullmatch(value):
            return None
        return cls(tuple(int(part, 16) for part in value.split(".")), value.upper())

    @property
    def family(self) -> tuple[int, ...]:
        """Such as 96.00 for Hopper, 96.10 for its switches, 97.00 for Blackwell."""
        return self.parts[:2]


def _driver(value: object, path: str) -> DriverVersion:
    found = DriverVersion.parse(value) if isinstance(value, str) else None
    if found is None:
        raise refuse(path, f'a driver\'s version such as "550.127.05" wanted, not {shown(value)}')
    return found


def _vbios(value: object, path: str) -> VbiosVersion:
    found = VbiosVersion.parse(value) if isinstance(value, str) else None
    if found is None:
        raise refuse(path, f'a VBIOS\'s version such as "96.00.9F.00.01" wanted, not {shown(value)}')
    return found


def _mode(value: object, path: str) -> Mode:
    """A mode by its name or by its number, since NVIDIA's tools name the same numbers differently."""
    if type(value) is int and (found := Mode.of(value)) is not None:
        return found
    if isinstance(value, str) and value in tuple(Mode):
        return Mode(value)
    raise refuse(path, f"one of {', '.join(map(repr, map(str, Mode)))} or 0 to 2 wanted, not {shown(value)}")


def _modes(value: object, path: str) -> tuple[Mode, ...]:
    found = tuple(dict.fromkeys(_mode(item, f"{path}[{n}]") for n, item in enumerate(_listed(value, path))))
    if not found:
        raise refuse(path, "an empty list would accept nothing")
    return found


def _serial(value: object, path: str) -> int:
    if not isinstance(value, str) or not _SERIAL.fullmatch(value):
        raise refuse(path, f"a serial number in decimal digits, as the claim ueid has it, wanted, not {shown(value)}")
    return int(value)


def _listed(value: object, path: str) -> list[object]:
    if not isinstance(value, list):
        raise refuse(path, f"a list wanted, not {shown(value)}")
    return value


_DRIVER_VERSION = Kind('version, such as "550.127.05"', _driver, lambda found: None if found is None else found.text)
_DRIVER_VERSIONS = Kind(
    'list of versions, such as "550.54.14"',
    lambda value, path: tuple(_driver(item, f"{path}[{n}]") for n, item in enumerate(_listed(value, path))),
    lambda found: [item.text for item in found],
)
_VBIOS_VERSIONS = Kind(
    'list of versions, such as "96.00.9F.00.01"',
    lambda value, path: tuple(_vbios(item, f"{path}[{n}]") for n, item in enumerate(_listed(value, path))),
    lambda found: [item.text for item in found],
)
_MODES = Kind(
    'list of "spt", "mpt", "ppcie" or their numbers 0, 1, 2', _modes, lambda found: [str(one) for one in found]
)
_SERIALS = Kind(
    "list of decimal digits",
    lambda value, path: tuple(_serial(item, f"{path}[{n}]") for n, item in enumerate(_listed(value, path))),
    lambda found: [str(item) for item in found],
)


@dataclass(frozen=True, slots=True, kw_only=True)
class NrasRules:
    """NVIDIA's remote attestation service, ``[gpu.nras]``."""

    accept: bool = field(
        default=False,
        metadata=key(BOOLEAN, "a token of the service may stand in place of RIMs", "false: RIMs only"),
    )
    signer_spki_sha256: tuple[bytes, ...] = field(
        default=(),
        metadata=key(
            digests(32), "further intermediates that may sign, by their key; for simulated services", "the pinned ones"
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuPolicy:
    """What the GPUs and switches of a machine must be, ``[gpu]``."""

    gpus: int | None = field(
        default=None,
        metadata=key(integer(0, MOST_DEVICES), "number of GPUs of the machine", "any number, also none at all"),
    )
    switches: int | None = field(
        default=None,
        metadata=key(
            integer(0, MOST_DEVICES), "number of NVSwitches of the machine", "four with protected PCIe, else any"
        ),
    )
    architectures: tuple[Arch, ...] = field(
        default=tuple(Arch), metadata=key(choices(Arch), "accepted architectures", "every one that is known")
    )
    simulated_roots: tuple[bytes, ...] = field(
        default=(),
        metadata=key(digests(32), "SHA-256 of roots of simulated devices and RIMs that are accepted", "none"),
    )
    require_nonce: bool = field(
        default=True, metadata=key(BOOLEAN, "the caller must say which nonce the reports carry", "true")
    )
    revocation: GpuRevocation = field(
        default=GpuRevocation.NONE,
        metadata=key(
            choice(GpuRevocation),
            "what must be there of revocation for devices and RIMs; what is there is looked at",
            "none: the result says so",
        ),
    )
    allow_hold: bool = field(
        default=False,
        metadata=key(BOOLEAN, "a certificate on hold is accepted in the chain of a RIM, never of a device", "false"),
    )
    rim_sha256: tuple[bytes, ...] = field(
        default=(), metadata=key(digests(32), "accepted RIMs by the SHA-256 of their files", "any that NVIDIA signed")
    )
    rim_signer_sha256: tuple[bytes, ...] = field(
        default=(),
        metadata=key(
            digests(32), "accepted signers of RIMs by the SHA-256 of their certificates", "any below the root"
        ),
    )
    serials: tuple[int, ...] = field(
        default=(), metadata=key(_SERIALS, "serial numbers of the accepted devices (ueid)", NO_CHECK)
    )
    denied_serials: tuple[int, ...] = field(
        default=(), metadata=key(_SERIALS, "serial numbers of denied devices (ueid)", "none is denied")
    )
    driver_minimum: DriverVersion | None = field(
        default=None, metadata=key(_DRIVER_VERSION, "lowest version of the driver", NO_CHECK)
    )
    denied_drivers: tuple[DriverVersion, ...] = field(
        default=(), metadata=key(_DRIVER_VERSIONS, "versions of the driver that are not accepted", "none is denied")
    )
    vbios_minimum: tuple[VbiosVersion, ...] = field(
        default=(),
        metadata=key(
            _VBIOS_VERSIONS,
            "lowest version of the VBIOS, one for each family (its first two bytes); a family without one is refused",
            NO_CHECK,
        ),
    )
    modes: tuple[Mode, ...] = field(
        default=tuple(Mode),
        metadata=key(_MODES, "accepted modes; a report that names none is refused once any is left out", "all"),
    )
    topology: Topology = field(
        default=Topology.IF_PROTECTED,
        metadata=key(
            choice(Topology), "when GPUs and switches must be wired to each other alone", "if one says protected PCIe"
        ),
    )
    nvdec0: Nvdec0 = field(
        default=Nvdec0.DISABLED, metadata=key(choice(Nvdec0), "what the video decoder must be", "disabled")
    )
    require_fwid: bool = field(
        default=False,
        metadata=key(BOOLEAN, "a GPU's report must carry the firmware identifier", "false: old firmware reports none"),
    )
    dice_flags: tuple[DiceFlag, ...] = field(
        default=tuple(DiceFlag),
        metadata=key(choices(DiceFlag, empty=True), "operational flags that must not be set", "all of them"),
    )
    opaque_version: ReservedRule = field(
        default=ReservedRule.REPORT,
        metadata=key(RESERVED, "the opaque data are of version 0 or 1", "reported, not fatal"),
    )
    unknown_opaque: ReservedRule = field(
        default=ReservedRule.REPORT,
        metadata=key(RESERVED, "the opaque data have entries of known types only", "reported, not fatal"),
    )
    unmeasured: ReservedRule = field(
        default=ReservedRule.REPORT,
        metadata=key(RESERVED, "every measurement of a device has a reference value", "reported, not fatal"),
    )
    require_guest_state: bool = field(
        default=False,
        metadata=key(BOOLEAN, "the guest must say what no device signs: gpu.guest checks", "false: a skip says so"),
    )
    allow_devtools: bool = field(
        default=False, metadata=key(BOOLEAN, "DevTools mode is accepted; never for real data", "false")
    )
    nras: NrasRules = field(
        default_factory=NrasRules,
        metadata=key(table(NrasRules), "NVIDIA's remote attestation service", "as its keys say"),
    )

    def trust(self) -> GpuTrust:
        """What verification needs of the policy."""
        return GpuTrust(
            simulated_roots=frozenset(self.simulated_roots),
            revocation=self.revocation,
            allow_hold=self.allow_hold,
            rims=frozenset(self.rim_sha256),
            rim_signers=frozenset(self.rim_signer_sha256),
            nras=self.nras.accept,
            nras_signers=frozenset(self.nras.signer_spki_sha256),
        )


def consistent(policy: GpuPolicy) -> None:
    """Refuse keys that contradict each other.

    Raises:
        UsageError: they do.
    """
    both = set(policy.serials) & set(policy.denied_serials)
    if both:
        raise UsageError(f"policy: gpu.serials and gpu.denied_serials both name {min(both)}")
    families = [version.family for version in policy.vbios_minimum]
    if len(set(families)) != len(families):
        raise UsageError("policy: gpu.vbios_minimum names a family twice")
