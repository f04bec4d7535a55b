"""A critic at one observation: a network of the action alone."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class FixedStateCritic(nn.Module):
    """Actions (B, A) to what a critic says of them at one observation (B, 1).

    Args:
        critic: of observations and actions side by side (B, S + A).
        observation: (S,)
    """

    observation: Tensor

    def __init__(self, critic: nn.Module, observation: Tensor) -> None:
        super().__init__()
        self.critic = critic
        self.register_buffer("observation", observation, persistent=False)

    def forward(self, actions: Tensor) -> Tensor:
        return self.critic(torch.cat([self.observation.expand(len(actions), -1), actions], 1))
