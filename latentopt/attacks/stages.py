"""What an attack does, stage by stage; each stage has only the samples that no earlier one has broken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from latentopt.classification import Loss, loss_function
from latentopt.errors import InputError, positive
from latentopt.optimizers import ADRGD, METHODS, PGD, EarlyGates, Optimizer, SoftGates, registry

StartPoint = Literal["clean", "random"]
Targets = Literal["random", "least-likely", "all"] | int


@dataclass(frozen=True)
class Stage:
    """One optimiser on one loss.

    Args:
        optimizer: or its name.
        loss: ``ce``, ``margin``, ``dlr`` or a function (`latentopt.classification.Loss`).
        steps: >= 1.
        restarts: independent starts, >= 1.
        start: of the first restart, the ``clean`` input or a ``random`` point of the set; the others are random.
        targets: of an untargeted attack: a number, >= 1, of classes that are aimed at one after the other, the most
            likely ones first, or ``all``; None: none is.
    """

    optimizer: Optimizer | str = field(default_factory=PGD)
    loss: Loss = "ce"
    steps: int = 100
    restarts: int = 1
    start: StartPoint = "clean"
    targets: Literal["all"] | int | None = None

    def __post_init__(self) -> None:
        method(self.optimizer)
        loss_function(self.loss)
        for name in ("steps", "restarts"):
            positive(name, getattr(self, name), integer=True)
        if self.start not in ("clean", "random"):
            raise InputError("start", "clean or random", repr(self.start))
        if self.targets not in (None, "all"):
            positive("targets", self.targets, integer=True)


@dataclass(frozen=True)
class Portfolio:
    """Stages in a row, the cheapest first."""

    stages: tuple[Stage, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "stages", tuple(self.stages))  # a recipe has a list
        if not self.stages:
            raise InputError("stages", "at least one", 0)


FGSM = PGD(lr=1.0, momentum=0.0, schedule="constant")
"""With one step from the clean input, the method of Goodfellow et al. 2014 (arXiv 1412.6572)."""
ATTACKS: dict[str, Callable[[], Optimizer]] = {
    **METHODS,
    "fgsm": lambda: FGSM,
    "adr-gd": lambda: ADRGD(EarlyGates(0.25), PGD()),  # the steps measured by the set, as eps may be anything
    "adr-gd-soft": lambda: ADRGD(SoftGates(), PGD()),
}


def method(optimizer: Optimizer | str) -> Optimizer:
    """The optimiser itself, or the one that a name stands for in attacks."""
    if isinstance(optimizer, str) and optimizer in ATTACKS:
        return ATTACKS[optimizer]()
    return registry.method(optimizer)
