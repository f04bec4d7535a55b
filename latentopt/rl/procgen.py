"""Procgen (Cobbe et al. 2020, arXiv 1912.01588) as a vectorised environment of stable-baselines3.

Only its compiled library and gym3's binding are used: neither gym nor an old NumPy is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env.base_vec_env import VecEnv

from latentopt.errors import InputError, nonnegative, positive
from latentopt.rl.games import GAMES, INSTALL, Game, LevelMode, installed

MOVES = ("left-down", "left", "left-up", "down", "none", "up", "right-down", "right", "right-up")
ACTIONS: dict[Game, dict[str, int]] = {
    "coinrun": {move: number for number, move in enumerate(MOVES)},
    "fruitbot": {"left": 1, "none": 4, "right": 7, "throw": 9},
}
"""Those of Procgen's 15 actions that differ in the game, by name, and their numbers in the library."""
RESET = -1  # an action


class Procgen(VecEnv):
    """Games of Procgen side by side, with observations (N, 64, 64, 3) uint8; an episode that ends begins the next.

    Actions are those of `ACTIONS`, numbered from 0.

    ``infos`` hold the ``level_seed`` of the episode that the observation belongs to.

    Args:
        game: coinrun or fruitbot.
        envs: number of environments N; each episode's level is drawn from the range of ``levels``.
        levels: (first, count) of that range, within [0, 2^31).
        fixed: instead of ``envs`` and ``levels``: the one level of each environment, played again and again.
        mode: easy or hard levels.
        backgrounds: pictures behind the game; False: black.
        repeat: frames of an action, >= 1, as for Atari; rewards add up. Where an episode ends among them, the others
            are the first of the next episode, without an action.
        seed: of the levels' order.

    Raises:
        InputError: an argument is not as described, or Procgen is not installed.
    """

    def __init__(
        self,
        game: Game,
        envs: int = 1,
        levels: tuple[int, int] = (0, 100_000),
        fixed: Sequence[int] | None = None,
        mode: LevelMode = "easy",
        backgrounds: bool = True,
        repeat: int = 1,
        seed: int = 0,
    ) -> None:
        if not installed():
            raise InputError("procgen", f"an installed Procgen: {INSTALL}", "none")
        if game not in GAMES:
            raise InputError("game", f"one of {', '.join(GAMES)}", repr(game))
        if mode not in ("easy", "hard"):
            raise InputError("mode", "easy or hard", repr(mode))
        positive("envs", envs, integer=True)
        positive("repeat", repeat, integer=True)
        nonnegative("levels", levels[0], integer=True)
        positive("levels", levels[1], integer=True)
        if fixed is not None and not len(fixed):
            raise InputError("fixed", "at least one level", "none")
        for level in fixed or ():
            nonnegative("fixed", level, integer=True)
        parts = [(1, (level, 1)) for level in fixed] if fixed is not None else [(envs, levels)]
        self.parts = [_library(game, size, span, mode, backgrounds, seed) for size, span in parts]
        self.sizes, self.repeat, self.idle = [size for size, _ in parts], repeat, ACTIONS[game]["none"]
        self.numbers = np.array(list(ACTIONS[game].values()), np.int32)
        self.actions = np.zeros(0, np.int32)
        image, actions = spaces.Box(0, 255, (64, 64, 3), np.uint8), spaces.Discrete(len(self.numbers))
        super().__init__(sum(self.sizes), image, actions)

    def reset(self) -> np.ndarray:
        _, observations, first = self._observe()
        if not first.all():
            _, observations, _ = self._frame(np.full(self.num_envs, RESET, np.int32))
        return observations

    def step_async(self, actions: np.ndarray) -> None:
        self.actions = self.numbers[actions]

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        rewards, observations, ended = self._frame(self.actions)
        for _ in range(self.repeat - 1):
            more, observations, first = self._frame(np.where(ended, self.idle, self.actions).astype(np.int32))
            rewards, ended = rewards + np.where(ended, 0, more), ended | first
        infos = [{"level_seed": int(info["level_seed"])} for part in self.parts for info in part.get_info()]
        return observations, rewards, ended, infos

    def _frame(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        begin = 0
        for part, size in zip(self.parts, self.sizes, strict=True):
            part.act({"action": actions[begin : begin + size]})
            begin += size
        return self._observe()

    def _observe(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        rewards, observations, first = zip(*(part.observe() for part in self.parts), strict=True)
        return (
            np.concatenate(rewards),
            np.concatenate([observation["rgb"] for observation in observations]),
            np.concatenate(first),
        )

    def close(self) -> None:
        for part in self.parts:
            part.close()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        return [getattr(self, attr_name, None) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        raise AttributeError(f"{attr_name} of a game cannot be set")

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
        raise AttributeError(f"a game has no method {method_name}")

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        return [False for _ in self._get_indices(indices)]


def _library(game: Game, size: int, levels: tuple[int, int], mode: LevelMode, backgrounds: bool, seed: int) -> Any:
    """``size`` games in the compiled library, drawing from ``levels`` (first, count)."""
    from gym3.libenv import CEnv  # pyright: ignore[reportMissingImports]

    spec = find_spec("procgen")  # the package itself imports gym
    assert spec is not None
    assert spec.origin is not None
    root = Path(spec.origin).parent
    options = {
        "env_name": game,
        "start_level": levels[0],
        "num_levels": levels[1],
        "distribution_mode": ("easy", "hard").index(mode),
        "rand_seed": seed,
        "num_actions": 15,
        "resource_root": f"{root / 'data' / 'assets'}/",
        "num_threads": 0,
        "debug_mode": 0,
        "center_agent": True,
        "use_backgrounds": backgrounds,
        "use_generated_assets": False,
        "use_monochrome_assets": False,
        "restrict_themes": False,
        "paint_vel_info": False,
        "use_sequential_levels": False,
        "render_human": False,
    }
    return CEnv(num=size, lib_dir=str(root / "data" / "prebuilt"), options=options)
