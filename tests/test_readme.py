"""Every command block of the documents is run, here or where a list says, and help texts are the program's own.

- ```` ```sh ````: run by bash in a folder with the files that the documents speak of; the blocks of one document run in
  order in one folder.  A comment ``<!-- exit: 10 -->`` on the line before names another exit code than 0.
- ```` ```console ````: one command after ``$``, then its exact output.
- ELSEWHERE: blocks that install things, and who runs them instead.
- ```` ```text ````, ```` ```toml ````, ```` ```json ````: no commands.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [
    "README.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    *(f"docs/{path.name}" for path in sorted(ROOT.glob("docs/*.md"))),
]
FENCE = re.compile(r"^(?:<!-- exit: (\d+) -->\n)?```([a-z]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
QUIET = {"text", "toml", "json", "yaml"}

CI = ".ci/run: "
ELSEWHERE = {
    "uv run dokimos demo": (f"{CI}uv run dokimos demo",),
    "uv run pytest": (f"{CI}uv run pytest",),
    # The environment of .ci/run is made by pip, from hashes; then the same three programs run in it.
    "python3 -m venv .venv\n"
    ". .venv/bin/activate\n"
    "pip install -e '.[engine,gpu,test]' --config-settings editable_mode=strict\n"
    "dokimos demo\n"
    "pytest": (
        f'{CI}python3 -m venv "$scratch/venv"',
        f'{CI}. "$scratch/venv/bin/activate"',
        f"{CI}pip install --quiet --no-deps --no-build-isolation -e . --config-settings editable_mode=strict",
        f"{CI}dokimos --version",
        f"{CI}uv run dokimos demo",
        f"{CI}uv run pytest",
    ),
    "python3 -m venv .venv\n"
    ". .venv/bin/activate\n"
    "pip install -e '.[engine,gpu,test]' --config-settings editable_mode=strict\n"
    "pytest\n"
    "pytest -m slow": (
        f'{CI}python3 -m venv "$scratch/venv"',
        f"{CI}pip install --quiet --no-deps --no-build-isolation -e . --config-settings editable_mode=strict",
        f"{CI}uv run pytest",
        f"{CI}uv run pytest -m slow",
    ),
    # Asks an index for versions, so it gives another result each month; what it must leave behind is tested.
    "uv export --quiet --format requirements.txt --no-emit-project --all-extras --all-groups --no-header"
    " --output-file requirements-dev.txt\n"
    "rm uv.lock\n"
    "python3 tests/generate/constraints.py": (
        "test_repository.py::test_uv_is_held_to_the_versions_of_the_hashed_requirements",
        "test_repository.py::test_every_pinned_requirement_has_a_hash",
        "test_readme.py::test_the_constraints_generator_gives_what_is_committed",
    ),
    # They fetch some 80 MB and take a while.
    "dokimos image fetch test\ndokimos image build test --output my-image\ndokimos image check test": (
        "cvm_image/test_image.py::test_the_commands_of_the_documents_build_measure_and_check_an_image",
        f"{CI}uv run pytest -m slow",
    ),
    "dokimos image fetch test\ndokimos image build test --output image\ndokimos measure image image": (
        "cvm_image/test_image.py::test_the_commands_of_the_documents_build_measure_and_check_an_image",
        f"{CI}uv run pytest -m slow",
    ),
    "python3 tests/fuzz/run.py --seconds 10": ("test_fuzz_targets.py::test_atheris_finds_nothing_in_ten_seconds",),
    "python3 tests/generate/cli_help.py": ("test_readme.py::test_the_command_line_page_is_the_programs_own",),
}


class Block(NamedTuple):
    """One fenced block."""

    document: str
    number: int
    language: str
    text: str
    exit_code: int

    def __str__(self) -> str:
        return f"{self.document}-{self.number}"


def all_blocks() -> list[Block]:
    """Every fenced block of every document, in order."""
    return [
        Block(document, number, found[2], found[3].rstrip("\n"), int(found[1] or 0))
        for document in DOCUMENTS
        for number, found in enumerate(FENCE.finditer((ROOT / document).read_text()), 1)
    ]


BLOCKS = all_blocks()
SHELL = [block for block in BLOCKS if block.language == "sh" and block.text not in ELSEWHERE]
CONSOLE = [block for block in BLOCKS if block.language == "console" and block.document != "docs/cli.md"]


def generator(name: str) -> ModuleType:
    """Import one file of tests/generate."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "tests/generate" / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One folder for each document, with the files that are not evidence."""
    from dokimos.attest.sim_ccel import direct_boot, write_ccel  # noqa: PLC0415 - this module must import without
    from dokimos.measurements.rtmr import AcpiTables  # noqa: PLC0415
    from dokimos.measurements.synthetic_ovmf import synthetic_ovmf, synthetic_tdvf  # noqa: PLC0415
    from dokimos.measurements.synthetic_pe import synthetic_kernel  # noqa: PLC0415
    from dokimos.measurements.tdx import TdxLaunch  # noqa: PLC0415

    made = {}
    none = AcpiTables(loader=b"", rsdp=b"", tables=b"")
    other = TdxLaunch(
        firmware=synthetic_tdvf(), memory=2 << 30, kernel=synthetic_kernel(tag=b"other"), initrd=b"other", acpi=none
    )
    log = direct_boot(other)[1]
    for document in DOCUMENTS:
        folder = made[document] = tmp_path_factory.mktemp(document.replace("/", "-").removesuffix(".md"))
        (folder / "OVMF.fd").write_bytes(synthetic_ovmf())
        (folder / "vmlinuz").write_bytes(b"kernel" * 1000)
        (folder / "initrd.img").write_bytes(b"initrd" * 1000)
        (folder / "tdvf.fd").write_bytes(synthetic_tdvf())
        (folder / "bzImage").write_bytes(synthetic_kernel())
        # The log of a boot of other files: explaining it beside these names what differs.
        (folder / "ccel.bin").write_bytes(write_ccel(log))
    return made


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Variables under which ``dokimos`` and ``python3`` are those of this interpreter."""
    programs = tmp_path_factory.mktemp("bin")
    for name, arguments in (("dokimos", " -P -m dokimos"), ("python3", "")):
        (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}"{arguments} "$@"\n')
        (programs / name).chmod(0o755)
    return {**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "COLUMNS": "80", "NO_COLOR": "1"}


def run(block: Block, folders: dict[str, Path], environment: dict[str, str], command: str) -> str:
    """Standard output of a block's command, whose exit code must be the expected one."""
    shell = ["bash", "-eu", "-o", "pipefail", "-c", command]
    ran = subprocess.run(
        shell, cwd=folders[block.document], env=environment, check=False, capture_output=True, text=True, timeout=120
    )
    assert ran.returncode == block.exit_code, f"{block}: exit {ran.returncode}\n{ran.stdout}{ran.stderr}"
    return ran.stdout


@pytest.mark.parametrize("block", SHELL, ids=str)
def test_shell_block_runs(
    block: Block, folders: dict[str, Path], environment: dict[str, str], vectors: Callable[[str], Any]
) -> None:
    if "report.bin" in block.text:
        real = vectors("snp/ms_milan")
        folder = folders[block.document]
        (folder / "report.bin").write_bytes(real.bytes("report.bin"))
        (folder / "vcek.der").write_bytes(real.bytes("vek.der"))
        (folder / "measurement.txt").write_text(real.bytes("report.bin")[0x90:0xC0].hex())
    run(block, folders, environment, block.text)


@pytest.mark.parametrize("block", CONSOLE, ids=str)
def test_console_block_shows_what_the_program_prints(
    block: Block, folders: dict[str, Path], environment: dict[str, str]
) -> None:
    command, _, expected = block.text.partition("\n")
    assert command.startswith("$ ")
    assert run(block, folders, environment, command[2:]).rstrip("\n") == expected


def test_every_block_has_a_language_that_says_whether_it_runs() -> None:
    assert [str(block) for block in BLOCKS if block.language not in {"sh", "console", *QUIET}] == []
    assert [str(block) for block in BLOCKS if block.language in QUIET and "$ dokimos" in block.text] == []


def test_every_toml_block_can_be_read() -> None:
    for block in BLOCKS:
        if block.language == "toml":
            tomllib.loads(block.text)


def test_every_block_run_elsewhere_is_really_there_and_really_run() -> None:
    texts = {block.text for block in BLOCKS}
    script = [line.strip() for line in (ROOT / ".ci/run").read_text().splitlines()]
    for text, places in ELSEWHERE.items():
        assert text in texts, text
        assert places
        for place in places:
            if place.startswith(CI):
                assert place.removeprefix(CI) in script, place
            else:
                file, _, name = place.partition("::")
                assert f"def {name}(" in (ROOT / "tests" / file).read_text(), place


def test_readme_names_the_two_commands() -> None:
    shell = [block.text for block in BLOCKS if block.document == "README.md" and block.language == "sh"]
    assert shell[:2] == ["uv run dokimos demo", "uv run pytest"]


def test_the_command_line_page_is_the_programs_own() -> None:
    # In a process of its own: click keeps the help option of a group that a test before this one started as the root.
    code = "import cli_help, sys; sys.stdout.write(cli_help.page())"
    found = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT / "tests/generate")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert (ROOT / "docs/cli.md").read_text() == found.stdout


def test_the_constraints_generator_gives_what_is_committed() -> None:
    pyproject = (ROOT / "pyproject.toml").read_text()
    requirements = (ROOT / "requirements-dev.txt").read_text()
    assert generator("constraints").rewritten(pyproject, requirements) == pyproject
