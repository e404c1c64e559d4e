"""Sub-commands of the command line, loaded when they are called."""

from .. import __version__ as __version__  # a bare import from the checkout must fail: no second copy
