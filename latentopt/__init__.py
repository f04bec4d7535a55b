"""latentopt: optimise the input of a frozen, pretrained piecewise-linear network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from latentopt import callbacks, gates, metrics, objectives, operators, priors
from latentopt.analysis.certify import certify, certify_robustness
from latentopt.analysis.dynamics import (
    amplification,
    compare_dynamics,
    hessian_vector,
    input_hessian_eigs,
    predict_perturbation,
)
from latentopt.analysis.robustness import robustness
from latentopt.errors import InputError, LatentOptError
from latentopt.generators import Generator
from latentopt.jobs.track import Track
from latentopt.networks import Classifier
from latentopt.optimizers import (
    ADRGD,
    APGD,
    CEM,
    CMAES,
    GD,
    LBFGS,
    PGD,
    RGD,
    Adagrad,
    Adam,
    Distances,
    FrankWolfe,
    FreeGates,
    LevenbergMarquardt,
    Momentum,
    PerturbedGD,
    RandomShooting,
    RMSProp,
    SoftGates,
    Square,
)
from latentopt.problem import Problem
from latentopt.result import Result, Status
from latentopt.rl.attack_policy import attack_policy
from latentopt.rl.policies import RefinedPolicy
from latentopt.rl.refine import Refined, Refiner, refine_action
from latentopt.rl.refinement import Refinement
from latentopt.solve import solve
from latentopt.tasks.adversarial import Adversarial, AttackWarning
from latentopt.tasks.attack import attack
from latentopt.tasks.carlini_wagner import carlini_wagner
from latentopt.tasks.check_attack import check_attack
from latentopt.tasks.diagnose import Diagnosis, diagnose
from latentopt.tasks.inversion import reconstruct
from latentopt.tasks.maximize import maximize
from latentopt.tasks.minimum_norm import minimum_norm
from latentopt.tasks.png import save_png
from latentopt.tasks.reconstruct import Reconstruction
from latentopt.tasks.stages import Portfolio, Stage
from latentopt.version import __version__
from latentopt.zoo.capped import Capped, CappedReLU
from latentopt.zoo.cards import load

if TYPE_CHECKING:
    from latentopt.rl.algorithms import RefinedDDPG, RefinedTD3

__all__ = [
    "ADRGD",
    "APGD",
    "CEM",
    "CMAES",
    "GD",
    "LBFGS",
    "PGD",
    "RGD",
    "Adagrad",
    "Adam",
    "Adversarial",
    "AttackWarning",
    "Capped",
    "CappedReLU",
    "Classifier",
    "Diagnosis",
    "Distances",
    "FrankWolfe",
    "FreeGates",
    "Generator",
    "InputError",
    "LatentOptError",
    "LevenbergMarquardt",
    "Momentum",
    "PerturbedGD",
    "Portfolio",
    "Problem",
    "RMSProp",
    "RandomShooting",
    "Reconstruction",
    "Refined",
    "RefinedDDPG",
    "RefinedPolicy",
    "RefinedTD3",
    "Refinement",
    "Refiner",
    "Result",
    "SoftGates",
    "Square",
    "Stage",
    "Status",
    "Track",
    "__version__",
    "amplification",
    "attack",
    "attack_policy",
    "callbacks",
    "carlini_wagner",
    "certify",
    "certify_robustness",
    "check_attack",
    "compare_dynamics",
    "diagnose",
    "gates",
    "hessian_vector",
    "input_hessian_eigs",
    "load",
    "maximize",
    "metrics",
    "minimum_norm",
    "objectives",
    "operators",
    "predict_perturbation",
    "priors",
    "reconstruct",
    "refine_action",
    "robustness",
    "save_png",
    "solve",
]


def __getattr__(name: str) -> Any:
    if name in ("RefinedDDPG", "RefinedTD3"):  # they need stable-baselines3
        from latentopt.rl import algorithms

        return getattr(algorithms, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
