"""latentopt: optimise the input of a frozen, pretrained piecewise-linear network."""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from latentopt.errors import InputError, LatentOptError
from latentopt.version import __version__

if TYPE_CHECKING:
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
    from latentopt.generators import Generator
    from latentopt.jobs.targets import load_images
    from latentopt.jobs.track import Track
    from latentopt.networks import Classifier, NetworkWarning
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
        EarlyGates,
        FrankWolfe,
        FreeGates,
        LevenbergMarquardt,
        Momentum,
        Opening,
        PerturbedGD,
        RandomShooting,
        RMSProp,
        SoftGates,
        Square,
    )
    from latentopt.problem import Problem
    from latentopt.result import Result, Status
    from latentopt.rl.algorithms import RefinedDDPG, RefinedTD3
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
    from latentopt.zoo.capped import Capped, CappedReLU
    from latentopt.zoo.cards import load
    from latentopt.zoo.trusted import trust

_HOMES = {
    "latentopt.analysis.certify": (
        "certify",
        "certify_robustness",
    ),
    "latentopt.analysis.dynamics": (
        "amplification",
        "compare_dynamics",
        "hessian_vector",
        "input_hessian_eigs",
        "predict_perturbation",
    ),
    "latentopt.analysis.robustness": ("robustness",),
    "latentopt.generators": ("Generator",),
    "latentopt.jobs.targets": ("load_images",),
    "latentopt.jobs.track": ("Track",),
    "latentopt.networks": (
        "Classifier",
        "NetworkWarning",
    ),
    "latentopt.optimizers": (
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
        "Distances",
        "EarlyGates",
        "FrankWolfe",
        "FreeGates",
        "LevenbergMarquardt",
        "Momentum",
        "Opening",
        "PerturbedGD",
        "RandomShooting",
        "RMSProp",
        "SoftGates",
        "Square",
    ),
    "latentopt.problem": ("Problem",),
    "latentopt.result": (
        "Result",
        "Status",
    ),
    "latentopt.rl.algorithms": (
        "RefinedDDPG",
        "RefinedTD3",
    ),
    "latentopt.rl.attack_policy": ("attack_policy",),
    "latentopt.rl.policies": ("RefinedPolicy",),
    "latentopt.rl.refine": (
        "Refined",
        "Refiner",
        "refine_action",
    ),
    "latentopt.rl.refinement": ("Refinement",),
    "latentopt.solve": ("solve",),
    "latentopt.tasks.adversarial": (
        "Adversarial",
        "AttackWarning",
    ),
    "latentopt.tasks.attack": ("attack",),
    "latentopt.tasks.carlini_wagner": ("carlini_wagner",),
    "latentopt.tasks.check_attack": ("check_attack",),
    "latentopt.tasks.diagnose": (
        "Diagnosis",
        "diagnose",
    ),
    "latentopt.tasks.inversion": ("reconstruct",),
    "latentopt.tasks.maximize": ("maximize",),
    "latentopt.tasks.minimum_norm": ("minimum_norm",),
    "latentopt.tasks.png": ("save_png",),
    "latentopt.tasks.reconstruct": ("Reconstruction",),
    "latentopt.tasks.stages": (
        "Portfolio",
        "Stage",
    ),
    "latentopt.zoo.capped": (
        "Capped",
        "CappedReLU",
    ),
    "latentopt.zoo.cards": ("load",),
    "latentopt.zoo.trusted": ("trust",),
}
"""Public names by their modules, which are imported when a name is first asked for: the command line starts at once."""
_HOME = {name: module for module, names in _HOMES.items() for name in names}

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
    "EarlyGates",
    "FrankWolfe",
    "FreeGates",
    "Generator",
    "InputError",
    "LatentOptError",
    "LevenbergMarquardt",
    "Momentum",
    "NetworkWarning",
    "Opening",
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
    "load_images",
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
    "trust",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(import_module(_HOME[name]), name)
    elif name.startswith("_"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    else:
        try:
            return import_module(f"{__name__}.{name}")
        except ModuleNotFoundError as error:
            if error.name != f"{__name__}.{name}":
                raise
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Package(ModuleType):
    """Keeps a public name where a module has the same: `latentopt.solve` is the function."""

    def __setattr__(self, name: str, value: Any) -> None:
        home = _HOME.get(name)
        super().__setattr__(name, getattr(value, name) if isinstance(value, ModuleType) and home else value)


sys.modules[__name__].__class__ = _Package
