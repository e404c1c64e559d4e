"""What NVIDIA's own verifier (nv-local-gpu-verifier) needs for a real GPU; a yardstick, run by ``bench_gpu.py``.

It runs in an environment of its own, since that package pins old versions of what dokimos uses, and prints seconds as
JSON.  Two things of the package are replaced, since nothing can be measured with them: its questions to the OCSP
service always get the answer "good" without asking, and certificates are judged at the time that is given, not now, at
which all RIMs that have a report beside them are expired.  What it logs is thrown away, which makes it faster.

Usage: ``nvidia_yardstick.py REPORT.hex CHAIN.pem DRIVER_RIM.xml VBIOS_RIM.xml TIME ROUNDS``, in a folder that it may
write to.
"""

from __future__ import annotations

import json
import logging
import sys
import timeit
from contextlib import redirect_stdout
from datetime import datetime
from importlib import import_module
from io import StringIO
from pathlib import Path

# Imported by name: only that environment has these modules, and this repository has a folder that is called the same.
crypto = import_module("OpenSSL.crypto")
admin = import_module("verifier.cc_admin")
config = import_module("verifier.config")
Utils = import_module("verifier.cc_admin_utils").CcAdminUtils
Report = import_module("verifier.attestation").AttestationReport
Rim = import_module("verifier.rim").RIM
Chains = import_module("verifier.nvml.gpu_cert_chains").GpuCertificateChains
TestHandle = import_module("verifier.nvml.test_handle").TestHandle

_HOPPER = 9
_OPTIONS = {
    "allow_hold_cert": False,
    "claims_version": "3.0",
    "driver_rim": None,
    "nonce": None,
    "ocsp_nonce_disabled": False,
    "ocsp_url": None,
    "rim_service_url": None,
    "service_key": None,
    "test_no_gpu": True,  # RIMs from files, and NVML is not asked
    "user_mode": True,
    "vbios_rim": None,
    "verbose": False,
}


class _Gpu:
    """What the package has of a GPU once its driver was asked."""

    def __init__(self, report: bytes, chain: bytes, driver: str, vbios: str) -> None:
        self._values = (report, driver, vbios)
        self._chain = Chains(TestHandle(chain)).GpuAttestationCertificateChain

    def get_gpu_architecture(self):
        return _HOPPER

    def get_uuid(self):
        return "GPU-0"

    def get_attestation_report(self):
        return self._values[0]

    def get_driver_version(self):
        return self._values[1]

    def get_vbios_version(self):
        return self._values[2]

    def get_attestation_cert_chain(self):
        return self._chain


def _at(time: datetime) -> None:
    """Every certificate is judged at this time."""

    plain = crypto.X509StoreContext.__init__

    def at_that_time(self, store, certificate, chain=None) -> None:
        store.set_time(time)
        plain(self, store, certificate, chain)

    crypto.X509StoreContext.__init__ = at_that_time


def _good(*_):
    return True, "", "good", None


def _best(work, rounds: int) -> float:
    return min(timeit.repeat(work, number=1, repeat=rounds))


def main() -> None:
    report_file, chain_file, driver_file, vbios_file, time, rounds = sys.argv[1:]
    logging.disable(logging.CRITICAL)
    _at(datetime.fromisoformat(time))
    Utils.ocsp_certificate_chain_validation = staticmethod(_good)
    report, chain = bytes.fromhex(Path(report_file).read_text()), Path(chain_file).read_bytes()
    texts = {"driver": Path(driver_file).read_text(), "vbios": Path(vbios_file).read_text()}
    settings = config.GPU_ARCHITECTURE_MAP[_HOPPER]
    type(settings).DRIVER_RIM_PATH, type(settings).TEST_NO_GPU_VBIOS_RIM_PATH = driver_file, vbios_file
    parsed = Report(report, settings)
    leaf = Chains.extract_cert_chain(chain)[0].to_cryptography()
    versions = {
        name: Rim(rim_name=name, settings=settings, content=text).colloquialVersion for name, text in texts.items()
    }
    nonce = report[4:36].hex()

    def verify_chain() -> None:
        certificates = Chains(TestHandle(chain)).GpuAttestationCertificateChain
        assert Utils.verify_gpu_certificate_chain(certificates, settings, "")[0]

    def verify_signature() -> None:
        assert parsed.verify_signature(leaf, settings.signature_length, settings.HashFunction)

    def verify_rim() -> None:
        rim = Rim(rim_name="driver", settings=settings, content=texts["driver"])
        assert rim.verify(version=versions["driver"], settings=settings)[0]

    def whole() -> None:
        with redirect_stdout(StringIO()):
            gpu = _Gpu(report, chain, versions["driver"], versions["vbios"])
            accepted, _ = admin.attest(_OPTIONS, nonce, [gpu])
        assert accepted
        # Lists of the module, which grow with every call.
        for name in (
            "hwmodel",
            "oemid",
            "ueid",
            "gpu_driver_attestation_warning_list",
            "gpu_vbios_attestation_warning_list",
        ):
            getattr(admin, name).clear()

    works = {
        "parse": lambda: Report(report, settings),
        "chain": verify_chain,
        "signature": verify_signature,
        "rim": verify_rim,
        "whole": whole,
    }
    print(json.dumps({name: _best(work, int(rounds)) for name, work in works.items()}))


if __name__ == "__main__":
    main()
