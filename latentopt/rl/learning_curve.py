"""Learning curves of several seeds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np


class CurvePoint(NamedTuple):
    """A point of a learning curve."""

    step: int  # of the environment
    mean: float  # return of the actor alone, over the episodes
    low: float  # worst of them
    high: float  # best
    gain: float  # mean gain in Q of the actions refined since the point before; NaN if there were none
    seconds: float  # CPU time of training so far, without evaluation


def final_return(points: Sequence[CurvePoint], share: float = 0.2) -> float:
    """Average the return over the last ``share`` of a curve, its last point at least."""
    last = max(1, int(share * len(points)))
    return float(np.mean([point.mean for point in points[-last:]]))


def mean_return(points: Sequence[CurvePoint]) -> float:
    """Average the return over a curve, without its first point, where nothing has been learned."""
    return float(np.mean([point.mean for point in points[1:]]))


def mean_gain(points: Sequence[CurvePoint]) -> float:
    """Average the gain in Q over a curve; NaN if nothing was refined."""
    gains = [point.gain for point in points if not np.isnan(point.gain)]
    return float(np.mean(gains)) if gains else float("nan")


def plot_spread(axes: Any, steps: Sequence[float], curves: Sequence[Sequence[float]], label: str) -> None:
    """Draw the mean of the seeds' curves (seeds, points), and the range from the worst to the best of them."""
    values = np.asarray(curves)
    (line,) = axes.plot(steps, values.mean(0), label=label)
    axes.fill_between(steps, values.min(0), values.max(0), color=line.get_color(), alpha=0.2, linewidth=0)


def save_curves(path: Path, steps: Sequence[float], curves: Sequence[Sequence[float]], title: str) -> None:
    """Write one training's curves (seeds, points) as a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for curve in curves:
        axes.plot(steps, curve, color="tab:gray", alpha=0.4, linewidth=0.8)
    plot_spread(axes, steps, curves, f"mean of {len(curves)} seeds, worst to best")
    axes.set(xlabel="steps", ylabel="return of the actor", title=title)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=130)
