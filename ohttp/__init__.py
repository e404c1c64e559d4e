"""HPKE (RFC 9180), Binary HTTP (RFC 9292), Oblivious HTTP (RFC 9458) and the relay."""

from .. import __version__ as __version__  # a bare import from the checkout must fail: no second copy
