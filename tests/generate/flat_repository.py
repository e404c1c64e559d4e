"""A Debian repository of one folder, made of packages in the store, for mmdebstrap to take the very same packages."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from pathlib import Path

from dokimos.cvm_image.lock import Deb
from dokimos.cvm_image.store import Store


def flat_repository(packages: Iterable[Deb], store: Store, folder: Path, *, dependencies: bool) -> str:
    """Write the repository and return its line for apt.

    Args:
        packages: which packages.
        store: where they lie.
        folder: a new folder.
        dependencies: whether its index carries the packages' own fields; without them nothing else is asked for.
    """
    folder.mkdir()
    stanzas = []
    for package in packages:
        source = store.checked(package.sha256, package.name)
        (folder / f"{package.sha256}.deb").symlink_to(source)
        ask = ["dpkg-deb", "--field", str(source), *([] if dependencies else ["Package", "Version", "Architecture"])]
        fields = subprocess.run(ask, capture_output=True, text=True, check=True).stdout.rstrip("\n")
        place = f"Filename: ./{package.sha256}.deb\nSize: {package.size}\nSHA256: {package.sha256}\n"
        stanzas.append(f"{fields}\n{place}")
    (folder / "Packages").write_text("\n".join(stanzas))
    return f"deb [trusted=yes] copy:{folder} ./"
