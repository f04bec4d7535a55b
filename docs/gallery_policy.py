"""The picture of the gallery that needs Procgen: a level before and after an attack."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
from gallery_images import save_gif
from PIL import Image

import latentopt as lo

LEVELS, EPS, STEPS = 12, 5 / 255, 50
"""Levels looked at, radius of the attack, and steps after which an episode is cut."""


class MissingError(Exception):
    """A requirement of the picture is not installed."""


def fruitbot(path: Path) -> None:
    if find_spec("procgen") is None or find_spec("gym3") is None or find_spec("stable_baselines3") is None:
        raise MissingError("it needs Procgen (pip install --no-deps -r requirements-procgen.txt) and the extra rl")
    from latentopt.rl.attack_episodes import attack_episodes
    from latentopt.rl.game_policies import game_of
    from latentopt.rl.games import TEST_LEVELS
    from latentopt.rl.procgen import Procgen

    policy, (game, settings) = lo.load("fruitbot-cnn"), game_of("fruitbot-cnn")
    attack = {"optimizer": "pgd", "loss": "margin", "steps": 17, "targets": "least-likely"}
    for level in range(TEST_LEVELS, TEST_LEVELS + LEVELS):
        episodes = []
        for eps in (None, EPS):
            env = Procgen(game, fixed=[level], **settings)
            options = attack if eps else {}
            episodes.append(attack_episodes(policy, env, 1, eps, horizon=STEPS, record=True, **options))
            env.close()
        before, after = episodes
        if before.returns[0] > after.returns[0]:
            break
    else:
        raise MissingError(f"on none of {LEVELS} levels the attack lowers the return")
    print(f"level {level}: return {before.returns[0]:g}, attacked {after.returns[0]:g}")
    length = max(len(before.frames), len(after.frames))
    shots = [shown(before.frames, after.frames, step) for step in range(length)]
    save_gif(path, shots, [140] * (length - 1) + [2000], colors=48)


Frames = list[tuple[np.ndarray, np.ndarray]]


def shown(before: Frames, after: Frames, step: int) -> np.ndarray:
    """One moment: undisturbed, attacked, and what the attack changed; an episode that has ended stands still."""
    clean, _ = before[min(step, len(before) - 1)]
    real, observed = after[min(step, len(after) - 1)]
    change = (128 + 16 * (observed.astype(int) - real)).clip(0, 255).astype(np.uint8)
    gap = np.full((len(clean), 3, 3), 255, np.uint8)
    row = np.concatenate([clean, gap, observed, gap, change], 1)
    return np.asarray(
        Image.fromarray(row).resize((row.shape[1] * 5 // 2, row.shape[0] * 5 // 2), Image.Resampling.NEAREST)
    )
