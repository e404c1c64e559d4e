"""What committed files must not hold, and what must agree with what."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

import pytest

# Joined here, so that this file does not hold what it forbids.
REGISTRIES = [
    ".".join(parts)
    for parts in (
        ("pypi", "org"),
        ("pypi", "python", "org"),
        ("pythonhosted", "org"),
        ("registry", "npmjs", "org"),
        ("registry", "yarnpkg", "com"),
        ("npmmirror", "com"),
        ("static", "crates", "io"),
        ("index", "crates", "io"),
        ("proxy", "golang", "org"),
        ("registry-1", "docker", "io"),
        ("deb", "debian", "org"),
    )
]
MACHINE_PATHS = [
    "/".join(parts) for parts in (("", "work", ""), ("", "root", ""), ("", "tmp", "venv"), ("", "opt", "wheels"))
]
# A version of an NVSwitch's BIOS, 96.10.55.00.01, has five parts.
PRIVATE_ADDRESS = re.compile(r"(?<![\w.])(?:10\.\d{1,3}|192\.168|172\.(?:1[6-9]|2\d|3[01]))\.\d{1,3}\.\d{1,3}(?!\.?\w)")
LOCK_FILE = re.compile(
    r"(?:^|/)(?:[^/]*\.lock|[^/]*-lock\.(?:json|yaml)|pylock[^/]*\.toml|requirements[^/]*\.txt|npm-shrinkwrap\.json)$"
)
BINARY_ALLOWED = ("tests/vectors/",)
LARGEST = 1 << 20


def text_of(path: Path) -> str | None:
    """The file's text, or None if it is binary."""
    data = path.read_bytes()
    try:
        return None if b"\0" in data else data.decode()
    except UnicodeDecodeError:
        return None


def pins(text: str) -> list[str]:
    """``name==version`` of every requirement of a requirements file."""
    return re.findall(r"^([A-Za-z0-9._-]+==[^ ;\\]+)", text, re.MULTILINE)


@pytest.mark.parametrize("forbidden", [*REGISTRIES, *MACHINE_PATHS])
def test_no_file_names_a_package_registry_or_a_path_of_one_machine(
    checkout: Path, tracked: list[str], forbidden: str
) -> None:
    assert [name for name in tracked if forbidden in (text_of(checkout / name) or "")] == []


def test_no_file_names_a_private_network_address(checkout: Path, tracked: list[str]) -> None:
    assert [name for name in tracked if PRIVATE_ADDRESS.search(text_of(checkout / name) or "")] == []


def test_no_lock_file_holds_an_address(checkout: Path, tracked: list[str]) -> None:
    locks = [name for name in tracked if LOCK_FILE.search(name)]
    assert "requirements-dev.txt" in locks
    assert [name for name in locks if "://" in (checkout / name).read_text()] == []


def test_no_binary_file_beyond_generated_vectors(checkout: Path, tracked: list[str]) -> None:
    binary = [name for name in tracked if text_of(checkout / name) is None]
    assert [name for name in binary if not name.startswith(BINARY_ALLOWED)] == []


def test_no_file_is_larger_than_a_megabyte(checkout: Path, tracked: list[str]) -> None:
    assert [name for name in tracked if (checkout / name).stat().st_size > LARGEST] == []


def test_text_files_end_with_one_newline_and_have_no_carriage_return(checkout: Path, tracked: list[str]) -> None:
    bad = []
    for name in tracked:
        text = text_of(checkout / name)
        if text and not name.startswith("tests/vectors/"):
            bad += [name] if "\r" in text or not text.endswith("\n") or text.endswith("\n\n") else []
    assert bad == []


def test_every_pinned_requirement_has_a_hash(checkout: Path) -> None:
    joined = (checkout / "requirements-dev.txt").read_text().replace("\\\n", " ")
    lines = [line for line in joined.splitlines() if line and not line.lstrip().startswith("#")]
    assert len(lines) > 20
    assert [line for line in lines if "--hash=sha256:" not in line or "==" not in line.split()[0]] == []


def test_uv_is_held_to_the_versions_of_the_hashed_requirements(checkout: Path) -> None:
    project = tomllib.loads((checkout / "pyproject.toml").read_text())
    assert project["tool"]["uv"]["constraint-dependencies"] == pins((checkout / "requirements-dev.txt").read_text())


def test_every_declared_dependency_is_pinned_in_the_hashed_requirements(checkout: Path) -> None:
    project = tomllib.loads((checkout / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"].values()
    declared = [*project["project"]["dependencies"], *(line for extra in extras for line in extra)]
    pinned = {pin.split("==")[0] for pin in pins((checkout / "requirements-dev.txt").read_text())}
    assert {re.split(r"[^A-Za-z0-9._-]", line)[0] for line in declared} - pinned == set()


def test_version_is_the_same_everywhere(checkout: Path) -> None:
    project = tomllib.loads((checkout / "pyproject.toml").read_text())["project"]
    assert f'__version__ = "{project["version"]}"' in (checkout / "__init__.py").read_text()


def test_licence_is_apache_2(checkout: Path) -> None:
    text = (checkout / "LICENSE").read_text()
    assert "Apache License" in text
    assert "END OF TERMS AND CONDITIONS" in text


def test_links_between_documents_lead_somewhere(checkout: Path, tracked: list[str]) -> None:
    dead = []
    for name in tracked:
        if name.endswith(".md"):
            for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", (checkout / name).read_text()):
                if "://" not in target and not ((checkout / name).parent / target).exists():
                    dead.append(f"{name}: {target}")
    assert dead == []


def test_ci_script_is_executable(checkout: Path) -> None:
    assert sys.platform == "win32" or (checkout / ".ci/run").stat().st_mode & 0o111
