"""Activation regions: the polytopes on which a piecewise-linear network is affine."""

from __future__ import annotations

from latentopt.analysis.regions.patterns import flips, has_max_pooling, pattern, region_keys
from latentopt.analysis.regions.pictures import draw_landscape
from latentopt.analysis.regions.slices import Landscape, Slice, landscape, through
from latentopt.analysis.regions.trajectories import Travel, travel
from latentopt.analysis.regions.units import Units, units
from latentopt.analysis.regions.walks import Boundary, Walk, boundary, walk

__all__ = [
    "Boundary",
    "Landscape",
    "Slice",
    "Travel",
    "Units",
    "Walk",
    "boundary",
    "draw_landscape",
    "flips",
    "has_max_pooling",
    "landscape",
    "pattern",
    "region_keys",
    "through",
    "travel",
    "units",
    "walk",
]
