"""Initializers: where a reconstruction starts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from latentopt.batch_math import per_sample
from latentopt.inverse.problem import Reconstruction
from latentopt.networks.generator import Generator
from latentopt.noise import Noise

POOL_SEED = 1_000_003
"""Added to the seed, so that a pool differs from targets drawn with the seed."""


class FittedInitializer(ABC):
    """An initializer fitted to a generator and an operator, for any targets."""

    forwards: int
    """Forwards of the generator that the fit cost, also where it was read from a file."""

    @abstractmethod
    def __call__(self, problem: Reconstruction, restarts: int, seed: int, spread: float = 1.0) -> Tensor:
        """Return start latents of a problem, not projected.

        Args:
            problem: the problem, of B targets.
            restarts: greatest number of starts of each target.
            seed: seed of random numbers.
            spread: factor of the distances between the starts of a target; above 1 when it is tried again.

        Returns:
            Starts (k, B, *latent_shape), k <= restarts.
        """


class Initializer(ABC):
    """A way to choose the starts of a reconstruction."""

    @abstractmethod
    def fit(self, generator: Generator, operator: Callable[[Tensor], Tensor], seed: int) -> FittedInitializer:
        """Return the initializer, fitted to a generator and an operator.

        Args:
            generator: with one condition for all samples, or none.
            operator: the same for all samples.
            seed: seed of random numbers.
        """

    def fit_each(
        self, generator: Generator, operators: Sequence[Callable[[Tensor], Tensor]], seed: int
    ) -> Sequence[FittedInitializer]:
        """Return the initializer fitted to each of several operators, which may share forwards."""
        return [self.fit(generator, operator, seed) for operator in operators]

    def restore(self, tensors: dict[str, Tensor]) -> FittedInitializer | None:
        """Return the fitted initializer that has these tensors; None: they belong to another one."""
        return None

    def check(self, generator: Generator, operator: Callable[[Tensor], Tensor]) -> None:  # noqa: B027
        """Raise `InputError` where the initializer does not go with a generator and an operator."""


def scatter(centre: Tensor, noise: float | Tensor, seed: int, keep_first: bool) -> Tensor:
    """Return points around ``centre`` (k, B, *shape), with the same noise for all samples of a restart.

    ``noise`` is its standard deviation, a number or (*shape). With ``keep_first`` the first restart has none.
    """
    rows = torch.arange(len(centre), device=centre.device)
    drawn = noise * Noise(seed, rows).normal(centre[:, 0], "start")
    return centre + (drawn * per_sample((rows > 0).to(drawn), drawn) if keep_first else drawn)[:, None]


@dataclass(frozen=True)
class DistinctStarts(FittedInitializer):
    """A fitted initializer whose starts differ between the targets of a batch, equal ones too.

    Those of target b are the ones that it would have, alone, after the first ``b * restarts``.
    """

    fitted: FittedInitializer  # draws more starts for later targets
    forwards: int = 0  # beside those of `fitted`

    def __call__(self, problem: Reconstruction, restarts: int, seed: int, spread: float = 1.0) -> Tensor:
        own = list[Tensor]()
        for sample in range(problem.batch):
            part, before = problem.take(torch.tensor([sample], device="cpu")), sample * restarts
            own.append(self.fitted(part, before + restarts, seed, spread)[before:, 0])
        count = min(map(len, own))  # an initializer may have fewer
        return torch.stack([starts[:count] for starts in own], 1)
