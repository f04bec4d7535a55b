"""Episodes of several seeds side by side, so that actions are found for all of them at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import gymnasium

Array = NDArray[Any]
Act = Callable[[Array, Array], Array]
"""Observations (B, *obs) of the episodes (B,) that still run, to actions (B, A)."""


class Episodes(NamedTuple):
    """What n episodes came to."""

    returns: Array  # (n,) float64, sums of rewards without discount
    steps: Array  # (n,) long


def episodes(environments: Sequence[gymnasium.Env[Any, Any]], seeds: Sequence[int], act: Act) -> Episodes:
    """One episode of each environment, to its end, reset with its seed.

    An episode ends as it would alone, if what ``act`` does for it does not depend on the others.
    """
    met = [env.reset(seed=seed)[0] for env, seed in zip(environments, seeds, strict=True)]
    returns, steps = np.zeros(len(met)), np.zeros(len(met), dtype=np.int64)
    running = np.arange(len(met))
    while len(running):
        actions = act(np.stack([met[at] for at in running.tolist()]), running)
        over = np.zeros(len(running), dtype=bool)
        for row, (at, action) in enumerate(zip(running.tolist(), actions, strict=True)):
            met[at], reward, ended, cut, _ = environments[at].step(action)
            returns[at] += float(reward)
            steps[at] += 1
            over[row] = ended or cut
        running = running[~over]
    return Episodes(returns, steps)
