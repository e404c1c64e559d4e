"""Reports through configfs-tsm, the interface of Linux 6.7 and later that all confidential guests share.

Source: Linux, Documentation/ABI/testing/configfs-tsm-report.  A request is a folder of its own: one writes the 64 bytes
into ``inblob`` and reads the report or quote from ``outblob``, and the host's certificate table from ``auxblob``.
``generation`` counts the writes, so that a reader notices when somebody else wrote into its folder in between.

Not confirmed on hardware: tested against a stand-in for the kernel.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol

from ..errors import MalformedEvidence, MaterialUnavailable, UnsupportedEvidence, UsageError
from ..evidence.cert_table import MAX_SIZE
from ..evidence.snp import REPORT_SIZE
from ..evidence.tdx import QUOTE_MAX, parse_quote
from .provider import REPORT_DATA_SIZE, VMPLS, Quote

DEFAULT_ROOT = Path("/sys/kernel/config/tsm/report")
"""Where the kernel puts it."""
PROVIDER = "sev_guest"
"""The kernel's name for SEV-SNP in the attribute ``provider``."""
TD_PROVIDER = "tdx_guest"
"""The kernel's name for TDX."""
TD_DEVICE = Path("/dev/tdx_guest")
"""The device of a TD; it gives reports for quoting enclaves only."""
DEFAULT_EVENT_LOG = Path("/sys/firmware/acpi/tables/data/CCEL")
"""Where the kernel shows a TD's event log."""

_ATTEMPTS = 3
_REPORT_DATA = slice(0x50, 0x90)


class ConfigFs(Protocol):
    """The four operations that a request takes; every one may raise OSError."""

    def mkdir(self, folder: Path) -> None:
        """Make a request; the kernel fills the folder with its attributes."""

    def rmdir(self, folder: Path) -> None:
        """End a request; the attributes go with the folder."""

    def read(self, path: Path, limit: int) -> bytes:
        """An attribute's content, at most `limit` bytes."""

    def write(self, path: Path, data: bytes) -> None:
        """Write an attribute in one call."""


class KernelConfigFs:
    """The real file system."""

    def mkdir(self, folder: Path) -> None:
        """See :class:`ConfigFs`."""
        folder.mkdir()

    def rmdir(self, folder: Path) -> None:
        """See :class:`ConfigFs`."""
        folder.rmdir()

    def read(self, path: Path, limit: int) -> bytes:
        """See :class:`ConfigFs`."""
        with path.open("rb") as file:
            return file.read(limit)

    def write(self, path: Path, data: bytes) -> None:
        """See :class:`ConfigFs`."""
        # Neither created nor truncated: an attribute is there or it is not.
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            written = os.write(descriptor, data)
        finally:
            os.close(descriptor)
        if written != len(data):
            raise OSError(errno.EIO, "not written whole")


class _ConflictError(Exception):
    """Somebody else wrote into the request, or the kernel was busy: worth another try."""


class _Request(NamedTuple):
    """What is asked of the kernel.

    Attributes:
        provider: who must answer.
        inblob: the 64 bytes.
        level: privilege level, or None where the provider has none.
        limit: largest answer in bytes.
        carried: the 64 bytes that an answer carries.
    """

    provider: str
    inblob: bytes
    level: int | None
    limit: int
    carried: Callable[[bytes], bytes]


class _Answer(NamedTuple):
    outblob: bytes
    auxblob: bytes | None


class _Tsm:
    """Requests to configfs-tsm; what several providers of evidence share.

    Args:
        root: the folder ``tsm/report`` of configfs.
        files: how it is reached.
    """

    name = "configfs-tsm"
    simulated = False

    def __init__(self, root: Path = DEFAULT_ROOT, files: ConfigFs | None = None) -> None:
        self._root = root
        self._files = files or KernelConfigFs()

    def _ask(self, request: _Request) -> _Answer:
        """The kernel's answer.

        Raises:
            UnsupportedEvidence: another provider answers.
            MaterialUnavailable: no answer, or none of these bytes after three attempts.
        """
        for _ in range(_ATTEMPTS):
            try:
                return self._attempt(request)
            except _ConflictError:
                continue
            except OSError as exc:
                raise MaterialUnavailable(f"{self.name}: {exc.strerror or exc} ({self._root})") from exc
        raise MaterialUnavailable(f"{self.name}: {_ATTEMPTS} requests in a row were disturbed by others")

    def _attempt(self, request: _Request) -> _Answer:
        # A name of its own for each request: two threads never share a folder, let alone two processes.
        folder = self._root / f"dokimos-{secrets.token_hex(8)}"
        self._files.mkdir(folder)
        try:
            return self._exchange(folder, request)
        except OSError as exc:
            if exc.errno in (errno.EBUSY, errno.EAGAIN):
                raise _ConflictError from exc
            raise
        finally:
            with contextlib.suppress(OSError):  # the report is there or another error is on its way
                self._files.rmdir(folder)

    def _exchange(self, folder: Path, request: _Request) -> _Answer:
        provider = self._files.read(folder / "provider", 64).strip().decode("ascii", "replace")
        if provider != request.provider:
            raise UnsupportedEvidence(
                f"{self.name}: the provider is {provider!r}; only {request.provider!r} is supported"
            )
        before = self._generation(folder)
        if request.level is not None:
            self._files.write(folder / "privlevel", str(request.level).encode())
        self._files.write(folder / "inblob", request.inblob)
        out = self._files.read(folder / "outblob", request.limit + 1)
        table = self._auxblob(folder)
        # Our own writes.  The kernel takes an inblob when the file is closed, where a failure is not told, so the
        # answer itself is looked at as well.
        if self._generation(folder) != before + (1 if request.level is None else 2):
            raise _ConflictError
        if request.carried(out) != request.inblob:
            raise _ConflictError
        return _Answer(out, table)

    def _generation(self, folder: Path) -> int:
        text = self._files.read(folder / "generation", 32).strip()
        if not text.isdigit():
            raise MaterialUnavailable(f"{self.name}: generation is not a number")
        return int(text)

    def _auxblob(self, folder: Path) -> bytes | None:
        """The certificate table; a host need not give one, and what the kernel answers then differs by version."""
        try:
            table = self._files.read(folder / "auxblob", MAX_SIZE + 1)
        except OSError:
            return None
        return table if 0 < len(table) <= MAX_SIZE else None


class TsmProvider(_Tsm):
    """A :class:`~dokimos.attest.provider.Provider` on configfs-tsm; arguments as :class:`_Tsm`."""

    def report(self, report_data: bytes, *, vmpl: int = 0) -> Quote:
        """A fresh report; see :class:`~dokimos.attest.provider.Provider`.

        Raises:
            UsageError: not 64 bytes, or a level other than 0 to 3.
            UnsupportedEvidence: the guest is not an SEV-SNP one.
            MaterialUnavailable: the kernel gave no report, or none of these bytes after three attempts.
        """
        if len(report_data) != REPORT_DATA_SIZE or vmpl not in VMPLS:
            raise UsageError(f"a report takes {REPORT_DATA_SIZE} bytes of report_data and a VMPL of 0 to 3")
        return Quote(*self._ask(_Request(PROVIDER, report_data, vmpl, REPORT_SIZE, self._carried)))

    def _carried(self, report: bytes) -> bytes:
        if len(report) != REPORT_SIZE:
            raise MaterialUnavailable(f"{self.name}: a report of another size than {REPORT_SIZE} bytes")
        return report[_REPORT_DATA]


class TsmTdProvider(_Tsm):
    """Quotes of a TD through configfs-tsm; arguments as :class:`_Tsm`.

    The host's quoting service makes the quote, so that this takes longer than a report and may fail for its reasons.
    """

    def quote(self, report_data: bytes) -> bytes:
        """A fresh quote, as the kernel gives it.

        Raises:
            UsageError: not 64 bytes.
            UnsupportedEvidence: the guest is not a TD.
            MaterialUnavailable: the kernel gave no quote, or none of these bytes after three attempts.
        """
        if len(report_data) != REPORT_DATA_SIZE:
            raise UsageError(f"a quote takes {REPORT_DATA_SIZE} bytes of report_data")
        return self._ask(_Request(TD_PROVIDER, report_data, None, QUOTE_MAX, self._carried)).outblob

    def _carried(self, quote: bytes) -> bytes:
        try:
            return parse_quote(quote).body.report_data
        except (MalformedEvidence, UnsupportedEvidence) as exc:
            raise MaterialUnavailable(f"{self.name}: what the kernel gave is no quote: {exc}") from exc
