"""The platform underneath: finds the interface that the kernel offers, and takes the endorsements from the host."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from ..codec import pem_or_der
from ..errors import MaterialUnavailable
from ..evidence import cert_table
from ..evidence.bundle import SnpEvidence, TdxEvidence
from ..evidence.ccel import LOG_MAX, parse_ccel
from ..evidence.snp import SigningKey, parse_report
from . import sev_guest, sim_guest, tsm
from .attester import SnpSource
from .provider import REPORT_DATA_SIZE, Endorsements, Platform, Provider, Quote
from .sim_port import Tee


class HostPlatform:
    """A provider that also gives the certificates which came with its reports.

    A :class:`~dokimos.attest.provider.Platform` for an :class:`~dokimos.attest.attester.Attester`.  Safe from any
    thread.

    Args:
        provider: where reports come from.
    """

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._lock = threading.Lock()
        self._last: tuple[bytes, SigningKey] | None = None

    @property
    def name(self) -> str:
        """Name of the interface."""
        return self._provider.name

    @property
    def simulated(self) -> bool:
        """Whether the reports come from the simulated platform."""
        return self._provider.simulated

    def report(self, report_data: bytes, *, vmpl: int = 0) -> Quote:
        """A fresh report; its certificate table is kept for :meth:`endorsements`.

        Raises:
            Error: as the provider's.
        """
        quote = self._provider.report(report_data, vmpl=vmpl)
        if quote.cert_table is not None:
            signed_by = parse_report(quote.report).signing_key
            if signed_by in (SigningKey.VCEK, SigningKey.VLEK):
                with self._lock:
                    self._last = (quote.cert_table, SigningKey(signed_by))
        return quote

    def endorsements(self) -> Endorsements:
        """What stands in the last certificate table; one report is made where there was none yet.

        Raises:
            MaterialUnavailable: the host gives no table for a signed report, or none with the certificate of its key.
            MalformedEvidence: a table or certificate of a wrong form.
        """
        if self._last is None:
            self.report(bytes(REPORT_DATA_SIZE))
        with self._lock:
            last = self._last
        if last is None:
            raise MaterialUnavailable(f"{self.name}: the host gives no certificate table, or the report is not signed")
        return endorsements_of(*last)

    def evidence(self, report_data: bytes) -> SnpEvidence:
        """See :class:`~dokimos.attest.provider.EvidenceSource`; errors as the two methods above."""
        return SnpSource(self, self).evidence(report_data)


class TdPlatform:
    """A :class:`~dokimos.attest.provider.Platform` in a TD.  Safe from any thread.

    It has no collateral to hand out: a confidential guest reaches nobody.  The client has its own.

    Args:
        provider: where quotes come from.
        event_log: the data of the ACPI table CCEL, None for the kernel's place; read once, since what goes into RTMR0
            to RTMR2 is measured by then.
    """

    simulated = False

    def __init__(self, provider: tsm.TsmTdProvider, event_log: Path | None = None) -> None:
        self._provider = provider
        self._event_log = _log(event_log or tsm.DEFAULT_EVENT_LOG)

    @property
    def name(self) -> str:
        """Name of the interface."""
        return self._provider.name

    def evidence(self, report_data: bytes) -> TdxEvidence:
        """See :class:`~dokimos.attest.provider.EvidenceSource`; errors as the provider's."""
        return TdxEvidence(quote=self._provider.quote(report_data), collateral=None, event_log=self._event_log)


def _log(path: Path) -> bytes | None:
    """The event log without the unused rest of its buffer; None where the firmware leaves none.

    Raises:
        MaterialUnavailable: it is there and cannot be read: evidence that lacks it would be refused for no good reason.
        MalformedEvidence: it is no event log.
    """
    try:
        with path.open("rb") as file:
            data = file.read(LOG_MAX + 1)
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise MaterialUnavailable(f"event log {path}: {exc.strerror}") from exc
    return data[: parse_ccel(data).size]


def endorsements_of(table: bytes, signing_key: SigningKey) -> Endorsements:
    """The endorsements in a certificate table.

    Args:
        table: as in :mod:`dokimos.evidence.cert_table`.
        signing_key: the key that signed the report; a table may hold the certificates of both.

    Raises:
        MaterialUnavailable: no certificate of this key.
        MalformedEvidence: a table or certificate of a wrong form.
    """
    contents = cert_table.parse_cert_table(table)
    leaf = contents.get(cert_table.VLEK if signing_key is SigningKey.VLEK else cert_table.VCEK)
    if leaf is None:
        raise MaterialUnavailable(f"the host's certificate table holds no {signing_key.name}")
    cas = [ca for guid in (cert_table.ASK, cert_table.ARK) for ca in _certificates(contents.get(guid))]
    crls = pem_or_der(contents[cert_table.CRL], "CRL", "X509 CRL") if cert_table.CRL in contents else []
    return Endorsements(_certificates(leaf)[0], tuple(cas), tuple(crls))


def _certificates(data: bytes | None) -> list[bytes]:
    return pem_or_der(data, "certificate table") if data is not None else []


def detect(
    root: Path = tsm.DEFAULT_ROOT,
    device: Path = sev_guest.DEFAULT_DEVICE,
    ports: Path = sim_guest.DEFAULT_PORTS,
    td_device: Path = tsm.TD_DEVICE,
) -> Platform:
    """The platform of this machine: configfs-tsm, else /dev/sev-guest, else a simulated secure processor's port.

    configfs-tsm takes root's rights, so that a service without them goes to the device, which it can be given.

    Args:
        root: folder ``tsm/report`` of configfs.
        device: the device file.
        ports: where virtio-serial ports are listed.
        td_device: what is there in a TD; quotes do not come from it, but tell a TD by it.

    Raises:
        MaterialUnavailable: none of them is there, or a TD's event log cannot be read.
        MalformedEvidence: a TD's event log is none.
    """
    if root.is_dir() and os.access(root, os.W_OK):
        if td_device.exists():
            return TdPlatform(tsm.TsmTdProvider(root))
        return HostPlatform(tsm.TsmProvider(root))
    if device.exists():
        return HostPlatform(sev_guest.SevGuestProvider(device))
    port = sim_guest.find_port(Tee.SNP, ports)
    if port is not None:
        return HostPlatform(sim_guest.SimPortProvider(port))
    port = sim_guest.find_port(Tee.TDX, ports)
    if port is not None:
        return sim_guest.SimPortTd(port)
    raise MaterialUnavailable(f"not a confidential guest, or its kernel is too old: neither {root} nor {device}")
