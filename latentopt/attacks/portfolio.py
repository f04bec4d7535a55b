"""The attack that is made when none is asked for."""

from __future__ import annotations

from latentopt.attacks.stages import Portfolio, Stage
from latentopt.optimizers import ADRGD, PGD, SoftGates

SOFT, SOFTER = ADRGD(SoftGates(0.25), PGD()), ADRGD(SoftGates(0.5), PGD())
PORTFOLIO = Portfolio(
    (
        Stage(PGD(), "ce", steps=20),
        Stage(SOFTER, "ce", steps=100),
        Stage(SOFTER, "ce", steps=100, restarts=2, start="random"),
        Stage(SOFT, "margin", steps=50, targets=4),
        Stage(PGD(), "dlr", steps=30, start="random", targets=9),
    )
)
"""790 gradients of a sample that resists to the end (of ten classes or more). Chosen on images and radii of robust
networks that the benchmark does not use; a network without piecewise-linear activations is attacked without the soft
gates."""
