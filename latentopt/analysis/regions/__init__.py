"""Activation regions: the polytopes on which a piecewise-linear network is affine."""

from __future__ import annotations

from latentopt.analysis.regions.units import Units, units

__all__ = ["Units", "units"]
