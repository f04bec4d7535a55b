"""Attacks on policies of the comparison, with the sizes tried in tuning, at one counted cost."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import nn

from latentopt.classification import LossName
from latentopt.networks.classifier import Classifier
from latentopt.optimizers import ADRGD, APGD, PGD, Optimizer, RowNorms, SoftGates
from latentopt.rl.attack_policy import attack_policy

CONTROL = "pgd"


@dataclass(frozen=True)
class SizedAttack:
    """A method with one size."""

    optimizer: Optimizer
    loss: LossName = "ce"

    def settings(self, evaluations: int) -> dict[str, Any]:
        """Arguments of `attack_policy`, with as many steps as fit into ``evaluations``, evaluations included."""
        return {"optimizer": self.optimizer, "loss": self.loss, "steps": affordable(self, evaluations)}


TABLE_2 = {"beta0": 0.5, "a_eta": 0.25, "a_beta": 0.001, "r": 0.01, "delta": 1e-4, "delta_beta": 0.1, "T_p": 10}
"""Settings of arXiv 2406.00494 for attacks on policies, where a_x is .4."""
STEPS, TAUS, LENGTHS = (0.25, 0.5, 1.0, 2.0), (0.1, 0.3, 1.0), (0.4, 1.0, 3.0, 10.0)


def _reference(a_x: float) -> ADRGD:
    theirs = {**TABLE_2, "r": TABLE_2["a_eta"] * TABLE_2["r"], "resync": 16, "scale": "norm"}
    return ADRGD.reference(a_x, **theirs, row_norms=RowNorms("probes", own_gate=True, floor=1.0))


METHODS: dict[str, dict[str, SizedAttack]] = {
    CONTROL: {f"{lr:g}, {loss}": SizedAttack(PGD(lr), loss) for lr in STEPS for loss in ("ce", "margin")},
    "apgd": {loss: SizedAttack(APGD(), loss) for loss in ("ce", "margin", "dlr")},
    "adr-gd": {
        f"{tau:g}, {lr:g}, {loss}": SizedAttack(ADRGD(SoftGates(tau), PGD(lr)), loss)
        for tau in TAUS
        for lr in (0.5, 1.0)
        for loss in ("ce", "margin")
    },
    "adr-gd-paper": {
        f"{a_x:g}, {loss}": SizedAttack(ADRGD.paper(a_x, **TABLE_2), loss)
        for a_x in LENGTHS
        for loss in ("ce", "margin")
    },
    "adr-gd-reference": {
        f"{a_x:g}, {loss}": SizedAttack(_reference(a_x), loss) for a_x in LENGTHS for loss in ("ce", "margin")
    },
}
"""By method and size: first step in radii and loss of PGD, also softness for ADR-GD; a_x and loss of the others."""


def chosen_form(method: str, tuned: Mapping[str, str]) -> tuple[str, SizedAttack]:
    """Return the best size on other states (or the first), and the method with it."""
    size = tuned.get(method, next(iter(METHODS[method])))
    return size, METHODS[method][size]


@cache
def affordable(form: SizedAttack, evaluations: int) -> int:
    """Return the greatest number of steps, at least 1, whose counted cost is within ``evaluations``."""
    policy = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)))
    states = torch.full((1, 4), 0.5)

    def cost(steps: int) -> int:
        attacked = attack_policy(policy, states, 0.0, optimizer=form.optimizer, loss=form.loss, steps=steps)
        return int(attacked.forwards[0] + attacked.backwards[0])

    return bisect_right(range(2, evaluations // 2), evaluations, key=cost) + 1
