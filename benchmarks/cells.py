"""The cells of a benchmark's tables: one method on all networks, compared with a control seed by seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.runs import Ran
from benchmarks.statistics import TIE, Pairs, mean_of, paired, reached
from latentopt.optimizers import Optimizer
from latentopt.reports import Row, Table


@dataclass(frozen=True, eq=False)
class Cell:
    """One method with one budget on all networks."""

    part: str  # table, ablation or alpha
    group: str  # the budget, or the form of ADR-GD: cells of a group are compared
    name: str
    optimizer: Optimizer
    restarts: int
    steps: int
    ran: Ran
    control: bool = False  # of its group


def control_of(cells: Sequence[Cell]) -> Cell:
    """The control of a group."""
    (control,) = (cell for cell in cells if cell.control)
    return control


def groups(cells: Sequence[Cell], part: str) -> dict[str, list[Cell]]:
    """The cells of a part by group, in order."""
    names = dict.fromkeys(cell.group for cell in cells if cell.part == part)
    return {name: [cell for cell in cells if (cell.part, cell.group) == (part, name)] for name in names}


def compared(cell: Cell, control: Cell) -> Pairs:
    """The cell's values against the control's."""
    return paired(cell.ran.values, control.ran.values)


COLUMNS = ("method", "starts x steps", "passes", "CPU s", "mean", "s.e.", "minus control [95 %]", "+ = -", "best known")
NOTE = (
    "Values are maximised. Passes: forwards and backwards of one network, all starts together. CPU seconds: of all "
    f"networks together. `+ = -`: networks on which the method is better, level (within {TIE:.1%}) and worse. Best "
    f"known: share of networks on which it comes within {TIE:.1%} of the best value met in this report."
)


def table(title: str, note: str, cells: Sequence[Cell], best: Sequence[float]) -> Table:
    """A group's cells, each against the group's control."""
    control = control_of(cells)

    def row(cell: Cell) -> list[str]:
        mean, pairs = mean_of(cell.ran.values), compared(cell, control)
        difference = pairs.difference
        against = f"{difference.mean:+.4g} [{difference.low:.4g}, {difference.high:.4g}]"
        return [
            f"**{cell.name}**" if cell is control else cell.name,
            f"{cell.restarts} x {cell.steps}",
            str(cell.ran.forwards + cell.ran.backwards),
            f"{cell.ran.seconds:.2f}",
            f"{mean.mean:.6g}",
            f"{mean.error:.3g}",
            "control" if cell is control else against,
            "" if cell is control else f"{pairs.wins} {pairs.ties} {pairs.losses}",
            f"{reached(cell.ran.values, best):.0%}",
        ]

    return Table(title, note, COLUMNS, [row(cell) for cell in cells])


def rows_of(cells: Sequence[Cell], seeds: Sequence[int], best: Sequence[float]) -> list[Row]:
    """A row for each network and cell."""
    return [
        {
            "part": cell.part,
            "group": cell.group,
            "method": cell.name,
            "restarts": cell.restarts,
            "steps": cell.steps,
            "network": seed,
            "value": value,
            "best_known": known,
            "forwards": cell.ran.forwards,
            "backwards": cell.ran.backwards,
            "cpu_seconds_of_all": round(cell.ran.seconds, 4),
            "optimizer": repr(cell.optimizer),
        }
        for cell in cells
        for seed, value, known in zip(seeds, cell.ran.values, best, strict=True)
    ]
