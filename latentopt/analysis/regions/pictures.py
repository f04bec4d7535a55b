"""The picture of a landscape: regions, levels of the objective, and the trajectories of optimisers across them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from latentopt.analysis.regions.slices import Landscape

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLORS = ("#d62839", "#0b4f9e", "#e07a00", "#2a7f3f", "#7b2d8e")
"""Of the trajectories, strong against the muted regions."""
MOST = 2500
"""With more regions than this on a picture their borders would be all that one sees."""


def draw_landscape(
    figure: Figure,
    found: Landscape,
    paths: Mapping[str, Tensor] | None = None,
    title: str = "",
    objective: str = "objective",
    level: float | None = None,
) -> None:
    """Draw a landscape on a figure: shades are the objective's, a tint tells regions apart, thin lines are borders.

    Args:
        figure: of matplotlib.
        found: what `latentopt.analysis.regions.landscape` has found.
        paths: by name, trajectories (T, *shape); what leaves the slice is drawn at its nearest point there.
        title: above the picture.
        objective: what the colour bar calls the values.
        level: of the objective, drawn as a thick line, such as a decision boundary; None: none.
    """
    figure.set_size_inches(7.2, 6.2)
    ax = figure.subplots()
    box = [float(edge) for edge in (found.a[0], found.a[-1], found.b[0], found.b[-1])]
    _regions(ax, found, box)
    _levels(figure, ax, found, objective, level)
    for (name, path), color in zip((paths or {}).items(), COLORS * len(paths or {}), strict=False):
        _path(ax, name, found.slice.coordinates(path).cpu().numpy(), color)
    ax.set(xlim=box[:2], ylim=box[2:], xlabel="a, along u", ylabel="b, along v", title=title)
    ax.set_aspect("equal", adjustable="box")
    if paths:
        ax.plot([], [], "o", color="white", markeredgecolor="black", markersize=7, label="start")
        ax.plot([], [], "*", color="#777777", markersize=11, label="end")
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.11), ncols=4, frameon=False, fontsize=9)


def _regions(ax: Any, found: Landscape, box: list[float]) -> None:
    """A tint for each region, and where the pattern changes a thin line."""
    regions = found.regions.cpu().numpy()
    random = np.random.default_rng(0)
    tints = random.uniform(0.0, 1.0, found.count)[regions]
    ax.imshow(tints, cmap="Greys", vmin=-1.5, vmax=4.5, alpha=0.35, extent=box, origin="lower", zorder=1.1)
    if found.count > MOST:
        return
    a, b = found.a.cpu().numpy(), found.b.cpu().numpy()
    ax.add_collection(_borders(regions, a, b))


def _borders(regions: np.ndarray, a: np.ndarray, b: np.ndarray) -> Any:
    """Lines between the points of a grid that lie in different regions: as thin at any resolution."""
    from matplotlib.collections import LineCollection

    half_a, half_b = (a[1] - a[0]) / 2, (b[1] - b[0]) / 2
    row, column = np.nonzero(regions[:, 1:] != regions[:, :-1])
    x, y = a[column] + half_a, b[row]
    upright = np.stack([np.stack([x, y - half_b], 1), np.stack([x, y + half_b], 1)], 1)
    row, column = np.nonzero(regions[1:] != regions[:-1])
    x, y = a[column], b[row] + half_b
    level = np.stack([np.stack([x - half_a, y], 1), np.stack([x + half_a, y], 1)], 1)
    return LineCollection([*upright, *level], colors="#2b2b2b", linewidths=0.6, alpha=0.75, zorder=1.2)


def _levels(figure: Figure, ax: Any, found: Landscape, objective: str, level: float | None) -> None:
    values, a, b = (tensor.cpu().numpy() for tensor in (found.values, found.a, found.b))
    box = (a[0], a[-1], b[0], b[-1])
    shown = ax.imshow(values, cmap="YlGnBu_r", extent=box, origin="lower", interpolation="bilinear", zorder=1.0)
    figure.colorbar(shown, ax=ax, shrink=0.8, pad=0.02, label=objective)
    ax.contour(a, b, values, levels=12, colors="white", linewidths=0.7, linestyles="solid", alpha=0.8, zorder=1.3)
    if level is not None and values.min() < level < values.max():
        ax.contour(a, b, values, levels=[level], colors="black", linewidths=2.0, zorder=2)


def _path(ax: Any, name: str, path: np.ndarray, color: str) -> None:
    """A line through the iterates, a ring where it starts and a star where it ends."""
    ax.plot(*path.T, color="white", linewidth=3.4, zorder=3)
    ax.plot(*path.T, color=color, linewidth=1.7, marker="o", markersize=2.6, markeredgewidth=0, label=name, zorder=4)
    ax.plot(*path[0], "o", color="white", markeredgecolor="black", markersize=8, zorder=5, clip_on=False)
    ax.plot(*path[-1], "*", color=color, markeredgecolor="white", markersize=17, zorder=6, clip_on=False)
