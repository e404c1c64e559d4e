"""Boots an image: under software emulation with a simulated secure processor, or on a host with SEV-SNP."""

from ... import __version__ as __version__
