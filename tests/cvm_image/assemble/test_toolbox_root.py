"""Tools of the build: run by their own loader, fed while they run, and never silent when they fail. What goes into a
root beside packages: accounts, overlays, certificates, declared folders."""

from __future__ import annotations

import os
import stat
from dataclasses import replace

import pytest

from dokimos.cvm_image.assemble import root as roots
from dokimos.cvm_image.assemble.root import _kept, declared, ids, overlay_nodes, package_nodes
from dokimos.cvm_image.assemble.toolbox import Toolbox
from dokimos.cvm_image.assemble.tree import Content, Kind, Node, Tree
from dokimos.cvm_image.profile import Root, User, load_profile
from dokimos.errors import MalformedEvidence, MaterialUnavailable, UnsupportedEvidence


def _script(path, text):
    content = Content.of(f"#!/bin/sh\n{text}\n".encode())
    return Node(path=path, kind=Kind.FILE, mode=0o755, content=content, origin="package:x")


@pytest.fixture
def run(tmp_path):
    """run(script) -> a toolbox whose static tool it is."""

    def make(text):
        return Toolbox([_script("/usr/bin/tool", text)], tmp_path / "box", epoch=5)

    return make


def _feed(box, monkeypatch, data=b"x" * 1_000_000):
    monkeypatch.setattr(box, "command", lambda tool, **_: [str(box.folder / tool)])
    with box.fed("usr/bin/tool", [box.folder / "out"]) as stdin:
        stdin.write(data)


def test_a_tool_gets_all_that_it_is_fed(run, monkeypatch):
    box = run('/usr/bin/cat > "$1"')
    _feed(box, monkeypatch)
    assert (box.folder / "out").stat().st_size == 1_000_000


@pytest.mark.parametrize(
    "script", ["echo no space >&2; exit 3", "/usr/bin/cat > /dev/null; echo no space >&2; exit 3", "echo no space >&2"]
)
def test_a_fed_tool_that_fails_or_does_not_read_all_is_an_error_with_its_own_words(run, monkeypatch, script):
    with pytest.raises(UnsupportedEvidence, match="no space"):
        _feed(run(script), monkeypatch)


def test_a_tool_whose_feeding_fails_does_not_stay_behind(run, monkeypatch):
    box = run('echo $$ > "$1"; exec /usr/bin/sleep 60')
    monkeypatch.setattr(box, "command", lambda tool, **_: [str(box.folder / tool)])

    def fail():
        with box.fed("usr/bin/tool", [box.folder / "out"]):
            while not (box.folder / "out").exists() or not (box.folder / "out").read_text():
                pass
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with pytest.raises(ProcessLookupError):
        os.kill(int((box.folder / "out").read_text()), 0)


def test_a_tool_sees_nothing_of_the_hosts_environment(run, monkeypatch):
    monkeypatch.setenv("LD_PRELOAD_OF_HOST", "x")
    box = run("/usr/bin/env | /usr/bin/sort")
    with (box.folder / "said").open("wb") as file:
        box.run("usr/bin/tool", [], static=True, stdout=file)
    said = dict(line.split("=", 1) for line in (box.folder / "said").read_text().splitlines())
    assert said | {"PWD": ""} == {**box.environment(), "PWD": ""}
    assert said["SOURCE_DATE_EPOCH"] == "5"


def test_a_tool_that_fails_and_one_that_no_package_brings_are_errors(run):
    box = run("echo broken >&2; exit 1")
    with pytest.raises(UnsupportedEvidence, match="ended with 1: broken"):
        box.run("usr/bin/tool", [], static=True)
    with pytest.raises(MaterialUnavailable, match=r"usr/bin/other: none of the locked packages"):
        box.command("usr/bin/other")


def _texts(nodes):
    return {node.path: node.content.read().decode() for node in nodes if node.content}


def test_accounts_are_the_declared_ones_locked_and_without_a_shell():
    root = replace(load_profile("cpu").root, users=(User(name="a", id=902), User(name="b", id=901)))
    found = _texts(roots._accounts(root))
    assert [line.split(":")[0] for line in found["/etc/passwd"].splitlines()] == ["root", "a", "b", "nobody"]
    assert all(line.endswith(":/usr/sbin/nologin") for line in found["/etc/passwd"].splitlines())
    assert all(line.split(":")[1] == "!*" for line in found["/etc/shadow"].splitlines())
    assert all(line.split(":")[2] == "" for line in found["/etc/shadow"].splitlines())  # no date of the build
    assert found["/etc/machine-id"] == ""
    modes = {node.path: node.mode for node in roots._accounts(root)}
    assert modes["/etc/shadow"] == modes["/etc/gshadow"] == 0o640


@pytest.mark.parametrize("user", [User(name="root", id=5), User(name="x", id=0), User(name="shadow", id=7)])
def test_a_user_with_a_taken_name_or_number_is_refused(user):
    with pytest.raises(MalformedEvidence, match="is taken"):
        ids(replace(load_profile("cpu").root, users=(user,)))


def test_an_overlay_has_declared_modes_and_not_those_of_the_checkout(tmp_path):
    folder = tmp_path / "mine/etc"
    folder.mkdir(parents=True)
    (folder / "a").write_text("a")
    (folder / "a").chmod(0o600)
    (folder / "run").write_text("b")
    (folder / "link").symlink_to("a")
    found = {node.path: node for node in overlay_nodes(["mine"], ["/etc/run"], [tmp_path])}
    assert {path: node.mode for path, node in found.items()} == {"/etc/a": 0o644, "/etc/run": 0o755, "/etc/link": 0o777}
    assert found["/etc/link"].target == "a"
    assert {node.origin for node in found.values()} == {"overlay:mine"}
    with pytest.raises(MaterialUnavailable, match="overlay 'other'"):
        list(overlay_nodes(["other"], [], [tmp_path]))


def test_folders_are_declared_and_tmp_is_sticky():
    modes = {node.path: node.mode for node in declared(["/tmp", "/run"], {})}
    assert modes == {"/tmp": 0o1777, "/run": 0o755}


def test_set_user_id_bits_of_packages_are_dropped(make_deb, tmp_path):
    from dokimos.cvm_image.assemble import deb  # noqa: PLC0415 - for this test alone

    package = make_deb("x", [("./usr/bin/su", "file", b"x", stat.S_ISUID | stat.S_ISGID | 0o755)])
    deb.unpack(package, tmp_path / "x.tar")
    assert [node.mode for node in package_nodes({"x": tmp_path / "x.tar"})] == [0o755]


def test_a_ca_bundle_holds_every_certificate_in_the_order_of_paths_and_needs_one():
    tree = Tree()
    with pytest.raises(MaterialUnavailable, match="CA bundle"):
        roots._ca_bundle(tree)
    for name in ("b", "a"):
        path = f"/usr/share/ca-certificates/mozilla/{name}.crt"
        content = Content.of(f"cert {name}\n\n".encode())
        tree.add(Node(path=path, kind=Kind.FILE, mode=0o644, content=content, origin="package:ca-certificates"))
    tree.close()
    assert roots._ca_bundle(tree).content.read() == b"cert a\ncert b\n"


def test_a_rule_can_name_one_package_and_an_exception_another():
    root = Root(packages=(), exclude=("tools:/usr/bin/*", "*/doc/*"), include=("tools:/usr/bin/keep", "kept:*"))

    def kept(package, path):
        return _kept(Node(path=path, kind=Kind.FILE, mode=0o644, origin=f"package:{package}"), root)

    assert [kept("tools", "/usr/bin/drop"), kept("tools", "/usr/bin/keep"), kept("other", "/usr/bin/drop")] == [
        False,
        True,
        True,
    ]
    assert [kept("other", "/usr/doc/x"), kept("kept", "/usr/doc/x")] == [False, True]
