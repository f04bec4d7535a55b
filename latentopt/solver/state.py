"""The state of a solve. A row is one restart of one sample; rows are restart-major, row = restart * B + sample."""

from __future__ import annotations

from itertools import groupby
from typing import NamedTuple

import torch
from torch import Tensor

from latentopt.batch_math import where_rows
from latentopt.errors import InputError
from latentopt.optimizers.base import Cost, State
from latentopt.problem import Success

ACTIVE = -1
"""Status of a row that has not stopped."""


class Rows(NamedTuple):
    """Iterate and best point of each row."""

    x: Tensor  # (rows, *shape) the next iterate to evaluate; of a stopped row, where it stopped
    best_x: Tensor  # (rows, *shape) best point so far
    best: Tensor  # (rows,) objective there; inf: no point yet
    solved: Tensor  # (rows,) bool, whether best_x passes the success test
    best_at_break: Tensor  # (rows,) `best` when the row last met a value that is not finite; inf: never
    patience_bar: Tensor  # (rows,) a `best` below it counts as an improvement for `patience`
    improved_at: Tensor  # (rows,) long, the step of the last such improvement


class SolverState(NamedTuple):
    """Everything that changes during a solve of R = restarts * B rows, A of which are active."""

    t: int  # steps done
    seconds: float  # that the calls took which this solve has resumed
    cost: Cost  # of each active row so far
    dearest: int  # evaluations of a row in its most expensive step
    active: Tensor  # (A,) long, indices of the active rows
    rows: Rows  # of the active rows
    method: State  # of the active rows
    stopped: Rows  # of all R; out of date where a row is active
    status: Tensor  # (R,) long, a `Status` or ACTIVE
    forwards: Tensor  # (R,) long, of the stopped rows
    backwards: Tensor  # (R,) long, of the stopped rows
    history: dict[str, Tensor]  # name to (steps, R), NaN once a row has stopped

    def all_rows(self) -> Rows:
        """Return all R rows, up to date."""
        if len(self.active) == len(self.status):
            return self.rows
        return replace_rows(self.stopped, self.active, self.rows)

    def totals(self) -> Cost:
        """Return forwards and backwards of all samples together."""
        stopped = int(self.forwards.sum()), int(self.backwards.sum())
        return Cost(*(done + len(self.active) * cost for done, cost in zip(stopped, self.cost, strict=True)))


class History:
    """Figures of every step by name; NaN where a row had stopped.

    Args:
        count: number of rows R.
        past: figures of the steps before those that are added, name to (steps, R).
    """

    def __init__(self, count: int, past: dict[str, Tensor]) -> None:
        self.count, self.past = count, past
        self.recent: list[tuple[Tensor, dict[str, Tensor]]] = []  # of each later step: active rows and their figures

    def add(self, active: Tensor, figures: dict[str, Tensor]) -> None:
        """Add the figures (A,) of a step; ``active`` is the same tensor as long as the same rows are active."""
        self.recent.append((active, figures))

    def last(self) -> dict[str, Tensor]:
        """Return the figures (R,) of the last step."""
        active, figures = self.recent[-1]
        return {name: self._of_all(active, values[None])[0] for name, values in figures.items()}

    def tensors(self) -> dict[str, Tensor]:
        """Return the figures (steps, R) of all steps."""
        parts = [self.past] if self.past else []
        for _, group in groupby(self.recent, lambda step: (id(step[0]), step[1].keys())):
            steps = list(group)
            active, first = steps[0]
            stacked = {name: torch.stack([figures[name] for _, figures in steps]) for name in first}
            parts.append({name: self._of_all(active, values) for name, values in stacked.items()})
        if self.recent:
            gaps = [torch.full_like(part["loss"], torch.nan) for part in parts]  # of another phase
            pairs = list(zip(parts, gaps, strict=True))
            self.past = {name: torch.cat([part.get(name, gap) for part, gap in pairs]) for name in parts[0]}
            self.recent = []
        return self.past

    def _of_all(self, active: Tensor, values: Tensor) -> Tensor:
        """Return values (steps, A) as (steps, R)."""
        if len(active) == self.count:
            return values
        return values.new_full((len(values), self.count), torch.nan).index_copy(1, active, values)


def replace_rows(rows: Rows, indices: Tensor, part: Rows) -> Rows:
    """Return the rows with those at ``indices`` (long) replaced."""
    return Rows(*(old.index_copy(0, indices, new) for old, new in zip(rows, part, strict=True)))


def update_best(rows: Rows, value: Tensor, output: Tensor, success: Success | None) -> Rows:
    """Return the rows with their best points updated by the objective ``value`` (rows,), finite or NaN, at `x`.

    Raises:
        InputError: ``success`` does not answer for each sample.
    """
    better = value < rows.best
    if success:  # a solved iterate beats every other; its row then stops, so the best was not solved
        solved = success(value, output)
        if getattr(solved, "shape", None) != value.shape:
            got = getattr(solved, "shape", type(solved).__name__)
            raise InputError("success", f"one answer a sample, shape ({len(value)},)", got)
        rows = rows._replace(solved=solved & ~value.isnan())
        better = better | rows.solved
    best_x = where_rows(better, rows.x, rows.best_x)
    return rows._replace(best_x=best_x, best=torch.where(better, value, rows.best))


def best_rows(rows: Rows, restarts: int) -> Tensor:
    """Return the row (B,) of each sample's best restart: solved restarts before the others, then by objective."""
    best, solved = rows.best.reshape(restarts, -1), rows.solved.reshape(restarts, -1)
    restart = best.masked_fill(solved.any(0) & ~solved, torch.inf).argmin(0)
    return restart * best.shape[1] + torch.arange(best.shape[1], device=best.device)
