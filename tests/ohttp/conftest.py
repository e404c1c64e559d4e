"""Fixtures of the ohttp tests: published vectors, real servers on loopback, an independent peer under node."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cryptography_vectors
import pytest
import uvicorn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import NoReturn

PEERS = Path(__file__).parent / "peers"


@pytest.fixture(scope="session")
def hpke_vectors() -> Callable[[str], list[dict[str, Any]]]:
    """Published HPKE vectors by file name."""

    def load(name: str) -> list[dict[str, Any]]:
        with cryptography_vectors.open_vector_file(f"HPKE/{name}", "rb") as file:
            loaded: list[dict[str, Any]] = json.load(file)
            return loaded

    return load


@pytest.fixture(scope="module")
def serve() -> Iterator[Callable[..., str]]:
    """``serve(app) -> URL``: a uvicorn server on a free port of 127.0.0.1 for the time of the module."""
    with contextlib.ExitStack() as stack:

        def start(app: Any) -> str:
            sock = stack.enter_context(socket.socket())
            sock.bind(("127.0.0.1", 0))
            quiet = {"log_config": None, "access_log": False, "server_header": False, "date_header": False}
            config = uvicorn.Config(app, proxy_headers=False, timeout_graceful_shutdown=1, **quiet)
            server = uvicorn.Server(config)
            thread = threading.Thread(target=server.run, args=([sock],), daemon=True)
            thread.start()

            def stop() -> None:
                server.should_exit = True
                thread.join(10)
                assert not thread.is_alive()

            stack.callback(stop)
            deadline = time.monotonic() + 10
            while not server.started:
                assert thread.is_alive()
                assert time.monotonic() < deadline
                time.sleep(0.005)
            return f"http://127.0.0.1:{sock.getsockname()[1]}"

        yield start


def _installed(missing: Callable[[str], NoReturn]) -> Path:
    """Folder with the peer and its packages; made once for each package.json, outside of the repository."""
    manifest = (PEERS / "package.json").read_bytes()
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "dokimos", "ohttp-peers")
    folder = base / hashlib.sha256(manifest).hexdigest()[:16]
    if not folder.is_dir():
        base.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=base) as scratch:
            (Path(scratch) / "new").mkdir()
            (Path(scratch) / "new" / "package.json").write_bytes(manifest)
            flags = ["--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts"]
            try:
                subprocess.run(
                    ["npm", "install", *flags], cwd=f"{scratch}/new", check=True, capture_output=True, timeout=200
                )
            except (OSError, subprocess.SubprocessError):
                missing("the npm packages of the OHTTP peers cannot be installed")
            with contextlib.suppress(OSError):  # another run was first
                os.rename(f"{scratch}/new", folder)
    return folder


@pytest.fixture(scope="module")
def peer(loud_skip: Callable[[str, str], NoReturn]) -> Iterator[Callable[..., dict[str, Any]]]:
    """``peer(command, **arguments)``: hpke-js and bhttp-js; without node a loud skip, and a failure where CI is set."""

    def missing(what: str) -> NoReturn:
        if os.environ.get("CI"):
            pytest.fail(f"CI is set, but {what}")
        loud_skip(f"{what}: interoperability NOT TESTED", "tests/ohttp")

    node = shutil.which("node")
    if node is None or shutil.which("npm") is None:
        missing("node and npm are not there")
    folder = _installed(missing)
    # Run a copy beside its packages: node resolves them from the file's own folder.
    with tempfile.NamedTemporaryFile(dir=folder, suffix=".mjs") as script:
        script.write((PEERS / "peer.mjs").read_bytes())
        script.flush()
        process = subprocess.Popen(
            [node, "--no-warnings", script.name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdin is not None
        assert process.stdout is not None

        def ask(command: str, **arguments: Any) -> dict[str, Any]:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(json.dumps({"command": command, **arguments}) + "\n")
            process.stdin.flush()
            answer: dict[str, Any] = json.loads(process.stdout.readline())
            return answer

        with process:
            yield ask
            process.stdin.close()
            process.wait(10)
