"""Films of episodes, side by side."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentopt.rl.actor_critic import ActorCritic, RefinedActor
from latentopt.rl.refine import Refiner
from latentopt.rl.rollout import play_seeds

MAX_FRAMES, HEIGHT = 120, 240
"""Frames of an episode at most, and their approximate height in pixels."""
Picture = NDArray[Any]


def film(agent: ActorCritic, env: str, seed: int, refiners: Sequence[Refiner | None]) -> list[Picture]:
    """Film an episode of one seed with each refiner, in columns; an episode that ended stands still.

    Returns:
        Frames (H, W, 3) of bytes.
    """
    episodes = [_film_episode(agent, env, seed, refiner) for refiner in refiners]
    stride = max(1, -(-max(map(len, episodes)) // MAX_FRAMES))
    columns = [episode[::stride] for episode in episodes]
    frames = list[Picture]()
    last = [column[0] for column in columns]
    for row in zip_longest(*columns):
        last = [now if now is not None else before for now, before in zip(row, last, strict=True)]
        frames.append(np.concatenate(last, 1))
    return frames


def _film_episode(agent: ActorCritic, env: str, seed: int, refiner: Refiner | None) -> list[Picture]:
    import gymnasium

    frames, actor = list[Picture](), RefinedActor(agent, refiner)

    def act(observations: Picture, running: Picture) -> Picture:
        frames.append(_shrink(environment.render()))
        return actor(observations, running)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        environment = gymnasium.make(env, render_mode="rgb_array")
        play_seeds([environment], [seed], act)
        frames.append(_shrink(environment.render()))
        environment.close()
    return frames


def _shrink(picture: Any) -> Picture:
    """Leave out rows and columns evenly."""
    frame = np.asarray(picture, dtype=np.uint8)
    stride = max(1, round(len(frame) / HEIGHT))
    return frame[::stride, ::stride]
