"""Objectives: functions of a network's output, minimised for each sample of a batch."""

from latentopt.objectives.base import Fit, Loss, Objective, Unit, take
from latentopt.objectives.consistency import Consistent
from latentopt.objectives.counts import PoissonGaussianNoise, PoissonNoise
from latentopt.objectives.features import Features
from latentopt.objectives.likelihoods import GaussianNoise, MultiplicativeNoise, NoiseModel, StudentNoise
from latentopt.objectives.perceptual import LPIPS, PerceptualWarning
from latentopt.objectives.pixels import L1, MSE, SSIM, Huber, WeightedSum

__all__ = [
    "L1",
    "LPIPS",
    "MSE",
    "SSIM",
    "Consistent",
    "Features",
    "Fit",
    "GaussianNoise",
    "Huber",
    "Loss",
    "MultiplicativeNoise",
    "NoiseModel",
    "Objective",
    "PerceptualWarning",
    "PoissonGaussianNoise",
    "PoissonNoise",
    "StudentNoise",
    "Unit",
    "WeightedSum",
    "take",
]

for _kind in (
    L1,
    LPIPS,
    MSE,
    SSIM,
    Consistent,
    Features,
    Fit,
    GaussianNoise,
    Huber,
    Loss,
    MultiplicativeNoise,
    NoiseModel,
    PoissonGaussianNoise,
    PoissonNoise,
    StudentNoise,
    Unit,
    WeightedSum,
):
    _kind.__module__ = __name__  # the path by which recipes name them; see latentopt.operators
