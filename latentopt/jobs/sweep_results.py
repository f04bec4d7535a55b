"""What a sweep found: a table of its trials, the best first, and a plot."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latentopt.errors import InputError
from latentopt.io import write_atomically, write_csv
from latentopt.jobs.store import RESULTS
from latentopt.jobs.sweeps import Sweep
from latentopt.jobs.tracker import SUMMARY
from latentopt.reports import PLOT, png_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FIGURES = {
    "reconstruct": ("mean_mse", "mean_psnr", "mean_ssim", "mean_loss"),
    "attack": ("success", "robust_accuracy", "clean_accuracy"),
    "attack-policy": ("mean_unattacked", "mean_attacked", "mean_difference"),
    "refine": ("difference", "error", "gain"),
    "train-rl": ("mean_end", "mean_whole", "mean_seconds"),
}
"""What jobs name best; an analysis' figures depend on its settings."""
PLOTTED = 6
"""Parameters."""


def figures(trial: Path) -> dict[str, float] | None:
    """The best figures of a trial that is done."""
    path = trial / SUMMARY
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def check_metric(job: str, metric: str) -> None:
    """Raise `InputError` where a job has no such figure, before a trial is run for it."""
    known = [f"best/{name}" for name in FIGURES.get(job, ())]
    if known and metric not in known:
        raise InputError("metric.name", f"one of {', '.join(known)}", metric)


def ranked(sweep: Sweep, trials: dict[str, dict[str, Any]], folder: Path) -> list[dict[str, Any]]:
    """A row for each trial that is done, the best first.

    Raises:
        InputError: the trials have no figure of the metric's name.
    """
    sign, rows = 1 if sweep.goal == "minimize" else -1, list[dict[str, Any]]()
    for name, options in trials.items():
        found = figures(folder / name)
        if found is None:
            continue
        if sweep.metric not in found:
            raise InputError("metric.name", f"one of {', '.join(found)}", sweep.metric)
        rows.append({"trial": name, sweep.metric: found[sweep.metric], **options, **found})
    return sorted(rows, key=lambda row: (math.isnan(row[sweep.metric]), sign * row[sweep.metric]))


def write(sweep: Sweep, rows: Sequence[dict[str, Any]], folder: Path) -> list[Path]:
    """Write the table and the plot."""
    write_csv(folder / RESULTS, list(rows[0]), [list(row.values()) for row in rows])
    write_atomically(folder / PLOT, png_bytes(lambda figure: _draw(figure, sweep, rows)))
    return [folder / RESULTS, folder / PLOT]


def _draw(figure: Figure, sweep: Sweep, rows: Sequence[dict[str, Any]]) -> None:
    """The metric by each parameter."""
    shown = [name for name, parameter in sweep.parameters.items() if len(parameter.values) != 1][:PLOTTED]
    shown = shown or list(sweep.parameters)[:1]
    figure.set_size_inches(3.2 * len(shown), 3)
    for at, (name, axes) in enumerate(zip(shown, figure.subplots(1, len(shown), squeeze=False)[0], strict=True)):
        values, metric = [row[name] for row in rows], [row[sweep.metric] for row in rows]
        if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
            values = [str(value) for value in values]
        elif sweep.parameters[name].distribution == "log_uniform_values":
            axes.set_xscale("log")
        axes.scatter(values, metric)
        axes.scatter(values[:1], metric[:1], label="best")
        axes.set_xlabel(name)
        if at == 0:
            axes.set_ylabel(f"{sweep.metric} ({sweep.goal})")
            axes.legend()
