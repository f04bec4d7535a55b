"""Methods with their eight settings, and a trial of one setting within its budget."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import product

import torch
from torch import Tensor

from benchmarks.head_to_head_problems import BudgetedProblem
from benchmarks.inversion_methods import RECOVERED
from benchmarks.tuned import TUNED
from latentopt.optimizers import (
    ADRGD,
    APGD,
    CMAES,
    GD,
    LBFGS,
    PGD,
    Adam,
    LevenbergMarquardt,
    Optimizer,
    SoftGates,
)
from latentopt.solver.callbacks import Progress
from latentopt.solver.loop import solve


@dataclass(frozen=True)
class Trial:
    """Setting of a method.

    Args:
        optimizer: the method.
        steps: of a round, at most; the next round has other starts.
        restarts: starts that go on at once.
        halving: which of them go on, as in `latentopt.solve`.
        patience: after so many steps without a gain a start leaves; None: never.
        boxed: it is to have a box also among latents.
    """

    optimizer: Optimizer
    steps: int
    restarts: int = 1
    halving: Sequence[tuple[int, int]] = ()
    patience: int | None = None
    boxed: bool = False


MOST = 1000
"""Steps per start of a method without a schedule."""
LONGER = 3
"""Length of the longer of two schedules, in units of the case's steps."""
Halved = Sequence[tuple[int, tuple[tuple[int, int], ...]]]
HALVED: Halved = ((1, ()), (4, ((10, 2), (25, 1))), (4, ((50, 2), (120, 1))), (8, ((20, 4), (60, 2), (150, 1))))
"""Number of simultaneous starts, and their halving schedule."""
OPENED: Halved = ((1, ()), (4, ((20, 1),)), (4, ((25, 2), (60, 1))), (8, ((20, 4), (60, 2), (150, 1))))
"""The same for a method with a first phase of 15 steps."""
TrialGrid = Callable[[BudgetedProblem], list[Trial]]
Sizes = tuple[float, float, float, float]


def planned(
    build: Callable[[float, BudgetedProblem], Optimizer], latents: Sizes, boxes: Sizes, boxed: bool = False
) -> TrialGrid:
    """Return settings from four step sizes (different for latents and boxes) and two schedule lengths."""

    def trials(case: BudgetedProblem) -> list[Trial]:
        restarts = _at_once(case)
        sizes = latents if case.scale else boxes
        return [Trial(build(s, case), n * case.steps, restarts, boxed=boxed) for s in sizes for n in (1, LONGER)]

    return trials


def _at_once(case: BudgetedProblem) -> int:
    """Return the number of starts, at most eight, for which the longest schedule fits into the passes."""
    return 1 if case.family == "single" else min(8, max(1, case.passes // (2 * LONGER * case.steps)))


def stepless(optimizers: Sequence[Optimizer], patience: tuple[int, int], halved: Halved = HALVED) -> TrialGrid:
    """Methods that end by themselves: from single starts four forms, else four ways with starts; two patiences."""

    def trials(case: BudgetedProblem) -> list[Trial]:
        if case.family == "single":
            return [Trial(optimizer, MOST, patience=n) for optimizer, n in product(optimizers, patience)]
        return [Trial(optimizers[0], MOST, count, keep, n) for (count, keep), n in product(halved, patience)]

    return trials


def lbfgs(case: BudgetedProblem) -> list[Trial]:
    """Within the box of latents and without it; the first trial of a search, or what is done with several starts."""
    if case.family == "single":
        forms, patience, boxed = [LBFGS(64, first=first) for first in (0.2, 0.5)], (10, 30), (False, True)
        return [Trial(f, MOST, patience=n, boxed=b) for f, n, b in product(forms, patience, boxed)]
    return [Trial(LBFGS(64), MOST, count, keep, 10, b) for (count, keep), b in product(HALVED, (False, True))]


def _l2(size: float, case: BudgetedProblem) -> Optimizer:
    length = size * case.unit * case.problem.like.new_empty(case.problem.shape).numel() ** 0.5
    return GD(length, normalize=True, schedule="quadratic")


OPPONENTS: dict[str, TrialGrid] = {
    "pgd": planned(lambda s, case: PGD(s), (0.01, 0.03, 0.1, 0.3), (0.3, 0.6, 1.0, 2.0), boxed=True),
    "l2-pgd": planned(_l2, (0.02, 0.05, 0.15, 0.5), (0.1, 0.3, 1.0, 2.0)),
    "apgd": planned(lambda s, case: APGD(s), (0.02, 0.05, 0.15, 0.5), (0.25, 0.5, 1.0, 2.0), boxed=True),
    "adam": planned(lambda s, case: Adam(s * case.unit), (0.05, 0.1, 0.2, 0.4), (0.03, 0.1, 0.3, 1.0)),
    "lbfgs": lbfgs,
    "lm": stepless([LevenbergMarquardt(damping) for damping in (1e-4, 1e-2, 1e-6, 1.0)], (5, 15)),
    "cma-es": planned(lambda s, case: CMAES(sigma=s), (0.1, 0.3, 0.6, 1.0), (0.1, 0.3, 0.6, 1.0)),
}
"""Methods by name. Sizes are in units of a box's half width. For latents sign-PGD and APGD use
`benchmarks.head_to_head_problems.REACH` as the unit, the other methods a standard deviation."""
SQUARES = ("lm",)
"""Methods for sums of squares only."""
OURS, CONTROL = "adr-gd", "adr-gd-gates-off"


def ours(case: BudgetedProblem, on: bool = True) -> list[Trial]:
    """Return ADR-GD's default; off: the same with the network's own gates.

    Of latents it has one setting for all, and from single starts nothing is tried; in boxes the steps of its opening go
    on to the end, and four degrees of softness are tried.
    """
    off = 1e-9
    if not case.scale:
        gates = [SoftGates(tau if on else off, steps=15, share=2 / 3) for tau in (0.1, 0.25, 0.5, 1.0)]
        return [Trial(ADRGD(g, PGD()), n * case.steps, _at_once(case)) for g in gates for n in (1, LONGER)]
    return stepless([ADRGD() if on else ADRGD(SoftGates(off, steps=15, share=2 / 3))], (25, 40), OPENED)(case)


METHODS: dict[str, TrialGrid] = {OURS: ours, CONTROL: partial(ours, on=False), **OPPONENTS}


def chosen_trial(name: str, case: BudgetedProblem) -> Trial:
    """Return the best setting on the tuning seeds, or the first if nothing was tuned; the control uses ours."""
    step = TUNED["head-to-head"].get(case.family, {}).get(case.name, {}).get(OURS if name == CONTROL else name, 0)
    return METHODS[name](case)[step]


@dataclass(eq=False)
class BudgetClock:
    """Callback that records the best values by time and passes, and stops at the budget."""

    case: BudgetedProblem
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
        """Whether both budgets are spent, or twice the time, or all problems are solved."""
        late = self.times[-1] / self.case.seconds
        return late >= 2 or (late >= 1 and self.passes[-1] >= self.case.passes) or not len(self.left())

    def left(self) -> Tensor:
        """Indices of the unsolved problems, (rows,) long."""
        success = self.case.problem.success
        open_ = torch.ones_like(self.best, dtype=torch.bool) if success is None else ~success(self.best, self.best)
        return open_.nonzero()[:, 0]

    def next_round(self) -> Tensor:
        """Continue with the remaining problems."""
        self.rows, self.before = self.left(), self.spent if self.times else 0
        return self.rows


@dataclass(frozen=True, eq=False)
class MethodTrace:
    """Outcome of a method on a case."""

    case: BudgetedProblem
    optimizer: Optimizer
    times: list[float]  # CPU seconds
    passes: list[float]  # of a problem
    values: Tensor  # (times, B) least objective so far

    def at(self, seconds: float = math.inf, passes: float = math.inf) -> Tensor:
        """Least objectives (B,) at the end of a budget."""
        pairs = zip(self.times, self.passes, strict=True)
        count = sum(t <= seconds and p <= passes for t, p in pairs)
        return self.values[max(count, 1) - 1]

    def recovered_at(self, among: list[float], limit: float) -> float:
        """Return when all was recovered, in ``among`` (`times` or `passes`); at most ``limit``."""
        whole = (self.values < RECOVERED).all(1).nonzero()[:, 0]
        return min(among[int(whole[0])], limit) if len(whole) else limit


def run_trial(case: BudgetedProblem, trial: Trial) -> MethodTrace:
    """Run a method."""
    problem, watch = case.posed(trial.boxed), BudgetClock(case)
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
    return MethodTrace(case, trial.optimizer, watch.times, watch.passes, torch.stack(watch.values))
