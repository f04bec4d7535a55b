"""Preconditioned Hamiltonian or Langevin chains at several temperatures that exchange their states.

A proposal is a trajectory of leapfrog steps from a random momentum, accepted by Metropolis and Hastings' rule (Neal
2011, arXiv 1206.1901); with one leapfrog step it is the Metropolis-adjusted Langevin algorithm (Roberts and Tweedie
1996). Neighbouring temperatures exchange states in turns (Geyer 1991; the order of Syed et al. 2022, arXiv 1905.02939),
so that the chain at temperature 1 gets from mode to mode. Its target is exact in any case.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log
from typing import NamedTuple

import torch
from torch import Tensor

from latentopt.inverse.laplace import LaplaceMixture, Likelihood, times

LANGEVIN_TARGET, HAMILTONIAN_TARGET = 0.574, 0.7
"""Acceptance to which step sizes adapt: with one leapfrog step (Roberts and Rosenthal 1998), and with more."""
JITTER = 0.2
"""Greatest relative change of the step size of a Hamiltonian proposal."""
GAIN, DECAY = 0.5, 0.4
"""Speed of the adaptation, and how fast it slows down (Robbins and Monro 1951)."""


class ChainState(NamedTuple):
    """State of L levels x C chains x B samples, as rows in this order."""

    u: Tensor  # (L C B, n) standard latents
    value: Tensor  # (L C B,) negative log-likelihood
    grad: Tensor  # (L C B, n) its gradient
    log_step: Tensor  # (L, B) logarithm of the step size, float64


@dataclass(frozen=True)
class TemperedChains:
    """Chains of B posteriors at the temperatures ``1 / beta``.

    Args:
        likelihood: of L C B rows, level by level and chain by chain.
        betas: inverse temperatures of the L levels, falling from 1.
        chains: number C of chains at each level.
        leapfrogs: leapfrog steps of a proposal, >= 1; each is a forward and a backward.
        roots: (L, B, n, n) roots of the covariances that precondition the proposals.
        warmup: steps in which step sizes adapt.
    """

    likelihood: Likelihood
    betas: Sequence[float]
    chains: int
    leapfrogs: int
    roots: Tensor
    warmup: int

    @classmethod
    def around(
        cls,
        likelihood: Likelihood,
        mixture: LaplaceMixture,
        betas: Sequence[float],
        chains: int,
        leapfrogs: int,
        warmup: int,
    ) -> tuple[TemperedChains, ChainState]:
        """Return chains that start at draws from a mixture, preconditioned by its heaviest mode's covariance."""
        noise, like, (batch, n) = likelihood.batch.noise, likelihood.batch.like, mixture.u.shape[1:]
        shape = (len(betas), chains, batch)
        normal = noise.normal(like.new_empty(len(likelihood.batch), n), "mixture").unflatten(0, shape)
        uniform = noise.uniform(like.new_empty(len(likelihood.batch)), "mode").unflatten(0, shape)
        starts, roots = list[Tensor](), list[Tensor]()
        for level, beta in enumerate(betas):
            starts += [mixture.draw(normal[level, c], uniform[level, c], beta) for c in range(chains)]
            roots.append(mixture.root(beta, mixture.weight(beta).argmax(0)))
        return cls.starting(
            likelihood, torch.cat(starts).to(like), betas, chains, leapfrogs, torch.stack(roots), warmup
        )

    @classmethod
    def starting(
        cls,
        likelihood: Likelihood,
        u: Tensor,
        betas: Sequence[float],
        chains: int,
        leapfrogs: int,
        roots: Tensor,
        warmup: int,
    ) -> tuple[TemperedChains, ChainState]:
        """Return chains that start at standard latents (L C B, n)."""
        log_step = -log(u.shape[1]) / (6 if leapfrogs == 1 else 4)
        steps = torch.full(roots.shape[:2], log_step, dtype=torch.float64, device=u.device)
        state = ChainState(u, *likelihood.gradient(u), steps)
        return cls(likelihood, betas, chains, leapfrogs, roots.to(u), warmup), state

    def step(self, t: int, state: ChainState) -> tuple[ChainState, Tensor]:
        """Take the step ``t``: a proposal of each chain, and exchanges; return the acceptance (L, B) too."""
        state, probability = self._proposed(t, state)
        acceptance = probability.unflatten(0, (len(self.betas), self.chains, -1)).mean(1)
        if t < self.warmup:
            target = LANGEVIN_TARGET if self.leapfrogs == 1 else HAMILTONIAN_TARGET
            log_step = state.log_step + GAIN / (1 + t) ** DECAY * (acceptance.double() - target)
            state = state._replace(log_step=log_step)
        return self._exchanged(t, state), acceptance

    def cold(self, state: ChainState) -> Tensor:
        """Return the standard latents (C, B, n) at temperature 1."""
        return state.u.unflatten(0, (len(self.betas), self.chains, -1))[0]

    def _proposed(self, t: int, state: ChainState) -> tuple[ChainState, Tensor]:
        """Return the state after a proposal, and the probabilities (L C B,) with which they were accepted."""
        noise, (u, value, grad, log_step) = self.likelihood.batch.noise, state
        roots = self.roots[:, None].expand(-1, self.chains, *self.roots.shape[1:]).flatten(0, 2)
        beta = self._rows(log_step.new_tensor(self.betas)[:, None].expand_as(log_step)).to(u)
        h = self._rows(log_step.exp()).to(u)[:, None]
        if self.leapfrogs > 1:  # no trajectory comes back to its start each time (Neal 2011, section 3.2)
            h = h * (1 - JITTER + 2 * JITTER * noise.uniform(value, "jitter", t)[:, None])

        def half_step(p: Tensor, v: Tensor, grad: Tensor) -> Tensor:
            return p - h / 2 * times(roots.mT, beta[:, None] * grad + v)

        first = noise.normal(u, "momentum", t)
        p, v, new_value, new_grad = first, u, value, grad
        for _ in range(self.leapfrogs):
            p = half_step(p, v, new_grad)
            v = v + h * times(roots, p)
            new_value, new_grad = self.likelihood.gradient(v)
            p = half_step(p, v, new_grad)
        before, after = _energy(beta * value, u, first), _energy(beta * new_value, v, p)
        probability = (before - after).clamp_max(0).exp().nan_to_num(0.0).to(u)
        accepted = noise.uniform(value, "accept", t) < probability
        rows = accepted[:, None]
        u, grad = torch.where(rows, v, u), torch.where(rows, new_grad, grad)
        return ChainState(u, torch.where(accepted, new_value, value), grad, log_step), probability

    def _exchanged(self, t: int, state: ChainState) -> ChainState:
        """Return the state after exchanges of neighbouring levels, even and odd pairs in turn."""
        levels = len(self.betas)
        lower = torch.tensor(range(t % 2, levels - 1, 2), device=state.u.device)
        if not len(lower):
            return state
        value = state.value.double().unflatten(0, (levels, -1))
        beta = value.new_tensor(self.betas)[:, None]
        gain = (beta[lower] - beta[lower + 1]) * (value[lower] - value[lower + 1])
        uniform = self.likelihood.batch.noise.uniform(state.value, "exchange", t).unflatten(0, (levels, -1))
        swap = uniform[lower].double().log() < gain
        source = torch.arange(len(state.u), device=lower.device).unflatten(0, (levels, -1)).clone()
        low, high = source[lower], source[lower + 1]
        source[lower], source[lower + 1] = torch.where(swap, high, low), torch.where(swap, low, high)
        source = source.flatten()
        return state._replace(u=state.u[source], value=state.value[source], grad=state.grad[source])

    def _rows(self, values: Tensor) -> Tensor:
        """Return values (L, B) of each row (L C B,)."""
        return values[:, None].expand(-1, self.chains, -1).flatten()


def _energy(value: Tensor, u: Tensor, p: Tensor) -> Tensor:
    return value.double() + (u.double().square().sum(1) + p.double().square().sum(1)) / 2
