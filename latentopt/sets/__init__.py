"""Feasible sets: where the optimised input may be. Each set owns its projection and its random points.

Bounds and centres are numbers, or tensors, arrays or lists of numbers: in the shape of one input, (*features), for
every sample alike, or with a batch axis in front, (1 or B, *features). Axes of length 1 are repeated: (3, 1, 1) is a
number for each channel of images (3, H, W), and (B, 1, 1, 1) one for each of B images. A shape that has as many axes as
one input is the input's own: (3,) belongs to the three coordinates of inputs of shape (3,), also in a batch of three.
"""

from latentopt._deprecated import old_names
from latentopt.sets.balls import L1Ball, L2Ball, LinfBall, Sphere
from latentopt.sets.base import FeasibleSet, Free, Norm
from latentopt.sets.box import Box
from latentopt.sets.intersection import BoxAndBall, bounded_ball, length

__all__ = [
    "Box",
    "BoxAndBall",
    "FeasibleSet",
    "Free",
    "L1Ball",
    "L2Ball",
    "LinfBall",
    "Norm",
    "Sphere",
    "bounded_ball",
    "length",
]

__getattr__ = old_names(__name__)
