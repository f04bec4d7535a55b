"""Stages of an attack and the portfolio of stages that is its default.

Each stage gets only the samples on which no earlier stage has succeeded.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import Literal

from latentopt.classification import Loss, loss_function
from latentopt.errors import InputError, positive
from latentopt.optimizers import ADRGD, PGD, Optimizer, SoftGates, registry
from latentopt.sets import Box

StartPoint = Literal["clean", "random"]
Targets = Literal["random", "least-likely", "all"] | int


@dataclass(frozen=True)
class Stage:
    """One optimiser on one loss.

    Args:
        optimizer: a method, or its registered name.
        loss: ``ce``, ``margin``, ``dlr``, or a function (`latentopt.classification.Loss`).
        steps: steps of each restart, >= 1.
        restarts: independent starts, >= 1.
        start: the ``clean`` input or a ``random`` point of the set, for the first restart; the others are random.
        targets: number of classes, >= 1, that an untargeted attack aims at one after the other, the likeliest first;
            ``all`` of them; or None: it aims at none.

    Raises:
        InputError: an argument is not as described.
    """

    optimizer: Optimizer | str = field(default_factory=PGD)
    loss: Loss = "ce"
    steps: int = 100
    restarts: int = 1
    start: StartPoint = "clean"
    targets: Literal["all"] | int | None = None

    def __post_init__(self) -> None:
        if self.optimizer == "adr-gd-soft":
            new = "adr-gd-soft-attack"
            warnings.warn(f"adr-gd-soft in an attack is deprecated: use {new}", DeprecationWarning, stacklevel=4)
            object.__setattr__(self, "optimizer", new)
        registry.method(self.optimizer)
        loss_function(self.loss)
        for name in ("steps", "restarts"):
            positive(name, getattr(self, name), integer=True)
        if self.start not in ("clean", "random"):
            raise InputError("start", "clean or random", repr(self.start))
        if self.targets not in (None, "all"):
            positive("targets", self.targets, integer=True)

    @property
    def method(self) -> Optimizer:
        """The optimiser, or the one that its name stands for in a bounded set."""
        return registry.method(self.optimizer, Box(0.0, 1.0))


@dataclass(frozen=True)
class Portfolio:
    """Several stages, the cheapest first.

    Args:
        stages: one `Stage` or more.
        gradient_free: a last stage for samples without a success whose gradients were exactly zero in all stages, as
            behind a rounding of inputs; None: none.

    Raises:
        InputError: there is no stage.
    """

    stages: tuple[Stage, ...]
    gradient_free: Stage | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "stages", tuple(self.stages))  # a recipe has a list
        if not self.stages:
            raise InputError("stages", "at least one", 0)


_SOFT, _SOFTER = ADRGD(SoftGates(0.25), PGD()), ADRGD(SoftGates(0.5), PGD())
PORTFOLIO = Portfolio(
    (
        Stage(PGD(), "ce", steps=20),
        Stage(_SOFTER, "ce", steps=100),
        Stage(_SOFTER, "ce", steps=100, restarts=2, start="random"),
        Stage(_SOFT, "margin", steps=50, targets=4),
        Stage(PGD(), "dlr", steps=30, start="random", targets=9),
    ),
    gradient_free=Stage("square", "margin", steps=1000),
)
"""The default attack: 790 gradients of a sample that resists to the end (with ten classes or more).

A sample all of whose gradients are exactly zero is searched by 1000 forwards of Square too.

Chosen on images and radii of robust networks that the benchmark does not use. A network without piecewise-linear
activations is attacked without soft gates."""
