"""The tables, rows and plot of `latentopt analyze regions`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from latentopt.analysis.regions import TrajectoryStatistics, UnitActivity
from latentopt.analysis.regions.landscape_figure import COLORS
from latentopt.reports import Drawing, Report, Row, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NOTE = (
    "A flip is a unit on another piece than at the iterate before; a crossing is a boundary on the segment between the "
    "two, exactly counted: a unit that switches and switches back is two crossings and no flip. Distances are "
    "Euclidean. A - is unknown: boundaries of max pooling are not followed. All in double precision."
)


@dataclass(frozen=True, eq=False)
class RegionsResult:
    """T moves of an optimiser with B samples."""

    name: str
    x: Tensor  # (T + 1, B, *shape)
    values: Tensor  # (T + 1, B) objective, minimised
    statistics: TrajectoryStatistics
    first: Tensor  # (B,) distance from the start to the nearest boundary along the first move; NaN: unknown


def report(title: str, results: Sequence[RegionsResult], activity: Sequence[UnitActivity], draw: Drawing) -> Report:
    """Summarise the results."""
    tables = [_trajectories(results), _steps(results), _units(activity)]
    return Report(title, NOTE, tables, rows(results), draw)


def _trajectories(results: Sequence[RegionsResult]) -> Table:
    columns = ["optimiser", "objective at the start", "at the end", "length of the way", "flips a step"]
    columns += ["regions visited", "boundaries crossed", "nearest boundary"]
    rows = []
    for one in results:
        crossed = one.statistics.crossings
        total = "-" if crossed is None else f"{crossed.sum(0).double().mean():.4g}"
        cut = one.statistics.complete is not None and not bool(one.statistics.complete.all())
        figures = [one.values[0].mean(), one.values[-1].mean(), _lengths(one).sum(0).mean()]
        figures += [one.statistics.flips.double().mean()]
        cells = [one.name, *(f"{float(figure):.4g}" for figure in figures)]
        cells += [f"{one.statistics.regions.double().mean():.4g} of {len(one.x)}", total + " or more" * cut]
        nearest = one.first.nanmean()
        rows.append([*cells, "-" if bool(nearest.isnan()) else f"{nearest:.3g}"])
    return Table("Trajectories", "Means over the samples; the nearest boundary is along the first move.", columns, rows)


def _lengths(one: RegionsResult) -> Tensor:
    return torch.linalg.vector_norm((one.x[1:] - one.x[:-1]).flatten(2), dim=2)


def _steps(results: Sequence[RegionsResult], limit: int = 12) -> Table:
    """Tabulate flips and crossings of some steps: the first ones, then further apart."""
    steps = len(results[0].statistics.flips)
    chosen = sorted({round(steps ** (k / (limit - 1))) - 1 for k in range(limit)})
    columns = ["step", *(f"{one.name}: {what}" for one in results for what in ("flips", "crossings"))]
    rows = []
    for t in chosen:
        cells = [str(t + 1)]
        for one in results:
            crossed = one.statistics.crossings
            cells.append(f"{one.statistics.flips[t].double().mean():.4g}")
            cells.append("-" if crossed is None else f"{crossed[t].double().mean():.4g}")
        rows.append(cells)
    return Table("Step by step", "Means over the samples.", columns, rows)


def _units(activity: Sequence[UnitActivity]) -> Table:
    columns = ["site", "kind", "units", "dead", "saturated", "on one sloped piece"]
    rows = [
        [str(one.site), one.kind, str(one.count), *(f"{100 * s:.1f} %" for s in (one.dead, one.saturated, one.affine))]
        for one in activity
    ]
    note = "Over the starts; of random-2d over 1000 random points. The rest of the units change their piece among them."
    return Table("Units", note, columns, rows)


def rows(results: Sequence[RegionsResult]) -> list[Row]:
    """Return a row for each optimiser, sample and move."""
    return [
        _row(one, t, sample)
        for one in results
        for t in range(len(one.statistics.flips))
        for sample in range(one.x.shape[1])
    ]


def _row(one: RegionsResult, t: int, sample: int) -> Row:
    row: Row = {"optimizer": one.name, "sample": sample, "step": t + 1, "flips": int(one.statistics.flips[t, sample])}
    if one.statistics.crossings is not None:
        row["crossings"] = int(one.statistics.crossings[t, sample])
    return {**row, "objective": float(one.values[t + 1, sample])}


def draw_steps(results: Sequence[RegionsResult], figure: Figure) -> None:
    """Draw flips and crossings of each step, and the objective, means over the samples."""
    figure.set_size_inches(10, 4)
    flips, values = figure.subplots(1, 2)
    for one, color in zip(results, COLORS * len(results), strict=False):
        steps = range(1, len(one.statistics.flips) + 1)
        flips.plot(steps, one.statistics.flips.double().mean(1), color=color, label=f"{one.name}: flips")
        if one.statistics.crossings is not None:
            crossed = one.statistics.crossings.double().mean(1)
            flips.plot(steps, crossed, color=color, linestyle=":", label=f"{one.name}: crossings")
        values.plot(range(len(one.values)), one.values.mean(1), color=color, label=one.name)
    flips.set(xlabel="step", ylabel="units", title="units that change their piece")
    values.set(xlabel="step", ylabel="objective, minimised", title="objective")
    for ax in (flips, values):
        ax.legend(frameon=False, fontsize=8)
        ax.spines[["top", "right"]].set_visible(False)
