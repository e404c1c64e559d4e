"""docs/checks.md and the enum of check ids say the same."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from dokimos.errors import Check

if TYPE_CHECKING:
    from pathlib import Path

ROW = re.compile(r"^\| `([a-z0-9_.]+)` \| (.+?) \| (.+?) \|$", re.MULTILINE)


@pytest.fixture(scope="module")
def rows(checkout: Path) -> list[tuple[str, str, str]]:
    """Id, meaning and clause of every row."""
    found: list[tuple[str, str, str]] = ROW.findall((checkout / "docs/checks.md").read_text())
    return found


def test_every_check_id_has_exactly_one_row_and_no_row_is_left_over(rows: list[tuple[str, str, str]]) -> None:
    listed = Counter(row[0] for row in rows)
    assert sorted(check.value for check in Check if check.value not in listed) == []
    assert sorted(set(listed) - {check.value for check in Check}) == []
    assert [name for name, count in listed.items() if count > 1] == []


def test_every_row_says_what_it_means_and_where_that_stands(rows: list[tuple[str, str, str]]) -> None:
    assert [row for row in rows if len(row[1]) < 15 or len(row[2]) < 4] == []


def test_every_table_row_with_an_id_is_read(checkout: Path, rows: list[tuple[str, str, str]]) -> None:
    lines = (checkout / "docs/checks.md").read_text().splitlines()
    assert len([line for line in lines if line.startswith("| `")]) == len(rows)


def test_ids_are_names_joined_by_dots() -> None:
    pattern = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+")
    assert [check for check in Check if not pattern.fullmatch(check)] == []
    assert [check.name for check in Check if "." in check.name or not check.name.isupper()] == []
