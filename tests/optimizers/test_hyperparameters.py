"""Hyperparameters that make no sense are refused by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest
from nets import refuses

from latentopt.optimizers import (
    APGD,
    CEM,
    CMAES,
    GD,
    LBFGS,
    PGD,
    RGD,
    Adagrad,
    Adam,
    FrankWolfe,
    FreeGates,
    Jitter,
    LevenbergMarquardt,
    Momentum,
    PerturbedGD,
    RandomShooting,
    RMSProp,
    RowNorms,
    SoftGates,
    Square,
    TwoPhase,
)

NAN, INF = float("nan"), float("inf")
NOT_POSITIVE, NEGATIVE, NOT_COUNT = (0, -1, NAN), (-1, NAN), (0, 1.5)
DESCENTS = (GD, Adam, PGD, Momentum, Adagrad, RMSProp, PerturbedGD, RGD)
WRONG: list[tuple[Callable[..., Any] | tuple[Any, ...], str | tuple[str, ...], Iterable[object]]] = [
    (DESCENTS, "lr", (*NOT_POSITIVE, INF)),
    (DESCENTS, "schedule", ("step",)),
    (GD, "clip", NOT_POSITIVE),
    (Jitter, "std", NEGATIVE),
    (Jitter, "phase", (0, 1.5, NAN)),
    (Adam, "betas", [(1.0, 0.999), (0.9, 1.0), (-0.1, 0.9), (0.9, NAN)]),
    (Adam, "eps", (-1e-8, NAN)),
    ((Adagrad, RMSProp), "eps", (0, -1e-8, NAN)),
    ((PGD, Momentum, FrankWolfe), "momentum", (-0.1, 1.0, NAN)),
    (RMSProp, "alpha", (-0.1, 1.0, NAN)),
    (PerturbedGD, ("r", "g_thres"), (*NEGATIVE, INF)),
    (PerturbedGD, "t_thres", (*NEGATIVE, 2.5)),
    (SoftGates, "tau", NOT_POSITIVE),
    (SoftGates, ("phase", "share"), (0, 1.5, NAN)),
    (SoftGates, "steps", NOT_COUNT),
    ((SoftGates, FreeGates), "layers", ([], [-1], [0.5], [True])),
    (FreeGates, ("alpha", "a_eta", "start", "reach"), NOT_POSITIVE),
    (FreeGates, ("beta0", "a_beta", "gamma", "r", "delta", "delta_beta", "beta_min", "beta_max"), NEGATIVE),
    (FreeGates, ("T_p", "resync"), (-1, 2.5)),
    (FreeGates, ("rescale", "reduce", "scale"), ("mean",)),
    (RowNorms, "kind", ("rows",)),
    (RowNorms, ("probes", "refresh"), NOT_COUNT),
    (RowNorms, "floor", NEGATIVE),
    (TwoPhase, "steps", NOT_COUNT),
    (LBFGS, "memory", NOT_COUNT),
    (LBFGS, "first", NOT_POSITIVE),
    (LBFGS, "c1", (0.0, 0.5)),
    (LevenbergMarquardt, "damping", (*NEGATIVE, INF)),
    (LevenbergMarquardt, "cg_above", (-1, 1.5)),
    (LevenbergMarquardt, "cg_steps", NOT_COUNT),
    ((CMAES, CEM), "sigma", NOT_POSITIVE),
    ((CMAES, CEM), "population", (1, 2.5)),
    (CMAES, "refine", (-1,)),
    (CMAES, "covariance", ("spherical",)),
    (CEM, "elite", (0.0, 1.5)),
    (CEM, "smoothing", (-0.1, 1.0)),
    (APGD, "eta", NOT_POSITIVE),
    (APGD, "alpha", (0.0, 1.5)),
    (APGD, "rho", (-0.1, 1.1)),
    (RandomShooting, "samples", NOT_COUNT),
    (Square, "p", (0.0, 1.1)),
]
CASES = [
    (kind, name, value)
    for kinds, names, values in WRONG
    for kind in (kinds if isinstance(kinds, tuple) else (kinds,))
    for name in ((names,) if isinstance(names, str) else names)
    for value in values
]


@pytest.mark.parametrize(("kind", "name", "value"), CASES)
def test_wrong_hyperparameters_are_refused(kind, name, value):
    with refuses(f"{kind.__name__}.{name}"):
        kind(**{name: value})
