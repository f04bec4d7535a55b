"""latentopt: optimise the input of a frozen, pretrained piecewise-linear network."""

from __future__ import annotations

from latentopt import metrics, objectives, operators
from latentopt.errors import InputError, LatentOptError
from latentopt.networks import Generator
from latentopt.optimizers import ADRGD, GD, Adam, FreeGates, SoftGates
from latentopt.problem import Problem
from latentopt.result import Result, Status
from latentopt.solve import solve
from latentopt.tasks.maximize import maximize
from latentopt.tasks.reconstruct import Reconstruction
from latentopt.version import __version__
from latentopt.zoo.cards import load

__all__ = [
    "ADRGD",
    "GD",
    "Adam",
    "FreeGates",
    "Generator",
    "InputError",
    "LatentOptError",
    "Problem",
    "Reconstruction",
    "Result",
    "SoftGates",
    "Status",
    "__version__",
    "load",
    "maximize",
    "metrics",
    "objectives",
    "operators",
    "solve",
]
