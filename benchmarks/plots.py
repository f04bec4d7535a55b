"""The plot of the random networks: each method's gain over the control, with its 95 % interval."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from benchmarks.cells import Cell, compared, control_of, groups

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def random_nets(cells: Sequence[Cell], figure: Figure) -> None:
    """A panel for each group of each part."""
    panels = [(part, group) for part in ("table", "ablation", "alpha") for group in groups(cells, part).items()]
    heights = [max(len(group[1]), 8) for _, group in panels]
    figure.set_size_inches(8, 1.2 + 0.24 * sum(heights))
    axes = figure.subplots(len(panels), 1, squeeze=False, gridspec_kw={"height_ratios": heights})[:, 0]
    for ax, (part, (name, group)) in zip(axes, panels, strict=True):
        (_slopes if part == "alpha" else _bars)(ax, group)
        ax.set_title(f"{part}: {name}", fontsize=10)


def _relative(cell: Cell, control: Cell) -> tuple[float, list[float]]:
    """The mean gain and its interval's reach to either side, in per cent of the control's mean."""
    difference = compared(cell, control).difference
    scale = 100 / abs(sum(control.ran.values) / len(control.ran.values))
    return difference.mean * scale, [
        (difference.mean - difference.low) * scale,
        (difference.high - difference.mean) * scale,
    ]


def _bars(ax: Any, cells: Sequence[Cell]) -> None:
    control = control_of(cells)
    for at, cell in enumerate(cells):
        middle, reach = _relative(cell, control)
        color = "tab:orange" if cell.restarts == 1 else "tab:blue"
        ax.errorbar(middle, -at, xerr=[[r] for r in reach], fmt="o", color=color, markersize=4, capsize=2)
    ax.set_yticks([-at for at in range(len(cells))], [f"{c.name}  {c.restarts} x {c.steps}" for c in cells], fontsize=7)
    ax.axvline(0, color="black", linewidth=0.8)
    ax.set_xlabel(f"gain over {control.name}, %, with its 95 % interval", fontsize=8)
    ax.grid(alpha=0.3)


def _slopes(ax: Any, cells: Sequence[Cell]) -> None:
    control = control_of(cells)
    gains = [_relative(cell, control) for cell in cells]
    reach = [[reach[side] for _, reach in gains] for side in (0, 1)]
    ax.errorbar([float(cell.name) for cell in cells], [middle for middle, _ in gains], yerr=reach, fmt="o-", capsize=3)
    ax.set(xscale="log", xlabel="alpha", ylabel=f"gain over {float(control.name):g}, %")
    ax.grid(alpha=0.3)


def tuning(cells: Sequence[Cell], figure: Figure) -> None:
    """The mean by size: a line for each method, a panel for each number of starts."""
    restarts = list(dict.fromkeys(cell.restarts for cell in cells))
    figure.set_size_inches(8, 4.5 * len(restarts))
    for ax, n in zip(figure.subplots(len(restarts), 1, squeeze=False)[:, 0], restarts, strict=True):
        for name, group in groups([cell for cell in cells if cell.restarts == n], "tuning").items():
            means = [sum(cell.ran.values) / len(cell.ran.values) for cell in group]
            ax.plot([float(cell.name) for cell in group], means, "o-", label=name, markersize=3)
        ax.set(xscale="log", xlabel="size", ylabel="mean value", title=f"{n} x {cells[0].steps}")
        ax.grid(alpha=0.3)
        ax.legend(fontsize=7)
