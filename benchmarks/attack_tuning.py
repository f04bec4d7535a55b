"""Sizes for `benchmarks.attack_tuned`, found on images that the benchmark does not use."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from benchmarks.attack_cells import Cell, heading, rows_of
from benchmarks.attack_methods import Method
from benchmarks.attacked import Case, attacked
from latentopt.reports import Report, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NOTE = (
    "Success and mean margin over all networks and radii of a data set; the best size of each method in bold: the one "
    "with the most successes, of equal ones the one with the greatest margin."
)
Score = tuple[float, float]
"""Success and margin."""


def tuning(cases: Sequence[Case], methods: Mapping[str, Method], budget: int) -> Report:
    """Every size of every method on every case; one size is chosen for each data set."""
    cells = [
        Cell("tuning", name, f"{size:g}", case, budget, attacked(case, method.at(case, size), budget))
        for case in cases
        for name, method in methods.items()
        for size in method.sizes
    ]
    datasets = list(dict.fromkeys(case.data for case in cases))
    scores = {data: _scores([cell for cell in cells if cell.case.data == data]) for data in datasets}
    constants = "\n".join(f'"{data}": {json.dumps(_best(scores[data]))},' for data in datasets)
    tables = [_table(data, scores[data]) for data in datasets]
    named = ", ".join(heading(case) for case in cases)
    title = f"Sizes for attacks, {budget} gradient evaluations: {named}"
    return Report(title, NOTE, tables, rows_of(cells), partial(_draw, scores), f"```python\n{constants}\n```")


def _scores(cells: Sequence[Cell]) -> dict[tuple[str, float], Score]:
    """By method and size."""
    groups: dict[tuple[str, float], list[Cell]] = {}
    for cell in cells:
        groups.setdefault((cell.group, float(cell.name)), []).append(cell)
    return {key: (_mean([c.rate for c in own]), _mean([_margin(c) for c in own])) for key, own in groups.items()}


def _best(scores: Mapping[tuple[str, float], Score]) -> dict[str, float]:
    best: dict[str, float] = {}
    for (name, size), score in scores.items():
        if name not in best or score > scores[name, best[name]]:
            best[name] = size
    return best


def _table(data: str, scores: Mapping[tuple[str, float], Score]) -> Table:
    best = _best(scores)
    rows = [
        [name, f"**{size:g}**" if best[name] == size else f"{size:g}", f"{success:.1%}", f"{margin:.3g}"]
        for (name, size), (success, margin) in scores.items()
    ]
    return Table(data, "", ["method", "size", "success", "margin: mean"], rows)


def _draw(scores: Mapping[str, Mapping[tuple[str, float], Score]], figure: Figure) -> None:
    """Success by size: a panel for each data set, a line for each method."""
    figure.set_size_inches(8, 4.5 * len(scores))
    for ax, (data, own) in zip(figure.subplots(len(scores), 1, squeeze=False)[:, 0], scores.items(), strict=True):
        for name in dict.fromkeys(name for name, _ in own):
            points = [(size, success) for (method, size), (success, _) in own.items() if method == name]
            ax.plot(*zip(*points, strict=True), "o-", label=name, markersize=3)
        ax.set(xscale="symlog", xlabel="size", ylabel="success", title=data)
        ax.grid(alpha=0.3)
        ax.legend(fontsize=7)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _margin(cell: Cell) -> float:
    return cell.judged.margin.mean().item()
