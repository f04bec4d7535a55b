"""Sizes for `benchmarks.policy_tuned`, found on states of levels that the benchmark does not use."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from benchmarks.policy_cells import Cell, Plan
from benchmarks.policy_methods import METHODS
from latentopt.reports import Report, Row, Table
from latentopt.rl.game_policies import GamePolicy

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NOTE = (
    "Success over all radii; the best size of each method in bold: the one with the most successes, of equal ones the "
    "one with the greatest margin."
)
Score = tuple[float, float]
"""Successes and margin, means over the radii."""


def tuning(played: Sequence[GamePolicy], plan: Plan) -> Report:
    """Every size of every method on the states of every policy."""
    scores = {one.game: _scores(one, plan) for one in played}
    best = {game: _best(own) for game, own in scores.items()}
    rows: list[Row] = [
        {"game": game, "method": method, "size": size, "success": score[0], "margin": score[1]}
        for game, own in scores.items()
        for method, sizes in own.items()
        for size, score in sizes.items()
    ]
    tables = [_table(game, own, best[game]) for game, own in scores.items()]
    title = f"Sizes for attacks on policies, {plan.evaluations} forwards and backwards a state"
    return Report(title, NOTE, tables, rows, partial(_draw, rows), f"```python\n{json.dumps(best, indent=4)}\n```")


def _scores(policy: GamePolicy, plan: Plan) -> dict[str, dict[str, Score]]:
    states = policy.states(plan.states, plan.seed)

    def score(cells: list[Cell]) -> Score:
        return sum(cell.success.mean() for cell in cells) / len(cells), sum(cell.margin for cell in cells) / len(cells)

    return {
        method: {
            size: score([plan.cell(policy, states, eps, size, form) for eps in plan.radii])
            for size, form in METHODS[method].items()
        }
        for method in plan.methods
    }


def _best(scores: dict[str, dict[str, Score]]) -> dict[str, str]:
    return {method: max(sizes, key=sizes.__getitem__) for method, sizes in scores.items()}


def _table(game: str, scores: dict[str, dict[str, Score]], best: dict[str, str]) -> Table:
    rows = [
        [method, f"**{size}**" if best[method] == size else size, f"{success:.1%}", f"{margin:.3g}"]
        for method, sizes in scores.items()
        for size, (success, margin) in sizes.items()
    ]
    return Table(game, "", ["method", "size", "success", "margin: mean"], rows)


def _draw(rows: Sequence[Row], figure: Figure) -> None:
    """Success of every size."""
    figure.set_size_inches(8, 0.22 * len(rows) + 1)
    names = [f"{row['game']}: {row['method']} {row['size']}" for row in rows]
    ax = figure.subplots()
    ax.plot([row["success"] for row in rows], names, "o")
    ax.set(xlabel="success")
    ax.grid(alpha=0.3)
