"""Objectives: functions of a network's output, minimised for each sample of a batch."""

from latentopt.objectives.base import Fit, Loss, Objective, Unit, take
from latentopt.objectives.features import Features
from latentopt.objectives.perceptual import LPIPS, PerceptualWarning
from latentopt.objectives.pixels import L1, MSE, SSIM, Huber, WeightedSum

__all__ = [
    "L1",
    "LPIPS",
    "MSE",
    "SSIM",
    "Features",
    "Fit",
    "Huber",
    "Loss",
    "Objective",
    "PerceptualWarning",
    "Unit",
    "WeightedSum",
    "take",
]

for _kind in (L1, LPIPS, MSE, SSIM, Features, Fit, Huber, Loss, Unit, WeightedSum):
    _kind.__module__ = __name__  # the path by which recipes name them; see latentopt.operators
