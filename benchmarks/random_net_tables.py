"""Tables and plots of the random networks: each method against a control, seed by seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmarks.random_net_runs import NetsRun
from benchmarks.statistics import TIE, Pairs, paired, reached
from latentopt.optimizers import Optimizer
from latentopt.reports import Row, Table
from latentopt.statistics import student

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class NetsResults:
    """Outcome of one method with one budget on all networks."""

    part: str  # table, ablation or alpha
    group: str  # the budget, or the form of ADR-GD: cells of a group are compared
    name: str
    optimizer: Optimizer
    restarts: int
    steps: int
    ran: NetsRun
    control: bool = False  # of its group


def control_of(cells: Sequence[NetsResults]) -> NetsResults:
    """The control of a group."""
    (control,) = (cell for cell in cells if cell.control)
    return control


def groups(cells: Sequence[NetsResults], part: str) -> dict[str, list[NetsResults]]:
    """The cells of a part by group, in order."""
    names = dict.fromkeys(cell.group for cell in cells if cell.part == part)
    return {name: [cell for cell in cells if (cell.part, cell.group) == (part, name)] for name in names}


def compared(cell: NetsResults, control: NetsResults) -> Pairs:
    """Compare the cell's values with the control's."""
    return paired(cell.ran.values, control.ran.values)


COLUMNS = ("method", "starts x steps", "passes", "CPU s", "mean", "s.e.", "minus control [95 %]", "+ = -", "best known")
NOTE = (
    "Values are maximised. Passes: forwards and backwards of one network, all starts together. CPU seconds: of all "
    f"networks together. `+ = -`: number of networks on which the method is better, level (within {TIE:.1%}) and "
    f"worse. Best known: share of networks on which it comes within {TIE:.1%} of the best value in this report."
)


def table(title: str, note: str, cells: Sequence[NetsResults], best: Sequence[float]) -> Table:
    """Tabulate a group's cells, each compared with the group's control."""
    control = control_of(cells)

    def row(cell: NetsResults) -> list[str]:
        mean, pairs = student(cell.ran.values), compared(cell, control)
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


def rows_of(cells: Sequence[NetsResults], seeds: Sequence[int], best: Sequence[float]) -> list[Row]:
    """Return a row for each network and cell."""
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


def random_nets(cells: Sequence[NetsResults], figure: Figure) -> None:
    """Plot a panel for each group of each part."""
    panels = [(part, group) for part in ("table", "ablation", "alpha") for group in groups(cells, part).items()]
    heights = [max(len(group[1]), 8) for _, group in panels]
    figure.set_size_inches(8, 1.2 + 0.24 * sum(heights))
    axes = figure.subplots(len(panels), 1, squeeze=False, gridspec_kw={"height_ratios": heights})[:, 0]
    for ax, (part, (name, group)) in zip(axes, panels, strict=True):
        (_slopes if part == "alpha" else _bars)(ax, group)
        ax.set_title(f"{part}: {name}", fontsize=10)


def _relative(cell: NetsResults, control: NetsResults) -> tuple[float, list[float]]:
    """Return the mean gain and the distances to both ends of its interval, in per cent of the control's mean."""
    difference = compared(cell, control).difference
    scale = 100 / abs(sum(control.ran.values) / len(control.ran.values))
    return difference.mean * scale, [
        (difference.mean - difference.low) * scale,
        (difference.high - difference.mean) * scale,
    ]


def _bars(ax: Any, cells: Sequence[NetsResults]) -> None:
    control = control_of(cells)
    for index, cell in enumerate(cells):
        middle, errors = _relative(cell, control)
        color = "tab:orange" if cell.restarts == 1 else "tab:blue"
        ax.errorbar(middle, -index, xerr=[[r] for r in errors], fmt="o", color=color, markersize=4, capsize=2)
    ax.set_yticks(
        [-index for index in range(len(cells))], [f"{c.name}  {c.restarts} x {c.steps}" for c in cells], fontsize=7
    )
    ax.axvline(0, color="black", linewidth=0.8)
    ax.set_xlabel(f"gain over {control.name}, %, with its 95 % interval", fontsize=8)
    ax.grid(alpha=0.3)


def _slopes(ax: Any, cells: Sequence[NetsResults]) -> None:
    control = control_of(cells)
    gains = [_relative(cell, control) for cell in cells]
    errors = [[errors[side] for _, errors in gains] for side in (0, 1)]
    ax.errorbar([float(cell.name) for cell in cells], [middle for middle, _ in gains], yerr=errors, fmt="o-", capsize=3)
    ax.set(xscale="log", xlabel="alpha", ylabel=f"gain over {float(control.name):g}, %")
    ax.grid(alpha=0.3)


def tuning(cells: Sequence[NetsResults], figure: Figure) -> None:
    """Plot the mean by size: a line for each method, a panel for each number of starts."""
    restarts = list(dict.fromkeys(cell.restarts for cell in cells))
    figure.set_size_inches(8, 4.5 * len(restarts))
    for ax, n in zip(figure.subplots(len(restarts), 1, squeeze=False)[:, 0], restarts, strict=True):
        for name, group in groups([cell for cell in cells if cell.restarts == n], "tuning").items():
            means = [sum(cell.ran.values) / len(cell.ran.values) for cell in group]
            ax.plot([float(cell.name) for cell in group], means, "o-", label=name, markersize=3)
        ax.set(xscale="log", xlabel="size", ylabel="mean value", title=f"{n} x {cells[0].steps}")
        ax.grid(alpha=0.3)
        ax.legend(fontsize=7)
