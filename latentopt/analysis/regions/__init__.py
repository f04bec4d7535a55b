"""Activation regions: the polytopes on which a piecewise-linear network is affine."""

from __future__ import annotations

from latentopt._deprecated import old_names
from latentopt.analysis.regions.activity import UnitActivity, unit_activity
from latentopt.analysis.regions.boundaries import Boundary, Walk, boundary, walk
from latentopt.analysis.regions.landscape_figure import draw_landscape
from latentopt.analysis.regions.landscapes import Landscape, Slice, landscape, slice_through
from latentopt.analysis.regions.patterns import flips, has_max_pooling, pattern, region_keys
from latentopt.analysis.regions.trajectories import TrajectoryStatistics, trajectory_statistics

__all__ = [
    "Boundary",
    "Landscape",
    "Slice",
    "TrajectoryStatistics",
    "UnitActivity",
    "Walk",
    "boundary",
    "draw_landscape",
    "flips",
    "has_max_pooling",
    "landscape",
    "pattern",
    "region_keys",
    "slice_through",
    "trajectory_statistics",
    "unit_activity",
    "walk",
]
__getattr__ = old_names(__name__)
