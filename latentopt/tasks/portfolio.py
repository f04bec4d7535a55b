"""The attack that is tried when none is asked for."""

from __future__ import annotations

from latentopt.optimizers import PGD
from latentopt.tasks.stages import Portfolio, Stage

PORTFOLIO = Portfolio(
    (
        Stage(PGD(), "ce", steps=20),
        Stage(PGD(), "margin", steps=100, restarts=2),
        Stage(PGD(), "dlr", steps=50, targets=9),
    )
)
