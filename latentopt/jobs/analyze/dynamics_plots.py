"""The figures of `latentopt analyze dynamics`: errors and flips by step, gradients by confidence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from latentopt.jobs.analyze.dynamics_report import DynamicsResult

COLOURS = {"first-order": "tab:orange", "eigen": "tab:blue", "region-exact": "tab:green"}
LEAST = 1e-17
"""Smaller errors are drawn at this value."""


def draw_errors(results: Sequence[DynamicsResult], figure: Figure) -> None:
    """Draw a column for each setting: the median error by step above, the flips below."""
    figure.set_size_inches(4.2 * len(results), 6.6)
    axes = figure.subplots(
        2, len(results), squeeze=False, sharex=True, sharey="row", gridspec_kw={"height_ratios": [2, 1]}
    )
    for one, (above, below) in zip(results, axes.T, strict=True):
        m = np.arange(1, len(one.dynamics.flips) + 1)
        for name, errors in one.dynamics.error.items():
            _line(above, m, errors, COLOURS[name], "o-", name)
            if name != "region-exact":  # 0
                _line(above, m, one.dynamics.held[name], COLOURS[name], ":")
        above.set(yscale="log", title=one.name)
        flips = one.dynamics.flips.cpu().numpy()
        low, middle, high = np.quantile(flips, [0.1, 0.5, 0.9], axis=1)
        below.fill_between(m, low, high, color="tab:grey", alpha=0.3)
        below.plot(m, middle, "o-", color="black", markersize=3)
        below.set(yscale="symlog", xlabel="step m")
        for ax in (above, below):
            ax.grid(alpha=0.3)
    axes[0, 0].set_ylabel("median relative error (dotted: gates held)")
    axes[1, 0].set_ylabel("flips: median, 10 to 90 %")
    axes[1, 0].set_ylim(bottom=0)
    axes[0, 0].legend(fontsize=8)


def _line(ax: Any, m: NDArray[Any], errors: Tensor, colour: str, style: str, label: str | None = None) -> None:
    """Draw the median over the images by step, at `LEAST` where it is below."""
    middle = np.maximum(np.nanmedian(errors.cpu().numpy(), axis=1), LEAST)
    ax.plot(m, middle, style, color=colour, label=label, markersize=3)


def draw_confidence(one: DynamicsResult, figure: Figure) -> None:
    """Draw gradient norms by the clean image's confidence: absolute left, end point over clean right."""
    figure.set_size_inches(11, 4.8)
    norms = {name: value.cpu().numpy() for name, value in one.norms.__dict__.items()}
    left, right = figure.subplots(1, 2)
    for name, mark, label in (("clean", "o", "clean image"), ("end", "^", "end point")):
        left.plot(norms["doubt"], norms[f"parameters_{name}"], mark, markersize=3, alpha=0.6, label=label)
    left.set(xscale="log", yscale="log", xlabel="1 - p_y of the clean image", ylabel="norm of the parameters' gradient")
    ratios = {"real": ("input_end", "k^"), "eigen formula": ("input_eigen", "b."), "gates held": ("input_region", "g.")}
    for label, (name, mark) in ratios.items():
        right.plot(norms["doubt"], norms[name] / norms["input_clean"], mark, markersize=4, alpha=0.6, label=label)
    right.set(xscale="log", yscale="log", xlabel="1 - p_y of the clean image")
    right.set_ylabel("norm of the input's gradient, end point over clean")
    right.set_ylim(0.3, 10 * (norms["input_end"] / norms["input_clean"]).max())  # the formula diverges
    for ax in (left, right):
        ax.grid(alpha=0.3)
        ax.legend(fontsize=8)
    figure.suptitle(one.name)
