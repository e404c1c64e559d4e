"""The inference service that runs inside the confidential VM."""

from ... import __version__ as __version__  # a bare import from the checkout must fail: no second copy
