"""Optimisers, one method a file, and the registry of their names."""

import lazy_loader

from latentopt._deprecated import old_names

_public, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__getattr__ = old_names(__name__, _public)
