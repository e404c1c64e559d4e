"""Each source of non-determinism, planted on purpose in a builder of two files: the check must go red and name it."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest

from dokimos.cvm_image.audit.check import check, choose, copy_inputs
from dokimos.cvm_image.audit.perturb import PERTURBATIONS
from dokimos.cvm_image.lock import format_lock, read_lock
from dokimos.cvm_image.profile import load_profile, lock_path
from dokimos.cvm_image.store import Store
from dokimos.errors import MaterialUnavailable

BUILDER = """
import hashlib, os, socket, sys, tempfile, time, uuid, locale
from pathlib import Path
from dokimos.cvm_image import layout
from dokimos.cvm_image.layout import Artifact, BootInfo, FileEntry, Manifest, Stage
out = Path(sys.argv[1])
out.mkdir(parents=True)
path, content, mode, uid, salt = "/etc/file", "fixed", 0o644, 0, ""
PLANT
sha = hashlib.sha256(content.encode()).hexdigest()
entry = FileEntry(volume="root", path=path, type="file", mode=f"{mode:04o}", uid=uid, gid=0, size=1, sha256=sha,
                  target="", origin="overlay:x")
(out / layout.FILES).write_text(layout.format_files([entry]))
stages = [("lock", "1"), ("archive.root", str(entry)), ("filesystem.root", str(entry) + salt)]
digest = lambda text: hashlib.sha256(text.encode()).hexdigest()
manifest = Manifest(profile="x", dokimos="0", source_date_epoch=1, lock_sha256="1" * 64, profile_sha256="1" * 64,
    command_line="", boot=BootInfo(memory=1, vcpus=1, vcpu_type="x", port=1), volumes=(), artifacts=(),
    stages=tuple(Stage(name=name, sha256=digest(text)) for name, text in stages))
(out / layout.MANIFEST).write_text(layout.format_manifest(manifest))
"""
PLANTS = {
    "random UUID": ("salt = uuid.uuid4().hex", "filesystem.root", "UUID", None),
    "build path": ("content = str(out)", "archive.root", "a path", None),
    "time": ("content = str(int(time.time() // 86400))", "archive.root", "a time", "time"),
    "host name": ('path = "/etc/hostname"; content = socket.gethostname()', "archive.root", "host's name", "host"),
    "time zone": ('content = time.strftime("%H", time.localtime(0))', "archive.root", "a time", "timezone"),
    "umask": (
        '(out / "f").touch(); mode = (out / "f").stat().st_mode & 0o777; (out / "f").unlink()',
        "archive.root",
        "umask",
        "umask",
    ),
    "HOME": ('content = os.environ["HOME"]', "archive.root", "a path", "home"),
    "TMPDIR": ('content = os.environ.get("TMPDIR", "")', "archive.root", "a path", "tmpdir"),
    "order of a set": ('path = "/a.pyc"; content = repr({"a", "b", "c", "d"})', "archive.root", "set", "hash-seed"),
    "program of the host": ('import shutil; content = str(shutil.which("sh"))', "archive.root", "", "programs"),
    "processors": ("content = str(len(os.sched_getaffinity(0)))", "archive.root", "", "cpus"),
    "order of a folder": (
        "names = Path(tempfile.mkdtemp())\n"
        'for name in "bdfaceg": (names / name).touch()\n'
        'content = "".join(os.listdir(names))',
        "archive.root",
        "unsorted",
        "directories",
    ),
    "language": ('content = locale.setlocale(locale.LC_ALL, "")', "archive.root", "", "locale"),
    "user": ("uid = os.geteuid()", "archive.root", "numbers of the building host's users", "uid"),
}


def _silent(*_):
    pass


@pytest.fixture
def run(monkeypatch, tmp_path):
    """run(plant, bisect) -> report; what cannot be varied here is reported by the tests that need it."""
    # The order of sets must be one in the first build, or it would differ from run to run by itself.
    monkeypatch.setattr(
        "dokimos.cvm_image.audit.check._KEPT", ("PATH", "HOME", "PYTHONPATH", "PYTHONHASHSEED", "TMPDIR")
    )
    monkeypatch.setenv("PYTHONHASHSEED", "0")
    monkeypatch.setenv("TMPDIR", str(tmp_path))

    def start(plant, names=None, bisect=False):
        chosen, left = choose(only=names or ())
        command = [sys.executable, "-B", "-c", BUILDER.replace("PLANT", plant)]
        return check(command, perturbations=chosen, not_varied=left, bisect=bisect, told=_silent)

    return start


def possible(name):
    return next(item for item in PERTURBATIONS if item.name == name).missing()


@pytest.mark.parametrize("plant", PLANTS)
def test_a_planted_source_is_found_named_and_explained(run, plant, loud_skip):
    code, stage, cause, guilty = PLANTS[plant]
    if guilty and possible(guilty):
        loud_skip(f"perturbation {guilty}: {possible(guilty)}", plant)
    report = run(code, {guilty} if guilty else {"timezone"})
    assert not report.comparison.identical
    assert report.comparison.first == stage
    first = report.comparison.differences[0]
    assert cause in first.cause
    assert first.cure


def test_bisection_names_the_condition_that_matters(run):
    report = run(PLANTS["time zone"][0], {"timezone", "hash-seed", "umask"}, bisect=True)
    assert report.guilty == ("timezone",)


def test_a_builder_that_reads_only_its_inputs_passes_under_all_conditions_that_are_possible_here(run):
    report = run("", None)
    assert report.comparison.identical
    assert {"timezone", "hash-seed", "umask", "home", "tmpdir", "path"} <= set(report.varied)
    assert {name for name, _ in report.not_varied} | set(report.varied) == {item.name for item in PERTURBATIONS}


def test_what_another_user_builds_from_is_copied_to_where_he_can_read_it(tmp_path):
    closed, shared = tmp_path / "closed", tmp_path / "shared"
    for folder in (closed, shared):
        folder.mkdir(mode=0o700)
    (closed / "overlay/mine").mkdir(parents=True, mode=0o700)
    (closed / "overlay/mine/note").touch(mode=0o600)
    lock = replace(read_lock(lock_path("test")), debs=(), wheels=(), models=())
    for name, text in (("mine.toml", load_profile("test").text), ("mine.lock", format_lock(lock))):
        (closed / name).write_text(text)
        (closed / name).chmod(0o600)
    copies = copy_inputs(closed / "mine.toml", closed / "mine.lock", Store(tmp_path / "store"), shared)
    assert [copy.read_text() for copy in copies] == [load_profile("test").text, format_lock(lock)]
    note = shared / "overlay/mine/note"
    assert all(path.stat().st_mode & 0o004 for path in (shared, *copies, note.parent.parent, note.parent, note))
    with pytest.raises(MaterialUnavailable, match="write it with"):
        copy_inputs(closed / "mine.toml", closed / "other.lock", Store(tmp_path / "store"), shared)


def test_a_build_that_fails_is_no_comparison(run):
    with pytest.raises(MaterialUnavailable, match="no such thing"):
        run('sys.exit("no such thing")')


def test_a_build_that_fails_under_other_conditions_only_is_a_difference_that_bisection_pursues(run):
    plant = 'if time.strftime("%Z") == "JST": sys.exit("not in Tokyo")'
    report = run(plant, {"timezone", "umask"}, bisect=True)
    assert (report.comparison.identical, report.comparison.first) == (False, "build")
    assert "not in Tokyo" in report.comparison.differences[0].b
    assert report.guilty == ("timezone",)


def test_a_required_condition_that_is_not_possible_or_unknown_is_an_error(monkeypatch):
    with pytest.raises(MaterialUnavailable, match="no perturbation 'weather'"):
        choose(only={"weather"})
    chosen, left = choose(only={"umask"}, skip={"umask"})
    assert chosen == []
    assert ("umask", "left out by the caller") in left
    monkeypatch.setattr("shutil.which", lambda *_: None)
    with pytest.raises(MaterialUnavailable, match="cpus is required, but taskset is not installed"):
        choose(require={"cpus"})
