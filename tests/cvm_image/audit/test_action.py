"""The workflow and the action by which others check an image: they run without secrets, and nothing is pasted."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys

import pytest

FOLDER = ".github/actions/image-check"


@pytest.fixture
def documents(checkout):
    """Text of the workflow and of the action."""
    return {name: (checkout / name).read_text() for name in (".github/workflows/image.yml", f"{FOLDER}/action.yml")}


def test_nothing_of_them_needs_a_secret_or_may_write(documents):
    for text in documents.values():
        assert "secrets." not in text
        assert "pull_request_target" not in text
    assert "permissions:\n  contents: read\n" in documents[".github/workflows/image.yml"]


def test_other_peoples_actions_are_named_by_commit(documents):
    used = [name for text in documents.values() for name in re.findall(r"uses: (\S+)", text)]
    assert used
    assert [name for name in used if not re.fullmatch(r"\./\S+|[\w./-]+@[0-9a-f]{40}", name)] == []


def test_no_expression_is_pasted_into_a_script(documents):
    for text in documents.values():
        for script in re.findall(r"run: (.+)", text):
            assert "${{" not in script


def test_every_input_reaches_the_script_and_is_documented(documents, checkout):
    action = documents[f"{FOLDER}/action.yml"]
    script = (checkout / FOLDER / "check.sh").read_text()
    table = (checkout / "docs/image-check.md").read_text()
    inputs = re.findall(r"^  (\w+):\n    description", action, re.MULTILINE)
    assert len(inputs) == 6
    for name in inputs:
        variable = re.search(rf"(\w+): \${{{{ inputs\.{name} }}}}", action)
        assert variable, name
        assert f"${{{variable[1]}" in script or f"${variable[1]}" in script
        assert f"| `{name}` |" in table


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_script_installs_fetches_and_checks_as_it_stands(checkout, tmp_path, locked):
    assert shutil.which("bash")
    environment = {name: os.environ[name] for name in ("PATH", "HOME", "XDG_CACHE_HOME") if name in os.environ}
    more = {
        "PROFILE": "test",
        "LOCK": str(locked("test").file),
        "PYTHON": sys.executable,
        "RUNNER_TEMP": str(tmp_path),
        "DOKIMOS_NO_APT": "1",
    }
    more |= {"REQUIRE": "umask timezone", "REPORT": str(tmp_path / "report.html"), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    ran = subprocess.run(
        [str(checkout / FOLDER / "check.sh")],
        env={**environment, **more},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "IDENTICAL" in ran.stdout
    assert "Identical bytes" in (tmp_path / "report.html").read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
