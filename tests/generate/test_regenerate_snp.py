"""The committed synthetic vectors are what their generator writes, byte for byte."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

_HERE = Path(__file__).resolve().parent
_VECTORS = _HERE.parent / "vectors" / "snp"


def _generator():
    spec = importlib.util.spec_from_file_location("snp_generator", _HERE / "snp.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_regenerated_vectors_equal_the_committed_ones():
    generated = _generator().generate()
    committed = {
        path.relative_to(_VECTORS).as_posix(): path.read_bytes() for path in _VECTORS.rglob("*") if path.is_file()
    }
    assert set(generated) == set(committed)
    assert [name for name, data in generated.items() if committed[name] != data] == []
