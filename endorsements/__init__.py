"""Endorsements: vendors' certificates and revocation lists, and the pinned trust anchors."""

from .. import __version__ as __version__  # a bare import from the checkout must fail: no second copy
