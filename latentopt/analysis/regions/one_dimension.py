"""ADR-GD in one dimension, after Figure 2 of arXiv 2406.00494, on a network of our own.

Gradient ascent on a piecewise-linear function ends where its slope changes sign, at a border of its region. A soft gate
shows there the slope beyond the border.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from latentopt.gates import Network

if TYPE_CHECKING:
    from matplotlib.figure import Figure

from latentopt.analysis.regions.landscape_figure import COLORS

KINKS = (-0.4, -0.1)
START = -0.9


def example(dtype: torch.dtype = torch.float64) -> nn.Sequential:
    """Return three hinges on [-1, 1]: J rises with slope .6 to x = -.4, falls with -.4 to -.1, rises with 1.2 to 1.

    The maximum J(1) = 1.71 lies behind a valley .12 deep.

    >>> example()(torch.tensor([[-0.4], [-0.1], [1.0]]).double())[:, 0]
    tensor([0.5100, 0.3900, 1.7100], dtype=torch.float64)
    """
    first, second = nn.Linear(1, 3, dtype=dtype), nn.Linear(3, 1, bias=False, dtype=dtype)
    bias = torch.tensor([1.25, -KINKS[0], -KINKS[1]], dtype=dtype)  # the first is open on all of [-1, 1]
    first.load_state_dict({"weight": torch.ones(3, 1, dtype=dtype), "bias": bias})
    second.load_state_dict({"weight": torch.tensor([[0.6, -1.0, 1.6]], dtype=dtype)})
    return nn.Sequential(first, nn.ReLU(), second).eval().requires_grad_(False)


@torch.no_grad()
def draw_line(
    figure: Figure, network: Network, paths: Mapping[str, Tensor], kinks: Tensor, low: float, high: float
) -> None:
    """Draw a function of one number, its kinks, and trajectories over it and by step.

    Args:
        figure: of matplotlib.
        network: maps (N, 1) to (N, 1).
        paths: iterates (T, 1) by name.
        kinks: positions (K,) where its slope changes.
        low: least x.
        high: greatest x.
    """
    figure.set_size_inches(10, 4.2)
    over, steps = figure.subplots(1, 2, gridspec_kw={"width_ratios": [1.35, 1]})
    dtype = next(iter(paths.values())).dtype
    x = torch.cat([torch.linspace(low, high, 401, dtype=dtype), kinks.to(dtype)]).sort().values
    over.plot(x, network(x[:, None])[:, 0], color="#444444", linewidth=1.6, zorder=1)
    span = float(network(x[:, None]).max() - network(x[:, None]).min())
    for kink in kinks.tolist():
        over.axvline(kink, color="#999999", linewidth=0.8, linestyle=":", zorder=0)
        steps.axhline(kink, color="#999999", linewidth=0.8, linestyle=":", zorder=0)
    for row, ((name, path), color) in enumerate(zip(paths.items(), COLORS * len(paths), strict=False)):
        height = network(path)[:, 0] + 0.035 * span * (row + 1)  # side by side
        over.plot(path[:, 0], height, "o-", color=color, markersize=3.5, linewidth=0.9, alpha=0.85, label=name)
        over.plot(path[-1, 0], height[-1], "*", color=color, markeredgecolor="white", markersize=16, zorder=4)
        steps.plot(path[:, 0], color=color, linewidth=1.6, label=name)
    over.plot(paths[next(iter(paths))][0, 0], network(paths[next(iter(paths))][:1])[0, 0], "ko", mfc="white", zorder=5)
    over.set(xlabel="x", ylabel="J(x), maximised", title="the function, its kinks and the iterates")
    steps.set(xlabel="step", ylabel="x", ylim=(low - 0.05, high + 0.05), title="the iterates, step by step")
    over.legend(frameon=False, loc="upper left", fontsize=9)
    for ax in (over, steps):
        ax.spines[["top", "right"]].set_visible(False)
