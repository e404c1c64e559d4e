"""Write the versions of requirements-dev.txt into ``[tool.uv] constraint-dependencies`` of pyproject.toml.

Run from the repository's root.  ``uv run`` then resolves to the versions whose hashes CI checks, although the lock file
is not committed (it would name one registry's addresses on every line).
"""

from __future__ import annotations

import re
from pathlib import Path

PINNED = re.compile(r"^([a-z0-9-]+==[^ ;\\]+)", re.MULTILINE)
LIST = re.compile(r"^constraint-dependencies = \[\n.*?^\]\n", re.MULTILINE | re.DOTALL)


def rewritten(pyproject: str, requirements: str) -> str:
    """The text of pyproject.toml with the constraint list made from the requirements' text."""
    lines = "".join(f'    "{pin}",\n' for pin in PINNED.findall(requirements))
    return LIST.sub(lambda _: f"constraint-dependencies = [\n{lines}]\n", pyproject)


def main() -> None:
    """Rewrite pyproject.toml in place."""
    pyproject = Path("pyproject.toml")
    pyproject.write_text(rewritten(pyproject.read_text(), Path("requirements-dev.txt").read_text()))


if __name__ == "__main__":
    main()
