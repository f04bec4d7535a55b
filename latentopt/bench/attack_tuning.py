"""Sizes for `latentopt.bench.attack_tuned`, found on images that the benchmark does not use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from latentopt.bench.attack_cells import Cell, draw, heading, rows_of
from latentopt.bench.attack_methods import Method
from latentopt.bench.attacked import Case, attacked
from latentopt.bench.report import Report, Table

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
    constants = "\n".join(f'"{data}": {_best(scores[data])!r},' for data in datasets)
    tables = [_table(data, scores[data]) for data in datasets]
    named = ", ".join(heading(case) for case in cases)
    title = f"Sizes for attacks, {budget} gradient evaluations: {named}"
    return Report(title, NOTE, tables, rows_of(cells), partial(draw, cells), f"```python\n{constants}\n```")


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


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _margin(cell: Cell) -> float:
    return cell.judged.margin.mean().item()
