"""Initializers of a reconstruction: random latents, or a prediction from samples of the generator or its encoder.

An `Initializer` is fitted to a generator and an operator (`fit_initializer`). The `FittedInitializer` then returns the
starts of any number of targets.
"""

from latentopt._deprecated import old_names
from latentopt.inverse.initializers.base import FittedInitializer, Initializer
from latentopt.inverse.initializers.cache import fit_cached
from latentopt.inverse.initializers.encoder import Encoder, default_initializer
from latentopt.inverse.initializers.fit import fit_initializer, share_cost
from latentopt.inverse.initializers.mean import Mean
from latentopt.inverse.initializers.pools import Nearest, Regression
from latentopt.inverse.initializers.random import Random
from latentopt.inverse.initializers.saved import Saved

__all__ = [
    "Encoder",
    "FittedInitializer",
    "Initializer",
    "Mean",
    "Nearest",
    "Random",
    "Regression",
    "Saved",
    "default_initializer",
    "fit_cached",
    "fit_initializer",
    "share_cost",
]

for _kind in (Encoder, Mean, Nearest, Random, Regression, Saved, Initializer):
    _kind.__module__ = __name__  # the path by which recipes name them; see latentopt.operators

__getattr__ = old_names(__name__)
