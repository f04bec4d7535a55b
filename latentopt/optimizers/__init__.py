"""Optimisers: one file a method."""

from __future__ import annotations

from collections.abc import Callable

from latentopt._deprecated import old_names
from latentopt.errors import InputError
from latentopt.optimizers.adagrad import Adagrad
from latentopt.optimizers.adam import Adam
from latentopt.optimizers.adr_gd import ADRGD
from latentopt.optimizers.apgd import APGD
from latentopt.optimizers.base import Optimizer
from latentopt.optimizers.cem import CEM
from latentopt.optimizers.cma_es import CMAES
from latentopt.optimizers.early_gates import EarlyGates
from latentopt.optimizers.frank_wolfe import FrankWolfe
from latentopt.optimizers.free_gates import FreeGates
from latentopt.optimizers.gd import GD
from latentopt.optimizers.lbfgs import LBFGS
from latentopt.optimizers.levenberg_marquardt import LevenbergMarquardt
from latentopt.optimizers.momentum import Momentum
from latentopt.optimizers.perturbed_gd import PerturbedGD
from latentopt.optimizers.pgd import PGD
from latentopt.optimizers.random_shooting import RandomShooting
from latentopt.optimizers.rgd import RGD
from latentopt.optimizers.rmsprop import RMSProp
from latentopt.optimizers.row_norms import RowNorms
from latentopt.optimizers.soft_gates import SoftGates
from latentopt.optimizers.square import Square
from latentopt.optimizers.two_phase import TwoPhase

__all__ = [
    "ADRGD",
    "APGD",
    "CEM",
    "CMAES",
    "GD",
    "LBFGS",
    "NAMED",
    "PGD",
    "RGD",
    "Adagrad",
    "Adam",
    "EarlyGates",
    "FrankWolfe",
    "FreeGates",
    "LevenbergMarquardt",
    "Momentum",
    "Optimizer",
    "PerturbedGD",
    "RMSProp",
    "RandomShooting",
    "RowNorms",
    "SoftGates",
    "Square",
    "TwoPhase",
    "named",
]

NAMED: dict[str, Callable[[], Optimizer]] = {
    "adr-gd": ADRGD,
    "adr-gd-soft": lambda: ADRGD(SoftGates(), Adam()),
    "adr-gd-paper": ADRGD.paper,
    "adr-gd-reference": ADRGD.reference,
    "adam": Adam,
    "gd": lambda: GD(lr=1.0, normalize=True, schedule="cosine"),  # no scale of the objective to tune for
    "pgd": PGD,
    "momentum": Momentum,
    "adagrad": Adagrad,
    "rmsprop": RMSProp,
    "perturbed-gd": PerturbedGD,
    "rgd": RGD,
    "apgd": APGD,
    "frank-wolfe": FrankWolfe,
    "lbfgs": LBFGS,
    "lm": LevenbergMarquardt,
    "cma-es": CMAES,
    "cem": CEM,
    "random-shooting": RandomShooting,
    "square": Square,
    "basin-cma": lambda: CMAES(refine=30),
}


def named(optimizer: Optimizer | str) -> Optimizer:
    """The optimiser itself, or the one registered under a name, with its defaults.

    >>> named("adam")
    Adam(lr=0.2, betas=(0.9, 0.999), eps=1e-12, schedule='cosine')
    """
    if isinstance(optimizer, Optimizer):
        return optimizer
    if optimizer not in NAMED:
        raise InputError("optimizer", f"one of {', '.join(NAMED)}, or an Optimizer", repr(optimizer))
    return NAMED[optimizer]()


__getattr__ = old_names(__name__)
