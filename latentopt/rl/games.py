"""Games of Procgen: names, ranges of levels, and whether Procgen is installed; without importing it."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Literal

Game = Literal["coinrun", "fruitbot"]
LevelMode = Literal["easy", "hard"]
GAMES: tuple[Game, ...] = ("coinrun", "fruitbot")
TRAINING_LEVELS = (0, 100_000)
"""First of the levels of training, and their number."""
TUNING_LEVELS = 1_000_000
"""First of the levels on which settings are chosen."""
TEST_LEVELS = 2_000_000
"""First of the levels on which policies, and attacks on them, are measured."""
INSTALL = "pip install --no-deps procgen-mirror==0.10.7 gym3==0.3.3 cffi==2.1.1 pycparser==3.12 imageio==2.38.1"


def installed() -> bool:
    """Return whether Procgen and its binding can be imported."""
    return all(find_spec(name) is not None for name in ("procgen", "gym3", "cffi"))
