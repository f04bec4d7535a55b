"""Results of a comparison: paired differences, tables and the plot of value against cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from latentopt.comparison.runs import Budget, Curve, MethodRun
from latentopt.reports import Row, Table
from latentopt.results import SavedTables
from latentopt.statistics import MeanInterval, wilson

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TIE = 1e-3
"""Two values are level within this share of the greater magnitude."""
NO_DIFFERENCE = MeanInterval(np.nan, np.nan, np.nan, np.nan)


@dataclass(frozen=True)
class MethodSummary:
    """Values, solved share and cost of one method over all seeds and samples, and its difference to the reference.

    Differences are values minus the reference's at the same seed and sample, negative where the method is better; for
    their interval see `paired_interval`.
    """

    method: str
    count: int  # solves: seeds times samples
    mean: float  # objective
    median: float  # objective
    solved: float  # share
    solved_interval: tuple[float, float]  # Wilson's
    difference: MeanInterval  # mean paired difference; NaN for the reference
    wins: float  # share of pairs with a lower value than the reference's
    ties: float  # share of pairs that are both solved, or whose values are level
    evaluations: float  # mean of a sample
    cpu_seconds: float  # mean of a sample
    reasons: tuple[str, ...]  # of runs that failed


NAN = float("nan")
NO_RUNS = MethodSummary("", 0, NAN, NAN, NAN, (NAN, NAN), NO_DIFFERENCE, NAN, NAN, NAN, NAN, ())


@dataclass(frozen=True, eq=False, repr=False)
class Comparison(SavedTables):
    """Methods on the same seeds and samples at equal cost.

    Args:
        runs: one of each method and seed.
        reference: name of the method that others are compared with.
        budget: of each sample.
    """

    runs: Sequence[MethodRun]
    reference: str
    budget: Budget

    @property
    def methods(self) -> list[str]:
        """Names of the methods, in the order in which they were given."""
        return list(dict.fromkeys(run.method for run in self.runs))

    @property
    def rows(self) -> list[Row]:
        """One row for each method, seed and sample; a run that failed has one row with its reason."""
        return [row for run in self.runs for row in run.rows()]

    def runs_of(self, method: str) -> dict[int, MethodRun]:
        """Return the completed runs of a method by their seeds.

        Args:
            method: its name.

        Returns:
            Seed to run.
        """
        return {run.seed: run for run in self.runs if run.method == method and run.seed is not None and not run.reason}

    def summary(self) -> list[MethodSummary]:
        """Return one summary a method, in the order in which they were given."""
        return [self._summary(method) for method in self.methods]

    def _summary(self, method: str) -> MethodSummary:
        runs = list(self.runs_of(method).values())
        reasons = tuple(dict.fromkeys(run.reason for run in self.runs if run.method == method and run.reason))
        if not runs:
            return replace(NO_RUNS, method=method, reasons=reasons)
        values = torch.cat([run.value for run in runs]).double()
        solved = int(sum(run.solved.sum() for run in runs))
        difference, wins, ties = self._against_reference(method)
        return MethodSummary(
            method=method,
            count=len(values),
            mean=float(values.mean()),
            median=float(values.quantile(0.5)),
            solved=solved / len(values),
            solved_interval=wilson(solved, len(values)),
            difference=difference,
            wins=wins,
            ties=ties,
            evaluations=float(torch.cat([run.forwards + run.backwards for run in runs]).double().mean()),
            cpu_seconds=float(np.mean([run.cpu_seconds for run in runs])),
            reasons=reasons,
        )

    def _against_reference(self, method: str) -> tuple[MeanInterval, float, float]:
        """The mean paired difference of a method to the reference, and its shares of wins and ties."""
        own, other = self.runs_of(method), self.runs_of(self.reference)
        seeds = [seed for seed in own if seed in other]
        if method == self.reference or not seeds:
            return NO_DIFFERENCE, np.nan, np.nan
        a, b = (torch.stack([runs[seed].value for seed in seeds]).double() for runs in (own, other))
        both_solved = torch.stack([own[seed].solved & other[seed].solved for seed in seeds])
        level = both_solved | ((a - b).abs() <= TIE * torch.maximum(a.abs(), b.abs()))
        wins = ((a < b) & ~level).double().mean()
        return paired_interval(a - b), float(wins), float(level.double().mean())

    def markdown(self) -> str:
        """Return the summary as a table in Markdown, with a note how to read it."""
        budgets = [
            "" if self.budget.evaluations is None else f"{self.budget.evaluations} evaluations a sample",
            "" if self.budget.seconds is None else f"{self.budget.seconds:g} s a solve",
        ]
        restarts = f", {self.budget.restarts} restarts" if self.budget.restarts > 1 else ""
        note = (
            f"Each method: {' and '.join(filter(None, budgets))}{restarts}. Values are minimised. Difference: to "
            f"{self.reference} at the same seed and sample, with a 95 % interval that takes account of the starts that "
            "the samples of one seed share. Solved: share with Wilson's 95 % interval. Level: both are solved, or the "
            f"values agree within {TIE:.1%}."
        )
        columns = ("method", "mean", "median", "solved", "difference", "lower", "level", "evaluations", "CPU s")
        tables = [Table("Comparison", note, columns, [self._cells(line) for line in self.summary()]).markdown()]
        failures = [f"- {line.method}: {reason}" for line in self.summary() for reason in line.reasons]
        if failures:
            tables.append("Not run:\n\n" + "\n".join(failures))
        return "\n\n".join(tables) + "\n"

    def _cells(self, line: MethodSummary) -> list[str]:
        if not line.count:
            return [line.method, "not run", *[""] * 7]
        is_reference = line.method == self.reference or np.isnan(line.difference.mean)
        versus = ["", "", ""]
        if not is_reference:
            low, high = line.difference.low, line.difference.high
            interval = "" if np.isinf(low) else f" [{low:.3g}, {high:.3g}]"
            versus = [f"{line.difference.mean:+.3g}{interval}", f"{line.wins:.0%}", f"{line.ties:.0%}"]
        low, high = line.solved_interval
        return [
            line.method,
            f"{line.mean:.4g}",
            f"{line.median:.4g}",
            f"{line.solved:.0%} [{low:.0%}, {high:.0%}]",
            *versus,
            f"{line.evaluations:.0f}",
            f"{line.cpu_seconds:.3g}",
        ]

    def plot(self, path: str | Path | None = None) -> Figure:
        """Draw the best value so far against the cost: median over seeds and samples, with the quartiles.

        The cost is evaluations of a sample, or seconds of a solve where the budget is seconds alone.

        Args:
            path: PNG file to write; None: none.

        Returns:
            The figure of matplotlib.

        Raises:
            InputError: the file cannot be written there.
        """
        return super().plot(path)

    def __repr__(self) -> str:
        means = ", ".join(f"{line.method} {line.mean:.4g}" for line in self.summary())
        return f"Comparison({len(self.runs)} runs, reference={self.reference}; mean value: {means})"

    def _draw(self, figure: Figure) -> None:
        figure.set_size_inches(7, 4.5)
        axes = figure.subplots()
        lowest = np.inf
        for method in self.methods:
            curves = [run.curve for run in self.runs_of(method).values()]
            if not curves:
                continue
            cost, best = _resampled(curves, by_seconds=self.budget.evaluations is None)
            low, middle, high = np.quantile(best, (0.25, 0.5, 0.75), axis=1)
            (line,) = axes.plot(cost, middle, label=method)
            axes.fill_between(cost, low, high, color=line.get_color(), alpha=0.2, linewidth=0)
            lowest = min(lowest, low.min())
        if 0 < lowest < np.inf:
            axes.set_yscale("log")
        unit = "evaluations of a sample" if self.budget.evaluations is not None else "seconds of a solve"
        axes.set(xlabel=unit, ylabel="best value so far: median and quartiles")
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend()


def first_to_run(runs: Sequence[MethodRun]) -> str:
    """Return the name of the first method with a completed run; of the first method if there is none."""
    return next((run.method for run in runs if not run.reason), runs[0].method)


def _resampled(curves: Sequence[Curve], by_seconds: bool, points: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Best values on a common grid of costs: (points,) and (points, seeds * B).

    A sample has its best value at the last time it was evaluated; before its first one, that one.
    """
    pairs = []
    for curve in curves:
        best = curve.best.double().numpy()
        for sample in range(best.shape[1]):
            cost = curve.seconds if by_seconds else curve.evaluations[:, sample]
            pairs.append((cost.double().numpy(), best[:, sample]))
    first, last = max(cost[0] for cost, _ in pairs), max(cost[-1] for cost, _ in pairs)
    grid = np.linspace(first, last, points)
    columns = [best[np.searchsorted(cost, grid, side="right").clip(1) - 1] for cost, best in pairs]
    return grid, np.stack(columns, 1)


def paired_interval(differences: Tensor) -> MeanInterval:
    """Return the mean of paired differences, with a 95 % interval that counts neither seeds nor samples twice.

    Samples of one seed share their starts, and one sample is solved from several seeds. The variance is that of the
    means over the seeds, plus that of the means over the samples, less that of single differences, which is in both
    (two-way clustered, Cameron, Gelbach and Miller 2011), at least the greater of the first two. The quantile is
    Student's, with Satterthwaite's degrees of freedom. A single seed or a single sample adds nothing; one difference
    alone has an infinite interval.

    Args:
        differences: (seeds, B).

    Returns:
        The mean and its interval.
    """
    from scipy.stats import t

    array = differences.double().numpy()
    seeds, samples = array.shape
    mean = float(array.mean())
    parts = [(array.mean(axis), count) for axis, count in ((1, seeds), (0, samples)) if count > 1]
    if not parts:
        return MeanInterval(mean, -np.inf, np.inf, np.nan)
    variances = [float(means.var(ddof=1)) / count for means, count in parts]
    variance = max(variances)
    if len(parts) == 2:
        residual = array - array.mean(0) - array.mean(1, keepdims=True) + mean
        both = float(np.square(residual).sum()) / ((seeds - 1) * (samples - 1) * seeds * samples)
        variance = max(variance, sum(variances) - both)
    if variance == 0:
        return MeanInterval(mean, mean, mean, 0.0)
    freedom = sum(variances) ** 2 / sum(v**2 / (count - 1) for v, (_, count) in zip(variances, parts, strict=True))
    half_width = float(t.ppf(0.975, freedom)) * variance**0.5
    return MeanInterval(mean, mean - half_width, mean + half_width, variance**0.5)
