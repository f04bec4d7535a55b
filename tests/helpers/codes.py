"""Actors and critics in the shape that other codes of reinforcement learning give them."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn


class TD3Actor(nn.Module):
    """Layers l1, l2, ...; actions of up to ``reach``, which no tensor says."""

    def __init__(self, sizes: tuple[int, ...], reach: float = 1.0) -> None:
        super().__init__()
        self.count, self.reach = len(sizes) - 1, reach
        for at, (before, after) in enumerate(pairwise(sizes), 1):
            setattr(self, f"l{at}", nn.Linear(before, after))

    def forward(self, s: Tensor) -> Tensor:
        for at in range(1, self.count):
            s = torch.relu(getattr(self, f"l{at}")(s))
        return self.reach * torch.tanh(getattr(self, f"l{self.count}")(s))


class TD3Critic(nn.Module):
    """Both critics in one module, of the environment's own actions: l1 to l3 and l4 to l6."""

    def __init__(self, sizes: tuple[int, ...], twins: int = 2) -> None:
        super().__init__()
        self.length, self.twins = len(sizes) - 1, twins
        for at, (before, after) in enumerate(list(pairwise(sizes)) * twins, 1):
            setattr(self, f"l{at}", nn.Linear(before, after))

    def forward(self, s: Tensor, a: Tensor) -> tuple[Tensor, ...]:
        values = []
        for twin in range(self.twins):
            x = torch.cat([s, a], 1)
            for at in range(1, self.length):
                x = torch.relu(getattr(self, f"l{twin * self.length + at}")(x))
            values.append(getattr(self, f"l{(twin + 1) * self.length}")(x))
        return tuple(values)


class CleanRLActor(nn.Module):
    """Layers fc1, fc2 and fc_mu (or, of SAC, fc_mean and fc_logstd), and buffers with the range of actions."""

    action_scale: Tensor
    action_bias: Tensor

    def __init__(self, states: int, low: Tensor, high: Tensor, stochastic: bool = False, width: int = 16) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(states, width), nn.Linear(width, width)
        self.stochastic, last = stochastic, "fc_mean" if stochastic else "fc_mu"
        setattr(self, last, nn.Linear(width, len(low)))
        if stochastic:
            self.fc_logstd = nn.Linear(width, len(low))
        self.register_buffer("action_scale", (high - low) / 2)
        self.register_buffer("action_bias", (high + low) / 2)

    def hidden(self, s: Tensor) -> Tensor:
        return torch.relu(self.fc2(torch.relu(self.fc1(s))))

    def forward(self, s: Tensor) -> Tensor:
        last: Any = self.fc_mean if self.stochastic else self.fc_mu
        mean = last(self.hidden(s))
        return torch.tanh(mean) * self.action_scale + self.action_bias

    def log_std(self, s: Tensor) -> Tensor:
        return -5 + 0.5 * (2 + 5) * (torch.tanh(self.fc_logstd(self.hidden(s))) + 1)


class CleanRLCritic(nn.Module):
    """Layers fc1, fc2, fc3, of the environment's own actions."""

    def __init__(self, states: int, actions: int, width: int = 16) -> None:
        super().__init__()
        self.fc1, self.fc2, self.fc3 = nn.Linear(states + actions, width), nn.Linear(width, width), nn.Linear(width, 1)

    def forward(self, s: Tensor, a: Tensor) -> Tensor:
        return self.fc3(torch.relu(self.fc2(torch.relu(self.fc1(torch.cat([s, a], 1))))))


def named(**modules: nn.Module) -> dict[str, Tensor]:
    """The tensors of modules, each under its name."""
    return {f"{name}.{key}": tensor for name, module in modules.items() for key, tensor in module.state_dict().items()}
