"""Looks at built images: whether they can be built again, and what changed between two of them."""

from ... import __version__ as __version__
