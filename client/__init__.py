"""Relying party: fetch, verify, pin, seal, send, open."""

from .. import __version__ as __version__  # a bare import from the checkout must fail: no second copy
