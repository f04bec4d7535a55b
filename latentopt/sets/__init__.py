"""Feasible sets of inputs."""

from latentopt.sets.sets import Box, BoxAndBall, FeasibleSet, Free, L2Ball, LinfBall, Norm, Sphere, around, length

__all__ = ["Box", "BoxAndBall", "FeasibleSet", "Free", "L2Ball", "LinfBall", "Norm", "Sphere", "around", "length"]
