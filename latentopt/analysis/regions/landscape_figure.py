"""Figure of a landscape: regions, levels of the objective, and trajectories of optimisers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from latentopt.analysis.regions.landscapes import Landscape

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLORS = ("#d62839", "#0b4f9e", "#e07a00", "#2a7f3f", "#7b2d8e")
"""Colours of the trajectories, strong against the muted regions."""
MOST_BORDERED = 2500
"""Borders of more regions than this would hide the rest of the figure."""


def draw_landscape(
    figure: Figure,
    grid: Landscape,
    paths: Mapping[str, Tensor] | None = None,
    title: str = "",
    objective: str = "objective",
    level: float | None = None,
) -> None:
    """Draw a landscape: shades show the objective, tints tell regions apart, thin lines are borders.

    Args:
        figure: of matplotlib.
        grid: the result of `latentopt.analysis.regions.landscape`.
        paths: trajectories (T, *shape) by name; points off the slice are drawn at their nearest points there.
        title: above the picture.
        objective: label of the colour bar.
        level: value of the objective drawn as a thick line, such as a decision boundary; None: none.
    """
    figure.set_size_inches(7.2, 6.2)
    ax = figure.subplots()
    box = [float(edge) for edge in (grid.a[0], grid.a[-1], grid.b[0], grid.b[-1])]
    _draw_regions(ax, grid, box)
    _draw_levels(figure, ax, grid, objective, level)
    for (name, path), color in zip((paths or {}).items(), COLORS * len(paths or {}), strict=False):
        _draw_path(ax, name, grid.slice.coordinates(path).cpu().numpy(), color)
    ax.set(xlim=box[:2], ylim=box[2:], xlabel="a, along u", ylabel="b, along v", title=title)
    ax.set_aspect("equal", adjustable="box")
    if paths:
        ax.plot([], [], "o", color="white", markeredgecolor="black", markersize=7, label="start")
        ax.plot([], [], "*", color="#777777", markersize=11, label="end")
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.11), ncols=4, frameon=False, fontsize=9)


def _draw_regions(ax: Any, grid: Landscape, box: list[float]) -> None:
    """Draw a tint for each region, and a thin line where the pattern changes."""
    regions = grid.regions.cpu().numpy()
    random = np.random.default_rng(0)
    tints = random.uniform(0.0, 1.0, grid.count)[regions]
    ax.imshow(tints, cmap="Greys", vmin=-1.5, vmax=4.5, alpha=0.35, extent=box, origin="lower", zorder=1.1)
    if grid.count <= MOST_BORDERED:
        ax.add_collection(_borders(regions, grid.a.cpu().numpy(), grid.b.cpu().numpy()))


def _borders(regions: np.ndarray, a: np.ndarray, b: np.ndarray) -> Any:
    """Return lines between neighbouring points of different regions, as thin at any resolution."""
    from matplotlib.collections import LineCollection

    half_a, half_b = (a[1] - a[0]) / 2, (b[1] - b[0]) / 2
    row, column = np.nonzero(regions[:, 1:] != regions[:, :-1])
    x, y = a[column] + half_a, b[row]
    upright = np.stack([np.stack([x, y - half_b], 1), np.stack([x, y + half_b], 1)], 1)
    row, column = np.nonzero(regions[1:] != regions[:-1])
    x, y = a[column], b[row] + half_b
    level = np.stack([np.stack([x - half_a, y], 1), np.stack([x + half_a, y], 1)], 1)
    return LineCollection([*upright, *level], colors="#2b2b2b", linewidths=0.6, alpha=0.75, zorder=1.2)


def _draw_levels(figure: Figure, ax: Any, grid: Landscape, objective: str, level: float | None) -> None:
    values, a, b = (tensor.cpu().numpy() for tensor in (grid.values, grid.a, grid.b))
    box = (a[0], a[-1], b[0], b[-1])
    image = ax.imshow(values, cmap="YlGnBu_r", extent=box, origin="lower", interpolation="bilinear", zorder=1.0)
    figure.colorbar(image, ax=ax, shrink=0.8, pad=0.02, label=objective)
    ax.contour(a, b, values, levels=12, colors="white", linewidths=0.7, linestyles="solid", alpha=0.8, zorder=1.3)
    if level is not None and values.min() < level < values.max():
        ax.contour(a, b, values, levels=[level], colors="black", linewidths=2.0, zorder=2)


def _draw_path(ax: Any, name: str, path: np.ndarray, color: str) -> None:
    """Draw a line through the iterates, a ring at the start and a star at the end."""
    ax.plot(*path.T, color="white", linewidth=3.4, zorder=3)
    ax.plot(*path.T, color=color, linewidth=1.7, marker="o", markersize=2.6, markeredgewidth=0, label=name, zorder=4)
    ax.plot(*path[0], "o", color="white", markeredgecolor="black", markersize=8, zorder=5, clip_on=False)
    ax.plot(*path[-1], "*", color=color, markeredgecolor="white", markersize=17, zorder=6, clip_on=False)
