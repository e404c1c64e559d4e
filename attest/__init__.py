"""Attester: what runs in the guest (or simulates it) to produce evidence."""

from .. import __version__ as __version__  # a bare import from the checkout must fail: no second copy
