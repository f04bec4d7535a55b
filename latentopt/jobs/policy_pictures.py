"""Pictures of an attack on a policy: an episode before and after, and all returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from latentopt.jobs.pictures import save_gif, tile

MOST = 400
"""Frames of an animation, at most."""
Frames = Sequence[tuple[np.ndarray, np.ndarray]]
"""Of each step the observation, and what the policy saw of it."""


def save_episode(path: Path, before: Frames, after: Frames) -> list[Path]:
    """The episode unattacked and the one attacked, side by side, with what the attack changed, enlarged 16 times.

    Nothing is written where observations are no images (H, W, C) or (C, H, W) of bytes.
    """
    shape = before[0][0].shape
    if len(shape) != 3 or before[0][0].dtype != np.uint8 or not {1, 3} & {shape[0], shape[-1]}:
        return []
    length = min(MOST, max(len(before), len(after)))
    pictures = [_shown(before, after, at) for at in range(length)]
    save_gif(path, pictures)
    return [path]


def _shown(before: Frames, after: Frames, at: int) -> np.ndarray:
    clean, _ = before[min(at, len(before) - 1)]
    real, seen = after[min(at, len(after) - 1)]
    change = (128 + 16 * (seen.astype(int) - real)).clip(0, 255).astype(np.uint8)
    return tile([_image(each) for each in (clean, seen, change)], per_row=1, side=192)


def _image(observation: np.ndarray) -> torch.Tensor:
    """(1, C, H, W) bytes."""
    first = observation if observation.shape[0] in (1, 3) else observation.transpose(2, 0, 1)
    return torch.from_numpy(np.ascontiguousarray(first))[None]


def save_returns(path: Path, returns: Mapping[str, np.ndarray]) -> Path:
    """The returns of all episodes, from the least to the greatest, a line for each way of playing."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for name, values in returns.items():
        axes.plot(
            np.arange(1, len(values) + 1), np.sort(values), "o-", markersize=3, label=f"{name}: {values.mean():.2f}"
        )
    axes.set(xlabel="episode, sorted", ylabel="return")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=130)
    return path
