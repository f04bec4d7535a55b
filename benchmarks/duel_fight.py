"""One method on one case of `latentopt bench duel`: rounds of starts, until its time and its passes are spent."""

from __future__ import annotations

import itertools
import math
import time
from dataclasses import dataclass, field

import torch
from torch import Tensor

from benchmarks.duel_cases import Case
from benchmarks.duel_methods import Trial
from benchmarks.inverted import RECOVERED
from latentopt.optimizers import Optimizer
from latentopt.solver.callbacks import Progress
from latentopt.solver.loop import solve


@dataclass(eq=False)
class Watch:
    """The clock of a method: what is best so far, when, and for how many passes. A callback that ends in time."""

    case: Case
    begun: float = field(default_factory=time.process_time)
    times: list[float] = field(default_factory=list)
    passes: list[float] = field(default_factory=list)  # of a problem, in the mean
    values: list[Tensor] = field(default_factory=list)  # (B,) each, falling

    def __post_init__(self) -> None:
        self.best = self.case.problem.like.new_full((self.case.problem.batch,), torch.inf)
        self.rows, self.before = torch.arange(len(self.best)), 0

    def __call__(self, progress: Progress) -> bool:
        self.spent = self.before + progress.forwards + progress.backwards
        self.best = self.best.index_copy(0, self.rows, torch.minimum(self.best[self.rows], progress.best))
        self.times.append(time.process_time() - self.begun)
        self.passes.append(self.spent / len(self.best))
        self.values.append(self.best)
        return self.over()

    def over(self) -> bool:
        """Whether both budgets are spent, or twice the time, or all is solved."""
        late = self.times[-1] / self.case.seconds
        return late >= 2 or (late >= 1 and self.passes[-1] >= self.case.passes) or not len(self.left())

    def left(self) -> Tensor:
        """The problems that are not solved (rows,) long."""
        success = self.case.problem.success
        open_ = torch.ones_like(self.best, dtype=torch.bool) if success is None else ~success(self.best, self.best)
        return open_.nonzero()[:, 0]

    def next_round(self) -> Tensor:
        """Go on with what is left."""
        self.rows, self.before = self.left(), self.spent if self.times else 0
        return self.rows


@dataclass(frozen=True, eq=False)
class Fought:
    """What a method reached on a case."""

    case: Case
    optimizer: Optimizer
    times: list[float]  # CPU seconds
    passes: list[float]  # of a problem
    values: Tensor  # (times, B) least objective so far

    def at(self, seconds: float = math.inf, passes: float = math.inf) -> Tensor:
        """Least objectives (B,) when a budget was spent."""
        pairs = zip(self.times, self.passes, strict=True)
        within = sum(t <= seconds and p <= passes for t, p in pairs)
        return self.values[max(within, 1) - 1]

    def recovered_at(self, among: list[float], most: float) -> float:
        """Of ``among`` (`times` or `passes`), when all was recovered; ``most`` at the latest."""
        whole = (self.values < RECOVERED).all(1).nonzero()[:, 0]
        return min(among[int(whole[0])], most) if len(whole) else most


def fight(case: Case, trial: Trial) -> Fought:
    """Let a method work."""
    problem, watch = case.posed(trial.boxed), Watch(case)
    halving = [pair for pair in trial.halving if pair[0] < trial.steps]
    for number in itertools.count() if case.family != "single" else range(1):
        rows = watch.next_round()
        part = problem.take(rows)
        solve(
            part,
            trial.optimizer,
            steps=trial.steps,
            restarts=trial.restarts,
            seed=case.seed + 1000 * number,
            start=case.starts(trial.restarts, number)[:, rows],
            patience=trial.patience,
            halving=halving,
            callbacks=[watch],
        )
        if watch.over():
            break
    return Fought(case, trial.optimizer, watch.times, watch.passes, torch.stack(watch.values))
