"""Builds an image out of a lock: additive and hermetic; nothing of the building host reaches a byte of it."""

from ... import __version__ as __version__
