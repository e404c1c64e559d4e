"""Transparency: notes, checkpoints, proofs, tiles, witnesses, statements."""

from .. import __version__ as __version__  # a bare import from the checkout must fail: no second copy
