"""A policy for a game of Procgen on levels of its own: its episodes, attacked or not, and the states in them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latentopt.rl.attacked_episodes import Episodes, attacked_episodes
from latentopt.rl.procgen import ACTIONS, Game, Procgen


@dataclass(eq=False)
class Keeping:
    """A policy of images with colours first that keeps what it is shown, colours last."""

    policy: Callable[[Tensor], Tensor]
    shown: list[Tensor] = field(default_factory=list)

    def __call__(self, x: Tensor) -> Tensor:
        self.shown.append((x * 255).round().to(torch.uint8))
        return self.policy(x.movedim(-1, 1))


@dataclass(frozen=True, eq=False)
class Played:
    """A policy of a game, on levels of their own, played once each."""

    game: Game
    policy: Any
    settings: dict[str, Any]  # further arguments of `Procgen`
    levels: range
    horizon: int | None = None  # steps after which an episode is cut

    def env(self) -> Procgen:
        return Procgen(self.game, fixed=self.levels, **self.settings)

    def episodes(self, eps: float | None = None, **attack: Any) -> Episodes:
        """One episode a level."""
        env = self.env()
        try:
            return attacked_episodes(self.policy, env, len(self.levels), eps, horizon=self.horizon, **attack)
        finally:
            env.close()

    def at_random(self) -> Episodes:
        """The same by actions drawn evenly."""
        logits = torch.zeros(len(ACTIONS[self.game]))
        uniform = replace(self, policy=lambda x: logits.expand(len(x), -1))
        return uniform.episodes(sample=True)

    def states(self, count: int, seed: int) -> np.ndarray:
        """States (count, 64, 64, 3) uint8 from the policy's episodes on all levels, drawn evenly."""
        keeping = Keeping(self.policy)
        replace(self, policy=keeping).episodes()
        shown = torch.cat(keeping.shown).numpy()
        picks = np.random.default_rng(seed).permutation(len(shown))[:count]
        return shown[picks]
