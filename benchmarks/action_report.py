"""Tables of `python -m benchmarks actions`: one for each agent, critic and radius, and the exact maxima."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from benchmarks.action_agents import AgentStates, ExactMaximum
from benchmarks.action_methods import CONTROL
from benchmarks.statistics import paired
from latentopt.reports import Report, Row, Table
from latentopt.rl.refine import RefinementResult
from latentopt.statistics import student

if TYPE_CHECKING:
    from matplotlib.figure import Figure


Critic = Literal["first", "min"]
NOTE = (
    "Mean gain in Q over the actor's action, with Student's 95 % interval, on states of the agent's own episodes (a "
    "stochastic actor samples its actions, as in training). Every method has the same CPU time per state, with all "
    "states in one batch; a short run determines how many steps fit. Each method has the best size of a grid, chosen "
    "on other states. Held-out twin: the gain on the second critic, if only the first is maximised. Best of all: the "
    "best method of each state. The box is in units of half the range of actions."
)


@dataclass(frozen=True, eq=False)
class ActionResults:
    """Outcome of a method on the states of an agent."""

    states: AgentStates
    critic: Critic
    box: float
    name: str
    steps: int
    starts: int
    seconds: float
    refined: RefinementResult
    held_out: Tensor | None  # (B,) gain on the twin

    @property
    def key(self) -> tuple[str, str, float]:
        return self.states.name, self.critic, self.box


def report(cells: Sequence[ActionResults], optima: Sequence[ExactMaximum]) -> Report:
    groups: dict[tuple[str, str, float], list[ActionResults]] = {}
    for cell in cells:
        groups.setdefault(cell.key, []).append(cell)
    tables = [_table(group) for group in groups.values()]
    if optima:
        tables.append(_exact_table(optima, groups))
    rows = [row for group in groups.values() for row in _rows(group)]
    return Report("Better actions from a critic", NOTE, tables, rows, partial(_draw, list(groups.values())))


def _best(group: Sequence[ActionResults]) -> Tensor:
    return torch.stack([cell.refined.gain for cell in group]).amax(0)


COLUMNS = (
    "method",
    "starts x steps",
    "CPU ms / state",
    "gain in Q [95 %]",
    "of the best",
    "minus control [95 %]",
    "held-out twin [95 %]",
)


def _table(group: Sequence[ActionResults]) -> Table:
    first, best = group[0], _best(group)
    control = next((cell for cell in group if cell.name == CONTROL), None)

    def row(cell: ActionResults) -> list[str]:
        gain = cell.refined.gain
        versus = "control" if cell is control else "" if control is None else _against(gain, control.refined.gain)
        return [
            f"**{cell.name}**" if cell is control else cell.name,
            f"{cell.starts} x {cell.steps}",
            f"{1000 * cell.seconds / len(gain):.2f}",
            _mean(gain),
            f"{float(gain.mean() / best.mean().clamp_min(1e-12)):.1%}",
            versus,
            "" if cell.held_out is None else _mean(cell.held_out),
        ]

    title = f"{first.states.name}, critic {first.critic}, box {first.box:g}"
    before = student(first.refined.before.tolist()).mean
    note = f"{len(best)} states; Q of the actor {before:.2f}; best {float(best.mean()):.4f}."
    return Table(title, note, COLUMNS, [row(cell) for cell in group])


def _mean(values: Tensor) -> str:
    mean = student(values.tolist())
    return f"{mean.mean:.4f} [{mean.low:.3f}, {mean.high:.3f}]"


def _against(ours: Tensor, theirs: Tensor) -> str:
    difference = paired(ours.tolist(), theirs.tolist()).difference
    return f"{difference.mean:+.4f} [{difference.low:.4f}, {difference.high:.4f}]"


def _exact_table(
    optima: Sequence[ExactMaximum], groups: Mapping[tuple[str, str, float], Sequence[ActionResults]]
) -> Table:
    """Compare the best gain of the methods with the exact one."""

    def row(exact: ExactMaximum) -> list[str]:
        group = groups.get((exact.name, "first", exact.box), [])
        count = len(exact.gains)
        best = [f"{float(_best(group)[:count].mean()):.4f}"] if group else [""]
        gains, bounds = torch.tensor(exact.gains), torch.tensor(exact.bounds)
        closed = f"{exact.closed} of {count}"
        return [
            exact.name,
            f"{exact.box:g}",
            *best,
            f"{gains.mean():.4f}",
            f"{bounds.mean():.4f}",
            closed,
            f"{exact.seconds:.1f}",
        ]

    columns = ("agent", "box", "best method", "branch and bound", "upper bound", "gap closed", "CPU s")
    note = "Mean gain on the first critic, of the first states only; a gap is closed below a thousandth of Q's unit."
    return Table("The exact maximum", note, columns, [row(exact) for exact in optima])


def _rows(group: Sequence[ActionResults]) -> Iterator[Row]:
    best = _best(group).tolist()
    for cell in group:
        twin = cell.held_out.tolist() if cell.held_out is not None else [""] * len(best)
        numbers = zip(cell.refined.gain.tolist(), cell.refined.before.tolist(), twin, best, strict=True)
        for state, (gain, before, held_out, maximum) in enumerate(numbers):
            yield {
                "agent": cell.states.name,
                "critic": cell.critic,
                "box": cell.box,
                "method": cell.name,
                "starts": cell.starts,
                "steps": cell.steps,
                "state": state,
                "before": before,
                "gain": gain,
                "held_out": held_out,
                "best": maximum,
                "cpu_seconds_of_all": round(cell.seconds, 4),
                "forwards": int(cell.refined.forwards[state]),
                "backwards": int(cell.refined.backwards[state]),
            }


def _draw(groups: Sequence[Sequence[ActionResults]], figure: Figure) -> None:
    figure.set_size_inches(11, 2.6 * -(-len(groups) // 3))
    for axes, group in zip(figure.subplots(-(-len(groups) // 3), 3, squeeze=False).flat, groups, strict=False):
        names = [cell.name for cell in group]
        axes.barh(names, [float(cell.refined.gain.mean()) for cell in group])
        axes.invert_yaxis()
        axes.tick_params(labelsize=5)
        axes.set_title(f"{group[0].states.name}, {group[0].critic}, box {group[0].box:g}: gain in Q", fontsize=6)
