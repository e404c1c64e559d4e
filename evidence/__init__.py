"""Evidence: formats only.  Bytes in, frozen values out; nothing here is verified."""

from .. import __version__ as __version__  # a bare import from the checkout must fail: no second copy
