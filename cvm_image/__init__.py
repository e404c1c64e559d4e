"""What is attested: the image and the inference service in it."""

from .. import __version__ as __version__  # a bare import from the checkout must fail: no second copy
