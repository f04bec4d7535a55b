"""CMA-ES, covariance matrix adaptation (Hansen 2016, arXiv 1604.00772), for each sample by itself."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from latentopt.arguments import checked
from latentopt.batch_math import where_rows
from latentopt.errors import InputError, nonnegative, positive
from latentopt.optimizers.base import Cost, Optimizer, Step
from latentopt.optimizers.candidates import evaluate_candidates
from latentopt.optimizers.lbfgs import LBFGS
from latentopt.problem import Batch, Evaluation
from latentopt.sets import BoxAndBall, FeasibleSet, Free, L1Ball, L2Ball, Sphere

Covariance = Literal["auto", "full", "diagonal"]
_DESCENT = LBFGS(memory=10)
LARGEST_FULL = 512
"""Dimension above which ``auto`` adapts the diagonal alone."""


class CMAESState(NamedTuple):
    t: int  # steps done
    mean: Tensor  # (B, n) of the candidates; all points of the search are in the coordinates of `_encoded`
    sigma: Tensor  # (B,) step size, in units of `_unit`
    C: Tensor  # (B, n, n) covariance of the steps, or its diagonal (B, n)
    root: Tensor  # like C, its symmetric square root when it was last computed
    p_sigma: Tensor  # (B, n) evolution path of sigma
    p_c: Tensor  # (B, n) evolution path of C


class LearningRates(NamedTuple):
    """Parameters set by the dimension and the population (Table 1)."""

    weights: list[float]  # of the candidates, best first
    mu_eff: float
    c_sigma: float
    d_sigma: float
    c_c: float
    c_1: float
    c_mu: float
    every: int  # steps between two square roots


@checked
@dataclass(frozen=True)
class CMAES(Optimizer):
    """CMA-ES: the better half of normal candidates moves their mean and shapes their covariance.

    It needs no gradient. Each step evaluates the iterate, which is the best point so far, and the population in one
    batch: ``population + 1`` forwards. The update is that of the tutorial, with negative weights.

    A bounded set is searched through ``x = project(middle + half sin(v))``, with middle and half the width of the
    smallest box around the set: v is free, and an optimum on a bound is smooth in v. Of equal values the first counts.

    Args:
        sigma: first standard deviation of the candidates, > 0, in units of the set's radius: in a box or an
            l-infinity ball of each coordinate, else of their norm.
        population: candidates a step, >= 2; None: ``4 + floor(3 ln n)`` in n dimensions.
        covariance: "full", or "diagonal" (Ros and Hansen 2008), which learns faster what has no correlations and costs
            n instead of n^3 a step; "auto": full up to 512 dimensions.
        refine: gradient steps, >= 0, that each candidate takes (`LBFGS`) before it is ranked: BasinCMA (Wampler and
            Popovic 2009; for generators Huh et al. 2020, arXiv 2005.01703). A step then costs ``population + 1`` times
            ``refine + 1`` forwards and ``refine`` backwards. The distribution learns where candidates in good basins
            were drawn.

    Raises:
        InputError: (from `init`) the set is open, but not the whole space.
    """

    sigma: float = 0.5
    population: int | None = None
    covariance: Covariance = "auto"
    refine: int = 0

    def __post_init__(self) -> None:
        positive("CMAES.sigma", self.sigma)
        if self.population is not None:
            positive("CMAES.population", self.population, integer=True)
            if self.population < 2:
                raise InputError("CMAES.population", "an integer >= 2, or None", self.population)
        if self.covariance not in get_args(Covariance):
            raise InputError("CMAES.covariance", f"one of {', '.join(get_args(Covariance))}", self.covariance)
        nonnegative("CMAES.refine", self.refine, integer=True)

    @property
    def gradient_free(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """True if candidates do not descend."""
        return not self.refine

    def init(self, batch: Batch, x: Tensor) -> CMAESState:
        mean = _encoded(batch.feasible, x).to(torch.promote_types(x.dtype, torch.float32))
        ones, path = torch.ones_like(mean), torch.zeros_like(mean)
        C = torch.diag_embed(ones) if self._full(mean.shape[1]) else ones
        return CMAESState(0, mean, mean.new_full((len(x),), self.sigma), C, C, path, path)

    def step(self, batch: Batch, x: Tensor, state: CMAESState) -> Step:
        n = x[0].numel()
        rates = rates_of(n, self.population, self._full(n))
        count = len(rates.weights)
        z = batch.noise.normal(state.mean.new_empty(len(x), count, n), "cma-es", state.t)
        y = _times(state.root, z)
        width = state.sigma[:, None] * _unit(batch.feasible, x)
        v = state.mean[:, None] + width[:, None] * y

        drawn = _decoded(batch.feasible, v.transpose(0, 1).reshape(count, *x.shape), x)
        candidates = evaluate_candidates(batch, x, drawn, self._refine)

        order = candidates.values.T.argsort(dim=1, stable=True)[:, :, None].expand_as(z)
        state = _adapted(state, rates, z.gather(1, order), y.gather(1, order), width)
        cost = Cost((1 + count) * (1 + self.refine), (1 + count) * self.refine)
        return Step(candidates.best, state, candidates.evaluation, cost, {"sigma": state.sigma})

    def _refine(self, batch: Batch, points: Tensor) -> tuple[Evaluation | None, Tensor]:
        """Evaluate the points (rows, *shape), and find the best points of a short descent from each."""
        first, x, state = None, points, _DESCENT.init(batch, points)
        best = points.new_full((len(points),), torch.inf, dtype=torch.promote_types(points.dtype, torch.float32))
        for _ in range(self.refine):
            step = _DESCENT.step(batch, x, state)
            first = first or step.evaluation
            better = step.evaluation.value < best
            points, best = where_rows(better, x, points), torch.where(better, step.evaluation.value, best)
            x, state = step.x, step.state
        return first, points

    def _full(self, n: int) -> bool:
        return n <= LARGEST_FULL if self.covariance == "auto" else self.covariance == "full"


def _adapted(state: CMAESState, rates: LearningRates, z: Tensor, y: Tensor, width: Tensor) -> CMAESState:
    """Return the next distribution, from the steps ``y = root z`` (B, population, n), best first."""
    weights, mu_eff, c_sigma, d_sigma, c_c, c_1, c_mu, every = rates
    n, t = z.shape[2], state.t + 1
    w = torch.tensor(weights, dtype=z.dtype, device=z.device)
    up = w.clamp_min(0)[:, None]
    z_mean, y_mean = (up * z).sum(1), (up * y).sum(1)

    p_sigma = (1 - c_sigma) * state.p_sigma + math.sqrt(c_sigma * (2 - c_sigma) * mu_eff) * z_mean  # eq. 43
    expected = math.sqrt(2) * math.exp(math.lgamma((n + 1) / 2) - math.lgamma(n / 2))
    length = p_sigma.norm(dim=1) / expected
    sigma = state.sigma * torch.exp((c_sigma / d_sigma * (length - 1)).clamp_max(1.0))  # eq. 44

    h = (length < (1.4 + 2 / (n + 1)) * math.sqrt(1 - (1 - c_sigma) ** (2 * t))).to(z.dtype)[:, None]
    p_c = (1 - c_c) * state.p_c + h * math.sqrt(c_c * (2 - c_c) * mu_eff) * y_mean  # eq. 45
    w = torch.where(w >= 0, w, w * n / z.square().sum(2).clamp_min(torch.finfo(z.dtype).tiny))  # eq. 46
    keep = 1 - c_1 - c_mu * sum(weights) + c_1 * (1 - h) * c_c * (2 - c_c)
    if state.C.ndim == 3:
        C = keep[:, :, None] * state.C + c_1 * p_c[:, :, None] * p_c[:, None]
        C = C + c_mu * (w[..., None] * y).transpose(1, 2) @ y  # eq. 47
    else:
        C = keep * state.C + c_1 * p_c.square() + c_mu * (w[..., None] * y.square()).sum(1)
    root = _root(C) if t % every == 0 else state.root
    return CMAESState(t, state.mean + width * y_mean, sigma, C, root, p_sigma, p_c)


def _root(C: Tensor) -> Tensor:
    """Return the symmetric square root; unlike the eigenvectors, it is continuous in C."""
    if C.ndim == 2:
        return C.clamp_min(0).sqrt()
    values, vectors = torch.linalg.eigh((C + C.transpose(1, 2)) / 2)
    values = torch.maximum(values, torch.finfo(C.dtype).eps * values[:, -1:])
    return (vectors * values.sqrt()[:, None]) @ vectors.transpose(1, 2)


def _times(root: Tensor, z: Tensor) -> Tensor:
    return z @ root if root.ndim == 3 else z * root[:, None]


def rates_of(n: int, population: int | None, full: bool) -> LearningRates:
    """Return the parameters of the update in n dimensions, with a full or a diagonal covariance."""
    count = population or 4 + int(3 * math.log(n))
    raw = [math.log((count + 1) / 2) - math.log(i) for i in range(1, count + 1)]  # eq. 49
    up, down = raw[: count // 2], raw[count // 2 :]
    mu_eff = sum(up) ** 2 / sum(w * w for w in up)
    c_sigma = (mu_eff + 2) / (n + mu_eff + 5)
    d_sigma = 1 + 2 * max(0.0, math.sqrt((mu_eff - 1) / (n + 1)) - 1) + c_sigma
    c_c = (4 + mu_eff / n) / (n + 4 + 2 * mu_eff / n)
    faster = 1.0 if full else (n + 2) / 3
    c_1 = min(1.0, faster * 2 / ((n + 1.3) ** 2 + mu_eff))
    c_mu = min(1 - c_1, faster * 2 * (0.25 + mu_eff + 1 / mu_eff - 2) / ((n + 2) ** 2 + mu_eff))
    mu_down = sum(down) ** 2 / sum(w * w for w in down)
    limit = min(1 + c_1 / c_mu, 1 + 2 * mu_down / (mu_eff + 2), (1 - c_1 - c_mu) / (n * c_mu))  # eqs. 50-52
    weights = [w / sum(up) for w in up] + [limit * w / -sum(down) for w in down]
    return LearningRates(weights, mu_eff, c_sigma, d_sigma, c_c, c_1, c_mu, max(1, int(1 / (10 * n * (c_1 + c_mu)))))


def _unit(feasible: FeasibleSet, x: Tensor) -> float | Tensor:
    """Return the standard deviation of a search coordinate for which steps are as long as the set's radius."""
    if isinstance(feasible, Free | Sphere):
        return feasible.radius(x) / x[0].numel() ** 0.5
    return 1.0 if feasible.norm == "linf" else x[0].numel() ** -0.5


def _encoded(feasible: FeasibleSet, x: Tensor) -> Tensor:
    """Return the search coordinates (B, n) of a point (B, *shape) of the set."""
    if isinstance(feasible, Free | Sphere):
        return x.flatten(1)
    middle, half = _hull(feasible, x)
    return torch.asin(((x - middle) / half.clamp_min(torch.finfo(x.dtype).tiny)).clamp(-1, 1)).flatten(1)


def _decoded(feasible: FeasibleSet, v: Tensor, x: Tensor) -> Tensor:
    """Return the inputs, up to projection, of search coordinates (population, B, *shape)."""
    if isinstance(feasible, Free | Sphere):
        return v
    middle, half = _hull(feasible, x)
    return middle + half * v.sin()


def _hull(feasible: FeasibleSet, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return middle and half width of a box around the set, the smallest unless a ball cuts off corners."""
    if feasible.norm == "linf":
        low, high = feasible.lmo(torch.ones_like(x)), feasible.lmo(-torch.ones_like(x))
    else:
        ball = feasible.ball if isinstance(feasible, BoxAndBall) else feasible
        assert isinstance(ball, L1Ball | L2Ball)
        low, high = ((ball.center + side * ball.radius(x)).expand_as(x) for side in (-1, 1))
        if isinstance(feasible, BoxAndBall):
            low, high = feasible.box.project(low), feasible.box.project(high)
    return (low + high) / 2, (high - low) / 2
