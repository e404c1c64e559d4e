from __future__ import annotations

import io
import random
import tarfile
from pathlib import Path

import pytest

from dokimos.cvm_image.assemble.tree import Content, Kind, Node, Tree, entries, normal, write_folder, write_tar
from dokimos.errors import MalformedEvidence

IDS = {"root": 0, "dokimos": 990}


def file(path, data=b"x", origin="a", **more):
    return Node(path=path, kind=Kind.FILE, mode=0o644, content=Content.of(data), origin=origin, **more)


def link(path, target, origin="a"):
    return Node(path=path, kind=Kind.LINK, mode=0o777, target=target, origin=origin)


def tree(*nodes):
    made = Tree()
    for node in nodes:
        made.add(node)
    made.close()
    return made


def tar(made):
    out = io.BytesIO()
    digest = write_tar(made, out, epoch=77, ids=IDS)
    return digest, out.getvalue()


def test_two_packages_that_bring_different_bytes_to_one_path_are_refused_by_name():
    with pytest.raises(MalformedEvidence, match=r"/a: both package:x and package:y"):
        tree(file("/a", b"1", "package:x"), file("/a", b"2", "package:y"))


def test_the_same_bytes_twice_are_one_file_and_the_first_brings_it():
    made = tree(file("/a", b"1", "x"), file("/a", b"1", "y"))
    assert [(node.path, node.origin) for node in made] == [("/a", "x")]


def test_a_file_below_a_linked_folder_is_the_one_that_the_link_leads_to():
    made = tree(link("/lib", "usr/lib"), file("/usr/lib/a", b"1"), file("/lib/a", b"1"), file("/lib/b"))
    assert [node.path for node in made] == ["/lib", "/usr", "/usr/lib", "/usr/lib/a", "/usr/lib/b"]


def test_links_in_a_circle_are_an_error_and_not_a_hang():
    with pytest.raises(MalformedEvidence, match="circle"):
        tree(link("/a", "b"), link("/b", "a"), file("/a/x"))


def test_the_archive_does_not_depend_on_the_order_in_which_files_came():
    nodes = [file(f"/d{n}/f{m}", bytes([n, m])) for n in range(4) for m in range(4)] + [link("/z", "d0")]
    digests = set()
    for seed in range(5):
        random.Random(seed).shuffle(nodes)
        digests.add(tar(tree(*nodes)))
    assert len(digests) == 1


def test_the_archive_holds_one_time_numbers_for_owners_and_no_names():
    _, data = tar(tree(file("/a/b", owner="dokimos", group="dokimos"), link("/c", "a")))
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        members = archive.getmembers()
    assert [member.name for member in members] == ["a", "a/b", "c"]
    assert {member.mtime for member in members} == {77}
    assert {member.uname for member in members} == {""}
    assert (members[1].uid, members[1].gid) == (990, 990)


def test_an_owner_that_the_profile_does_not_declare_is_refused():
    with pytest.raises(MalformedEvidence, match=r"/a of x belongs to 'eve'"):
        tar(tree(file("/a", origin="x", owner="eve")))


def test_a_content_in_a_part_of_a_file_is_that_part(tmp_path):
    (tmp_path / "data").write_bytes(b"0123456789")
    content = Content(path=tmp_path / "data", offset=3, size=4)
    assert (content.read(), content.sha256()) == (b"3456", Content.of(b"3456").sha256())
    with pytest.raises(MalformedEvidence):
        Content(path=tmp_path / "data", offset=8, size=4).read()


def test_the_list_of_files_says_mode_owner_hash_target_and_origin():
    first, second = entries(tree(file("/a", b"1", "wheel:x"), link("/b", "a")), "root", IDS)
    assert (first.mode, first.uid, first.sha256, first.origin) == ("0644", 0, Content.of(b"1").sha256(), "wheel:x")
    assert (second.type, second.target, second.sha256, second.size) == ("link", "a", "", 0)


def test_a_tree_written_to_a_folder_has_its_files_and_links(tmp_path):
    write_folder(tree(file("/a/b", b"1"), link("/c", "a/b")), tmp_path)
    assert (tmp_path / "c").read_bytes() == b"1"
    assert (tmp_path / "c").readlink() == Path("a/b")


@pytest.mark.parametrize("name", ["a/../b", "..", "a\nb", "a\x00b"])
def test_a_path_that_leads_elsewhere_or_cannot_be_printed_is_refused(name):
    with pytest.raises(MalformedEvidence):
        normal(name)
