"""Small critics of observation and action side by side."""

from __future__ import annotations

import pytest
import torch
from nets import mlp
from torch import Tensor, nn

S, A, B = 5, 3, 4  # numbers of an observation and of an action, observations


class Twins(nn.Module):
    """Two critics of observation and action side by side."""

    def __init__(self, *widths: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        self.first = mlp(S + A, *widths, 1, seed=seed, dtype=dtype)
        self.second = mlp(S + A, *widths, 1, seed=seed + 1, dtype=dtype)

    def forward(self, observations: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        both = torch.cat([observations, actions], dim=1)
        return self.first(both), self.second(both)


class Opaque(nn.Module):
    """The same critics, in a form that is not recognised."""

    def __init__(self, twins: nn.Module) -> None:
        super().__init__()
        self.twins = twins

    def forward(self, observations: Tensor, actions: Tensor) -> tuple[Tensor, ...]:
        assert len(observations) == len(actions)  # which a tracer cannot know
        return self.twins(observations, actions)


def soft_min(values: Tensor) -> Tensor:
    return -torch.logsumexp(-values, 0)


CRITICS = {"min": "min", "first": "first", "function": soft_min}
every_critic = pytest.mark.parametrize("critic", CRITICS.values(), ids=CRITICS)
