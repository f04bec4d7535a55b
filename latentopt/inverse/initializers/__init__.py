"""Where a reconstruction starts: at random, or at what samples of the generator or an encoder say of a measurement."""

from latentopt.inverse.initializers.base import Guess, Start
from latentopt.inverse.initializers.encoder import Encoder
from latentopt.inverse.initializers.kept import kept_or_learnt
from latentopt.inverse.initializers.learn import learnt, shares, start_named
from latentopt.inverse.initializers.pools import Nearest, Regression
from latentopt.inverse.initializers.random import Random

__all__ = [
    "Encoder",
    "Guess",
    "Nearest",
    "Random",
    "Regression",
    "Start",
    "kept_or_learnt",
    "learnt",
    "shares",
    "start_named",
]

for _kind in (Encoder, Nearest, Random, Regression, Start):
    _kind.__module__ = __name__  # the path by which recipes name them; see latentopt.operators
