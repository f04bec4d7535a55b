"""Episodes as pictures, side by side."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentopt.rl.players import Player
from latentopt.rl.refine import Refiner

FRAMES, SIDE = 120, 240
"""Most frames of an episode, and their height in pixels, about."""
Picture = NDArray[Any]


def film(player: Player, env: str, seed: int, refiners: Sequence[Refiner | None]) -> list[Picture]:
    """An episode of the same seed with each refiner, in columns, the ended ones still: frames (H, W, 3) bytes."""
    shots = [_frames(player, env, seed, refiner) for refiner in refiners]
    columns = [shot[:: max(1, -(-max(map(len, shots)) // FRAMES))] for shot in shots]
    frames = list[Picture]()
    last = [column[0] for column in columns]
    for row in zip_longest(*columns):
        last = [now if now is not None else before for now, before in zip(row, last, strict=True)]
        frames.append(np.concatenate(last, 1))
    return frames


def _frames(player: Player, env: str, seed: int, refiner: Refiner | None) -> list[Picture]:
    import gymnasium

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        environment = gymnasium.make(env, render_mode="rgb_array")
        observation, _ = environment.reset(seed=seed)
        frames, over, step = [_shrunk(environment.render())], False, 0
        while not over:
            seen = player.observe(np.asarray(observation)[None])
            scaled = player.actor(seen)
            if refiner is not None:
                scaled = refiner(seen, scaled, seed=step).action.numpy()
            observation, _, ended, cut, _ = environment.step(player.actions(scaled)[0])
            over, step = ended or cut, step + 1
            frames.append(_shrunk(environment.render()))
        environment.close()
    return frames


def _shrunk(picture: Any) -> Picture:
    """Every so many-th pixel."""
    frame = np.asarray(picture, dtype=np.uint8)
    stride = max(1, round(len(frame) / SIDE))
    return frame[::stride, ::stride]
