"""Soft gates in the early layers, until a sample stalls: ADR-GD's activation variables where they choose the basin."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from latentopt.errors import InputError, positive
from latentopt.gates import OnGates, require_gates
from latentopt.optimizers.base import Cost
from latentopt.optimizers.gates import Gates, Look, check_layers
from latentopt.problem import Problem
from latentopt.rows import as_rows


class EarlyState(NamedTuple):
    sites: int  # of the network; 0 before the first look
    soft: Tensor  # (B,) bool, whose gates are soft
    value: Tensor  # (B,) least objective since the start; inf before the first look
    x: Tensor  # (B, *shape) where
    bar: Tensor  # (B,) what the objective is to fall below
    since: Tensor  # (B,) long, looks since it last did


@dataclass(frozen=True)
class EarlyGates(Gates):
    """Gates tied to the activation pattern, softly, in the early layers; each sample's own from where it stalls on.

    As `SoftGates`, the network is evaluated as it is, and only the gradient passes through ``sigmoid(z / (tau rms))``,
    so that a closed neuron near its border still tells what opening it would bring. Early layers alone, because they
    decide which basin an image of a generator is sought in, while late ones draw its details: soft there, they
    mislead. A sample that stalls goes back to its best point, its gates become the network's own, and its descent
    starts afresh. A step costs what a plain gradient costs; the first a forward more, which counts the layers.

    Args:
        tau: softness, > 0, in units of the root mean square of a layer's pre-activations.
        share: of the network's activation layers, in (0, 1], that are early: rounded down, but at least one.
        stall: looks without a gain, >= 1, after which a sample has stalled.
        gain: what counts as one: a fall by more than this share of the objective, in [0, 1).
        layers: sites that are softened, instead of ``share`` (`latentopt.gates.sites` lists them).
    """

    tau: float = 1.0
    share: float = 2 / 3
    stall: int = 5
    gain: float = 0.03
    layers: Sequence[int] | None = None

    def __post_init__(self) -> None:
        positive("EarlyGates.tau", self.tau)
        positive("EarlyGates.stall", self.stall, integer=True)
        if not 0 < self.share <= 1:
            raise InputError("EarlyGates.share", "a number in (0, 1]", self.share)
        if not 0 <= self.gain < 1:
            raise InputError("EarlyGates.gain", "a number in [0, 1)", self.gain)
        check_layers("EarlyGates.layers", self.layers)

    def init(self, problem: Problem, x: Tensor) -> EarlyState:
        inf = torch.full((len(x),), torch.inf, dtype=torch.promote_types(x.dtype, torch.float32), device=x.device)
        return EarlyState(0, inf.bool(), inf, x, inf, torch.zeros_like(inf, dtype=torch.long))

    def look(self, problem: Problem, x: Tensor, state: EarlyState) -> Look:
        sites = state.sites or _count_sites(problem, x)
        cost = Cost(1, 1) if state.sites else Cost(2, 1)
        if not bool(state.soft.any()):
            here, grad = problem.gradient(x)
            return Look(here, grad, state._replace(sites=sites), cost, {})
        layers = self.layers or range(max(1, int(self.share * sites + 1e-9)))
        here, grad = problem.soft_gradient(x, self.tau * state.soft.to(x), tuple(layers))
        value = here.value.to(state.value)
        lower, gained = value < state.value, value < state.bar
        since = torch.where(gained, 0, state.since + 1)
        ended = state.soft & (since >= self.stall)
        best = torch.where(as_rows(lower, x), x, state.x)
        state = EarlyState(
            sites,
            state.soft & ~ended,
            torch.where(lower, value, state.value),
            best,
            torch.where(gained, value - self.gain * value.abs(), state.bar),
            since,
        )
        return Look(here, grad, state, cost, {}, (ended, best) if bool(ended.any()) else None)


@torch.no_grad()
def _count_sites(problem: Problem, x: Tensor) -> int:
    def rule(site: int, h: Tensor, activation: object, real: Callable[[Tensor], Tensor]) -> Tensor:
        return real(h)

    with OnGates(rule, len(x)) as mode:
        problem.network(x)
    require_gates(mode)
    return mode.sites
