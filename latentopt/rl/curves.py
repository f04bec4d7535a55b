"""Learning curves of several seeds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np


def spread(axes: Any, steps: Sequence[float], curves: Sequence[Sequence[float]], label: str) -> None:
    """Draw the mean of the seeds' curves (seeds, points), and from the worst to the best of them."""
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
    spread(axes, steps, curves, f"mean of {len(curves)} seeds, worst to best")
    axes.set(xlabel="steps", ylabel="return of the actor", title=title)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=130)
