"""The cross-entropy method (Rubinstein 1999; de Boer et al. 2005, doi:10.1007/s10479-005-5724-z), sample by sample."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from latentopt.arguments import checked
from latentopt.errors import InputError, positive, within
from latentopt.optimizers.base import Optimizer, Step, check_fraction
from latentopt.optimizers.candidates import evaluate_candidates
from latentopt.problem import Batch


class CEMState(NamedTuple):
    t: int  # steps done
    mean: Tensor  # (B, *shape) of the candidates
    std: Tensor  # (B, *shape) their standard deviation


@checked
@dataclass(frozen=True)
class CEM(Optimizer):
    """The cross-entropy method: the best of normal candidates set the next mean and deviation by coordinate.

    It needs no gradient. Each step evaluates the iterate, which is the best point so far, and the population in one
    batch: ``population + 1`` forwards. Candidates outside the set are projected onto it.

    Args:
        population: candidates a step, >= 2.
        elite: share of them that sets the next distribution, in (0, 1]; at least two.
        sigma: first standard deviation, > 0, in units of the set's radius.
        smoothing: weight of the last mean and deviation, in [0, 1).
    """

    population: int = 64
    elite: float = 0.1
    sigma: float = 0.5
    smoothing: float = 0.1
    gradient_free = True

    def __post_init__(self) -> None:
        positive("CEM.population", self.population, integer=True)
        if self.population < 2:
            raise InputError("CEM.population", "an integer >= 2", self.population)
        within("CEM.elite", self.elite, 0, 1, "(]")
        positive("CEM.sigma", self.sigma)
        check_fraction("CEM.smoothing", self.smoothing)

    def init(self, batch: Batch, x: Tensor) -> CEMState:
        width = self.sigma * batch.feasible.radius(x)
        if batch.feasible.norm == "l2":  # the radius is then a norm, not a coordinate's
            width = width / x[0].numel() ** 0.5
        return CEMState(0, x, width.expand_as(x))

    def step(self, batch: Batch, x: Tensor, state: CEMState) -> Step:
        normal = batch.noise.normal(x[:, None].expand(-1, self.population, *x.shape[1:]), "cem", state.t)
        candidates = evaluate_candidates(batch, x, state.mean + state.std * normal.transpose(0, 1))
        count = max(2, round(self.elite * self.population))
        order = candidates.values.argsort(dim=0, stable=True)[:count]
        elite = candidates.points.gather(0, order.reshape(*order.shape, *[1] * (x.ndim - 1)).expand(count, *x.shape))
        mean = elite.mean(0).lerp(state.mean, self.smoothing)
        std = elite.std(0, correction=0).lerp(state.std, self.smoothing)
        return Step(candidates.best, CEMState(state.t + 1, mean, std), candidates.evaluation, candidates.cost)
