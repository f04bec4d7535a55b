"""Step sizes for `benchmarks.tuned`, found on networks that the benchmark does not use."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from benchmarks import plots
from benchmarks.cells import Cell, rows_of
from benchmarks.methods import Method
from benchmarks.parts import Plan
from benchmarks.runs import rate, steps_within
from benchmarks.statistics import mean_of
from latentopt.reports import Report, Table

NOTE = "Means of the values, which are maximised, at equal counted cost; the best size of each method in bold."


def tuning(plan: Plan, methods: Mapping[str, Method]) -> Report:
    """Every size of every method, at equal counted cost; the best mean is chosen."""
    cells = [cell for restarts in (1, plan.starts) for cell in _cells(plan, methods, restarts)]
    best = [max(values) for values in zip(*(cell.ran.values for cell in cells), strict=True)]
    title = f"Sizes for random networks {plan.model}, seeds {plan.nets.seeds[0]} to {plan.nets.seeds[-1]}"
    constants = "\n\n".join(_constants(plan, [c for c in cells if c.restarts == n]) for n in (1, plan.starts))
    rows = rows_of(cells, plan.nets.seeds, best)
    return Report(title, NOTE, [_table(cells)], rows, partial(plots.tuning, cells), f"```python\n{constants}\n```")


def _cells(plan: Plan, methods: Mapping[str, Method], restarts: int) -> Iterator[Cell]:
    for name, method in methods.items():
        steps = 0
        for size in method.sizes:
            optimizer = method.build(size)
            steps = steps or steps_within(
                plan.passes / restarts, rate(plan.nets, optimizer, restarts, plan.probe).passes
            )
            yield plan.cell("tuning", name, f"{size:g}", optimizer, steps, restarts)


def _best(cells: Sequence[Cell]) -> dict[str, Cell]:
    """Of each method the cell with the greatest mean."""
    best: dict[str, Cell] = {}
    for cell in cells:
        if cell.group not in best or sum(cell.ran.values) > sum(best[cell.group].ran.values):
            best[cell.group] = cell
    return best


def _constants(plan: Plan, cells: Sequence[Cell]) -> str:
    sizes = ", ".join(f'"{name}": {float(cell.name)!r}' for name, cell in _best(cells).items())
    return f'("{plan.model}", {cells[0].restarts > 1}): {{{sizes}}},'


def _table(cells: Sequence[Cell]) -> Table:
    restarts = dict.fromkeys(cell.restarts for cell in cells)
    chosen = {id(cell) for n in restarts for cell in _best([c for c in cells if c.restarts == n]).values()}

    def row(cell: Cell) -> list[str]:
        mean = mean_of(cell.ran.values)
        size = f"**{cell.name}**" if id(cell) in chosen else cell.name
        return [cell.group, f"{cell.restarts} x {cell.steps}", size, f"{mean.mean:.6g}", f"{mean.error:.3g}"]

    return Table(
        "Mean by size",
        "",
        ["method", "starts x steps", "size", "mean", "s.e."],
        [row(c) for c in cells],
    )
