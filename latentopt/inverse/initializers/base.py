"""What finds starts, and what it has learnt."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from latentopt.batch_math import per_sample
from latentopt.inverse.problem import Reconstruction
from latentopt.networks.generator import Generator
from latentopt.noise import Noise

POOL_SEED = 1_000_003
"""Added to the seed, so that a pool is not what a test drew as its targets."""


class FittedInitializer(ABC):
    """What a `Initializer` has learnt of a generator and an operator."""

    forwards: int
    """Of the generator, to learn it, in all; the same where it was read from a file in which an earlier job left it."""

    @abstractmethod
    def __call__(self, problem: Reconstruction, restarts: int, seed: int, wider: float = 1.0) -> Tensor:
        """Starts (k, B, *latent_shape), k <= restarts, not projected.

        ``wider`` > 1, in a further round, multiplies how far the starts of a sample lie from each other.
        """


class Initializer(ABC):
    """A way to find starts."""

    @abstractmethod
    def fit(self, generator: Generator, operator: Callable[[Tensor], Tensor], seed: int) -> FittedInitializer:
        """What is needed to start any number of targets."""

    def fit_each(
        self, generator: Generator, operators: Sequence[Callable[[Tensor], Tensor]], seed: int
    ) -> Sequence[FittedInitializer]:
        """The same for each of several operators; a start that can share its forwards among them overrides it."""
        return [self.fit(generator, operator, seed) for operator in operators]

    def restored(self, tensors: dict[str, Tensor]) -> FittedInitializer | None:
        """The guess whose tensors these are; None: they are not, or this start learns too little to keep it."""
        return None

    def check(self, generator: Generator, operator: Callable[[Tensor], Tensor]) -> None:  # noqa: B027
        """Raise `InputError` where the start cannot be used with these; the others can."""


def around(centre: Tensor, noise: float | Tensor, seed: int, first: bool) -> Tensor:
    """Points around ``centre`` (k, B, *shape), a restart's samples with one noise; ``first``: the first with none.

    ``noise``: its standard deviation, a number or (*shape).
    """
    rows = torch.arange(len(centre), device=centre.device)
    drawn = noise * Noise(seed, rows).normal(centre[:, 0], "start")
    return centre + (drawn * per_sample((rows > 0).to(drawn), drawn) if first else drawn)[:, None]
