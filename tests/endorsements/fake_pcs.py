"""A provisioning service on loopback, which answers well unless a test gives it a fault; tests load it by path."""

from __future__ import annotations

import base64
import importlib.util
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import parse_qsl, quote, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from dokimos.endorsements.fetch import EVALUATION_NUMBERS, PCK_CRL, QE_IDENTITY, ROOT_CRL, TCB_INFO
from dokimos.evidence.tdx import Certification

NOW = datetime(2026, 3, 20, tzinfo=UTC)
CHAIN = "-----BEGIN%20CERTIFICATE-----%0AMAA%3D%0A-----END%20CERTIFICATE-----%0A"


def _load(name):
    path = Path(__file__).resolve().parent.parent / f"fuzz/{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


writer, seeds = _load("fuzz_pck"), _load("fuzz_tdx_collateral")


def pem(*certificates):
    blocks = (base64.encodebytes(der).decode() for der in certificates)
    return "".join(f"-----BEGIN CERTIFICATE-----\n{block}-----END CERTIFICATE-----\n" for block in blocks).encode()


def quote_chain(chain):
    """An issuer chain in PEM as a header has it."""
    return quote(chain)


LEAF = writer.SEEDS[0]
QUOTE = SimpleNamespace(certification=Certification(type=5, data=pem(LEAF)))


def crl(issuer=writer.PLATFORM_CA, next_update=NOW + timedelta(days=20)):
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, issuer),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Intel Corporation"),
        ]
    )
    builder = x509.CertificateRevocationListBuilder().issuer_name(name).last_update(NOW - timedelta(days=5))
    key = ec.derive_private_key(11, ec.SECP256R1())
    return builder.next_update(next_update).sign(key, SHA256()).public_bytes(Encoding.DER)


BODIES = {
    TCB_INFO: seeds.COLLATERAL.tcb_info,
    QE_IDENTITY: seeds.COLLATERAL.qe_identity,
    EVALUATION_NUMBERS: seeds.body("tcbEvaluationDataNumbers", seeds.NUMBERS),
    PCK_CRL: crl(),
    ROOT_CRL: crl("Intel SGX Root CA").hex().encode(),
}
HEADERS = {
    TCB_INFO: "TCB-Info-Issuer-Chain",
    QE_IDENTITY: "SGX-Enclave-Identity-Issuer-Chain",
    EVALUATION_NUMBERS: "TCB-Evaluation-Data-Numbers-Issuer-Chain",
    PCK_CRL: "SGX-PCK-CRL-Issuer-Chain",
}


def answer(handler, body, headers=(), *, status=200, announced=None):
    handler.send_response(status)
    for name, value in headers:
        handler.send_header(name, value)
    handler.send_header("Content-Length", str(len(body) if announced is None else announced))
    handler.end_headers()
    handler.wfile.write(body)


class Service:
    """A provisioning service on loopback that answers well unless a path has a fault; keeps what it was asked."""

    def __init__(self, bodies=BODIES, chains=None, prefix=""):
        self.bodies = dict(bodies)
        self.chains = chains or dict.fromkeys(HEADERS, CHAIN)
        self.asked: list = []
        self.sent: list = []
        self.faults: dict = {}
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                parts = urlsplit(self.path)
                path = parts.path.removeprefix(prefix)
                service.asked.append((path, dict(parse_qsl(parts.query))))
                service.sent.append(dict(self.headers))
                faults = service.faults.get(path, [])
                if faults:
                    (faults.pop(0) if len(faults) > 1 else faults[0])(self)
                else:
                    service.good(self, path)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def good(self, handler, path):
        if path not in self.bodies:
            answer(handler, b"", status=404)
            return
        headers = [(HEADERS[path], self.chains[path])] if path in HEADERS else []
        answer(handler, self.bodies[path], headers)

    def close(self):
        self.server.shutdown()
        self.server.server_close()
