"""Store, fetching and bundles: nothing is accepted but by its hash."""

from __future__ import annotations

import hashlib
import tarfile
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from dokimos.cvm_image.fetch import fetch
from dokimos.cvm_image.lock import Deb, Lock
from dokimos.cvm_image.store import Store
from dokimos.cvm_image.store_bundle import export_bundle, import_bundle
from dokimos.errors import MalformedEvidence, MaterialUnavailable

CONTENT = bytes(range(256)) * 1000


def _silent(what, done, total):
    del what, done, total


def deb(content, name="a"):
    return Deb(
        name=name,
        version="1",
        arch="all",
        suite="trixie",
        path=f"pool/{name}_1_all.deb",
        size=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        source=name,
        source_version="1",
        why=("root",),
    )


def lock(*contents):
    debs = tuple(deb(content, f"p{number}") for number, content in enumerate(contents))
    return Lock(profile="x", profile_sha256="22" * 32, source_date_epoch=1, suites=(), debs=debs)


@pytest.fixture
def mirror():
    """mirror(content, **faults) -> address; a real server on loopback that keeps the requests it saw."""
    servers = []

    def start(content, *, status=200, ranges=True, asked=None):
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                begin = self.headers.get("Range")
                if asked is not None:
                    asked.append((self.path, begin))
                body = content if status == 200 else b""
                if begin and ranges and status == 200:
                    at = int(begin[6:-1])
                    self.send_response(206)
                    self.send_header("Content-Range", f"bytes {at}-{len(content) - 1}/{len(content)}")
                    body = content[at:]
                else:
                    self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_what_a_lock_names_comes_into_the_store_once(tmp_path, mirror):
    asked: list[tuple[str, str | None]] = []
    store, wanted = Store(tmp_path), lock(CONTENT)
    address = mirror(CONTENT, asked=asked)
    for _ in range(2):
        fetch(wanted, store, progress=_silent, mirrors=[address])
    assert asked == [("/pool/p0_1_all.deb", None)]
    assert store.checked(wanted.debs[0].sha256, "p0").read_bytes() == CONTENT


def test_a_broken_download_goes_on_where_it_ended(tmp_path, mirror):
    asked: list[tuple[str, str | None]] = []
    store, wanted = Store(tmp_path), lock(CONTENT)
    store.partial(wanted.debs[0].sha256).write_bytes(CONTENT[:1000])
    fetch(wanted, store, progress=_silent, mirrors=[mirror(CONTENT, asked=asked)])
    assert asked == [("/pool/p0_1_all.deb", "bytes=1000-")]
    assert store.checked(wanted.debs[0].sha256, "p0").read_bytes() == CONTENT


@pytest.mark.parametrize("part", [CONTENT[:1000], b"x" * 1000, b"x" * 999_999])
def test_a_server_that_cannot_continue_or_a_wrong_part_leads_to_a_new_download(tmp_path, mirror, part):
    store, wanted = Store(tmp_path), lock(CONTENT)
    store.partial(wanted.debs[0].sha256).write_bytes(part)
    fetch(wanted, store, progress=_silent, mirrors=[mirror(CONTENT, ranges=False)])
    assert store.checked(wanted.debs[0].sha256, "p0").read_bytes() == CONTENT


@pytest.mark.parametrize("bad", [CONTENT[:-1] + b"x", CONTENT + b"x", CONTENT[:-1], b""])
def test_a_mirror_with_other_content_is_passed_over(tmp_path, mirror, bad):
    store, wanted = Store(tmp_path), lock(CONTENT)
    fetch(wanted, store, progress=_silent, mirrors=[mirror(bad), mirror(CONTENT)])
    assert store.checked(wanted.debs[0].sha256, "p0").read_bytes() == CONTENT


def test_a_file_that_no_mirror_serves_is_named_with_the_ways_out(tmp_path, mirror):
    with pytest.raises(MaterialUnavailable, match=r"p0 1: no mirror.*--mirror.*bundle import.*image lock"):
        fetch(lock(CONTENT), Store(tmp_path), progress=_silent, mirrors=[mirror(b"", status=404), mirror(b"x")])
    assert not list((tmp_path / "sha256").glob("*/*"))


def test_a_changed_file_in_the_store_is_found_and_removed(tmp_path):
    store, wanted = Store(tmp_path), deb(CONTENT)
    (tmp_path / "x").write_bytes(CONTENT)
    store.adopt(tmp_path / "x", wanted.sha256)
    store.path(wanted.sha256).write_bytes(b"y" * len(CONTENT))
    with pytest.raises(MaterialUnavailable, match="changed"):
        store.checked(wanted.sha256, "a")
    assert not store.has(wanted.sha256, wanted.size)


@pytest.fixture
def bundle(tmp_path):
    store, wanted = Store(tmp_path / "one"), lock(CONTENT, b"second")
    for package, content in zip(wanted.debs, (CONTENT, b"second"), strict=True):
        with store.scratch() as scratch:
            (scratch / "x").write_bytes(content)
            store.adopt(scratch / "x", package.sha256)
    export_bundle(wanted, store, tmp_path / "bundle.tar", progress=_silent)
    return wanted, store, tmp_path / "bundle.tar"


def test_a_bundle_carries_all_files_and_is_the_same_bytes_each_time(bundle, tmp_path):
    wanted, store, file = bundle
    other = Store(tmp_path / "two")
    assert import_bundle(file, other, progress=_silent) == wanted
    assert all(other.checked(package.sha256, "x") for package in wanted.debs)
    export_bundle(wanted, store, tmp_path / "again.tar", progress=_silent)
    assert (tmp_path / "again.tar").read_bytes() == file.read_bytes()


@pytest.mark.parametrize("cut", [0, 100, 3000, 100_000])
def test_a_bundle_that_is_cut_off_is_an_error(bundle, tmp_path, cut):
    _, _, file = bundle
    file.write_bytes(file.read_bytes()[:cut])
    with pytest.raises(MalformedEvidence):
        import_bundle(file, Store(tmp_path / "two"), progress=_silent)


def test_a_changed_byte_in_a_bundle_is_an_error_and_leaves_nothing_of_that_file(bundle, tmp_path):
    wanted, _, file = bundle
    data = file.read_bytes()
    at = data.index(CONTENT[:200])
    file.write_bytes(data[:at] + b"!" + data[at + 1 :])
    with pytest.raises(MalformedEvidence, match="not what its name says"):
        import_bundle(file, Store(tmp_path / "two"), progress=_silent)
    assert not Store(tmp_path / "two").has(wanted.debs[0].sha256, wanted.debs[0].size)


def test_a_bundle_with_a_path_out_of_the_store_or_a_link_is_an_error(bundle, tmp_path):
    _, _, file = bundle
    for kind in (tarfile.SYMTYPE, tarfile.REGTYPE):
        with tarfile.open(file) as old, tarfile.open(tmp_path / "bad.tar", "w") as new:
            first = old.next()
            new.addfile(first, old.extractfile(first))
            info = tarfile.TarInfo("../../escape")
            info.type, info.linkname = kind, "/etc/passwd"
            new.addfile(info)
        with pytest.raises(MalformedEvidence):
            import_bundle(tmp_path / "bad.tar", Store(tmp_path / "two"), progress=_silent)
    assert not (tmp_path / "escape").exists()


def test_exporting_what_is_not_there_leaves_no_half_bundle(tmp_path):
    with pytest.raises(MaterialUnavailable):
        export_bundle(replace(lock(CONTENT)), Store(tmp_path / "none"), tmp_path / "b.tar", progress=_silent)
    assert list(tmp_path.glob("b.tar*")) == []
