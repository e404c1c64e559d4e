"""Who makes reports: the interface that the kernel's providers and the simulated platform share."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from ..evidence.bundle import SnpEvidence, TdxEvidence

REPORT_DATA_SIZE = 64
"""Bytes that a guest may put into its report."""
VMPLS = range(4)
"""Privilege levels for which a guest can ask."""


class Quote(NamedTuple):
    """What the platform answers to a report request.

    Attributes:
        report: the attestation report, 1184 bytes.
        cert_table: the host's certificate table (GHCB extended report), or None where it gave none.
    """

    report: bytes
    cert_table: bytes | None


class Endorsements(NamedTuple):
    """What vouches for the key that signed a report.

    Attributes:
        vek: the VCEK or VLEK certificate in DER.
        cas: CA certificates in DER, the issuer of the leaf first.
        crls: revocation lists in DER.
    """

    vek: bytes
    cas: tuple[bytes, ...]
    crls: tuple[bytes, ...]


class EvidenceSource(Protocol):
    """Makes the processor's part of an evidence bundle."""

    def evidence(self, report_data: bytes) -> SnpEvidence | TdxEvidence:
        """Fresh evidence with what vouches for it; a renewed certificate or list is in the next one.

        Args:
            report_data: 64 bytes that the evidence must carry.

        Raises:
            Error: the platform gave none, or nothing vouches for it.
        """


class Platform(EvidenceSource, Protocol):
    """The platform of a machine, which makes the processor's part of its bundles."""

    @property
    def name(self) -> str:
        """Name of the interface, for messages."""

    @property
    def simulated(self) -> bool:
        """Whether the evidence comes from the simulated platform; it proves nothing about hardware then."""


class Provider(Protocol):
    """A source of reports about the machine that asks."""

    @property
    def name(self) -> str:
        """Name of the interface, for messages."""

    @property
    def simulated(self) -> bool:
        """Whether the reports come from the simulated platform; they prove nothing about hardware then."""

    def report(self, report_data: bytes, *, vmpl: int = 0) -> Quote:
        """A fresh report.

        Args:
            report_data: 64 bytes that the report must carry.
            vmpl: privilege level, 0 to 3.

        Raises:
            UsageError: another length or level.
            MaterialUnavailable: the platform gave no report.
        """
