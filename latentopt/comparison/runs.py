"""Runs of one method within a budget, with the best values along the way."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from latentopt.arguments import Values
from latentopt.errors import InputError, positive
from latentopt.optimizers import Optimizer
from latentopt.problem import Problem
from latentopt.reports import Row
from latentopt.solver.callbacks import Callback, Progress
from latentopt.solver.loop import solve
from latentopt.solver.result import Status

PROBE_SHARE = 0.05
"""Share of a time budget that the probe of a method may take."""
PROBE_STEPS = 1000
"""Steps that the probe of a method may take at most."""
NOTHING = torch.empty(0, dtype=torch.long, device="cpu")


@dataclass(frozen=True)
class Budget:
    """The cost that each method may spend on each sample.

    Args:
        evaluations: forwards and backwards of all restarts of a sample, the closing evaluations included.
        seconds: wall-clock seconds of a solve of all samples.
        restarts: starts of each sample.
        steps: steps of each restart, where schedules end; None: as many as the budget pays for.

    Raises:
        InputError: neither `evaluations` nor `seconds` is given, or a number is not positive.
    """

    evaluations: int | None = None
    seconds: float | None = None
    restarts: int = 1
    steps: int | None = None

    def __post_init__(self) -> None:
        if self.evaluations is None and self.seconds is None:
            raise InputError("evaluations", "a budget: evaluations, seconds or both", "neither")
        positive("restarts", self.restarts, integer=True)
        for name in ("evaluations", "seconds", "steps"):
            value = getattr(self, name)
            if value is not None:
                positive(name, value, integer=name != "seconds")


class Curve(NamedTuple):
    """Best objectives during a solve of T steps; the last entry is what the solve returned."""

    evaluations: Tensor  # (T + 1, B) forwards and backwards of each sample so far
    seconds: Tensor  # (T + 1,) wall-clock, since the solve began
    best: Tensor  # (T + 1, B)


NO_CURVE = Curve(NOTHING, NOTHING, NOTHING)


@dataclass(frozen=True, eq=False)
class MethodRun:
    """One method on all samples from the starts of one seed.

    A run that raised `InputError` has a `reason`, and no samples. A method that can run from no seed has one such run,
    with ``seed=None``.
    """

    method: str
    seed: int | None
    status: tuple[Status, ...] = field(default=(), repr=False)  # B
    value: Tensor = field(default=NOTHING, repr=False)  # (B,) objective, minimised
    forwards: Tensor = field(default=NOTHING, repr=False)  # (B,) long
    backwards: Tensor = field(default=NOTHING, repr=False)  # (B,) long
    cpu_seconds: float = 0.0  # of a sample: of the solve, shared equally
    wall_seconds: float = 0.0  # of a sample: of the solve, shared equally
    curve: Curve = field(default=NO_CURVE, repr=False)
    steps: int = 0  # planned steps of each restart
    reason: str = ""

    @property
    def solved(self) -> Tensor:
        """Return whether each sample is solved (B,)."""
        return torch.tensor([status is Status.SOLVED for status in self.status], dtype=torch.bool, device="cpu")

    def rows(self) -> list[Row]:
        """Return one row a sample for the table of results; of a failed run one row with the reason."""
        if self.reason:
            return [_row(self.method, self.seed, reason=self.reason)]
        columns = zip(self.value.tolist(), self.status, self.forwards.tolist(), self.backwards.tolist(), strict=True)
        return [
            _row(
                self.method,
                self.seed,
                sample=sample,
                steps=self.steps,
                value=value,
                solved=status is Status.SOLVED,
                status=status.name.lower(),
                forwards=forwards,
                backwards=backwards,
                cpu_seconds=round(self.cpu_seconds, 6),
                wall_seconds=round(self.wall_seconds, 6),
            )
            for sample, (value, status, forwards, backwards) in enumerate(columns)
        ]


COLUMNS = ("method", "seed", "sample", "steps", "value", "solved", "status", "forwards", "backwards", "cpu_seconds")
COLUMNS = (*COLUMNS, "wall_seconds", "reason")


def _row(method: str, seed: int | None, **values: object) -> Row:
    row = {"method": method, "seed": "" if seed is None else seed, **values}
    return {name: row.get(name, "") for name in COLUMNS}


class CurveRecorder:
    """A callback that records cost and best values of every step.

    Args:
        restarts: of each sample.
    """

    def __init__(self, restarts: int) -> None:
        self.restarts = restarts
        self.total = 0  # evaluations of all samples so far
        self.cheapest = 0  # evaluations of a row in its cheapest step
        self.dearest_first = 0  # of a row in the first step
        self.evaluations: list[Tensor] = []
        self.seconds: list[float] = []
        self.best: list[Tensor] = []

    def __call__(self, progress: Progress) -> None:
        active = (~progress.loss.isnan()).reshape(self.restarts, -1).sum(0).cpu()  # (B,) restarts of each sample
        total = progress.forwards + progress.backwards
        price = round((total - self.total) / max(int(active.sum()), 1))  # the same for all rows
        before = self.evaluations[-1] if self.evaluations else torch.zeros_like(active)
        self.evaluations.append(before + price * active)
        self.cheapest = min(self.cheapest or price, price)
        self.dearest_first = self.dearest_first or price
        self.seconds.append(progress.seconds)
        self.best.append(progress.best.cpu())
        self.total = total


def planned_steps(
    problem: Problem, optimizer: Optimizer, budget: Budget, start: Values | None = None, seed: int = 0
) -> int:
    """Choose the number of steps at which a method has spent its budget.

    The method is run for two steps, with a time budget for a twentieth of it. Its cheapest step there is the cost of a
    step: of evaluations exactly, of seconds as the median after the first step.

    Args:
        problem, optimizer, budget, start: as in `compare`.
        seed: of the probe.

    Returns:
        Steps of each restart.

    Raises:
        InputError: the method cannot run on the problem, or its first step costs more than the budget.
    """
    recorder, seconds = CurveRecorder(budget.restarts), budget.seconds

    def enough(progress: Progress) -> bool:
        return progress.t >= 2 and (seconds is None or progress.seconds >= PROBE_SHARE * seconds)

    steps = budget.steps or PROBE_STEPS
    solve(
        problem, optimizer, steps=steps, restarts=budget.restarts, seed=seed, start=start, callbacks=[recorder, enough]
    )
    counts = [budget.steps or PROBE_STEPS**2]
    if budget.evaluations is not None:
        left = budget.evaluations - 1 - budget.restarts  # the last iterates and the result are evaluated once more
        if budget.restarts * recorder.dearest_first > left:
            minimum = budget.restarts * (recorder.dearest_first + 1) + 1
            raise InputError("evaluations", f"at least {minimum} for one step of this method", budget.evaluations)
        counts.append(left // (budget.restarts * recorder.cheapest))
    if seconds is not None:
        a_step = np.diff(recorder.seconds) if len(recorder.seconds) > 1 else recorder.seconds
        counts.append(max(1, int(seconds / float(np.median(a_step)))))
    return budget.steps or min(counts)


def run_method(
    problem: Problem,
    method: str,
    optimizer: Optimizer,
    seed: int,
    steps: int,
    budget: Budget,
    start: Values | None = None,
    callbacks: Sequence[Callback] = (),
) -> MethodRun:
    """Run one method from the starts of one seed.

    Args:
        problem, optimizer, budget, start, callbacks: as in `compare`.
        method: its name.
        seed: of every random number.
        steps: of each restart.

    Returns:
        The run; with a reason where it raised `InputError`.
    """
    recorder = CurveRecorder(budget.restarts)
    cpu, wall = time.process_time(), time.perf_counter()
    try:
        result = solve(
            problem,
            optimizer,
            steps=steps,
            restarts=budget.restarts,
            seed=seed,
            start=start,
            evaluations=budget.evaluations,
            seconds=budget.seconds,
            callbacks=[recorder, *callbacks],
        )
    except InputError as error:
        return MethodRun(method, seed, reason=str(error))
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    spent = (result.forwards + result.backwards).cpu()
    curve = Curve(
        torch.stack([*recorder.evaluations, spent]),
        torch.tensor([*recorder.seconds, result.meta["seconds"]], device="cpu"),
        torch.stack([*recorder.best, result.value.cpu()]),
    )
    batch = len(result.value)
    counts = result.forwards.cpu(), result.backwards.cpu()
    return MethodRun(method, seed, result.status, result.value.cpu(), *counts, cpu / batch, wall / batch, curve, steps)


def method_runs(
    problem: Problem,
    method: str,
    optimizer: Optimizer,
    seeds: Iterable[int],
    budget: Budget,
    start: Values | None = None,
    callbacks: Sequence[Callback] = (),
) -> Iterator[MethodRun]:
    """Run one method from the starts of each seed.

    Args:
        problem, optimizer, budget, start, callbacks: as in `compare`.
        method: its name.
        seeds: one of each run.

    Yields:
        The runs; a single one, without a seed, where the method cannot run on the problem.
    """
    try:
        steps = planned_steps(problem, optimizer, budget, start)
    except InputError as error:
        yield MethodRun(method, None, reason=str(error))
        return
    for seed in seeds:
        yield run_method(problem, method, optimizer, seed, steps, budget, start, callbacks)
