"""Where a reconstruction starts: at random, or at what samples of the generator or an encoder say of a measurement."""

from latentopt.tasks.starts.base import Guess, Start
from latentopt.tasks.starts.encoder import Encoder
from latentopt.tasks.starts.kept import kept_or_learnt
from latentopt.tasks.starts.learn import learnt, shares, start_named
from latentopt.tasks.starts.pools import Nearest, Regression
from latentopt.tasks.starts.random import Random

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
