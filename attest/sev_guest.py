"""Reports through /dev/sev-guest, the device of Linux 5.19 and later, for guests without configfs-tsm.

Source: Linux, include/uapi/linux/sev-guest.h; the response in AMD 56860, table "MSG_REPORT_RSP".

Not confirmed on hardware: tested against a stand-in that reads and writes the same structures by address.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import struct
from collections.abc import Callable
from pathlib import Path

from ..errors import MaterialUnavailable, UsageError
from ..evidence.cert_table import MAX_SIZE
from ..evidence.snp import REPORT_SIZE
from .provider import REPORT_DATA_SIZE, VMPLS, Quote

DEFAULT_DEVICE = Path("/dev/sev-guest")
"""Where the kernel puts it."""
SNP_GET_REPORT = 0xC0205300
"""_IOWR('S', 0, struct snp_guest_request_ioctl)"""
SNP_GET_EXT_REPORT = 0xC0205302
"""_IOWR('S', 2, struct snp_guest_request_ioctl)"""
VMM_ERR_INVALID_LEN = 1
"""Upper half of exitinfo2: the certificates need more room, and certs_len says how much."""

_MESSAGE_VERSION = 1
# The driver takes whole pages, and up to 16 KiB.
_CERTS_SIZE = 0x4000
_PAGE = 0x1000
_RESPONSE = struct.Struct("<II24x")


class ReportRequest(ctypes.Structure):
    """``struct snp_report_req``, 96 bytes."""

    _fields_ = (
        ("user_data", ctypes.c_uint8 * REPORT_DATA_SIZE),
        ("vmpl", ctypes.c_uint32),
        ("rsvd", ctypes.c_uint8 * 28),
    )


class ExtReportRequest(ctypes.Structure):
    """``struct snp_ext_report_req``, 112 bytes."""

    _fields_ = (
        ("data", ReportRequest),
        ("certs_address", ctypes.c_uint64),
        ("certs_len", ctypes.c_uint32),
    )


class ReportResponse(ctypes.Structure):
    """``struct snp_report_resp``, 4000 bytes."""

    _fields_ = (("data", ctypes.c_uint8 * 4000),)


class GuestRequest(ctypes.Structure):
    """``struct snp_guest_request_ioctl``, 32 bytes."""

    _fields_ = (
        ("msg_version", ctypes.c_uint8),
        ("req_data", ctypes.c_uint64),
        ("resp_data", ctypes.c_uint64),
        ("exitinfo2", ctypes.c_uint64),
    )


def _kernel_ioctl(descriptor: int, operation: int, request: GuestRequest) -> None:
    fcntl.ioctl(descriptor, operation, request, True)


class SevGuestProvider:
    """A :class:`~dokimos.attest.provider.Provider` on /dev/sev-guest.

    Args:
        device: the device file.
        ioctl: does the call on a descriptor, operation and request; raises OSError.
    """

    name = "sev-guest"
    simulated = False

    def __init__(
        self, device: Path = DEFAULT_DEVICE, ioctl: Callable[[int, int, GuestRequest], None] = _kernel_ioctl
    ) -> None:
        self._device = device
        self._ioctl = ioctl

    def report(self, report_data: bytes, *, vmpl: int = 0) -> Quote:
        """A fresh report, with the certificate table if the host gives one that fits.

        Raises:
            UsageError: not 64 bytes, or a level other than 0 to 3.
            MaterialUnavailable: the device gave no report.
        """
        if len(report_data) != REPORT_DATA_SIZE or vmpl not in VMPLS:
            raise UsageError(f"a report takes {REPORT_DATA_SIZE} bytes of report_data and a VMPL of 0 to 3")
        request = ReportRequest(user_data=(ctypes.c_uint8 * REPORT_DATA_SIZE)(*report_data), vmpl=vmpl)
        try:
            descriptor = os.open(self._device, os.O_RDWR | os.O_CLOEXEC)
        except OSError as exc:
            raise MaterialUnavailable(f"{self._device}: {exc.strerror}") from exc
        try:
            return self._extended(descriptor, request) or self._plain(descriptor, request)
        finally:
            os.close(descriptor)

    def _extended(self, descriptor: int, data: ReportRequest) -> Quote | None:
        """A report with certificates, or None where the host or the driver gives none."""
        size = _CERTS_SIZE
        for _ in range(2):
            certificates = (ctypes.c_uint8 * size)()
            request = ExtReportRequest(data=data, certs_address=ctypes.addressof(certificates), certs_len=size)
            response = ReportResponse()
            call = GuestRequest(_MESSAGE_VERSION, ctypes.addressof(request), ctypes.addressof(response), 0)
            try:
                self._ioctl(descriptor, SNP_GET_EXT_REPORT, call)
            except OSError:
                wanted = -(-request.certs_len // _PAGE) * _PAGE
                if call.exitinfo2 >> 32 != VMM_ERR_INVALID_LEN or not size < wanted <= MAX_SIZE:
                    return None
                size = wanted
                continue
            table = bytes(certificates)
            return Quote(self._report(response), table if any(table) else None)
        return None

    def _plain(self, descriptor: int, data: ReportRequest) -> Quote:
        response = ReportResponse()
        call = GuestRequest(_MESSAGE_VERSION, ctypes.addressof(data), ctypes.addressof(response), 0)
        try:
            self._ioctl(descriptor, SNP_GET_REPORT, call)
        except OSError as exc:
            firmware, vmm = call.exitinfo2 & 0xFFFFFFFF, call.exitinfo2 >> 32
            raise MaterialUnavailable(
                f"{self._device}: {exc.strerror or exc}; firmware error {firmware:#x}, VMM error {vmm:#x}"
            ) from exc
        return Quote(self._report(response), None)

    def _report(self, response: ReportResponse) -> bytes:
        data = bytes(response.data)
        status, size = _RESPONSE.unpack_from(data)
        if status or size != REPORT_SIZE:
            raise MaterialUnavailable(f"{self._device}: status {status:#x} and a report of {size} bytes")
        return data[_RESPONSE.size : _RESPONSE.size + size]
