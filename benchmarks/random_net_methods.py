"""Methods that maximise the random networks, with the step sizes tried in tuning."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.tuned import TUNED
from latentopt.optimizers import (
    ADRGD,
    APGD,
    CMAES,
    GD,
    LBFGS,
    PGD,
    RGD,
    Adagrad,
    Adam,
    FrankWolfe,
    FreeGates,
    Momentum,
    Optimizer,
    PerturbedGD,
    RMSProp,
    RowNorms,
    SoftGates,
)

CONTROL = "pgd"
"""The control: sign steps with momentum, the `PGD` preset, never tuned here."""


@dataclass(frozen=True)
class SizedMethod:
    """A method with at most one size to tune.

    Args:
        build: from the size.
        sizes: that tuning tries.
        default: where nothing was tuned.
    """

    build: Callable[[float], Optimizer]
    sizes: tuple[float, ...] = ()
    default: float = 0.0

    def at(self, tuned: float | None) -> Optimizer:
        return self.build(self.default if tuned is None else tuned)


STARTS = ("one start", "several starts")
"""Keys of the sizes in tuned.yaml."""
PAPERS_ALPHA = 2000.0
LENGTHS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0)
TABLE_2: dict[str, dict[str, Any]] = {  # of arXiv 2406.00494
    "A": {"beta0": 1.0, "a_eta": 1.0, "a_beta": 0.01, "r": 0.1, "delta": 1e-4, "delta_beta": 0.001, "T_p": 25},
    "B": {"beta0": 1.0, "a_eta": 1.0, "a_beta": 0.005, "r": 0.2, "delta": 0.001, "delta_beta": 0.01, "T_p": 25},
    "C": {"beta0": 1.0, "a_eta": 1.25, "a_beta": 0.0001, "r": 0.35, "delta": 0.01, "delta_beta": 0.01, "T_p": 25},
}
"""Settings by model; D and E, which are not in the paper, use those of C."""


def paper(model: str, **changes: Any) -> ADRGD:
    """ADR-GD as printed, with the settings of Table 2."""
    return ADRGD.paper(a_x=0.5, **{**TABLE_2.get(model, TABLE_2["C"]), **changes})


def reference(model: str, **changes: Any) -> ADRGD:
    """ADR-GD as the authors' code runs it, with its settings for the model; its noise enters eta's gradient."""
    table = TABLE_2.get(model, TABLE_2["C"])
    theirs = {name: table[name] for name in ("beta0", "a_eta", "a_beta", "delta")}
    theirs["r"] = table["a_eta"] * table["r"]
    return ADRGD.reference(a_x=0.5, **{**theirs, **changes})


def methods(model: str) -> dict[str, SizedMethod]:
    """All methods, by the name they have in the tables."""
    free = FreeGates(**TABLE_2.get(model, TABLE_2["C"]))
    return {
        CONTROL: SizedMethod(lambda _: PGD()),
        "pgd-exponential": SizedMethod(lambda _: PGD(lr=0.5, momentum=0.0, schedule="exponential")),
        "gd-paper": SizedMethod(lambda _: GD(lr=0.5, normalize=True)),
        "gd": SizedMethod(lambda lr: GD(lr=lr, normalize=True, schedule="cosine"), LENGTHS, 0.5),
        "momentum": SizedMethod(lambda lr: Momentum(lr=lr), LENGTHS, Momentum.lr),
        "adam": SizedMethod(lambda lr: Adam(lr=lr), LENGTHS, Adam.lr),
        "adagrad": SizedMethod(lambda lr: Adagrad(lr=lr), LENGTHS, Adagrad.lr),
        "rmsprop": SizedMethod(lambda lr: RMSProp(lr=lr), LENGTHS, RMSProp.lr),
        "perturbed-gd": SizedMethod(lambda lr: PerturbedGD(lr=lr), LENGTHS, PerturbedGD.lr),
        "rgd": SizedMethod(lambda lr: RGD(lr=lr), LENGTHS, RGD.lr),
        "frank-wolfe": SizedMethod(
            lambda momentum: FrankWolfe(momentum), (0.0, 0.25, 0.5, 0.75, 0.9), FrankWolfe.momentum
        ),
        "apgd": SizedMethod(lambda eta: APGD(eta=eta), (0.25, 0.5, 1.0, 2.0), APGD.eta),
        "lbfgs": SizedMethod(lambda first: LBFGS(first=first), LENGTHS, LBFGS.first),
        "cma-es": SizedMethod(lambda sigma: CMAES(sigma=sigma), (0.1, 0.2, 0.3, 0.5, 1.0), CMAES.sigma),
        "adr-gd-soft": SizedMethod(lambda lr: ADRGD(SoftGates(), Adam(lr=lr)), LENGTHS, Adam.lr),
        "adr-gd-pgd": SizedMethod(lambda tau: ADRGD(SoftGates(tau), PGD()), (0.01, 0.03, 0.1, 0.25, 0.5, 1.0), 0.1),
        "adr-gd-paper": SizedMethod(lambda _: paper(model)),
        "adr-gd-paper-decayed": SizedMethod(
            lambda lr: ADRGD(free, GD(lr=lr, normalize=True, schedule="cosine")), LENGTHS, 0.5
        ),
        "adr-gd-reference": SizedMethod(lambda _: reference(model)),
    }


def tuned(model: str, restarts: bool, name: str) -> float | None:
    """Return the best size on other seeds; None if nothing was tuned."""
    return TUNED["random-nets"].get(model, {}).get(STARTS[restarts], {}).get(name)


def ablations(model: str) -> dict[str, dict[str, Optimizer]]:
    """Return ablations of ADR-GD: the printed form and the authors' code without each part."""
    gone: dict[str, dict[str, Any]] = {
        "whole": {},
        "M1 without distances": {"row_norms": RowNorms("none")},
        "M2 without noise": {"r": 0.0},
        "M3 with a fixed beta": {"a_beta": 0.0, "gamma": 0.0},
        "M4 without rescaled gradients": {"rescale": "never"},
    }
    forms: dict[str, dict[str, Optimizer]] = {}
    for form, build, plain in (
        ("adr-gd-paper", paper, GD(lr=0.5, normalize=True)),
        ("adr-gd-reference", reference, GD(lr=0.5, clip=1.0)),
    ):
        forms[form] = {name: build(model, **changes) for name, changes in gone.items()}
        raw = build(model, rescale="never")
        forms[form]["M4 without rescaled gradients"] = replace(raw, descent=GD(lr=0.5))
        forms[form]["without activation variables"] = plain
    return forms


def alphas(model: str) -> dict[str, dict[float, Optimizer]]:
    """Return both forms with different slopes of the gates (Figure 5 of the paper)."""
    slopes = (10.0, 100.0, 1000.0, PAPERS_ALPHA, 1e4, 1e5)
    builds = {"adr-gd-paper": paper, "adr-gd-reference": reference}
    return {form: {alpha: build(model, alpha=alpha) for alpha in slopes} for form, build in builds.items()}
