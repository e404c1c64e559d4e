from __future__ import annotations

import contextlib
import shutil
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dokimos.cvm_image.assemble import deb
from dokimos.cvm_image.assemble.root import package_nodes
from dokimos.cvm_image.assemble.tree import Kind
from dokimos.errors import Error, MalformedEvidence, UnsupportedEvidence

ENTRIES = [
    ("./", "dir", None),
    ("./usr/", "dir", None),
    ("./usr/a", "file", b"content", 0o755),
    ("./usr/b", "link", "a"),
    ("./usr/c", "hard", "./usr/a", 0o755),
]


def read(path, tmp_path):
    deb.unpack(path, tmp_path / "data.tar")
    return {node.path: node for node in deb.nodes(tmp_path / "data.tar", "package:x")}


@pytest.mark.parametrize("compression", ["xz", "gz", ""])
def test_a_package_gives_its_files_links_and_folders(make_deb, tmp_path, compression):
    found = read(make_deb("x", ENTRIES, compression), tmp_path)
    assert found["/usr/a"].content.read() == found["/usr/c"].content.read() == b"content"
    assert (found["/usr/b"].kind, found["/usr/b"].target) == (Kind.LINK, "a")
    assert found["/usr"].kind is Kind.FOLDER
    assert {node.owner for node in found.values()} == {"root"}


def test_a_compression_that_is_not_known_is_named(make_deb, tmp_path):
    with pytest.raises(UnsupportedEvidence, match=r"data\.tar\.zst"):
        read(make_deb("x", ENTRIES, "zst"), tmp_path)


@pytest.mark.parametrize("cut", [0, 4, 60, 100, 150, 300])
def test_a_package_that_is_cut_off_is_malformed_and_not_shorter(make_deb, tmp_path, cut):
    path = make_deb("x", ENTRIES)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(MalformedEvidence):
        read(path, tmp_path)


@pytest.mark.parametrize(
    "entry",
    [("../a", "file", b""), ("./a/../../b", "file", b""), ("./pipe", "fifo", None), ("./h", "hard", "./nothing")],
)
def test_a_path_or_kind_that_no_package_may_have_is_refused(make_deb, tmp_path, entry):
    with pytest.raises(MalformedEvidence):
        read(make_deb("x", [entry]), tmp_path)


def test_set_user_id_bits_never_reach_an_image(make_deb, tmp_path):
    deb.unpack(make_deb("x", [("./m", "file", b"m", 0o6755)]), tmp_path / "data.tar")
    assert [node.mode for node in package_nodes({"x": tmp_path / "data.tar"})] == [0o755]


def test_what_unpacks_to_more_than_the_bound_is_refused(make_deb, tmp_path, monkeypatch):
    monkeypatch.setattr(deb, "MAX_UNPACKED", 100)
    with pytest.raises(MalformedEvidence, match="more than 100"):
        read(make_deb("x", ENTRIES), tmp_path)


@given(st.binary(max_size=400), st.booleans())
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_a_package_or_one_of_our_errors(tmp_path_factory, data, magic):
    folder = tmp_path_factory.mktemp("deb")
    (folder / "x.deb").write_bytes((b"!<arch>\n" if magic else b"") + data)
    with contextlib.suppress(Error):
        read(folder / "x.deb", folder)


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="no dpkg-deb here")
def test_debians_own_tool_reads_the_same_archive(make_deb, tmp_path):
    path = make_deb("x", ENTRIES, "gz")
    wanted = subprocess.run(["dpkg-deb", "--fsys-tarfile", str(path)], capture_output=True, check=False)
    deb.unpack(path, tmp_path / "data.tar")
    if wanted.returncode == 0:  # an old dpkg-deb wants a control archive that is one
        assert (tmp_path / "data.tar").read_bytes() == wanted.stdout
