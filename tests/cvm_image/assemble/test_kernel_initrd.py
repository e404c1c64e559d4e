from __future__ import annotations

import contextlib
import hashlib
import io
import lzma
import random
import shutil
import subprocess

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dokimos.cvm_image.assemble.initrd import write_newc
from dokimos.cvm_image.assemble.kernel import kernel_image, modules
from dokimos.cvm_image.assemble.tree import Content, Kind, Node, Tree
from dokimos.errors import Error, MalformedEvidence, MaterialUnavailable

BASE = "/usr/lib/modules/6.12/kernel"


def file(path, data):
    return Node(path=path, kind=Kind.FILE, mode=0o644, content=Content.of(data), origin="package:linux")


def tree(files):
    made = Tree()
    for path, data in files.items():
        made.add(file(path, data))
    return made


def test_modules_load_after_what_they_need_and_each_once(make_module):
    kernel = tree(
        {
            f"{BASE}/a-b.ko.xz": lzma.compress(make_module("c,d-e")),
            f"{BASE}/c.ko": make_module("d_e"),
            f"{BASE}/d-e.ko": make_module("built"),
            "/usr/lib/modules/6.12/modules.builtin": b"kernel/x/built.ko\n",
        }
    )
    found = modules(kernel, ["a_b", "c", "built"])
    assert [node.path for node in found] == [f"/lib/modules/{n}.ko" for n in ("00-d_e", "01-c", "02-a_b")]
    assert found[2].content.read() == make_module("c,d-e")


def test_a_module_that_the_kernel_lacks_is_named(make_module):
    with pytest.raises(MaterialUnavailable, match="no module missing"):
        modules(tree({f"{BASE}/a.ko": make_module("missing")}), ["a"])


def test_modules_that_need_each_other_are_an_error_and_not_a_hang(make_module):
    with pytest.raises(MalformedEvidence, match="needs itself"):
        modules(tree({f"{BASE}/a.ko": make_module("b"), f"{BASE}/b.ko": make_module("a")}), ["a"])


@given(st.integers(0, 400), st.binary(min_size=1, max_size=8))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_module_gives_one_of_our_errors(make_module, at, change):
    data = bytearray(make_module("b"))
    data[at : at + len(change)] = change
    for damaged in (bytes(data), bytes(data[:at])):
        with contextlib.suppress(Error):
            modules(tree({f"{BASE}/a.ko": damaged}), ["a"])


def test_the_kernel_is_found_in_both_of_its_places_and_only_one_is_taken():
    for path in ("/boot/vmlinuz-6.12", "/usr/lib/modules/6.12/vmlinuz"):
        assert kernel_image(tree({path: b"k"})).read() == b"k"
    with pytest.raises(MaterialUnavailable):
        kernel_image(tree({"/boot/vmlinuz-1": b"k", "/boot/vmlinuz-2": b"k"}))
    with pytest.raises(MaterialUnavailable):
        kernel_image(tree({"/boot/config": b"k"}))


def initrd():
    made = tree({"/init": b"#!/bin/sh\n", "/a/b": b"1"})
    made.add(Node(path="/c", kind=Kind.LINK, mode=0o777, target="a/b", origin="x"))
    made.add(Node(path="/dev/console", kind=Kind.DEVICE, mode=0o600, device=(5, 1), origin="x"))
    made.close()
    return made


def test_the_archive_is_the_same_whatever_the_order_of_files():
    made, seen = list(initrd()), set()
    for seed in range(4):
        random.Random(seed).shuffle(made)
        again = Tree()
        for node in made:
            again.add(node)
        out = io.BytesIO()
        seen.add((write_newc(again, out, ids={"root": 0}), out.getvalue()))
    assert len(seen) == 1
    digest, data = seen.pop()
    assert (digest, len(data) % 512) == (hashlib.sha256(data).hexdigest(), 0)


@pytest.mark.skipif(shutil.which("cpio") is None, reason="no cpio here")
def test_cpio_lists_every_file_with_its_owner_and_no_time():
    out = io.BytesIO()
    write_newc(initrd(), out, ids={"root": 0})
    environment = {"TZ": "UTC", "LC_ALL": "C", "PATH": "/usr/bin:/bin"}
    command = ["cpio", "-itvn"]
    ran = subprocess.run(command, input=out.getvalue(), capture_output=True, env=environment, check=True)
    lines = ran.stdout.decode().splitlines()
    assert [line.split("1970 ")[1] for line in lines] == ["a", "a/b", "c -> a/b", "dev", "dev/console", "init"]
    assert all(line.split()[2:4] == ["0", "0"] for line in lines)
