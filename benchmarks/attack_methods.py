"""Attacks of the comparison, each for a number of gradient evaluations per image, and ablations of ADR-GD."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from benchmarks.attack_runs import Attack, AttackCase, ReturnedImages
from benchmarks.tuned import TUNED
from latentopt.attacks.attack import attack
from latentopt.attacks.stages import PORTFOLIO, Portfolio, Stage
from latentopt.classification import Loss, cross_entropy
from latentopt.optimizers import (
    ADRGD,
    APGD,
    GD,
    LBFGS,
    PGD,
    Adagrad,
    Adam,
    FrankWolfe,
    Momentum,
    Optimizer,
    RMSProp,
    RowNorms,
    SoftGates,
    method,
)

CONTROL = "pgd"
"""The control: the `PGD` preset on the cross-entropy, never tuned here."""
TARGETS = 9


@dataclass(frozen=True)
class AttackMethod:
    """An attack with at most one size to tune.

    Args:
        build: from the size and the case.
        sizes: that tuning tries.
        default: where nothing was tuned.
        evaluations: gradient evaluations that it takes whatever is asked for; None: what is asked for.
    """

    build: Callable[[float, AttackCase], Attack]
    sizes: tuple[float, ...] = ()
    default: float = 0.0
    evaluations: int | None = None

    def at(self, case: AttackCase, size: float | None = None) -> Attack:
        return self.build(self.default if size is None else size, case)


def single(optimizer: Optimizer, loss: Loss = "ce", a_step: int = 1, targets: int | None = None) -> Attack:
    """Run an optimiser on a loss, with ``a_step`` backwards per step, towards several target classes in turn."""

    def run(model: nn.Module, case: AttackCase, evaluations: int) -> ReturnedImages:
        steps = max(1, evaluations // (a_step * (targets or 1)))
        return staged([Stage(optimizer, loss, steps, targets=targets)], model, case)

    return run


def staged(stages: Sequence[Stage], model: nn.Module, case: AttackCase) -> ReturnedImages:
    """Run stages with `latentopt.attack`."""
    attacked = attack(
        model,
        case.x,
        case.y,
        case.eps,
        optimizer=Portfolio(tuple(stages)),
        seed=case.seed,
        batch_size=case.batch_size,
    )
    return ReturnedImages(attacked.x, attacked.backwards)


def restarted(model: nn.Module, case: AttackCase, evaluations: int) -> ReturnedImages:
    """Five random starts on the cross-entropy, then five on the DLR loss."""
    steps = max(1, evaluations // 10)
    return staged([Stage(PGD(), loss, steps, 5, "random") for loss in ("ce", "dlr")], model, case)


def portfolio(model: nn.Module, case: AttackCase, evaluations: int) -> ReturnedImages:
    """Run the default of `latentopt.attack` in full."""
    return staged(PORTFOLIO.stages, model, case)


def ungated(model: nn.Module, case: AttackCase, evaluations: int) -> ReturnedImages:
    """Run the portfolio with `PGD()` instead of soft gates."""
    return staged([replace(stage, optimizer=PGD()) for stage in PORTFOLIO.stages], model, case)


STARTS = [stage.restarts * int(stage.targets or 1) for stage in PORTFOLIO.stages]
WHOLE = sum(stage.steps * starts for stage, starts in zip(PORTFOLIO.stages, STARTS, strict=True))
"""Gradient evaluations of an image that the portfolio does not break."""


def scaled_portfolio(model: nn.Module, case: AttackCase, evaluations: int) -> ReturnedImages:
    """Run the same stages with their steps scaled to the budget."""
    steps = [max(1, stage.steps * evaluations // WHOLE) for stage in PORTFOLIO.stages]
    steps[0] = max(1, evaluations - sum(a * b for a, b in zip(steps[1:], STARTS[1:], strict=True)))  # what is left
    return staged([replace(stage, steps=n) for stage, n in zip(PORTFOLIO.stages, steps, strict=True)], model, case)


def _length(case: AttackCase) -> float:
    """The Euclidean length of a step that changes every pixel by eps."""
    return case.eps * case.x[0].numel() ** 0.5


_NAMES = ("a_x", "beta0", "a_eta", "a_beta", "r", "delta", "delta_beta", "T_p")
TABLE_2: dict[str, dict[str, Any]] = {  # of arXiv 2406.00494, untargeted attacks
    data: dict(zip(_NAMES, values, strict=True))
    for data, values in {
        "mnist": (1.0, 2.0, 0.25, 0.001, 0.1, 1e-4, 0.1, 5),
        "cifar10": (0.1, 0.5, 0.5, 0.001, 0.2, 0.001, 0.1, 5),
        "imagenet": (0.1, 0.5, 0.5, 0.001, 0.1, 0.01, 0.05, 5),
    }.items()
}
TABLE_2["random"] = TABLE_2["mnist"]
_CODE = {"beta0": 0.5, "a_eta": 0.25, "a_beta": 1e-4, "delta": 1e-5, "delta_beta": 0.01, "T_p": 4, "gamma": 1e-3}
CODE: dict[str, dict[str, Any]] = {  # of the authors' published code, by network; they differ from Table 2
    "mnist-pgd": {"a_x": 1.0, "r": 1e-3, **_CODE},
    "mnist-clean": {"a_x": 0.5, "r": 1e-4, **_CODE},
}
RESYNC = 16
PASSES = 2
"""Backwards of a step of these forms: through the network and through the surrogate."""


def paper(case: AttackCase, **changes: Any) -> ADRGD:
    """ADR-GD as printed, with the settings of Table 2."""
    return ADRGD.paper(**{**TABLE_2[case.data], "layers": case.layers, **changes})


def reference(case: AttackCase, **changes: Any) -> ADRGD:
    """ADR-GD as the authors' code attacks images, its norms estimated by probes; its noise enters eta's gradient.

    With the code's own settings where it has some for the network, else with those of Table 2.
    """
    table = CODE.get(case.network, TABLE_2[case.data])
    theirs = {**table, "r": table["a_eta"] * table["r"], "resync": RESYNC, "scale": "norm", "layers": case.layers}
    theirs["row_norms"] = RowNorms("probes", own_gate=True, floor=1.0)
    return ADRGD.reference(**{**theirs, **changes})


SHARES = (0.1, 0.3, 1.0, 3.0, 10.0)
_SOFT = (0.03, 0.1, 0.3, 1.0)
METHODS: dict[str, AttackMethod] = {
    "fgsm": AttackMethod(lambda _, c: single(method("fgsm")), evaluations=1),
    "pgd-constant": AttackMethod(lambda _, c: single(PGD(lr=0.25, momentum=0.0, schedule="constant"))),
    CONTROL: AttackMethod(lambda _, c: single(PGD())),
    "pgd-margin": AttackMethod(lambda _, c: single(PGD(), "margin")),
    "pgd-dlr": AttackMethod(lambda _, c: single(PGD(), "dlr")),
    "apgd-ce": AttackMethod(lambda _, c: single(APGD())),
    "apgd-dlr": AttackMethod(lambda _, c: single(APGD(), "dlr")),
    "apgd-t": AttackMethod(lambda _, c: single(APGD(), "dlr", targets=TARGETS)),
    "gd": AttackMethod(lambda s, c: single(GD(s * _length(c), normalize=True, schedule="cosine")), SHARES, 1.0),
    "momentum": AttackMethod(lambda s, c: single(Momentum(s * _length(c))), SHARES, 0.3),
    "adam": AttackMethod(lambda s, c: single(Adam(s * c.eps)), SHARES, 1.0),
    "adagrad": AttackMethod(lambda s, c: single(Adagrad(s * c.eps)), SHARES, 1.0),
    "rmsprop": AttackMethod(lambda s, c: single(RMSProp(s * c.eps)), SHARES, 0.3),
    "frank-wolfe": AttackMethod(lambda s, c: single(FrankWolfe(s)), (0.0, 0.5, 0.9), 0.5),
    "lbfgs": AttackMethod(lambda s, c: single(LBFGS(first=s)), SHARES, 0.3),
    "adr-gd": AttackMethod(
        lambda s, c: single(ADRGD(SoftGates(s, layers=c.layers, steps=15, share=2 / 3), PGD())), _SOFT, 0.25
    ),
    "adr-gd-soft": AttackMethod(lambda s, c: single(ADRGD(SoftGates(s, layers=c.layers), PGD())), _SOFT, 0.25),
    "adr-gd-soft-margin": AttackMethod(
        lambda s, c: single(ADRGD(SoftGates(s, layers=c.layers), PGD()), "margin"), _SOFT, 0.25
    ),
    "adr-gd-paper": AttackMethod(lambda _, c: single(paper(c), a_step=PASSES)),
    "adr-gd-reference": AttackMethod(lambda _, c: single(reference(c), a_step=PASSES)),
    "restarts": AttackMethod(lambda _, c: restarted),
    "portfolio": AttackMethod(lambda _, c: portfolio, evaluations=WHOLE),
    "portfolio-ungated": AttackMethod(lambda _, c: ungated, evaluations=WHOLE),
    "portfolio-scaled": AttackMethod(lambda _, c: scaled_portfolio),
}
"""All methods, by the name they have in the tables. Sizes are shares of eps (of a step that changes every pixel by
eps, of the methods whose steps have a Euclidean length; `FrankWolfe` a momentum, gates a softness)."""


def tuned(case: AttackCase, name: str) -> float | None:
    """Return the best size on other images (`python -m benchmarks attack --tune`); None if nothing was tuned."""
    return TUNED["attack"].get(case.data, {}).get(name)


def ablations(case: AttackCase) -> dict[str, dict[str, Attack]]:
    """Return ablations of ADR-GD: the authors' code and the printed form with each part left out or exchanged."""
    a_x, a_x_code = (table["a_x"] for table in (TABLE_2[case.data], CODE.get(case.network, TABLE_2[case.data])))
    common: dict[str, dict[str, Any]] = {
        "whole": {},
        "without norms": {"row_norms": RowNorms("none")},
        "without noise": {"r": 0.0},
    }
    theirs = {
        **common,
        "without logit normalisation": {"scale": "none"},
        "without resynchronisation": {"resync": None},
        "sum instead of max": {"reduce": "sum"},
    }
    printed = {
        **common,
        "with logit normalisation": {"scale": "norm"},
        "with resynchronisation": {"resync": RESYNC},
        "max instead of sum": {"reduce": "max"},
    }
    control = single(PGD())
    return {
        "adr-gd-reference": {
            **{name: single(reference(case, **changes), a_step=PASSES) for name, changes in theirs.items()},
            "without activation variables": single(GD(lr=a_x_code, clip=1.0), of_normalised),
            CONTROL: control,
        },
        "adr-gd-paper": {
            **{name: single(paper(case, **changes), a_step=PASSES) for name, changes in printed.items()},
            "without activation variables": single(GD(lr=a_x, normalize=True)),
            CONTROL: control,
        },
    }


def of_normalised(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy (B,) of logits (B, K) divided by their norm, as the authors' code has it."""
    return cross_entropy(logits / logits.detach().norm(dim=1, keepdim=True), labels)
