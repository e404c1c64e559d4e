"""The report of a check: what it shows of a difference, as a page and by diffoscope."""

from __future__ import annotations

import io
import tarfile

import pytest

from dokimos.cvm_image.audit import deeper
from dokimos.cvm_image.audit.check import Report
from dokimos.cvm_image.audit.compare import Comparison, Difference
from dokimos.cvm_image.audit.page import page
from dokimos.cvm_image.audit.perturb import PERTURBATIONS

HOSTILE = "<script>alert(1)</script>&"


def difference(path="root:/etc/file", field="sha256"):
    return Difference(path=path, field=field, a=HOSTILE, b="b", cause="a time", cure="none")


def report(*differences, **more):
    stages = (("lock", "11", "11"), ("archive.root", "22", "33" if differences else "22"))
    first = "archive.root" if differences else None
    comparison = Comparison(stages=stages, first=first, differences=differences)
    return Report(comparison=comparison, varied=("umask",), not_varied=(("uid", "only root"),), **more)


def test_a_page_says_the_verdict_the_conditions_and_what_was_not_varied():
    text = page(report(), "cpu")
    assert "Identical bytes" in text
    assert "not varied: only root" in text
    assert all(f"<td>{item.name}</td>" in text for item in PERTURBATIONS)


def test_a_page_names_the_difference_and_escapes_what_came_out_of_an_image():
    text = page(report(difference(), guilty=("time",), deeper=HOSTILE), HOSTILE)
    assert "Different from stage archive.root on" in text
    assert "<strong>time</strong>" in text
    assert "<script>" not in text
    assert text.count("&lt;script&gt;alert(1)") == 4


def test_a_page_takes_nothing_from_elsewhere():
    text = page(report(difference()), "cpu")
    assert "http" not in text
    assert "src=" not in text


@pytest.fixture
def builds(tmp_path):
    """Two folders, each with an archive of one file that differs."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        with tarfile.open(tmp_path / name / "archive.root.tar", "w") as tar:
            member = tarfile.TarInfo("etc/file")
            content = f"built in {name}\n".encode()
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        (tmp_path / name / "initrd.img").write_text(f"initrd of {name}\n")
    return tmp_path / "a", tmp_path / "b"


@pytest.fixture
def diffoscope(tmp_path, monkeypatch):
    """diffoscope(script) puts it in the place of diffoscope."""

    def put(script):
        place = tmp_path / "bin"
        place.mkdir()
        (place / "diffoscope").write_text(f"#!/bin/sh\n{script}\n")
        (place / "diffoscope").chmod(0o755)
        monkeypatch.setenv("PATH", f"{place}:/usr/bin:/bin")

    return put


SHOWS = 'for last; do before=$this; this=$last; done; cat "$before" "$this"'


@pytest.mark.parametrize(
    ("path", "said"),
    [("root:/etc/file", "built in a\nbuilt in b"), ("initrd.img", "initrd of a\ninitrd of b")],
)
def test_diffoscope_is_shown_the_very_files_that_differ(builds, diffoscope, path, said):
    diffoscope(SHOWS)
    assert deeper.look(builds[0], builds[1], report(difference(path)).comparison) == said


def test_a_difference_without_a_file_on_both_sides_is_said_to_be_none_to_look_at(builds, diffoscope):
    diffoscope(SHOWS)
    comparison = report(difference("root:/etc/file", "mode"), difference("other:/x"), difference("gone")).comparison
    assert deeper.look(builds[0], builds[1], comparison) == "no file to look at"


def test_a_diffoscope_that_is_missing_hangs_or_talks_without_end_does_not_hold_up_a_check(
    builds, diffoscope, monkeypatch
):
    comparison = report(difference()).comparison
    monkeypatch.setattr("shutil.which", lambda _: None)
    assert deeper.look(builds[0], builds[1], comparison) == "diffoscope is not installed"
    monkeypatch.undo()
    diffoscope("exec yes")
    monkeypatch.setattr(deeper, "_SECONDS", 0.3)
    assert "did not end within" in deeper.look(builds[0], builds[1], comparison)
    (builds[0].parent / "bin/diffoscope").write_text("#!/bin/sh\nseq 100000\n")
    monkeypatch.setattr(deeper, "_SECONDS", 20)
    assert len(deeper.look(builds[0], builds[1], comparison).splitlines()) == 400
