"""The real vectors are whole, or missing loudly."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytest_plugins = ["pytester"]


def test_every_snp_vector_has_the_hash_and_size_of_its_manifest(vectors: Callable[[str], Any], snp_set: str) -> None:
    found = vectors(f"snp/{snp_set}")
    assert found.names
    for name in found.names:
        assert len(found.bytes(name)) == found.manifest["files"][name]["size"], name


def test_no_snp_set_is_left_out_of_the_list(vectors: Callable[[str], Any], request: pytest.FixtureRequest) -> None:
    area = vectors("snp/amd_roots").folder.parent
    conftest: Any = request.config.pluginmanager.get_plugin(str(request.path.parent / "conftest.py"))
    assert {path.name for path in area.iterdir() if path.is_dir()} == set(conftest.SNP_SETS)


@pytest.mark.parametrize("area", ["tdx", "nvidia", "transparency"])
def test_every_set_of_an_area_has_the_hashes_and_sizes_of_its_manifest(
    vectors: Callable[[str], Any], area: str
) -> None:
    names = sorted(path.name for path in (vectors("snp/amd_roots").folder.parents[1] / area).iterdir() if path.is_dir())
    assert names
    for name in names:
        found = vectors(f"{area}/{name}")
        assert found.names
        assert {len(found.bytes(file)) == found.manifest["files"][file]["size"] for file in found.names} == {True}, name


@pytest.fixture
def inner(pytester: pytest.Pytester, checkout: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A throw-away project with this conftest, one test on one file of one vector set, and the set."""
    folder = pytester.mkdir("sets") / "snp" / "one"
    folder.mkdir(parents=True)
    (folder / "a.bin").write_bytes(b"abc")
    manifest = {"files": {"a.bin": {"sha256": hashlib.sha256(b"abc").hexdigest(), "size": 3}}}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    pytester.makeconftest((checkout / "tests/conftest.py").read_text())
    pytester.makepyfile(
        """
        def test_content(vectors):
            assert vectors("snp/one").bytes("a.bin") == b"abc"
            assert vectors("snp/one").path("a.bin").is_file()
        """
    )
    monkeypatch.setenv("DOKIMOS_VECTORS", str(pytester.path / "sets"))
    return pytester


def test_intact_vectors_are_used(inner: pytest.Pytester) -> None:
    inner.runpytest_inprocess("-p", "no:cacheprovider").assert_outcomes(passed=1)


@pytest.mark.parametrize("name", ["a.bin", "manifest.json"])
def test_a_missing_vector_file_fails(inner: pytest.Pytester, name: str) -> None:
    (inner.path / "sets/snp/one" / name).unlink()
    inner.runpytest_inprocess("-p", "no:cacheprovider").assert_outcomes(failed=1)


def test_an_altered_vector_file_fails(inner: pytest.Pytester) -> None:
    (inner.path / "sets/snp/one/a.bin").write_bytes(b"abd")
    result = inner.runpytest_inprocess("-p", "no:cacheprovider")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*snp/one/a.bin is altered*"])


def test_a_variable_that_names_no_folder_fails(inner: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOKIMOS_VECTORS", str(inner.path / "nothing"))
    inner.runpytest_inprocess("-p", "no:cacheprovider").assert_outcomes(failed=1)


def test_without_the_variable_one_loud_line_names_what_is_missing(
    inner: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DOKIMOS_VECTORS")
    result = inner.runpytest_inprocess("-p", "no:cacheprovider")
    result.assert_outcomes(skipped=1)
    assert [line for line in result.outlines if line.startswith("!!!")] == [
        "!!! DOKIMOS_VECTORS is not set: real vectors NOT TESTED: snp/one"
    ]
