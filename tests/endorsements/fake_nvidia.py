"""NVIDIA's services on loopback: RIMs, revocation lists, OCSP, attestation and its keys; tests load it by path.

They answer well unless a path has a fault, and keep what they were asked.
"""

from __future__ import annotations

import base64
import importlib.util
import json
import tempfile
import threading
import time
from datetime import UTC, datetime
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from dokimos.attest.sim_gpu_revocation import DEVICE_INDEXES, RIM_INDEXES
from dokimos.attest.sim_nvidia import SimulatedNvidia

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
OCSP = "/ocsp/"
NRAS_GPU, NRAS_SWITCH = "/v4/attest/gpu", "/v4/attest/switch"
JWKS = "/.well-known/jwks.json"
IDS = "/v1/rim/ids"


def load(name):
    """Another file of this folder."""
    path = Path(__file__).resolve().parent / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


nras = load("fake_nras")


def answer(handler, body, headers=(), *, status=200, announced=None):
    """Send one answer."""
    handler.send_response(status)
    for name, value in headers:
        handler.send_header(name, value)
    handler.send_header("Content-Length", str(len(body) if announced is None else announced))
    handler.end_headers()
    handler.wfile.write(body)


def refuse(status):
    """A fault: this status."""
    return lambda handler, body: answer(handler, b"{}", status=status)


def cut_off(handler, body):
    """A fault: the connection breaks off in the middle."""
    answer(handler, body[: len(body) // 2], announced=len(body))
    handler.close_connection = True


def slow(handler, body):
    """A fault: nothing comes for a while."""
    time.sleep(1)


def sends(change):
    """A fault: another body, made from the good one."""
    return lambda handler, body: answer(handler, change(body))


def in_json(**changes):
    """A fault: other members of a JSON object."""
    return sends(lambda body: json.dumps(json.loads(body) | changes).encode())


class Services:
    """All services in one server.

    Attributes:
        platform: the simulated manufacturer.
        asked: method and path of each request.
        sent: its headers.
        posted: its body.
        faults: by path, instead of a good answer, one for each request; the last one stays.
        rims: answers of the RIM service by id.
        lists: revocation lists by path.
        tokens: answer of the attestation service.
        keys: its key set.
    """

    def __init__(self, devices=(), platform=None):
        folder = Path(tempfile.mkdtemp())
        self.platform = platform or SimulatedNvidia(folder, clock=lambda: NOW)
        self.asked: list = []
        self.sent: list = []
        self.posted: list = []
        self.faults: dict = {}
        self.tokens = nras.answer()
        self.keys = nras.key_set()
        self.rims = {}
        pki, service = self.platform.pki, self
        for rim_id, rim in self.platform.rims_of(devices).items():
            self.rims[rim_id] = rim.sign(pki)
            self.platform.revocation.know(rim.signers(pki), RIM_INDEXES)
        for device in devices:
            self.platform.revocation.know(device.entities, DEVICE_INDEXES)
        crls = self.platform.revocation.crls()
        self.lists = {f"/crl/{name}": crl for name, crl in crls.items() if name != "l1-corim.crl"}
        self.lists["/crl-corim/l1-corim"] = crls["l1-corim.crl"]

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                service.handle(self, b"")

            def do_POST(self):
                service.handle(self, self.rfile.read(int(self.headers["Content-Length"])))

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    @property
    def urls(self):
        """Arguments of a fetcher that asks here."""
        return {
            "rim_url": self.url,
            "ocsp_url": f"{self.url}{OCSP}",
            "nras_url": self.url,
            "crl_url": self.url,
        }

    def handle(self, handler, posted):
        self.asked.append((handler.command, handler.path))
        self.sent.append(dict(handler.headers))
        self.posted.append(posted)
        body = self.good(handler.path, posted)
        faults = self.faults.get(handler.path, [])
        if faults:
            (faults.pop(0) if len(faults) > 1 else faults[0])(handler, body or b"")
        elif body is None:
            answer(handler, b'{"code":"RIM_NOT_FOUND"}', status=404)
        else:
            answer(handler, body)

    def good(self, path, posted):
        """The body of a good answer, or None."""
        rim = self.rims.get(path.removeprefix("/v1/rim/"))
        if rim is not None:
            return self.rim_answer(path.removeprefix("/v1/rim/"), rim)
        if path == IDS:
            return json.dumps({"ids": sorted(self.rims), "request_id": "1"}).encode()
        if path == OCSP:
            return self.platform.revocation.respond(posted)
        return {NRAS_GPU: self.tokens, NRAS_SWITCH: self.tokens, JWKS: self.keys, **self.lists}.get(path)

    @staticmethod
    def rim_answer(rim_id, rim):
        """The RIM service's JSON."""
        document = {
            "id": rim_id,
            "rim": base64.b64encode(rim).decode(),
            "sha256": sha256(rim).hexdigest(),
            "last_updated": "2026-03-13T00:02:33.009Z",
            "request_id": "adfa5b3f-797d-47aa-8b31-a8687a434826",
            "rim_format": "TCG",
        }
        return json.dumps(document).encode()

    def close(self):
        """Stop."""
        self.server.shutdown()
        self.server.server_close()
